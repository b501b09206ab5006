package gobinary

import (
	"fmt"

	"golang.org/x/arch/arm64/arm64asm"
	"golang.org/x/arch/x86/x86asm"
)

// A Point is an instruction of a function to put a uprobe on.
type Point struct {
	PC uint64 // its address, as linked
	// Emulated: the kernel emulates the instruction, so a hit costs one trap.
	// Otherwise it single-steps a copy, a second trap: several times the cost.
	Emulated bool
	// Repeats: the instruction lies before the end of the stack check, so it runs
	// a second time when the call has to grow its stack. That never happens on
	// the scheduler's own stack (g0), where growing is fatal.
	Repeats bool
	Insn    string // the instruction, for people: "push %rbp"
}

// maxProbeInsns bounds the search for a probe point. Arguments are not left
// alone for longer than that.
const maxProbeInsns = 32

// ProbePoint returns where in the function named fn a uprobe is cheapest while
// the first five integer arguments (AX, BX, CX, DI, SI; R0 to R4) are still in
// their registers: the first instruction that the kernel emulates in the straight
// line from the entry, after the stack check if there is one. When an argument
// is overwritten before that, it is the stack check's branch (Repeats), and
// without one the entry (not Emulated). ErrNoSymbol when there is no such function.
//
// What Linux emulates: amd64 push of a register, the one-byte nop, and direct
// jmp, jcc and call (arch/x86/kernel/uprobes.c); it refuses LOCK prefixes, and 5-byte
// nops are left alone because newer kernels rewrite them to a call that pushes
// below the stack pointer. arm64: b, bl, b.cond, cbz, cbnz, tbz, tbnz, adr, adrp
// (arch/arm64/kernel/probes/decode-insn.c).
func (f *File) ProbePoint(fn string) (Point, error) {
	fun, ok := f.Func(fn)
	if !ok {
		return Point{}, fmt.Errorf("probe point of %s: %w", fn, ErrNoSymbol)
	}
	code, err := f.code(fun)
	if err != nil {
		return Point{}, fmt.Errorf("probe point of %s: %w", fn, err)
	}
	if len(code) == 0 || len(code)%int(f.quantum) != 0 {
		return Point{}, fmt.Errorf("probe point of %s: bad length of code: %d", fn, len(code))
	}
	if f.arch == ARM64 {
		return armProbePoint(code, fun.Entry), nil
	}
	return x86ProbePoint(code, fun.Entry), nil
}

// x86ProbePoint is ProbePoint for amd64 code, which is not empty, linked at entry.
func x86ProbePoint(code []byte, entry uint64) Point {
	check := -1 // offset of the last branch of the stack check
	for n, off := 0, 0; n < maxProbeInsns && off < len(code); n++ {
		in, err := decodeX86(code[off:])
		if err != nil {
			break
		}
		switch {
		case !x86Emulated(code[off:], in):
			if !x86KeepsArgs(in) {
				n = maxProbeInsns // here the arguments end
			}
		case x86StackCheck(code, off, in):
			check = off
		default:
			return x86Point(code, off, entry)
		}
		off += in.Len
	}
	if check < 0 {
		return x86Point(code, 0, entry)
	}
	p := x86Point(code, check, entry)
	p.Repeats = true
	return p
}

// x86Point is the instruction at off as a probe point.
func x86Point(code []byte, off int, entry uint64) Point {
	p := Point{PC: entry + uint64(off)}
	if in, err := decodeX86(code[off:]); err == nil && in.Op != 0 {
		p.Emulated = x86Emulated(code[off:], in)
		p.Insn = x86asm.GNUSyntax(in, p.PC, nil)
	}
	return p
}

// x86Emulated says whether the kernel emulates in, whose bytes code begins with.
func x86Emulated(code []byte, in x86asm.Inst) bool {
	op := code[0]
	switch in.Len {
	case 1:
		return op == 0x90 || op&^7 == 0x50
	case 2:
		return op == 0x41 && code[1]&^7 == 0x50 || op&^0xf == 0x70 || op == 0xeb
	case 5:
		return op == 0xe9 || op == 0xe8
	case 6:
		return op == 0x0f && code[1]&^0xf == 0x80
	}
	return false
}

