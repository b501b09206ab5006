package cut

import (
	"cmp"
	"slices"

	"gopherscope/internal/event"
	"gopherscope/internal/goid"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gstate"
)

// stay is why and where a goroutine waits, or where it entered a system call.
type stay struct {
	reason string
	fake   bool
	stack  uint32
	labels *event.LabelSet // nil if unknown
}

// note keeps of a goroutine what the states do not have.
func (s *Source) note(e *event.Event) {
	stays := s.stays[e.PID]
	switch {
	case e.Kind == event.Exec || e.Kind == event.Exit:
		delete(s.stays, e.PID)
	case e.Kind == event.Gap: // what it did is forgotten with its state
	case e.Kind == event.Labels:
		if w := s.stay(e); w != nil {
			w.labels = e.Labels
		}
	case e.To == goruntime.Waiting || e.To == goruntime.Syscall:
		if stays == nil {
			stays = &goid.Map[stay]{}
			s.stays[e.PID] = stays
		}
		*stays.Put(e.GoID) = stay{reason: e.Reason, fake: e.Fake, stack: e.Stack}
	case stays != nil:
		stays.Delete(e.GoID)
	}
}

// stay is that of the goroutine of an event; nil if it does not wait and is in no system call.
func (s *Source) stay(e *event.Event) *stay {
	if stays := s.stays[e.PID]; stays != nil {
		return stays.Get(e.GoID)
	}
	return nil
}

// begin emits the goroutines that are there when the part begins, and what came of it so
// far. If the trace paused then, in which state they are is not known.
func (s *Source) begin(emit func(*event.Event) error) error {
	s.began = true
	early := s.early
	s.early = nil
	if len(early) > 0 && early[0].Kind == event.Gap && early[0].Since < s.part.From {
		s.states.Apply(&early[0])
		if err := s.gap(&early[0], emit); err != nil {
			return err
		}
		early = early[1:]
	}
	for _, e := range s.there() {
		if !s.match(&e, e.Birth) {
			continue
		}
		if err := emit(&e); err != nil {
			return err
		}
		if w := s.stay(&e); w != nil && w.labels != nil {
			labels := event.Event{Kind: event.Labels, Time: e.Time, PID: e.PID, GoID: e.GoID, Labels: w.labels}
			if err := emit(&labels); err != nil {
				return err
			}
		}
	}
	s.stays = nil
	for i := range early {
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
		}
		if w := s.stay(&e); w != nil {
			e.Reason, e.Fake, e.Stack = w.reason, w.fake, w.stack
		}
		snapshots = append(snapshots, e)
	})
	slices.SortFunc(snapshots, func(a, b event.Event) int {
		return cmp.Or(cmp.Compare(a.PID, b.PID), cmp.Compare(a.GoID, b.GoID))
	})
	return snapshots
}
