package gobinary

import (
	"math"
	"strings"
)

// Numbers of the tables that go with a function (internal/abi/symtab.go; the
// same from Go 1.18 to 1.27).
const (
	pcdataInlTree    = 2 // by pc: index in the inline tree
	funcdataInlTree  = 3
	funcdataWrapInfo = 7
)

// maxInlineDepth bounds the inlined frames at one pc. The compiler's budget for
// inlining keeps them far below; a damaged inline tree may be cyclic.
const maxInlineDepth = 256

// A Frame is a function's part of a call stack.
type Frame struct {
	Func    string // name as the runtime prints it, type arguments as "[...]"
	File    string // as recorded, perhaps trimmed; "" if unknown
	Line    int    // from 1; 0 if unknown
	Inlined bool   // inlined into the frame that follows
	Wrapper bool   // made by the compiler around the function that it calls
}

// Frames are the functions that pc belongs to, innermost first: those inlined
// there, and last the one whose code it is. It is nil if pc is not in Go code.
//
// The lines are those of the instruction at pc. For a return address, ask for
// the address less one, which is within the call.
func (f *File) Frames(pc uint64) []Frame {
	fn, ok := f.FuncAt(pc)
	if !ok {
		return nil
	}
	var frames []Frame
	for range maxInlineDepth {
		file, line := f.fileLine(fn, pc)
		in, ok := f.inlinedAt(fn, pc)
		if !ok {
			return append(frames, Frame{printName(fn.Name), file, line, false, f.funcID(fn) == f.wrapperID()})
		}
		frames = append(frames, Frame{printName(in.name), file, line, true, in.funcID == f.wrapperID()})
		pc = in.parent
	}
	return frames
}

// printName leaves out a function's type arguments, which are the compiler's
// rather than the program's (runtime/symtab.go, funcNameForPrint).
func printName(name string) string {
	i, j := strings.IndexByte(name, '['), strings.LastIndexByte(name, ']')
	if i < 0 || j < i {
		return name
	}
	return name[:i] + "[...]" + name[j+1:]
}

// An inlinedCall is a function inlined into another.
type inlinedCall struct {
	name   string
	parent uint64 // an address in the outer function whose line is the call
	funcID uint8
}

// inlinedAt is the function that is inlined at pc of fn; false if the code at pc
// is fn's own.
//
// The inline tree's records (runtime/symtabinl.go, type inlinedCall) are of 20
// bytes in Go 1.18 and 1.19, and of 16 from Go 1.20 on.
func (f *File) inlinedAt(fn Func, pc uint64) (in inlinedCall, ok bool) {
	tree, ok := f.funcdata(fn, funcdataInlTree)
	if !ok {
		return in, false
	}
	index, ok := f.pcdata(fn, pcdataInlTree, pc)
	if !ok || index < 0 {
		return in, false
	}
	size, idAt, nameAt, parentAt := uint64(16), uint64(0), uint64(4), uint64(8)
	if f.table.go118 {
		size, idAt, nameAt, parentAt = 20, 2, 12, 16
	}
	record := tree + uint64(index)*size
	nameOff, ok1 := f.u32(record + nameAt)
	parentOff, ok2 := f.u32(record + parentAt)
	in.parent = fn.Entry + uint64(parentOff)
	if !ok1 || !ok2 || in.parent >= fn.End {
		return inlinedCall{}, false
	}
	in.name = f.funcName(nameOff)
	in.funcID, _ = f.u8(record + idAt)
	return in, true
}

// wrapperID is the number that marks wrappers (internal/abi/symtab.go,
// FuncIDWrapper; runtime/symtab.go, funcID_wrapper, up to Go 1.20).
func (f *File) wrapperID() uint8 {
	switch {
	case f.version.Minor <= 21:
		return 21
	case f.version.Minor <= 24:
		return 22
	}
	return 23
}

// StartFunc is the entry of the function that a goroutine was started with, given
// the start address that the runtime recorded. A go statement with arguments
// starts a wrapper that the compiler made; the entry is then that of the function
// which the statement names, as the runtime's own tracer has it
// (runtime/tracestack.go, startPCForTrace; up to Go 1.21 in runtime/trace.go).
// Any other pc is returned as it is.
func (f *File) StartFunc(pc uint64) uint64 {
	fn, ok := f.FuncAt(pc)
	if !ok {
		return pc
	}
	info, ok := f.funcdata(fn, funcdataWrapInfo)
	if !ok {
		return pc
	}
	off, ok := f.u32(info)
	wrapped := f.module.text + uint64(off)
	if _, in := f.FuncAt(wrapped); !ok || !in {
		return pc
	}
	return wrapped
}

// An Unwind is what is needed to walk from a frame at some pc to its caller's.
type Unwind struct {
	Entry uint64 // of the function
	// Delta is the number of bytes by which the stack pointer is below its value
	// at the function's entry: on amd64 the return address is at SP+Delta, on arm64
	// the caller's SP is SP+Delta. HasDelta is false for code that the table says
	// nothing of, such as C code that the linker took in.
	Delta    int32
	HasDelta bool
	// Top is set for the functions that stacks begin with, such as goexit.
	Top bool
	// WritesSP is set for functions that switch stacks; their Delta is not to be
	// relied on, except where the stack was left (as in a call of mcall).
	WritesSP bool
	// Injected is set for functions that a signal handler made the goroutine
	// call: the return address is the interrupted instruction itself.
	Injected bool
}

