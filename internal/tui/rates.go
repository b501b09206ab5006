package tui

import (
	"slices"
	"time"

	"gopherscope/internal/engine"
	"gopherscope/internal/event"
	"gopherscope/internal/goid"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gstate"
)

// Rates are what the goroutines of a process did between two moments.
type Rates struct {
	Engine      string                      // ebpf or inline
	For         time.Duration               // between the moments, without gaps
	Transitions uint64                      // of all goroutines
	Goroutines  map[uint64]*Figures         // of those that live and did or waited for something
	Ended       map[event.Location]*Figures // of those that ended meanwhile, by their go statement

	Lost       uint64        // events that there are none of, since the engine was attached
	Violations uint64        // events that did not continue the one before, since then
	Cost       time.Duration // CPU time of the process that the engine cost it, between the moments
	Over       time.Duration // between the moments, gaps and all

	Watched uint64       // the goroutine that is watched; 0 if none is
	History []Transition // of it, since it is watched, the oldest first; at most 200
}

// Transition is one change of the goroutine that is watched.
type Transition struct {
	Mono     int64     // CLOCK_MONOTONIC, ns
	Wall     time.Time // the same moment
	From, To goruntime.Status
	Reason   string        // why it waits when To is Waiting
	Via      event.Via     // by which path of the runtime
	P        int32         // event.NoP if none
	For      time.Duration // in From; 0 if unknown
	AtLeast  bool          // For is a lower bound
	Waker    uint64        // the goroutine that made it runnable; 0 if none did
}

// Figures are what one goroutine, or several together, did.
type Figures struct {
	Transitions uint64
	Blocked     time.Duration // in state waiting, but for waits in which a goroutine keeps its M
	sched       latencies     // from runnable to running
}

// SchedWait is the time from runnable to running that a part q (0 to 1) of the
// waits did not exceed, at most 1/32 above the exact one; 0 if there were none.
func (f *Figures) SchedWait(q float64) time.Duration { return f.sched.quantile(q) }

// add adds the other's figures.
func (f *Figures) add(o *Figures) {
	f.Transitions += o.Transitions
	f.Blocked += o.Blocked
	for _, b := range o.sched {
		f.sched.count(b.index, b.n)
	}
}

// latencies is a histogram of durations by size: one bucket is at most 1/32 wide of
// its begin. Most goroutines have few sizes in one second, so that only buckets
// with something in them are kept, in ascending order.
type latencies []bucket

type bucket struct {
	index uint16
	n     uint64
}

// subBuckets is log2 of how many buckets there are from one power of two to the next.
const subBuckets = 5

// bucketOf is the bucket of a duration in ns, and bucketEnd the highest that is in one.
func bucketOf(ns uint64) uint16 {
	shift := 0
	for v := ns; v >= 2<<subBuckets; v >>= 1 {
		shift++
	}
	return uint16(shift<<subBuckets) + uint16(ns>>shift)
}

func bucketEnd(index uint16) uint64 {
	if index < 2<<subBuckets {
		return uint64(index)
	}
	shift := index>>subBuckets - 1
	return (uint64(index-shift<<subBuckets)+1)<<shift - 1
}

func (l *latencies) count(index uint16, n uint64) {
	i, ok := slices.BinarySearchFunc(*l, index, func(b bucket, index uint16) int { return int(b.index) - int(index) })
	if !ok {
		*l = slices.Insert(*l, i, bucket{index: index})
	}
	(*l)[i].n += n
}

func (l latencies) quantile(q float64) time.Duration {
	var total, seen uint64
	for _, b := range l {
		total += b.n
	}
	for _, b := range l {
		if seen += b.n; float64(seen) >= q*float64(total) {
			return time.Duration(bucketEnd(b.index))
		}
	}
	return 0
}

// Recorder makes Rates of a stream of events. Its memory is bounded by the
// goroutines that live and by the go statements of those that ended. It is not safe
// for concurrent use.
type Recorder struct {
	wall    func(mono int64) int64
	tracker *gstate.Tracker
	live    goid.Map[recorded]
	begin   int64 // of the Rates that come next
	count   uint64
	// untraced is how much of the time was in gaps.
	untraced int64
	resumed  int64 // the end of the last gap
	ended    map[event.Location]*Figures
	watched  uint64
	history  []Transition

	violations uint64 // before the tracker's
}

// recorded is a goroutine as a Recorder knows it.
type recorded struct {
	blocked bool  // it is in a real wait
	gaps    uint8 // since its last event; if there are any, its state is not known
	since   int64 // it is in its state since then, or nothing has been heard of it since
	figures Figures
}

// historyLen is how many transitions of the watched goroutine are kept.
const historyLen = 200

// NewRecorder returns a Recorder for a trace that begins at that moment. wall is
// the stream's (see stream.Source).
func NewRecorder(begin int64, wall func(mono int64) int64) *Recorder {
	return &Recorder{wall: wall, tracker: gstate.NewTracker(), begin: begin, ended: map[event.Location]*Figures{}}
}

