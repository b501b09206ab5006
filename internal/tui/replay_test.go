package tui

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"gopherscope/internal/dump"
	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gstate"
	"gopherscope/internal/recording"
)

func openReplay(t testing.TB, file []byte, interval time.Duration, step uint64) *Replay {
	t.Helper()
	r, err := recording.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	p, err := newReplay(t.Context(), r, interval, step)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close(); r.Close() })
	return p
}

// whatIs is a Sample without the numbers that depend on the order in which things were
// first seen.
func whatIs(s *Sample) string {
	d := s.Dump
	var b bytes.Buffer
	p := *s.Position
	p.Ran = nil
	fmt.Fprintf(&b, "%v %d %+v\n", d.Time, d.Mono, p)
	for i := range d.Goroutines {
		g := d.Goroutines[i]
		fmt.Fprintf(&b, "%d %v %q since %d, ran %v, by %d at %v starts %v, thread %d, flags %d, stack %v, labels %v\n", g.ID, g.Status, d.ReasonOf(&g), g.WaitSince,
			p.Over > 0 && s.Position.Ran[i], g.Parent, d.Sites[g.Created], d.Sites[g.Start], g.TID, g.Flags, d.Stacks[g.Stack], d.Labels[g.Labels])
	}
	r := *s.Rates
	fmt.Fprintf(&b, "%s for %v over %v: %d, lost %d, violations %d, cost %v\n", r.Engine, r.For, r.Over, r.Transitions, r.Lost, r.Violations, r.Cost)
	var ids []uint64
	for id := range r.Goroutines {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		fmt.Fprintf(&b, "  %d: %+v\n", id, *r.Goroutines[id])
	}
	var sites []event.Location
	for site := range r.Ended {
		sites = append(sites, site)
	}
	slices.SortFunc(sites, func(a, b event.Location) int { return cmp.Compare(a.Func, b.Func) })
	for _, site := range sites {
		fmt.Fprintf(&b, "  ended %v: %+v\n", site, *r.Ended[site])
	}
	return b.String()
}

// TestReplayAnyWay goes through recordings in any order and wants of each moment what going
// straight on shows.
func TestReplayAnyWay(t *testing.T) {
	for seed := range uint64(4) {
		file, events := recordLife(t, newLife(seed), 12_000, 40, seed%2 == 1)
		straight, jumps := openReplay(t, file, time.Second, 1<<40), openReplay(t, file, time.Second, 500)
		if len(jumps.points) < 10 || len(straight.points) != 0 {
			t.Fatalf("%d and %d checkpoints", len(jumps.points), len(straight.points))
		}
		want := map[int64]string{}
		var moments []int64
		for at := straight.begin; ; at += int64(time.Second) {
			s, err := straight.Sample(Want{At: at})
			if err != nil {
				t.Fatal(err)
			}
			at = s.Position.At
			moments, want[at] = append(moments, at), whatIs(s)
			checkStates(t, s, events)
			if at == straight.end {
				break
			}
		}
		if len(moments) < 10 {
			t.Fatalf("%d moments", len(moments))
		}
		rng := rand.New(rand.NewPCG(seed, 2))
		for range 150 {
			at := moments[rng.IntN(len(moments))]
			w := Want{At: at}
			if rng.IntN(3) == 0 {
				w.Watch = 1 + rng.Uint64N(30)
			}
			s, err := jumps.Sample(w)
			if err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(want[at], whatIs(s)); diff != "" {
				t.Fatalf("seed %d at %v (-straight +jumped):\n%s", seed, time.Duration(at-jumps.begin), diff)
			}
			if w.Watch != 0 {
				checkHistory(t, s, events, w.Watch)
			}
		}
		if len(jumps.saved) < 10 {
			t.Errorf("%d checkpoints were made", len(jumps.saved))
		}
	}
}

// checkStates wants the states of a Sample to be those that the events before lead to.
func checkStates(t *testing.T, s *Sample, events []event.Event) {
	t.Helper()
	at := s.Position.At
	tracker := gstate.NewTracker()
	transitions := uint64(0)
	for i := range events {
		if e := &events[i]; e.Time < at {
			tracker.Apply(e)
			if e.Kind == event.Transition && e.Time >= at-int64(s.Position.Over) {
				transitions++
			}
		}
	}
	n := 0
	tracker.Live(func(g gstate.Live) {
		if g.Status == goruntime.Dead {
			return
		}
		n++
		i := find(s.Dump, g.GoID)
		if i < 0 {
			t.Fatalf("at %d goroutine %d is not there", at, g.GoID)
		}
		got := &s.Dump.Goroutines[i]
		if got.Status != g.Status || got.WaitSince != 0 && got.WaitSince != g.Since {
			t.Fatalf("at %d goroutine %d is %v since %d, want %v since %d", at, g.GoID, got.Status, got.WaitSince, g.Status, g.Since)
		}
	})
	if n != len(s.Dump.Goroutines) || s.Rates.Transitions != transitions || s.Rates.Violations != tracker.Violations() {
		t.Fatalf("at %d: %d goroutines and %d transitions, want %d and %d; %d violations, want %d", at, len(s.Dump.Goroutines), s.Rates.Transitions, n, transitions,
			s.Rates.Violations, tracker.Violations())
	}
}

