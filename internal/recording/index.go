package recording

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
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

// Span is a part of a recording: one or more of its blocks.
type Span struct {
	First, Last int64  // the time range of its events and ticks: CLOCK_MONOTONIC, ns
	Events      uint64 // how many there are
}

// Spans are the parts of a recording in the order of the file, at most 16,384, up to its
// last whole block. complete says that the recorder ended it. They come from the index at the
// end of the file, and without one from the headers of the blocks, so that no event is
// read. It needs a source as SeekTo does, and does not change where Run begins.
func (r *Reader) Spans() (spans []Span, complete bool, err error) {
	s, ok := r.src.(io.ReadSeeker)
	if !ok {
		return nil, false, ErrNotSeekable
	}
	at := r.at
	entries, _, complete := r.readIndex(s)
	if !complete {
		if entries, err = r.hop(s); err != nil {
			return nil, false, err
		}
	}
	r.at = at
	if _, err := s.Seek(at, io.SeekStart); err != nil {
		return nil, false, err
	}
	for _, e := range entries {
		spans = append(spans, Span{First: e.first, Last: e.last, Events: e.events})
	}
	return spans, complete, nil
}

// hop goes from block to block, and makes the index of those that are whole.
func (r *Reader) hop(s io.ReadSeeker) ([]entry, error) {
	size, err := s.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	var x index
	for r.at = r.begin; ; {
		if _, err := s.Seek(r.at, io.SeekStart); err != nil {
			return nil, err
		}
		var h blockHeader
		next := r.at + blockHeaderLen
		if err := r.header(&h); err != nil || next+int64(h.stored) > size || h.kind == blockEnd {
			return x.entries, nil // whatever is wrong there, Run will come upon it
		}
		if h.kind == blockEvents {
			x.add(entry{offset: r.at, first: h.first, last: h.last, events: uint64(h.events)})
		}
		r.at = next + int64(h.stored)
	}
}

// SeekTo makes Run, which may be called again then, begin with a block before which there is no
// event at time mono (CLOCK_MONOTONIC, ns) or later; there may be earlier ones in it. It uses the
// index at the end of the file, and without one goes from block to block. The stacks that were
// read stay known, Totals and Wall are those of what was read last until Run begins,
// and Last and Events begin anew. It needs a source that is an [io.ReadSeeker], positioned at the
// beginning of the recording when the Reader was made.
func (r *Reader) SeekTo(mono int64) error {
	s, ok := r.src.(io.ReadSeeker)
	if !ok {
		return ErrNotSeekable
	}
	r.complete, r.events, r.spent = false, 0, spending{}
	r.ticked, r.last = r.facts.info.Begin, r.facts.info.Begin
	r.at = r.begin
	skips := false // a block of events
	if entries, end, ok := r.readIndex(s); ok {
		i := slices.IndexFunc(entries, func(e entry) bool { return e.last >= mono })
		switch {
		case i < 0:
			r.at, skips = end, true
		case i > 0:
			r.at, skips = entries[i].offset, true
		}
	}
	if _, err := s.Seek(r.at, io.SeekStart); err != nil {
		return err
	}
	more, err := r.skipTo(s, mono)
	if !skips && !more {
		r.fresh()
	}
	return err
}

// readIndex reads the index, and where its block is; ok is false when there is none to be
// believed.
func (r *Reader) readIndex(s io.ReadSeeker) (entries []entry, end int64, ok bool) {
	size, err := s.Seek(-int64(trailerLen), io.SeekEnd)
	if err != nil {
		return nil, 0, false
	}
	var trailer [trailerLen]byte
	if _, err := io.ReadFull(s, trailer[:]); err != nil {
		return nil, 0, false
	}
	end, ok = parseTrailer(trailer[:])
	if !ok || end < r.begin || end >= size {
		return nil, 0, false
	}
	if _, err := s.Seek(end, io.SeekStart); err != nil {
		return nil, 0, false
	}
	var h blockHeader
	if err := r.header(&h); err != nil || h.kind != blockEnd {
		return nil, 0, false
	}
	payload, err := r.payload(&h)
	if err != nil {
		return nil, 0, false
	}
	if entries, err = parseIndex(payload); err != nil {
		return nil, 0, false
	}
	for _, e := range entries {
		if e.offset < r.begin || e.offset >= end {
			return nil, 0, false
		}
	}
	return entries, end, true
}

// skipTo goes on to the first block from here on that ends at time mono or later, and says
// whether it left out one with events.
func (r *Reader) skipTo(s io.ReadSeeker, mono int64) (skips bool, err error) {
	for {
		var h blockHeader
		// Whatever is wrong there, Run will come upon it.
		if err := r.header(&h); err != nil || h.kind == blockEnd || h.kind == blockEvents && h.last >= mono {
			_, err := s.Seek(r.at, io.SeekStart)
			return skips, err
		}
		skips = skips || h.kind == blockEvents
		r.at += blockHeaderLen + int64(h.stored)
		if _, err := s.Seek(r.at, io.SeekStart); err != nil {
			return skips, err
		}
	}
}
