package gobinary

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"golang.org/x/arch/x86/x86asm"
)

// Errors of windows and gadgets.
var (
	// ErrWindow is a place whose instructions may not be replaced.
	ErrWindow = errors.New("no place for a jump")
	// ErrNotYet is an architecture for which a thing is not written.
	ErrNotYet = errors.New("not on this architecture yet")
)

// x86JmpLen is the length of JMP rel32.
const x86JmpLen = 5

// A Window is a place in a function whose instructions may be replaced by a JMP
// rel32 to a copy of them: whole instructions, known to do the same elsewhere, none
// of which is the target of a branch but the first. No call lies in it, so no return
// address does.
type Window struct {
	PC    uint64 // address of the first instruction, as linked
	Orig  []byte // the instructions, 5 bytes or more, as in the file
	Insns []WindowInsn
}

// WindowInsn is one instruction of a Window.
type WindowInsn struct {
	Off, Len int // in Orig
	RIPDisp  int // offset in Orig of the 32-bit displacement from the next instruction; -1 if it has none
}

// Relocate returns the instructions as they must be at the address to, linked:
// where the program is loaded elsewhere, both move by the same distance.
func (w *Window) Relocate(to uint64) ([]byte, error) {
	code := append([]byte(nil), w.Orig...)
	for _, in := range w.Insns {
		if in.RIPDisp < 0 {
			continue
		}
		d := int64(int32(binary.LittleEndian.Uint32(code[in.RIPDisp:]))) + int64(w.PC-to)
		if d < math.MinInt32 || d > math.MaxInt32 {
			return nil, fmt.Errorf("%w: what the code at %#x refers to is too far from %#x", ErrWindow, w.PC, to)
		}
		binary.LittleEndian.PutUint32(code[in.RIPDisp:], uint32(int32(d)))
	}
	return code, nil
}

// BodyWindow is the window right after the prologue of the function named fn. There
// nothing has been executed but the stack check and what makes the frame, so the
// arguments are in their registers and the other registers that Go's ABI gives
// to nobody are free. If the instructions there are not fit it is an error: further on it
// is not known what is live.
func (f *File) BodyWindow(fn string) (Window, error) {
	fun, code, err := f.windowFunc(fn)
	if err != nil {
		return Window{}, err
	}
	off, ok := x86Prologue(code)
	if !ok {
		return Window{}, fmt.Errorf("%w in %s: no prologue that is known", ErrWindow, fn)
	}
	w, err := x86Window(code, fun.Entry, off)
	if err != nil {
		return Window{}, fmt.Errorf("%s: %w", fn, err)
	}
	return w, nil
}

// WindowAt is the window at an instruction, given by its address as linked: for one
// after a call, where only the result is live.
func (f *File) WindowAt(pc uint64) (Window, error) {
	at, ok := f.FuncAt(pc)
	if !ok {
		return Window{}, fmt.Errorf("%w: %#x is in no function", ErrWindow, pc)
	}
	if f.arch == ARM64 {
		return Window{}, fmt.Errorf("window in %s: %w", at.Name, ErrNotYet)
	}
	code, err := f.code(at)
	if err != nil {
		return Window{}, err
	}
	w, err := x86Window(code, at.Entry, int(pc-at.Entry))
	if err != nil {
		return Window{}, fmt.Errorf("%s: %w", at.Name, err)
	}
	return w, nil
}

func (f *File) windowFunc(fn string) (Func, []byte, error) {
	fun, ok := f.Func(fn)
	if !ok {
		return Func{}, nil, fmt.Errorf("window in %s: %w", fn, ErrNoSymbol)
	}
	if f.arch == ARM64 {
		return Func{}, nil, fmt.Errorf("window in %s: %w", fn, ErrNotYet)
	}
	code, err := f.code(fun)
	return fun, code, err
}

// x86Prologue is the offset of the first instruction after the stack check and the
// instructions that make the frame: what cmd/internal/obj/x86 (preprocess,
// stacksplit) puts at the beginning of a function. Those are
//
//	cmp rsp, [r14+N]; jbe        or, for a larger frame,
//	lea r12, [rsp-N]; cmp r12, [r14+N]; jbe
//	push rbp; mov rbp, rsp; sub rsp, N (or add rsp, -N)       Go 1.21+
//	sub rsp, N; mov [rsp+M], rbp; lea rbp, [rsp+M]            before
//
// Each comes once at most, in this order. It is false when there is no frame.
func x86Prologue(code []byte) (int, bool) {
	off, step := 0, prologueStart
	for off < len(code) {
		in, err := decodeX86(code[off:])
		if err != nil {
			break
		}
		next := x86PrologueStep(code, off, in)
		if next <= step {
			break
		}
		step = next
		off += in.Len
	}
	return off, step >= prologueFrame
}

// The steps of a prologue, in order.
const (
	prologueStart   = iota
	prologueLimit   // lea r12, [rsp-N]
	prologueCompare // cmp with g.stackguard0
	prologueCheck   // the branch to morestack
	prologuePush    // push rbp
	prologueBase    // mov rbp, rsp
	prologueFrame   // sub rsp, N
	prologueSave    // mov [rsp+M], rbp
	prologueSaved   // lea rbp, [rsp+M]
)

