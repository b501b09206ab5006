package profile

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/stream"
)

const (
	dead      = goruntime.Dead
	ready     = goruntime.Runnable
	run       = goruntime.Running
	call      = goruntime.Syscall
	wait      = goruntime.Waiting
	preempted = goruntime.Preempted
	leaked    = goruntime.Leaked
)

// stacks are those that the streams of these tests name.
func stacks(id uint32) []event.Location {
	at := func(names ...string) (stack []event.Location) {
		for i, name := range names {
			stack = append(stack, event.Location{Func: name, File: "main.go", Line: i + 1})
		}
		return stack
	}
	switch id {
	case 1:
		return at("runtime.gopark", "runtime.chanrecv", "runtime.chanrecv1", "main.recv", "main.main", "runtime.goexit")
	case 2:
		return at("runtime.gopark", "time.Sleep", "main.nap")
	case 3: // another program counter of the lines of 2
		return at("runtime.gopark", "time.Sleep", "main.nap")
	case 4:
		return at("syscall.Syscall", "main.read")
	case 5:
		return at("main.spawn", "main.main")
	}
	return nil
}

// begin is when the traces of these tests begin.
const begin = 1000

// collector has a profile of the events, which the trace of one process had up to now.
func finished(kind Kind, pid int, now int64, events []event.Event) *Profile {
	c := New(kind, &stream.Info{PID: pid, Begin: begin, Exe: "/bin/server"})
	for i := range events {
		c.Event(&events[i])
	}
	return c.Finish(now, stacks, func(mono int64) int64 { return mono + 7 })
}

// rows are the samples of a profile, for people.
func rows(p *Profile) (out []string) {
	for _, s := range p.Samples {
		var names []string
		for _, f := range s.Stack {
			names = append(names, f.Func)
		}
		row := fmt.Sprintf("%d %d %s", s.Count, s.Delay, strings.Join(names, "<"))
		for _, label := range []string{s.State, s.Reason, s.CreatedBy} {
			if label != "" {
				row += " " + label
			}
		}
		out = append(out, row)
	}
	return out
}

var spawned = &event.Birth{Parent: 1, CreatedBy: event.Location{Func: "main.spawn", Line: 9}, Start: event.Location{Func: "main.worker", Line: 20}}

// change is a transition of goroutine 7.
func change(at int64, from, to goruntime.Status, more ...func(*event.Event)) event.Event {
	e := event.Event{Time: at, PID: 5, GoID: 7, From: from, To: to}
	for _, m := range more {
		m(&e)
	}
	return e
}

func stack(id uint32) func(*event.Event)       { return func(e *event.Event) { e.Stack = id } }
func reason(text string) func(*event.Event)    { return func(e *event.Event) { e.Reason = text } }
func via(v event.Via) func(*event.Event)       { return func(e *event.Event) { e.Via = v } }
func born(e *event.Event)                      { e.Birth = spawned }
func fake(e *event.Event)                      { e.Fake, e.Reason = true, "stopping the world" }
func of(pid uint32) func(*event.Event)         { return func(e *event.Event) { e.PID = pid } }
func snapshot(e *event.Event)                  { e.Kind = event.Snapshot }
func kind(k event.Kind) func(e *event.Event)   { return func(e *event.Event) { e.Kind = k } }
func since(at int64) func(*event.Event)        { return func(e *event.Event) { e.Since = at } }
func goroutineID(id uint64) func(*event.Event) { return func(e *event.Event) { e.GoID = id } }

// life is a goroutine from its birth to its end.
var life = []event.Event{
	change(1100, dead, ready, born, stack(5)),
	change(1103, ready, run),
	change(1110, run, wait, stack(1), reason("chan receive")),
	change(1160, wait, ready),
	change(1162, ready, run),
	change(1170, run, call, stack(4)),
	change(1190, call, run),
	change(1195, run, ready, via(event.ViaPreempt)),
	change(1199, ready, run),
	change(1200, run, dead),
}

