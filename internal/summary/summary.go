package summary

import (
	"gopherscope/internal/event"
	"gopherscope/internal/goid"
	"gopherscope/internal/gstate"
)

// Options are the choices of a Summary. The zero Options are ready to use.
type Options struct {
	// Top is how many rows the tables of a page have at most, and how many
	// goroutines are remembered after their end; 0 is all rows, and 10 goroutines.
	Top int
	// Stack is the stack that an event names (stream.Source.Stack); nil without stacks.
	// It is asked once for each number.
	Stack func(id uint32) []event.Location
}

// remembered is how many goroutines a table has when no other number is asked for.
const remembered = 10

// Summary adds up a stream of events. See the package's comment.
type Summary struct {
	opts  Options
	begin int64 // of the interval
	now   int64 // the latest time heard of

	procs   map[uint32]*process
	pid     uint32   // of the last event, and
	current *process // its process: mostly there is only one

	states [NumStates]int // goroutines, now
	alive  int            // their sum
	unsure int            // of them: nothing was heard of them since a gap
	seeded uint64         // goroutines that were there before, since the beginning of the trace
	gapped bool           // what is read now was not all there before
	gapEnd int64          // of the last gap: one that begins there is the same one

	sites    map[siteKey]*site
	siteList []*site // all of them
	noSite   *site   // of goroutines of which no birth is known

	waits      map[waitKey]*wait
	waitList   []*wait
	waiting    map[string]*int // goroutines that wait now, by reason
	stackFuncs map[uint32]string
	edges      map[edgeKey]*edge
	edgeList   []*edge

	interval
}

// interval is what is kept for one interval only.
type interval struct {
	events, violations uint64
	created, ended     uint64
	found, missed      uint64 // goroutines that came in a gap, and that ended in one
	lived              int64  // lifetimes, less the time of now for each goroutine alive
	untraced           int64  // ns

	sched     Durations
	slices    Durations
	sliceEnds [numVias]uint64
	syscalls  Durations
	cgo       Durations
	lostP     uint64
	lostPTime int64
	blocked   map[string]*Durations // by wait reason
	fakes     map[string]*fake

	busiest, waiters ranking // of goroutines that ended
}

// numVias is more than there are event.Via.
const numVias = 32

// process is one process's goroutines.
type process struct {
	live goid.Map[goroutine]
	all  []*goroutine
	// holders are the goroutines in a system call, by the P that they held when they
	// entered it and that nobody else has been seen with since.
	holders []*goroutine
}

// New returns the Summary of a trace that begins at begin, in ns of CLOCK_MONOTONIC.
func New(begin int64, opts Options) *Summary {
	s := &Summary{
		opts: opts, begin: begin, now: begin,
		procs: map[uint32]*process{}, sites: map[siteKey]*site{}, noSite: &site{},
		waits: map[waitKey]*wait{}, stackFuncs: map[uint32]string{}, edges: map[edgeKey]*edge{},
	}
	s.siteList = append(s.siteList, s.noSite)
	s.blocked, s.waiting, s.fakes = map[string]*Durations{}, map[string]*int{}, map[string]*fake{}
	s.busiest.limit, s.waiters.limit = s.remember(), s.remember()
	return s
}

func (s *Summary) remember() int {
	if s.opts.Top > 0 {
		return s.opts.Top
	}
	return remembered
}

// Event takes the next event of the stream and what package gstate knows of it.
// Neither is kept.
func (s *Summary) Event(e *event.Event, c *gstate.Change) {
	s.now = max(s.now, e.Time)
	switch e.Kind {
	case event.Transition:
		s.transition(e, c)
	case event.Snapshot:
		s.seed(e)
	case event.Gap:
		s.gap(e)
	case event.Census:
		s.census(e)
	case event.Exec, event.Exit:
		s.endProcess(e)
	}
}

// Advance says that all events before now have come (the tick of a stream.Source).
func (s *Summary) Advance(now int64) { s.now = max(s.now, now) }

// Now is up to when the Summary knows: the latest time of an event or of Advance.
func (s *Summary) Now() int64 { return s.now }

// Begin is when the interval began.
func (s *Summary) Begin() int64 { return s.begin }

// States is how many goroutines are in each state now.
func (s *Summary) States() [NumStates]int { return s.states }

// Alive is how many goroutines there are now, without the Unsure.
func (s *Summary) Alive() int { return s.alive - s.unsure }

// Unsure is how many goroutines were there before a gap and may have ended in it: nothing has
// been heard of them since.
func (s *Summary) Unsure() int { return s.unsure }

