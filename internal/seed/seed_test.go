package seed

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gopherscope/internal/dump"
	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gstate"
)

const (
	pid       = 5
	begin     = 1000
	runnable  = goruntime.Runnable
	running   = goruntime.Running
	syscall   = goruntime.Syscall
	waiting   = goruntime.Waiting
	dead      = goruntime.Dead
	preempted = goruntime.Preempted
)

// The wait reasons of the dumps here.
const (
	chanReceive = iota + 1
	inCoroutine
	stopping
)

// testDump is a snapshot of the given goroutines, which ascend by goid.
func testDump(gs ...dump.Goroutine) *dump.Dump {
	return &dump.Dump{
		PID: pid, Goroutines: gs,
		Reasons: []string{"", "chan receive", "coroutine", "stopping the world"},
		Sites: []dump.Site{{},
			{Func: "main.serve", Outer: "main.main", File: "/src/main.go", Line: 41},
			{Func: "main.work", Outer: "main.work", File: "/src/main.go", Line: 12}},
	}
}

var (
	worker = dump.Goroutine{ID: 7, Parent: 1, Created: 1, Start: 2, Status: waiting, Reason: chanReceive}
	origin = event.Birth{Parent: 1, CreatedBy: event.Location{Func: "main.serve", File: "/src/main.go", Line: 41}, Start: event.Location{Func: "main.work", File: "/src/main.go", Line: 12}}
)

// with is worker in another state.
func with(status goruntime.Status, reason uint8, since int64, flags dump.Flags) dump.Goroutine {
	g := worker
	g.Status, g.Reason, g.WaitSince, g.Flags = status, reason, since, flags
	return g
}

// other is another goroutine, with such a note.
func other(since int64) dump.Goroutine {
	return dump.Goroutine{ID: otherID, Status: waiting, Reason: chanReceive, WaitSince: since}
}

const otherID = 8

// change is an event of goroutine 7.
func change(at int64, from, to goruntime.Status, via event.Via) event.Event {
	return event.Event{PID: pid, GoID: 7, Time: at, From: from, To: to, Via: via}
}

func birth(at int64) event.Event {
	e := change(at, dead, runnable, event.ViaCreate)
	e.Birth = &event.Birth{Parent: 9}
	return e
}

// there is how goroutine 7 was there.
func there(to goruntime.Status, reason string) *event.Event {
	return &event.Event{Kind: event.Snapshot, Time: begin, PID: pid, GoID: 7, To: to, Reason: reason, Birth: &origin}
}

func edit(e *event.Event, f func(e *event.Event)) *event.Event { f(e); return e }

