package gobinary

import (
	"debug/dwarf"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Errors of DWARFOffsets, which say that there is no witness, not that it
// disagrees.
var (
	ErrNoDWARF     = errors.New("no DWARF")
	ErrDWARFTooBig = errors.New("DWARF too big to look into")
)

// maxDWARF bounds, in bytes, each DWARF section that is unpacked.
const maxDWARF = 48 << 20

// dwarfSections are the sections that types need, in the order of dwarf.New's
// arguments and then those that DWARF 5 adds.
var dwarfSections = []string{"abbrev", "info", "str", "line_str", "str_offsets", "addr"}

// DWARFOffsets looks up fields of struct types in the file's DWARF: types maps
// a type's name to paths of fields ("stack.lo"), the result has their offsets in
// bytes. It is a witness for the type descriptors, and gives up with
// ErrNoDWARF where there is none and ErrDWARFTooBig where it would take long.
func (f *File) DWARFOffsets(types map[string][]string) (map[string]map[string]uint64, error) {
	d, err := f.dwarf()
	if err != nil {
		return nil, err
	}
	out := map[string]map[string]uint64{}
	inRuntime := false
	for r := d.Reader(); len(out) < len(types); {
		e, err := r.Next()
		if err != nil {
			return nil, fmt.Errorf("read DWARF: %w", err)
		}
		if e == nil {
			break
		}
		name, _ := e.Val(dwarf.AttrName).(string)
		switch {
		case e.Tag == dwarf.TagCompileUnit:
			inRuntime = name == "runtime"
			if !inRuntime {
				r.SkipChildren()
			}
		case e.Tag == dwarf.TagStructType && inRuntime && types[name] != nil:
			if out[name], err = dwarfFields(d, e.Offset, types[name]); err != nil {
				return nil, err
			}
			r.SkipChildren()
		default:
			r.SkipChildren()
		}
	}
	return out, nil
}

// dwarfFields are the offsets of fields of the struct type at off.
func dwarfFields(d *dwarf.Data, off dwarf.Offset, paths []string) (map[string]uint64, error) {
	typ, err := d.Type(off)
	if err != nil {
		return nil, fmt.Errorf("read DWARF: %w", err)
	}
	out := map[string]uint64{}
	for _, path := range paths {
		at, sum, found := typ, int64(0), true
		for _, name := range strings.Split(path, ".") {
			var fld *dwarf.StructField
			if fld, found = dwarfField(at, name); !found {
				break
			}
			at, sum = fld.Type, sum+fld.ByteOffset
		}
		if found {
			out[path] = uint64(sum)
		}
	}
	return out, nil
}

func dwarfField(typ dwarf.Type, name string) (*dwarf.StructField, bool) {
	for {
		t, ok := typ.(*dwarf.TypedefType)
		if !ok {
			break
		}
		typ = t.Type
	}
	s, ok := typ.(*dwarf.StructType)
	if !ok {
		return nil, false
	}
	for _, fld := range s.Field {
		if fld.Name == name {
			return fld, true
		}
	}
	return nil, false
}

// dwarf opens the sections that types need, and no others.
func (f *File) dwarf() (*dwarf.Data, error) {
	found := map[string][]byte{}
	for _, name := range dwarfSections {
		s := f.header.Section(".debug_" + name)
		if s == nil {
			continue
		}
		if s.Size > maxDWARF {
			return nil, fmt.Errorf("%w: %s has %d bytes", ErrDWARFTooBig, s.Name, s.Size)
		}
		if s.Type == elf.SHT_NOBITS {
			return nil, ErrNoDWARF
		}
		b, err := io.ReadAll(io.LimitReader(s.Open(), maxDWARF))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", s.Name, err)
		}
		found[name] = b
	}
	if found["info"] == nil || found["abbrev"] == nil {
		return nil, ErrNoDWARF
	}
	d, err := dwarf.New(found["abbrev"], nil, nil, found["info"], nil, nil, nil, found["str"])
	if err != nil {
		return nil, fmt.Errorf("read DWARF: %w", err)
	}
	for _, name := range dwarfSections[3:] {
		if b := found[name]; b != nil {
			if err := d.AddSection(".debug_"+name, b); err != nil {
				return nil, fmt.Errorf("read DWARF: %w", err)
			}
		}
	}
	return d, nil
}
