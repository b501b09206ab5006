package gobinary

import (
	"cmp"
	"debug/elf"
	"encoding/binary"
	"slices"
)

// A reloc is a relative relocation: at load time the word at addr becomes value
// plus the load bias.
type reloc struct{ addr, value uint64 }

// relaSize is the size of an Elf64_Rela: r_offset, r_info, r_addend, 8 bytes each.
const relaSize = 24

// relocated is the value that the loader puts at addr, before the load bias;
// false if no relative relocation applies there.
//
// Only DT_RELA matters: the words that packed relocations (DT_RELR) name hold
// their values in the file already.
func (f *File) relocated(addr uint64) (uint64, bool) {
	f.relocate.Do(func() { f.relocs = f.readRelocs() })
	i, ok := slices.BinarySearchFunc(f.relocs, addr, func(r reloc, a uint64) int { return cmp.Compare(r.addr, a) })
	if !ok {
		return 0, false
	}
	return f.relocs[i].value, true
}

// readRelocs reads the table that PT_DYNAMIC names, sorted by address. Section
// headers may be missing, so they are not asked.
func (f *File) readRelocs() []reloc {
	table, size := f.relaTable()
	if !f.held(table, size) {
		return nil
	}
	relative := uint32(elf.R_X86_64_RELATIVE)
	if f.arch == ARM64 {
		relative = uint32(elf.R_AARCH64_RELATIVE)
	}
	w := window{f: f}
	rs := make([]reloc, 0, size/relaSize)
	for off := uint64(0); off+relaSize <= size; off += relaSize {
		b := w.at(table+off, relaSize)
		if b == nil {
			break
		}
		if binary.LittleEndian.Uint32(b[8:]) == relative { // the low half of r_info
			rs = append(rs, reloc{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[16:])})
		}
	}
	byAddr := func(a, b reloc) int { return cmp.Compare(a.addr, b.addr) }
	if !slices.IsSortedFunc(rs, byAddr) {
		slices.SortStableFunc(rs, byAddr)
	}
	return rs
}

// relaTable is the address and the size in bytes of the relocation table, 0 and
// 0 if there is none.
func (f *File) relaTable() (addr, size uint64) {
	for _, p := range f.header.Progs {
		if p.Type != elf.PT_DYNAMIC {
			continue
		}
		w := window{f: f}
		for off := uint64(0); off+16 <= p.Filesz; off += 16 {
			b := w.at(p.Vaddr+off, 16)
			if b == nil {
				return 0, 0
			}
			value := binary.LittleEndian.Uint64(b[8:])
			switch elf.DynTag(binary.LittleEndian.Uint64(b)) {
			case elf.DT_RELA:
				addr = value
			case elf.DT_RELASZ:
				size = value
			case elf.DT_NULL:
				return addr, size
			}
		}
	}
	return addr, size
}
