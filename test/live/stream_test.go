package live_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gopherscope/test/traced"
)

// findings is what is wrong with a trace.
type findings []string

func (f *findings) errorf(format string, args ...any) {
	*f = append(*f, fmt.Sprintf(format, args...))
}

// report fails the test with what was found, if anything.
func (f findings) report(t *testing.T) {
	t.Helper()
	const enough = 20
	for i, text := range f {
		if i == enough {
			t.Errorf("%d more left out", len(f)-enough)
			return
		}
		t.Error(text)
	}
}

// checkStream holds a trace to what is true of every trace.
func checkStream(tr *traced.Trace) findings {
	f := follower{tr: tr, last: map[int64]*traced.Transition{}, runs: map[int]int64{}, there: map[int64]*traced.Snapshot{}, tids: map[int]bool{}}
	f.summary()
	for i := range tr.Snapshots {
		f.snapshot(&tr.Snapshots[i])
	}
	for i := range tr.Transitions {
		f.follow(&tr.Transitions[i])
	}
	f.goroutines()
	return f.found
}

// follower recomputes what must hold between the lines, from the lines alone.
type follower struct {
	tr               *traced.Trace
	last             map[int64]*traced.Transition // the last line of each goroutine
	runs             map[int]int64                // the goroutine that runs on a thread
	there            map[int64]*traced.Snapshot   // the goroutines that were there before
	tids             map[int]bool                 // the threads seen
	reborn, underWay int                          // goroutines that were not there as the snapshot says, see first
	found            findings
}

func (f *follower) errorf(l *traced.Transition, format string, args ...any) {
	f.found.errorf(format+"\n\t%s", append(args, l.Text)...)
}

// summary checks the last line of the output.
func (f *follower) summary() {
	s := f.tr.Summary
	if s.Violations != 0 {
		f.found.errorf("%d violations", s.Violations)
	}
	for cause, n := range s.Lost {
		if n != 0 {
			f.found.errorf("lost by %s: %d", cause, n)
		}
	}
	if _, ok := s.Lost["total"]; !ok {
		f.found.errorf("no total of lost events in %v", s.Lost)
	}
	if s.Events != len(f.tr.Transitions) {
		f.found.errorf("summary says %d events, there are %d lines", s.Events, len(f.tr.Transitions))
	}
	if want := "go" + f.tr.Build.Go; !strings.HasPrefix(s.GoVersion, want) {
		f.found.errorf("go_version is %q, the target was built by %s", s.GoVersion, want)
	}
	if s.Engine != string(f.tr.Engine) || s.DurationNs <= 0 {
		f.found.errorf("engine %q, duration %d", s.Engine, s.DurationNs)
	}
}

func (f *follower) follow(l *traced.Transition) {
	f.tids[l.TID] = true
	f.fields(l)
	f.continuity(l)
	f.actors(l)
	f.threads(l)
	f.last[l.GoID] = l
}

// fields checks a line by itself.
func (f *follower) fields(l *traced.Transition) {
	if l.GoID <= 0 || l.PID != f.tr.PID || l.TID <= 0 || l.M < 0 || l.P < -1 {
		f.errorf(l, "an impossible id")
	}
	if l.Violation {
		f.errorf(l, "marked as a violation")
	}
	if l.From == l.To {
		f.errorf(l, "no change")
	}
	if (l.To == "waiting") != (l.Reason != "") {
		f.errorf(l, "a goroutine has a wait reason if it waits")
	}
	if l.FakeWait && (l.To != "waiting" || l.Via == "park") {
		f.errorf(l, "a fake wait that is none")
	}
	if (l.To == "runnable") != (l.Waker != nil) {
		f.errorf(l, "a goroutine has a waker if it becomes runnable")
	}
	wall, err := time.Parse(time.RFC3339Nano, l.Time)
	if err != nil || time.Since(wall) > time.Hour || time.Until(wall) > time.Second {
		f.errorf(l, "time: %v", err)
	}
}

// continuity checks a line against the goroutine's previous one.
func (f *follower) continuity(l *traced.Transition) {
	before := f.last[l.GoID]
	if before == nil {
		f.first(l)
		return
	}
	if l.From != before.To {
		f.errorf(l, "from is not the last to, of\n\t%s", before.Text)
	}
	if l.MonoNs < before.MonoNs {
		f.errorf(l, "time goes back, since\n\t%s", before.Text)
	}
	if before.To == "dead" || before.To == "deadextra" {
		if l.ForNs != nil {
			f.errorf(l, "for_ns of a goroutine that was dead, since\n\t%s", before.Text)
		}
	} else if l.ForNs == nil || *l.ForNs != l.MonoNs-before.MonoNs || l.AtLeast {
		f.errorf(l, "for_ns is not the time since\n\t%s", before.Text)
	}
	if l.From == "syscall" && before.To == "syscall" && l.TID != before.TID {
		f.errorf(l, "leaves a system call on another thread than it entered it\n\t%s", before.Text)
	}
	if before.To == "dead" && l.Via != "extra-m" {
		f.errorf(l, "a change after death")
	}
	if l.IsBirth() {
		f.errorf(l, "born again, after\n\t%s", before.Text)
	}
}

// actors checks the parent of a newborn and the waker of a goroutine made
// runnable: at that moment it must be on a thread, in Go code.
func (f *follower) actors(l *traced.Transition) {
	var actor int64
	switch {
	case l.IsBirth():
		actor = *l.Parent
		if l.Start == nil || l.Start.Func == "" {
			f.errorf(l, "a goroutine without a start function")
		}
		if l.GoID > 1 && (l.CreatedBy == nil || l.CreatedBy.Func == "" || l.CreatedBy.Line <= 0) {
			f.errorf(l, "a goroutine without a creator")
		}
	case l.Is("waiting", "runnable"):
		actor = *l.Waker
	}
	if actor == 0 {
		return
	}
	if actor == l.GoID {
		f.errorf(l, "a goroutine cannot act on itself here")
	}
	state := f.last[actor]
	if state == nil && f.tr.Launched {
		f.errorf(l, "goroutine %d is not known", actor)
	}
	if state != nil && state.To != "running" && !state.FakeWait {
		f.errorf(l, "goroutine %d acts, but its last line is\n\t%s", actor, state.Text)
	}
	if state != nil && state.TID != l.TID && state.To == "running" {
		f.errorf(l, "goroutine %d acts on another thread than it runs on\n\t%s", actor, state.Text)
	}
}

// threads checks that a thread runs one goroutine at a time. The last switch of
// a coroutine is the exception: coroswitch_m destroys it after the point at
// which its caller is seen to run (runtime/coro.go, Go 1.22 and later).
func (f *follower) threads(l *traced.Transition) {
	if l.To != "running" {
		return
	}
	if l.Via == "coroutine" {
		f.runs[l.TID] = l.GoID
		return
	}
	if other := f.runs[l.TID]; other != 0 && other != l.GoID {
		if at := f.last[other]; at.TID == l.TID && at.To == "running" {
			f.errorf(l, "the thread runs goroutine %d:\n\t%s", other, at.Text)
		}
	}
	f.runs[l.TID] = l.GoID
}
