package gobinary

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Errors of DWARFOffsets, which say that there is no witness, not that it
// disagrees.
var (
	ErrNoDWARF     = errors.New("no DWARF")
	ErrDWARFTooBig = errors.New("DWARF too big to look into")
)

// Bounds of what is read of DWARF, in bytes when unpacked.
const (
	maxDWARF   = 64 << 20 // of units, and of abbreviations gone through
	maxAbbrevs = 16 << 20 // of .debug_abbrev
	maxUnitDIE = 4 << 10  // of a unit's first entry, up to its name
)

// DWARFOffsets looks up fields of struct types of package runtime in the file's
// DWARF: types maps a type's name to paths of fields ("sched.pc"), the result has
// their offsets in bytes. What is not there is missing in the result.
//
// It is a witness for the type descriptors, not needed to read a file. It is
// ErrNoDWARF when the file has none (stripped, -w, or without section headers)
// or none of the types, and ErrDWARFTooBig when they do not come up in the first
// 64 MiB.
func (f *File) DWARFOffsets(types map[string][]string) (map[string]map[string]uint64, error) {
	out, err := f.dwarfOffsets(types)
	if err != nil {
		return nil, fmt.Errorf("read DWARF: %w", err)
	}
	return out, nil
}

func (f *File) dwarfOffsets(types map[string][]string) (map[string]map[string]uint64, error) {
	s, err := f.dwarfUnits()
	if err != nil {
		return nil, err
	}
	// The linker makes a unit for the Go files of package runtime and one for
	// each of its assembly files. The former has the types of all packages.
	for {
		u, err := s.next()
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: no types of package runtime", ErrNoDWARF)
		}
		if err != nil {
			return nil, fmt.Errorf("units: %w", err)
		}
		if u == nil {
			continue
		}
		if out := u.offsets(types); len(out) > 0 {
			return out, nil
		}
	}
}

// dwarfUnits begins a scan of the file's units.
func (f *File) dwarfUnits() (*unitScanner, error) {
	abbrevs, err := f.dwarfSection("abbrev")
	if err != nil {
		return nil, err
	}
	table, err := io.ReadAll(io.LimitReader(abbrevs, maxAbbrevs+1))
	if err != nil {
		return nil, fmt.Errorf("abbreviations: %w", err)
	}
	if len(table) > maxAbbrevs {
		return nil, fmt.Errorf("abbreviations: %w", ErrDWARFTooBig)
	}
	info, err := f.dwarfSection("info")
	if err != nil {
		return nil, err
	}
	return &unitScanner{r: bufio.NewReaderSize(info, chunkSize), abbrevs: table, left: maxDWARF}, nil
}

// dwarfSection opens a DWARF section to be read from its start, unpacked.
func (f *File) dwarfSection(name string) (io.Reader, error) {
	if s := f.elf().Section(".debug_" + name); s != nil && s.Type != elf.SHT_NOBITS {
		return s.Open(), nil
	}
	s := f.elf().Section(".zdebug_" + name) // cmd/link up to Go 1.18
	if s == nil || s.Type == elf.SHT_NOBITS {
		return nil, ErrNoDWARF
	}
	var h [12]byte // "ZLIB" and the unpacked size
	if _, err := s.ReadAt(h[:], 0); err != nil || string(h[:4]) != "ZLIB" {
		return nil, fmt.Errorf("%w: bad section %s", ErrNoDWARF, s.Name)
	}
	r, err := zlib.NewReader(io.NewSectionReader(s, int64(len(h)), 1<<62))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	return r, nil
}

// A unitScanner goes through the units of .debug_info in order.
type unitScanner struct {
	r       *bufio.Reader
	abbrevs []byte // .debug_abbrev
	at      uint64 // offset of the next unit
	left    int64  // how many bytes may still be looked at
}

// spend takes n bytes off what may be looked at.
func (s *unitScanner) spend(n uint64) error {
	if n > uint64(s.left) {
		return ErrDWARFTooBig
	}
	s.left -= int64(n)
	return nil
}

// next reads the next unit if it is that of package runtime; any other unit is
// skipped, and the result is nil. io.EOF after the last unit.
func (s *unitScanner) next() (*dwarfUnit, error) {
	head, err := s.r.Peek(maxUnitDIE)
	if len(head) == 0 {
		return nil, err
	}
	u, size, err := parseUnitHeader(head)
	if err != nil {
		return nil, fmt.Errorf("at %#x: %w", s.at, err)
	}
	u.base, s.at = s.at, s.at+size
	if err := s.spend(size); err != nil {
		return nil, err
	}
	mine, err := s.isRuntime(u)
	if err != nil {
		return nil, err
	}
	if !mine {
		_, err := s.r.Discard(int(size))
		return nil, err
	}
	// A buffer that grows: the header's word for the size is not trusted.
	var b bytes.Buffer
	if _, err := io.CopyN(&b, s.r, int64(size)); err != nil {
		return nil, fmt.Errorf("at %#x: %w", u.base, err)
	}
	u.data = b.Bytes()
	if u.abbrevs, _, err = parseAbbrevs(s.abbrevs, u.abbrevOff, 0); err != nil {
		return nil, err
	}
	return u, nil
}

// isRuntime says whether u, of which there is the beginning, is package
// runtime's. Only the abbreviation of its first entry is looked up.
func (s *unitScanner) isRuntime(u *dwarfUnit) (bool, error) {
	if !u.compiles {
		return false, nil
	}
	c := dwarfCursor{b: u.data, pos: int(u.first)}
	code := c.uleb()
	if c.bad || code == 0 {
		return false, nil
	}
	var n int
	var err error
	if u.abbrevs, n, err = parseAbbrevs(s.abbrevs, u.abbrevOff, code); err != nil {
		return false, err
	}
	if err := s.spend(uint64(n)); err != nil {
		return false, err
	}
	d, _ := u.entry(u.first)
	return d.tag == tagUnit && string(d.name) == "runtime", nil
}

// parseUnitHeader reads the header at the start of b, and returns the size of
// the unit with its header. The unit's data is b. DWARF 5, 7.5.1.
func parseUnitHeader(b []byte) (*dwarfUnit, uint64, error) {
	u := &dwarfUnit{data: b, offsetSize: 4, compiles: true}
	c := dwarfCursor{b: b}
	size := c.uint(4)
	if size == 0xffffffff {
		u.offsetSize, size = 8, c.uint(8)
	}
	size += uint64(c.pos)
	switch u.version = c.uint(2); u.version {
	case 2, 3, 4:
		u.abbrevOff, u.addrSize = c.uint(u.offsetSize), int(c.uint(1))
	case 5:
		u.compiles = c.uint(1) == 1 // DW_UT_compile
		u.addrSize, u.abbrevOff = int(c.uint(1)), c.uint(u.offsetSize)
	default:
		u.compiles = false
	}
	u.first = uint64(c.pos)
	if c.bad || size < u.first || size > 1<<40 {
		return nil, 0, errBadDWARF
	}
	return u, size, nil
}

// le reads a little-endian number of 1, 2, 4 or 8 bytes.
func le(b []byte) uint64 {
	var full [8]byte
	copy(full[:], b)
	return binary.LittleEndian.Uint64(full[:])
}