func TestKinds(t *testing.T) {
	for _, tt := range []struct {
		kind Kind
		want []string
	}{
		{Block, []string{"1 50 runtime.chanrecv1<main.recv<main.main waiting chan receive main.spawn"}},
		{Sched, []string{
			"1 4 syscall.Syscall<main.read runnable main.spawn",
			"1 3 main.spawn<main.main runnable main.spawn",
			"1 2 runtime.chanrecv1<main.recv<main.main runnable main.spawn",
		}},
		{Exec, []string{
			"1 8 runtime.chanrecv1<main.recv<main.main running main.spawn",
			"1 7 main.worker running main.spawn",
			"2 6 syscall.Syscall<main.read running main.spawn",
		}},
		{Syscall, []string{"1 20 syscall.Syscall<main.read syscall main.spawn"}},
		{Created, []string{"1 0 main.spawn<main.main main.spawn"}},
	} {
		if diff := cmp.Diff(tt.want, rows(finished(tt.kind, 5, 5000, life))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.kind, diff)
		}
	}
	p := finished(Wall, 5, 5000, life)
	if all, unknown := p.Total(); all != 100 || unknown != 0 || len(p.Samples) != 8 {
		t.Errorf("wall has %d ns of a life of 100, %d of them unknown:\n%s", all, unknown, strings.Join(rows(p), "\n"))
	}
	if p.Begin != begin+7 || p.Duration != 4000 || p.Exe != "/bin/server" {
		t.Errorf("profile of %q from %d, for %v", p.Exe, p.Begin, p.Duration)
	}
}

