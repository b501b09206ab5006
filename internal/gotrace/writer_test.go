package gotrace_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/exp/trace"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gotrace"
	"gopherscope/internal/gstate"
	"gopherscope/internal/stream"
)

const (
	dead     = goruntime.Dead
	runnable = goruntime.Runnable
	running  = goruntime.Running
	syscall  = goruntime.Syscall
	waiting  = goruntime.Waiting
)

// begin is when the streams of these tests begin: after more than 2^53 ns of uptime.
const begin = int64(1)<<55 + 12345

// change is a change of a goroutine on thread 100+P, a microsecond of the test's clock
// after the other.
func change(us, goid int64, p int32, from, to goruntime.Status, via event.Via) event.Event {
	return event.Event{Time: begin + us*1000, PID: 7, TID: uint32(100 + p), GoID: uint64(goid), P: p, From: from, To: to, Via: via}
}

func birth(us, goid int64, p int32, parent uint64) event.Event {
	e := change(us, goid, p, dead, runnable, event.ViaCreate)
	e.Birth = &event.Birth{
		Parent:    parent,
		CreatedBy: event.Location{Func: "main.main", File: "main.go", Line: 10},
		Start:     event.Location{Func: "main.work", File: "main.go", Line: 20},
	}
	return e
}

func park(us, goid int64, p int32, reason string) event.Event {
	e := change(us, goid, p, running, waiting, event.ViaPark)
	e.Reason, e.Fake = reason, goruntime.IsFakeWait(reason)
	return e
}

func ready(us, goid int64, p int32, waker uint64) event.Event {
	e := change(us, goid, p, waiting, runnable, event.ViaReady)
	e.Waker = waker
	return e
}

// born creates goroutine 1 on P 0 and runs it from 2 us on.
func born() []event.Event {
	return []event.Event{birth(1, 1, 0, 0), change(2, 1, 0, runnable, running, event.ViaSchedule)}
}

// told is what a reader hears: the changes of goroutines, the ranges and the Ps.
func told(t *testing.T, events []event.Event) []string {
	t.Helper()
	info := &stream.Info{Begin: begin, Wall: 1.7e18}
	all, err := read(write(t, info, noStack, events))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, ev := range all {
		us := micros(int64(ev.Time()) - begin)
		switch ev.Kind() {
		case trace.EventStateTransition:
			st := ev.StateTransition()
			if st.Resource.Kind != trace.ResourceGoroutine {
				from, to := st.Proc()
				lines = append(lines, fmt.Sprintf("%s P%d %v %v", us, st.Resource.Proc(), from, to))
				continue
			}
			from, to := st.Goroutine()
			line := fmt.Sprintf("%s G%d %v %v", us, st.Resource.Goroutine(), from, to)
			if st.Reason != "" {
				line += " (" + st.Reason + ")"
			}
			if by := ev.Goroutine(); by != trace.NoGoroutine && by != st.Resource.Goroutine() {
				line += fmt.Sprintf(" by G%d", by)
			}
			lines = append(lines, line)
		case trace.EventRangeBegin:
			lines = append(lines, us+" begin "+ev.Range().Name)
		case trace.EventRangeEnd:
			lines = append(lines, us+" end "+ev.Range().Name)
		}
	}
	return lines
}

// micros is a time without the few nanoseconds by which changes at one moment are told
// apart.
func micros(ns int64) string {
	if ns%1000 < 10 {
		return strconv.FormatInt(ns/1000, 10)
	}
	return fmt.Sprintf("%d.%03d", ns/1000, ns%1000)
}

// changes are the lines about goroutines only.
func changes(lines []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return !strings.Contains(l, " G") })
}

