package corefile

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

const (
	headerSize = 64 // Elf64_Ehdr
	progSize   = 56 // Elf64_Phdr
	shdrInfo   = 44 // of sh_info in Elf64_Shdr
	// manyProgs in e_phnum says that the number of program headers is in the
	// first section header (elf(5), PN_XNUM).
	manyProgs = 0xffff
	// maxProgs bounds the program headers: one for each mapping, of which the
	// kernel allows 65530 unless vm.max_map_count was raised.
	maxProgs = 1 << 22
)

// readHeaders reads the program headers. Package debug/elf would read the section
// headers too, which gcore writes at the end of the file, where a file that was
// cut short has none; and it does not know manyProgs.
func (f *File) readHeaders() ([]elf.Prog64, error) {
	var h elf.Header64
	var raw [headerSize]byte
	if err := f.readFull(raw[:min(headerSize, f.size)], 0); err != nil {
		return nil, err
	}
	if string(raw[:4]) != elf.ELFMAG {
		return nil, ErrNotELF
	}
	if f.size < headerSize {
		return nil, fmt.Errorf("%w: it ends in its header", ErrTruncated)
	}
	if err := f.checkIdent(raw[:]); err != nil {
		return nil, err
	}
	if _, err := binary.Decode(raw[:], binary.LittleEndian, &h); err != nil {
		return nil, err
	}
	n := uint64(h.Phnum)
	if n == manyProgs {
		var info [4]byte
		if err := f.readFull(info[:], h.Shoff+shdrInfo); err != nil {
			return nil, fmt.Errorf("number of program headers: %w", err)
		}
		n = uint64(binary.LittleEndian.Uint32(info[:]))
	}
	if n == 0 || n > maxProgs || h.Phentsize != progSize {
		return nil, fmt.Errorf("%w: %d program headers of %d bytes", ErrNotes, n, h.Phentsize)
	}
	if h.Phoff > f.size || n*progSize > f.size-h.Phoff {
		return nil, fmt.Errorf("%w: it ends in its program headers", ErrTruncated)
	}
	table := make([]byte, n*progSize)
	if err := f.readFull(table, h.Phoff); err != nil {
		return nil, fmt.Errorf("program headers: %w", err)
	}
	progs := make([]elf.Prog64, n)
	return progs, binary.Read(bytes.NewReader(table), binary.LittleEndian, progs)
}

// checkIdent says whether an ELF header is that of a core file that is
// understood.
func (f *File) checkIdent(raw []byte) error {
	if elf.Class(raw[elf.EI_CLASS]) != elf.ELFCLASS64 || elf.Data(raw[elf.EI_DATA]) != elf.ELFDATA2LSB {
		return fmt.Errorf("%w: not 64-bit little-endian", ErrArch)
	}
	if typ := elf.Type(binary.LittleEndian.Uint16(raw[16:])); typ != elf.ET_CORE {
		kind := typ.String()
		if typ == elf.ET_EXEC || typ == elf.ET_DYN {
			kind = "an executable or a library"
		}
		return fmt.Errorf("%w: it is %s", ErrNotCore, kind)
	}
	switch machine := elf.Machine(binary.LittleEndian.Uint16(raw[18:])); machine {
	case elf.EM_X86_64:
		f.arch = AMD64
	case elf.EM_AARCH64:
		f.arch = ARM64
	default:
		return fmt.Errorf("%w: %v", ErrArch, machine)
	}
	return nil
}

// readFull reads the len(b) bytes at off of the file; ErrTruncated at its end.
func (f *File) readFull(b []byte, off uint64) error {
	if off > f.size || uint64(len(b)) > f.size-off || off > math.MaxInt64 {
		return fmt.Errorf("%w: it ends at %d", ErrTruncated, f.size)
	}
	n, err := f.r.ReadAt(b, int64(off))
	switch {
	case n == len(b):
		return nil
	case errors.Is(err, io.EOF): // it has been cut meanwhile
		return fmt.Errorf("%w: it ends at %d", ErrTruncated, off+uint64(n))
	}
	return err
}
