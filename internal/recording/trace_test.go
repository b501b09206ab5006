package recording

import (
	"bytes"
	"context"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/stream"
)

// trace is a stream.Source in memory: what a test records, and what it gets back.
type trace struct {
	info   stream.Info
	steps  []step
	stacks map[uint32][]event.Location
	totals stream.Totals

	offset int64 // while it runs
}

// step is an event or a tick, with what the wall clock said then.
type step struct {
	event  *event.Event // nil for a tick
	now    int64
	offset int64 // wall minus monotonic
}

func (t *trace) Info() *stream.Info               { return &t.info }
func (t *trace) Stack(id uint32) []event.Location { return t.stacks[id] }
func (t *trace) Wall(mono int64) int64            { return mono + t.offset }
func (t *trace) Totals() (stream.Totals, error)   { return t.totals, nil }
func (t *trace) Close() error                     { return nil }
func (t *trace) Run(_ context.Context, emit func(*event.Event) error, tick func(int64) error) error {
	t.offset = t.info.Wall - t.info.Begin
	for _, s := range t.steps {
		t.offset = s.offset
		var err error
		if s.event != nil {
			err = emit(s.event)
		} else {
			err = tick(s.now)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// record writes a recording of the trace.
func (t *trace) record(tb testing.TB, opts *Options) []byte {
	tb.Helper()
	var file bytes.Buffer
	t.offset = t.info.Wall - t.info.Begin
	w, err := NewWriter(&file, t, opts)
	if err != nil {
		tb.Fatal(err)
	}
	if err := t.Run(context.Background(), w.Event, w.Tick); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	if w.Size() != int64(file.Len()) || w.Written() != uint64(t.events()) {
		tb.Errorf("the writer counts %d bytes and %d events, there are %d and %d", w.Size(), w.Written(), file.Len(), t.events())
	}
	return file.Bytes()
}

func (t *trace) events() int {
	n := 0
	for _, s := range t.steps {
		if s.event != nil && s.event.Kind != event.Labels {
			n++
		}
	}
	return n
}

// play reads a recording to its end, or to the error that is returned.
func play(tb testing.TB, r *Reader) (*trace, error) {
	tb.Helper()
	got := &trace{info: *r.Info(), stacks: map[uint32][]event.Location{}}
	err := r.Run(context.Background(), func(e *event.Event) error {
		kept := *e
		got.steps = append(got.steps, step{event: &kept, offset: r.Wall(0)})
		if e.Stack != 0 {
			got.stacks[e.Stack] = r.Stack(e.Stack)
		}
		return nil
	}, func(now int64) error {
		totals, err := r.Totals()
		if err != nil || totals.Now != now {
			tb.Errorf("totals at %d: now %d, %v", now, totals.Now, err)
		}
		got.steps = append(got.steps, step{now: now, offset: r.Wall(0)})
		return nil
	})
	got.totals, _ = r.Totals()
	return got, err
}

// open is NewReader on bytes.
func open(tb testing.TB, file []byte) *Reader {
	tb.Helper()
	r, err := NewReader(bytes.NewReader(file))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { r.Close() })
	return r
}

// same fails the test when a step is not what was recorded.
func same(tb testing.TB, got, want []step) {
	tb.Helper()
	if len(got) != len(want) {
		tb.Fatalf("%d events and ticks, want %d", len(got), len(want))
	}
	for i := range want {
		g, w := got[i], want[i]
		if g.now != w.now || g.offset != w.offset || !reflect.DeepEqual(g.event, w.event) {
			tb.Fatalf("step %d is\n%s\nwant\n%s", i, g.text(), w.text())
		}
	}
}

func (s *step) text() string {
	if s.event == nil {
		return time.Duration(s.now).String() + " tick, wall clock " + time.Duration(s.offset).String()
	}
	return string(event.AppendText(nil, s.event)) + ", wall clock " + time.Duration(s.offset).String()
}

// begin is the time at which made-up traces begin.
const begin = int64(1_000_000_000_000)

// random makes a trace in which every field takes every kind of value.
func random(seed uint64, events int) *trace {
	rng := rand.New(rand.NewPCG(seed, 1))
	t := &trace{
		info: stream.Info{Engine: "ebpf", GoVersion: "go1.26.8", Arch: "amd64", PID: 77, Exe: "/bin/\xff\n", Command: []string{"a", "", "b c"}, Procs: 2, Stacks: true,
			Begin: begin, Wall: begin + 5e17},
		stacks: map[uint32][]event.Location{},
	}
	texts := []string{"", "chan receive", "select", "main.main", "\x1b[2J\xff", "/src/main.go", "IO wait"}
	text := func() string { return texts[rng.IntN(len(texts))] }
	place := func() event.Location { return event.Location{Func: text(), File: text(), Line: rng.IntN(5) - 2} }
	number := func() uint64 {
		switch rng.IntN(20) {
		case 0:
			return rng.Uint64()
		case 1:
			return rng.Uint64N(1 << 20)
		}
		return rng.Uint64N(40)
	}
	sets := make([]*event.LabelSet, 9)
	for i := range sets {
		sets[i] = &event.LabelSet{}
		for range i {
			sets[i].Labels = append(sets[i].Labels, event.Label{Key: text(), Value: text()})
		}
	}
	now, offset := begin, t.info.Wall-t.info.Begin
	for range events {
		now += int64(rng.IntN(200_000)) - 20_000
		e := &event.Event{
			Kind: event.Kind(rng.IntN(int(event.Gap) + 1)), Time: now, PID: uint32(number()), TID: uint32(number()), GoID: number(),
			M: int64(rng.IntN(4)) - 1, P: int32(rng.IntN(3)) - 1, From: goruntime.Status(rng.IntN(12)), To: goruntime.Status(rng.IntN(12)),
			Via: event.Via(rng.IntN(22)), Fake: rng.IntN(9) == 0, Reason: text(),
		}
		if rng.IntN(3) == 0 {
			e.Waker = number()
		}
		if rng.IntN(40) == 0 {
			e.Kind = event.Census
		}
		if rng.IntN(9) == 0 {
			e.Since = now - int64(number())
		}
		if rng.IntN(5) == 0 {
			e.Stack = uint32(rng.IntN(300))
			if _, ok := t.stacks[e.Stack]; !ok && e.Stack != 0 {
				var frames []event.Location
				for range rng.IntN(6) {
					frames = append(frames, place())
				}
				t.stacks[e.Stack] = frames
			}
		}
		if rng.IntN(9) == 0 {
			e.Birth = &event.Birth{Parent: number(), CreatedBy: place(), Start: place()}
		}
		t.steps = append(t.steps, step{event: e, offset: offset})
		for rng.IntN(30) == 0 {
			set := sets[rng.IntN(len(sets))]
			t.steps = append(t.steps, step{event: &event.Event{Kind: event.Labels, Time: now - int64(rng.IntN(1000)), PID: uint32(number()), GoID: number(), Labels: set}, offset: offset})
			if rng.IntN(5) == 0 {
				t.steps = append(t.steps, step{now: now, offset: offset})
			}
		}
		if rng.IntN(300) == 0 {
			if rng.IntN(3) == 0 {
				offset += int64(rng.IntN(1_000_000)) - 500_000
			}
			t.steps = append(t.steps, step{now: now - 5000, offset: offset})
		}
	}
	t.steps = append(t.steps, step{now: now + 1, offset: offset})
	t.totals = stream.Totals{Now: now + 1, TargetCPU: time.Second}
	return t
}