var stories = []struct {
	name   string
	events []event.Event // after born
	want   []string      // the changes after those of born
}{
	{"a wait and who ends it", []event.Event{
		birth(3, 2, 0, 1), park(4, 1, 0, "semacquire"), change(5, 2, 0, runnable, running, event.ViaSchedule),
		ready(6, 1, 0, 2), change(8, 2, 0, running, dead, event.ViaExit), change(9, 1, 1, runnable, running, event.ViaSchedule),
	}, []string{
		"3 G2 NotExist Runnable by G1", "4 G1 Running Waiting (sync)", "5 G2 Runnable Running",
		"6 G1 Waiting Runnable by G2", "8 G2 Running NotExist", "9 G1 Runnable Running",
	}},
	{"the scheduler ends a wait", []event.Event{park(4, 1, 0, "IO wait"), ready(6, 1, event.NoP, 0)},
		[]string{"4 G1 Running Waiting (network)", "6 G1 Waiting Runnable"}},
	{"yield and preemption", []event.Event{
		change(3, 1, 0, running, runnable, event.ViaYield), change(4, 1, 0, runnable, running, event.ViaSchedule),
		change(5, 1, 0, running, runnable, event.ViaPreempt),
	}, []string{"3 G1 Running Runnable (runtime.Gosched)", "4 G1 Runnable Running", "5 G1 Running Runnable (preempted)"}},
	{"a system call that keeps its P", []event.Event{
		change(3, 1, 0, running, syscall, event.ViaSyscall), change(7, 1, 0, syscall, running, event.ViaSyscall), park(9, 1, 0, "select"),
	}, []string{"3 G1 Running Syscall", "7 G1 Syscall Running", "9 G1 Running Waiting (select)"}},
	{"a system call without a P at its end", []event.Event{
		change(3, 1, 0, running, syscall, event.ViaSyscall), change(7, 1, 0, syscall, running, event.ViaSyscall),
		change(8, 1, 0, running, runnable, event.ViaNoP),
	}, []string{"3 G1 Running Syscall", "7 G1 Syscall Runnable"}},
	{"stopped for a scan", []event.Event{
		{Time: begin + 3000, PID: 7, TID: 100, GoID: 1, From: running, To: goruntime.Preempted, Via: event.ViaSuspend},
		{Time: begin + 4000, PID: 7, TID: 101, GoID: 1, P: 1, From: goruntime.Preempted, To: waiting, Via: event.ViaSuspend},
		ready(5, 1, 1, 0),
	}, []string{"3 G1 Running Waiting (preempted)", "5 G1 Waiting Runnable"}},
	{"the goroutine of an extra M", []event.Event{
		{Time: begin + 3000, PID: 7, TID: 200, GoID: 17, P: event.NoP, From: dead, To: syscall, Via: event.ViaExtraM},
		{Time: begin + 4000, PID: 7, TID: 200, GoID: 17, P: event.NoP, From: syscall, To: running, Via: event.ViaCgo},
		{Time: begin + 5000, PID: 7, TID: 200, GoID: 17, P: 1, From: running, To: syscall, Via: event.ViaCgo},
		{Time: begin + 6000, PID: 7, TID: 200, GoID: 17, P: event.NoP, From: syscall, To: dead, Via: event.ViaExtraM},
	}, []string{
		"3 G17 NotExist Syscall", "4 G17 Syscall Runnable", "4 G17 Runnable Running", "5 G17 Running Syscall", "6 G17 Syscall NotExist",
	}},
	{"a fake wait", []event.Event{park(3, 1, 0, "flushing proc caches"), change(4, 1, 0, waiting, running, event.ViaSTW), park(5, 1, 0, "")},
		[]string{"5 G1 Running Waiting (unspecified)"}},
	{"a lost wake-up", []event.Event{park(3, 1, 0, "chan send"), change(4, 1, 1, runnable, running, event.ViaSchedule)},
		[]string{"3 G1 Running Waiting (chan send)", "4 G1 Waiting Runnable", "4 G1 Runnable Running"}},
	{"a lost park", []event.Event{birth(3, 2, 0, 1), change(5, 2, 0, runnable, running, event.ViaSchedule)},
		[]string{"3 G2 NotExist Runnable by G1", "5 G1 Running Runnable (lost event)", "5 G2 Runnable Running"}},
	{"the end of the process", []event.Event{birth(3, 2, 0, 1), {Kind: event.Exit, Time: begin + 4000, PID: 7}},
		[]string{"3 G2 NotExist Runnable by G1", "4 G1 Running NotExist"}},
	{"a snapshot after a gap", []event.Event{
		{Kind: event.Gap, Since: begin + 10000, Time: begin + 20000, PID: 7},
		{Kind: event.Snapshot, Time: begin + 20000, PID: 7, GoID: 1, To: runnable}, {Kind: event.Snapshot, Time: begin + 20000, PID: 7, GoID: 3, To: waiting},
		{Kind: event.Snapshot, Time: begin + 20000, PID: 7, GoID: 4, To: running}, change(25, 1, 0, runnable, running, event.ViaSchedule),
	}, []string{
		"10 G1 Running Waiting (not traced)", "20 G3 NotExist Waiting", "25 G1 Waiting Runnable", "25 G1 Runnable Running",
	}},
	{"a census after a gap", []event.Event{
		birth(3, 2, 0, 1), {Kind: event.Gap, Since: begin + 10000, Time: begin + 20000, PID: 7},
		{Kind: event.Snapshot, Time: begin + 20000, PID: 7, GoID: 1, To: waiting}, {Kind: event.Census, Time: begin + 21000, PID: 7},
		ready(25, 1, 0, 0),
	}, []string{
		"3 G2 NotExist Runnable by G1", "10 G1 Running Waiting (not traced)", "10 G2 Runnable Running", "10 G2 Running Waiting (not traced)",
		"21 G2 Waiting Runnable", "21 G2 Runnable Running", "21 G2 Running NotExist", "25 G1 Waiting Runnable",
	}},
	{"a gap", []event.Event{
		birth(3, 2, 0, 1), {Kind: event.Gap, Since: begin + 10000, Time: begin + 20000, PID: 7}, change(25, 1, 0, running, syscall, event.ViaSyscall),
	}, []string{
		"3 G2 NotExist Runnable by G1", "10 G1 Running Waiting (not traced)", "10 G2 Runnable Running", "10 G2 Running Waiting (not traced)",
		"25 G1 Waiting Runnable", "25 G1 Runnable Running", "25 G1 Running Syscall",
	}},
}

