package gobinary

import (
	"errors"

	"golang.org/x/arch/x86/x86asm"
)

// errBadCode: bytes that are no instruction the decoder knows.
var errBadCode = errors.New("unknown instruction")

// maxX86 is the length of the longest x86 instruction.
const maxX86 = 15

// decodeX86 decodes the instruction at the start of code. One with a VEX or
// EVEX prefix has only its length (Op 0): x86asm knows few of them, and returns
// wrong lengths for others.
func decodeX86(code []byte) (x86asm.Inst, error) {
	if len(code) > 0 && (code[0] == 0xc4 || code[0] == 0xc5 || code[0] == 0x62) {
		n := vexLen(code)
		if n == 0 {
			return x86asm.Inst{}, errBadCode
		}
		return x86asm.Inst{Len: n, Mode: 64}, nil
	}
	in, err := x86asm.Decode(code, 64)
	if err != nil || in.Op == 0 || in.Len <= 0 || in.Len > maxX86 || in.Len > len(code) {
		return x86asm.Inst{}, errBadCode
	}
	return in, nil
}

// vexLen is the length of an instruction whose first byte is a VEX (C4, C5) or
// EVEX (62) prefix, 0 when it is cut off. In 64-bit mode these bytes are always
// prefixes (Intel SDM volume 2, 2.3 and 2.7).
func vexLen(code []byte) int {
	var prefix int // bytes before the opcode
	var opcodeMap byte
	switch {
	case len(code) < 3:
		return 0
	case code[0] == 0xc5:
		prefix, opcodeMap = 2, 1
	case code[0] == 0xc4:
		prefix, opcodeMap = 3, code[1]&0x1f
	default:
		prefix, opcodeMap = 4, code[1]&7
	}
	if len(code) <= prefix {
		return 0
	}
	op := code[prefix]
	n := prefix + 1
	if opcodeMap != 1 || op != 0x77 { // VZEROUPPER has no operands
		m := modRMLen(code[n:])
		if m == 0 {
			return 0
		}
		n += m
	}
	imm8 := opcodeMap == 3 ||
		opcodeMap == 1 && (op >= 0x70 && op <= 0x73 || op == 0xc2 || op >= 0xc4 && op <= 0xc6)
	if imm8 {
		n++
	}
	if n > len(code) {
		return 0
	}
	return n
}

// modRMLen is the length of a ModRM byte with its SIB byte and displacement, 0
// when it is cut off.
func modRMLen(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	mod, rm := b[0]>>6, b[0]&7
	n, disp := 1, 0
	switch mod {
	case 1:
		disp = 1
	case 2:
		disp = 4
	case 0:
		if rm == 5 { // RIP-relative
			disp = 4
		}
	}
	if mod != 3 && rm == 4 {
		if len(b) < 2 {
			return 0
		}
		if mod == 0 && b[1]&7 == 5 { // SIB without a base register
			disp = 4
		}
		n++
	}
	return n + disp
}

// walkX86 decodes code from its start and calls visit for each instruction
// with its offset, until visit returns false. An unknown instruction (in.Len 0)
// may end at any of the next 15 bytes, so decoding goes on from all of them;
// sure is false until these paths have met again: off then may or may not be
// the start of an instruction. An offset that is never visited is none.
func walkX86(code []byte, visit func(off int, in x86asm.Inst, sure bool) bool) {
	pending := uint32(1) // bit i: an instruction may start at off+i
	for off := 0; off < len(code) && pending != 0; off, pending = off+1, pending>>1 {
		if pending&1 == 0 {
			continue
		}
		sure := pending == 1
		in, err := decodeX86(code[off:])
		if !visit(off, in, sure) {
			return
		}
		if err != nil {
			pending |= 1<<(maxX86+1) - 2
			continue
		}
		pending |= 1 << in.Len
	}
}

// x86Refs lists the addresses that code, linked at entry, refers to.
func x86Refs(code []byte, entry uint64) []ref {
	var refs []ref
	walkX86(code, func(off int, in x86asm.Inst, sure bool) bool {
		if !sure || in.Op == 0 {
			return true
		}
		pc := entry + uint64(off)
		next := pc + uint64(in.Len)
		for i, arg := range in.Args {
			switch a := arg.(type) {
			case x86asm.Rel:
				if in.Op == x86asm.CALL {
					refs = append(refs, ref{pc: pc, addr: next + uint64(int64(a)), kind: refCall})
				}
			case x86asm.Mem:
				if a.Base == x86asm.RIP && a.Index == 0 && a.Segment == 0 {
					// x86asm does not extend the sign of this displacement.
					addr := next + uint64(int64(int32(a.Disp)))
					r := ref{pc: pc, addr: addr, kind: x86RefKind(in.Op, i)}
					if r.kind == refLoad || r.kind == refStore {
						r.width = in.MemBytes
					}
					refs = append(refs, r)
				}
			}
		}
		return true
	})
	return refs
}

// x86RefKind says what op does with the memory operand at position arg.
func x86RefKind(op x86asm.Op, arg int) refKind {
	switch op {
	case x86asm.LEA:
		return refLEA
	case x86asm.MOV, x86asm.MOVZX, x86asm.MOVSX, x86asm.MOVSXD, x86asm.MOVQ, x86asm.MOVD,
		x86asm.MOVUPS, x86asm.MOVUPD, x86asm.MOVAPS, x86asm.MOVDQU, x86asm.MOVDQA:
		if arg == 0 {
			return refStore
		}
		return refLoad
	}
	return refOther
}
