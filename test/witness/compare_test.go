package witness_test

import (
	"fmt"
	"sort"
	"strings"

	"golang.org/x/exp/trace"

	"gopherscope/test/traced"
)

// difference is a way in which the two views of the same run differ.
type difference string

// The documented differences. Those of the first group are changes of status
// that the Go tracer does not record, those of the second are changes that it
// records and the status never makes.
const (
	fakeWait difference = "not in Go's trace: running to waiting and back, on its thread (stop the world, mark worker, assist)"
	suspend  difference = "not in Go's trace: preempted to waiting, when suspendG takes over (Go records the preemption as a wait)"
	extraM   difference = "not in Go's trace: a goroutine made for callbacks, idle to dead"
	noPHop   difference = "not in Go's trace: a moment of running between the end of a system call and the loss of its P"

	newPHop   difference = "only in Go's trace: a moment of runnable after a system call that ends on another P"
	switchHop difference = "only in Go's trace: a moment of runnable in a coroutine switch"
)

// edge is how far from the begin and the end of Go's trace a transition of ours
// is not asked about: the two tracers do not switch at the same instant.
const edge = 50e6 // nanoseconds

// step is one of our transitions in the states of Go's tracer.
type step struct {
	from, to trace.GoState
	line     *traced.Transition
}

// comparison is of one run.
type comparison struct {
	ours    map[int64][]step
	theirs  *goTrace
	seen    map[difference]int
	offsets []int64 // time of the same transition, theirs less ours
	latest  pair    // the one that Go recorded longest after us
	matched int
	found   []string // what no documented difference explains
}

func (c *comparison) errorf(format string, args ...any) {
	c.found = append(c.found, fmt.Sprintf(format, args...))
}

// states is how the Go tracer calls our states.
var states = map[string]trace.GoState{
	"idle": trace.GoNotExist, "dead": trace.GoNotExist, "deadextra": trace.GoNotExist,
	"runnable": trace.GoRunnable, "running": trace.GoRunning, "syscall": trace.GoSyscall,
	"waiting": trace.GoWaiting, "preempted": trace.GoWaiting, "leaked": trace.GoWaiting,
}

func newComparison(ours *traced.Trace, theirs *goTrace) *comparison {
	c := &comparison{ours: map[int64][]step{}, theirs: theirs, seen: map[difference]int{}}
	inFakeWait := map[int64]bool{}
	for i := range ours.Transitions {
		l := &ours.Transitions[i]
		s := step{from: states[l.From], to: states[l.To], line: l}
		if inFakeWait[l.GoID] {
			s.from = trace.GoRunning
		}
		if l.FakeWait {
			s.to = trace.GoRunning
		}
		inFakeWait[l.GoID] = l.FakeWait
		if s.from != s.to {
			c.ours[l.GoID] = append(c.ours[l.GoID], s)
		} else if inside := l.MonoNs > theirs.begin && l.MonoNs < theirs.end; inside {
			c.unseen(l)
		}
	}
	return c
}

// unseen counts a line of ours that is no change in the states of Go's tracer.
func (c *comparison) unseen(l *traced.Transition) {
	switch {
	case l.FakeWait || l.Is("waiting", "running"):
		c.seen[fakeWait]++
	case l.Is("preempted", "waiting"):
		c.seen[suspend]++
	case l.Via == "extra-m" && l.From == "idle":
		c.seen[extraM]++
	default:
		c.errorf("not a documented difference: %s", l.Text)
	}
}

// compareAll compares every goroutine of either trace and returns what it found.
func compareAll(ours *traced.Trace, theirs *goTrace) *comparison {
	c := newComparison(ours, theirs)
	for _, id := range c.goroutines() {
		c.compare(id)
	}
	return c
}

