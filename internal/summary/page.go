package summary

import (
	"cmp"
	"slices"
	"time"

	"gopherscope/internal/event"
)

// Page has all figures of an interval. Times in states add up: see the package's
// comment. An interval has room for 292 years of goroutine time. The rows of tables are
// in order, the largest first but those of the runtime's own goroutines last, at most
// Options.Top of them.
type Page struct {
	Begin, End int64 // of the interval: CLOCK_MONOTONIC, ns

	Events     uint64
	Violations uint64        // see gstate
	Untraced   time.Duration // in which nothing was traced
	Alive      int           // goroutines, at the end
	Unsure     int           // more of them, which may have ended in a gap: see Summary.Unsure
	Seeded     uint64        // how many were there before the trace, counted once and not for each interval
	Found      uint64        // how many came in a gap, and were heard of after it
	Missed     uint64        // how many ended in a gap
	Created    uint64
	Ended      uint64

	Lived  time.Duration // lifetimes of all goroutines, as far as they are in the interval
	States [NumStates]StateTime

	Sched     Dist     // runnable to running
	SchedHist []Bucket // of the same
	Latency   []SiteRow

	Slices    Dist // uninterrupted stretches of running; fake waits do not interrupt
	SliceEnds []SliceEnd

	Syscalls  Dist
	Cgo       Dist          // calls of C code
	LostP     uint64        // system calls and calls of C code that lost their P
	LostPTime time.Duration // from when another thread was seen with it to the end of the call: at least

	FakeWaits []FakeWait

	Blocked     []Blocked
	BlockedRows int // how many there are, shown or not

	Wakes     []Wake
	WakeRows  int
	Sites     []SiteRow // by how many goroutines came, went and are there
	SiteRows  int
	Busiest   []Goroutine // by time running
	LongWaits []Goroutine // by the longest single wait; none of the runtime's own
}

// StateTime is what there is of a state.
type StateTime struct {
	Time time.Duration // of all goroutines
	Now  int           // goroutines, at the end
}

// SiteRow is what there is of the goroutines of a creation site.
type SiteRow struct {
	Site
	Alive    int // at the end of the interval
	Created  int
	Ended    int
	Time     [NumStates]time.Duration
	Sched    Dist
	Lifetime Dist // of those that ended
}

// SliceEnd is how often running ended in a way.
type SliceEnd struct {
	Via   event.Via
	Count uint64
}

// FakeWait is what there is of the fake waits of one reason, which are time running in
// the runtime (see goruntime.IsFakeWait).
type FakeWait struct {
	Reason string
	Dist
}

// Blocked is a row of blocked time: goroutines of one creation site that wait for one
// reason in one function.
type Blocked struct {
	Reason string // the runtime's words; "" if unknown
	// Func is the user's function in which they wait when the trace has stacks, else
	// the one that the goroutine began at; "" if unknown.
	Func string
	Site
	Time time.Duration // in the interval, also of waits that have not ended
	Dist               // of the waits that ended in the interval, whole
	Now  int           // goroutines that still wait
	Open time.Duration // for how long, the longest
	// OpenAtLeast says that this one began before the trace.
	OpenAtLeast bool
}

// Longest is the longest wait, ended or not, and whether it is a lower bound because
// it began before the trace or has not ended.
func (b *Blocked) Longest() (d time.Duration, atLeast bool) {
	if b.Now > 0 && b.Open >= b.Max {
		return b.Open, true
	}
	return b.Max, b.MaxAtLeast
}

// Wake is how often goroutines of one site made those of another runnable.
type Wake struct {
	// From is the waker's site; nil when no goroutine did it but what Via says.
	From  *Site
	To    Site
	Via   event.Via
	Count uint64
}

// Goroutine is one goroutine in an interval.
type Goroutine struct {
	PID  uint32
	GoID uint64
	Site
	Time  [NumStates]time.Duration
	Ended bool
	State State // when not Ended
	// The longest wait that ended in the interval or is not over; 0 if there is none.
	Longest        time.Duration
	LongestAtLeast bool // it began before the trace, or is not over
	Reason         string
	Func           string
}

// ranking has the goroutines with the highest keys.
type ranking struct {
	limit int
	list  []ranked // the highest key first
}

type ranked struct {
	key int64
	Goroutine
}

// offer adds the goroutine if it is among the highest. One with key 0 is not.
func (r *ranking) offer(g *goroutine, key int64, ended bool) {
	n := len(r.list)
	if key == 0 || n >= r.limit && key <= r.list[n-1].key {
		return
	}
	e := Goroutine{PID: g.pid, GoID: g.goid, Site: g.site.Site, Ended: ended, State: g.state}
	for i, ns := range g.time {
		e.Time[i] = time.Duration(ns)
	}
	if l := g.longest; l.wait != nil {
		e.Longest, e.LongestAtLeast, e.Reason, e.Func = time.Duration(l.ns), l.atLeast, l.wait.reason, l.wait.fn
	}
	at, _ := slices.BinarySearchFunc(r.list, key, func(x ranked, key int64) int {
		if x.key >= key { // equal keys stay in the order in which they came
			return -1
		}
		return 1
	})
	if n >= r.limit {
		r.list = r.list[:n-1]
	}
	r.list = slices.Insert(r.list, at, ranked{key, e})
}

