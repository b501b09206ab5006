// Package gstate follows the state of every goroutine through a stream of
// events: how long each was in the state it leaves, who created it, and whether
// the stream is whole. It starts mid-life: a goroutine that was there before
// the trace is unknown until its first event.
//
// It is a pure function of events. A Tracker is not safe for concurrent use.
package gstate

import (
	"time"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
)

// Tracker holds the state of all goroutines seen and still alive.
type Tracker struct {
	live       map[uint32]goroutines // by process
	pid        uint32                // the process of the last event, and
	current    goroutines            // its goroutines: mostly there is only one
	goroutines uint64
	violations uint64
}

// goroutines are those of one process, by goid.
type goroutines map[uint64]state

type state struct {
	status goruntime.Status
	since  int64 // CLOCK_MONOTONIC, ns
	birth  *event.Birth
}

// Change is what the Tracker knows about an event beyond the event itself.
type Change struct {
	For       time.Duration // time spent in the state just left, when ForKnown
	ForKnown  bool
	Violation bool         // From is not the state that the previous event entered
	Birth     *event.Birth // of the goroutine; nil when it was born before the trace
}

// NewTracker returns an empty Tracker.
func NewTracker() *Tracker { return &Tracker{live: map[uint32]goroutines{}} }

// Apply takes the next event of the stream.
func (t *Tracker) Apply(e *event.Event) Change {
	if e.Kind != event.Transition {
		t.endProcess(e.PID)
		return Change{}
	}
	live := t.process(e.PID)
	old, known := live[e.GoID]
	c := Change{Birth: old.birth}
	if e.IsNew() {
		c.Birth = e.Birth
		c.Violation = known
	} else if known {
		if old.status != goruntime.Dead && old.status != goruntime.DeadExtra {
			c.For, c.ForKnown = time.Duration(e.Time-old.since), true
		}
		c.Violation = !continues(old.status, e.From)
	}
	if c.Violation {
		t.violations++
	}
	if !known {
		t.goroutines++
	}
	if ends(e) {
		delete(live, e.GoID)
	} else {
		live[e.GoID] = state{status: e.To, since: e.Time, birth: c.Birth}
	}
	return c
}

// continues says whether a change from `from` may follow one to `last`. A
// goroutine marked leaked is a waiting one: the runtime takes the mark back
// without a trace (Go 1.26+, runtime/mgcmark.go allGsSnapshotSortedForGC).
func continues(last, from goruntime.Status) bool {
	return last == from || last == goruntime.Leaked && from == goruntime.Waiting
}

// ends says whether the event is a goroutine's last. That of an extra M comes
// back to life under its old goid when C calls Go again.
func ends(e *event.Event) bool {
	return e.To == goruntime.Dead && e.Via != event.ViaExtraM
}

func (t *Tracker) process(pid uint32) goroutines {
	if t.current != nil && t.pid == pid {
		return t.current
	}
	live := t.live[pid]
	if live == nil {
		live = goroutines{}
		t.live[pid] = live
	}
	t.pid, t.current = pid, live
	return live
}

func (t *Tracker) endProcess(pid uint32) {
	delete(t.live, pid)
	t.current = nil
}

// Goroutines is the number of goroutines that had at least one event.
func (t *Tracker) Goroutines() uint64 { return t.goroutines }

// Violations is the number of events whose From was not the state entered
// before: each is a change that was missed, misordered or made up.
func (t *Tracker) Violations() uint64 { return t.violations }
