package perfetto_test

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gopherscope/internal/engine"
	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gstate"
	"gopherscope/internal/perfetto"
	"gopherscope/internal/perfetto/perfettotest"
	"gopherscope/internal/stream"
)

const begin = int64(1_000_000)

var info = stream.Info{
	Engine: "inline", GoVersion: "go1.26.8", Arch: "amd64", PID: 7, Exe: "/srv/app", Command: []string{"./app", "-x", "\xff"},
	Procs: 4, Begin: begin, Wall: 1_700_000_000_000_000_000,
}

func wall(mono int64) int64 { return info.Wall + mono - begin }

var stacks = map[uint32][]event.Location{
	1: {{Func: "runtime.gopark", File: "/go/runtime/proc.go", Line: 402}, {Func: "main.worker", File: "/src/main.go", Line: 9}, {Func: "main.outer"}},
}

func stackOf(id uint32) []event.Location { return stacks[id] }

// written is the trace of a stream.
func written(t *testing.T, events []event.Event, totals *stream.Totals) *perfettotest.Trace {
	t.Helper()
	return writtenWith(t, events, totals, func(*perfetto.Writer) {})
}

func writtenWith(t *testing.T, events []event.Event, totals *stream.Totals, set func(*perfetto.Writer)) *perfettotest.Trace {
	t.Helper()
	var buf bytes.Buffer
	w := perfetto.New(&buf, &info, stackOf, wall)
	set(w)
	states := gstate.NewTracker()
	for i := range events {
		if err := w.Event(&events[i], states.Apply(&events[i])); err != nil {
			t.Fatal(err)
		}
	}
	if totals != nil {
		w.Totals(totals)
	}
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	tr, err := perfettotest.Read(buf.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// change is an event of goroutine g at begin+at.
func change(at int64, g uint64, from, to goruntime.Status, edit func(e *event.Event)) event.Event {
	e := event.Event{Time: begin + at, PID: 7, TID: 70 + uint32(g), GoID: g, M: 1, P: event.NoP, From: from, To: to}
	if edit != nil {
		edit(&e)
	}
	return e
}

var worker = &event.Birth{
	Parent: 1, CreatedBy: event.Location{Func: "main.serve", File: "/src/main.go", Line: 41}, Start: event.Location{Func: "main.worker"},
}

// story is a stream with what the writer tells apart.
func story() []event.Event {
	on := func(p int32) func(*event.Event) { return func(e *event.Event) { e.P, e.Via = p, event.ViaSchedule } }
	return []event.Event{
		{Kind: event.Snapshot, Time: begin, PID: 7, GoID: 1, To: goruntime.Running},
		{Kind: event.Snapshot, Time: begin, PID: 7, GoID: 2, To: goruntime.Waiting, Reason: "select", Since: begin - 500, Birth: worker},
		change(10, 3, goruntime.Dead, goruntime.Runnable, func(e *event.Event) { e.Via, e.Birth = event.ViaCreate, worker }),
		change(20, 3, goruntime.Runnable, goruntime.Running, on(2)),
		change(30, 3, goruntime.Running, goruntime.Waiting, func(e *event.Event) { e.Fake, e.Reason, e.P = true, "GC assist marking", 2 }),
		change(40, 3, goruntime.Waiting, goruntime.Running, on(2)),
		change(45, 2, goruntime.Waiting, goruntime.Runnable, func(e *event.Event) { e.Via, e.Waker = event.ViaReady, 3 }),
		change(50, 3, goruntime.Running, goruntime.Waiting, func(e *event.Event) {
			e.Via, e.Reason, e.Stack, e.P = event.ViaPark, "chan receive", 1, 2
		}),
		change(48, 2, goruntime.Runnable, goruntime.Running, on(2)), // out of order for the P
		change(60, 2, goruntime.Running, goruntime.Syscall, nil),
		change(70, 2, goruntime.Syscall, goruntime.Running, on(3)),
		change(80, 2, goruntime.Running, goruntime.Dead, func(e *event.Event) { e.Via = event.ViaExit }),
		change(90, 3, goruntime.Runnable, goruntime.Running, on(0)), // what made it runnable was missed
	}
}

type row struct {
	Name, Category string
	Begin, End     int64
	Args           map[string]any
}

// rows are the slices of a track, with times since begin.
func rows(t *testing.T, tr *perfettotest.Trace, name string) []row {
	t.Helper()
	track, err := tr.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	var rs []row
	for _, s := range tr.Slices {
		if s.Track == track {
			rs = append(rs, row{s.Name, s.Category, s.Begin - begin, s.End - begin, s.Args})
		}
	}
	return rs
}

type args = map[string]any

func TestGoroutine(t *testing.T) {
	tr := written(t, story(), nil)
	for name, want := range map[string][]row{
		"G1": {
			{"running", "running", 0, 90, args{"snapshot": true}},
			{"create", "wake", 10, 10, args{"goid": int64(3)}},
		},
		"G2 main.worker": {
			{"select", "waiting", 0, 45, args{"snapshot": true, "wait_at_least_ns": int64(500)}},
			{"runnable", "runnable", 45, 48, args{"via": "ready", "waker": int64(3)}},
			{"running", "running", 48, 60, args{"via": "schedule", "tid": int64(72), "m": int64(1), "p": int64(2)}},
			{"syscall", "syscall", 60, 70, args{"via": "runtime", "tid": int64(72), "m": int64(1)}},
			{"running", "running", 70, 80, args{"via": "schedule", "tid": int64(72), "m": int64(1), "p": int64(3)}},
		},
		"G3 main.worker": {
			{"runnable", "runnable", 10, 20, args{"via": "create"}},
			{"running", "running", 20, 30, args{"via": "schedule", "tid": int64(73), "m": int64(1), "p": int64(2)}},
			{"GC assist marking", "waiting", 30, 40, args{"via": "runtime", "fake_wait": true}},
			{"running", "running", 40, 50, args{"via": "schedule", "tid": int64(73), "m": int64(1), "p": int64(2)}},
			{"ready", "wake", 45, 45, args{"goid": int64(2)}},
			{"chan receive", "waiting", 50, 90, args{"via": "park", "at": "main.worker /src/main.go:9"}},
			{"running", "running", 90, 90, args{"via": "schedule", "tid": int64(73), "m": int64(1), "p": int64(0), "violation": true}},
		},
		"P2": {
			{"G3 main.worker", "running", 20, 50, args{"goid": int64(3)}},
			{"G2 main.worker", "running", 50, 60, args{"goid": int64(2)}},
		},
		"P3": {{"G2 main.worker", "running", 70, 80, args{"goid": int64(2)}}},
	} {
		if diff := cmp.Diff(want, rows(t, tr, name)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for _, s := range tr.Slices {
		if s.Name != "chan receive" {
			continue
		}
		want := []perfettotest.Frame{{Func: "main.outer"}, {Func: "main.worker", File: "/src/main.go", Line: 9}, {Func: "runtime.gopark", File: "/go/runtime/proc.go", Line: 402}}
		if diff := cmp.Diff(want, s.Stack); diff != "" {
			t.Error(diff)
		}
	}
}

// TestFlows follows each flow from who made a goroutine runnable to where it ran.
func TestFlows(t *testing.T) {
	tr := written(t, story(), nil)
	begins := map[uint64]*perfettotest.Slice{}
	var arrows []string
	for _, s := range tr.Slices {
		for _, id := range s.Flows {
			begins[id] = s
		}
		for _, id := range s.Ends {
			from := begins[id]
			arrows = append(arrows, from.Track.Name+"/"+from.Parent.Name+"/"+from.Name+" > "+s.Track.Name+"/"+s.Name)
		}
	}
	want := []string{"G1/running/create > G3 main.worker/running", "G3 main.worker/running/ready > G2 main.worker/running"}
	if diff := cmp.Diff(want, arrows); diff != "" {
		t.Error(diff)
	}
}

func TestTracks(t *testing.T) {
	tr := written(t, story(), nil)
	var paths []string
	for _, track := range tr.Tracks {
		path := track.Name
		for p := track; p.Parent != 0; {
			p = tr.Tracks[p.Parent]
			path = p.Name + "/" + path
		}
		paths = append(paths, path)
	}
	slices.Sort(paths)
	want := []string{
		"app", "app/Goroutines", "app/Goroutines/created by main.serve main.go:41",
		"app/Goroutines/created by main.serve main.go:41/G2 main.worker", "app/Goroutines/created by main.serve main.go:41/G3 main.worker",
		"app/Goroutines/created by: unknown", "app/Goroutines/created by: unknown/G1",
		"app/Processors", "app/Processors/P0", "app/Processors/P2", "app/Processors/P3",
		"app/goroutines in syscall", "app/goroutines runnable (run queue)", "app/goroutines running", "app/goroutines waiting",
		"gopherscope trace of app",
	}
	if diff := cmp.Diff(want, paths); diff != "" {
		t.Error(diff)
	}
	app, err := tr.Find("app")
	if err != nil || app.PID != 7 || app.Process != "app" || !slices.Equal(app.Cmdline, []string{"./app", "-x", "\ufffd"}) {
		t.Errorf("process %+v, %v", app, err)
	}
}

func TestCounters(t *testing.T) {
	tr := written(t, story(), nil)
	got := map[string][][2]int64{}
	for _, c := range tr.Counters {
		got[c.Track.Name] = append(got[c.Track.Name], [2]int64{c.Time - begin, c.Value})
	}
	want := map[string][][2]int64{
		"goroutines runnable (run queue)": {{10, 1}, {20, 0}, {45, 1}, {50, 0}},
		"goroutines running":              {{0, 1}, {20, 2}, {60, 1}, {70, 2}, {80, 1}, {90, 0}},
		"goroutines waiting":              {{0, 1}, {45, 0}, {50, 1}, {90, 0}},
		"goroutines in syscall":           {{60, 1}, {70, 0}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFacts(t *testing.T) {
	totals := &stream.Totals{
		Now: begin + 200, Lost: engine.Lost{RingFull: 3, NoRing: 1}, TargetCPU: time.Second,
		Cost: engine.Cost{Total: 5 * time.Millisecond, NsPerInline: 12.5, Hits: engine.Hits{Inline: 400}},
	}
	events := append(story(), event.Event{Kind: event.Gap, Time: begin + 150, Since: begin + 100, PID: 7},
		change(160, 3, goruntime.Running, goruntime.Waiting, func(e *event.Event) { e.Reason = "sleep" }))
	tr := written(t, events, totals)
	want := []row{
		{"trace", "trace", 0, 200, args{
			"engine": "inline", "go_version": "go1.26.8", "arch": "amd64", "pid": int64(7), "exe": "/srv/app", "command": "./app -x \ufffd",
			"gomaxprocs": int64(4), "events": int64(12), "target_cpu_ns": int64(time.Second),
			"lost.total": int64(4), "lost.ring_full": int64(3), "lost.no_ring": int64(1), "lost.read_fault": int64(0), "lost.recursion": int64(0),
			"lost.processes": int64(0), "lost.corrupt": int64(0),
			"cost.total_ns": int64(5_000_000), "cost.inline_hits": int64(400), "cost.ns_per_inline_hit": 12.5, "cost.uprobe_hits": int64(0),
			"cost.syscall_hits": int64(0), "cost.ns_per_uprobe_hit": int64(0), "cost.ns_per_syscall_hit": int64(0),
		}},
		{"not traced", "trace", 100, 150, args{}},
	}
	if diff := cmp.Diff(want, rows(t, tr, "gopherscope trace of app")); diff != "" {
		t.Error(diff)
	}
	last := rows(t, tr, "G3 main.worker")
	if r := last[len(last)-2]; r.End != 100 {
		t.Errorf("what ran before the gap ends at %d", r.End)
	}
	if r := last[len(last)-1]; r.Name != "sleep" || r.Begin != 160 || r.End != 200 || r.Args["violation"] != nil {
		t.Errorf("after the gap: %+v", r)
	}
	i := slices.IndexFunc(tr.Counters, func(c perfettotest.Counter) bool { return c.Track.Name == "lost events" })
	if i < 0 || tr.Counters[i].Value != 4 || tr.Counters[i].Time != begin+200 {
		t.Error("no counter of lost events")
	}
	if len(tr.Clocks) != 1 || tr.Clocks[0] != (perfettotest.Clock{Mono: begin, Real: info.Wall}) {
		t.Errorf("clocks %v", tr.Clocks)
	}
}

// TestEnds wants a process that ends to take its goroutines along, and another one under
// its number to be another.
func TestEnds(t *testing.T) {
	events := append(story(), event.Event{Kind: event.Exec, Time: begin + 100, PID: 7, TID: 7},
		change(110, 3, goruntime.Runnable, goruntime.Running, func(e *event.Event) { e.P = 0 }))
	tr := written(t, events, &stream.Totals{Now: begin + 120})
	var tracks int
	for _, track := range tr.Tracks {
		if strings.HasPrefix(track.Name, "G3") {
			tracks++
		}
	}
	if tracks != 2 {
		t.Errorf("%d tracks of goroutine 3", tracks)
	}
	for _, s := range tr.Slices {
		if s.Begin < begin+100 && s.End > begin+100 && s.Category != "trace" {
			t.Errorf("%q on %q goes on after its process", s.Name, s.Track.Name)
		}
	}
}

// TestJoined wants two traces in one file to stay two, which is how Perfetto merges them.
func TestJoined(t *testing.T) {
	var buf bytes.Buffer
	for _, wall0 := range []int64{1, 2} {
		i := info
		i.Wall = wall0
		w := perfetto.New(&buf, &i, stackOf, func(mono int64) int64 { return wall0 + mono })
		states := gstate.NewTracker()
		for _, e := range story() {
			if err := w.Event(&e, states.Apply(&e)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	tr, err := perfettotest.Read(buf.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if one := written(t, story(), nil); len(tr.Slices) != 2*len(one.Slices) || len(tr.Tracks) != 2*len(one.Tracks) {
		t.Errorf("%d slices, %d tracks", len(tr.Slices), len(tr.Tracks))
	}
}

// TestRandom wants a trace that an importer takes of any stream, contradictory ones
// included.
func TestRandom(t *testing.T) {
	for seed := range uint64(60) {
		written(t, random(seed, 300), nil)
	}
}

func FuzzStream(f *testing.F) {
	f.Add(uint64(1), uint16(100))
	f.Fuzz(func(t *testing.T, seed uint64, n uint16) { written(t, random(seed, int(n)), nil) })
}

// random is a stream that need not make sense, but for the order of each goroutine.
func random(seed uint64, n int) []event.Event {
	r := rand.New(rand.NewPCG(seed, 1))
	times := map[uint64]int64{}
	var events []event.Event
	for range n {
		g := r.Uint64N(6) + 1
		times[g] += r.Int64N(20)
		e := change(times[g], g, goruntime.Status(r.UintN(14)), goruntime.Status(r.UintN(14)), func(e *event.Event) {
			e.PID, e.P, e.Via, e.Waker = uint32(r.UintN(3)), r.Int32N(4)-1, event.Via(r.UintN(20)), r.Uint64N(8)
			e.Fake, e.Stack = r.UintN(4) == 0, uint32(r.UintN(3))
			e.Reason = []string{"", "select", "a\xffb"}[r.UintN(3)]
		})
		switch r.UintN(12) {
		case 0:
			e.Birth = worker
		case 1:
			e.Kind, e.Since = event.Snapshot, e.Time-r.Int64N(9)
		case 2:
			e.Kind, e.Since = event.Gap, e.Time-r.Int64N(9)
		case 3:
			e.Kind = []event.Kind{event.Exec, event.Exit}[r.UintN(2)]
		}
		events = append(events, e)
	}
	return events
}

// TestBounded wants the tables of a stream with more and more texts to begin anew, and
// everything to be understood all the same; and the wall clock told again over time.
func TestBounded(t *testing.T) {
	var events []event.Event
	for i := range int64(3000) {
		events = append(events, change(i*50_000_000, 1, goruntime.Waiting, goruntime.Waiting, func(e *event.Event) {
			e.Reason, e.Stack = "reason "+string(rune('a'+i%7))+time.Duration(i).String(), 1
		}))
	}
	tr := writtenWith(t, events, nil, func(w *perfetto.Writer) { w.Limit(100) })
	names := map[string]bool{}
	for _, s := range tr.Slices {
		if s.Track.Name == "G1" {
			names[s.Name] = true
			if len(s.Stack) != 3 {
				t.Fatalf("a slice lost its stack: %v", s.Stack)
			}
		}
	}
	if len(names) != len(events) {
		t.Errorf("%d names of %d", len(names), len(events))
	}
	if len(tr.Clocks) < 15 {
		t.Errorf("%d clock snapshots in 150 s", len(tr.Clocks))
	}
	for _, c := range tr.Clocks {
		if c.Real != wall(c.Mono) {
			t.Errorf("clock snapshot %v", c)
		}
	}
}

// TestWriteError wants the first error kept.
func TestWriteError(t *testing.T) {
	full := errors.New("disk full")
	w := perfetto.New(fullDisk{full}, &info, nil, wall)
	states := gstate.NewTracker()
	var err error
	for i := int64(0); err == nil && i < 1e5; i++ {
		e := change(i, 1, goruntime.Runnable, goruntime.Running, nil)
		err = w.Event(&e, states.Apply(&e))
	}
	if !errors.Is(err, full) || !errors.Is(w.Flush(), full) || !errors.Is(w.Close(), full) {
		t.Errorf("after an error of the writer: %v", err)
	}
}

type fullDisk struct{ err error }

func (f fullDisk) Write([]byte) (int, error) { return 0, f.err }

// TestReadFinds wants the importer that these tests rest on to find faults.
func TestReadFinds(t *testing.T) {
	var buf bytes.Buffer
	w := perfetto.New(&buf, &info, stackOf, wall)
	states := gstate.NewTracker()
	for _, e := range story() {
		if err := w.Event(&e, states.Apply(&e)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := perfettotest.Read(buf.Bytes()); err == nil || !strings.Contains(err.Error(), "no end") {
		t.Errorf("open slices: %v", err)
	}
	data := slices.Clone(buf.Bytes())
	found := map[string]bool{}
	for i := 0; i < len(data); i += 11 {
		data[i] ^= 0x01
		if _, err := perfettotest.Read(data); err != nil {
			msg, _, _ := strings.Cut(err.Error()[strings.IndexByte(err.Error(), ':')+1:], "%")
			found[msg] = true
		}
		data[i] ^= 0x01
	}
	if len(found) < 20 {
		t.Errorf("a trace with one bit wrong shows in %d ways: %v", len(found), slices.Sorted(maps.Keys(found)))
	}
}

// BenchmarkEvents writes 5 million events of a thousand goroutines, 100 thousand of
// which are born and end meanwhile: what a goroutine does once is amortized in ns/op.
func BenchmarkEvents(b *testing.B) {
	on := func(e *event.Event) { e.P, e.Via = int32(e.GoID%4), event.ViaSchedule }
	steps := []event.Event{
		change(0, 0, goruntime.Dead, goruntime.Runnable, func(e *event.Event) { e.Via, e.Birth = event.ViaCreate, worker }),
		change(0, 0, goruntime.Runnable, goruntime.Running, on),
		change(0, 0, goruntime.Running, goruntime.Waiting, func(e *event.Event) { e.Via, e.Reason, e.Stack = event.ViaPark, "chan receive", 1 }),
		change(0, 0, goruntime.Waiting, goruntime.Runnable, func(e *event.Event) { e.Via, e.Waker = event.ViaReady, 1 }),
		change(0, 0, goruntime.Running, goruntime.Dead, func(e *event.Event) { e.Via = event.ViaExit }),
	}
	var sum size
	w := perfetto.New(&sum, &info, stackOf, wall)
	states := gstate.NewTracker()
	at := make([]uint8, 1000)
	gens := make([]uint64, 1000)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		k := i % 1000
		e := steps[map[bool]uint8{true: 4, false: (at[k]-1)%3 + 1}[at[k] == 49]]
		if at[k] == 0 {
			e = steps[0]
		}
		e.GoID, e.Time = 1+uint64(k)+1000*gens[k], begin+int64(i)*200
		if at[k]++; at[k] == 50 {
			at[k] = 0
			gens[k]++
		}
		if err := w.Event(&e, states.Apply(&e)); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(sum)/float64(b.N), "bytes/event")
}

// size counts bytes.
type size int64

func (s *size) Write(p []byte) (int, error) {
	*s += size(len(p))
	return len(p), nil
}
