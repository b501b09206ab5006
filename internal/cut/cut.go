// Package cut takes a part out of a trace: a span of time, some goroutines. What is left is a
// trace again, which every view can take: it begins with a Snapshot of each goroutine that
// is there at that time, as a trace of a process that runs already does.
//
// It is pure: a Source in, a Source out.
package cut

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"gopherscope/internal/event"
	"gopherscope/internal/goid"
	"gopherscope/internal/goruntime"
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

// Source is a part of a trace. What was lost and what it cost are those of the whole trace:
// when events were lost is not known.
type Source struct {
	stream.Source
	part   Part
	info   stream.Info
	states *gstate.Tracker
	waits  map[uint32]*goid.Map[wait]
	early  []event.Event // of the part, while events from before it can still come
	began  bool
}

// wait is why and where a goroutine waits.
type wait struct {
	reason string
	fake   bool
	stack  uint32
	labels *event.LabelSet // nil if unknown
}

var _ stream.Source = (*Source)(nil)

// errOver ends a Run whose part is over.
var errOver = errors.New("the part is over")

// New returns a part of src, which must not be used any more but through it.
func New(src stream.Source, part Part) *Source {
	s := &Source{Source: src, part: part, info: *src.Info(), states: gstate.NewTracker(), waits: map[uint32]*goid.Map[wait]{}}
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
	t, err := s.Source.Totals()
	if s.part.To > 0 {
		t.Now = min(t.Now, s.part.To)
	}
	return t, err
}

// Run implements stream.Source. It ends when the part is over, and with ErrNothing if the
// trace ended before the part began.
func (s *Source) Run(ctx context.Context, emit func(*event.Event) error, tick func(now int64) error) error {
	err := s.Source.Run(ctx, func(e *event.Event) error { return s.event(e, emit) }, func(now int64) error {
		if !s.began {
			if now < s.part.From {
				return nil
			}
			if err := s.begin(emit); err != nil {
				return err
			}
		}
		if s.part.To == 0 || now < s.part.To {
			return tick(now)
		}
		if err := tick(s.part.To); err != nil {
			return err
		}
		return errOver
	})
	switch {
	case errors.Is(err, errOver):
		return nil
	case err == nil && !s.began:
		return ErrNothing
	}
	return err
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
	if s.part.To > 0 && e.Time >= s.part.To || !s.match(e, c.Birth) {
		return nil
	}
	return emit(e)
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

// note keeps why and where a goroutine waits, which the states do not have.
func (s *Source) note(e *event.Event) {
	waits := s.waits[e.PID]
	switch {
	case e.Kind == event.Exec || e.Kind == event.Exit:
		delete(s.waits, e.PID)
	case e.Kind == event.Labels:
		if w := s.wait(e); w != nil {
			w.labels = e.Labels
		}
	case e.To == goruntime.Waiting:
		if waits == nil {
			waits = &goid.Map[wait]{}
			s.waits[e.PID] = waits
		}
		*waits.Put(e.GoID) = wait{reason: e.Reason, fake: e.Fake, stack: e.Stack}
	case waits != nil && e.Kind != event.Gap:
		waits.Delete(e.GoID)
	}
}

// wait is why and where the goroutine of an event waits; nil if it does not.
func (s *Source) wait(e *event.Event) *wait {
	if waits := s.waits[e.PID]; waits != nil {
		return waits.Get(e.GoID)
	}
	return nil
}

// begin emits the goroutines that are there when the part begins, and what came of it so
// far.
func (s *Source) begin(emit func(*event.Event) error) error {
	s.began = true
	for _, e := range s.there() {
		if !s.match(&e, e.Birth) {
			continue
		}
		if err := emit(&e); err != nil {
			return err
		}
		if w := s.wait(&e); w != nil && w.labels != nil {
			labels := event.Event{Kind: event.Labels, Time: e.Time, PID: e.PID, GoID: e.GoID, Labels: w.labels}
			if err := emit(&labels); err != nil {
				return err
			}
		}
	}
	s.waits = nil
	early := s.early
	s.early = nil
	for i := range early {
		if e := &early[i]; e.Kind == event.Gap {
			e.Since = max(e.Since, s.part.From)
		}
		if err := s.pass(&early[i], emit); err != nil {
			return err
		}
	}
	return nil
}

// there are Snapshots of the goroutines, by process and number.
func (s *Source) there() []event.Event {
	var snapshots []event.Event
	s.states.Live(func(g gstate.Live) {
		if g.Status == goruntime.Dead || g.Status == goruntime.DeadExtra {
			return
		}
		e := event.Event{Kind: event.Snapshot, Time: s.part.From, PID: g.PID, GoID: g.GoID, To: g.Status, Birth: g.Birth}
		if g.Status == goruntime.Waiting {
			e.Since = g.Since
			if w := s.wait(&e); w != nil {
				e.Reason, e.Fake, e.Stack = w.reason, w.fake, w.stack
			}
		}
		snapshots = append(snapshots, e)
	})
	slices.SortFunc(snapshots, func(a, b event.Event) int {
		return cmp.Or(cmp.Compare(a.PID, b.PID), cmp.Compare(a.GoID, b.GoID))
	})
	return snapshots
}
