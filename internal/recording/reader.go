package recording

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"

	"gopherscope/internal/event"
	"gopherscope/internal/stream"
)

// Reader is a recording as a stream.Source. It is not safe for concurrent use.
type Reader struct {
	src   io.Reader
	zstd  *zstd.Decoder
	dec   *decoder
	facts facts

	begin   int64 // of the first block after the info, in the file
	at      int64 // of the next block
	stored  []byte
	content []byte

	offset   int64 // wall minus monotonic now
	totals   stream.Totals
	before   stream.Totals // of the block before
	spent    spending
	ticked   int64  // the last tick
	last     int64  // the latest time of an event
	events   uint64 // passed on, of whole blocks
	complete bool
	notes    []Note
	noted    int64 // the notes before that place in the file are in notes
}

var _ stream.Source = (*Reader)(nil)

// NewReader opens a recording and reads what is known of the trace. The source is read in
// pieces of the size of a block, without a buffer, and is the caller's to close. Errors are
// [ErrNotRecording], [ErrEmpty], *[VersionError], *[DamageError], and those of the source.
func NewReader(src io.Reader) (*Reader, error) {
	head := make([]byte, headerLen)
	n, err := io.ReadFull(src, head)
	switch {
	case !Looks(head[:n]):
		return nil, ErrNotRecording
	case cut(err):
		return nil, ErrEmpty
	case err != nil:
		return nil, err
	}
	if err := checkHeader(head); err != nil {
		return nil, err
	}
	decompressor, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxRaw), zstd.WithDecoderMaxWindow(maxRaw))
	if err != nil {
		return nil, err
	}
	r := &Reader{src: src, zstd: decompressor, dec: newDecoder(), at: int64(headerLen)}
	if err := r.readInfo(); err != nil {
		return nil, err
	}
	r.begin = r.at
	return r, nil
}

