package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gstate"
	"gopherscope/internal/perfetto"
	"gopherscope/internal/perfetto/perfettotest"
	"gopherscope/internal/stream"
	"gopherscope/internal/testenv"
)

// liveEvents is how many changes of a live process are converted and read back, which
// by reflection is slow.
const liveEvents = 6000

// convertLive traces a program and writes what comes as Perfetto and into a list. It is the
// same stream, so the two must agree in everything.
func convertLive(t *testing.T, engine string) (*perfettotest.Trace, []event.Event, stream.Source) {
	t.Helper()
	testenv.RequireRoot(t)
	testenv.RequireBPF(t)
	term := &terminal{Stdio: Stdio{In: os.Stdin, Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}}
	bin := testenv.BuildTarget(t, "all", testenv.Build{})
	src, err := openSource(term, operand{command: []string{bin, "20"}}, engineOptions{name: engine, stacks: true}, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	})
	var buf bytes.Buffer
	w := perfetto.New(&buf, src.Info(), src.Stack, src.Wall)
	states := gstate.NewTracker()
	var events []event.Event
	err = src.Run(context.Background(), func(e *event.Event) error {
		if len(events) >= liveEvents {
			return errEnough
		}
		events = append(events, *e)
		return w.Event(e, states.Apply(e))
	}, func(int64) error { return nil })
	if err != nil && !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	tr, err := perfettotest.Read(buf.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if states.Violations() > 0 || len(events) < 500 {
		t.Fatalf("%d events, %d violations", len(events), states.Violations())
	}
	return tr, events, src
}

func TestConvertPerfettoLive(t *testing.T) {
	for _, engine := range []string{engineEBPF, engineInline} {
		t.Run(engine, func(t *testing.T) {
			tr, events, src := convertLive(t, engine)
			end := events[0].Time
			for i := range events {
				end = max(end, events[i].Time)
			}
			checkStates(t, tr, events, end)
			checkCounts(t, tr, events)
			checkWakes(t, tr, events)
			checkProcessors(t, tr, events)
			checkStacks(t, tr, events, src)
			if c := tr.Clocks[0]; c.Mono != src.Info().Begin || c.Real != src.Info().Wall {
				t.Errorf("clock %+v", c)
			}
		})
	}
}

// span is a state of a goroutine.
type span struct {
	Name       string
	Begin, End int64
}

// goroutineOf is the number of the goroutine whose track it is; 0 if it is another track.
func goroutineOf(track *perfettotest.Track) (id uint64) {
	if _, err := fmt.Sscanf(track.Name, "G%d", &id); err != nil {
		return 0
	}
	return id
}

// checkStates wants the slices of each goroutine to be its changes, one after the other.
func checkStates(t *testing.T, tr *perfettotest.Trace, events []event.Event, end int64) {
	t.Helper()
	want, got := map[uint64][]span{}, map[uint64][]span{}
	for i := range events {
		e := &events[i]
		if e.Kind != event.Transition && e.Kind != event.Snapshot {
			continue
		}
		spans := want[e.GoID]
		if n := len(spans); n > 0 && spans[n-1].End == 0 {
			spans[n-1].End = e.Time
		}
		if e.To != goruntime.Dead && e.To != goruntime.DeadExtra {
			name := e.To.Name()
			if e.To == goruntime.Waiting && e.Reason != "" {
				name = e.Reason
			}
			spans = append(spans, span{Name: name, Begin: e.Time})
		}
		want[e.GoID] = spans
	}
	for _, spans := range want {
		if n := len(spans); n > 0 && spans[n-1].End == 0 {
			spans[n-1].End = end
		}
	}
	for _, s := range tr.Slices {
		if id := goroutineOf(s.Track); id != 0 && !s.Instant {
			got[id] = append(got[id], span{s.Name, s.Begin, s.End})
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("states (-events +trace):\n%.2000s", diff)
	}
}

// checkCounts wants the counters to be the goroutines by state after each moment.
func checkCounts(t *testing.T, tr *perfettotest.Trace, events []event.Event) {
	t.Helper()
	states := map[string]goruntime.Status{
		"goroutines runnable (run queue)": goruntime.Runnable, "goroutines running": goruntime.Running,
		"goroutines in syscall": goruntime.Syscall, "goroutines waiting": goruntime.Waiting,
	}
	for name, status := range states {
		want, got := map[int64]int64{}, map[int64]int64{}
		in := map[uint64]bool{}
		var now, n int64
		for i := range events {
			e := &events[i]
			if e.Kind != event.Transition && e.Kind != event.Snapshot {
				continue
			}
			now = max(now, e.Time)
			is := e.To == status && (status != goruntime.Waiting || !e.Fake) || status == goruntime.Running && e.To == goruntime.Waiting && e.Fake
			if is != in[e.GoID] {
				in[e.GoID] = is
				n += map[bool]int64{true: 1, false: -1}[is]
			}
			want[now] = n
		}
		var last int64
		values := map[int64]int64{}
		for _, c := range tr.Counters {
			if c.Track.Name == name {
				values[c.Time] = c.Value
			}
		}
		for _, at := range sortedKeys(want) {
			if v, ok := values[at]; ok {
				last = v
			}
			got[at] = last
		}
		delete(want, now) // at the end all are taken away
		delete(got, now)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-events +trace):\n%.1000s", name, diff)
		}
	}
}

