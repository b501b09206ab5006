package summary

import (
	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gstate"
)

// goroutine is what is kept of one that is alive.
type goroutine struct {
	pid   uint32
	goid  uint64
	site  *site
	start string // the function that it began at
	index int    // in process.all

	born     int64
	wasThere bool // before the trace, so that born is too late
	gaps     int  // since its last event

	state   State
	begin   int64 // of the state; of Running also over fake waits
	since   int64 // up to when it has been accounted for
	atLeast bool  // the state began before
	known   int64 // the state is at least that old by the runtime's notes; 0 if none
	before  lull  // before the gap, while it is unsure
	time    [NumStates]int64

	fake        *fake // while it is in a fake wait
	fakeBegin   int64
	fakeAtLeast bool

	wait      *wait // what it waits for, or waited for the last time
	waitStack uint32
	longest   longestWait
	counted   *int  // the count of WaitingFor that it is in; nil if none
	edge      *edge // by which it was woken the last time

	p        int32 // held when it entered the system call
	inCgo    bool
	lostPAt  int64 // when somebody else was seen with the P; 0 if nobody was
	lostSeen bool  // the loss has been counted
}

// lull is a state that a gap may have ended, or not.
type lull struct {
	state   State
	begin   int64
	atLeast bool
	gap     int64 // when that began
}

// longestWait is a goroutine's longest wait in an interval.
type longestWait struct {
	ns      int64
	atLeast bool
	wait    *wait
}

// transition takes a change. What gstate calls a violation, and what was not traced,
// is time in an unknown state.
func (s *Summary) transition(e *event.Event, c *gstate.Change) {
	s.events++
	if c.Violation {
		s.violations++
	}
	p := s.process(e.PID)
	g := p.live.Get(e.GoID)
	if g != nil && e.IsNew() {
		s.account(g, g.state, max(e.Time, g.since)) // it was being born when the snapshot was taken, or its end was missed
		if g.unsure() {
			s.missed++
		}
		s.forget(p, g)
		g = nil
	}
	from := stateOf(e.From, e.From == goruntime.Waiting && g != nil && g.fake != nil)
	whole := !c.Violation
	if g == nil {
		whole = e.IsNew()
		g = s.appear(p, e, from, c.Birth)
		if g.wasThere && s.gapped && from != gone {
			s.found++
		}
	}
	whole = whole && g.state == from
	t := max(e.Time, g.since)
	spent := g.state
	switch {
	case g.unsure() && from != gone: // it is in that state since the trace went on
		s.account(g, Unknown, min(max(s.gapEnd, g.since), t))
		spent = from
	case g.state == from && !c.Violation, g.state == gone, g.state == Unknown:
	case c.Violation || from == gone:
		spent = Unknown
	default:
		// The change under way when the snapshot was taken: see gstate.
		spent = from
	}
	s.account(g, spent, t)
	to := stateOf(e.To, e.Fake)
	goesOn := whole && to == g.state && (to == Running || to == Waiting)
	if whole {
		s.finish(g, e, to, goesOn)
	}
	s.seenWith(p, g, e)
	s.enter(p, g, e, to, goesOn)
	if e.Ends() {
		s.end(p, g)
	}
}

// appear makes a goroutine that is in a state at the time of the event.
func (s *Summary) appear(p *process, e *event.Event, state State, birth *event.Birth) *goroutine {
	g := p.live.Put(e.GoID)
	at := max(e.Time, s.begin)
	g.pid, g.goid, g.site = e.PID, e.GoID, s.siteOf(birth)
	if birth != nil {
		g.start = birth.Start.Func
	}
	g.born, g.begin, g.since = e.Time, e.Time, at
	g.wasThere, g.atLeast = !e.IsNew(), !e.IsNew()
	g.index = len(p.all)
	p.all = append(p.all, g)
	g.state = gone
	if !g.wasThere {
		s.created++
		g.site.created++
	} else if state == Waiting {
		g.wait = s.waitOf(g, "", 0) // nothing is known of it
	}
	s.move(g, state)
	return g
}

