package recording

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"

	"gopherscope/internal/event"
	"gopherscope/internal/stream"
)

// FlightOptions are the choices of a Flight.
type FlightOptions struct {
	Last   time.Duration // how much of the trace is kept
	Memory int64         // bytes that the kept blocks take at most
	Tool   string        // names the program that records, for people
}

// Flight keeps the last part of a trace in memory, as encoded blocks, and can write it to a
// file at any time, and what follows. The oldest whole block goes when the others reach
// back for Last and what a cause may be told late, or when they take more than Memory. A file
// begins with the goroutines that were there then: what a block that goes tells of them is
// applied to a [Roster].
//
// Besides the blocks it takes memory for the block that is being filled and for each
// goroutine that is there. It is not safe for concurrent use. After an error
// every method returns it.
type Flight struct {
	opts FlightOptions
	src  *flightSource
	ring *Writer // into the kept blocks
	err  error

	blocks []keptBlock // the oldest first
	bytes  int64       // of all of them
	spare  [][]byte    // of blocks that went, to be used again

	begin   int64 // of the oldest block: CLOCK_MONOTONIC, ns
	roster  Roster
	base    stream.Totals // at the end of the block that went last
	dropped bool          // one went
	early   bool          // one went before its time
	reader  *Reader       // of blocks that go

	out *Writer // the file; nil between two
}

// keptBlock is a block of events as a file has it.
type keptBlock struct {
	header blockHeader
	bytes  []byte
}

// flightSource is the trace with the totals of another moment, when the beginning of a file is
// written.
type flightSource struct {
	stream.Source
	totals *stream.Totals // nil is now
}

// Totals implements stream.Source.
func (s *flightSource) Totals() (stream.Totals, error) {
	if s.totals != nil {
		return *s.totals, nil
	}
	return s.Source.Totals()
}

// NewFlight begins to keep what src passes on. It asks src for stacks, the wall clock and the totals when
// a block needs them.
func NewFlight(src stream.Source, opts FlightOptions) (*Flight, error) {
	f := &Flight{opts: opts, src: &flightSource{Source: src}, begin: src.Info().Begin}
	decompressor, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxRaw), zstd.WithDecoderMaxWindow(maxRaw))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	f.reader = &Reader{zstd: decompressor, dec: newDecoder()}
	if f.ring, err = NewWriter(flightRing{f}, f.src, &Options{Tool: opts.Tool}); err != nil {
		return nil, err
	}
	return f, nil
}

// Event takes the next event.
func (f *Flight) Event(e *event.Event) error {
	if f.err != nil {
		return f.err
	}
	return f.fail(f.ring.Event(e))
}

// Tick says that every event before now has been taken.
func (f *Flight) Tick(now int64) error {
	if f.err != nil {
		return f.err
	}
	return f.fail(f.ring.Tick(now))
}

func (f *Flight) fail(err error) error {
	f.err = err
	return err
}

// flightRing takes what the Writer of a Flight writes: the header of a file, and then one
// block a call.
type flightRing struct{ *Flight }

// Write implements io.Writer.
func (f flightRing) Write(b []byte) (int, error) {
	if Looks(b) {
		return len(b), nil // each file has its own
	}
	var k keptBlock
	if err := k.header.parse(b); err != nil {
		return 0, err
	}
	if k.header.kind != blockEvents {
		return len(b), nil
	}
	if n := len(f.spare); n > 0 {
		k.bytes, f.spare = f.spare[n-1][:0], f.spare[:n-1]
	}
	k.bytes = append(k.bytes, b...)
	f.blocks = append(f.blocks, k)
	f.bytes += int64(cap(k.bytes))
	if f.out != nil {
		if err := f.out.adopt(&k); err != nil {
			return 0, err
		}
	}
	for len(f.blocks) > 1 {
		old := k.header.last-f.blocks[0].header.last >= int64(f.opts.Last+late)
		if !old && f.bytes <= f.opts.Memory {
			break
		}
		if err := f.drop(); err != nil {
			return 0, err
		}
		f.early = !old
	}
	return len(b), nil
}

// late is how much later than it happened the cause of a file may be told, and the file still
// reaches back for Last before it: what decides comes after the events of a tick.
const late = 250 * time.Millisecond

