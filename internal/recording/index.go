package recording

import (
	"encoding/binary"
	"errors"
	"io"
)

// entry says where blocks of events are and what they hold.
type entry struct {
	offset int64 // of the first of them in the file
	first  int64 // time range, CLOCK_MONOTONIC, ns
	last   int64
	events uint64
}

// maxEntries bounds the index. A longer recording has an entry for two blocks, then for
// four, and so on.
const maxEntries = 1 << 14

// index is the list of the blocks of events, in the order of the file.
type index struct {
	entries     []entry
	per         int // blocks an entry; 0 is 1
	inLast      int // blocks in the last entry
	first, last int64
}

func (x *index) add(e entry) {
	if len(x.entries) == 0 {
		x.first, x.last = e.first, e.last
	}
	x.first, x.last = min(x.first, e.first), max(x.last, e.last)
	x.per = max(x.per, 1)
	if len(x.entries) > 0 && x.inLast < x.per {
		x.entries[len(x.entries)-1].join(e)
		x.inLast++
		return
	}
	if len(x.entries) == maxEntries {
		x.halve()
	}
	x.entries = append(x.entries, e)
	x.inLast = 1
}

// join makes an entry stand for another one's blocks, too, which follow its own.
func (e *entry) join(next entry) {
	e.first, e.last = min(e.first, next.first), max(e.last, next.last)
	e.events += next.events
}

// halve joins each two entries. All of them are full.
func (x *index) halve() {
	for i := range len(x.entries) / 2 {
		e := x.entries[2*i]
		e.join(x.entries[2*i+1])
		x.entries[i] = e
	}
	x.entries = x.entries[:len(x.entries)/2]
	x.per *= 2
}

// span is the time range of the recording.
func (x *index) span() (first, last int64) { return x.first, x.last }

// The sections of the last block.
const endIndex = 1

// payload appends that of the last block.
func (x *index) payload(b []byte) []byte {
	var list []byte
	var before entry
	for _, e := range x.entries {
		list = binary.AppendVarint(list, e.offset-before.offset)
		list = binary.AppendVarint(list, e.first-before.first)
		list = binary.AppendVarint(list, e.last-e.first)
		list = binary.AppendUvarint(list, e.events)
		before = e
	}
	return appendSection(b, endIndex, list)
}

func parseIndex(payload []byte) ([]entry, error) {
	var entries []entry
	bad := false
	err := sections(payload, func(kind uint64, content []byte) {
		if kind != endIndex {
			return
		}
		c := cursor{b: content}
		var e entry
		for len(c.b) > 0 && len(entries) < maxEntries {
			e.offset += c.varint()
			e.first += c.varint()
			e.last = e.first + c.varint()
			e.events = c.uvarint()
			entries = append(entries, e)
		}
		bad = bad || c.bad || len(c.b) > 0
	})
	if err != nil || bad {
		return nil, errMalformed
	}
	return entries, nil
}

// ErrNotSeekable is a recording that comes from a pipe.
var ErrNotSeekable = errors.New("the recording can only be read from its beginning")

// SeekTo makes Run begin with a block before which there is no event at time mono
// (CLOCK_MONOTONIC, ns) or later. It uses the index at the end of the file, and without
// one goes from block to block. It may be called before Run only, and needs a source that is
// an [io.ReadSeeker], positioned at the beginning of the recording when the Reader was made.
func (r *Reader) SeekTo(mono int64) error {
	s, ok := r.src.(io.ReadSeeker)
	if !ok {
		return ErrNotSeekable
	}
	if _, err := s.Seek(r.begin, io.SeekStart); err != nil {
		return err
	}
	r.at = r.begin
	if at, ok := r.lookUp(s, mono); ok {
		r.at = at
	}
	if _, err := s.Seek(r.at, io.SeekStart); err != nil {
		return err
	}
	return r.skipTo(s, mono)
}

// lookUp finds where to begin in the index; ok is false when there is none to be believed.
func (r *Reader) lookUp(s io.ReadSeeker, mono int64) (at int64, ok bool) {
	size, err := s.Seek(-int64(trailerLen), io.SeekEnd)
	if err != nil {
		return 0, false
	}
	var trailer [trailerLen]byte
	if _, err := io.ReadFull(s, trailer[:]); err != nil {
		return 0, false
	}
	end, ok := parseTrailer(trailer[:])
	if !ok || end < r.begin || end >= size {
		return 0, false
	}
	if _, err := s.Seek(end, io.SeekStart); err != nil {
		return 0, false
	}
	var h blockHeader
	if err := r.header(&h); err != nil || h.kind != blockEnd {
		return 0, false
	}
	payload, err := r.payload(&h)
	if err != nil {
		return 0, false
	}
	entries, err := parseIndex(payload)
	if err != nil {
		return 0, false
	}
	for _, e := range entries {
		if e.offset < r.begin || e.offset >= end {
			return 0, false
		}
		if e.last >= mono {
			return e.offset, true
		}
	}
	return end, true
}

// skipTo goes on to the first block from here on that ends at time mono or later.
func (r *Reader) skipTo(s io.ReadSeeker, mono int64) error {
	for {
		var h blockHeader
		// Whatever is wrong there, Run will come upon it.
		if err := r.header(&h); err != nil || h.kind == blockEnd || h.kind == blockEvents && h.last >= mono {
			_, err := s.Seek(r.at, io.SeekStart)
			return err
		}
		r.at += blockHeaderLen + int64(h.stored)
		if _, err := s.Seek(r.at, io.SeekStart); err != nil {
			return err
		}
	}
}
