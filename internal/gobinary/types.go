package gobinary

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Offsets in type descriptors (internal/abi/type.go, types Type and StructType;
// runtime/type.go before Go 1.21). The same from Go 1.18 to 1.27.
const (
	typeSize      = 0  // 8 bytes
	typeFlags     = 20 // 1 byte
	typeKind      = 23 // 1 byte
	typeName      = 40 // 4 bytes, offset from the start of the descriptors
	typeBaseSize  = 48
	structPackage = 48 // 8 bytes, address of a name
	structFields  = 56 // 8 bytes, address of the fields; 8 bytes, their number
	structSize    = 80

	fieldName = 0 // 8 bytes, address of a name
	fieldType = 8 // 8 bytes, address of a descriptor
	fieldOff  = 16
	fieldSize = 24
)

const (
	flagExtraStar = 1 << 1 // the name has a "*" too many in front
	kindMask      = 1<<5 - 1
	kindStruct    = 25
	nameEmbedded  = 1 << 3 // flag of a name: of an embedded field (Go 1.19 on)
)

// Bounds on what is decoded for one struct, nested structs included. The
// runtime's biggest, p with all that it contains, has some 300 fields.
const (
	maxFields     = 1 << 14
	maxNesting    = 32
	maxNameLength = 1 << 12
)

// A Struct is the layout of a struct type. It does not depend on its File any
// more, and must not be changed.
type Struct struct {
	Name   string // with its package: "runtime.g"
	Size   uint64 // in bytes
	Fields []Field
}

// A Field is a field of a struct type.
type Field struct {
	Name         string // an embedded field's is its type's, without the package
	Type         string // as reflect.Type.String has it
	Offset, Size uint64 // in bytes
	Embedded     bool
	Struct       *Struct // layout of a field that is a struct itself, else nil
}

// Offset is the offset of a field from the start of s. The path names fields
// within fields with dots between: "sched.pc". As in Go, fields of embedded
// structs can be named without the embedded field.
func (s *Struct) Offset(path string) (uint64, bool) {
	fl, ok := s.Field(path)
	return fl.Offset, ok
}

// Field is the field at path, as in [Struct.Offset]; its Offset is from the
// start of s.
func (s *Struct) Field(path string) (Field, bool) {
	name, rest, nested := strings.Cut(path, ".")
	fl, ok := s.direct(name)
	if !ok || !nested {
		return fl, ok
	}
	if fl.Struct == nil {
		return Field{}, false
	}
	inner, ok := fl.Struct.Field(rest)
	if !ok {
		return Field{}, false
	}
	inner.Offset += fl.Offset
	return inner, true
}

// direct is the field of that name of s, or else of a struct embedded in s.
func (s *Struct) direct(name string) (Field, bool) {
	for _, fl := range s.Fields {
		if fl.Name == name {
			return fl, true
		}
	}
	for _, fl := range s.Fields {
		if !fl.Embedded || fl.Struct == nil {
			continue
		}
		if inner, ok := fl.Struct.direct(name); ok {
			inner.Offset += fl.Offset
			return inner, true
		}
	}
	return Field{}, false
}

// errType is a type descriptor that cannot be one.
var errType = errors.New("bad type descriptor")

// structAt decodes the descriptor of a struct type at addr; false if there is
// none.
func (f *File) structAt(addr uint64) (*Struct, bool) {
	d := structDecoder{f: f, done: map[uint64]*Struct{}}
	s, err := d.decode(addr)
	return s, err == nil
}

// A structDecoder decodes one struct type with all that are nested in it, each
// of them once. A damaged descriptor may nest in itself.
type structDecoder struct {
	f      *File
	done   map[uint64]*Struct
	depth  int
	fields int
}

func (d *structDecoder) decode(addr uint64) (*Struct, error) {
	if s := d.done[addr]; s != nil {
		return s, nil
	}
	if !d.f.isStruct(addr) {
		return nil, fmt.Errorf("%w: no struct at %#x", errType, addr)
	}
	size, _ := d.f.u64(addr + typeSize)
	fields, _ := d.f.u64(addr + structFields)
	n, ok := d.f.u64(addr + structFields + 8)
	if !ok || n > maxFields || d.fields+int(n) > maxFields || !d.f.held(fields, n*fieldSize) || d.depth >= maxNesting {
		return nil, fmt.Errorf("%w: %d fields in the struct at %#x", errType, n, addr)
	}
	d.fields += int(n)
	d.depth++
	defer func() { d.depth-- }()
	s := &Struct{Name: d.f.typeString(addr), Size: size, Fields: make([]Field, n)}
	for i := range s.Fields {
		var err error
		if s.Fields[i], err = d.field(fields+uint64(i)*fieldSize, size); err != nil {
			return nil, err
		}
	}
	d.done[addr] = s
	return s, nil
}

// field decodes the field's record at addr in a struct of size bytes.
func (d *structDecoder) field(addr, size uint64) (Field, error) {
	name, ok1 := d.f.u64(addr + fieldName)
	typ, ok2 := d.f.u64(addr + fieldType)
	off, ok3 := d.f.u64(addr + fieldOff)
	if !ok1 || !ok2 || !ok3 || !d.f.isType(typ) {
		return Field{}, fmt.Errorf("%w: bad field at %#x", errType, addr)
	}
	flags, _ := d.f.u8(name)
	fl := Field{Name: d.f.typeNameAt(name), Type: d.f.typeString(typ), Offset: off, Embedded: flags&nameEmbedded != 0}
	if d.f.version.Minor == 18 { // runtime/type.go, structfield.offsetAnon
		fl.Offset, fl.Embedded = off>>1, off&1 != 0
	}
	fl.Size, _ = d.f.u64(typ + typeSize)
	if fl.Name == "" || fl.Offset > size || fl.Size > size-fl.Offset {
		return Field{}, fmt.Errorf("%w: field %q at %#x exceeds its struct", errType, fl.Name, addr)
	}
	if !d.f.isStruct(typ) {
		return fl, nil
	}
	var err error
	fl.Struct, err = d.decode(typ)
	return fl, err
}

// isType says whether a type descriptor may be at addr.
func (f *File) isType(addr uint64) bool {
	lo, hi := f.typeRange()
	return addr >= lo && addr < hi && hi-addr >= typeBaseSize && addr%8 == 0
}

// isStruct says whether the descriptor at addr says that it is of a struct type.
func (f *File) isStruct(addr uint64) bool {
	if !f.isType(addr) {
		return false
	}
	kind, ok := f.u8(addr + typeKind)
	return ok && kind&kindMask == kindStruct
}

// typeString is the name of the type whose descriptor is at addr.
func (f *File) typeString(addr uint64) string {
	off, ok := f.u32(addr + typeName)
	lo, hi := f.typeRange()
	if !ok || uint64(off) >= hi-lo {
		return ""
	}
	name := f.typeNameAt(lo + uint64(off))
	if flags, _ := f.u8(addr + typeFlags); flags&flagExtraStar != 0 {
		name = strings.TrimPrefix(name, "*")
	}
	return name
}

// typeNameAt is a name as type descriptors have it (internal/abi/type.go, type
// Name): a byte of flags, the length as a varint, the bytes.
func (f *File) typeNameAt(addr uint64) string {
	v := varints{f: f, addr: addr + 1, end: addr + 4}
	n, ok := v.next()
	if !ok || n > maxNameLength {
		return ""
	}
	start := v.addr - uint64(len(v.buf))
	b, err := f.bytes(start, int(n))
	if err != nil {
		return ""
	}
	return string(b)
}

// structUsers are functions that allocate a struct with new, and so refer to its
// type descriptor. They spare a search through all descriptors.
var structUsers = map[string]string{
	"runtime.g":     "runtime.malg",
	"runtime.m":     "runtime.allocm", // up to Go 1.24
	"runtime.p":     "runtime.procresize",
	"runtime.sudog": "runtime.acquireSudog",
	"runtime.hchan": "runtime.makechan",
	"runtime.coro":  "runtime.newcoro",
}

// Struct is the layout of a struct type of package runtime, named with its
// package: "runtime.g". Only types that the program allocates or converts to an
// interface have a descriptor; the error is ErrNoSymbol for the others.
func (f *File) Struct(name string) (*Struct, error) {
	if fn, ok := f.Func(structUsers[name]); ok {
		for _, r := range f.refs(fn) {
			if s, ok := f.structNamed(r.addr, name); ok {
				return s, nil
			}
		}
	}
	lo, hi := f.typeRange()
	w := window{f: f}
	for addr := (lo + 7) &^ 7; addr < hi; addr += 8 {
		b := w.at(addr, structSize)
		if b == nil {
			break
		}
		if b[typeKind]&kindMask != kindStruct || uint64(binary.LittleEndian.Uint32(b[typeName:])) >= hi-lo {
			continue
		}
		if s, ok := f.structNamed(addr, name); ok {
			return s, nil
		}
	}
	return nil, fmt.Errorf("type %s: %w", name, ErrNoSymbol)
}

// structNamed decodes the descriptor at addr if it is of package runtime's type
// of that name. Another package may be called runtime too.
func (f *File) structNamed(addr uint64, name string) (*Struct, bool) {
	if !f.isStruct(addr) || f.typeString(addr) != name {
		return nil, false
	}
	if pkg, _ := f.u64(addr + structPackage); f.typeNameAt(pkg) != "runtime" {
		return nil, false
	}
	return f.structAt(addr)
}
