package gobinary

// Indices of tables attached to a function (internal/abi/symtab.go, the same
// from Go 1.18 to 1.27).
const (
	pcdataInlTree    = 2
	funcdataInlTree  = 3
	funcdataWrapInfo = 7
)

// maxInlined bounds the frames that one pc expands to.
const maxInlined = 200

// Frame is one call of a stack: a function and the line it is at.
type Frame struct {
	Func    string
	File    string // as recorded; may be trimmed
	Line    int    // 1-based; 0 if unknown
	Inlined bool   // into the frame that follows
}

// Frames expands pc to the calls that it is in, innermost first, inlined ones
// included. For a return address, pass the address before it. It is nil when pc
// is in no Go function.
func (f *File) Frames(pc uint64) []Frame {
	fn, ok := f.FuncAt(pc)
	if !ok {
		return nil
	}
	file, line := f.fileLine(fn, pc)
	var out []Frame
	tree, hasTree := f.funcdata(fn, funcdataInlTree)
	index := int32(-1)
	if hasTree {
		index = f.pcdata(fn, pcdataInlTree, pc)
	}
	for index >= 0 && len(out) < maxInlined {
		call, ok := f.inlinedCall(tree, index)
		if !ok {
			break
		}
		out = append(out, Frame{Func: call.name, File: file, Line: line, Inlined: true})
		parent := fn.Entry + uint64(call.parentPC)
		file, line = f.fileLine(fn, parent)
		index = call.parent
		if !f.table.go118 {
			index = f.pcdata(fn, pcdataInlTree, parent)
		}
	}
	return append(out, Frame{Func: fn.Name, File: file, Line: line})
}

// inlined is an entry of a function's inlining tree (runtime/symtabinl.go,
// type inlinedCall; runtime/symtab.go up to Go 1.19).
type inlined struct {
	name     string
	parentPC uint32 // position in the function, as an offset, of the call
	parent   int32  // index of the caller's entry; up to Go 1.19 only
}

func (f *File) inlinedCall(tree uint64, index int32) (inlined, bool) {
	if f.table.go118 { // parent int16, funcID, _ byte; file, line, func_, parentPc int32
		at := tree + uint64(index)*20
		parent, ok1 := f.u32(at)
		name, ok2 := f.u32(at + 12)
		pc, ok3 := f.u32(at + 16)
		return inlined{f.funcName(name), pc, int32(int16(parent))}, ok1 && ok2 && ok3
	}
	at := tree + uint64(index)*16 // funcID, 3 of padding; nameOff, parentPc, startLine int32
	name, ok1 := f.u32(at + 4)
	pc, ok2 := f.u32(at + 8)
	return inlined{f.funcName(name), pc, -1}, ok1 && ok2
}

// StartFunc is the entry of the function that a go statement names, given the
// start pc that the runtime recorded: another one when that is a wrapper which
// the compiler made to pass arguments (runtime/tracestack.go, startPCForTrace).
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

// SPDelta is the number of bytes between the stack pointer at pc and the
// function's return address (amd64) or its caller's frame (arm64).
func (f *File) SPDelta(pc uint64) (int32, bool) {
	fn, ok := f.FuncAt(pc)
	if !ok {
		return 0, false
	}
	off, ok := f.u32(fn.record + recSP)
	if !ok {
		return 0, false
	}
	return f.pcValue(fn, off, pc)
}

// fileLine is the source position of pc, disregarding inlining: where the
// innermost of the calls is.
func (f *File) fileLine(fn Func, pc uint64) (file string, line int) {
	fileOff, ok1 := f.u32(fn.record + recFile)
	lineOff, ok2 := f.u32(fn.record + recLine)
	cu, ok3 := f.u32(fn.record + recCU)
	if !ok1 || !ok2 || !ok3 {
		return "", 0
	}
	if n, ok := f.pcValue(fn, lineOff, pc); ok && n > 0 {
		line = int(n)
	}
	n, ok := f.pcValue(fn, fileOff, pc)
	at := (uint64(cu) + uint64(uint32(n))) * 4
	if !ok || n < 0 || at >= f.table.cus.size {
		return "", line
	}
	off, ok := f.u32(f.table.cus.addr + at)
	if !ok || uint64(off) >= f.table.files.size {
		return "", line
	}
	return f.cstring(f.table.files.addr + uint64(off)), line
}

// recSize is the size of a function's record, after which the offsets of its
// PCDATA and FUNCDATA tables follow.
func (f *File) recSize() uint64 {
	if f.table.go118 {
		return recSize118
	}
	return recSize120
}

// pcdata is the value of a PCDATA table at pc, -1 if there is none.
func (f *File) pcdata(fn Func, table uint32, pc uint64) int32 {
	n, ok := f.u32(fn.record + recNumPC)
	if !ok || table >= n {
		return -1
	}
	off, ok := f.u32(fn.record + f.recSize() + uint64(table)*4)
	if !ok {
		return -1
	}
	v, ok := f.pcValue(fn, off, pc)
	if !ok {
		return -1
	}
	return v
}

// funcdata is the address of a FUNCDATA table.
func (f *File) funcdata(fn Func, table uint8) (uint64, bool) {
	size := f.recSize()
	n, ok := f.u8(fn.record + size - 1) // nfuncdata is the record's last byte
	if !ok || table >= n {
		return 0, false
	}
	pcs, ok := f.u32(fn.record + recNumPC)
	if !ok || uint64(pcs) > f.table.funcs.size/4 {
		return 0, false
	}
	off, ok := f.u32(fn.record + size + uint64(pcs)*4 + uint64(table)*4)
	if !ok || off == ^uint32(0) {
		return 0, false
	}
	return f.module.gofunc + uint64(off), true
}

// pcValue evaluates at pc the pc-value table at an offset in pclntab.pcs: pairs
// of variable-length numbers, the change of the value (zigzag) and the number of
// instruction units for which it holds; a change of 0 other than the first ends
// the table (runtime/symtab.go, pcvalue and step).
func (f *File) pcValue(fn Func, off uint32, pc uint64) (int32, bool) {
	if off == 0 || uint64(off) >= f.table.pcs.size {
		return 0, false
	}
	addr, end := f.table.pcs.addr+uint64(off), f.table.pcs.addr+f.table.pcs.size
	value, at := int32(-1), fn.Entry
	for first := true; addr < end; first = false {
		change, next, ok := f.varint(addr)
		if !ok || change == 0 && !first {
			break
		}
		units, after, ok := f.varint(next)
		if !ok {
			break
		}
		value += int32(change>>1) ^ -int32(change&1)
		at += uint64(units) * f.quantum
		if pc < at {
			return value, true
		}
		addr = after
	}
	return 0, false
}

// varint reads a base-128 number and says where it ends.
func (f *File) varint(addr uint64) (v uint32, end uint64, ok bool) {
	for shift := 0; shift < 35; shift += 7 {
		b, ok := f.u8(addr)
		if !ok {
			return 0, 0, false
		}
		addr++
		v |= uint32(b&0x7f) << shift
		if b < 0x80 {
			return v, addr, true
		}
	}
	return 0, 0, false
}
