package gobinary

import (
	"debug/elf"
	"fmt"
)

// Offsets in the moduledata record (runtime/symtab.go, type moduledata) that are
// the same from Go 1.18 to 1.27.
const (
	modHeader = 0   // *pcHeader
	modNames  = 8   // funcnametab []byte
	modCUs    = 32  // cutab []uint32
	modFiles  = 56  // filetab []byte
	modPCs    = 80  // pctab []byte
	modFuncs  = 104 // pclntable []byte
	modFtab   = 128 // ftab []functab
	modText   = 176 // text, etext uintptr
	modEText  = 184
)

// tailOffsets are offsets in the moduledata record that differ by version.
type tailOffsets struct{ types, etypes, gofunc uint64 }

var (
	tailGo118 = tailOffsets{280, 288, 304}
	tailGo120 = tailOffsets{296, 304, 320} // covctrs and ecovctrs came before end
	tailGo127 = tailOffsets{296, 312, 344} // typedesclen came after types, itaboffset and itabsize after etypes
)

// moduledata is what is needed of the runtime's record about the program.
type moduledata struct {
	addr          uint64
	text, etext   uint64 // Go code
	types, etypes uint64 // type descriptors; offsets of names are from types
	gofunc        uint64 // base of the functions' FUNCDATA offsets
}

// findModule finds the moduledata record of t and completes t from it. It is a
// section of its own from Go 1.26 on. Before, it is somewhere in the writable
// data: its first word holds the pclntab's address, or in a position-independent
// executable is relocated to it.
func (f *File) findModule(t *pclntab) (moduledata, bool) {
	if s := f.header.Section(".go.module"); s != nil {
		if m, ok := f.readModule(s.Addr, t); ok {
			return m, true
		}
	}
	f.relocated(0) // so that f.relocs is there
	for _, r := range f.relocs {
		if r.value != t.addr {
			continue
		}
		if m, ok := f.readModule(r.addr, t); ok {
			return m, true
		}
	}
	for _, s := range f.segs {
		if s.Flags&elf.PF_W == 0 {
			continue
		}
		for addr := range f.words(s, t.addr) {
			if m, ok := f.readModule(addr, t); ok {
				return m, true
			}
		}
	}
	return moduledata{}, false
}

// readModule checks that addr holds the moduledata record of t, by the slices
// that must be where t's header says, and takes t's sizes from them.
func (f *File) readModule(addr uint64, t *pclntab) (moduledata, bool) {
	if p, ok := f.u64(addr + modHeader); !ok || p != t.addr {
		return moduledata{}, false
	}
	for _, slice := range []struct {
		off  uint64
		elem uint64
		part *region
	}{
		{modNames, 1, &t.names},
		{modCUs, 4, &t.cus},
		{modFiles, 1, &t.files},
		{modPCs, 1, &t.pcs},
		{modFuncs, 1, &t.funcs},
	} {
		ptr, _ := f.u64(addr + slice.off)
		n, ok := f.u64(addr + slice.off + 8)
		if !ok || ptr != slice.part.addr || n > f.cache.size/slice.elem || !f.held(ptr, n*slice.elem) {
			return moduledata{}, false
		}
		slice.part.size = n * slice.elem
	}
	ftab, _ := f.u64(addr + modFtab)
	n, _ := f.u64(addr + modFtab + 8)
	if ftab != t.funcs.addr || n != uint64(t.nfunc)+1 || uint64(t.nfunc)*8+4 > t.funcs.size {
		return moduledata{}, false
	}
	text, _ := f.u64(addr + modText)
	etext, ok := f.u64(addr + modEText)
	s := f.segment(text)
	if !ok || s == nil || s.Flags&elf.PF_X == 0 || etext <= text || etext-s.Vaddr > s.Memsz {
		return moduledata{}, false
	}
	return moduledata{addr: addr, text: text, etext: etext}, true
}

// readModuleTail reads the rest of the moduledata record, for which the version
// has to be known.
func (f *File) readModuleTail() error {
	off := tailGo120
	switch {
	case f.table.go118:
		off = tailGo118
	case f.version.Minor >= 27:
		off = tailGo127
	}
	m := &f.module
	m.types, _ = f.u64(m.addr + off.types)
	m.etypes, _ = f.u64(m.addr + off.etypes)
	m.gofunc, _ = f.u64(m.addr + off.gofunc)
	if m.etypes <= m.types || !f.held(m.types, m.etypes-m.types) || !f.mapped(m.gofunc) {
		return fmt.Errorf("%w: moduledata at %#x is not as %s lays it out", ErrUnsupportedGo, m.addr, f.version)
	}
	return nil
}

// typeRange is the address range [lo, hi) of the type descriptors.
func (f *File) typeRange() (lo, hi uint64) { return f.module.types, f.module.etypes }