func sortedKeys(m map[int64]int64) []int64 {
	var keys []int64
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// arrow is a wake-up.
type arrow struct {
	From, To uint64
	Woken    int64 // when the waker did it
	Ran      int64 // when the woken goroutine ran
}

// checkWakes wants a flow for each wake-up by a goroutine, and for each birth.
func checkWakes(t *testing.T, tr *perfettotest.Trace, events []event.Event) {
	t.Helper()
	var want, got []arrow
	pending, seen := map[uint64]arrow{}, map[uint64]bool{}
	for i := range events {
		e := &events[i]
		switch e.To {
		case goruntime.Runnable:
			waker := e.Waker
			if waker == 0 && e.IsNew() {
				waker = e.Birth.Parent
			}
			delete(pending, e.GoID)
			if waker != 0 && seen[waker] {
				pending[e.GoID] = arrow{From: waker, To: e.GoID, Woken: e.Time}
			}
		case goruntime.Running:
			if a, ok := pending[e.GoID]; ok {
				a.Ran = e.Time
				want = append(want, a)
				delete(pending, e.GoID)
			}
		}
		seen[e.GoID] = e.To != goruntime.Dead
	}
	begins := map[uint64]*perfettotest.Slice{}
	for _, s := range tr.Slices {
		for _, id := range s.Flows {
			begins[id] = s
		}
		for _, id := range s.Ends {
			got = append(got, arrow{goroutineOf(begins[id].Track), goroutineOf(s.Track), begins[id].Begin, s.Begin})
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || len(want) < 20 {
		t.Errorf("%d wake-ups (-events +trace):\n%.1000s", len(want), diff)
	}
}

// checkProcessors wants each time that a goroutine ran on the track of its P, and one at a
// time on each.
func checkProcessors(t *testing.T, tr *perfettotest.Trace, events []event.Event) {
	t.Helper()
	type run struct {
		P, Begin int64
		GoID     int64
	}
	// A run begins where a goroutine says that it runs on a P that was not its own until
	// then: also when it goes on after another one has said the same of that P, as the
	// records of two threads can come in the order of their clocks.
	want := map[run]bool{}
	owner, on := map[int32]uint64{}, map[uint64]int32{}
	for i := range events {
		e := &events[i]
		runs := e.To == goruntime.Running || e.To == goruntime.Waiting && e.Fake
		p, had := on[e.GoID]
		switch {
		case !runs || e.Kind != event.Transition:
			if had && owner[p] == e.GoID {
				delete(owner, p)
			}
			delete(on, e.GoID)
		case e.P >= 0 && owner[e.P] != e.GoID:
			if had && owner[p] == e.GoID {
				delete(owner, p)
			}
			owner[e.P], on[e.GoID] = e.GoID, e.P
			want[run{int64(e.P), e.Time, int64(e.GoID)}] = true
		}
	}
	got := map[run]bool{}
	for _, s := range tr.Slices {
		var p int64
		if _, err := fmt.Sscanf(s.Track.Name, "P%d", &p); err != nil {
			continue
		}
		if s.Parent != nil {
			t.Errorf("two at once on P%d", p)
		}
		got[run{p, s.Begin, s.Args["goid"].(int64)}] = true
	}
	missing := 0
	for r := range want {
		if !got[r] {
			missing++
		}
	}
	// The begin of a run can be moved behind the end of the one before by what the clocks of
	// two threads differ.
	if missing > len(want)/20 || len(got) != len(want) {
		t.Errorf("%d of %d runs are not there, there are %d", missing, len(want), len(got))
	}
}

// checkStacks wants the stacks of the events, the other way round.
func checkStacks(t *testing.T, tr *perfettotest.Trace, events []event.Event, src stream.Source) {
	t.Helper()
	want, got := map[string]int{}, map[string]int{}
	for i := range events {
		frames := slices.Clone(src.Stack(events[i].Stack))
		if events[i].Stack == 0 || len(frames) == 0 || events[i].To == goruntime.Dead {
			continue
		}
		slices.Reverse(frames)
		var text string
		for _, f := range frames {
			text += fmt.Sprintln(f.Func, f.File, f.Line)
		}
		want[text]++
	}
	for _, s := range tr.Slices {
		if len(s.Stack) == 0 {
			continue
		}
		var text string
		for _, f := range s.Stack {
			text += fmt.Sprintln(f.Func, f.File, f.Line)
		}
		got[text]++
	}
	if diff := cmp.Diff(want, got); diff != "" || len(want) == 0 {
		t.Errorf("%d stacks (-events +trace):\n%.1000s", len(want), diff)
	}
}
