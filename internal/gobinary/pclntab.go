package gobinary

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"iter"
)

// Magic numbers of the pclntab header (internal/abi/symtab.go, PCLnTabMagic).
const (
	magicGo12  = 0xfffffffb // Go 1.2 to 1.15
	magicGo116 = 0xfffffffa // Go 1.16 and 1.17
	magicGo118 = 0xfffffff0 // Go 1.18 and 1.19
	magicGo120 = 0xfffffff1 // Go 1.20 and later
)

// Offsets in the pclntab header (runtime/symtab.go, type pcHeader; the same from
// Go 1.18 to 1.27). The word at 24 was the text's start until Go 1.25 and is
// unused since: moduledata has it in all versions.
const (
	pclnNumFuncs  = 8
	pclnFuncNames = 32 // this one and the next four: offsets from the header
	pclnCUs       = 40
	pclnFiles     = 48
	pclnPCs       = 56
	pclnFuncs     = 64
	pclnSize      = 72
)

// A region is a table in the file: size bytes at addr.
type region struct{ addr, size uint64 }

// A pclntab is the header of the function table, and where its parts are.
type pclntab struct {
	addr  uint64
	go118 bool // the layout of Go 1.18 and 1.19
	nfunc int

	names region // NUL-terminated names of functions
	cus   region // per compilation unit: offsets in files, 4 bytes each
	files region // NUL-terminated names of files
	pcs   region // pc-value tables
	// funcs starts with the function table proper (ftab): nfunc pairs of 4 bytes,
	// offset of the entry from the text's start and offset of the function's
	// record in this region; then the end of the last function. The records follow.
	funcs region
}

// maxCandidates bounds the places that look like a pclntab which are tried.
const maxCandidates = 32

// findTables finds the pclntab together with the moduledata record that points
// to it: either alone may be a look-alike, such as a Go program embedded as data.
func (f *File) findTables() error {
	tried := 0
	for addr := range f.pclntabCandidates() {
		if tried++; tried > maxCandidates {
			break
		}
		t, ok := f.readPclntab(addr)
		if !ok {
			continue
		}
		if m, ok := f.findModule(&t); ok {
			f.table, f.module = t, m
			return nil
		}
	}
	return f.explainNoTables(tried)
}

// pclntabCandidates yields the addresses at which a pclntab may start: the
// section's, then all that bear its magic number. The section is missing when
// the system linker made a position-independent executable (up to Go 1.25, where
// the table is a part of .data.rel.ro), and when section headers are cut off.
func (f *File) pclntabCandidates() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for _, name := range []string{".gopclntab", ".data.rel.ro.gopclntab"} {
			if s := f.header.Section(name); s != nil && !yield(s.Addr) {
				return
			}
		}
		// The first 8 bytes: magic, two zeros, instruction quantum, pointer size.
		rest := f.quantum<<48 | 8<<56
		for _, s := range f.segs {
			for addr := range f.words(s, magicGo118|rest, magicGo120|rest) {
				if !yield(addr) {
					return
				}
			}
		}
	}
}

// readPclntab checks the header at addr. The regions' sizes are not known from
// it: they are set by readModule.
func (f *File) readPclntab(addr uint64) (pclntab, bool) {
	b, err := f.bytes(addr, pclnSize)
	if err != nil {
		return pclntab{}, false
	}
	word := func(off int) uint64 { return binary.LittleEndian.Uint64(b[off:]) }
	magic := word(0) & 0xffffffff
	if magic != magicGo118 && magic != magicGo120 || word(0)>>32 != f.quantum<<16|8<<24 {
		return pclntab{}, false
	}
	nfunc := word(pclnNumFuncs)
	if nfunc == 0 || nfunc > f.cache.size/8 { // 8 bytes each in the function table
		return pclntab{}, false
	}
	return pclntab{
		addr:  addr,
		go118: magic == magicGo118,
		nfunc: int(nfunc),
		names: region{addr: addr + word(pclnFuncNames)},
		cus:   region{addr: addr + word(pclnCUs)},
		files: region{addr: addr + word(pclnFiles)},
		pcs:   region{addr: addr + word(pclnPCs)},
		funcs: region{addr: addr + word(pclnFuncs)},
	}, true
}

// explainNoTables is the error for a file in which no function table was found
// among the tried places.
func (f *File) explainNoTables(tried int) error {
	if f.packedByUPX() {
		return fmt.Errorf("%w: packed with UPX (unpack it with upx -d)", ErrNoPclntab)
	}
	s := f.header.Section(".gopclntab")
	if s != nil {
		switch magic, _ := f.u32(s.Addr); magic {
		case magicGo12, magicGo116:
			return fmt.Errorf("%w: older than go1.18 by its function table", ErrUnsupportedGo)
		case magicGo118, magicGo120:
		default:
			return fmt.Errorf("%w: unknown magic number %#x (obfuscated?)", ErrNoPclntab, magic)
		}
	}
	if s == nil && tried == 0 && f.version.Text == "" {
		return ErrNotGo
	}
	return fmt.Errorf("%w: header without matching moduledata (damaged or obfuscated)", ErrNoPclntab)
}

// packedByUPX looks for the packer's mark, which follows the program headers.
func (f *File) packedByUPX() bool {
	b := make([]byte, min(1024, f.cache.size))
	if err := f.cache.read(b, 0); err != nil {
		return false
	}
	mark := binary.LittleEndian.Uint32([]byte("UPX!"))
	for i := int(elf.EI_NIDENT); i+4 <= len(b); i += 4 {
		if binary.LittleEndian.Uint32(b[i:]) == mark {
			return true
		}
	}
	return false
}