// Sched has the scheduling latencies of the interval: from runnable to running. The
// result changes with the Summary.
func (s *Summary) Sched() *Durations { return &s.sched }

// Blocked has the waits of a reason that ended in the interval; nil if there was
// never one. The result changes with the Summary.
func (s *Summary) Blocked(reason string) *Durations { return s.blocked[reason] }

// Reset ends the interval and begins the next one.
func (s *Summary) Reset() {
	s.settle()
	for _, p := range s.procs {
		for _, g := range p.all {
			g.time, g.longest = [NumStates]int64{}, longestWait{}
		}
	}
	for _, st := range s.siteList {
		st.created, st.ended, st.time = 0, 0, [NumStates]int64{}
		st.sched.reset()
		st.lifetime.reset()
	}
	for _, w := range s.waitList {
		w.time = 0
		w.ended.reset()
	}
	for _, e := range s.edgeList {
		e.count = 0
	}
	for _, d := range s.blocked {
		d.reset()
	}
	for _, f := range s.fakes {
		f.all.reset()
	}
	s.begin = s.now
	old := s.interval
	for _, d := range []*Durations{&old.sched, &old.slices, &old.syscalls, &old.cgo} {
		d.reset()
	}
	s.interval = interval{
		lived: -int64(s.alive) * s.now,
		sched: old.sched, slices: old.slices, syscalls: old.syscalls, cgo: old.cgo,
		blocked: old.blocked, fakes: old.fakes,
		busiest: ranking{limit: s.remember()}, waiters: ranking{limit: s.remember()},
	}
}

// settle accounts for the states that all goroutines are in, up to now.
func (s *Summary) settle() {
	for _, w := range s.waitList {
		w.now, w.open, w.openAtLeast = 0, 0, false
	}
	for _, p := range s.procs {
		for _, g := range p.all {
			s.account(g, g.state, s.now)
			if g.state != Waiting {
				continue
			}
			g.wait.now++
			open := max(0, s.now-g.begin)
			if open >= g.wait.open {
				g.wait.openAtLeast = g.atLeast || g.wait.openAtLeast && open == g.wait.open
				g.wait.open = open
			}
		}
	}
}

func (s *Summary) process(pid uint32) *process {
	if s.current != nil && s.pid == pid {
		return s.current
	}
	p := s.procs[pid]
	if p == nil {
		p = &process{}
		s.procs[pid] = p
	}
	s.pid, s.current = pid, p
	return p
}

// endProcess ends all goroutines of a process, which runs another program now or none.
func (s *Summary) endProcess(e *event.Event) {
	p := s.procs[e.PID]
	if p == nil {
		return
	}
	for len(p.all) > 0 {
		g := p.all[len(p.all)-1]
		s.account(g, g.state, max(e.Time, g.since))
		s.end(p, g)
	}
	delete(s.procs, e.PID)
	s.current = nil
}

// gap forgets the states of all goroutines of a process, or with PID 0 of all. A gap may be
// told of in pieces.
func (s *Summary) gap(e *event.Event) {
	s.untraced += max(0, e.Time-max(e.Since, s.begin))
	more := e.Since == s.gapEnd
	s.gapEnd = e.Time
	s.gapped = s.gapped || s.alive > 0 || s.events > 0 // a recording can begin with a gap
	for pid, p := range s.procs {
		if e.PID != 0 && e.PID != pid {
			continue
		}
		clear(p.holders)
		for i := len(p.all) - 1; i >= 0; i-- { // forget puts the last in the place of i
			g := p.all[i]
			unsure := g.unsure()
			if !more || g.gaps == 0 {
				g.gaps++
			}
			if g.gaps >= gstate.MaxGaps {
				s.miss(p, g)
				continue
			}
			if unsure { // its time counts once it is known that it lived on
				continue
			}
			t := max(e.Since, g.since)
			s.account(g, g.state, t)
			g.before = lull{g.state, g.begin, g.atLeast, e.Since}
			if g.state != gone {
				s.move(g, Unknown)
				s.unsure++
			}
			g.begin, g.atLeast, g.fake = t, true, nil
		}
	}
}

// census ends the goroutines that ended in a gap.
func (s *Summary) census(e *event.Event) {
	p := s.process(e.PID)
	for i := len(p.all) - 1; i >= 0; i-- { // as in gap
		if g := p.all[i]; g.gaps > 0 {
			s.miss(p, g)
		}
	}
}
