package gobinary

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// A Struct is the layout of a struct type, from its type descriptor.
type Struct struct {
	Name   string // "runtime.g"
	Size   uint64 // in bytes
	Fields []Field

	file *File
}

// A Field is one field of a Struct.
type Field struct {
	Name   string
	Offset uint64 // in bytes
	Type   string // its type's name, "" if that is not in the file

	typ uint64 // address of its type's descriptor
}

// Offsets in a type descriptor (internal/abi/type.go, types Type, StructType,
// StructField and Name; runtime/type.go up to Go 1.20). They are the same from
// Go 1.18 to 1.27.
const (
	typeSize      = 0
	typeFlags     = 20 // bit 1: the name has a star too many
	typeKind      = 23 // the low five bits
	typeName      = 40 // offset of the name from the descriptors' start
	typeFields    = 56 // slice of fields
	typeHeader    = 80
	fieldSize     = 24 // name *byte, type *Type, offset
	kindStruct    = 25
	kindMask      = 31
	flagExtraStar = 2
	maxFields     = 4096
	maxTypeName   = 4096
	maxDepth      = 8 // of nested structs in a path
)

// structHints are functions that allocate the struct with new and so refer to
// its descriptor. The search falls back to all descriptors.
var structHints = map[string][]string{
	"runtime.g":     {"runtime.malg"},
	"runtime.m":     {"runtime.allocm"},
	"runtime.p":     {"runtime.procresize"},
	"runtime.sudog": {"runtime.acquireSudog"},
	"runtime.hchan": {"runtime.makechan"},
	"runtime.coro":  {"runtime.newcoro"},
}

// Struct is the layout of the struct type of that name, such as "runtime.g". A
// type has a descriptor when the program allocates it or converts it to an
// interface. ErrNoSymbol when there is none.
func (f *File) Struct(name string) (*Struct, error) {
	for _, hint := range structHints[name] {
		fn, ok := f.Func(hint)
		if !ok {
			continue
		}
		for _, r := range f.refs(fn) {
			if s, ok := f.structNamed(r.addr, name); ok {
				return s, nil
			}
		}
	}
	lo, hi := f.typeRange()
	w := window{f: f}
	for addr := (lo + 7) &^ 7; addr+typeHeader <= hi; addr += 8 {
		b := w.at(addr, typeHeader)
		if b == nil {
			break
		}
		nameOff := binary.LittleEndian.Uint32(b[typeName:])
		if b[typeKind]&kindMask != kindStruct || uint64(nameOff) >= hi-lo {
			continue
		}
		if s, ok := f.structNamed(addr, name); ok {
			return s, nil
		}
	}
	return nil, fmt.Errorf("type %s: %w", name, ErrNoSymbol)
}

func (f *File) structNamed(addr uint64, name string) (*Struct, bool) {
	if !f.isStruct(addr) || f.typeName(addr) != name {
		return nil, false
	}
	return f.structAt(addr)
}

// isStruct says whether addr can be the descriptor of a struct type.
func (f *File) isStruct(addr uint64) bool {
	lo, hi := f.typeRange()
	if addr < lo || addr+typeHeader > hi || addr%8 != 0 {
		return false
	}
	kind, ok := f.u8(addr + typeKind)
	return ok && kind&kindMask == kindStruct
}

// structAt decodes the struct type descriptor at addr.
func (f *File) structAt(addr uint64) (*Struct, bool) {
	if !f.isStruct(addr) {
		return nil, false
	}
	size, ok1 := f.u64(addr + typeSize)
	fields, ok2 := f.u64(addr + typeFields)
	n, ok3 := f.u64(addr + typeFields + 8)
	if !ok1 || !ok2 || !ok3 || n > maxFields || !f.held(fields, n*fieldSize) {
		return nil, false
	}
	s := &Struct{Name: f.typeName(addr), Size: size, Fields: make([]Field, 0, n), file: f}
	for i := range n {
		at := fields + i*fieldSize
		name, _ := f.u64(at)
		typ, _ := f.u64(at + 8)
		off, ok := f.u64(at + 16)
		if f.version.Minor == 18 {
			off >>= 1 // runtime/type.go: offsetAnon, whose low bit says "embedded"
		}
		if !ok || off > size {
			return nil, false
		}
		s.Fields = append(s.Fields, Field{Name: f.name(name), Offset: off, Type: f.typeName(typ), typ: typ})
	}
	return s, true
}

// Offset is the offset of a field in bytes; path may go into nested structs by
// dots, as in "sched.pc".
func (s *Struct) Offset(path string) (uint64, bool) {
	return s.offset(strings.Split(path, "."))
}

func (s *Struct) offset(path []string) (uint64, bool) {
	if len(path) > maxDepth {
		return 0, false
	}
	for _, fld := range s.Fields {
		if fld.Name != path[0] {
			continue
		}
		if len(path) == 1 {
			return fld.Offset, true
		}
		inner, ok := s.file.structAt(fld.typ)
		if !ok {
			return 0, false
		}
		off, ok := inner.offset(path[1:])
		return fld.Offset + off, ok
	}
	return 0, false
}

// typeName is the name of the type whose descriptor is at addr, "" if there is
// no descriptor there.
func (f *File) typeName(addr uint64) string {
	lo, hi := f.typeRange()
	if addr < lo || addr >= hi {
		return ""
	}
	off, ok1 := f.u32(addr + typeName)
	flags, ok2 := f.u8(addr + typeFlags)
	if !ok1 || !ok2 || uint64(off) >= hi-lo {
		return ""
	}
	name := f.name(lo + uint64(off))
	if flags&flagExtraStar != 0 {
		name = strings.TrimPrefix(name, "*")
	}
	return name
}

// name is the name at addr: a byte of flags, the length, the text.
func (f *File) name(addr uint64) string {
	n, text, ok := f.varint(addr + 1)
	if !ok || n > maxTypeName {
		return ""
	}
	b, err := f.bytes(text, int(n))
	if err != nil {
		return ""
	}
	return string(b)
}