// seed takes a goroutine that was there before, the trace or the end of a gap. Of what
// changes have told since nothing is to be learned.
func (s *Summary) seed(e *event.Event) {
	p := s.process(e.PID)
	g := p.live.Get(e.GoID)
	switch {
	case g == nil && s.gapped:
		found := *e
		found.Time = min(s.gapEnd, e.Time) // it came in the gap
		g = s.appear(p, &found, stateOf(e.To, e.Fake), e.Birth)
		s.found++
	case g == nil:
		g = s.appear(p, e, stateOf(e.To, e.Fake), e.Birth)
		s.seeded++
	case g.gaps == 0:
		return
	case g.unsure() && g.before.state == stateOf(e.To, e.Fake) && gstate.Lasts(e, g.before.gap):
		s.outlast(g, e.Time)
		return
	default:
		since := e.Time
		if g.unsure() {
			since = min(s.gapEnd, e.Time) // nothing else was heard of it since the trace went on
		}
		s.account(g, g.state, max(since, g.since))
		s.heard(g)
		s.move(g, stateOf(e.To, e.Fake))
		g.begin, g.atLeast, g.known = g.since, true, 0
	}
	switch {
	case e.Fake:
		g.fake, g.fakeBegin, g.fakeAtLeast = s.fakeOf(e.Reason), e.Time, true
	case g.state == Waiting:
		g.wait = s.waitOf(g, e.Reason, e.Stack)
		s.count(g)
		g.known = e.Since
	case g.state == Syscall:
		g.p = event.NoP
	}
}

// outlast goes on with the state before a gap, which has not ended in it.
func (s *Summary) outlast(g *goroutine, now int64) {
	s.heard(g)
	s.move(g, g.before.state)
	g.begin, g.atLeast = g.before.begin, g.before.atLeast
	s.account(g, g.state, max(now, g.since))
}

// account adds the time since the goroutine was last accounted for to a state. It is
// never negative: events of different goroutines may be a little out of order at the
// border of two intervals.
func (s *Summary) account(g *goroutine, state State, t int64) {
	ns := t - g.since
	g.since = t
	if state == gone || ns == 0 {
		return
	}
	g.time[state] += ns
	g.site.time[state] += ns
	if state != Waiting {
		return
	}
	w := g.wait
	if g.state != Waiting {
		w = s.waitOf(g, "", 0)
	}
	w.time += ns
}

// move changes the goroutine's state at g.since.
func (s *Summary) move(g *goroutine, to State) {
	switch {
	case g.state == to:
		return
	case g.state == gone:
		s.alive++
		s.lived -= g.since
		g.site.alive++
	case to == gone:
		s.alive--
		s.lived += g.since
		g.site.alive--
	}
	if g.state != gone {
		s.states[g.state]--
	}
	if to != gone {
		s.states[to]++
	}
	g.state = to
	s.count(g)
}

// finish takes the end of the state that a change leaves, of which all is known.
func (s *Summary) finish(g *goroutine, e *event.Event, to State, goesOn bool) {
	if g.fake != nil {
		g.fake.all.add(max(0, e.Time-g.fakeBegin), g.fakeAtLeast)
	}
	if goesOn {
		return
	}
	ns := max(0, e.Time-g.begin)
	switch g.state {
	case Running:
		if e.Via != event.ViaNoP { // the end of a system call only
			s.slices.add(ns, g.atLeast)
			s.sliceEnds[e.Via%numVias]++
		} else if !g.lostSeen {
			s.lostP++
		}
	case Runnable:
		if to == Running {
			s.sched.add(ns, g.atLeast)
			g.site.sched.add(ns, g.atLeast)
		}
	case Syscall:
		if g.inCgo {
			s.cgo.add(ns, g.atLeast)
		} else {
			s.syscalls.add(ns, g.atLeast)
		}
		if g.lostPAt != 0 {
			g.lostSeen = true
			s.lostP++
			s.lostPTime += max(0, e.Time-g.lostPAt)
		}
	case Waiting:
		g.wait.ended.add(ns, g.atLeast)
		g.wait.all.add(ns, g.atLeast)
		g.waited(e.Time)
	}
}