// Event takes the next event of the stream.
func (r *Recorder) Event(e *event.Event) {
	c := r.tracker.Apply(e)
	switch e.Kind {
	case event.Snapshot:
		if g := r.live.Get(e.GoID); g == nil || g.gaps > 0 {
			g = r.live.Put(e.GoID)
			g.blocked, g.since, g.gaps = e.To == goruntime.Waiting && !e.Fake, max(r.begin, r.resumed), 0
		}
	case event.Transition:
		r.transition(e, c)
	case event.Gap:
		r.gap(e)
	case event.Census:
		r.live.Retain(func(_ uint64, g *recorded) bool { return g.gaps == 0 || g.figures.Transitions > 0 })
	case event.Labels: // no change
	case event.Exec, event.Exit:
		r.live = goid.Map[recorded]{}
	}
}

// gap ends all waits at the begin of a gap, and leaves its time out.
func (r *Recorder) gap(e *event.Event) {
	r.live.Retain(func(_ uint64, g *recorded) bool {
		g.wait(max(g.since, r.begin), e.Since)
		g.blocked, g.since = false, e.Time
		g.gaps++
		return g.gaps < gstate.MaxGaps || g.figures.Transitions > 0
	})
	r.untraced += max(0, e.Time-max(e.Since, r.begin))
	r.resumed = e.Time
}

// wait counts a wait, of a goroutine that is in one.
func (g *recorded) wait(from, to int64) {
	if g.blocked {
		g.figures.Blocked += time.Duration(max(0, to-from))
	}
}

func (r *Recorder) transition(e *event.Event, c *gstate.Change) {
	g := r.live.Put(e.GoID)
	r.count++
	g.figures.Transitions++
	if g.gaps > 0 && e.From == goruntime.Waiting && e.To == goruntime.Runnable {
		g.blocked = true // ever since the gap; from a wait on its M it would go on running
	}
	if e.From == goruntime.Waiting {
		g.wait(max(g.since, r.begin), e.Time)
	}
	if e.From == goruntime.Runnable && e.To == goruntime.Running && c.ForKnown && !c.ForAtLeast && c.For >= 0 {
		g.figures.sched.count(bucketOf(uint64(c.For)), 1)
	}
	g.blocked, g.since, g.gaps = e.To == goruntime.Waiting && !e.Fake, e.Time, 0
	if e.GoID == r.watched {
		r.note(e, c)
	}
	if !e.Ends() {
		return
	}
	var site event.Location
	if c.Birth != nil {
		site = c.Birth.CreatedBy
	}
	f := r.ended[site]
	if f == nil {
		f = &Figures{}
		r.ended[site] = f
	}
	f.add(&g.figures)
	r.live.Delete(e.GoID)
}

// note keeps a transition of the goroutine that is watched.
func (r *Recorder) note(e *event.Event, c *gstate.Change) {
	if len(r.history) == historyLen {
		r.history = append(r.history[:0], r.history[1:]...)
	}
	t := Transition{
		Mono: e.Time, Wall: time.Unix(0, r.wall(e.Time)),
		From: e.From, To: e.To, Reason: e.Reason, Via: e.Via, P: e.P, Waker: e.Waker,
	}
	if c.ForKnown {
		t.For, t.AtLeast = c.For, c.ForAtLeast
	}
	r.history = append(r.history, t)
}

// Watch keeps the transitions of one goroutine from now on; of none if it is 0.
func (r *Recorder) Watch(id uint64) {
	if id != r.watched {
		r.watched, r.history = id, nil
	}
}

// Take returns the Rates since the last call. All events before now must have come.
func (r *Recorder) Take(now int64) *Rates {
	now = max(now, r.resumed) // a gap may end after all events before now have come
	rates := &Rates{
		For: time.Duration(max(0, now-r.begin-r.untraced)), Transitions: r.count, Goroutines: map[uint64]*Figures{}, Ended: r.ended,
		Over:       time.Duration(max(0, now-r.begin)),
		Violations: r.broken(), Watched: r.watched, History: slices.Clone(r.history),
	}
	r.live.Retain(func(id uint64, g *recorded) bool {
		g.wait(max(g.since, r.begin), now)
		if g.figures.Transitions > 0 || g.figures.Blocked > 0 {
			f := g.figures
			rates.Goroutines[id] = &f
			g.figures = Figures{}
		}
		return true
	})
	r.begin, r.count, r.untraced, r.ended = now, 0, 0, map[event.Location]*Figures{}
	return rates
}

// broken is how many events did not continue the one before.
func (r *Recorder) broken() uint64 { return r.violations + r.tracker.Violations() }

// Charge fills in what only the engine knows: what is lost so far, and what its cost
// rose by since the Rates before, which is cost less before.
func (r *Rates) Charge(engine string, lost engine.Lost, before, cost time.Duration) {
	r.Engine, r.Lost, r.Cost = engine, lost.Total(), max(0, cost-before)
}
