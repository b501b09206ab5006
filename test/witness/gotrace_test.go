package witness_test

import (
	"errors"
	"io"
	"os"
	"testing"

	"golang.org/x/exp/trace"

	"gopherscope/test/traced"
)

// change is one change of a goroutine's state as the Go runtime recorded it.
type change struct {
	from, to trace.GoState
	time     int64 // nanoseconds of CLOCK_MONOTONIC: see readGoTrace
	actor    int64 // the goroutine on whose thread it was recorded; 0 if none
	tid      int   // that thread
	proc     int64 // its P, -1 if none
	text     string

	creator, start traced.Place // of a new goroutine
}

// goTrace is what a trace file tells of goroutines.
type goTrace struct {
	byGoID     map[int64][]change // without the statement of the first state
	first      map[int64]trace.GoState
	begin, end int64 // of the time that the tracer was on
}

// readGoTrace parses a trace file. Its times are readings of nanotime in units
// of 64 ns (runtime/tracetime.go, traceClockNow), and nanotime is
// CLOCK_MONOTONIC on Linux: they can be compared with gopherscope's.
func readGoTrace(t *testing.T, path string) *goTrace {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := trace.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	g := &goTrace{byGoID: map[int64][]change{}, first: map[int64]trace.GoState{}}
	for {
		ev, err := r.ReadEvent()
		if errors.Is(err, io.EOF) {
			return g
		}
		if err != nil {
			t.Fatal(err)
		}
		g.add(&ev)
	}
}

func (g *goTrace) add(ev *trace.Event) {
	if ev.Kind() != trace.EventStateTransition {
		return
	}
	st := ev.StateTransition()
	if st.Resource.Kind != trace.ResourceGoroutine {
		return
	}
	if g.begin == 0 {
		g.begin = int64(ev.Time())
	}
	g.end = int64(ev.Time())
	id := int64(st.Resource.Goroutine())
	from, to := st.Goroutine()
	if from == to {
		return // the state at the begin of a generation
	}
	if from == trace.GoUndetermined {
		g.first[id], g.byGoID[id] = to, nil
		return
	}
	c := change{from: from, to: to, time: int64(ev.Time()), tid: int(ev.Thread()), proc: int64(ev.Proc()), text: ev.String()}
	if actor := ev.Goroutine(); actor != trace.NoGoroutine {
		c.actor = int64(actor)
	}
	if from == trace.GoNotExist {
		c.creator, c.start = top(ev.Stack()), top(st.Stack)
	}
	g.byGoID[id] = append(g.byGoID[id], c)
}

// top is the innermost frame of a stack.
func top(s trace.Stack) traced.Place {
	for f := range s.Frames() {
		return traced.Place{Func: f.Func, File: f.File, Line: int(f.Line)}
	}
	return traced.Place{}
}
