package gobinary

import "encoding/binary"

// An armInst is one arm64 instruction word. Its methods read the few encodings
// that the readers need straight from the bits (Arm ARM, C4.1), so that
// every word has an answer: a disassembler's table would not know all of them.
type armInst uint32

// regs is a set of the general registers R0…R30, bit n for Rn.
type regs uint32

const allRegs regs = 1<<31 - 1

// reg is the set of the one register whose number starts at bit of the word,
// and the empty set for 31: the zero register or the stack pointer.
func (w armInst) reg(bit uint) regs {
	return 1 << (w >> bit & 31) & allRegs
}

func (w armInst) rd() int { return int(w & 31) }
func (w armInst) rn() int { return int(w >> 5 & 31) }

// signed returns n bits from bit lo of the word, sign-extended.
func (w armInst) signed(lo, n uint) int64 {
	return int64(w) << (64 - lo - n) >> (64 - n)
}

// adr returns the target of an ADR or ADRP at pc.
func (w armInst) adr(pc uint64) (target uint64, page, ok bool) {
	if w&0x1f000000 != 0x10000000 {
		return 0, false, false
	}
	imm := w.signed(5, 19)<<2 | int64(w>>29&3)
	if w>>31 == 1 {
		return pc&^0xfff + uint64(imm<<12), true, true
	}
	return pc + uint64(imm), false, true
}

// addImm returns the constant of a 64-bit ADD Rd, Rn, #imm.
func (w armInst) addImm() (imm uint64, ok bool) {
	if w&0xff800000 != 0x91000000 {
		return 0, false
	}
	imm = uint64(w >> 10 & 0xfff)
	if w>>22&1 == 1 {
		imm <<= 12
	}
	return imm, true
}

// branch returns the target of a direct branch at pc: B, BL, B.cond, CBZ, CBNZ,
// TBZ or TBNZ.
func (w armInst) branch(pc uint64) (target uint64, ok bool) {
	switch {
	case w&0x7c000000 == 0x14000000: // B, BL
		return pc + uint64(w.signed(0, 26)<<2), true
	case w.isBCond(), w&0x7e000000 == 0x34000000: // B.cond; CBZ, CBNZ
		return pc + uint64(w.signed(5, 19)<<2), true
	case w&0x7e000000 == 0x36000000: // TBZ, TBNZ
		return pc + uint64(w.signed(5, 14)<<2), true
	}
	return 0, false
}

func (w armInst) isBCond() bool { return w&0xff000010 == 0x54000000 }
func (w armInst) isB() bool     { return w&0xfc000000 == 0x14000000 }
func (w armInst) isBL() bool    { return w&0xfc000000 == 0x94000000 }

// isCall: BL or BLR.
func (w armInst) isCall() bool { return w.isBL() || w&0xfffffc1f == 0xd63f0000 }

// endsRun: control never goes on to the next instruction (B, BR, RET, BRK, UDF).
func (w armInst) endsRun() bool {
	return w.isB() || w&0xfffffc1f == 0xd61f0000 || w&0xfffffc1f == 0xd65f0000 ||
		w&0xffe0001f == 0xd4200000 || w>>16 == 0
}

// A memOp is one access of a load or store at an offset from a base register.
type memOp struct {
	off   int64
	width int
	kind  refKind
}

// memOps returns what a load or store of the forms [Rn, #imm] does: unsigned
// scaled offset, unscaled offset, or a pair (two accesses). Forms that change
// Rn have none.
func (w armInst) memOps() []memOp {
	simd := w>>26&1 == 1
	size := uint(w >> 30)
	kind := refLoad
	switch {
	case w&0x3b000000 == 0x39000000, w&0x3b200c00 == 0x38000000:
		opc := w >> 22 & 3
		if opc == 0 || simd && opc == 2 {
			kind = refStore
		}
		if simd && opc >= 2 {
			size = 4 // Q registers
		}
		off := int64(w>>10&0xfff) << size
		if w>>24&1 == 0 {
			off = w.signed(12, 9)
		}
		return []memOp{{off, 1 << size, kind}}
	case w&0x3b800000 == 0x29000000: // LDP, STP and LDPSW, signed offset
		if w>>22&1 == 0 {
			kind = refStore
		}
		width := int64(4) << (size >> 1)
		if simd {
			width = 4 << size
		}
		off := w.signed(15, 7) * width
		return []memOp{{off, int(width), kind}, {off + width, int(width), kind}}
	}
	return nil
}