// collectTests are streams and the samples that they make.
var collectTests = []struct {
	name   string
	kind   Kind
	pid    int
	events []event.Event
	want   []string
}{
	{"a wait that is open at the end", Block, 5, []event.Event{
		change(1100, run, wait, stack(1), reason("chan receive")),
	}, []string{"1 900 runtime.chanrecv1<main.recv<main.main waiting chan receive"}},
	{"a wait since before the trace, of a snapshot", Block, 5, []event.Event{
		change(1010, 0, wait, snapshot, reason("select"), since(3), born),
		change(1100, wait, ready),
	}, []string{"1 100 [unknown stack] waiting select main.spawn"}},
	{"a snapshot with a stack", Block, 5, []event.Event{
		change(1010, 0, wait, snapshot, reason("sleep"), stack(2)),
		change(1100, wait, ready),
	}, []string{"1 100 time.Sleep<main.nap waiting sleep"}},
	{"a wait since before the trace, without a snapshot", Block, 5, []event.Event{
		change(1100, wait, ready),
	}, []string{"1 100 [unknown stack] waiting"}},
	{"a snapshot that comes after a change says nothing new", Wall, 5, []event.Event{
		change(1100, wait, ready),
		change(1000, 0, wait, snapshot),
	}, []string{"1 900 [unknown stack] runnable", "1 100 [unknown stack] waiting"}},
	{"a change that was under way at the beginning", Wall, 5, []event.Event{
		change(1000, 0, run, snapshot),
		change(1100, wait, ready),
		change(1101, ready, run),
		change(1102, run, dead),
	}, []string{"1 100 [unknown stack] waiting", "1 1 [unknown stack] runnable", "1 1 [unknown stack] running"}},
	{"a process that begins after the trace", Exec, 0, []event.Event{
		change(1500, ready, run, of(6)),
		change(1520, run, dead, of(6)),
		change(1600, run, dead, of(6), goroutineID(8)),
	}, []string{"2 120 [unknown stack] running"}},
	{"a wait that keeps the thread is running, once", Exec, 5, []event.Event{
		change(1100, wait, ready),
		change(1110, ready, run),
		change(1120, run, wait, fake, stack(1)),
		change(1130, wait, run, via(event.ViaSTW)),
		change(1140, run, dead),
	}, []string{"1 30 [unknown stack] running"}},
	{"a wait that keeps the thread blocks nobody", Block, 5, []event.Event{
		change(1120, run, wait, fake, stack(1)),
		change(1130, wait, run, via(event.ViaSTW)),
	}, nil},
	{"a first change from a wait that keeps the thread", Wall, 5, []event.Event{
		change(1130, wait, run, via(event.ViaSTW)),
		change(1140, run, dead),
	}, []string{"1 140 [unknown stack] running"}},
	{"a first change from a coroutine's wait", Block, 5, []event.Event{
		change(1130, wait, run, via(event.ViaCoroutine)),
	}, []string{"1 130 [unknown stack] waiting"}},
	{"a stop for a scan is one wait", Block, 5, []event.Event{
		change(1100, run, preempted),
		change(1110, preempted, wait),
		change(1130, wait, ready),
	}, []string{"1 30 [unknown stack] waiting preempted"}},
	{"the mark leaked does not end a wait", Block, 5, []event.Event{
		change(1100, run, wait, stack(2), reason("sleep")),
		change(1110, wait, leaked),
		change(1130, wait, ready),
	}, []string{"1 30 time.Sleep<main.nap waiting sleep"}},
	{"a stack from before is not that of a park without one", Block, 5, []event.Event{
		change(1100, run, wait, stack(2)),
		change(1110, wait, ready),
		change(1111, ready, run),
		change(1120, run, wait),
		change(1150, wait, ready),
	}, []string{"1 30 [unknown stack] waiting", "1 10 time.Sleep<main.nap waiting"}},
	{"a stack that the stream does not know", Block, 5, []event.Event{
		change(1100, run, wait, stack(99)),
	}, []string{"1 900 [unknown stack] waiting"}},
	{"stacks that look the same are one", Block, 5, []event.Event{
		change(1100, run, wait, stack(2)),
		change(1110, wait, ready),
		change(1111, ready, run),
		change(1120, run, wait, stack(3)),
		change(1150, wait, ready),
	}, []string{"2 40 time.Sleep<main.nap waiting"}},
	{"a system call without a stack is not where it parked", Wall, 5, []event.Event{
		change(1100, run, wait, stack(2)),
		change(1101, wait, ready),
		change(1103, ready, run),
		change(1106, run, call),
		change(1110, call, run),
		change(1115, run, dead),
	}, []string{
		"1 100 [unknown stack] running",
		"2 8 time.Sleep<main.nap running",
		"1 4 [unknown stack] syscall",
		"1 2 time.Sleep<main.nap runnable",
		"1 1 time.Sleep<main.nap waiting",
	}},
	{"a birth without a stack", Created, 5, []event.Event{
		change(1100, dead, ready, born),
	}, []string{"1 0 main.spawn<[unknown callers] main.spawn"}},
	{"a goroutine that is born waiting", Block, 5, []event.Event{
		change(1100, dead, wait, born, stack(5), reason("coroutine")),
		change(1110, wait, run, via(event.ViaCoroutine)),
	}, []string{"1 10 main.worker waiting coroutine main.spawn"}},
	{"the end of a process", Block, 0, []event.Event{
		change(1000, 0, wait, snapshot),
		change(1100, 0, 0, kind(event.Exit)),
		change(1100, 0, 0, of(6), kind(event.Exec)),
	}, []string{"1 100 [unknown stack] waiting"}},
}

func TestCollect(t *testing.T) {
	for _, tt := range collectTests {
		t.Run(tt.name, func(t *testing.T) {
			p := finished(tt.kind, tt.pid, 2000, tt.events)
			if diff := cmp.Diff(tt.want, rows(p)); diff != "" {
				t.Errorf("samples (-want +got):\n%s", diff)
			}
			if p.Missed != 0 || p.Gaps != 0 || len(p.About()) != 1 {
				t.Errorf("%d missed, gaps of %v: %q", p.Missed, p.Gaps, p.About())
			}
		})
	}
}

