package profile

import (
	"time"

	"gopherscope/internal/event"
	"gopherscope/internal/goid"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gstate"
	"gopherscope/internal/stream"
)

// class is what a goroutine does, as a profile tells it apart.
type class uint8

const (
	absent class = iota // not there, or not known
	blocked
	runnable
	running
	syscall
)

// classNames are the values of the label state.
var classNames = [...]string{absent: "", blocked: "waiting", runnable: "runnable", running: "running", syscall: "syscall"}

// wanted has the classes whose time is in a profile of each kind, as bits.
var wanted = [...]uint8{
	Block: 1 << blocked, Sched: 1 << runnable, Exec: 1 << running, Syscall: 1 << syscall,
	Wall: 1<<blocked | 1<<runnable | 1<<running | 1<<syscall, Created: 0,
}

func classOf(s goruntime.Status, fake bool) class {
	switch s {
	case goruntime.Waiting:
		if fake {
			return running
		}
		return blocked
	case goruntime.Leaked, goruntime.Preempted:
		return blocked
	case goruntime.Runnable:
		return runnable
	case goruntime.Running, goruntime.CopyStack:
		return running
	case goruntime.Syscall:
		return syscall
	}
	return absent
}

// reasonPreempted is the runtime's wait reason of a goroutine that is stopped for the
// scan of its stack (runtime/preempt.go, preemptPark), which has it in state preempted
// already.
const reasonPreempted = "preempted"

// Collector makes a Profile of a stream of events. Its memory is bounded by the number of
// live goroutines and of distinct pairs of stack and labels. It is not safe for concurrent
// use.
type Collector struct {
	kind      Kind
	wants     uint8
	info      *stream.Info
	states    *gstate.Tracker
	events    uint64
	processes map[uint32]*processState
	pid       uint32        // the process of the last event, and
	current   *processState // its goroutines: mostly there is only one

	samples map[key]*sample
	reasons index[string]
	sites   index[string]
	places  index[place]
	labels  labelSets

	gaps, unaccounted time.Duration
	missed            uint64
}

// processState has the goroutines of one process.
type processState struct {
	live  goid.Map[goroutine]
	begin int64 // from when on all its changes are known: CLOCK_MONOTONIC, ns
}

// goroutine is a live goroutine.
type goroutine struct {
	since int64   // when it entered its class: CLOCK_MONOTONIC, ns
	open  *sample // that counts the time since; nil if none does
	class class
	site  uint32 // where it was created, in sites
	label uint32 // its pprof labels, in labels; 0 as long as they are not known
	at    spot
}

// spot is the last that is known of where a goroutine was: a stack by the stream's number,
// or a place, or neither.
type spot struct {
	stack uint32
	place uint32 // in places
}

// place is a frame of which the callers are known not to be there, or not known.
type place struct {
	event.Location
	callers bool // there are some
}

// key is what the intervals of a sample have in common.
type key struct {
	at     spot
	site   uint32
	reason uint32
	label  uint32
	class  class
}

type sample struct {
	key   key
	count int64
	delay int64 // ns
}

// index numbers values from 1 on; 0 is the zero value.
type index[T comparable] struct {
	ids    map[T]uint32
	values []T
}

func (x *index[T]) id(v T) uint32 {
	var zero T
	if v == zero {
		return 0
	}
	if id, ok := x.ids[v]; ok {
		return id
	}
	if x.ids == nil {
		x.ids = map[T]uint32{}
	}
	x.values = append(x.values, v)
	id := uint32(len(x.values))
	x.ids[v] = id
	return id
}

func (x *index[T]) value(id uint32) (v T) {
	if id > 0 {
		v = x.values[id-1]
	}
	return v
}

// New returns a Collector for the events of a trace, which the info describes.
func New(kind Kind, info *stream.Info) *Collector {
	return &Collector{
		kind: kind, wants: wanted[kind], info: info, states: gstate.NewTracker(),
		processes: map[uint32]*processState{}, samples: map[key]*sample{},
	}
}

// States are the states of all goroutines, for the summary of the trace.
func (c *Collector) States() *gstate.Tracker { return c.states }

// Events is how many changes there were so far.
func (c *Collector) Events() uint64 { return c.events }

// Samples is how many pairs of stack and labels there are so far.
func (c *Collector) Samples() int { return len(c.samples) }

// Event takes the next event of the stream.
func (c *Collector) Event(e *event.Event) {
	ch := c.states.Apply(e)
	switch e.Kind {
	case event.Transition:
		c.events++
		c.transition(e, ch)
	case event.Snapshot:
		c.snapshot(e, ch)
	case event.Gap:
		c.gap(e)
	case event.Labels:
		c.label(e)
	case event.Exec, event.Exit:
		c.process(e).live.Retain(func(_ uint64, g *goroutine) bool { c.leave(g, e.Time); return false })
		delete(c.processes, e.PID)
		c.current = nil
	}
}

// snapshot takes a goroutine that was there when the trace began. It was read somewhat
// later, but a change meanwhile would have come as one. What changes have told of it
// already stays.
func (c *Collector) snapshot(e *event.Event, ch *gstate.Change) {
	p := c.process(e)
	if p.live.Get(e.GoID) != nil {
		return
	}
	g := p.live.Put(e.GoID)
	g.site = c.site(ch.Birth)
	g.at.stack = e.Stack
	c.enter(g, p.begin, classOf(e.To, e.Fake), g.at, e.Reason)
}

