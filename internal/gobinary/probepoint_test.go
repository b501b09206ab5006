package gobinary

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"gopherscope/internal/testenv"
)

// probePoints are the expected choices by version, 1.18 to 1.27: the operation
// and its offset from the entry. ! is a point within the stack check, ? one that
// the kernel does not emulate, - a function that the version does not have.
// Up to 1.20 there is no push in the prologue.
var probePoints = []struct{ arch, fn, want string }{
	{"amd64", "casgstatus", "nop+31 nop+31 nop+31 push+0 push+0 push+0 push+0 push+0 push+0 push+0"},
	{"amd64", "casGToPreemptScan", "jne+23 jne+23 jne+23 push+6 push+6 push+6 push+6 push+6 push+6 push+6"},
	{"amd64", "execute", "jne+42 je+45 jbe+4! push+10 push+10 push+10 push+10 push+10 push+10 push+10"},
	{"amd64", "ready", "je+40 je+40 je+40 push+10 push+10 push+10 push+10 push+10 push+10 push+10"},
	{"amd64", "park_m", "je+41 je+41 je+45 push+10 push+10 push+10 push+10 push+10 push+10 push+10"},
	{"amd64", "goschedImpl", "jbe+4! jbe+4! nop+29 push+10 push+10 push+10 push+10 push+10 push+10 push+10"},
	{"amd64", "goyield_m", "je+36 je+36 je+36 push+10 push+10 push+10 push+10 push+10 push+10 push+10"},
	{"amd64", "newproc1", "je+35 jne+47 jne+42 push+10 push+10 push+10 push+10 push+10 push+10 push+10"},
	{"amd64", "gdestroy", "- - - - push+10 push+10 push+10 push+10 push+10 push+10"},
	{"amd64", "coroswitch_m", "- - - - - push+10 push+15 push+15 push+15 push+15"},
	{"amd64", "reentersyscall", "sub+0? sub+0? sub+0? push+0 push+0 push+0 push+0 push+0 push+0 push+0"},
	{"amd64", "gopark", "nop+28 nop+28 nop+28 push+10 push+10 push+10 push+10 push+10 push+10 push+10"},
	{"arm64", "casgstatus", "tbnz+24 tbnz+24 tbnz+24 tbnz+24 tbnz+24 tbnz+24 tbnz+24 tbnz+24 tbnz+24 tbnz+24"},
	{"arm64", "casGToPreemptScan", "b.ne+32 b.ne+28 b.ne+28 b.ne+28 b.ne+28 b.ne+28 b.ne+28 b.ne+28 b.ne+28 b.ne+28"},
	{"arm64", "execute", "b.ls+12! adrp+36 b.ls+8! b.ls+8! b.ls+8! adrp+40 adrp+40 adrp+40 adrp+40 adrp+40"},
	{"arm64", "ready", "adrp+36 adrp+32 adrp+32 adrp+32 b.ls+8! b.ls+8! b.ls+8! b.ls+8! b.ls+8! b.ls+8!"},
	{"arm64", "newproc1", "cbz+28 cbnz+40 cbnz+36 cbnz+36 cbnz+36 cbnz+44 cbnz+44 cbnz+44 cbnz+44 cbnz+44"},
	{"arm64", "gdestroy", "- - - - b.ls+8! b.ls+8! b.ls+8! b.ls+8! b.ls+8! b.ls+8!"},
	{"arm64", "coroswitch_m", "- - - - - adrp+28 adrp+32 adrp+32 adrp+32 adrp+32"},
	{"arm64", "exitsyscall", "str+0? str+0? str+0? str+0? str+0? str+0? str+0? str+0? str+0? str+0?"},
}

func TestProbePoint(t *testing.T) {
	everyVersion(t, func(t *testing.T, b testenv.Build, path string, f *File) {
		for _, p := range probePoints {
			if p.arch != string(f.Arch()) {
				continue
			}
			want := strings.Fields(p.want)[b.Minor()-18]
			point, err := f.ProbePoint("runtime." + p.fn)
			if want == "-" {
				if !errors.Is(err, ErrNoSymbol) {
					t.Errorf("%s: %+v, %v, want ErrNoSymbol", p.fn, point, err)
				}
				continue
			}
			if err != nil {
				t.Error(err)
				continue
			}
			op, _, _ := strings.Cut(point.Insn, " ")
			got := fmt.Sprintf("%s+%d", op, point.PC-mustFunc(t, f, "runtime."+p.fn).Entry)
			if point.Repeats {
				got += "!"
			}
			if !point.Emulated {
				got += "?"
			}
			if got != want {
				t.Errorf("%s: %s, want %s", p.fn, got, want)
			}
		}
	})
}

// An insn is one that go tool objdump shows, in Go's syntax: the operand that
// is written comes last.
type insn struct {
	pc   uint64
	text string // "MOVQ AX, 0x28(SP)"
}

func goInsns(t testing.TB, path, fn string) []insn {
	t.Helper()
	var insns []insn
	scanner := bufio.NewScanner(bytes.NewReader(objdump(t, path, "^"+regexp.QuoteMeta(fn)+"$")))
	for scanner.Scan() {
		fields := strings.Fields(scanner.Text())
		if len(fields) < 4 || fields[0] == "TEXT" {
			continue
		}
		pc, err := strconv.ParseUint(fields[1], 0, 64)
		if err != nil {
			t.Fatalf("objdump: %q", scanner.Text())
		}
		insns = append(insns, insn{pc, strings.Join(fields[3:], " ")})
	}
	return insns
}

// writesArg is an instruction whose last operand is an argument register;
// reads are the operations that do not write it.
var (
	writesArg = regexp.MustCompile(`(\b| |,)(A[XL]|B[XL]|C[XL]|DI[B]?|SI[B]?|R[0-4])$`)
	reads     = regexp.MustCompile(`^(CMP|TEST|PUSH|BT[LQ] |TST|TBN?Z|CBN?Z)`)
)

