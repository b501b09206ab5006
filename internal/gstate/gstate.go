// Package gstate follows the state of every goroutine through a stream of
// events: how long each was in the state it leaves, who created it, and whether
// the stream is whole. A goroutine that was there before the trace is known from
// its [event.Snapshot] on, or else from its first change.
//
// It is a pure function of events. A Tracker is not safe for concurrent use.
package gstate

import (
	"time"

	"gopherscope/internal/event"
	"gopherscope/internal/goid"
	"gopherscope/internal/goruntime"
)

// Tracker holds the state of all goroutines seen and still alive.
type Tracker struct {
	live       map[uint32]*goroutines // by process
	pid        uint32                 // the process of the last event, and
	current    *goroutines            // its goroutines: mostly there is only one
	goroutines uint64
	seeded     uint64
	violations uint64
	change     Change // of the last event
}

// goroutines are those of one process, by goid.
type goroutines = goid.Map[state]

type state struct {
	status  goruntime.Status
	seed    bool  // from a Snapshot; no change was seen yet
	atLeast bool  // it is in the status since then at least
	gaps    uint8 // since its last event; if there are any, the status is not known
	since   int64 // CLOCK_MONOTONIC, ns
	gap     int64 // when the first of the gaps began
	birth   *event.Birth
}

// MaxGaps is how many gaps a goroutine is remembered over without an event, if no
// [event.Census] tells whether it is there: with the last of them it is forgotten. It may have ended in the first one. All that keep something for
// each goroutine go by it, so that they agree on which are there.
const MaxGaps = 100

// Change is what the Tracker knows about an event beyond the event itself.
type Change struct {
	For        time.Duration // time spent in the state just left, when ForKnown
	ForKnown   bool
	ForAtLeast bool         // For is a lower bound: the state began before the trace
	Violation  bool         // From is not the state that the previous event entered
	Birth      *event.Birth // of the goroutine; nil when it is not known
}

// NewTracker returns an empty Tracker.
func NewTracker() *Tracker { return &Tracker{live: map[uint32]*goroutines{}} }

// Apply takes the next event of the stream. The result is valid until the next call.
func (t *Tracker) Apply(e *event.Event) *Change {
	c := &t.change
	c.For, c.ForKnown, c.ForAtLeast, c.Violation = 0, false, false, false
	if c.Birth != nil {
		c.Birth = nil
	}
	switch e.Kind {
	case event.Transition:
		t.transition(e, c)
	case event.Snapshot:
		t.seed(e)
		c.Birth = e.Birth
	case event.Gap:
		t.gap(e)
	case event.Census:
		t.process(e.PID).Retain(func(_ uint64, g *state) bool { return g.gaps == 0 })
	case event.Labels: // no change
		if g := t.process(e.PID).Get(e.GoID); g != nil {
			c.Birth = g.birth
		}
	default:
		t.endProcess(e.PID)
	}
	return c
}

// gap makes the states of all goroutines of a process, or with PID 0 of all processes, unknown.
// Who created them stays.
func (t *Tracker) gap(e *event.Event) {
	for p, live := range t.live {
		if e.PID != 0 && p != e.PID {
			continue
		}
		live.Retain(func(_ uint64, g *state) bool {
			if g.gaps == 0 {
				g.gap = e.Since
			}
			g.gaps++
			g.seed = false
			return g.gaps < MaxGaps
		})
	}
}

// Lasts says whether a Snapshot after gaps, the first of which began at gap, proves that the
// goroutine has waited since before them: then the wait is the one that it was in when they began.
func Lasts(e *event.Event, gap int64) bool { return e.Since != 0 && e.Since <= gap }

// seed takes a goroutine that was there before, the trace or the end of a gap. What changes
// have told of it since stays.
func (t *Tracker) seed(e *event.Event) {
	live := t.process(e.PID)
	g := live.Get(e.GoID)
	if g != nil && g.gaps == 0 {
		return
	}
	since := e.Time
	if e.Since > 0 && e.Since < e.Time {
		since = e.Since
	}
	if g != nil { // known from before a gap
		if g.status != e.To || !Lasts(e, g.gap) {
			g.since, g.atLeast = since, true
		}
		g.status, g.seed, g.gaps = e.To, true, 0
		if g.birth == nil {
			g.birth = e.Birth
		}
		return
	}
	*live.Put(e.GoID) = state{status: e.To, seed: true, atLeast: true, since: since, birth: e.Birth}
	t.goroutines++
	t.seeded++
}

