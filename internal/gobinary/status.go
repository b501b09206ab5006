package gobinary

import (
	"fmt"

	"golang.org/x/arch/x86/x86asm"
)

// StatusOffset is the offset of g.atomicstatus that the machine code of
// runtime.casgstatus uses: a witness for the one in g's type descriptor. ok is
// false in unoptimised builds (-N -l), where the compare-and-swap is a call.
func (f *File) StatusOffset() (off uint64, ok bool, err error) {
	const name = "runtime.casgstatus"
	fn, found := f.Func(name)
	if !found {
		return 0, false, fmt.Errorf("%s: %w", name, ErrNoSymbol)
	}
	code, err := f.code(fn)
	if err != nil {
		return 0, false, err
	}
	if f.arch == ARM64 {
		off, ok = armStatusOffset(code)
		return off, ok, nil
	}
	walkX86(code, func(_ int, in x86asm.Inst, sure bool) bool {
		if !sure || in.Op != x86asm.CMPXCHG {
			return true
		}
		var m x86asm.Mem
		if m, ok = in.Args[0].(x86asm.Mem); ok {
			off = uint64(m.Disp)
		}
		return !ok
	})
	return off, ok, nil
}

// armStatusOffset looks for ADD Rx, Rg, #offset whose result is the address of
// a CASAL or an LDAXR: Go emits both, and chooses at run time.
func armStatusOffset(code []byte) (uint64, bool) {
	var sums [32]uint64
	for off := 0; off+4 <= len(code); off += 4 {
		w := armWord(code, off)
		if imm, ok := w.addImm(); ok {
			sums[w.rd()] = imm
			continue
		}
		casal, ldaxr := w&0xffe0fc00 == 0x88e0fc00, w&0xfffffc00 == 0x885ffc00
		if (casal || ldaxr) && sums[w.rn()] != 0 {
			return sums[w.rn()], true
		}
	}
	return 0, false
}
