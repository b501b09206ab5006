package trigger

import (
	"fmt"
	"strings"
	"time"

	"gopherscope/internal/event"
	"gopherscope/internal/gstate"
	"gopherscope/internal/summary"
)

const (
	// slot is how often a Watch looks, ns of event time.
	slot = int64(100 * time.Millisecond)
	// slots make up the second that figures are of.
	slots = 10
)

// Fired is a condition that came to hold.
type Fired struct {
	Condition *Condition
	Time      int64  // of the look that found it: CLOCK_MONOTONIC, ns
	Values    string // the figures that it is about, for people: "runnable = 312, sched.p99 = 12ms"
}

// Watch follows a stream and says when conditions come to hold.
type Watch struct {
	sum    *summary.Summary
	conds  []*armed
	series []*series
	counts []*series // those of them that have peaks
	dists  []*dist
	rates  [2]rate // created, lost

	looking bool  // the goroutines that were there are known
	next    int64 // look: CLOCK_MONOTONIC, ns
	looks   int   // that there were
	total   uint64
	fired   []Fired
}

// armed is a condition and where it stands.
type armed struct {
	*Condition
	terms []*series // those of its terms
	off   bool      // it has fired and was not clearly false since
	since int64     // it holds since then; 0 if it does not
}

// dist is a distribution over the last second.
type dist struct {
	name, reason string
	window       *summary.Window
	now          *summary.Durations
}

// rate is a count over the last second.
type rate struct {
	slots [slots]uint64
	sum   uint64
}

func (r *rate) push(at int, n uint64) {
	r.sum += n - r.slots[at]
	r.slots[at] = n
}

const rateCreated, rateLost = 0, 1

// NewWatch follows a trace that begins at begin, CLOCK_MONOTONIC in ns.
func NewWatch(begin int64, conditions []*Condition) *Watch {
	w := &Watch{sum: summary.New(begin, summary.Options{})}
	for _, c := range conditions {
		a := &armed{Condition: c}
		for i := range c.Terms {
			a.terms = append(a.terms, w.follow(&c.Terms[i]))
		}
		w.conds = append(w.conds, a)
	}
	return w
}

// follow is the series of a term's figure.
func (w *Watch) follow(t *Term) *series {
	for _, s := range w.series {
		if s.Figure == t.Figure {
			s.remembers = s.remembers || t.Factor
			return s
		}
	}
	s := &series{Figure: t.Figure, remembers: t.Factor}
	w.series = append(w.series, s)
	switch {
	case s.counts():
		w.counts = append(w.counts, s)
	case s.duration():
		s.dist = w.distribution(s.Name, s.Reason)
	}
	return s
}

func (w *Watch) distribution(name, reason string) *dist {
	for _, d := range w.dists {
		if d.name == name && d.reason == reason {
			return d
		}
	}
	d := &dist{name: name, reason: reason, window: summary.NewWindow(slots)}
	w.dists = append(w.dists, d)
	return d
}

// Event takes the next event and what package gstate knows of it. Neither is kept.
func (w *Watch) Event(e *event.Event, c *gstate.Change) {
	switch {
	case !w.looking:
	case e.Kind == event.Gap:
		w.skip(e)
	default:
		w.lookUpTo(e.Time)
	}
	w.sum.Event(e, c)
	if !w.looking {
		return
	}
	for _, s := range w.counts {
		s.peak(w.count(s.Figure))
	}
}

// skip leaves out the time in which nothing was traced: for the Watch it does not pass.
func (w *Watch) skip(gap *event.Event) {
	w.lookUpTo(gap.Since)
	length := max(0, gap.Time-gap.Since)
	w.next += length
	for _, a := range w.conds {
		if a.since != 0 {
			a.since += length
		}
	}
}

// Tick says that every event before now has come, and how many were lost since the trace began. In a
// pause of the trace, now is when that began. It returns the conditions that came to hold since the last call.
func (w *Watch) Tick(now int64, lost uint64) []Fired {
	if !w.looking {
		// Before there were only those goroutines that have been found so far.
		w.looking, w.next, w.total = true, now+slot, lost
		w.sum.Advance(now)
		w.sum.ResetFigures()
		for _, s := range w.counts {
			s.restart(w.count(s.Figure))
		}
	}
	// What was lost is told with a tick only: it is of the next look.
	w.rates[rateLost].push(w.slot(), w.rates[rateLost].slots[w.slot()]+lost-w.total)
	w.total = lost
	w.lookUpTo(now)
	w.sum.Advance(now)
	fired := w.fired
	w.fired = nil
	return fired
}

// slot is the one that the next look ends.
func (w *Watch) slot() int { return w.looks % slots }

func (w *Watch) lookUpTo(now int64) {
	for now >= w.next {
		w.look(w.next)
	}
}

