package gotrace_test

import (
	"bytes"
	"testing"

	"golang.org/x/exp/trace"

	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

// TestLive traces every behaviour of the target programs with each kind of runtime, and
// wants a trace that can be read in which nothing had to be made up, and in which every
// goroutine was in each state as often as the tool said, for as long.
func TestLive(t *testing.T) {
	for i, b := range []testenv.Build{
		{Go: "1.18", Cgo: true}, {Go: "1.21"}, {Go: "1.23"}, {Go: "1.26", Cgo: true}, {Go: "1.27"},
	} {
		engines := traced.Engines()
		e := engines[i%len(engines)]
		t.Run(string(e)+"/"+b.String(), func(t *testing.T) {
			t.Parallel()
			tr := e.Launch(t, "all", b, "30")
			whole(t, tr)
			hold(t, tr, convert(t, tr))
		})
	}
}

// TestAttached is TestLive for a program that runs already: goroutines are there, of which
// most never change.
func TestAttached(t *testing.T) {
	for i, b := range []testenv.Build{{Go: "1.20"}, {Go: "1.27", Cgo: true}} {
		e := traced.Engines()[i%len(traced.Engines())]
		t.Run(string(e)+"/"+b.String(), func(t *testing.T) {
			t.Parallel()
			tr := e.AttachHeld(t, "release", b)
			whole(t, tr)
			data := convert(t, tr)
			hold(t, tr, data)
			there := map[trace.GoID]bool{}
			readAll(t, bytes.NewReader(data), func(ev *trace.Event) {
				if ev.Kind() == trace.EventStateTransition && ev.StateTransition().Resource.Kind == trace.ResourceGoroutine {
					if from, _ := ev.StateTransition().Goroutine(); from == trace.GoUndetermined {
						there[ev.StateTransition().Resource.Goroutine()] = true
					}
				}
			})
			for _, s := range tr.Snapshots {
				if !there[trace.GoID(s.GoID)] && s.State != "dead" && s.State != "deadextra" {
					t.Errorf("goroutine %d, %s, is not told of", s.GoID, s.State)
				}
			}
		})
	}
}

// whole wants a stream in which nothing is missing.
func whole(t *testing.T, tr *traced.Trace) {
	t.Helper()
	if s := tr.Summary; s.Violations != 0 || s.Lost["total"] != 0 {
		t.Fatalf("%d violations, lost %v", s.Violations, s.Lost)
	}
}

// at is the state of a goroutine since some moment.
type at struct {
	state string
	time  int64
}

// kinds are the tool's states as the format has them, "" where it has none.
var kinds = map[string]string{
	"runnable": "Runnable", "running": "Running", "syscall": "Syscall", "waiting": "Waiting", "preempted": "Waiting", "leaked": "Waiting",
}

// kind is the format's state of a line's.
func kind(state string, fake bool) string {
	if fake {
		return "Running"
	}
	return kinds[state]
}

// told sums up the tool's lines, as the states of the format. All waits are one.
func told(tr *traced.Trace) map[int64]*account {
	sums, now := map[int64]*account{}, map[int64]at{}
	for _, s := range tr.Snapshots {
		now[s.GoID] = at{kind(s.State, s.FakeWait), s.MonoNs}
	}
	for i := range tr.Transitions {
		l := &tr.Transitions[i]
		one := sums[l.GoID]
		if one == nil {
			one = &account{time: map[string]int64{}, times: map[string]int{}}
			sums[l.GoID] = one
		}
		state, was := kind(l.To, l.FakeWait), now[l.GoID]
		switch {
		case was.state == state:
			continue
		case l.Via == "no-p" && was.state == "Running":
			// The moment without a P is a part of the end of the system call.
			now[l.GoID] = at{state, was.time}
			one.times["Running"]--
			one.times[state]++
			continue
		case was.state != "":
			one.time[was.state] += l.MonoNs - was.time
		}
		one.times[state]++
		now[l.GoID] = at{state, l.MonoNs}
	}
	return sums
}

// slack is by how much the times of each goroutine can differ from the lines: each change
// can be some nanoseconds late, for others of the same moment; a switch of coroutines is one
// event for two lines; and where the thread that comes back from a system call can have had
// its P only later, because another one still used it, the goroutine was runnable until
// then.
func slack(t *testing.T, tr *traced.Trace, data []byte) map[int64]int64 {
	t.Helper()
	of, back := map[int64]int64{}, map[int64]int64{}
	for i := range tr.Transitions {
		l := &tr.Transitions[i]
		of[l.GoID] += 100
		if l.Via == "coroutine" {
			of[l.GoID] += 10_000
		}
		if l.Via == "no-p" {
			back[l.GoID] = l.MonoNs
		} else if since, ok := back[l.GoID]; ok {
			of[l.GoID] -= l.MonoNs - since // it is in the lines too
			delete(back, l.GoID)
		}
	}
	clear(back)
	readAll(t, bytes.NewReader(data), func(ev *trace.Event) {
		if ev.Kind() != trace.EventStateTransition || ev.StateTransition().Resource.Kind != trace.ResourceGoroutine {
			return
		}
		st := ev.StateTransition()
		id := int64(st.Resource.Goroutine())
		from, to := st.Goroutine()
		if since, ok := back[id]; ok && to == trace.GoRunning {
			of[id] += int64(ev.Time()) - since
		}
		delete(back, id)
		if from == trace.GoSyscall && to == trace.GoRunnable {
			back[id] = int64(ev.Time())
		}
	})
	return of
}

// hold holds a Go execution trace to the lines that it was made of.
func hold(t *testing.T, tr *traced.Trace, data []byte) {
	t.Helper()
	got := newAccounts(0, tr.Transitions[len(tr.Transitions)-1].MonoNs)
	got.waits = true
	events := 0
	readAll(t, bytes.NewReader(data), func(ev *trace.Event) {
		events++
		got.add(ev)
		if ev.Kind() == trace.EventStateTransition && ev.StateTransition().Reason == "lost event" {
			t.Errorf("made up: %s", ev)
		}
	})
	want, slack, differ := told(tr), slack(t, tr, data), 0
	for id, w := range want {
		g := got.of[trace.GoID(id)]
		if g == nil {
			g = &account{}
		}
		for state, ns := range w.time {
			d := max(g.time[state]-ns, ns-g.time[state])
			if limit := 1000 + max(0, slack[id]); d > limit {
				if differ++; differ < 10 {
					t.Errorf("goroutine %d was %s for %d ns, in the trace %d; the limit is %d", id, state, ns, g.time[state], limit)
				}
			}
		}
	}
	t.Logf("%d lines became %d events, %d bytes; %d goroutines", len(tr.Transitions), events, len(data), len(want))
}
