package summary_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gstate"
	"gopherscope/internal/summary"
)

// successors are the states that a goroutine can go to, for random lives.
var successors = map[goruntime.Status][]goruntime.Status{
	runnable:            {running},
	running:             {waiting, waiting, waiting, runnable, syscalled, dead, goruntime.Preempted},
	syscalled:           {running},
	waiting:             {runnable},
	goruntime.Preempted: {waiting},
}

// witness adds up the states of goroutines in the plainest way: it walks a clock from
// one event to the next and gives each goroutine the time that passed.
type witness struct {
	now    int64
	states map[uint64]summary.State
	times  [summary.NumStates]int64
}

func (w *witness) advance(t int64) {
	for _, st := range w.states {
		w.times[st] += t - w.now
	}
	w.now = t
}

func (w *witness) event(e *event.Event) {
	w.advance(e.Time)
	if e.Kind == event.Exit {
		clear(w.states)
		return
	}
	switch e.To {
	case dead:
		delete(w.states, e.GoID)
	case runnable:
		w.states[e.GoID] = summary.Runnable
	case syscalled:
		w.states[e.GoID] = summary.Syscall
	case goruntime.Preempted:
		w.states[e.GoID] = summary.Preempted
	case running:
		w.states[e.GoID] = summary.Running
	case waiting:
		w.states[e.GoID] = summary.Waiting
		if e.Fake {
			w.states[e.GoID] = summary.Running
		}
	}
}

// randomEvent is what may come next.
func randomEvent(r *rand.Rand, last map[uint64]goruntime.Status, next *uint64, at int64) event.Event {
	e := event.Event{PID: 5, Time: at, P: event.NoP}
	if r.IntN(5000) == 0 {
		clear(last)
		e.Kind = event.Exit
		return e
	}
	if len(last) == 0 || r.IntN(10) == 0 && len(last) < 50 {
		*next++
		e.GoID, e.From, e.To, e.Via, e.Birth = *next, dead, runnable, event.ViaCreate, birthAt("main.main", r.IntN(5))
	} else {
		for id := range last { // in random order
			e.GoID = id
			break
		}
		e.From = last[e.GoID]
		to := successors[e.From]
		e.To = to[r.IntN(len(to))]
		if e.To == waiting {
			e.Reason = []string{"select", "sleep", "IO wait"}[r.IntN(3)]
			e.Fake = e.From == running && r.IntN(4) == 0
		}
	}
	last[e.GoID] = e.To
	if e.Fake {
		last[e.GoID] = goruntime.Leaked // stands for a fake wait, from which it runs on
	}
	if e.To == dead {
		delete(last, e.GoID)
	}
	return e
}

// TestAddsUp compares pages of intervals of random lives with the witness, in ns, and
// the sum of the pages with the page of all.
func TestAddsUp(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	successors[goruntime.Leaked] = []goruntime.Status{running}
	defer delete(successors, goruntime.Leaked)
	tr, pages, whole := gstate.NewTracker(), summary.New(0, summary.Options{}), summary.New(0, summary.Options{})
	w := &witness{states: map[uint64]summary.State{}}
	last := map[uint64]goruntime.Status{}
	var next uint64
	var sum [summary.NumStates]time.Duration
	var created, ended, waits uint64
	at := int64(0)
	for i := range 30_000 {
		at += r.Int64N(2000)
		e := randomEvent(r, last, &next, at)
		if e.From == goruntime.Leaked {
			e.From = waiting
		}
		c := tr.Apply(&e)
		if c.Violation {
			t.Fatalf("event %d: %+v: the stream itself is wrong", i, e)
		}
		pages.Event(&e, c)
		whole.Event(&e, c)
		w.event(&e)
		if i%1000 != 999 && i != 29_999 {
			continue
		}
		at += r.Int64N(500)
		w.advance(at)
		pages.Advance(at)
		whole.Advance(at)
		p := pages.Page()
		addsUp(t, p)
		if got := times(p); got != w.times || p.Alive != len(w.states) {
			t.Fatalf("event %d: %v, alive %d; the witness has %v, %d", i, got, p.Alive, w.times, len(w.states))
		}
		for st := range sum {
			sum[st] += p.States[st].Time
		}
		created, ended, waits = created+p.Created, ended+p.Ended, waits+blockedCount(p)
		w.times = [summary.NumStates]int64{}
		pages.Reset()
	}
	p := whole.Page()
	addsUp(t, p)
	for st := range sum {
		if sum[st] != p.States[st].Time || sum[st] == 0 && summary.State(st) != summary.Unknown {
			t.Errorf("%v: %d on the pages, %d on the whole", summary.State(st), sum[st], p.States[st].Time)
		}
	}
	if created != p.Created || ended != p.Ended || waits != blockedCount(p) {
		t.Errorf("%d created, %d ended, %d waits on the pages; %d, %d, %d on the whole", created, ended, waits, p.Created, p.Ended, blockedCount(p))
	}
}

