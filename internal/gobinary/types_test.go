package gobinary

import (
	"debug/dwarf"
	"encoding/binary"
	"errors"
	"testing"

	"gopherscope/internal/testenv"
)

// TestFieldsAgainstDWARF compares all fields of the runtime's structs, nested
// ones included, with debug/dwarf. A stripped build is compared with its twin.
func TestFieldsAgainstDWARF(t *testing.T) {
	eachBuild(t, "frames", func(t *testing.T, b testenv.Build, path string, f *File) {
		b.Stripped = false
		witness := dwarfStructs(t, testenv.BuildTarget(t, "frames", b), tracedStructs)
		fields := 0
		for _, name := range tracedStructs {
			s, err := f.Struct(name)
			if err != nil {
				t.Error(err)
				continue
			}
			if witness[name] == nil {
				t.Errorf("DWARF has no %s", name)
				continue
			}
			fields += compareStruct(t, name, s, witness[name])
		}
		if fields < 250 {
			t.Errorf("compared %d fields only", fields)
		}
	})
}

// dwarfStructs reads struct types of package runtime.
func dwarfStructs(t *testing.T, path string, names []string) map[string]*dwarf.StructType {
	t.Helper()
	d, err := mustELF(t, path).DWARF()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*dwarf.StructType{}
	for r := d.Reader(); len(found) < len(names); {
		e, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e == nil {
			break
		}
		if e.Tag == dwarf.TagCompileUnit {
			continue
		}
		for _, name := range names {
			if e.Tag != dwarf.TagStructType || e.Val(dwarf.AttrName) != name {
				continue
			}
			typ, err := d.Type(e.Offset)
			if err != nil {
				t.Fatal(err)
			}
			found[name], _ = typ.(*dwarf.StructType)
		}
		r.SkipChildren()
	}
	return found
}

// compareStruct compares fields by position, and counts them.
func compareStruct(t *testing.T, path string, s *Struct, want *dwarf.StructType) (fields int) {
	t.Helper()
	if s.Size != uint64(want.ByteSize) || len(s.Fields) != len(want.Field) {
		t.Errorf("%s: %d bytes in %d fields, DWARF says %d in %d", path, s.Size, len(s.Fields), want.ByteSize, len(want.Field))
		return 0
	}
	for i, fl := range s.Fields {
		w := want.Field[i]
		if fl.Name != w.Name || fl.Offset != uint64(w.ByteOffset) || fl.Size != uint64(w.Type.Size()) {
			t.Errorf("%s: field %s at %d of %d bytes, DWARF says %s at %d of %d",
				path, fl.Name, fl.Offset, fl.Size, w.Name, w.ByteOffset, w.Type.Size())
		}
		typ := w.Type
		for {
			named, ok := typ.(*dwarf.TypedefType)
			if !ok {
				break
			}
			typ = named.Type
		}
		fields++
		if inner, ok := typ.(*dwarf.StructType); ok && fl.Struct != nil {
			fields += compareStruct(t, path+"."+fl.Name, fl.Struct, inner)
		}
	}
	return fields
}

func TestOffset(t *testing.T) {
	inner := &Struct{Name: "b", Size: 16, Fields: []Field{{Name: "x", Size: 8}, {Name: "y", Offset: 8, Size: 8}}}
	s := &Struct{Name: "a", Size: 64, Fields: []Field{
		{Name: "first", Size: 8},
		{Name: "plain", Offset: 8, Size: 16, Struct: inner},
		{Name: "b", Offset: 24, Size: 16, Struct: inner, Embedded: true},
		{Name: "x", Offset: 40, Size: 8},
	}}
	for _, test := range []struct {
		path string
		want uint64
		ok   bool
	}{
		{"first", 0, true},
		{"plain", 8, true},
		{"plain.y", 16, true},
		{"b.y", 32, true},
		{"y", 32, true}, // promoted from b
		{"x", 40, true}, // hides the one of b
		{"first.x", 0, false},
		{"plain.z", 0, false},
		{"z", 0, false},
		{"", 0, false},
		{"plain.", 0, false},
	} {
		if got, ok := s.Offset(test.path); got != test.want || ok != test.ok {
			t.Errorf("Offset(%q) = %d, %v, want %d, %v", test.path, got, ok, test.want, test.ok)
		}
	}
}

func TestStructNone(t *testing.T) {
	f := mustOpen(t, testenv.BuildTarget(t, "idle", testenv.Build{Go: "1.27"}))
	for _, name := range []string{"", "g", "runtime.nothing", "runtime.allgs", "sync.Mutex"} {
		if s, err := f.Struct(name); !errors.Is(err, ErrNoSymbol) {
			t.Errorf("Struct(%q) = %v, %v, want ErrNoSymbol", name, s, err)
		}
	}
}

// TestCyclicStruct makes a field of runtime.g a runtime.g: its descriptor then
// contains itself.
func TestCyclicStruct(t *testing.T) {
	data := readTarget(t, testenv.Build{Go: "1.27"})
	f := mustNew(t, data)
	lo, hi := f.typeRange()
	g := uint64(0)
	for addr := lo; addr < hi; addr += 8 {
		if _, ok := f.structNamed(addr, "runtime.g"); ok {
			g = addr
			break
		}
	}
	fields, ok := f.u64(g + structFields)
	off, held := f.FileOffset(fields + fieldType)
	if !ok || !held {
		t.Fatalf("fields of runtime.g at %#x", fields)
	}
	binary.LittleEndian.PutUint64(data[off:], g)
	if s, err := mustNew(t, data).Struct("runtime.g"); !errors.Is(err, ErrNoSymbol) {
		t.Errorf("Struct of a cyclic descriptor: %v, %v, want ErrNoSymbol", s, err)
	}
}
