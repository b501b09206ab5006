package gobinary

import (
	"bufio"
	"bytes"
	"debug/dwarf"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gopherscope/internal/testenv"
)

// dwarfPaths are all fields of a struct and of the structs in it, by path, as
// debug/dwarf has them.
func dwarfPaths(typ dwarf.Type, prefix string, base uint64, out map[string]uint64) {
	if def, ok := typ.(*dwarf.TypedefType); ok {
		typ = def.Type
	}
	s, ok := typ.(*dwarf.StructType)
	if !ok {
		return
	}
	for _, fld := range s.Field {
		off := base + uint64(fld.ByteOffset)
		out[prefix+fld.Name] = off
		dwarfPaths(fld.Type, prefix+fld.Name+".", off, out)
	}
}

// TestDWARFOffsets compares with debug/dwarf: all fields of some types, in the
// formats that Go's linkers have written: .zdebug sections up to 1.18, version 5
// from 1.25 on, and between units of C code.
func TestDWARFOffsets(t *testing.T) {
	for _, b := range []testenv.Build{{Go: "1.18"}, {Go: "1.19"}, {Go: "1.24", PIE: true}, {Go: "1.25", Cgo: true}, {Go: "1.27", GOARCH: "arm64"}} {
		t.Run(b.String(), func(t *testing.T) {
			path := testenv.BuildTarget(t, "coro", b)
			d, err := mustELF(t, path).DWARF()
			if err != nil {
				t.Fatal(err)
			}
			names := map[string]bool{"runtime.g": true, "runtime.p": true, "runtime.hchan": true, "runtime.schedt": true}
			want := map[string]map[string]uint64{}
			for r := d.Reader(); len(want) < len(names); {
				e, err := r.Next()
				if err != nil || e == nil {
					t.Fatalf("debug/dwarf has %d types of %d: %v", len(want), len(names), err)
				}
				name, _ := e.Val(dwarf.AttrName).(string)
				if e.Tag != dwarf.TagStructType || !names[name] {
					continue
				}
				typ, err := d.Type(e.Offset)
				if err != nil {
					t.Fatal(err)
				}
				want[name] = map[string]uint64{}
				dwarfPaths(typ, "", 0, want[name])
			}
			asked := map[string][]string{"runtime.nothing": {"x"}}
			for name, fields := range want {
				if len(fields) < 10 {
					t.Errorf("%s has %d fields only", name, len(fields))
				}
				for path := range fields {
					asked[name] = append(asked[name], path, path+"x", path+".x.y")
				}
			}
			got, err := mustOpen(t, path).DWARFOffsets(asked)
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("%v, -debug/dwarf +DWARFOffsets:\n%s", err, diff)
			}
		})
	}
}

func TestDWARFOffsetsNone(t *testing.T) {
	f := mustOpen(t, testenv.BuildTarget(t, "coro", testenv.Build{Go: "1.27"}))
	for _, types := range []map[string][]string{nil, {"runtime.nothing": {"x"}}} {
		if got, err := f.DWARFOffsets(types); !errors.Is(err, ErrNoDWARF) {
			t.Errorf("DWARFOffsets(%v) = %v, %v, want ErrNoDWARF", types, got, err)
		}
	}
}

// A DWARF 5 unit of package runtime: struct type runtime.t {a int32 at 8}, and
// the abbreviations that it uses.
var (
	testAbbrevs = []byte{
		1, tagUnit, 1, attrName, formString, 0, 0,
		2, tagStruct, 1, attrName, formString, 0, 0,
		3, tagMember, 0, attrName, formString, attrMember, 0x0f, 0, 0,
		0,
	}
	testUnit = append([]byte{37, 0, 0, 0, 5, 0, 1, 8, 0, 0, 0, 0},
		"\x01runtime\x00\x02runtime.t\x00\x03a\x00\x08\x00\x00\x00\x00\x00"...)
)

// scanUnits looks a type up as DWARFOffsets does, in units given as bytes.
func scanUnits(info, abbrevs []byte, limit int64) (map[string]map[string]uint64, error) {
	s := unitScanner{r: bufio.NewReaderSize(bytes.NewReader(info), chunkSize), abbrevs: abbrevs, left: limit}
	for {
		u, err := s.next()
		if err != nil {
			return nil, err
		}
		if u == nil {
			continue
		}
		if out := u.offsets(map[string][]string{"runtime.t": {"a", "a.b"}}); len(out) > 0 {
			return out, nil
		}
	}
}

func TestDWARFUnits(t *testing.T) {
	want := map[string]map[string]uint64{"runtime.t": {"a": 8}}
	other := bytes.Replace(testUnit, []byte("\x01runtime"), []byte("\x01runtims"), 1)
	typeUnit := bytes.Clone(testUnit)
	typeUnit[6] = 2 // DW_UT_type
	tests := []struct {
		name  string
		info  []byte
		limit int64
		err   error
	}{
		{"one", testUnit, 1 << 10, nil},
		{"second", append(bytes.Clone(other), testUnit...), 1 << 10, nil},
		{"after a type unit", append(bytes.Clone(typeUnit), testUnit...), 1 << 10, nil},
		{"none", other, 1 << 10, io.EOF},
		{"empty", nil, 1 << 10, io.EOF},
		{"limit", testUnit, int64(len(testUnit)) - 1, ErrDWARFTooBig},
		{"limit on units before", append(bytes.Clone(other), testUnit...), int64(len(testUnit)) + 20, ErrDWARFTooBig},
		{"cut in the header", testUnit[:8], 1 << 10, errBadDWARF},
		{"cut", testUnit[:30], 1 << 10, io.EOF},
		{"size of 0", make([]byte, 64), 1 << 10, errBadDWARF},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := scanUnits(tt.info, testAbbrevs, tt.limit)
			if tt.err != nil {
				if !errors.Is(err, tt.err) {
					t.Errorf("%v, %v, want %v", got, err, tt.err)
				}
				return
			}
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("%v\n%s", err, diff)
			}
		})
	}
}

// FuzzDWARF: no DWARF may make the reader panic or hang.
func FuzzDWARF(f *testing.F) {
	f.Add(testUnit, testAbbrevs)
	f.Add(append(bytes.Clone(testUnit), testUnit...), testAbbrevs)
	f.Fuzz(func(t *testing.T, info, abbrevs []byte) {
		scanUnits(info, abbrevs, 1<<20)
	})
}
