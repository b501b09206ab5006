package gobinary

import (
	"testing"

	"golang.org/x/arch/x86/x86asm"

	"gopherscope/internal/testenv"
)

// FuzzDisassembly: whatever the bytes of a function are, reading them ends, and
// says nothing about bytes outside. The seeds are functions of real runtimes.
func FuzzDisassembly(f *testing.F) {
	const entry = 0x401000
	for _, b := range []testenv.Build{{Go: "1.18"}, {Go: "1.27"}, {Go: "1.27", GOARCH: "arm64"}} {
		bin, err := Open(testenv.BuildTarget(f, "coro", b))
		if err != nil {
			f.Fatal(err)
		}
		for _, name := range []string{"runtime.casgstatus", "runtime.park_m", "runtime.allgadd", "runtime.memmove", "runtime.waitReason.String"} {
			code, err := bin.code(mustFunc(f, bin, name))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(code)
		}
		bin.Close()
	}
	f.Fuzz(func(t *testing.T, code []byte) {
		if len(code) == 0 || len(code) > 1<<16 {
			return
		}
		checkDisassembly(t, code, entry, x86Refs(code, entry), x86ProbePoint(code, entry))
		last, visits := -1, 0
		walkX86(code, func(off int, in x86asm.Inst, sure bool) bool {
			if off <= last || off+in.Len > len(code) {
				t.Fatalf("instruction of %d bytes at %d after %d, of %d", in.Len, off, last, len(code))
			}
			last = off
			visits++
			return true
		})
		if visits > len(code) {
			t.Fatalf("%d instructions in %d bytes", visits, len(code))
		}
		x86CasOffsets(code)
		targets := map[uint64]bool{entry: true, entry + 0x20: true}
		calls, err := x86Calls(code, entry, targets)
		for _, off := range calls {
			if err == nil && code[off] != 0xe8 {
				t.Fatalf("call at %d is %#x", off, code[off])
			}
		}
		if code = code[:len(code)&^3]; len(code) == 0 {
			return
		}
		checkDisassembly(t, code, entry, armRefs(code, entry), armProbePoint(code, entry))
		armCasOffsets(code)
		armBound(code)
		calls, _ = armCalls(code, entry, targets)
		for _, off := range calls {
			if !armWord(code, off).isBL() {
				t.Fatalf("call at %d is %#x", off, armWord(code, off))
			}
		}
	})
}

// checkDisassembly checks that refs and a probe point lie in the code.
func checkDisassembly(t *testing.T, code []byte, entry uint64, refs []ref, p Point) {
	end := entry + uint64(len(code))
	if p.PC < entry || p.PC >= end {
		t.Fatalf("probe point %#x outside of %#x-%#x", p.PC, entry, end)
	}
	if len(refs) > 2*len(code) {
		t.Fatalf("%d references in %d bytes", len(refs), len(code))
	}
	for _, r := range refs {
		if r.pc < entry || r.pc >= end {
			t.Fatalf("reference at %#x outside of %#x-%#x", r.pc, entry, end)
		}
	}
}
