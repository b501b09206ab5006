package recording

import (
	"cmp"
	"slices"

	"gopherscope/internal/event"
	"gopherscope/internal/goid"
	"gopherscope/internal/goruntime"
)

// Roster follows a trace, and can tell at any time which goroutines are there, as a trace
// does that begins then. A recording that begins in the middle of a trace begins with them.
// It needs memory for each goroutine that is there. The zero Roster is empty and ready. It
// is not safe for concurrent use.
type Roster struct {
	processes map[uint32]*goid.Map[present]
}

// present is a goroutine that is there.
type present struct {
	status goruntime.Status
	fake   bool
	reason string
	since  int64 // it is in that state since then, at least; 0 if unknown
	stack  uint32
	birth  *event.Birth
	labels *event.LabelSet // of the wait that it is in; nil if unknown
}

// Apply takes the next event of the trace.
func (r *Roster) Apply(e *event.Event) {
	switch e.Kind {
	case event.Transition:
		r.transition(e)
	case event.Snapshot:
		p := r.process(e.PID)
		if p.Get(e.GoID) == nil {
			*p.Put(e.GoID) = present{status: e.To, fake: e.Fake, reason: e.Reason, since: e.Since, stack: e.Stack, birth: e.Birth}
		}
	case event.Labels:
		if g := r.process(e.PID).Get(e.GoID); g != nil {
			g.labels = e.Labels
		}
	case event.Exec, event.Exit:
		delete(r.processes, e.PID)
	case event.Gap:
		if e.PID == 0 {
			clear(r.processes)
		}
		delete(r.processes, e.PID)
	}
}

func (r *Roster) process(pid uint32) *goid.Map[present] {
	p := r.processes[pid]
	if p == nil {
		if r.processes == nil {
			r.processes = map[uint32]*goid.Map[present]{}
		}
		p = &goid.Map[present]{}
		r.processes[pid] = p
	}
	return p
}

func (r *Roster) transition(e *event.Event) {
	p := r.process(e.PID)
	if e.Ends() {
		p.Delete(e.GoID)
		return
	}
	g := p.Put(e.GoID)
	g.status, g.fake, g.reason, g.since, g.stack = e.To, e.Fake, e.Reason, e.Time, e.Stack
	g.labels = nil // which it may change when it runs
	if e.Birth != nil {
		g.birth = e.Birth
	}
}

// Snapshots passes on an event of kind Snapshot for each goroutine that is there, as of
// now (CLOCK_MONOTONIC, ns), by process and goid, and after it the labels, if they are known. Those that wait say since when. The event is valid
// during the call. An error of emit ends Snapshots and is returned.
func (r *Roster) Snapshots(now int64, emit func(*event.Event) error) error {
	var list []event.Event
	for pid, p := range r.processes {
		p.Retain(func(goid uint64, g *present) bool {
			if g.status == goruntime.Dead || g.status == goruntime.DeadExtra {
				return true // of an extra M, between two calls from C
			}
			e := event.Event{Kind: event.Snapshot, Time: now, PID: pid, GoID: goid, To: g.status, Birth: g.birth}
			if g.status == goruntime.Waiting {
				e.Fake, e.Reason, e.Since = g.fake, g.reason, g.since
			}
			if g.status == goruntime.Waiting || g.status == goruntime.Syscall {
				e.Stack = g.stack // of a birth it is the parent's
			}
			list = append(list, e)
			if g.labels != nil {
				list = append(list, event.Event{Kind: event.Labels, Time: now, PID: pid, GoID: goid, Labels: g.labels})
			}
			return true
		})
	}
	slices.SortFunc(list, func(a, b event.Event) int {
		return cmp.Or(cmp.Compare(a.PID, b.PID), cmp.Compare(a.GoID, b.GoID), cmp.Compare(a.Kind, b.Kind))
	})
	for i := range list {
		if err := emit(&list[i]); err != nil {
			return err
		}
	}
	return nil
}