// Flags of a function (internal/abi/symtab.go, FuncFlagTopFrame and
// FuncFlagSPWrite; the same from Go 1.18 to 1.27).
const (
	flagTopFrame = 1 << 0
	flagSPWrite  = 1 << 1
)

// injected are the functions that signal handlers make a goroutine call
// (runtime/traceback.go, isInjectedCall).
var injected = map[string]bool{
	"runtime.sigpanic": true, "runtime.asyncPreempt": true, "runtime.debugCallV2": true,
}

// UnwindAt is how to unwind the frame of the function that contains pc; false if
// pc is not in Go code.
func (f *File) UnwindAt(pc uint64) (Unwind, bool) {
	fn, ok := f.FuncAt(pc)
	if !ok {
		return Unwind{}, false
	}
	flags, _ := f.u8(fn.record + f.table.recordSize() - 3)
	u := Unwind{
		Entry:    fn.Entry,
		Top:      flags&flagTopFrame != 0,
		WritesSP: flags&flagSPWrite != 0 && fn.Name != "runtime.cgocallback",
		Injected: injected[fn.Name],
	}
	if off, ok := f.u32(fn.record + recSP); ok {
		u.Delta, u.HasDelta = f.pcValue(fn, off, pc)
	}
	return u, true
}

// funcID is the number by which the runtime knows some of its functions, 0 for
// most (internal/abi/symtab.go, FuncID).
func (f *File) funcID(fn Func) uint8 {
	id, _ := f.u8(fn.record + f.table.recordSize() - 4)
	return id
}

// fileLine is the source position of the instruction at pc of fn, "" and 0 if
// it has none.
func (f *File) fileLine(fn Func, pc uint64) (file string, line int) {
	fileTable, ok1 := f.u32(fn.record + recFile)
	lineTable, ok2 := f.u32(fn.record + recLine)
	cu, ok3 := f.u32(fn.record + recCU)
	if !ok1 || !ok2 || !ok3 {
		return "", 0
	}
	index, ok1 := f.pcValue(fn, fileTable, pc)
	n, ok2 := f.pcValue(fn, lineTable, pc)
	if !ok1 || !ok2 || index < 0 || n < 0 {
		return "", 0
	}
	entry := (uint64(cu) + uint64(index)) * 4
	if entry >= f.table.cus.size {
		return "", 0
	}
	off, ok := f.u32(f.table.cus.addr + entry)
	if !ok || uint64(off) >= f.table.files.size { // no file is ^uint32(0)
		return "", 0
	}
	return f.cstring(f.table.files.addr + uint64(off)), int(n)
}

// pcdata is the value at pc of pcdata table i of fn.
func (f *File) pcdata(fn Func, i uint32, pc uint64) (int32, bool) {
	n, ok := f.u32(fn.record + recNumPC)
	if !ok || i >= n {
		return 0, false
	}
	off, ok := f.u32(fn.record + f.table.recordSize() + uint64(i)*4)
	if !ok {
		return 0, false
	}
	return f.pcValue(fn, off, pc)
}

// funcdata is the address of funcdata i of fn.
func (f *File) funcdata(fn Func, i uint8) (uint64, bool) {
	npc, ok1 := f.u32(fn.record + recNumPC)
	n, ok2 := f.u8(fn.record + f.table.recordSize() - 1)
	if !ok1 || !ok2 || i >= n {
		return 0, false
	}
	off, ok := f.u32(fn.record + f.table.recordSize() + (uint64(npc)+uint64(i))*4)
	if !ok || off == math.MaxUint32 { // none
		return 0, false
	}
	return f.module.gofunc + uint64(off), true
}

// pcValue looks pc up in the pc-value table at off, which is 0 for none: pairs
// of varints, each the change of the value (zigzag) and the number of
// instruction quanta for which it then stands (runtime/symtab.go, pcvalue).
func (f *File) pcValue(fn Func, off uint32, pc uint64) (int32, bool) {
	if off == 0 || pc < fn.Entry || pc >= fn.End {
		return 0, false
	}
	t := f.varints(f.table.pcs, uint64(off))
	at, value := fn.Entry, int32(-1)
	for first := true; at < fn.End; first = false {
		change, ok := t.next()
		if !ok || change == 0 && !first {
			return 0, false
		}
		value += int32(-(change & 1) ^ (change >> 1))
		quanta, ok := t.next()
		if !ok || quanta == 0 {
			return 0, false
		}
		if at += uint64(quanta) * f.quantum; pc < at {
			return value, true
		}
	}
	return 0, false
}

// varints decodes a sequence of varints of 32 bits from a table.
type varints struct {
	f         *File
	addr, end uint64
	buf       []byte
}

func (f *File) varints(table region, off uint64) varints {
	return varints{f: f, addr: table.addr + min(off, table.size), end: table.addr + table.size}
}

// next is the next varint, false at the table's end.
func (v *varints) next() (uint32, bool) {
	var x uint32
	for shift := 0; shift < 35; shift += 7 {
		if len(v.buf) == 0 && !v.refill() {
			return 0, false
		}
		b := v.buf[0]
		v.buf = v.buf[1:]
		x |= uint32(b&0x7f) << shift
		if b&0x80 == 0 {
			return x, true
		}
	}
	return 0, false
}

func (v *varints) refill() bool {
	n := min(v.end-v.addr, 128)
	b, err := v.f.bytes(v.addr, int(n))
	if err != nil || n == 0 {
		return false
	}
	v.addr, v.buf = v.addr+n, b
	return true
}