// look ends an interval, and finds out which conditions hold.
func (w *Watch) look(now int64) {
	w.sum.Advance(now)
	w.slide()
	for _, s := range w.series {
		s.now, s.known = w.value(s)
	}
	for _, a := range w.conds {
		if a.step(now) {
			w.fired = append(w.fired, Fired{a.Condition, now, a.values()})
		}
	}
	for _, s := range w.series {
		s.remember()
	}
	for _, s := range w.counts {
		s.restart(s.now)
	}
	w.next += slot
	w.looks++
	w.rates[rateLost].push(w.slot(), 0)
}

// slide moves the second that figures are of.
func (w *Watch) slide() {
	w.rates[rateCreated].push(w.slot(), w.sum.Created())
	for _, d := range w.dists {
		d.window.Next()
		switch {
		case d.name == sched:
			d.window.Add(w.sum.Sched())
		case d.reason == "":
			w.sum.EachBlocked(func(_ string, of *summary.Durations) { d.window.Add(of) })
		default:
			if of := w.sum.Blocked(d.reason); of != nil {
				d.window.Add(of)
			}
		}
		d.now = d.window.Durations()
	}
	w.sum.ResetFigures()
}

// count is the value of a figure that counts goroutines. Those that may have ended in a gap can
// be in any state.
func (w *Watch) count(f Figure) bounds {
	sure := w.sure(f)
	return bounds{sure, sure + float64(w.sum.Unsure())}
}

// sure is how many goroutines a figure counts that are known to be there.
func (w *Watch) sure(f Figure) float64 {
	states := w.sum.States()
	switch f.Name {
	case running:
		return float64(states[summary.Running])
	case runnable:
		return float64(states[summary.Runnable])
	case syscall:
		return float64(states[summary.Syscall])
	case waiting:
		if f.Reason != "" {
			return float64(w.sum.WaitingFor(f.Reason))
		}
		return float64(states[summary.Waiting])
	}
	return float64(w.sum.Alive())
}

// quantiles are the parts that are one.
var quantiles = map[string]float64{"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}

// value is a figure's; ok is false when it is not known.
func (w *Watch) value(s *series) (v bounds, ok bool) {
	switch {
	case s.counts():
		return w.count(s.Figure), true
	case w.looks < slots-1:
		return v, false // there is no whole second yet
	case s.Name == created:
		return exactly(float64(w.rates[rateCreated].sum)), true
	case s.Name == lost:
		return exactly(float64(w.rates[rateLost].sum)), true
	}
	d := s.dist.now
	switch {
	case s.Part == "total":
		return exactly(float64(d.Total())), true
	case d.Count() == 0:
		return v, false
	case s.Part == "max":
		return exactly(float64(d.Max())), true
	}
	return exactly(float64(d.Quantile(quantiles[s.Part]))), true
}

// step says whether the condition fires at this look.
func (a *armed) step(now int64) bool {
	holds, over := true, false
	for i := range a.Terms {
		t := &a.Terms[i]
		v, bound, ok := a.compare(i)
		surely, perhaps := v.least, v.most
		if !t.Op.upward() {
			surely, perhaps = v.most, v.least
		}
		holds = holds && ok && t.Op.holds(surely, bound)
		over = over || !ok || t.Op.clear(perhaps, bound)
	}
	if !holds {
		a.since = 0
		a.off = a.off && !over
		return false
	}
	if a.since == 0 {
		a.since = now
	}
	if a.off || now-a.since < int64(a.For) {
		return false
	}
	a.off = true
	return true
}

// compare returns the value of a term and its bound; ok is false when either is not known.
func (a *armed) compare(i int) (v bounds, bound float64, ok bool) {
	t, s := &a.Terms[i], a.terms[i]
	v, bound = s.now, t.Bound
	if a.For == 0 && s.counts() {
		v = s.min
		if t.Op.upward() {
			v = s.max
		}
	}
	if !s.known || !t.Factor {
		return v, bound, s.known
	}
	median, ok := s.median()
	return v, bound * median, ok && median > 0
}

// values tells of the terms' figures.
func (a *armed) values() string {
	var text []string
	for i := range a.Terms {
		t, s := &a.Terms[i], a.terms[i]
		of, _, _ := a.compare(i)
		v := of.least
		if !t.Op.upward() {
			v = of.most
		}
		one := fmt.Sprintf("%s = %s", t.Figure, t.Figure.format(v))
		if t.Factor {
			median, _ := s.median()
			one += fmt.Sprintf(", %.3gx the median %s", v/median, t.Figure.format(median))
		}
		text = append(text, one)
	}
	return strings.Join(text, ", ")
}

// NeedsLost says whether a condition is about what was lost. Otherwise Tick can be told 0.
func (w *Watch) NeedsLost() bool {
	for _, s := range w.series {
		if s.Name == lost {
			return true
		}
	}
	return false
}
