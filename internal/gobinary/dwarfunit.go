package gobinary

import (
	"bytes"
	"errors"
	"iter"
	"strings"
)

// errBadDWARF: the bytes are no DWARF.
var errBadDWARF = errors.New("malformed DWARF")

// The tags, attributes and forms that matter. DWARF 5, 7.5.3 to 7.5.6.
const (
	tagMember  = 0x0d
	tagUnit    = 0x11
	tagStruct  = 0x13
	tagTypedef = 0x16

	attrName   = 0x03
	attrMember = 0x38 // DW_AT_data_member_location
	attrType   = 0x49

	formBlock2   = 0x03
	formBlock4   = 0x04
	formString   = 0x08
	formBlock    = 0x09
	formBlock1   = 0x0a
	formRefAddr  = 0x10
	formRef1     = 0x11
	formRefUdata = 0x15
	formIndirect = 0x16
	formExprloc  = 0x18
	formImplicit = 0x21 // DW_FORM_implicit_const
)

// maxTypedefs bounds a chain of typedefs.
const maxTypedefs = 8

// A dwarfUnit is one unit of .debug_info.
type dwarfUnit struct {
	data       []byte // from the unit's header on
	base       uint64 // offset of data in .debug_info
	first      uint64 // offset in data of the first entry
	version    uint64
	offsetSize int // 4 or 8
	addrSize   int
	compiles   bool // it is a compile unit of a known version
	abbrevOff  uint64
	abbrevs    map[uint64]dwarfAbbrev
}

// A dwarfAbbrev is the shape of entries: which attributes they have and how those
// are written.
type dwarfAbbrev struct {
	tag      uint64
	children bool
	attrs    []dwarfAttr
}

type dwarfAttr struct {
	attr, form uint64
	implicit   uint64
}

// A dwarfEntry is a debugging information entry, as far as it matters.
type dwarfEntry struct {
	off      uint64 // offset in the unit's data
	tag      uint64 // 0: end of a list of children
	children bool
	name     []byte
	typ      uint64 // offset in .debug_info of its type
	member   uint64 // offset of a member in its struct
}

// parseAbbrevs reads the abbreviations at off of the section b, up to the one
// with the code last unless that is 0. It also returns how many bytes it read.
func parseAbbrevs(b []byte, off, last uint64) (map[uint64]dwarfAbbrev, int, error) {
	if off > uint64(len(b)) {
		return nil, 0, errBadDWARF
	}
	c := dwarfCursor{b: b[off:]}
	abbrevs := map[uint64]dwarfAbbrev{}
	for {
		code := c.uleb()
		if code == 0 || c.bad {
			return abbrevs, c.pos, nil
		}
		a := dwarfAbbrev{tag: c.uleb(), children: c.uint(1) == 1}
		for {
			at := dwarfAttr{attr: c.uleb(), form: c.uleb()}
			if at.form == formImplicit {
				at.implicit = c.uleb()
			}
			if at.attr == 0 && at.form == 0 || c.bad {
				break
			}
			a.attrs = append(a.attrs, at)
		}
		abbrevs[code] = a
		if code == last {
			return abbrevs, c.pos, nil
		}
	}
}

// entry reads the entry at off in the unit's data, and returns the offset of
// what follows it: 0 when it cannot be read.
func (u *dwarfUnit) entry(off uint64) (d dwarfEntry, next uint64) {
	if off >= uint64(len(u.data)) {
		return dwarfEntry{}, 0
	}
	c := dwarfCursor{b: u.data, pos: int(off), offsetSize: u.offsetSize, addrSize: u.addrSize}
	code := c.uleb()
	d.off = off
	if code == 0 {
		return d, uint64(c.pos)
	}
	a, ok := u.abbrevs[code]
	if !ok {
		return dwarfEntry{}, 0
	}
	d.tag, d.children = a.tag, a.children
	for _, at := range a.attrs {
		num, text, form := c.value(at)
		switch {
		case at.attr == attrName && form == formString:
			d.name = text
		case at.attr == attrMember:
			d.member = num
		case at.attr == attrType && form == formRefAddr:
			d.typ = num
		case at.attr == attrType && form >= formRef1 && form <= formRefUdata:
			d.typ = u.base + num
		}
		if c.bad {
			// An entry cut off after its name is good enough to tell units apart.
			return d, 0
		}
	}
	return d, uint64(c.pos)
}

// children yields the children of the entry at off, not their children.
func (u *dwarfUnit) children(off uint64) iter.Seq[dwarfEntry] {
	return func(yield func(dwarfEntry) bool) {
		parent, at := u.entry(off)
		depth := 0
		if parent.children {
			depth = 1
		}
		for depth > 0 && at != 0 {
			var d dwarfEntry
			d, at = u.entry(at)
			switch {
			case d.tag == 0:
				depth--
			case depth == 1 && at != 0 && !yield(d):
				return
			}
			if d.children {
				depth++
			}
		}
	}
}

