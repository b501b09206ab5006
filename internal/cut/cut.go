// Package cut takes a part out of a trace: a span of time, some goroutines. What is left is a
// trace again, which every view can take: it begins with a Snapshot of each goroutine that
// is there at that time, as a trace of a process that runs already does.
//
// It is pure: a Source in, a Source out.
package cut

import (
	"context"
	"errors"
	"slices"
	"time"

	"gopherscope/internal/engine"
	"gopherscope/internal/event"
	"gopherscope/internal/goid"
	"gopherscope/internal/gstate"
	"gopherscope/internal/stream"
)

// ErrNothing is returned by Run of a part that begins after the end of the trace.
var ErrNothing = errors.New("the trace ends before that part begins")

// Part says what is to be left. The zero Part is all.
type Part struct {
	From, To  int64                // CLOCK_MONOTONIC, ns: what is not before From and before To; 0 for no bound
	GoIDs     []uint64             // these goroutines only, unless it is empty
	CreatedBy func(fn string) bool // those created by such a function only, unless it is nil
}

// Blocks is what a Source has besides if its Totals are those of the end of a block of the trace while that is
// passed on, as of a recording.
type Blocks interface {
	// TotalsBefore are those of the end of the block before.
	TotalsBefore() (stream.Totals, error)
}

// Source is a part of a trace. Its pauses are those of the part. What was lost and what it cost is, of all
// goroutines, what the trace told from the last time before the part to the first time after it: of a
// recording, which tells at the end of each block, that is up to a second more at each end.
type Source struct {
	stream.Source
	part   Part
	info   stream.Info
	states *gstate.Tracker
	stays  map[uint32]*goid.Map[stay]
	early  []event.Event // of the part, while events from before it can still come

	began  bool // all from before the part has come, and it is known whether the trace paused then
	beyond bool // an event after the part has come
	ticked int64
	gaps   uint64 // in the part, and
	paused time.Duration
	before totals // when the part began
	after  totals // when it was over
}

// totals are what a trace came to at a moment.
type totals struct {
	stream.Totals
	err   error
	known bool
}

var _ stream.Source = (*Source)(nil)

// errOver ends a Run whose part is over.
var errOver = errors.New("the part is over")

// New returns a part of src, which must not be used any more but through it.
func New(src stream.Source, part Part) *Source {
	s := &Source{Source: src, part: part, info: *src.Info(), states: gstate.NewTracker(), stays: map[uint32]*goid.Map[stay]{}}
	if part.From > s.info.Begin {
		s.info.Begin, s.info.Wall = part.From, src.Wall(part.From)
	} else {
		s.began = true
	}
	return s
}

// Info implements stream.Source: the trace begins where the part does.
func (s *Source) Info() *stream.Info { return &s.info }

// Totals implements stream.Source.
func (s *Source) Totals() (stream.Totals, error) {
	now := s.after
	if !now.known {
		now.Totals, now.err = s.Source.Totals()
	}
	t := now.Since(s.before.Totals)
	t.Gaps, t.Paused = s.gaps, s.paused
	if s.part.To > 0 {
		t.Now = min(t.Now, s.part.To)
	}
	return t, errors.Join(s.before.err, now.err)
}

// totalsBefore are those up to now, or of a moment before.
func (s *Source) totalsBefore() totals {
	t := totals{known: true}
	if blocks, ok := s.Source.(Blocks); ok {
		t.Totals, t.err = blocks.TotalsBefore()
	} else {
		t.Totals, t.err = s.Source.Totals()
	}
	return t
}

// Run implements stream.Source. It ends when the part is over, and with ErrNothing if the
// trace ended before the part began.
//
// The Gap of a pause comes at its end. So whether the trace paused at a moment is told by the first event
// after it, and Run waits for that at both ends of the part; but no longer than a pause lasts.
func (s *Source) Run(ctx context.Context, emit func(*event.Event) error, tick func(now int64) error) error {
	err := s.Source.Run(ctx, func(e *event.Event) error { return s.event(e, emit) }, func(now int64) error {
		return s.tick(now, emit, tick)
	})
	if err == nil {
		err = s.end(emit, tick)
	}
	if errors.Is(err, errOver) {
		return nil
	}
	return err
}

// tick takes a tick of the whole trace.
func (s *Source) tick(now int64, emit func(*event.Event) error, tick func(now int64) error) error {
	s.ticked = now
	if now < s.part.From {
		s.before = s.totalsBefore()
		return nil
	}
	if !s.began {
		if len(s.early) == 0 && now-s.part.From < int64(engine.LongestPause) {
			return nil
		}
		if err := s.begin(emit); err != nil {
			return err
		}
	}
	if s.part.To == 0 || now < s.part.To {
		return tick(now)
	}
	if !s.after.known {
		s.after.known = true
		s.after.Totals, s.after.err = s.Source.Totals()
	}
	if !s.beyond && now-s.part.To < int64(engine.LongestPause) {
		return nil
	}
	return s.over(tick)
}

// over ends the part.
func (s *Source) over(tick func(now int64) error) error {
	if err := tick(s.part.To); err != nil {
		return err
	}
	return errOver
}

// end is when the whole trace ends before the part is known to be over.
func (s *Source) end(emit func(*event.Event) error, tick func(now int64) error) error {
	switch {
	case !s.began && s.ticked < s.part.From:
		return ErrNothing
	case !s.began:
		if err := s.begin(emit); err != nil {
			return err
		}
	case !s.after.known:
		return nil // the last tick was passed on
	}
	if s.part.To > 0 && s.ticked >= s.part.To {
		return s.over(tick)
	}
	return tick(s.ticked)
}

// event takes an event of the whole trace.
func (s *Source) event(e *event.Event, emit func(*event.Event) error) error {
	switch {
	case s.began:
		return s.pass(e, emit)
	case e.Time >= s.part.From:
		s.early = append(s.early, *e)
	default:
		s.states.Apply(e)
		s.note(e)
	}
	return nil
}

// pass emits an event if it belongs to the part.
func (s *Source) pass(e *event.Event, emit func(*event.Event) error) error {
	c := s.states.Apply(e)
	if s.part.To > 0 && e.Time >= s.part.To {
		first := !s.beyond
		s.beyond = true
		if !first || e.Kind != event.Gap || e.Since >= s.part.To {
			return nil
		}
		return s.gap(e, emit)
	}
	if e.Kind == event.Gap {
		return s.gap(e, emit)
	}
	if !s.match(e, c.Birth) {
		return nil
	}
	return emit(e)
}

// gap emits as much of a gap as is in the part.
func (s *Source) gap(e *event.Event, emit func(*event.Event) error) error {
	part := *e
	part.Since = max(e.Since, s.part.From)
	if s.part.To > 0 {
		part.Time = min(e.Time, s.part.To)
	}
	s.gaps++
	s.paused += time.Duration(max(0, part.Time-part.Since))
	return emit(&part)
}

// match says whether an event is of a goroutine of the part, or of none.
func (s *Source) match(e *event.Event, birth *event.Birth) bool {
	if e.Kind != event.Transition && e.Kind != event.Snapshot && e.Kind != event.Labels {
		return true
	}
	if len(s.part.GoIDs) > 0 && !slices.Contains(s.part.GoIDs, e.GoID) {
		return false
	}
	return s.part.CreatedBy == nil || birth != nil && s.part.CreatedBy(birth.CreatedBy.Func)
}
