package summary_test

import (
	"testing"
	"time"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gstate"
	"gopherscope/internal/summary"
)

const (
	runnable  = goruntime.Runnable
	running   = goruntime.Running
	syscalled = goruntime.Syscall
	waiting   = goruntime.Waiting
	dead      = goruntime.Dead
)

func birthAt(fn string, line int) *event.Birth {
	return &event.Birth{
		CreatedBy: event.Location{Func: fn, File: "/src/file.go", Line: line},
		Start:     event.Location{Func: fn + ".func1", File: "/src/file.go", Line: line + 1},
	}
}

// script writes a stream by hand and feeds it as it is written.
type script struct {
	t  *testing.T
	tr *gstate.Tracker
	s  *summary.Summary
}

func newScript(t *testing.T, opts summary.Options) *script {
	return &script{t, gstate.NewTracker(), summary.New(0, opts)}
}

func (sc *script) feed(e event.Event) {
	if e.PID == 0 {
		e.PID = 5
	}
	if e.TID == 0 {
		e.TID = 50
	}
	sc.s.Event(&e, sc.tr.Apply(&e))
}

// change is one with nothing special to it.
func (sc *script) change(at int64, goid uint64, from, to goruntime.Status, via event.Via) {
	sc.feed(event.Event{Time: at, GoID: goid, From: from, To: to, Via: via, P: event.NoP})
}

func (sc *script) born(at int64, goid uint64, b *event.Birth) {
	sc.feed(event.Event{Time: at, GoID: goid, From: dead, To: runnable, Via: event.ViaCreate, P: event.NoP, Birth: b})
}

func (sc *script) run(at int64, goid uint64) {
	sc.change(at, goid, runnable, running, event.ViaSchedule)
}

func (sc *script) park(at int64, goid uint64, reason string) {
	sc.feed(event.Event{Time: at, GoID: goid, From: running, To: waiting, Via: event.ViaPark, P: event.NoP, Reason: reason})
}

func (sc *script) ready(at int64, goid, waker uint64) {
	sc.feed(event.Event{Time: at, GoID: goid, From: waiting, To: runnable, Via: event.ViaReady, P: event.NoP, Waker: waker})
}

func (sc *script) there(at int64, goid uint64, state goruntime.Status, reason string, b *event.Birth) {
	sc.feed(event.Event{Kind: event.Snapshot, Time: at, GoID: goid, To: state, Reason: reason, Birth: b})
}

// page is the page at a time, of which the totals add up.
func (sc *script) page(at int64) *summary.Page {
	sc.t.Helper()
	sc.s.Advance(at)
	p := sc.s.Page()
	addsUp(sc.t, p)
	return p
}

// addsUp holds that the states sum up to the lifetimes, in time and now, and the rows of
// blocked time to the time waiting.
func addsUp(t *testing.T, p *summary.Page) {
	t.Helper()
	var sum, blocked time.Duration
	now := 0
	for _, st := range p.States {
		sum += st.Time
		now += st.Now
	}
	if sum != p.Lived || now != p.Alive+p.Unsure {
		t.Errorf("the states sum up to %d ns and %d goroutines; lived %d ns, alive %d and maybe %d: %+v", sum, now, p.Lived, p.Alive, p.Unsure, p.States)
	}
	if len(p.Blocked) < p.BlockedRows {
		return
	}
	for _, b := range p.Blocked {
		blocked += b.Time
	}
	if waited := p.States[summary.Waiting].Time; blocked != waited {
		t.Errorf("the rows sum up to %d ns blocked, the state to %d: %+v", blocked, waited, p.Blocked)
	}
}
