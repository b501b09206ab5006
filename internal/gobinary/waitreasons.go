package gobinary

import (
	"fmt"

	"golang.org/x/arch/x86/x86asm"

	"gopherscope/internal/goruntime"
)

// maxWaitReasons bounds the table of wait reasons: 47 in Go 1.27. The runtime
// numbers them with 8 bits.
const maxWaitReasons = 256

// maxWaitReason bounds the text of one; the longest has 29 bytes.
const maxWaitReason = 64

// WaitReasons are the texts of the runtime's wait reasons by their numbers,
// which differ from version to version: the array runtime.waitReasonStrings,
// to which waitReason.String refers (runtime/runtime2.go, Go 1.18 to 1.27).
func (f *File) WaitReasons() ([]string, error) {
	const method = "runtime.waitReason.String"
	fn, ok := f.Func(method)
	if !ok {
		return nil, fmt.Errorf("wait reasons: %s: %w", method, ErrNoSymbol)
	}
	for _, r := range f.refs(fn) {
		if r.kind != refLEA && r.kind != refLoad {
			continue
		}
		if f.goString(r.addr+16, maxWaitReason) != goruntime.FirstWaitReason {
			continue
		}
		n := f.arrayBound(fn)
		if n < 2 || n > maxWaitReasons {
			return nil, fmt.Errorf("wait reasons: %s compares with %d entries", method, n)
		}
		reasons := make([]string, n)
		for i := range reasons {
			reasons[i] = f.goString(r.addr+16*uint64(i), maxWaitReason)
			if i > 0 && reasons[i] == "" {
				return nil, fmt.Errorf("wait reasons: entry %d of %d is not there", i, n)
			}
		}
		return reasons, nil
	}
	return nil, fmt.Errorf("wait reasons: %s refers to no table of them", method)
}

// arrayBound is the first constant that a function compares with, 0 if there is
// none: the length of the array that it indexes. x >= n is compiled as a
// comparison with n or as x > n-1; an unsigned JHI or JLS tells the latter.
func (f *File) arrayBound(fn Func) int {
	code, err := f.code(fn)
	if err != nil {
		return 0
	}
	if f.arch == ARM64 {
		return armBound(code)
	}
	bound, above := 0, false
	walkX86(code, func(_ int, in x86asm.Inst, sure bool) bool {
		if bound != 0 {
			above = in.Op == x86asm.JA || in.Op == x86asm.JBE
			return false
		}
		if imm, ok := in.Args[1].(x86asm.Imm); ok && sure && in.Op == x86asm.CMP {
			bound = int(imm)
		}
		return true
	})
	if above {
		bound++
	}
	return bound
}

func armBound(code []byte) int {
	for off := 0; off+8 <= len(code); off += 4 {
		w := armWord(code, off)
		if w&0x7f80001f != 0x7100001f { // CMP Rn, #imm
			continue
		}
		bound := int(w >> 10 & 0xfff)
		next := armWord(code, off+4)
		if cond := next & 15; next.isBCond() && (cond == 8 || cond == 9) { // HI, LS
			bound++
		}
		return bound
	}
	return 0
}
