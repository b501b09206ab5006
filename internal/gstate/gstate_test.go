package gstate

import (
	"testing"
	"time"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
)

// step is one event of a stream written by hand, and what Apply must say of it.
type step struct {
	goid      uint64
	from, to  goruntime.Status
	at        int64
	birth     bool
	wantFor   time.Duration // -1: unknown
	violation bool
}

const (
	runnable = goruntime.Runnable
	running  = goruntime.Running
	waiting  = goruntime.Waiting
	dead     = goruntime.Dead
	leaked   = goruntime.Leaked
)

func TestApply(t *testing.T) {
	tests := []struct {
		name       string
		steps      []step
		goroutines uint64
	}{
		{"a whole life", []step{
			{1, dead, runnable, 10, true, -1, false},
			{1, runnable, running, 15, false, 5, false},
			{1, running, dead, 40, false, 25, false},
		}, 1},
		{"attach in mid-life", []step{
			{7, waiting, runnable, 100, false, -1, false},
			{7, runnable, running, 130, false, 30, false},
		}, 1},
		{"a lost event is a violation, once", []step{
			{1, runnable, running, 10, false, -1, false},
			{1, waiting, runnable, 30, false, 20, true},
			{1, runnable, running, 31, false, 1, false},
		}, 1},
		{"a goid born twice", []step{
			{1, dead, runnable, 10, true, -1, false},
			{1, dead, runnable, 20, true, -1, true},
		}, 1},
		{"goroutines do not mix", []step{
			{1, running, waiting, 10, false, -1, false},
			{2, runnable, running, 11, false, -1, false},
			{1, waiting, runnable, 12, false, 2, false},
		}, 2},
		{"a leaked goroutine wakes as a waiting one", []step{
			{1, waiting, leaked, 10, false, -1, false},
			{1, waiting, runnable, 30, false, 20, false},
		}, 1},
		{"the goroutine of an extra M comes back", []step{
			{17, dead, goruntime.Syscall, 10, false, -1, false},
			{17, goruntime.Syscall, goruntime.DeadExtra, 20, false, 10, false},
			{17, goruntime.DeadExtra, goruntime.Syscall, 90, false, -1, false},
		}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr := NewTracker()
			var violations uint64
			for i, s := range tt.steps {
				e := event.Event{PID: 5, GoID: s.goid, From: s.from, To: s.to, Time: s.at}
				if s.birth {
					e.Birth = &event.Birth{}
				}
				c := tr.Apply(&e)
				got := time.Duration(-1)
				if c.ForKnown {
					got = c.For
				}
				if got != s.wantFor || c.Violation != s.violation {
					t.Errorf("step %d: for %d, violation %v; want %d, %v", i, got, c.Violation, s.wantFor, s.violation)
				}
				if s.violation {
					violations++
				}
			}
			if tr.Violations() != violations || tr.Goroutines() != tt.goroutines {
				t.Errorf("%d violations, %d goroutines; want %d, %d", tr.Violations(), tr.Goroutines(), violations, tt.goroutines)
			}
		})
	}
}

// A process that executes another program starts with fresh goroutines of the
// same numbers; those of other processes go on.
func TestApplyExec(t *testing.T) {
	tr := NewTracker()
	for _, pid := range []uint32{5, 6} {
		tr.Apply(&event.Event{PID: pid, GoID: 1, From: runnable, To: running, Time: 1})
	}
	tr.Apply(&event.Event{Kind: event.Exec, PID: 5, Time: 2})
	if c := tr.Apply(&event.Event{PID: 5, GoID: 1, From: dead, To: runnable, Time: 3, Birth: &event.Birth{}}); c.Violation {
		t.Error("a birth after exec is a violation")
	}
	if c := tr.Apply(&event.Event{PID: 6, GoID: 1, From: running, To: waiting, Time: 3}); c.For != 2 {
		t.Errorf("the other process's goroutine was running for %d, want 2", c.For)
	}
}