// cut says whether an error is the end of the file.
func cut(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

func (r *Reader) readInfo() error {
	var h blockHeader
	payload, err := r.next(&h)
	switch {
	case cut(err):
		return ErrEmpty
	case err != nil:
		return err
	case h.kind != blockInfo:
		return r.damaged(errMalformed)
	}
	if err := r.learn(payload); err != nil {
		return err
	}
	r.at += blockHeaderLen + int64(h.stored)
	i := &r.facts.info
	r.offset, r.ticked, r.last = i.Wall-i.Begin, i.Begin, i.Begin
	r.fresh()
	return nil
}

// fresh says that no event was read yet, and none left out.
func (r *Reader) fresh() {
	r.totals = r.facts.base
	r.totals.Now = r.facts.info.Begin
	r.before = r.totals
	r.spent = spending{known: true, end: r.facts.info.Begin}
}

// learn takes what is known of the trace. More can be known later than when it began.
func (r *Reader) learn(payload []byte) error {
	f, err := parseInfo(payload)
	if err != nil {
		return r.damaged(err)
	}
	r.facts = *f
	return nil
}

func (r *Reader) damaged(err error) error {
	return &DamageError{Offset: r.at, Events: r.events, Err: err}
}

// next reads the next block of a known kind, which is at r.at then. An error with
// cut is the end of the file.
func (r *Reader) next(h *blockHeader) ([]byte, error) {
	for {
		if err := r.header(h); err != nil {
			return nil, err
		}
		if h.known() {
			return r.payload(h)
		}
		if _, err := io.CopyN(io.Discard, r.src, int64(h.stored)); err != nil {
			return nil, err
		}
		r.at += blockHeaderLen + int64(h.stored)
	}
}

func (r *Reader) header(h *blockHeader) error {
	var b [blockHeaderLen]byte
	if _, err := io.ReadFull(r.src, b[:]); err != nil {
		return err
	}
	if err := h.parse(b[:]); err != nil {
		return r.damaged(err)
	}
	return nil
}

// payload reads and checks what follows a header. It is valid until the next call.
func (r *Reader) payload(h *blockHeader) ([]byte, error) {
	// The length is limited: see blockHeader.parse.
	if cap(r.stored) < int(h.stored) {
		r.stored = make([]byte, h.stored)
	}
	r.stored = r.stored[:h.stored]
	if _, err := io.ReadFull(r.src, r.stored); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	if checksum(r.stored) != h.sum {
		return nil, r.damaged(errChecksum)
	}
	var err error
	r.content, err = r.zstd.DecodeAll(r.stored, r.content[:0])
	if err != nil {
		return nil, r.damaged(err)
	}
	if len(r.content) != int(h.raw) {
		return nil, r.damaged(errMalformed)
	}
	return r.content, nil
}

// Info implements stream.Source.
func (r *Reader) Info() *stream.Info { return &r.facts.info }

// Tool is the program that made the recording.
func (r *Reader) Tool() string { return r.facts.tool }

// Run implements stream.Source. A recording that was cut ends after its last whole block,
// which is no error: [Reader.Complete] tells. A *[DamageError] comes after every event of the blocks
// before the damage. It is called once, and again after each [Reader.SeekTo].
func (r *Reader) Run(ctx context.Context, emit func(*event.Event) error, tick func(now int64) error) error {
	for {
		if ctx.Err() != nil {
			return r.finish(tick)
		}
		var h blockHeader
		payload, err := r.next(&h)
		switch {
		case cut(err):
			return r.finish(tick)
		case err != nil:
			return err
		case h.kind == blockEnd:
			r.complete = true
			return nil
		case h.kind == blockInfo:
			if err := r.learn(payload); err != nil {
				return err
			}
		case h.kind == blockNote:
			if err := r.remark(payload); err != nil {
				return err
			}
		case h.kind == blockEvents:
			over, err := r.play(ctx, &h, payload, emit, tick)
			if err != nil {
				return err
			}
			if over {
				return r.finish(tick)
			}
		}
		r.at += blockHeaderLen + int64(h.stored)
	}
}

// finish makes a tick after the last event when there is none: nothing more comes.
func (r *Reader) finish(tick func(now int64) error) error {
	if r.last <= r.ticked {
		return nil
	}
	r.ticked = r.last
	r.totals.Now = r.last
	return tick(r.last)
}

// play passes on the events and ticks of a block. It is over when ctx ends.
func (r *Reader) play(ctx context.Context, h *blockHeader, payload []byte, emit func(*event.Event) error, tick func(now int64) error) (over bool, err error) {
	d := r.dec
	if err := d.open(payload); err != nil {
		return false, r.damaged(err)
	}
	r.offset = d.offset
	r.spent.next(&r.totals, &d.totals, h.last)
	r.before = r.totals
	r.totals = d.totals // of the end of the block: never less than there was lost so far
	r.totals.Now = r.ticked
	at, now, change, more := d.tick()
	for i, ticks := 0, 0; ; i++ {
		if err := r.labels(i, ticks, emit); err != nil {
			return false, err
		}
		for more && at == i {
			r.offset += change
			r.ticked, r.totals.Now = now, now
			if err := tick(now); err != nil {
				return false, err
			}
			if ctx.Err() != nil {
				return true, nil
			}
			at, now, change, more = d.tick()
			ticks++
			if err := r.labels(i, ticks, emit); err != nil {
				return false, err
			}
		}
		if i == int(h.events) {
			break
		}
		e := d.next()
		if e == nil {
			return false, r.damaged(errMalformed)
		}
		r.last = max(r.last, e.Time)
		if !e.Kind.Known() { // of a newer minor version
			continue
		}
		if err := emit(e); err != nil {
			return false, err
		}
	}
	if more || d.label.more || !d.whole() {
		return false, r.damaged(errMalformed)
	}
	r.events += uint64(h.events)
	r.totals = d.totals
	return false, nil
}

// Stack implements stream.Source. Stacks are known from the block on that first names them.
func (r *Reader) Stack(id uint32) []event.Location { return r.dec.stack(id) }

// Wall implements stream.Source.
func (r *Reader) Wall(mono int64) int64 { return mono + r.offset }

// Totals implements stream.Source. While a block is read they are those of its end, up to
// a second later: so what was lost is never told too low.
func (r *Reader) Totals() (stream.Totals, error) { return r.totals.Since(r.facts.base), nil }

// TotalsBefore are those of the end of the block before the one that Run is in: what was lost
// and spent since then is never told too low. After a SeekTo they are of what was read last.
func (r *Reader) TotalsBefore() (stream.Totals, error) { return r.before.Since(r.facts.base), nil }

// spending is what was spent in a block.
type spending struct {
	known     bool  // what there was at the end of the block before
	end       int64 // of the block: CLOCK_MONOTONIC, ns
	cost, cpu time.Duration
	over      time.Duration
}

// next takes what there was before a block and what there is after it.
func (s *spending) next(before, after *stream.Totals, end int64) {
	next := spending{known: true, end: end}
	if s.known && end > s.end {
		next.cost, next.cpu = max(0, after.Cost.Total-before.Cost.Total), max(0, after.TargetCPU-before.TargetCPU)
		next.over = time.Duration(end - s.end)
	}
	*s = next
}

// Spent is what the trace cost the target, and what CPU time it used with that, in the block
// that Run is in, and how long that block is. All are 0 when it is not known, as in the first block
// after a SeekTo.
func (r *Reader) Spent() (cost, targetCPU, over time.Duration) {
	return r.spent.cost, r.spent.cpu, r.spent.over
}

// Complete says, after Run, whether the recorder ended the recording itself. Otherwise it was
// killed, or its disk was full, or it still records.
func (r *Reader) Complete() bool { return r.complete }

// Events is the number of events of the whole blocks that Run has passed on, without those of
// kind Labels.
func (r *Reader) Events() uint64 { return r.events }

// Last is the time of the latest event that was passed on: CLOCK_MONOTONIC, ns. Before the
// first one it is when the recording begins.
func (r *Reader) Last() int64 { return r.last }

// Close implements stream.Source. It does not close what the recording is read from.
func (r *Reader) Close() error {
	r.zstd.Close()
	return nil
}