// TestProbePointKeepsArguments looks at what the runtime does before the probe
// points, with objdump as the witness: no argument is overwritten, and only the
// stack check branches.
func TestProbePointKeepsArguments(t *testing.T) {
	everyVersion(t, func(t *testing.T, b testenv.Build, path string, f *File) {
		if b.Stripped || b.GOARCH == "" && !b.PIE {
			return // objdump needs symbols; one kind of amd64 is enough
		}
		for _, p := range probePoints {
			if p.arch != string(f.Arch()) || p.fn != "casgstatus" && p.fn != "execute" && p.fn != "coroswitch_m" {
				continue
			}
			point, err := f.ProbePoint("runtime." + p.fn)
			if errors.Is(err, ErrNoSymbol) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			seen, branches := false, 0
			for _, in := range goInsns(t, path, "runtime."+p.fn) {
				if seen = in.pc == point.PC; seen {
					break
				}
				if writesArg.MatchString(in.text) && !reads.MatchString(in.text) {
					t.Errorf("%s: %s at %#x is before the probe point %#x", p.fn, in.text, in.pc, point.PC)
				}
				if strings.HasPrefix(in.text, "J") || strings.HasPrefix(in.text, "B") {
					branches++
				}
			}
			if !seen || branches > 1 {
				t.Errorf("%s: probe point %#x is an instruction: %v, after %d branches", p.fn, point.PC, seen, branches)
			}
		}
	})
}

// TestX86ProbePoint has what a prologue can be. The code is linked at 0x1000.
func TestX86ProbePoint(t *testing.T) {
	const (
		check = "493b6610 7610" // cmp rsp, [r14+16]; jbe +16: to the code below
		grow  = "e800000000 ebe3"
	)
	// Code with a stack check: what follows it is padded to 16 bytes, and then
	// morestack is called, and the entry gone to.
	checked := func(body string) string {
		body = strings.ReplaceAll(body, " ", "")
		return check + body + strings.Repeat("cc", 16-len(body)/2) + grow
	}
	tests := []struct {
		name, code string
		off        uint64
		emulated   bool
		repeats    bool
	}{
		{"push", "55 4889e5", 0, true, false},
		{"push r15", "4157", 0, true, false},
		{"nop", "4883ec18 90", 4, true, false},
		{"long nop", "4883ec18 0f1f440000 55", 9, true, false},
		{"call", "4883ec18 e800000000", 4, true, false},
		{"jcc", "4885c0 7402", 3, true, false},
		{"long jcc", "4885c0 0f8400000000", 3, true, false},
		{"call with a prefix", "2ee800000000", 0, false, false},
		{"after an argument", "89d8 55", 0, false, false},
		{"after a division", "48f7f1 55", 0, false, false},
		{"after a string move", "f3a4 55", 0, false, false},
		{"after an exchange", "4893 55", 0, false, false},
		{"after a lock", "f0480fb111 55", 0, false, false},
		{"after another register", "4889c2 55", 3, true, false},
		{"unknown", "06 55", 0, false, false},
		{"check, push", checked("55"), 6, true, false},
		{"check, argument", checked("31c0 55"), 4, true, true},
		// Its target calls two functions, as an out-of-line panic before
		// morestack does: a branch like any other.
		{"no check", "493b6610 7601 c3 e800000000 e800000000 ebed", 4, true, false},
		{"backward", "4883ec18 75fa", 4, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := x86ProbePoint(unhex(t, tt.code), 0x1000)
			if got.PC != 0x1000+tt.off || got.Emulated != tt.emulated || got.Repeats != tt.repeats {
				t.Errorf("%+v, want +%d, emulated %v, repeats %v", got, tt.off, tt.emulated, tt.repeats)
			}
		})
	}
}

func TestARMProbePoint(t *testing.T) {
	const (
		nop, ret = 0xd503201f, 0xd65f03c0
		movR3    = 0xaa1e03e3 // mov x3, x30
		push     = 0xf81e0ffe // str x30, [sp, #-32]!
		adrp27   = 0x9000001b
	)
	// A stack check: ldr x16, [x28, #16]; cmp sp, x16; b.ls to the last three.
	checked := func(body ...uint32) []uint32 {
		code := append([]uint32{0xf9400b90, 0xeb3063ff, 0}, body...)
		code[2] = 0x54000009 | uint32(len(body)+1)<<5
		back := uint32(-(len(code) + 2)) & 0x03ffffff
		return append(code, movR3, 0x94000100, 0x14000000|back)
	}
	tests := []struct {
		name     string
		code     []uint32
		off      uint64
		emulated bool
		repeats  bool
	}{
		{"first", []uint32{0x3760001b}, 0, true, false},
		{"after a store", []uint32{push, nop, adrp27}, 8, true, false},
		{"call", []uint32{push, 0x94000010}, 4, true, false},
		{"after an argument", []uint32{0xf9401b81, adrp27}, 0, false, false}, // ldr x1, [x28, #48]
		{"after a call by register", []uint32{0xd63f0020, adrp27}, 0, false, false},
		{"ends", []uint32{push, ret, adrp27}, 0, false, false},
		{"check, adrp", checked(push, adrp27, ret), 16, true, false},
		{"check, argument", checked(push, 0xf9401b80, adrp27, ret), 8, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := armProbePoint(words(tt.code...), 0x1000)
			if got.PC != 0x1000+tt.off || got.Emulated != tt.emulated || got.Repeats != tt.repeats {
				t.Errorf("%+v, want +%d, emulated %v, repeats %v", got, tt.off, tt.emulated, tt.repeats)
			}
		})
	}
}