func (r *ranking) goroutines() []Goroutine {
	out := make([]Goroutine, 0, len(r.list))
	for _, x := range r.list {
		out = append(out, x.Goroutine)
	}
	return out
}

// Page is what the interval has come to so far. It does not change any more.
func (s *Summary) Page() *Page {
	s.settle()
	p := &Page{
		Begin: s.begin, End: s.now,
		Events: s.events, Violations: s.violations, Untraced: time.Duration(s.untraced),
		Alive: s.Alive(), Unsure: s.unsure, Seeded: s.seeded, Found: s.found, Missed: s.missed, Created: s.created, Ended: s.ended,
		Lived: time.Duration(s.lived + int64(s.alive)*s.now),
		Sched: s.sched.dist(), SchedHist: s.sched.buckets(), Slices: s.slices.dist(),
		Syscalls: s.syscalls.dist(), Cgo: s.cgo.dist(), LostP: s.lostP, LostPTime: time.Duration(s.lostPTime),
	}
	for i := range p.States {
		p.States[i].Now = s.states[i]
	}
	for _, st := range s.siteList {
		for i, ns := range st.time {
			p.States[i].Time += time.Duration(ns)
		}
	}
	for via, n := range s.sliceEnds {
		if n > 0 {
			p.SliceEnds = append(p.SliceEnds, SliceEnd{event.Via(via), n})
		}
	}
	slices.SortStableFunc(p.SliceEnds, func(a, b SliceEnd) int { return cmp.Compare(b.Count, a.Count) })
	for _, f := range s.fakes {
		if f.all.count > 0 {
			p.FakeWaits = append(p.FakeWaits, FakeWait{f.reason, f.all.dist()})
		}
	}
	slices.SortFunc(p.FakeWaits, func(a, b FakeWait) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(a.Reason, b.Reason))
	})
	s.blockedRows(p)
	s.wakeRows(p)
	s.siteRows(p)
	s.goroutineRows(p)
	return p
}

// largest is a part of the list for a table: what is not 0, the largest first, but the
// runtime's own last, at most top of them, and how many there are. The list is not
// changed.
func largest[T any](list []*T, top int, key func(*T) int64, own func(*T) bool) (rows []*T, all int) {
	for _, x := range list {
		if key(x) > 0 {
			rows = append(rows, x)
		}
	}
	slices.SortStableFunc(rows, func(a, b *T) int {
		if owns := own(a); owns != own(b) {
			if owns {
				return 1
			}
			return -1
		}
		return cmp.Compare(key(b), key(a))
	})
	all = len(rows)
	if top > 0 {
		rows = rows[:min(top, all)]
	}
	return rows, all
}

func (s *Summary) blockedRows(p *Page) {
	rows, all := largest(s.waitList, s.opts.Top, func(w *wait) int64 { return w.time + int64(w.ended.count) + int64(w.now) },
		func(w *wait) bool { return w.site.Runtime() })
	p.BlockedRows = all
	for _, w := range rows {
		p.Blocked = append(p.Blocked, Blocked{
			Reason: w.reason, Func: w.fn, Site: w.site.Site, Time: time.Duration(w.time), Dist: w.ended.dist(),
			Now: w.now, Open: time.Duration(w.open), OpenAtLeast: w.openAtLeast,
		})
	}
}

func (s *Summary) wakeRows(p *Page) {
	rows, all := largest(s.edgeList, s.opts.Top, func(e *edge) int64 { return int64(e.count) },
		func(e *edge) bool { return e.to.Runtime() })
	p.WakeRows = all
	for _, e := range rows {
		w := Wake{To: e.to.Site, Via: e.via, Count: e.count}
		if e.from != nil {
			from := e.from.Site
			w.From = &from
		}
		p.Wakes = append(p.Wakes, w)
	}
}

func (s *Summary) siteRows(p *Page) {
	rows, _ := largest(s.siteList, s.opts.Top, func(st *site) int64 { return st.sched.total + int64(st.sched.count) }, runtimes)
	for _, st := range rows {
		p.Latency = append(p.Latency, st.row())
	}
	rows, p.SiteRows = largest(s.siteList, s.opts.Top, func(st *site) int64 { return int64(st.created + st.ended + st.alive) }, runtimes)
	for _, st := range rows {
		p.Sites = append(p.Sites, st.row())
	}
}

func runtimes(st *site) bool { return st.Runtime() }

func (st *site) row() SiteRow {
	row := SiteRow{
		Site: st.Site, Alive: st.alive, Created: st.created, Ended: st.ended,
		Sched: st.sched.dist(), Lifetime: st.lifetime.dist(),
	}
	for i, ns := range st.time {
		row.Time[i] = time.Duration(ns)
	}
	return row
}

func (s *Summary) goroutineRows(p *Page) {
	busiest, waiters := s.busiest, s.waiters
	busiest.list, waiters.list = slices.Clone(busiest.list), slices.Clone(waiters.list)
	for _, proc := range s.procs {
		for _, g := range proc.all {
			was := g.longest
			if g.state == Waiting {
				g.waited(s.now)
				if g.longest != was {
					g.longest.atLeast = true // it is not over
				}
			}
			busiest.offer(g, g.time[Running], false)
			if !g.site.Runtime() {
				waiters.offer(g, g.longest.ns, false)
			}
			g.longest = was
		}
	}
	p.Busiest, p.LongWaits = busiest.goroutines(), waiters.goroutines()
}
