package summary

import (
	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
)

// waitKey tells the rows of blocked time apart.
type waitKey struct {
	reason, fn string
	site       *site
}

// wait is a row of blocked time.
type wait struct {
	waitKey
	all     *Durations // of the same reason
	waiting *int       // goroutines that wait for the same reason now
	time    int64      // ns in this interval
	ended   Durations
	now     int   // that still wait; set by settle
	open    int64 // the longest of these, ns; set by settle

	openAtLeast bool
}

// waitOf is the row for a goroutine that waits for a reason. The goroutine remembers
// it: mostly it waits for the same again.
func (s *Summary) waitOf(g *goroutine, reason string, stack uint32) *wait {
	if g.wait != nil && g.waitStack == stack && g.wait.reason == reason {
		return g.wait
	}
	fn := g.start
	if stack != 0 {
		if user := s.stackFunc(stack); user != "" {
			fn = user
		}
	}
	key := waitKey{reason, fn, g.site}
	w := s.waits[key]
	if w == nil {
		w = &wait{waitKey: key, all: s.blocked[reason]}
		if w.all == nil {
			w.all = &Durations{}
			s.blocked[reason], s.waiting[reason] = w.all, new(int)
		}
		w.waiting = s.waiting[reason]
		s.waits[key] = w
		s.waitList = append(s.waitList, w)
	}
	g.wait, g.waitStack = w, stack
	return w
}

// stackFunc is the user's function of a stack.
func (s *Summary) stackFunc(id uint32) string {
	fn, ok := s.stackFuncs[id]
	if !ok {
		if s.opts.Stack != nil {
			fn = UserFunc(s.opts.Stack(id))
		}
		s.stackFuncs[id] = fn
	}
	return fn
}

// fake is what is kept of the fake waits of one reason.
type fake struct {
	reason string
	all    Durations
}

func (s *Summary) fakeOf(reason string) *fake {
	f := s.fakes[reason]
	if f == nil {
		f = &fake{reason: reason}
		s.fakes[reason] = f
	}
	return f
}

// edgeKey tells the edges of who wakes whom apart.
type edgeKey struct {
	from, to *site // from is nil when no goroutine did it
	via      event.Via
}

type edge struct {
	edgeKey
	count uint64
}

// woken counts who made a goroutine runnable. What it was made runnable by itself, as
// by a yield, is not asked for.
func (s *Summary) woken(p *process, g *goroutine, e *event.Event) {
	if e.From != goruntime.Waiting && e.From != goruntime.Leaked {
		return
	}
	key := edgeKey{to: g.site, via: e.Via}
	if e.Waker != 0 {
		key.from = s.noSite
		if w := p.live.Get(e.Waker); w != nil {
			key.from = w.site
		}
	}
	if g.edge == nil || g.edge.edgeKey != key {
		g.edge = s.edges[key]
		if g.edge == nil {
			g.edge = &edge{edgeKey: key}
			s.edges[key] = g.edge
			s.edgeList = append(s.edgeList, g.edge)
		}
	}
	g.edge.count++
}