func blockedCount(p *summary.Page) (n uint64) {
	for _, b := range p.Blocked {
		n += b.Count
	}
	return n
}

// An event that is a little older than the end of the interval before is accounted for
// from that end on.
func TestLateEvent(t *testing.T) {
	sc := newScript(t, summary.Options{})
	sc.born(0, 1, birthAt("main.main", 1))
	sc.page(100)
	sc.s.Reset()
	sc.run(98, 1)
	sc.born(97, 2, birthAt("main.main", 1))
	p := sc.page(110)
	if got, want := times(p), [...]int64{summary.Running: 10, summary.Runnable: 10, summary.Unknown: 0}; got != want {
		t.Errorf("%v, want %v", got, want)
	}
	if p.Sched.Total != 98 {
		t.Errorf("the latency is %v, want 98 ns, whole", p.Sched.Total)
	}
}

// After Reset nothing of the interval before is left.
func TestReset(t *testing.T) {
	l := newLap(1000)
	tr, s := gstate.NewTracker(), summary.New(0, summary.Options{})
	l.feed(len(l.events), tr, s)
	if p := s.Page(); p.Events == 0 || p.Sched.Count == 0 || len(p.Blocked) == 0 || len(p.Wakes) == 0 || len(p.Sites) == 0 || len(p.Busiest) == 0 || p.Syscalls.Count == 0 {
		t.Fatalf("an empty page: %+v", p)
	}
	s.Reset()
	p, want := s.Page(), &summary.Page{Begin: l.now, End: l.now, Busiest: []summary.Goroutine{}, LongWaits: []summary.Goroutine{}}
	if p.Begin != want.Begin || p.Events+p.Created+p.Ended+p.Sched.Count+p.Slices.Count+p.Syscalls.Count != 0 || p.Sched != want.Sched ||
		len(p.Blocked)+len(p.Wakes)+len(p.Sites)+len(p.Latency)+len(p.Busiest)+len(p.LongWaits)+len(p.SchedHist)+len(p.SliceEnds) != 0 {
		t.Errorf("%+v", p)
	}
}

// The memory does not go with the number of events.
func TestSteadyState(t *testing.T) {
	l := newLap(2000)
	tr, s := gstate.NewTracker(), summary.New(0, summary.Options{})
	work := l.events[3*lapGoroutines : len(l.events)-3*lapGoroutines]
	l.feed(3*lapGoroutines, tr, s)
	births := 0
	var offset int64
	lapOfWork := func() {
		for i := range work {
			e := work[i]
			e.Time += offset
			if e.IsNew() {
				births++
			}
			s.Event(&e, tr.Apply(&e))
		}
		offset += l.length
	}
	lapOfWork()
	births = 0
	allocs := testing.AllocsPerRun(5, lapOfWork)
	// One for each goroutine that is born here, one in gstate, and what maps take to
	// shed their dead: none for an event as such.
	if perLap := births / 6; allocs > 2.2*float64(perLap) {
		t.Errorf("%.0f allocations for %d events with %d births", allocs, len(work), perLap)
	}
}