// maxSpare is how many blocks' memory is kept for others.
const maxSpare = 4

// drop forgets the oldest block, but for which goroutines are there after it.
func (f *Flight) drop() error {
	k := f.blocks[0]
	r := f.reader
	r.src = bytes.NewReader(k.bytes[blockHeaderLen:])
	payload, err := r.payload(&k.header)
	if err == nil {
		_, err = r.play(context.Background(), &k.header, payload, func(e *event.Event) error {
			f.roster.Apply(e)
			return nil
		}, func(int64) error { return nil })
	}
	if err != nil {
		return fmt.Errorf("forget a block: %w", err)
	}
	r.dec.forgetStacks()
	f.base, f.dropped = r.totals, true
	f.blocks[0] = keptBlock{}
	f.blocks = f.blocks[1:]
	f.bytes -= int64(cap(k.bytes))
	f.begin = min(k.header.last, f.blocks[0].header.first) // nothing is missing in between
	if len(f.spare) < maxSpare {
		f.spare = append(f.spare, k.bytes)
	}
	return nil
}

// Begin begins a file with what is kept, a note of why, and from then on all that is taken. Where a file is being written
// already it is an error.
func (f *Flight) Begin(dst io.Writer, why *Note) error {
	if f.err == nil && f.out != nil {
		f.err = errors.New("record: a file is being written already")
	}
	if f.err == nil && !f.ring.enc.empty() {
		f.err = f.ring.flush()
	}
	if f.err == nil {
		f.err = f.begins(dst)
	}
	return f.Note(why)
}

// begins writes what is kept.
func (f *Flight) begins(dst io.Writer) error {
	opts := &Options{Tool: f.opts.Tool}
	if f.dropped {
		opts.Begin, opts.Base = f.begin, f.base
		opts.Base.Now = f.begin
		f.src.totals = &opts.Base
		defer func() { f.src.totals = nil }()
	}
	out, err := NewWriter(dst, f.src, opts)
	if err != nil {
		return err
	}
	f.out = out
	if f.dropped {
		if err := f.roster.Snapshots(f.begin, out.Event); err != nil {
			return err
		}
		if !out.enc.empty() {
			if err := out.flush(); err != nil {
				return err
			}
		}
	}
	for i := range f.blocks {
		if err := out.adopt(&f.blocks[i]); err != nil {
			return err
		}
	}
	return nil
}

// Note writes a note to the file that is being written. Events that were taken before it
// are in the file before it.
func (f *Flight) Note(n *Note) error {
	if f.err == nil && !f.ring.enc.empty() {
		f.err = f.ring.flush()
	}
	if f.err == nil {
		f.err = f.out.note(n)
	}
	return f.err
}

// End ends the file with all that was taken. It does not close what it was written to.
func (f *Flight) End() error {
	if f.err == nil && !f.ring.enc.empty() {
		f.err = f.ring.flush()
	}
	if f.err != nil {
		return f.err
	}
	out := f.out
	f.out = nil
	return out.Close()
}

// Writing says whether a file is being written, how many bytes it has so far and how many events.
func (f *Flight) Writing() (size int64, events uint64, ok bool) {
	if f.out == nil {
		return 0, 0, false
	}
	return f.out.Size(), f.out.Written(), true
}

// Kept is the time from which on the trace is kept, CLOCK_MONOTONIC in ns, and how many bytes
// that takes. It is short when it would reach further back if there were more Memory.
func (f *Flight) Kept() (since, size int64, short bool) { return f.begin, f.bytes, f.early }

// adopt writes a block that another Writer of the same trace made.
func (w *Writer) adopt(k *keptBlock) error {
	if w.err != nil {
		return w.err
	}
	w.buf = w.buf[:0]
	if err := w.describe(); err != nil {
		return err
	}
	at := w.size
	if err := w.write(k.bytes); err != nil {
		return err
	}
	w.index.add(entry{offset: at, first: k.header.first, last: k.header.last, events: uint64(k.header.events)})
	w.written += uint64(k.header.events)
	return nil
}

// forgetStacks forgets the stacks of all blocks, for who does not ask for them.
func (d *decoder) forgetStacks() {
	clear(d.stacks)
	clear(d.numbers)
	d.known, d.frames = d.known[:0], 0
}