// waited notes that the goroutine has waited up to now.
func (g *goroutine) waited(now int64) {
	begin := g.begin
	if g.known != 0 {
		begin = min(begin, g.known)
	}
	if ns := max(0, now-begin); g.longest.wait == nil || ns > g.longest.ns {
		g.longest = longestWait{ns, g.atLeast, g.wait}
	}
}

// enter begins the state that a change enters, or goes on with it.
func (s *Summary) enter(p *process, g *goroutine, e *event.Event, to State, goesOn bool) {
	if g.state == Syscall && g.p >= 0 && int(g.p) < len(p.holders) && p.holders[g.p] == g {
		p.holders[g.p] = nil
	}
	s.heard(g)
	g.fake = nil
	if e.To == goruntime.Waiting && e.Fake {
		g.fake, g.fakeBegin, g.fakeAtLeast = s.fakeOf(e.Reason), e.Time, false
	}
	if !goesOn {
		g.begin, g.atLeast, g.known = e.Time, false, 0
		switch to {
		case Waiting:
			g.wait = s.waitOf(g, e.Reason, e.Stack)
			if g.state == Waiting { // a change between was missed
				s.count(g)
			}
		case Syscall:
			g.inCgo = e.Via == event.ViaCgo || e.Via == event.ViaExtraM
			g.p, g.lostPAt, g.lostSeen = e.P, 0, false
			p.hold(g)
		case Runnable:
			s.woken(p, g, e)
		}
	}
	s.move(g, to)
}

// maxP is more Ps than a runtime has (runtime/proc.go, schedinit; 1 << 10 of them up to
// Go 1.9, no limit since).
const maxP = 1 << 16

// hold notes that the goroutine enters a system call with its P.
func (p *process) hold(g *goroutine) {
	if g.p < 0 || g.p >= maxP {
		return
	}
	for len(p.holders) <= int(g.p) {
		p.holders = append(p.holders, nil)
	}
	p.holders[g.p] = g
}

// seenWith looks at the P of a thread that surely has one: if it is that of a goroutine
// in a system call, that one has lost it by now.
func (s *Summary) seenWith(p *process, g *goroutine, e *event.Event) {
	if e.P < 0 || int(e.P) >= len(p.holders) {
		return
	}
	holder := p.holders[e.P]
	if holder == nil || holder == g {
		return
	}
	runs := e.From == goruntime.Running && e.Via != event.ViaNoP || e.Via == event.ViaSchedule
	if runs {
		holder.lostPAt = e.Time
		p.holders[e.P] = nil
	}
}

// end takes the end of a goroutine's life.
func (s *Summary) end(p *process, g *goroutine) {
	s.ended++
	g.site.ended++
	g.site.lifetime.add(max(0, g.since-g.born), g.wasThere)
	if g.state == Waiting {
		g.waited(g.since)
	}
	s.busiest.offer(g, g.time[Running], true)
	if !g.site.Runtime() {
		s.waiters.offer(g, g.longest.ns, true)
	}
	s.forget(p, g)
}

// unsure says whether the goroutine may have ended in a gap.
func (g *goroutine) unsure() bool { return g.gaps > 0 && g.state == Unknown }

// heard notes that something was heard of the goroutine.
func (s *Summary) heard(g *goroutine) {
	if g.unsure() {
		s.unsure--
	}
	g.gaps = 0
}

// miss takes the end of a goroutine that ended in a gap. As when it was is not known, neither
// its life nor its end count.
func (s *Summary) miss(p *process, g *goroutine) {
	if g.state != gone {
		s.missed++
	}
	s.busiest.offer(g, g.time[Running], true)
	if !g.site.Runtime() {
		s.waiters.offer(g, g.longest.ns, true)
	}
	s.forget(p, g)
}

// forget removes a goroutine.
func (s *Summary) forget(p *process, g *goroutine) {
	if g.p >= 0 && int(g.p) < len(p.holders) && p.holders[g.p] == g {
		p.holders[g.p] = nil
	}
	s.heard(g)
	s.move(g, gone)
	last := p.all[len(p.all)-1]
	p.all[g.index], last.index = last, g.index
	p.all[len(p.all)-1] = nil
	p.all = p.all[:len(p.all)-1]
	p.live.Delete(g.goid)
}