// TestMissed loses a change: which state the time was spent in is not known.
func TestMissed(t *testing.T) {
	p := finished(Wall, 5, 2000, []event.Event{
		change(1100, dead, ready, born),
		change(1110, wait, ready), // was running and parked
		change(1115, ready, run),
	})
	want := []string{"1 885 [unknown stack] running main.spawn", "1 5 [unknown stack] runnable main.spawn"}
	if diff := cmp.Diff(want, rows(p)); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
	if p.Missed != 1 || p.Unaccounted != 10 || !strings.Contains(strings.Join(p.About(), "\n"), "1 changes were missed: 10ns") {
		t.Errorf("%d missed, %v: %q", p.Missed, p.Unaccounted, p.About())
	}
}

// TestGap pauses the trace from 1200 to 1500.
func TestGap(t *testing.T) {
	p := finished(Block, 5, 2000, []event.Event{
		change(1000, 0, wait, snapshot, born),
		change(1000, 0, wait, snapshot, born, goroutineID(8)),
		change(1100, run, wait, stack(1), goroutineID(9)),
		change(1500, 0, 0, kind(event.Gap), since(1200)),
		change(1600, wait, ready),
	})
	want := []string{
		"3 500 [unknown stack] waiting main.spawn", // 200 each, and 100 after the gap
		"1 100 runtime.chanrecv1<main.recv<main.main waiting",
	}
	if diff := cmp.Diff(want, rows(p)); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
	if p.Gaps != 300 || !strings.Contains(strings.Join(p.About(), "\n"), "nothing was traced for 300ns of 1.00µs") {
		t.Errorf("gaps of %v: %q", p.Gaps, p.About())
	}
}

// TestTimeIsWhole has many goroutines do anything that they can, and wants all of their
// time in a wall profile, and the same in the profiles of the four states together.
func TestTimeIsWhole(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	next := map[goruntime.Status][]goruntime.Status{
		ready: {run}, run: {wait, ready, call, preempted, dead}, call: {run, ready}, wait: {ready}, preempted: {wait},
	}
	states := map[uint64]goruntime.Status{}
	bornAt := map[uint64]int64{}
	var events []event.Event
	var lived int64
	now := int64(begin)
	for range 20000 {
		now += r.Int64N(50)
		id := 1 + r.Uint64N(40)
		from, ok := states[id]
		if !ok {
			states[id], bornAt[id] = ready, now
			events = append(events, change(now, dead, ready, born, goroutineID(id)))
			continue
		}
		to := next[from][r.IntN(len(next[from]))]
		if to == dead {
			if r.IntN(10) > 0 {
				to = ready
			} else {
				lived += now - bornAt[id]
				delete(states, id)
			}
		}
		if to != dead {
			states[id] = to
		}
		events = append(events, change(now, from, to, goroutineID(id), stack(r.Uint32N(6))))
	}
	for id := range states {
		lived += now + 100 - bornAt[id]
	}
	all, _ := finished(Wall, 5, now+100, events).Total()
	if all != lived {
		t.Errorf("%d ns in the profile, the goroutines lived for %d", all, lived)
	}
	var sum int64
	for _, k := range []Kind{Block, Sched, Exec, Syscall} {
		one, _ := finished(k, 5, now+100, events).Total()
		if one == 0 {
			t.Errorf("no time in %s", k)
		}
		sum += one
	}
	if sum != all {
		t.Errorf("%d ns in the four states, %d in all", sum, all)
	}
}

func TestParseKind(t *testing.T) {
	for _, name := range KindNames() {
		k, err := ParseKind(name)
		if err != nil || k.String() != name || k.about() == "" {
			t.Errorf("%s: %v, %v", name, k, err)
		}
	}
	if _, err := ParseKind("cpu"); err == nil || !strings.Contains(err.Error(), "one of block, sched") {
		t.Errorf("cpu: %v", err)
	}
}