func (c *Collector) transition(e *event.Event, ch *gstate.Change) {
	p := c.process(e)
	g := p.live.Get(e.GoID)
	to := classOf(e.To, e.Fake)
	switch {
	case e.IsNew():
		if g != nil && ch.Violation {
			c.miss(g, e.Time)
		}
		c.born(p, e, to)
		return
	case g == nil, ch.Violation, !ch.ForKnown && g.class != absent:
		g = c.resume(p, g, e, ch)
	}
	if to == g.class && to != absent {
		return // a wait that keeps the thread begins or ends, or one that goes on changes its name
	}
	c.leave(g, e.Time)
	if to == absent {
		p.live.Delete(e.GoID)
		return
	}
	if to != runnable || g.class == running {
		g.label = 0 // what it has from now on is not known; until it runs it has what it had
	}
	at, reason := g.at, e.Reason
	if e.To == goruntime.Preempted {
		reason = reasonPreempted
	}
	switch {
	case e.Stack != 0:
		at = spot{stack: e.Stack}
		g.at = at
	case to == blocked: // it parks where nobody looked
		at = spot{}
		g.at = at
	case to == syscall: // and goes on where it parked last
		at = spot{}
	}
	c.enter(g, e.Time, to, at, reason)
}

// born begins the life of a goroutine.
func (c *Collector) born(p *processState, e *event.Event, to class) {
	g := p.live.Put(e.GoID)
	*g = goroutine{site: c.site(e.Birth)}
	g.at.place = c.places.id(place{Location: e.Birth.Start})
	at := spot{stack: e.Stack}
	if at.stack == 0 && e.Birth.CreatedBy.Func != "" {
		at.place = c.places.id(place{e.Birth.CreatedBy, true})
	}
	if c.kind == Created {
		c.sample(key{at: at, site: g.site}).count++
	}
	if to != runnable { // such as the goroutine of an iter.Pull, which is born waiting
		at = g.at
	}
	c.enter(g, e.Time, to, at, e.Reason)
}

// resume begins with a goroutine of which it is known only which state it leaves now:
// because nothing was, or because what was did not hold. If no change was missed, it has
// been in that state since the process's beginning.
func (c *Collector) resume(p *processState, g *goroutine, e *event.Event, ch *gstate.Change) *goroutine {
	if g == nil {
		g = p.live.Put(e.GoID)
	} else if ch.Violation {
		c.miss(g, e.Time)
	}
	*g = goroutine{site: c.site(ch.Birth)}
	if ch.Violation {
		return g
	}
	// Only a wait that keeps the thread ends by running, and a coroutine's.
	fake := e.To == goruntime.Running && e.Via != event.ViaCoroutine
	c.enter(g, p.begin, classOf(e.From, fake), g.at, "")
	return g
}

// miss gives up the time since a goroutine's last change.
func (c *Collector) miss(g *goroutine, now int64) {
	c.missed++
	if g.class != absent {
		c.unaccounted += time.Duration(max(0, now-g.since))
	}
}

// gap ends all intervals where nothing was traced any more.
func (c *Collector) gap(e *event.Event) {
	c.gaps += time.Duration(max(0, e.Time-e.Since))
	for pid, p := range c.processes {
		if e.PID != 0 && e.PID != pid {
			continue
		}
		p.live.Retain(func(_ uint64, g *goroutine) bool { c.leave(g, e.Since); return false })
		p.begin = e.Time
	}
}

// enter begins an interval of a goroutine.
func (c *Collector) enter(g *goroutine, now int64, to class, at spot, reason string) {
	g.class, g.since, g.open = to, now, nil
	if c.wants&(1<<to) == 0 {
		return
	}
	k := key{at: at, site: g.site, label: g.label, class: to}
	if to == blocked {
		k.reason = c.reasons.id(reason)
	}
	g.open = c.sample(k)
}

// leave ends the interval that a goroutine is in.
func (c *Collector) leave(g *goroutine, now int64) {
	if g.open != nil {
		g.open.count++
		g.open.delay += max(0, now-g.since)
		g.open = nil
	}
}

func (c *Collector) sample(k key) *sample {
	s := c.samples[k]
	if s == nil {
		s = &sample{key: k}
		c.samples[k] = s
	}
	return s
}

func (c *Collector) site(b *event.Birth) uint32 {
	if b == nil {
		return 0
	}
	return c.sites.id(b.CreatedBy.Func)
}

// process has the goroutines of the process of an event. The changes of one that was
// there when the trace began are known from then on, those of another from its first.
func (c *Collector) process(e *event.Event) *processState {
	if c.current != nil && c.pid == e.PID {
		return c.current
	}
	p := c.processes[e.PID]
	if p == nil {
		p = &processState{begin: e.Time}
		if c.info.PID != 0 || e.Kind == event.Snapshot {
			p.begin = c.info.Begin
		}
		c.processes[e.PID] = p
	}
	c.pid, c.current = e.PID, p
	return p
}