// writes returns the general registers that the instruction may change. It may
// name one too many, never one too few. A call changes all: Go's ABIs keep none.
func (w armInst) writes() regs {
	switch {
	case w.isCall(), w&0xff000000 == 0xd4000000: // SVC, BRK…
		return allRegs
	case w&0x1c000000 == 0x14000000: // branches and system
		if w&0xff000000 == 0xd5000000 {
			return w.reg(0) // MRS; R31 in a hint
		}
		return 0
	case w&0x0a000000 == 0x08000000:
		return w.memWrites()
	}
	return w.reg(0)
}

// memWrites is writes for the load and store group.
func (w armInst) memWrites() regs {
	var changed regs
	simd := w>>26&1 == 1
	switch w >> 27 & 7 {
	case 5: // pairs
		if w>>22&1 == 1 && !simd {
			changed = w.reg(0) | w.reg(10)
		}
		if w>>23&1 == 1 { // pre- or post-indexed
			changed |= w.reg(5)
		}
	case 7: // one register
		atomicOrAuth := w>>24&1 == 0 && w>>21&1 == 1 && w>>10&3 != 2
		if w>>22&3 != 0 && !simd || atomicOrAuth {
			changed = w.reg(0)
		}
		if w>>24&1 == 0 && w>>10&1 == 1 { // pre- or post-indexed, or authenticated
			changed |= w.reg(5)
		}
	case 3: // literal
		changed = w.reg(0)
	default: // exclusive, compare-and-swap (Rs and its pair), vector structures
		rs := w.reg(16)
		changed = w.reg(0) | w.reg(0)<<1 | rs | rs<<1 | w.reg(10) | w.reg(5)
	}
	return changed & allRegs
}

// armWord returns the instruction at off, which must lie in code.
func armWord(code []byte, off int) armInst {
	return armInst(binary.LittleEndian.Uint32(code[off:]))
}

// armTargets is the set of the offsets in code that a direct branch of the code
// goes to.
func armTargets(code []byte) map[int]bool {
	targets := map[int]bool{}
	for off := 0; off+4 <= len(code); off += 4 {
		w := armWord(code, off)
		if to, ok := w.branch(uint64(off)); ok && !w.isBL() && to < uint64(len(code)) {
			targets[int(to)] = true
		}
	}
	return targets
}

// armRefs lists the addresses that code, linked at entry, refers to. It follows
// the addresses that ADR and ADRP put in registers in a straight line, and
// forgets them all wherever another path may join.
func armRefs(code []byte, entry uint64) []ref {
	var refs []ref
	joins := armTargets(code)
	var known regs
	var value [32]uint64
	for off := 0; off+4 <= len(code); off += 4 {
		if joins[off] {
			known = 0
		}
		w, pc := armWord(code, off), entry+uint64(off)
		set, setOK := uint64(0), false
		base, baseOK := value[w.rn()], known>>w.rn()&1 == 1
		if target, page, ok := w.adr(pc); ok {
			set, setOK = target, true
			if !page {
				refs = append(refs, ref{pc: pc, addr: target, kind: refLEA})
			}
		} else if imm, ok := w.addImm(); ok && baseOK {
			set, setOK = base+imm, true
			refs = append(refs, ref{pc: pc, addr: set, kind: refLEA})
		} else if w.isBL() {
			target, _ := w.branch(pc)
			refs = append(refs, ref{pc: pc, addr: target, kind: refCall})
		} else if baseOK {
			for _, m := range w.memOps() {
				refs = append(refs, ref{pc, base + uint64(m.off), m.kind, m.width})
			}
		}
		known &^= w.writes()
		if w.endsRun() {
			known = 0
		}
		if setOK {
			known |= w.reg(0)
			value[w.rd()] = set
		}
	}
	return refs
}