func (t *Tracker) transition(e *event.Event, c *Change) {
	live := t.process(e.PID)
	g := live.Get(e.GoID)
	known := g != nil
	if !known {
		t.goroutines++
		g = live.Put(e.GoID)
	}
	birth := g.birth
	var violation, spent bool
	switch {
	case e.IsNew():
		birth = e.Birth
		violation = known && !g.seed && g.gaps == 0
		if known && g.seed && t.seeded > 0 {
			t.seeded-- // it was being born when the snapshot was taken
		}
	case known && g.gaps == 0:
		whole := continues(g.status, e.From)
		if whole || !g.seed || !underWay(g.status, e.From) {
			violation = !whole
			spent = g.status != goruntime.Dead && g.status != goruntime.DeadExtra
		}
	}
	// Field by field, here and below: of a composite literal the compiler makes byte
	// stores and then copies 16 bytes at a time, for which the CPU has to wait.
	if spent {
		c.For, c.ForKnown, c.ForAtLeast = time.Duration(e.Time-g.since), true, g.atLeast
	}
	c.Violation = violation
	if birth != nil {
		c.Birth = birth
	}
	if violation {
		t.violations++
	}
	if e.Ends() {
		live.Delete(e.GoID)
		return
	}
	g.status, g.seed, g.atLeast, g.gaps, g.since = e.To, false, false, 0, e.Time
	if g.birth != birth {
		g.birth = birth
	}
}

// underWay says whether one change leads from the state that a snapshot read to
// the one that the goroutine's first change leaves. A thread that had passed the
// probe of a change when the trace began, and had not made the change when the
// snapshot was read, makes it unseen: it was put off its CPU in between. Each
// thread can do that once. The end of a system call is another such change up to
// Go 1.25: the kernel's exit from it comes long before the status changes.
func underWay(read, from goruntime.Status) bool {
	switch read {
	case goruntime.Runnable:
		return from == goruntime.Running
	case goruntime.Running:
		return from == goruntime.Runnable || from == goruntime.Waiting || from == goruntime.Syscall || from == goruntime.Preempted
	case goruntime.Syscall: // the last two: the goroutine of an extra M is given back
		return from == goruntime.Running || from == goruntime.Runnable || from == goruntime.Dead || from == goruntime.DeadExtra
	case goruntime.Waiting:
		return from == goruntime.Runnable || from == goruntime.Running || from == goruntime.Leaked
	case goruntime.Preempted:
		return from == goruntime.Waiting
	}
	return false
}

// continues says whether a change from `from` may follow one to `last`. A
// goroutine marked leaked is a waiting one: the runtime takes the mark back
// without a trace (Go 1.26+, runtime/mgcmark.go allGsSnapshotSortedForGC).
func continues(last, from goruntime.Status) bool {
	return last == from || last == goruntime.Leaked && from == goruntime.Waiting
}

func (t *Tracker) process(pid uint32) *goroutines {
	if t.current != nil && t.pid == pid {
		return t.current
	}
	live := t.live[pid]
	if live == nil {
		live = &goroutines{}
		t.live[pid] = live
	}
	t.pid, t.current = pid, live
	return live
}

func (t *Tracker) endProcess(pid uint32) {
	delete(t.live, pid)
	t.current = nil
}

// Live is what is known of a goroutine now.
type Live struct {
	PID    uint32
	GoID   uint64
	Status goruntime.Status
	Since  int64 // when it entered the state: CLOCK_MONOTONIC, ns; of one from a Snapshot, that or earlier
	Birth  *event.Birth
}

// Live passes the goroutines whose state is known to visit, in no order. Those of extra
// Ms that are not in use are dead (DeadExtra).
func (t *Tracker) Live(visit func(Live)) {
	for pid, live := range t.live {
		live.Retain(func(id uint64, g *state) bool {
			if g.gaps == 0 {
				visit(Live{PID: pid, GoID: id, Status: g.status, Since: g.since, Birth: g.birth})
			}
			return true
		})
	}
}

// Goroutines is the number of goroutines that were there before or had at least
// one change.
func (t *Tracker) Goroutines() uint64 { return t.goroutines }

// Seeded is how many of the Goroutines came from a snapshot.
func (t *Tracker) Seeded() uint64 { return t.seeded }

// Violations is the number of events whose From was not the state entered
// before: each is a change that was missed, misordered or made up.
func (t *Tracker) Violations() uint64 { return t.violations }
