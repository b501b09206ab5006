package gobinary

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
)

// errAddress is a read outside of what the file holds.
var errAddress = errors.New("address not in file")

// segment is the one that maps addr, or nil.
func (f *File) segment(addr uint64) *Segment {
	for i := range f.segs {
		if s := &f.segs[i]; addr-s.Vaddr < s.Memsz && addr >= s.Vaddr {
			return s
		}
	}
	return nil
}

// mapped says whether addr lies in a segment, be it in memory only (.bss).
func (f *File) mapped(addr uint64) bool { return f.segment(addr) != nil }

// writable says whether addr lies in a segment that is loaded writable.
func (f *File) writable(addr uint64) bool {
	s := f.segment(addr)
	return s != nil && s.Flags&elf.PF_W != 0
}

// held says whether the file holds all of the n bytes at addr.
func (f *File) held(addr, n uint64) bool {
	s := f.segment(addr)
	return s != nil && addr-s.Vaddr <= s.Filesz && n <= s.Filesz-(addr-s.Vaddr)
}

// bytes are the n bytes at addr as the file has them: relocations are not
// applied. The slice is shared and must not be written to; it stays valid.
func (f *File) bytes(addr uint64, n int) ([]byte, error) {
	if n < 0 || !f.held(addr, uint64(n)) {
		return nil, fmt.Errorf("%w: %d bytes at %#x", errAddress, n, addr)
	}
	s := f.segment(addr)
	return f.cache.bytes(s.Off+addr-s.Vaddr, n)
}

// u64 is the 8-byte word at addr with the relative relocations applied: in a
// position-independent executable, addresses are there as linked.
func (f *File) u64(addr uint64) (uint64, bool) {
	if v, ok := f.relocated(addr); ok {
		return v, true
	}
	b, err := f.bytes(addr, 8)
	if err != nil {
		return 0, false
	}
	return binary.LittleEndian.Uint64(b), true
}

// u32 is the 4-byte word at addr.
func (f *File) u32(addr uint64) (uint32, bool) {
	b, err := f.bytes(addr, 4)
	if err != nil {
		return 0, false
	}
	return binary.LittleEndian.Uint32(b), true
}

// u8 is the byte at addr.
func (f *File) u8(addr uint64) (uint8, bool) {
	b, err := f.bytes(addr, 1)
	if err != nil {
		return 0, false
	}
	return b[0], true
}

// maxCString bounds a NUL-terminated string; names of generic functions are
// known to run to several thousand bytes.
const maxCString = 1 << 16

// cstring is the NUL-terminated string at addr, "" if there is none.
func (f *File) cstring(addr uint64) string {
	for n := 256; n <= maxCString; n *= 4 {
		s := f.segment(addr)
		if s == nil || addr-s.Vaddr >= s.Filesz {
			return ""
		}
		rest := s.Filesz - (addr - s.Vaddr)
		b, err := f.bytes(addr, int(min(uint64(n), rest)))
		if err != nil {
			return ""
		}
		if i := bytes.IndexByte(b, 0); i >= 0 {
			return string(b[:i])
		}
	}
	return ""
}

// words yields the addresses of the 8-byte words of s, aligned to 8, that equal
// one of want in the file (relocations not applied).
func (f *File) words(s Segment, want ...uint64) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		w := window{f: f}
		for addr := (s.Vaddr + 7) &^ 7; ; addr += uint64(len(w.buf) &^ 7) {
			if !w.fill(addr) || len(w.buf) < 8 {
				return
			}
			for i := 0; i+8 <= len(w.buf); i += 8 {
				v := binary.LittleEndian.Uint64(w.buf[i:])
				for _, x := range want {
					if v == x && !yield(addr+uint64(i)) {
						return
					}
				}
			}
		}
	}
}

// Sizes of the cache: 128 chunks of 64 KiB are 8 MiB.
const (
	chunkSize  = 64 << 10
	chunkSlots = 128
)

// A cache holds the chunks of a file that were read last, each in the slot of
// its number modulo the slots. A chunk that is displaced is not reused, so that
// slices of it stay valid.
type cache struct {
	r    io.ReaderAt
	size uint64

	mu    sync.Mutex // guards slots
	slots [chunkSlots]chunk
}

type chunk struct {
	number uint64
	data   []byte // nil when the slot is free
}

// bytes are the n bytes at offset off of the file, which has so many.
func (c *cache) bytes(off uint64, n int) ([]byte, error) {
	in := off % chunkSize
	if in+uint64(n) > chunkSize {
		b := make([]byte, n)
		return b, c.read(b, off)
	}
	data, err := c.chunk(off / chunkSize)
	if err != nil {
		return nil, err
	}
	return data[in : in+uint64(n)], nil
}

func (c *cache) chunk(number uint64) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	slot := &c.slots[number%chunkSlots]
	if slot.data != nil && slot.number == number {
		return slot.data, nil
	}
	start := number * chunkSize
	data := make([]byte, min(chunkSize, c.size-start))
	if err := c.read(data, start); err != nil {
		return nil, err
	}
	*slot = chunk{number, data}
	return data, nil
}

// read fills b from the file; a file that has become shorter is an error.
func (c *cache) read(b []byte, off uint64) error {
	n, err := c.r.ReadAt(b, int64(off))
	if n == len(b) {
		return nil
	}
	return fmt.Errorf("read %d bytes at offset %#x: %w", len(b), off, err)
}

// A window reads addresses that mostly rise, past the cache: big tables are
// gone through once and would displace all else.
type window struct {
	f    *File
	addr uint64
	buf  []byte
}

// at is the n bytes at addr, n being far less than a chunk; nil if the file
// does not hold them. The slice is valid until the next call.
func (w *window) at(addr uint64, n int) []byte {
	if d := addr - w.addr; addr >= w.addr && d <= uint64(len(w.buf)) && uint64(n) <= uint64(len(w.buf))-d {
		return w.buf[d : d+uint64(n)]
	}
	if !w.fill(addr) || len(w.buf) < n {
		return nil
	}
	return w.buf[:n]
}

// fill moves the window to addr. It says whether the file holds that byte.
func (w *window) fill(addr uint64) bool {
	s := w.f.segment(addr)
	if s == nil || addr-s.Vaddr >= s.Filesz {
		w.buf = w.buf[:0]
		return false
	}
	if w.buf == nil {
		w.buf = make([]byte, chunkSize)
	}
	d := addr - s.Vaddr
	w.addr, w.buf = addr, w.buf[:min(chunkSize, s.Filesz-d)]
	if err := w.f.cache.read(w.buf, s.Off+d); err != nil {
		w.buf = w.buf[:0]
		return false
	}
	return true
}