// goroutines is every goroutine of either trace.
func (c *comparison) goroutines() []int64 {
	var ids []int64
	for id := range c.theirs.byGoID {
		ids = append(ids, id)
	}
	for id := range c.ours {
		if _, both := c.theirs.byGoID[id]; !both {
			ids = append(ids, id)
		}
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	return ids
}

// compare compares the life of one goroutine.
func (c *comparison) compare(id int64) {
	ours, theirs := c.ours[id], c.theirs.byGoID[id]
	begin, end := 0, 0
	if len(theirs) > 0 {
		m := c.align(ours, theirs)
		if m.err != nil {
			c.errorf("goroutine %d: %v", id, m.err)
			return
		}
		begin, end = m.begin, m.end
		c.add(m)
	} else {
		begin = sort.Search(len(ours), func(i int) bool { return ours[i].line.MonoNs > c.theirs.begin })
		end = begin
	}
	for _, s := range ours[:begin] {
		if s.line.MonoNs > c.theirs.begin+edge {
			c.errorf("goroutine %d: not in Go's trace, before its first transition there:\n\t%s", id, s.line.Text)
		}
	}
	for _, s := range ours[end:] {
		if s.line.MonoNs < c.theirs.end-edge {
			c.errorf("goroutine %d: not in Go's trace, after its last transition there:\n\t%s", id, s.line.Text)
		}
	}
}

// match is two sequences laid side by side.
type match struct {
	begin, end int // of the part of ours that is in theirs
	pairs      []pair
	seen       map[difference]int
	err        error
}

// pair is one change, seen by both.
type pair struct {
	step   step
	change change
}

// offset is Go's time of the change less ours, in nanoseconds.
func (p pair) offset() int64 { return p.change.time - p.step.line.MonoNs }

// align finds where theirs begins in ours: at the transition nearest in time
// from which all the rest is the same. If there is none it returns the attempt
// that came furthest.
func (c *comparison) align(ours []step, theirs []change) match {
	near := func(i int) int64 {
		d := ours[i].line.MonoNs - theirs[0].time
		if d < 0 {
			return -d
		}
		return d
	}
	starts := make([]int, len(ours))
	for i := range starts {
		starts[i] = i
	}
	sort.Slice(starts, func(i, j int) bool { return near(starts[i]) < near(starts[j]) })
	best := match{err: fmt.Errorf("not traced by us: %s", theirs[0].text)}
	for _, begin := range starts {
		m := walk(ours, theirs, begin)
		if m.err == nil {
			return m
		}
		if len(m.pairs) >= len(best.pairs) {
			best = m
		}
	}
	return best
}

// walk compares theirs with ours from begin on, allowing only for the hops
// among the documented differences.
func walk(ours []step, theirs []change, begin int) match {
	m := match{begin: begin, seen: map[difference]int{}}
	i, j := begin, 0
	for j < len(theirs) {
		if i == len(ours) {
			m.err = fmt.Errorf("after our last transition Go has\n\t%s", theirs[j].text)
			return m
		}
		used, their, hop := hops(ours[i:], theirs[j:])
		if used == 0 {
			m.err = fmt.Errorf("%d transitions are the same, then Go has\n\t%s\nand we have\n\t%s", len(m.pairs), theirs[j].text, around(ours, i))
			return m
		}
		if hop != "" {
			m.seen[hop]++
		}
		m.pairs = append(m.pairs, pair{ours[i], theirs[j]})
		i, j = i+used, j+their
	}
	m.end = i
	return m
}

// around is the lines of ours next to number i, for a message.
func around(ours []step, i int) string {
	var lines []string
	for j := max(0, i-3); j < min(len(ours), i+4); j++ {
		lines = append(lines, ours[j].line.Text)
	}
	return strings.Join(lines, "\n\t")
}

// hops says how many steps of ours are how many changes of theirs, 0 if the
// two do not agree.
func hops(ours []step, theirs []change) (used, their int, hop difference) {
	us, go0 := ours[0], theirs[0]
	is := func(s step, from, to trace.GoState) bool { return s.from == from && s.to == to }
	goIs := func(n int, from, to trace.GoState) bool {
		return n < len(theirs) && theirs[n].from == from && theirs[n].to == to
	}
	switch {
	case us.from == go0.from && us.to == go0.to:
		return 1, 1, ""
	case is(us, trace.GoSyscall, trace.GoRunning) && goIs(0, trace.GoSyscall, trace.GoRunnable):
		if len(ours) > 1 && ours[1].line.Via == "no-p" && is(ours[1], trace.GoRunning, trace.GoRunnable) {
			return 2, 1, noPHop
		}
		if goIs(1, trace.GoRunnable, trace.GoRunning) {
			return 1, 2, newPHop
		}
	case us.line.Via == "coroutine" && is(us, trace.GoWaiting, trace.GoRunning) &&
		goIs(0, trace.GoWaiting, trace.GoRunnable) && goIs(1, trace.GoRunnable, trace.GoRunning):
		return 1, 2, switchHop
	}
	return 0, 0, ""
}

// add counts a match and compares the particulars of each change.
func (c *comparison) add(m match) {
	for hop, n := range m.seen {
		c.seen[hop] += n
	}
	for _, p := range m.pairs {
		c.matched++
		c.offsets = append(c.offsets, p.offset())
		if c.latest.step.line == nil || p.offset() > c.latest.offset() {
			c.latest = p
		}
		if err := p.particulars(); err != nil {
			c.errorf("%v; Go has\n\t%s\nwe have\n\t%s", err, p.change.text, p.step.line.Text)
		}
	}
}

// particulars compares who, where and on what.
func (p pair) particulars() error {
	l, c := p.step.line, p.change
	switch {
	case l.TID != c.tid:
		return fmt.Errorf("thread %d, and we say %d", c.tid, l.TID)
	case l.Is("runnable", "running") && l.P != c.proc:
		return fmt.Errorf("P %d, and we say %d", c.proc, l.P)
	case l.Is("waiting", "runnable") && *l.Waker != c.actor:
		return fmt.Errorf("woken by %d, and we say %d", c.actor, *l.Waker)
	case !l.IsBirth():
		return nil
	case *l.Parent != c.actor:
		return fmt.Errorf("created by goroutine %d, and we say %d", c.actor, *l.Parent)
	case c.creator != traced.Place{} && *l.CreatedBy != c.creator: // Go has no stack of a timer
		return fmt.Errorf("created by %v, and we say %v", c.creator, *l.CreatedBy)
	case *l.Start != c.start:
		return fmt.Errorf("started in %v, and we say %v", c.start, *l.Start)
	}
	return nil
}
