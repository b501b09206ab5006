package gobinary

import (
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/arch/x86/x86asm"
)

// A Site is a direct call in the code of package runtime: CALL rel32 on amd64,
// BL on arm64. The kernel emulates both, so a uprobe there costs one trap, and
// the argument registers hold the callee's arguments.
type Site struct {
	Caller string // function that contains the call
	PC     uint64 // address of the call instruction, as linked
}

// Lengths of the two call instructions.
const (
	x86CallLen = 5
	armCallLen = 4
)

// CallSites returns the direct calls to callee ("runtime.casgstatus") in those
// functions of package runtime whose name passes in (nil: all of them), by
// rising PC. Only calls to the ABIInternal entry count; see [File.ABI0CallSites].
// Jumps (tail calls) and calls through a register are not calls here.
//
// A place that looks like a call but cannot be shown to be an instruction is an
// error that names it. ErrNoSymbol when there is no such callee.
func (f *File) CallSites(callee string, in func(caller string) bool) ([]Site, error) {
	fn, ok := f.Func(callee)
	if !ok {
		return nil, fmt.Errorf("calls of %s: %w", callee, ErrNoSymbol)
	}
	return f.callSites(map[uint64]bool{fn.Entry: true}, callee, in)
}

// ABI0CallSites is CallSites for the ABI0 wrapper of callee (assembly code calls
// Go functions through such wrappers; their arguments are on the stack). A
// function without a wrapper has none.
func (f *File) ABI0CallSites(callee string, in func(caller string) bool) ([]Site, error) {
	fn, ok := f.Func(callee)
	if !ok {
		return nil, fmt.Errorf("calls of %s: %w", callee, ErrNoSymbol)
	}
	wrappers := map[uint64]bool{}
	for w := range f.runtimeFuncs() {
		if w.Name == callee && w.Entry != fn.Entry {
			wrappers[w.Entry] = true
		}
	}
	return f.callSites(wrappers, callee, in)
}

// NextCallIn returns the first direct call to callee that follows the address
// after in the same function, which is one named caller. It is false when there
// is none, or one that CallSites would refuse to tell from data.
func (f *File) NextCallIn(caller string, after uint64, callee string) (Site, bool) {
	fn, ok := f.FuncAt(after)
	if !ok || fn.Name != caller {
		return Site{}, false
	}
	sites, err := f.CallSites(callee, func(name string) bool { return name == caller })
	if err != nil {
		return Site{}, false
	}
	for _, s := range sites {
		if s.PC > after && s.PC < fn.End {
			return s, true
		}
	}
	return Site{}, false
}

// AfterCall is the address that the call at s returns to.
func (f *File) AfterCall(s Site) uint64 {
	if f.Arch() == ARM64 {
		return s.PC + armCallLen
	}
	return s.PC + x86CallLen
}

// CallIsEmulated checks that the bytes at s are the plain call instruction that
// the kernel emulates: on amd64 E8 and a 32-bit offset with no prefix before
// (arch/x86/kernel/uprobes.c, branch_setup_xol_ops), on arm64 BL
// (arch/arm64/kernel/probes/decode-insn.c).
func (f *File) CallIsEmulated(s Site) bool {
	if f.Arch() == ARM64 {
		b, err := f.bytes(s.PC, armCallLen)
		return err == nil && armWord(b, 0).isBL()
	}
	b, err := f.bytes(s.PC, x86CallLen)
	return err == nil && b[0] == 0xe8
}

// callSites finds the calls to any of the addresses in targets.
func (f *File) callSites(targets map[uint64]bool, callee string, in func(string) bool) ([]Site, error) {
	find := x86Calls
	if f.Arch() == ARM64 {
		find = armCalls
	}
	var sites []Site
	for fn := range f.runtimeFuncs() {
		if in != nil && !in(fn.Name) {
			continue
		}
		code, err := f.code(fn)
		if err != nil {
			return nil, fmt.Errorf("calls of %s: %w", callee, err)
		}
		offs, err := find(code, fn.Entry, targets)
		if err != nil {
			return nil, fmt.Errorf("calls of %s in %s: %w", callee, fn.Name, err)
		}
		for _, off := range offs {
			sites = append(sites, Site{Caller: fn.Name, PC: fn.Entry + uint64(off)})
		}
	}
	slices.SortFunc(sites, func(a, b Site) int {
		if a.PC < b.PC {
			return -1
		}
		return 1
	})
	return sites, nil
}