// x86PrologueStep is the step that the instruction at off is, 0 if it is none.
func x86PrologueStep(code []byte, off int, in x86asm.Inst) int {
	dst, src := in.Args[0], in.Args[1]
	mem := func(a x86asm.Arg, base x86asm.Reg) (int64, bool) {
		m, ok := a.(x86asm.Mem)
		return m.Disp, ok && m.Base == base && m.Index == 0 && m.Segment == 0
	}
	switch in.Op {
	case x86asm.LEA:
		disp, ok := mem(src, x86asm.RSP)
		switch {
		case ok && dst == x86asm.R12 && int32(disp) < 0:
			return prologueLimit
		case ok && dst == x86asm.RBP && int32(disp) > 0:
			return prologueSaved
		}
	case x86asm.CMP:
		if _, ok := mem(src, x86asm.R14); ok && (dst == x86asm.RSP || dst == x86asm.R12) {
			return prologueCompare
		}
	case x86asm.PUSH:
		if dst == x86asm.RBP {
			return prologuePush
		}
	case x86asm.MOV:
		if dst == x86asm.RBP && src == x86asm.RSP {
			return prologueBase
		}
		if _, ok := mem(dst, x86asm.RSP); ok && src == x86asm.RBP {
			return prologueSave
		}
	case x86asm.SUB, x86asm.ADD:
		if _, imm := src.(x86asm.Imm); imm && dst == x86asm.RSP {
			return prologueFrame
		}
	}
	if x86StackCheck(code, off, in) {
		return prologueCheck
	}
	return prologueStart
}

// x86Window is the window at off in a function's code, linked at entry.
func x86Window(code []byte, entry uint64, off int) (Window, error) {
	bad := func(why string) (Window, error) {
		return Window{}, fmt.Errorf("%w at %#x: %s", ErrWindow, entry+uint64(off), why)
	}
	starts, targets, err := x86Flow(code)
	if err != nil {
		return bad(err.Error())
	}
	w := Window{PC: entry + uint64(off)}
	for n := 0; n < x86JmpLen; {
		at := off + n
		if at < 0 || at >= len(code) || !starts[at] {
			return bad("not the start of an instruction")
		}
		if targets[at] && n == 0 {
			return bad("a branch goes to it: what is live there is not known")
		}
		if targets[at] {
			return bad("a branch goes into it")
		}
		in, err := decodeX86(code[at:])
		if err != nil || !x86Movable(code[at:at+in.Len], in) {
			return bad("an instruction that may not be moved")
		}
		w.Insns = append(w.Insns, WindowInsn{Off: n, Len: in.Len, RIPDisp: -1})
		if x86RIPRelative(in) {
			if in.PCRel != 4 || in.PCRelOff+4 > in.Len {
				return bad("an unknown form of address")
			}
			w.Insns[len(w.Insns)-1].RIPDisp = n + in.PCRelOff
		}
		n += in.Len
		w.Orig = code[off : off+n]
	}
	for n := range w.Orig { // also into the middle of an instruction
		if targets[off+n] {
			return bad("a branch goes into it")
		}
	}
	w.Orig = append([]byte(nil), w.Orig...)
	return w, nil
}

// x86Flow decodes a function: where its instructions start, and which of them are
// targets of its own branches. A function with a jump through a register or memory is
// refused, as its targets are not known.
func x86Flow(code []byte) (starts, targets map[int]bool, err error) {
	starts, targets = map[int]bool{}, map[int]bool{}
	walkX86(code, func(off int, in x86asm.Inst, sure bool) bool {
		if !sure || in.Len == 0 {
			err = fmt.Errorf("unknown instruction at +%#x", off)
			return false
		}
		starts[off] = true
		rel, direct := in.Args[0].(x86asm.Rel)
		switch {
		case direct:
			targets[off+in.Len+int(rel)] = true
		case in.Op == x86asm.JMP || in.Op == x86asm.LJMP:
			err = fmt.Errorf("jump through a register or table at +%#x", off)
			return false
		}
		return true
	})
	return starts, targets, err
}

// x86Movable says whether an instruction, whose bytes code is, does the same at
// another address: plain integer moves, arithmetic and comparisons, with no
// prefix but REX and operand size.
func x86Movable(code []byte, in x86asm.Inst) bool {
	for i, p := range in.Prefix {
		if p == 0 {
			break
		}
		if i >= len(code) || !p.IsREX() && p&0xff != x86asm.PrefixDataSize {
			return false
		}
	}
	switch in.Op {
	case x86asm.MOV, x86asm.MOVZX, x86asm.MOVSX, x86asm.MOVSXD, x86asm.LEA, x86asm.CMP, x86asm.TEST,
		x86asm.ADD, x86asm.SUB, x86asm.INC, x86asm.DEC, x86asm.AND, x86asm.OR, x86asm.XOR, x86asm.NOP:
	default:
		return false
	}
	if dst, ok := in.Args[0].(x86asm.Reg); ok && x86Frame[dst] && in.Op != x86asm.CMP && in.Op != x86asm.TEST {
		return false // the unwinder knows the frame by the program counter
	}
	for _, a := range in.Args {
		switch a := a.(type) {
		case x86asm.Mem:
			if a.Segment != 0 {
				return false
			}
		case x86asm.Reg:
			if a == x86asm.RIP || a >= x86asm.ES && a <= x86asm.GS || a >= x86asm.CR0 {
				return false
			}
		case x86asm.Rel:
			return false
		}
	}
	return true
}

// x86Frame has the registers of the frame under all their names.
var x86Frame = map[x86asm.Reg]bool{
	x86asm.RSP: true, x86asm.ESP: true, x86asm.SP: true, x86asm.SPB: true,
	x86asm.RBP: true, x86asm.EBP: true, x86asm.BP: true, x86asm.BPB: true,
}

// x86RIPRelative says whether an operand is at a distance from the instruction.
func x86RIPRelative(in x86asm.Inst) bool {
	for _, a := range in.Args {
		if m, ok := a.(x86asm.Mem); ok && m.Base == x86asm.RIP {
			return true
		}
	}
	return false
}

// CodeAt returns n bytes as they are in the file, from an address as linked. The
// caller must not change them.
func (f *File) CodeAt(pc uint64, n int) ([]byte, error) { return f.bytes(pc, n) }
