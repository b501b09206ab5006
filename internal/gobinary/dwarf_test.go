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

// TestDWARFForms reads a value of each form; the next byte is 0xee.
func TestDWARFForms(t *testing.T) {
	tests := []struct {
		form    uint64
		bytes   string
		num     uint64
		text    string
		becomes uint64 // the form in the end, if it is another
	}{
		{form: 0x01, bytes: "\x08\x07\x06\x05\x04\x03\x02\x01", num: 0x0102030405060708}, // addr
		{form: 0x03, bytes: "\x02\x00ab", text: "ab"},                                    // block2
		{form: 0x04, bytes: "\x02\x00\x00\x00ab", text: "ab"},                            // block4
		{form: 0x05, bytes: "\x02\x01", num: 0x0102},                                     // data2
		{form: 0x08, bytes: "ab\x00", text: "ab"},                                        // string
		{form: 0x09, bytes: "\x02ab", text: "ab"},                                        // block
		{form: 0x0a, bytes: "\x02ab", text: "ab"},                                        // block1
		{form: 0x0b, bytes: "\x02", num: 2},                                              // data1
		{form: 0x0d, bytes: "\x82\x01", num: 130},                                        // sdata
		{form: 0x0e, bytes: "\x02\x00\x00\x00", num: 2},                                  // strp
		{form: 0x0f, bytes: "\xff\xff\x03", num: 0xffff},                                 // udata
		{form: 0x10, bytes: "\x02\x00\x00\x01", num: 0x01000002},                         // ref_addr
		{form: 0x16, bytes: "\x0b\x07", num: 7, becomes: 0x0b},                           // indirect
		{form: 0x17, bytes: "\x02\x00\x00\x00", num: 2},                                  // sec_offset
		{form: 0x18, bytes: "\x01\x9c", text: "\x9c"},                                    // exprloc
		{form: 0x19, bytes: ""},                                                          // flag_present
		{form: 0x1b, bytes: "\x81\x01", num: 129},                                        // addrx
		{form: 0x1e, bytes: "0123456789abcdef", num: 0x3736353433323130},                 // data16
		{form: 0x21, bytes: "", num: 42},                                                 // implicit_const
		{form: 0x27, bytes: "\x01\x02\x03", num: 0x030201},                               // strx3
	}
	for _, tt := range tests {
		c := dwarfCursor{b: []byte(tt.bytes + "\xee"), offsetSize: 4, addrSize: 8}
		num, text, form := c.value(dwarfAttr{attr: attrName, form: tt.form, implicit: 42})
		if tt.becomes == 0 {
			tt.becomes = tt.form
		}
		if num != tt.num || string(text) != tt.text || form != tt.becomes {
			t.Errorf("form %#x: %d, %q, %#x, want %d, %q, %#x", tt.form, num, text, form, tt.num, tt.text, tt.becomes)
		}
		if next := c.uint(1); c.bad || next != 0xee {
			t.Errorf("form %#x: followed by %#x, bad %v", tt.form, next, c.bad)
		}
		for n := range tt.bytes {
			c := dwarfCursor{b: []byte(tt.bytes[:n]), offsetSize: 4, addrSize: 8}
			if c.value(dwarfAttr{form: tt.form}); !c.bad {
				t.Errorf("form %#x of %d bytes is read from %d", tt.form, len(tt.bytes), n)
			}
		}
	}
	c := dwarfCursor{b: make([]byte, 16)}
	if c.value(dwarfAttr{form: 0x7f}); !c.bad {
		t.Error("an unknown form is read")
	}
	c = dwarfCursor{b: bytes.Repeat([]byte{0xff}, 16)}
	if c.uleb(); !c.bad {
		t.Error("a number without end is read")
	}
}