// checkHistory wants the last transitions of a goroutine.
func checkHistory(t *testing.T, s *Sample, events []event.Event, id uint64) {
	t.Helper()
	var want []int64
	for i := range events {
		if e := &events[i]; e.Kind == event.Transition && e.GoID == id && e.Time < s.Position.At {
			want = append(want, e.Time)
		}
	}
	got := s.Rates.History
	if len(got) < min(len(want), enoughHistory) || len(got) > len(want) {
		t.Fatalf("%d transitions of goroutine %d, of %d", len(got), id, len(want))
	}
	for i := range got {
		if got[i].Mono != want[len(want)-len(got)+i] {
			t.Fatalf("transition %d of %d of goroutine %d is at %d, want %d", i, len(got), id, got[i].Mono, want[len(want)-len(got)+i])
		}
	}
}

// TestReplayDamaged shows what comes before the damage, and a cut file up to its last whole block.
func TestReplayDamaged(t *testing.T) {
	file, events := recordLife(t, newLife(9), 20_000, 40, false)
	damaged := slices.Clone(file)
	damaged[len(file)/2] ^= 1
	for name, file := range map[string][]byte{"damaged": damaged, "cut": file[:len(file)/2]} {
		p := openReplay(t, file, time.Second, 500)
		if name == "cut" != p.Recorded().Cut {
			t.Errorf("%s: %+v", name, p.Recorded())
		}
		for range 3 {
			for _, at := range []int64{p.begin + 3e9, p.end, p.begin + 1e9, p.end + 5e9, p.end - 1} {
				s, err := p.Sample(Want{At: at, Watch: 1})
				if err != nil {
					t.Fatal(err)
				}
				if pos := s.Position; pos.At > pos.End || pos.At == pos.End && len(s.Dump.Goroutines) == 0 {
					t.Fatalf("%s: at %d: %+v", name, at, pos)
				}
				checkStates(t, s, events)
			}
		}
		var damage *recording.DamageError
		if rec := p.Recorded(); !rec.Cut || errors.As(p.Err(), &damage) != (name == "damaged") {
			t.Errorf("%s: %v, %+v", name, p.Err(), rec)
		}
	}
}