// x86Calls returns the offsets of the CALL rel32 instructions in code, linked
// at entry, that reach a target. It looks for the bytes first, and decodes only
// a function that has them.
func x86Calls(code []byte, entry uint64, targets map[uint64]bool) ([]int, error) {
	var candidates []int
	for off := 0; off+x86CallLen <= len(code); off++ {
		if code[off] == 0xe8 {
			rel := int32(binary.LittleEndian.Uint32(code[off+1:]))
			if targets[entry+uint64(off)+x86CallLen+uint64(int64(rel))] {
				candidates = append(candidates, off)
			}
		}
	}
	if len(candidates) == 0 {
		return nil, nil
	}
	var calls []int
	var err error
	walkX86(code, func(off int, in x86asm.Inst, sure bool) bool {
		for len(candidates) > 0 && candidates[0] < off {
			candidates = candidates[1:] // inside an instruction: not a call
		}
		if len(candidates) == 0 {
			return false
		}
		switch {
		case in.Op == x86asm.CALL && in.Len != x86CallLen && candidates[0] < off+in.Len:
			err = fmt.Errorf("call at %#x has a prefix", entry+uint64(off))
		case candidates[0] == off && !sure:
			err = fmt.Errorf("bytes of a call at %#x, near an unknown instruction", entry+uint64(off))
		case candidates[0] == off:
			calls = append(calls, off)
		}
		return err == nil
	})
	return calls, err
}

// armCalls returns the offsets of the BL instructions in code, linked at entry,
// that reach a target.
func armCalls(code []byte, entry uint64, targets map[uint64]bool) ([]int, error) {
	var calls []int
	for off := 0; off+4 <= len(code); off += 4 {
		w, pc := armWord(code, off), entry+uint64(off)
		if !w.isBL() {
			continue
		}
		if to, _ := w.branch(pc); targets[to] {
			calls = append(calls, off)
		}
	}
	if len(calls) == 0 {
		return nil, nil
	}
	literals := armLiterals(code)
	return slices.DeleteFunc(calls, func(off int) bool { return literals[off] }), nil
}

// armLiterals is the set of the offsets of words that are constants which an LDR
// (literal) in code loads: the assembler puts those between instructions.
func armLiterals(code []byte) map[int]bool {
	literals := map[int]bool{}
	for at := 0; at+4 <= len(code); at += 4 {
		w := armWord(code, at)
		if w&0x3b000000 != 0x18000000 {
			continue
		}
		words := 1 // W register; LDRSW
		switch {
		case w>>26&1 == 1:
			words = 1 << (w >> 30) // S, D, Q registers
		case w>>30 == 1:
			words = 2 // X register
		}
		to := at + int(w.signed(5, 19)<<2)
		for i := range words {
			literals[to+4*i] = true
		}
	}
	return literals
}

// CallTarget is the function that the call before the return address ra calls, if
// that is a call of a fixed address; false if it is not, or if it cannot be told.
func (f *File) CallTarget(ra uint64) (Func, bool) {
	size := uint64(5)
	if f.arch == ARM64 {
		size = 4
	}
	b, err := f.bytes(ra-size, int(size))
	if err != nil {
		return Func{}, false
	}
	var to uint64
	if f.arch == ARM64 {
		w := armWord(b, 0)
		if !w.isBL() {
			return Func{}, false
		}
		to = ra - size + uint64(int64(int32(w)<<6)>>4)
	} else {
		if b[0] != 0xe8 { // CALL rel32
			return Func{}, false
		}
		to = ra + uint64(int64(int32(binary.LittleEndian.Uint32(b[1:]))))
	}
	// What looks like a call may be the end of another instruction.
	fn, ok := f.FuncAt(to)
	return fn, ok && fn.Entry == to
}
