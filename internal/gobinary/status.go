package gobinary

import (
	"fmt"

	"golang.org/x/arch/x86/x86asm"
)

// StatusOffset is the offset of g.atomicstatus that the machine code of
// runtime.casgstatus compares and swaps: a witness for the one in g's type
// descriptor. ok is false when the code has no such instruction, as in unoptimised
// builds (-N -l), where it is a call. Instructions that disagree are an error.
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
	offs := x86CasOffsets(code)
	if f.arch == ARM64 {
		offs = armCasOffsets(code)
	}
	for _, o := range offs {
		if o != offs[0] {
			return 0, false, fmt.Errorf("%s swaps words at the offsets %d and %d", name, offs[0], o)
		}
	}
	if len(offs) == 0 {
		return 0, false, nil
	}
	return offs[0], true, nil
}

// x86CasOffsets lists the displacements of the LOCK CMPXCHGL instructions whose
// operand is a field: one register and a constant.
func x86CasOffsets(code []byte) []uint64 {
	var offs []uint64
	walkX86(code, func(_ int, in x86asm.Inst, sure bool) bool {
		if !sure || in.Op != x86asm.CMPXCHG || in.MemBytes != 4 {
			return true
		}
		if m, ok := in.Args[0].(x86asm.Mem); ok && m.Index == 0 && m.Base != x86asm.RIP && m.Disp > 0 {
			offs = append(offs, uint64(m.Disp))
		}
		return true
	})
	return offs
}

// armCasOffsets lists the constants of ADD Rx, Rg, #offset whose results are the
// addresses of 32-bit compare-and-swaps. Go emits two for each, and chooses at
// run time: CASAL, and a loop of LDAXR and STLXR.
func armCasOffsets(code []byte) []uint64 {
	var offs []uint64
	var known regs
	var sum [32]uint64
	for off := 0; off+4 <= len(code); off += 4 {
		w := armWord(code, off)
		casal, ldaxr := w&0xffe0fc00 == 0x88e0fc00, w&0xfffffc00 == 0x885ffc00
		if (casal || ldaxr) && known>>w.rn()&1 == 1 {
			offs = append(offs, sum[w.rn()])
			continue // neither changes the address
		}
		known &^= w.writes()
		if imm, ok := w.addImm(); ok && w.rn() != 31 {
			known |= w.reg(0)
			sum[w.rd()] = imm
		}
	}
	return offs
}