// TestReplayPause has a moment in a pause of the trace.
func TestReplayPause(t *testing.T) {
	l := newLife(3)
	var out bytes.Buffer
	w, err := recording.NewWriter(&out, l, nil)
	if err != nil {
		t.Fatal(err)
	}
	at := func(ms int64) int64 { return lifeBegin + ms*1e6 }
	steps := []event.Event{
		{Kind: event.Snapshot, Time: at(1), PID: 7, GoID: 1, To: goruntime.Waiting, Reason: "select"},
		{Time: at(500), PID: 7, GoID: 2, From: goruntime.Running, To: goruntime.Waiting, Reason: "sleep", Stack: 4},
		{Kind: event.Gap, Time: at(3500), Since: at(1500), PID: 7},
		{Time: at(4500), PID: 7, GoID: 2, From: goruntime.Waiting, To: goruntime.Runnable},
		{Time: at(4600), PID: 7, GoID: 2, From: goruntime.Runnable, To: goruntime.Running},
	}
	for ms := int64(0); ms <= 6000; ms += 50 {
		for len(steps) > 0 && steps[0].Time < at(ms) {
			if err := w.Event(&steps[0]); err != nil {
				t.Fatal(err)
			}
			steps = steps[1:]
		}
		l.now = at(ms)
		if err := w.Tick(l.now); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	p := openReplay(t, out.Bytes(), time.Second, 1)
	for _, want := range []struct {
		ms      int64
		paused  int64
		there   int
		unknown int
		traced  time.Duration
	}{
		{1000, 0, 2, 0, time.Second}, {2000, at(1500), 2, 0, 500 * time.Millisecond}, {3000, at(1500), 2, 0, 0},
		{4000, 0, 0, 2, 500 * time.Millisecond}, {5000, 0, 1, 1, time.Second}, {2000, at(1500), 2, 0, 500 * time.Millisecond}, {6000, 0, 1, 1, time.Second},
	} {
		s, err := p.Sample(Want{At: at(want.ms)})
		if err != nil {
			t.Fatal(err)
		}
		if pos := s.Position; pos.Paused != want.paused || len(s.Dump.Goroutines) != want.there || pos.Unknown != want.unknown || s.Rates.For != want.traced {
			t.Errorf("at %d ms: %+v, %d goroutines, traced %v of the second; want %+v", want.ms, pos, len(s.Dump.Goroutines), s.Rates.For, want)
		}
	}
}

// TestReplayStacks wants a goroutine's stack for as long as it stands there.
func TestReplayStacks(t *testing.T) {
	s := newStates("go1.26.8", true, newLife(1).Stack)
	step := func(from, to goruntime.Status, stack uint32, want string) {
		t.Helper()
		s.apply(&event.Event{PID: 7, GoID: 1, From: from, To: to, Stack: stack})
		d, _, _ := s.at(1, 0, time.Time{})
		if labels := d.Labels[d.Goroutines[0].Labels]; len(labels) > 0 != (want == "main.f5") {
			t.Errorf("%v to %v: labels %v", from, to, labels)
		}
		got := ""
		if frames := d.Stacks[d.Goroutines[0].Stack].Frames; len(frames) > 0 {
			got = frames[len(frames)-1].Func
		}
		if got != want {
			t.Errorf("%v to %v: stands in %q, want %q", from, to, got, want)
		}
	}
	step(goruntime.Dead, goruntime.Runnable, 9, "") // that is the parent's
	step(goruntime.Runnable, goruntime.Running, 0, "")
	s.apply(&event.Event{PID: 7, GoID: 1, From: goruntime.Running, To: goruntime.Waiting, Stack: 5})
	s.apply(&event.Event{Kind: event.Labels, PID: 7, GoID: 1, Labels: &event.LabelSet{Labels: []event.Label{{Key: "a", Value: "b"}}}})
	step(goruntime.Waiting, goruntime.Leaked, 0, "main.f5")
	step(goruntime.Leaked, goruntime.Waiting, 0, "main.f5")
	step(goruntime.Waiting, goruntime.Runnable, 0, "main.f5")
	step(goruntime.Runnable, goruntime.Running, 0, "")
	step(goruntime.Running, goruntime.Syscall, 6, "main.f6")
	step(goruntime.Syscall, goruntime.Running, 0, "")
	step(goruntime.Running, goruntime.Runnable, 0, "")
	if i := find(func() *dump.Dump { d, _, _ := s.at(1, 0, time.Time{}); return d }(), 1); i != 0 {
		t.Errorf("goroutine 1 is at %d", i)
	}
}

// TestReplayMemory wants no more memory for a recording that is longer.
func TestReplayMemory(t *testing.T) {
	grown := func(n int) int64 {
		file, _ := recordLife(t, newLife(4), n, 300, false)
		p := openReplay(t, file, time.Second, minCheckpointStep)
		before := heapInUse()
		for _, at := range []int64{p.end, p.begin, p.end} {
			if _, err := p.Sample(Want{At: at, Watch: 3}); err != nil {
				t.Fatal(err)
			}
		}
		after := heapInUse()
		runtime.KeepAlive(p)
		runtime.KeepAlive(file)
		return after - before
	}
	short, long := grown(50_000), grown(250_000)
	if long > short+4<<20 {
		t.Errorf("50,000 events took %d bytes, and 250,000 took %d", short, long)
	}
}

// TestReplayRest: ticks of a process that is at rest for hours take no memory, wherever one goes.
func TestReplayRest(t *testing.T) {
	l := newLife(6)
	var file bytes.Buffer
	w, err := recording.NewWriter(&file, l, nil)
	if err != nil {
		t.Fatal(err)
	}
	end := lifeBegin + int64(3*time.Hour)
	for ; l.now < end; l.now += 50e6 {
		if (l.now-lifeBegin)%int64(time.Hour) == 0 {
			e := l.next(3)
			if err := w.Event(&e); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Tick(l.now); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	p := openReplay(t, file.Bytes(), time.Second, minCheckpointStep)
	for _, at := range []int64{lifeBegin + int64(30*time.Minute), end, lifeBegin + int64(90*time.Minute)} {
		if _, err := p.Sample(Want{At: at}); err != nil {
			t.Fatal(err)
		}
		if n := cap(p.ticks); n > 2*manyTicks {
			t.Errorf("at %v there is room for %d ticks", time.Duration(at-lifeBegin), n)
		}
	}
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkReplay goes to moments of a recording of two million events; with -short of a
// twentieth of that.
func BenchmarkReplay(b *testing.B) {
	events := 2_000_000
	if testing.Short() {
		events /= 20
	}
	file, _ := recordLife(b, newLife(5), events, 2000, false)
	for _, way := range []string{"begin to end", "anywhere", "one back", "one on"} {
		b.Run(way, func(b *testing.B) {
			p := openReplay(b, file, time.Second, minCheckpointStep)
			go1 := func(at int64) {
				if _, err := p.Sample(Want{At: at}); err != nil && !errors.Is(err, io.EOF) {
					b.Fatal(err)
				}
			}
			go1(p.end)
			rng := rand.New(rand.NewPCG(1, 1))
			at := p.begin + 10e9
			for b.Loop() {
				switch way {
				case "begin to end":
					clear(p.saved)
					p.entries = 0
					go1(p.begin)
					go1(p.end)
				case "anywhere":
					go1(p.begin + rng.Int64N(p.end-p.begin))
				case "one back":
					if at -= 1e9; at < p.begin {
						at = p.end - 1e9
					}
					go1(at)
				case "one on":
					if at += 1e9; at > p.end {
						at = p.begin + 1e9
					}
					go1(at)
				}
			}
		})
	}
}
