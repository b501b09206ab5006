package corefile

import (
	"debug/elf"
	"fmt"
	"io"
	"math"
	"slices"

	"gopherscope/internal/process"
)

var _ process.Memory = (*File)(nil)

// load is a range of memory: a program header of type PT_LOAD. The file holds the
// first filesz bytes of it. The rest was in memory, but the kernel did not write
// it (fs/coredump.c, vma_dump_size); unlike in an executable it is not zeros.
// Pages within filesz that were never touched are holes in the file, and read as
// the zeros that they were.
type load struct {
	start, end uint64 // addresses, end excluded
	off        uint64 // in the file
	filesz     uint64 // without what was cut off
	cut        bool   // the file should hold more
	flags      elf.ProgFlag
}

// addLoad takes a program header of type PT_LOAD.
func (f *File) addLoad(p elf.Prog64) error {
	if p.Memsz == 0 && p.Filesz == 0 {
		return nil
	}
	if p.Vaddr+p.Memsz-1 < p.Vaddr || p.Filesz > p.Memsz {
		return fmt.Errorf("%w: bad segment at %#x", ErrNotes, p.Vaddr)
	}
	l := load{start: p.Vaddr, end: p.Vaddr + p.Memsz, off: p.Off, filesz: p.Filesz, flags: elf.ProgFlag(p.Flags)}
	if l.end < l.start { // up to the last address of all
		l.end = ^uint64(0)
	}
	if held := f.size - min(p.Off, f.size); l.filesz > held {
		f.missing += l.filesz - held
		l.filesz, l.cut = held, true
	}
	f.loads = append(f.loads, l)
	return nil
}

// loadAt is the range that contains addr, or nil.
func (f *File) loadAt(addr uint64) *load {
	i, found := slices.BinarySearchFunc(f.loads, addr, func(l load, addr uint64) int {
		return compare(l.start, l.end, addr)
	})
	if !found {
		return nil
	}
	return &f.loads[i]
}

// compare says whether a range is below an address, contains it or is above it,
// for a binary search.
func compare(start, end, addr uint64) int {
	switch {
	case end <= addr:
		return -1
	case start > addr:
		return 1
	}
	return 0
}

// ReadMem reads the len(b) bytes at addr: those of the core file, and where it
// has none those of the executable. The error for memory that neither of them
// holds is process.ErrBadAddress; b then holds an undefined prefix.
func (f *File) ReadMem(addr uint64, b []byte) error {
	fail := func(err error) error { return fmt.Errorf("core file: %d bytes at %#x: %w", len(b), addr, err) }
	if addr > math.MaxUint64-uint64(len(b)) {
		return fail(process.ErrBadAddress)
	}
	for at, rest := addr, b; len(rest) > 0; {
		n, err := f.readHeld(at, rest)
		if n == 0 && err == nil {
			n, err = f.exe.read(at, rest)
		}
		switch {
		case err != nil:
			return fail(err)
		case n == 0:
			return fail(fmt.Errorf("%w: %s", process.ErrBadAddress, f.why(at)))
		}
		at, rest = at+uint64(n), rest[n:]
	}
	return nil
}

// ReadMany reads several pieces of memory, in their order, and returns how many
// were read whole before the first that was not. The error is that of ReadMem.
func (f *File) ReadMany(reads []process.MemRead) (int, error) {
	for i, r := range reads {
		if err := f.ReadMem(r.Addr, r.Buf); err != nil {
			return i, err
		}
	}
	return len(reads), nil
}

// readHeld reads as many of the bytes at addr as the core file holds in one
// piece; 0 if it does not hold the first.
func (f *File) readHeld(addr uint64, b []byte) (int, error) {
	l := f.loadAt(addr)
	if l == nil || addr-l.start >= l.filesz {
		return 0, nil
	}
	skip := addr - l.start
	n := min(uint64(len(b)), l.filesz-skip)
	return int(n), f.readFull(b[:n], l.off+skip)
}

// why says why there is nothing at addr.
func (f *File) why(addr uint64) string {
	switch l := f.loadAt(addr); {
	case l == nil:
		return "not in the file"
	case l.cut:
		return "cut off"
	}
	return "not dumped"
}

// executable is the file that stands for memory that the core file does not
// hold. The zero executable stands for none.
type executable struct {
	r    io.ReaderAt
	maps []process.Mapping // where the process had it mapped, by address
	segs []process.Segment
}

// read reads as many of the bytes at addr as are of one read-only segment; 0 if
// the first is not. A segment that the process could write may have changed.
func (e *executable) read(addr uint64, b []byte) (int, error) {
	i, found := slices.BinarySearchFunc(e.maps, addr, func(m process.Mapping, addr uint64) int {
		return compare(m.Start, m.End, addr)
	})
	if !found {
		return 0, nil
	}
	m := &e.maps[i]
	off := m.Offset + addr - m.Start
	for _, s := range e.segs {
		if s.Flags&elf.PF_W != 0 || off < s.Off || off-s.Off >= s.Filesz {
			continue
		}
		n := min(uint64(len(b)), m.End-addr, s.Filesz-(off-s.Off))
		if got, err := e.r.ReadAt(b[:n], int64(off)); uint64(got) < n {
			return 0, fmt.Errorf("executable: %w", err)
		}
		return int(n), nil
	}
	return 0, nil
}