// offsets are the offsets of the fields of those types that the unit has.
func (u *dwarfUnit) offsets(types map[string][]string) map[string]map[string]uint64 {
	out := map[string]map[string]uint64{}
	for d := range u.children(u.first) {
		paths, wanted := types[string(d.name)]
		if !wanted || d.tag != tagStruct || out[string(d.name)] != nil {
			continue
		}
		offs := map[string]uint64{}
		for _, path := range paths {
			if off, ok := u.fieldOffset(d, strings.Split(path, ".")); ok {
				offs[path] = off
			}
		}
		out[string(d.name)] = offs
		if len(out) == len(types) {
			break
		}
	}
	return out
}

// fieldOffset is the offset of a field by its path in the struct d.
func (u *dwarfUnit) fieldOffset(d dwarfEntry, path []string) (uint64, bool) {
	sum := uint64(0)
	for _, name := range path {
		for range maxTypedefs {
			if d.tag != tagTypedef {
				break
			}
			d, _ = u.entry(d.typ - u.base)
		}
		if d.tag != tagStruct {
			return 0, false
		}
		found := false
		for m := range u.children(d.off) {
			if found = m.tag == tagMember && string(m.name) == name; found {
				sum += m.member
				d, _ = u.entry(m.typ - u.base)
				break
			}
		}
		if !found {
			return 0, false
		}
	}
	return sum, true
}

// A dwarfCursor reads values from b. Past the end it reads zeros and sets bad.
type dwarfCursor struct {
	b                    []byte
	pos                  int
	bad                  bool
	offsetSize, addrSize int
}

// take is the next n bytes.
func (c *dwarfCursor) take(n uint64) []byte {
	if c.bad || n > uint64(len(c.b)-c.pos) {
		c.bad = true
		return nil
	}
	b := c.b[c.pos : c.pos+int(n)]
	c.pos += int(n)
	return b
}

// uint is a number of n bytes, at most 8.
func (c *dwarfCursor) uint(n int) uint64 { return le(c.take(uint64(n))) }

// uleb is an unsigned LEB128 number; a signed one is read right if it is positive
// and small, as all that matter are.
func (c *dwarfCursor) uleb() uint64 {
	var v uint64
	for shift := 0; shift < 70; shift += 7 {
		b := c.uint(1)
		v |= b & 0x7f << shift
		if b&0x80 == 0 {
			return v
		}
	}
	c.bad = true
	return 0
}

// cstring is a string that ends in a NUL.
func (c *dwarfCursor) cstring() []byte {
	n := -1
	if !c.bad {
		n = bytes.IndexByte(c.b[c.pos:], 0)
	}
	if n < 0 {
		c.bad = true
		return nil
	}
	return c.take(uint64(n) + 1)[:n]
}

// fixedForms has the sizes of the forms of fixed size: -1 is that of an offset,
// -2 that of an address.
var fixedForms = map[uint64]int{
	0x01: -2, 0x05: 2, 0x06: 4, 0x07: 8, 0x0b: 1, 0x0c: 1, // addr, data2, data4, data8, data1, flag
	0x0e: -1, 0x10: -1, 0x17: -1, 0x1f: -1, 0x1d: -1, 0x1c: 4, // strp, ref_addr, sec_offset, line_strp, strp_sup, ref_sup4
	0x11: 1, 0x12: 2, 0x13: 4, 0x14: 8, 0x20: 8, 0x24: 8, // ref1 to ref8, ref_sig8, ref_sup8
	0x19: 0, 0x1e: 16, // flag_present, data16
	0x25: 1, 0x26: 2, 0x27: 3, 0x28: 4, 0x29: 1, 0x2a: 2, 0x2b: 3, 0x2c: 4, // strx1 to 4, addrx1 to 4
}

// value reads an attribute's value: a number, or the text of a string or block,
// and the form it has in the end.
func (c *dwarfCursor) value(at dwarfAttr) (num uint64, text []byte, form uint64) {
	form = at.form
	for form == formIndirect && !c.bad {
		form = c.uleb()
	}
	if size, ok := fixedForms[form]; ok {
		switch size {
		case -1:
			size = c.offsetSize
		case -2:
			size = c.addrSize
		}
		return le(c.take(uint64(size))), nil, form
	}
	switch form {
	case formString:
		text = c.cstring()
	case formBlock1:
		text = c.take(c.uint(1))
	case formBlock2:
		text = c.take(c.uint(2))
	case formBlock4:
		text = c.take(c.uint(4))
	case formBlock, formExprloc:
		text = c.take(c.uleb())
	case formImplicit:
		num = at.implicit
	case 0x0d, 0x0f, 0x15, 0x1a, 0x1b, 0x22, 0x23: // sdata, udata, ref_udata, strx, addrx, loclistx, rnglistx
		num = c.uleb()
	default:
		c.bad = true
	}
	return num, text, form
}