// x86StackCheck says whether in, at off, is a branch of the stack check: it goes
// forward to code that calls one function, morestack, and then jumps to the entry.
func x86StackCheck(code []byte, off int, in x86asm.Inst) bool {
	rel, ok := in.Args[0].(x86asm.Rel)
	if !ok || in.Op == x86asm.CALL || in.Op == x86asm.JMP {
		return false
	}
	calls := 0
	at := off + in.Len + int(rel)
	for range maxProbeInsns {
		if at <= off || at >= len(code) {
			return false
		}
		in, err := decodeX86(code[at:])
		if err != nil {
			return false
		}
		at += in.Len
		switch in.Op {
		case x86asm.CALL:
			calls++
		case x86asm.JMP:
			rel, ok := in.Args[0].(x86asm.Rel)
			return ok && at+int(rel) == 0 && calls == 1
		}
	}
	return false
}

// x86KeepsArgs says whether in leaves the argument registers as they were, and
// goes on to the next instruction. Only operations that are known to write
// nothing but their first operand can; all others are taken to spoil them.
func x86KeepsArgs(in x86asm.Inst) bool {
	switch in.Op {
	case x86asm.CMP, x86asm.TEST, x86asm.NOP, x86asm.PUSH, x86asm.BT:
		return true
	case x86asm.MOV, x86asm.MOVZX, x86asm.MOVSX, x86asm.MOVSXD, x86asm.LEA,
		x86asm.ADD, x86asm.SUB, x86asm.AND, x86asm.OR, x86asm.XOR,
		x86asm.MOVUPS, x86asm.MOVAPS, x86asm.MOVQ, x86asm.XORPS:
	default:
		return false
	}
	reg, ok := in.Args[0].(x86asm.Reg)
	return !ok || !x86Args[reg]
}

// x86Args has the argument registers under all their names.
var x86Args = map[x86asm.Reg]bool{
	x86asm.AL: true, x86asm.AH: true, x86asm.AX: true, x86asm.EAX: true, x86asm.RAX: true,
	x86asm.BL: true, x86asm.BH: true, x86asm.BX: true, x86asm.EBX: true, x86asm.RBX: true,
	x86asm.CL: true, x86asm.CH: true, x86asm.CX: true, x86asm.ECX: true, x86asm.RCX: true,
	x86asm.DIB: true, x86asm.DI: true, x86asm.EDI: true, x86asm.RDI: true,
	x86asm.SIB: true, x86asm.SI: true, x86asm.ESI: true, x86asm.RSI: true,
}

// armArgs is R0 to R4.
const armArgs regs = 0x1f

// armProbePoint is ProbePoint for arm64 code, of whole instructions and not
// empty, linked at entry.
func armProbePoint(code []byte, entry uint64) Point {
	check := -1 // offset of the last branch of the stack check
	for off := 0; off < len(code) && off < 4*maxProbeInsns; off += 4 {
		w := armWord(code, off)
		if !w.emulated() {
			if w.writes()&armArgs != 0 || w.endsRun() {
				break
			}
			continue
		}
		if !armStackCheck(code, off) {
			return armPoint(code, off, entry)
		}
		check = off
	}
	if check < 0 {
		return armPoint(code, 0, entry)
	}
	p := armPoint(code, check, entry)
	p.Repeats = true
	return p
}

// armPoint is the instruction at off as a probe point.
func armPoint(code []byte, off int, entry uint64) Point {
	p := Point{PC: entry + uint64(off), Emulated: armWord(code, off).emulated()}
	if in, err := arm64asm.Decode(code[off:]); err == nil {
		p.Insn = arm64asm.GNUSyntax(in)
	}
	return p
}

// emulated says whether the kernel emulates the instruction.
func (w armInst) emulated() bool {
	if _, _, ok := w.adr(0); ok {
		return true
	}
	_, ok := w.branch(0)
	return ok
}

// armStackCheck is x86StackCheck for the instruction at off in arm64 code.
func armStackCheck(code []byte, off int) bool {
	w := armWord(code, off)
	to, ok := w.branch(uint64(off))
	if !ok || w.isB() || w.isBL() || to <= uint64(off) {
		return false
	}
	calls := 0
	for at := to; at < uint64(len(code)) && at < to+4*maxProbeInsns; at += 4 {
		w := armWord(code, int(at))
		switch {
		case w.isCall():
			calls++
		case w.isB():
			back, _ := w.branch(at)
			return back == 0 && calls == 1
		}
	}
	return false
}