// TestStories wants each story told with its own times and words.
func TestStories(t *testing.T) {
	prologue := []string{"1 G1 NotExist Runnable", "2 G1 Runnable Running"}
	for _, story := range stories {
		got := changes(told(t, append(born(), story.events...)))
		if want := append(slices.Clone(prologue), story.want...); !slices.Equal(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", story.name, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}
	}
}

// TestSteal wants a P that another thread uses during a system call stolen from it, and the
// thread that comes back to continue on the P that its next event names.
func TestSteal(t *testing.T) {
	thief := change(6, 2, 0, runnable, running, event.ViaSchedule)
	thief.TID = 300
	back := change(10, 1, event.NoP, syscall, running, event.ViaSyscall)
	next := park(12, 1, 1, "sleep")
	back.TID, next.TID = 100, 100
	got := told(t, append(born(), birth(3, 2, 0, 1), change(4, 1, 0, running, syscall, event.ViaSyscall), thief, back, next))
	want := []string{
		"1 P0 Undetermined Idle", "1 P0 Idle Running", "1 G1 NotExist Runnable",
		"2 G1 Runnable Running", "3 G2 NotExist Runnable by G1", "4 G1 Running Syscall",
		"6 P0 Running Idle", "6 P0 Idle Running", "6 G2 Runnable Running",
		"10 G1 Syscall Runnable", "10 P1 Undetermined Idle", "10 P1 Idle Running", "10 G1 Runnable Running",
		"12 G1 Running Waiting (sleep)", "12 P1 Running Idle",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

// TestIdleP wants a P idle while its thread has nothing to run, from then on.
func TestIdleP(t *testing.T) {
	got := told(t, append(born(), park(10, 1, 0, "sleep"), ready(500, 1, event.NoP, 0), change(501, 1, 0, runnable, running, event.ViaSchedule)))
	for _, want := range []string{"P0 Running Idle", "P0 Idle Running"} {
		if n := strings.Count(strings.Join(got, "\n"), want); n != 2 && want == "P0 Idle Running" || n == 0 {
			t.Errorf("%q %d times in %q", want, n, got)
		}
	}
	if i := slices.IndexFunc(got, func(l string) bool { return strings.HasSuffix(l, "P0 Running Idle") }); !strings.HasPrefix(got[i], "10") {
		t.Errorf("the P is idle at %s", got[i])
	}
}

// TestSwitch wants switches of coroutines told as such: the one that comes is woken by the
// one that goes. The last switch is recorded before the end of who makes it.
func TestSwitch(t *testing.T) {
	coro := birth(3, 2, 0, 1)
	coro.To = waiting
	events := append(born(), coro,
		change(4, 1, 0, running, waiting, event.ViaCoroutine), change(4, 2, 0, waiting, running, event.ViaCoroutine),
		change(5, 2, 0, running, waiting, event.ViaCoroutine), change(5, 1, 0, waiting, running, event.ViaCoroutine),
		change(6, 1, 0, running, waiting, event.ViaCoroutine), change(6, 2, 0, waiting, running, event.ViaCoroutine),
		change(7, 1, 0, waiting, running, event.ViaCoroutine), change(8, 2, 0, running, dead, event.ViaExit))
	want := []string{
		"1 G1 NotExist Runnable", "2 G1 Runnable Running", "3 G2 NotExist Waiting by G1",
		"4 G2 Waiting Runnable by G1", "4 G1 Running Waiting", "4 G2 Runnable Running",
		"5 G1 Waiting Runnable by G2", "5 G2 Running Waiting", "5 G1 Runnable Running",
		"6 G2 Waiting Runnable by G1", "6 G1 Running Waiting", "6 G2 Runnable Running",
		"7 G1 Waiting Runnable by G2", "7 G2 Running NotExist", "7 G1 Runnable Running",
	}
	if got := changes(told(t, events)); !slices.Equal(got, want) {
		t.Errorf("got  %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

// TestRanges wants the garbage collector's ranges.
func TestRanges(t *testing.T) {
	var events []event.Event
	us := int64(3)
	for _, reason := range []string{"stopping the world", "GC worker (active)", "GC assist marking", "stopping the world", "garbage collection"} {
		events = append(events, park(us, 1, 0, reason), change(us+1, 1, 0, waiting, running, event.ViaGC))
		us += 2
	}
	got := slices.DeleteFunc(told(t, append(born(), events...)), func(l string) bool { return !strings.Contains(l, "begin") && !strings.Contains(l, "end ") })
	want := []string{
		"3 begin stop-the-world (stopping the world)", "4 end stop-the-world (stopping the world)",
		"5 begin GC concurrent mark phase", "7 begin GC mark assist", "8 end GC mark assist",
		"9 begin stop-the-world (stopping the world)", "10 end stop-the-world (stopping the world)",
		"11 end GC concurrent mark phase", "11 begin stop-the-world (GC mark termination)", "12 end stop-the-world (GC mark termination)",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

// TestThereBefore wants the goroutines that were there told of since the beginning, also
// those of which nothing is heard later.
func TestThereBefore(t *testing.T) {
	var events []event.Event
	for i, s := range []goruntime.Status{runnable, running, syscall, waiting, running} {
		events = append(events, event.Event{Kind: event.Snapshot, Time: begin, PID: 7, GoID: uint64(i + 1), To: s})
	}
	events = append(events, park(50, 2, 3, "sleep"))
	got := changes(told(t, events))
	for _, want := range []string{
		"G1 Undetermined Runnable", "G2 Undetermined Running", "G3 Undetermined Syscall", "G4 Undetermined Waiting", "G5 Undetermined Running",
		"50 G2 Running Waiting (sleep)",
	} {
		if !slices.ContainsFunc(got, func(l string) bool { return strings.HasSuffix(l, want) }) {
			t.Errorf("no %q in %q", want, got)
		}
	}
}

// TestStacks wants the stacks of the stream where there are some, and otherwise the
// outermost frame.
func TestStacks(t *testing.T) {
	taken := []event.Location{{Func: "runtime.gopark"}, {Func: "sync.(*Mutex).Lock", File: "mutex.go", Line: 81}, {Func: "main.work", File: "main.go", Line: 25}, {Func: "runtime.goexit"}}
	with, without := park(3, 1, 0, "sync.Mutex.Lock"), park(6, 1, 0, "sleep")
	with.Stack = 5
	events := append(born(), with, ready(4, 1, 0, 0), change(5, 1, 0, runnable, running, event.ViaSchedule), without)
	all, err := read(write(t, &stream.Info{Begin: begin}, func(id uint32) []event.Location {
		if id != 5 {
			t.Errorf("stack %d", id)
		}
		return taken
	}, events))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, ev := range all {
		if ev.Kind() != trace.EventStateTransition || ev.StateTransition().Resource.Kind != trace.ResourceGoroutine {
			continue
		}
		for f := range ev.Stack().Frames() {
			got = append(got, fmt.Sprintf("at %s %s:%d", f.Func, f.File, f.Line))
		}
		if _, to := ev.StateTransition().Goroutine(); to != trace.GoWaiting {
			for f := range ev.StateTransition().Stack.Frames() {
				got = append(got, fmt.Sprintf("of %s %s:%d", f.Func, f.File, f.Line))
			}
		}
	}
	want := []string{
		"at main.main main.go:10", "of main.work main.go:20",
		"at sync.(*Mutex).Lock mutex.go:81", "at main.work main.go:25", "at main.work main.go:20",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

// TestGenerations wants a long trace in generations that each say where the clocks were,
// with all of the changes and nothing else.
func TestGenerations(t *testing.T) {
	events := born()
	for i := range int64(20000) {
		events = append(events, park(10*i+3, 1, 0, "sleep"), ready(10*i+4, 1, 0, 0), change(10*i+5, 1, 0, runnable, running, event.ViaSchedule))
	}
	info := &stream.Info{Begin: begin, Wall: 1.7e18, Procs: 4}
	all, err := read(writeParts(t, info, noStack, events, 10000))
	if err != nil {
		t.Fatal(err)
	}
	syncs, waits, sum := 0, 0, int64(0)
	var since int64
	for _, ev := range all {
		switch ev.Kind() {
		case trace.EventSync:
			if c := ev.Sync().ClockSnapshot; c != nil {
				syncs++
				if got := c.Wall.UnixNano() - info.Wall; got != int64(c.Mono)-begin || c.Trace != trace.Time(c.Mono) {
					t.Errorf("wall %d, mono %d, trace %d", c.Wall.UnixNano(), c.Mono, c.Trace)
				}
			}
		case trace.EventStateTransition:
			st := ev.StateTransition()
			if st.Resource.Kind != trace.ResourceGoroutine {
				continue
			}
			switch from, to := st.Goroutine(); {
			case from == to:
			case to == trace.GoWaiting:
				waits++
				since = int64(ev.Time())
			case from == trace.GoWaiting:
				sum += int64(ev.Time()) - since
			}
		}
	}
	// Of the time of a change at the seam of two generations, the statuses there take some
	// nanoseconds.
	if syncs < 10 || waits != 20000 || sum < 20000*1000 || sum > 20000*1001 {
		t.Errorf("%d generations, %d waits of %d ns", syncs, waits, sum)
	}
}

// generations is how many there are in a trace.
func generations(events []trace.Event) int {
	n := 0
	for _, ev := range events {
		if ev.Kind() == trace.EventSync && ev.Sync().ClockSnapshot != nil {
			n++
		}
	}
	return n
}

// TestManyThreads wants generations to end also when no thread fills a batch.
func TestManyThreads(t *testing.T) {
	var events []event.Event
	for i := range int64(20000) {
		e := birth(i, i+1, 0, 0)
		e.TID = uint32(i)
		events = append(events, e)
	}
	all, err := read(writeParts(t, &stream.Info{Begin: begin}, noStack, events, 10000))
	if err != nil {
		t.Fatal(err)
	}
	if n := generations(all); n < 2 {
		t.Errorf("%d generations", n)
	}
}

// TestLongStop wants a generation not to end during a stop of the world, but to end at last
// if the end of one was lost.
func TestLongStop(t *testing.T) {
	for _, long := range []int64{100, 3000} {
		events := append(born(), park(3, 1, 0, "stopping the world"))
		for i := range long {
			events = append(events, birth(4+i, 10+i, 1, 0))
		}
		events = append(events, change(5+long, 1, 0, waiting, running, event.ViaSTW))
		all, err := read(writeParts(t, &stream.Info{Begin: begin}, noStack, events, 1000))
		if err != nil {
			t.Fatal(err)
		}
		during, stopped, n := 0, false, 0
		for _, ev := range all {
			switch ev.Kind() {
			case trace.EventRangeBegin:
				stopped = true
				n++
			case trace.EventRangeEnd:
				stopped = false
			case trace.EventSync:
				if stopped {
					during++
				}
			}
		}
		if during != 0 || n != 1 || long == 3000 && generations(all) < 2 {
			t.Errorf("%d births: %d stops, %d generations, %d of them within", long, n, generations(all), during)
		}
	}
}

// TestManyGaps wants goroutines that may have ended in a gap ended at last, and one that
// did not to come back.
func TestManyGaps(t *testing.T) {
	events := born()
	for i := range int64(150) {
		at := begin + 10000 + i*1000
		events = append(events, event.Event{Kind: event.Gap, Since: at, Time: at + 500})
	}
	got := changes(told(t, append(events, ready(1000, 1, 0, 0))))
	for _, want := range []string{"G1 Running NotExist", "G1 Undetermined Waiting", "1000 G1 Waiting Runnable"} {
		if !slices.ContainsFunc(got, func(l string) bool { return strings.HasSuffix(l, want) }) {
			t.Errorf("no %q in %q", want, got)
		}
	}
}

type brokenDisk struct{ n int }

var errFull = errors.New("disk full")

func (d *brokenDisk) Write(b []byte) (int, error) {
	if d.n -= len(b); d.n < 0 {
		return 0, errFull
	}
	return len(b), nil
}

// TestWriteError wants an error of writing returned at once and again.
func TestWriteError(t *testing.T) {
	w := gotrace.New(&brokenDisk{n: 1000}, &stream.Info{}, noStack)
	states := gstate.NewTracker()
	var err error
	for seed := uint64(0); err == nil && seed < 1000; seed++ {
		_, events := newRandom(4).stream(1000)
		for i := range events {
			if err = w.Event(&events[i], states.Apply(&events[i])); err != nil {
				break
			}
		}
	}
	if !errors.Is(err, errFull) {
		t.Fatal(err)
	}
	if err := w.Close(); !errors.Is(err, errFull) {
		t.Error(err)
	}
}

// TestNothing wants a trace of nothing to be one.
func TestNothing(t *testing.T) {
	all, err := read(write(t, &stream.Info{}, noStack, nil))
	if err != nil || len(all) != 2 {
		t.Errorf("%d events, %v", len(all), err)
	}
	if !bytes.HasPrefix(write(t, &stream.Info{}, noStack, nil), []byte("go 1.25 trace\x00\x00\x00")) {
		t.Error("no header")
	}
}
