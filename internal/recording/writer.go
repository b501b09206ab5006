package recording

import (
	"fmt"
	"io"
	"reflect"
	"time"

	"github.com/klauspost/compress/zstd"

	"gopherscope/internal/event"
	"gopherscope/internal/stream"
)

// blockTime is how much of the trace a block holds at most: what is lost when the
// recorder is killed.
const blockTime = int64(time.Second)

// Options are the choices of a Writer.
type Options struct {
	// Begin is when the recording begins, CLOCK_MONOTONIC in ns; 0 is when the
	// trace does. Base is what the trace had come to by then, which is not counted again.
	Begin int64
	Base  stream.Totals

	// Tool names the program that records, for people.
	Tool string
}

// Writer writes a recording of a trace: it is given every event and every tick of the
// source's Run. It is not safe for concurrent use. After an error of the destination
// nothing more is written, and every method returns that error.
type Writer struct {
	dst   io.Writer
	src   stream.Source
	enc   *encoder
	zstd  *zstd.Encoder
	index index
	opts  Options
	info  *stream.Info // as it was written last; nil before

	payload, buf []byte // reused from block to block
	wall         int64  // Unix time when the recording begins, ns
	offset       int64  // wall minus monotonic at the last tick
	size         int64  // bytes written
	written      uint64 // events in blocks that are written
	totals       stream.Totals
	totalsErr    error // of the last block
	err          error
}

// NewWriter begins a recording of src, and writes what is known of the trace. It asks src
// for stacks, the wall clock and the totals when a block needs them. opts may be nil.
func NewWriter(dst io.Writer, src stream.Source, opts *Options) (*Writer, error) {
	if opts == nil {
		opts = &Options{}
	}
	// A recording can be written next to what it records: one thread, little memory.
	compressor, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithEncoderCRC(false), zstd.WithWindowSize(1<<20))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	w := &Writer{dst: dst, src: src, zstd: compressor, opts: *opts, totals: opts.Base}
	if opts.Begin == 0 {
		w.opts.Begin = src.Info().Begin
		w.offset = src.Info().Wall - w.opts.Begin
	} else {
		w.offset = src.Wall(opts.Begin) - opts.Begin
	}
	w.totals.Now = w.opts.Begin
	w.enc = newEncoder(src.Stack, w.offset)
	w.wall = w.opts.Begin + w.offset
	w.buf = appendHeader(w.buf)
	if err := w.describe(); err != nil {
		return nil, err
	}
	return w, nil
}

// describe writes what is known of the trace, when that is not what was written last.
func (w *Writer) describe() error {
	info := *w.src.Info()
	info.Begin, info.Wall = w.opts.Begin, w.wall
	if w.info != nil && reflect.DeepEqual(info, *w.info) {
		return nil
	}
	w.info = &info
	w.payload = appendInfo(w.payload[:0], &info, &w.opts.Base, w.opts.Tool)
	return w.block(blockHeader{kind: blockInfo, first: info.Begin, last: info.Begin})
}

// Event adds the next event.
func (w *Writer) Event(e *event.Event) error {
	if w.err != nil {
		return w.err
	}
	if !e.Kind.Known() {
		return fmt.Errorf("record event: unknown kind %v", e.Kind)
	}
	if w.enc.full() {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if e.Kind == event.Labels {
		if e.Labels == nil {
			return fmt.Errorf("record event: no labels of goroutine %d", e.GoID)
		}
		w.enc.labels(e)
		return nil
	}
	w.enc.event(e)
	return nil
}

// Tick says that every event before now has been added. It writes a block when the
// last one is a second old.
func (w *Writer) Tick(now int64) error {
	if w.err != nil {
		return w.err
	}
	if w.enc.full() {
		if err := w.flush(); err != nil {
			return err
		}
	}
	w.offset = w.src.Wall(now) - now
	w.enc.tick(now, w.offset)
	if now-w.enc.first >= blockTime {
		return w.flush()
	}
	return nil
}

// Close writes what is left, the totals and the index. It does not close the destination.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	if err := w.flush(); err != nil {
		return err
	}
	at := w.size
	first, last := w.index.span()
	w.payload = w.index.payload(w.payload[:0])
	w.buf = w.buf[:0]
	if err := w.block(blockHeader{kind: blockEnd, first: first, last: last}); err != nil {
		return err
	}
	if err := w.write(appendTrailer(w.buf[:0], at)); err != nil {
		return err
	}
	w.err = fmt.Errorf("record event: %w", io.ErrClosedPipe)
	if w.totalsErr != nil {
		return fmt.Errorf("what was lost and what it cost: %w", w.totalsErr)
	}
	return nil
}

// Size is the number of bytes written so far.
func (w *Writer) Size() int64 { return w.size }

// Written is the number of events in the blocks that are written: those that a reader of the
// file would find now. Those of kind Labels do not count.
func (w *Writer) Written() uint64 { return w.written }

// Totals are those of the last block, of the whole trace.
func (w *Writer) Totals() stream.Totals { return w.totals }

// flush writes the events and ticks that were added as a block.
func (w *Writer) flush() error {
	totals, err := w.src.Totals()
	if w.totalsErr = err; err == nil {
		w.totals = totals
	}
	if w.enc.empty() {
		now := max(w.totals.Now, w.index.last)
		w.enc.first, w.enc.last = now, now
	}
	w.buf = w.buf[:0]
	if err := w.describe(); err != nil {
		return err
	}
	w.payload = w.enc.payload(w.payload[:0], &w.totals)
	h := blockHeader{kind: blockEvents, events: uint32(w.enc.events), first: w.enc.first, last: w.enc.last}
	at := w.size
	w.buf = w.buf[:0]
	if err := w.block(h); err != nil {
		return err
	}
	w.index.add(entry{offset: at, first: h.first, last: h.last, events: uint64(h.events)})
	w.written += uint64(h.events)
	w.enc.reset(w.offset)
	return nil
}

// block compresses the payload and writes it as a block, behind what is in buf.
func (w *Writer) block(h blockHeader) error {
	if len(w.payload) > maxRaw {
		w.err = fmt.Errorf("record: a block of %d bytes is larger than a reader would take", len(w.payload))
		return w.err
	}
	at := len(w.buf)
	w.buf = append(w.buf, make([]byte, blockHeaderLen)...)
	w.buf = w.zstd.EncodeAll(w.payload, w.buf)
	stored := w.buf[at+blockHeaderLen:]
	h.raw, h.stored, h.sum = uint32(len(w.payload)), uint32(len(stored)), checksum(stored)
	h.put(w.buf[at:])
	return w.write(w.buf)
}

// write hands bytes to the destination in one call, so that what is killed has written
// a block or nothing of it.
func (w *Writer) write(b []byte) error {
	n, err := w.dst.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		w.err = err
		return err
	}
	w.size += int64(n)
	return nil
}