func TestSeeds(t *testing.T) {
	fake := func(e *event.Event) { e.Fake = true }
	tests := []struct {
		name   string
		dump   *dump.Dump
		events []event.Event
		want   *event.Event // nil: it was not there
	}{
		{"no event: as it was read", testDump(worker), nil, there(waiting, "chan receive")},
		{"since when it waits", testDump(with(waiting, chanReceive, 400, 0), other(700), other(600)), nil,
			edit(there(waiting, "chan receive"), func(e *event.Event) { e.Since = 600 })},
		{"nobody has a later note", testDump(with(waiting, chanReceive, 400, 0), other(400), other(300)), nil, there(waiting, "chan receive")},
		{"a wait that began later than the trace", testDump(with(waiting, chanReceive, begin-1, 0), other(begin+1)), nil, there(waiting, "chan receive")},
		{"no note on it", testDump(worker, other(600)), nil, there(waiting, "chan receive")},
		{"the runtime's note on a coroutine may be of a wait before", testDump(with(waiting, inCoroutine, 400, 0), other(600)), nil, there(waiting, "coroutine")},
		{"and on a fake wait", testDump(with(waiting, stopping, 400, dump.Fake), other(600)), nil, edit(there(waiting, "stopping the world"), fake)},
		{"a note on a goroutine that does not wait", testDump(with(running, 0, 400, 0), other(600)), nil, there(running, "")},
		{"in a system call", testDump(with(syscall, chanReceive, 400, 0), other(600)), nil,
			edit(there(syscall, ""), func(e *event.Event) { e.Since = 600 })},
		{"leaked", testDump(with(goruntime.Leaked, chanReceive, 0, 0)), nil, there(goruntime.Leaked, "chan receive")},
		{"its stack is being moved", testDump(with(goruntime.CopyStack, 0, 0, 0)), nil, there(running, "")},

		{"an event: what it leaves, and why nobody knows", testDump(worker), []event.Event{
			change(1010, running, waiting, event.ViaPark),
		}, there(running, "")},
		{"the first event counts", testDump(worker), []event.Event{
			change(1010, waiting, runnable, event.ViaReady), change(1020, runnable, running, event.ViaSchedule), change(1030, running, waiting, event.ViaPark),
		}, there(waiting, "")},
		{"an event before the clock was read", testDump(worker), []event.Event{
			change(990, runnable, running, event.ViaSchedule),
		}, edit(there(runnable, ""), func(e *event.Event) { e.Time = 990 })},
		{"a timer ends a sleep", testDump(worker), []event.Event{change(1010, waiting, runnable, event.ViaTimer)}, there(waiting, "sleep")},
		{"the poller ends an IO wait", testDump(worker), []event.Event{change(1010, waiting, runnable, event.ViaNetpoll)}, there(waiting, "IO wait")},
		{"a switch ends a coroutine's", testDump(worker), []event.Event{change(1010, waiting, running, event.ViaCoroutine)}, there(waiting, "coroutine")},
		{"a fake wait ends in running", testDump(worker), []event.Event{change(1010, waiting, running, event.ViaSTW)}, edit(there(waiting, ""), fake)},

		{"born meanwhile", testDump(worker), []event.Event{birth(1010)}, nil},
		{"born and parked meanwhile", testDump(worker), []event.Event{birth(1010), change(1020, runnable, running, event.ViaSchedule)}, nil},
		{"an extra M took it", testDump(worker), []event.Event{change(1010, dead, syscall, event.ViaExtraM)}, nil},
		{"born and ended meanwhile", testDump(), []event.Event{birth(1010), change(1020, runnable, running, event.ViaSchedule), change(1030, running, dead, event.ViaExit)}, nil},
		{"ended before it was read", testDump(), []event.Event{change(1010, running, dead, event.ViaExit)},
			edit(there(running, ""), func(e *event.Event) { e.Birth = nil })},
		{"the process executes another program", testDump(worker), []event.Event{{Kind: event.Exec, PID: pid, Time: 1010}}, nil},
		{"another process's goroutine of that number", testDump(worker), []event.Event{
			{PID: 6, GoID: 7, Time: 1010, From: running, To: waiting}, {Kind: event.Exit, PID: 6, Time: 1020},
		}, there(waiting, "chan receive")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b Buffer
			changed := false
			for i := range tt.events {
				changed = changed || tt.events[i].PID == pid
				if !b.Add(&tt.events[i]) {
					t.Fatal("full")
				}
			}
			var got *event.Event
			err := b.Seeds(tt.dump, begin, 0, func(e *event.Event, saw bool) error {
				if e.GoID == otherID {
					return nil
				}
				if got != nil || saw != changed {
					t.Errorf("changed %v, the second: %v", saw, got != nil)
				}
				one := *e
				got = &one
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// The stream that results is whole: no event of a goroutine contradicts how it
// was there.
func TestStreamIsWhole(t *testing.T) {
	stream := []event.Event{
		{PID: pid, GoID: 1, Time: 1001, From: running, To: waiting, Reason: "select"},
		{PID: pid, GoID: 2, Time: 1002, From: waiting, To: runnable},
		{PID: pid, GoID: 3, Time: 1003, From: dead, To: runnable, Birth: &event.Birth{}},
		{PID: pid, GoID: 2, Time: 1004, From: runnable, To: running},
		{PID: pid, GoID: 4, Time: 1005, From: preempted, To: waiting},
		{PID: pid, GoID: 9, Time: 1006, From: running, To: dead},
		// The snapshot is done; what follows must fit what it read.
		{PID: pid, GoID: 1, Time: 1101, From: waiting, To: runnable},
		{PID: pid, GoID: 3, Time: 1102, From: runnable, To: running},
		{PID: pid, GoID: 5, Time: 1103, From: waiting, To: runnable},
		{PID: pid, GoID: 6, Time: 1104, From: syscall, To: running},
	}
	var b Buffer
	for i := range stream[:6] {
		b.Add(&stream[i])
	}
	d := testDump(
		dump.Goroutine{ID: 1, Status: waiting, Reason: chanReceive}, dump.Goroutine{ID: 2, Status: running},
		dump.Goroutine{ID: 3, Status: runnable}, dump.Goroutine{ID: 4, Status: waiting},
		dump.Goroutine{ID: 5, Status: waiting, Reason: chanReceive, WaitSince: 400}, dump.Goroutine{ID: 6, Status: syscall, WaitSince: 500})
	tr := gstate.NewTracker()
	var order []uint64
	if err := b.Seeds(d, begin, 0, func(e *event.Event, _ bool) error {
		order = append(order, e.GoID)
		tr.Apply(e)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := []uint64{1, 2, 4, 5, 6, 9}; !slices.Equal(order, want) {
		t.Errorf("goroutines %d, want %d", order, want)
	}
	replayed := 0
	if err := b.Replay(func(e *event.Event) error {
		if *e != stream[replayed] {
			t.Errorf("event %d comes back as %+v", replayed, *e)
		}
		replayed++
		tr.Apply(e)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for i := range stream[replayed:] {
		e := &stream[replayed+i]
		c := tr.Apply(e)
		if e.GoID == 5 && (c.For != 603 || !c.ForAtLeast) {
			t.Errorf("goroutine 5 waited for %d at least (%v), want 603", c.For, c.ForAtLeast)
		}
	}
	if replayed != 6 || tr.Violations() != 0 || tr.Goroutines() != 7 || tr.Seeded() != 6 {
		t.Errorf("%d replayed, %d violations, %d goroutines, %d from the snapshot", replayed, tr.Violations(), tr.Goroutines(), tr.Seeded())
	}
}

func TestFull(t *testing.T) {
	var b Buffer
	e := change(1, running, runnable, event.ViaYield)
	for i := range MaxEvents {
		e.Time = int64(i)
		if !b.Add(&e) {
			t.Fatalf("full after %d events", i)
		}
	}
	if b.Add(&e) {
		t.Error("not full")
	}
	enough, n := errors.New("enough"), int64(0)
	err := b.Replay(func(e *event.Event) error {
		if e.Time != n {
			t.Fatalf("event %d comes back as number %d", e.Time, n)
		}
		if n++; n == MaxEvents {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || n != MaxEvents {
		t.Errorf("%d events, %v", n, err)
	}
}

// Goroutines of one origin share what is known of it: a million would take 100
// MB more.
func TestSharedBirth(t *testing.T) {
	a, c := worker, worker
	c.ID = 8
	var b Buffer
	var births []*event.Birth
	if err := b.Seeds(testDump(a, c), begin, 0, func(e *event.Event, _ bool) error {
		births = append(births, e.Birth)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(births) != 2 || births[0] != births[1] {
		t.Errorf("births %p", births)
	}
}

// A dump that names what it does not have is believed no place.
func TestForeignSite(t *testing.T) {
	g := worker
	g.Created, g.Start = 99, 2
	var b Buffer
	if err := b.Seeds(testDump(g), begin, 0, func(e *event.Event, _ bool) error {
		if e.Birth.CreatedBy != (event.Location{}) || e.Birth.Start != origin.Start {
			t.Errorf("origin %+v", e.Birth)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// A goroutine that has not changed has the stack that was read; of one that has, that is
// not where its state began, and of one that ran not either.
func TestSeedStacks(t *testing.T) {
	still, moved, ran := worker, worker, worker
	still.ID, still.Stack, still.Source = 7, 3, dump.SourceMemory
	moved.ID, moved.Stack, moved.Source = 8, 4, dump.SourceMemory
	ran.ID, ran.Stack, ran.Source = 9, 5, dump.SourceSample
	for _, base := range []uint32{0, 100} {
		var b Buffer
		e := change(1010, waiting, runnable, event.ViaReady)
		e.GoID = 8
		b.Add(&e)
		got := map[uint64]uint32{}
		if err := b.Seeds(testDump(still, moved, ran), begin, base, func(e *event.Event, _ bool) error {
			got[e.GoID] = e.Stack
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		want := map[uint64]uint32{7: 0, 8: 0, 9: 0}
		if base != 0 {
			want[7] = base + 3
		}
		if !maps.Equal(got, want) {
			t.Errorf("base %d: %v, want %v", base, got, want)
		}
	}
}

// A wait that an earlier snapshot has found is known since then, if the runtime's note is the same.
func TestWaits(t *testing.T) {
	var w Waits
	for i, tt := range []struct {
		note, want int64
	}{{0, 0}, {400, 0}, {400, begin + 1}, {400, begin + 1}, {800, 0}, {800, begin + 4}, {0, 0}, {800, 0}} {
		b := Buffer{Waits: &w}
		if err := b.Seeds(testDump(with(waiting, chanReceive, tt.note, 0)), begin+int64(i), 0, func(e *event.Event, _ bool) error {
			if e.Since != tt.want {
				t.Errorf("snapshot %d: since %d, want %d", i, e.Since, tt.want)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	b := Buffer{Waits: &w} // gone, and there again under the number of a g struct that is used again
	if err := b.Seeds(testDump(), begin+8, 0, nil); err != nil {
		t.Fatal(err)
	}
	b = Buffer{Waits: &w}
	if err := b.Seeds(testDump(with(waiting, chanReceive, 800, 0)), begin+9, 0, func(e *event.Event, _ bool) error {
		if e.Since != 0 {
			t.Errorf("since %d", e.Since)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
