package gotrace_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/stream"
)

// random makes a stream that can be anything: most events continue the ones before, some
// do not, and chaos of them per thousand are made of nothing but chance.
type random struct {
	*rand.Rand
	chaos  int
	pids   int
	now    int64
	status map[uint64]goruntime.Status
	thread map[uint64]uint32 // of a running goroutine
}

func newRandom(seed uint64) *random {
	r := &random{Rand: rand.New(rand.NewPCG(seed, 1)), status: map[uint64]goruntime.Status{}, thread: map[uint64]uint32{}}
	r.chaos = []int{0, 1, 30, 1000}[r.IntN(4)]
	r.pids = 1 + r.IntN(2)*r.IntN(3)
	r.now = 1e12 + r.Int64N(1e15)
	return r
}

// oneOf is one of the choices.
func oneOf[T any](r *random, choices ...T) T { return choices[r.IntN(len(choices))] }

var statuses = []goruntime.Status{
	goruntime.Idle, goruntime.Runnable, goruntime.Running, goruntime.Syscall, goruntime.Waiting, goruntime.Dead,
	goruntime.CopyStack, goruntime.Preempted, goruntime.Leaked, goruntime.DeadExtra, 5, 200,
}

var reasons = []string{
	"", "chan receive", "select", "sleep", "IO wait", "GC worker (active)", "GC assist marking", "garbage collection",
	"stopping the world", "semacquire", "select (no cases)", "what nobody knows", string(make([]byte, 2000)),
}

func (r *random) birth() *event.Birth {
	return &event.Birth{
		Parent:    uint64(r.IntN(20)),
		CreatedBy: event.Location{Func: "main.main", File: "main.go", Line: r.IntN(3)},
		Start:     event.Location{Func: oneOf(r, "", "main.work", "runtime.bgsweep"), Line: oneOf(r, 0, -1, 7)},
	}
}

// next is the next event of the stream.
func (r *random) next() event.Event {
	r.now += r.Int64N(2000)
	e := event.Event{
		Kind: event.Transition, Time: r.now, PID: uint32(r.IntN(r.pids)), TID: uint32(100 + r.IntN(8)),
		GoID: uint64(1 + r.IntN(20)), P: int32(r.IntN(6)) - 1, Stack: uint32(r.IntN(3)),
	}
	if r.IntN(1000) < r.chaos {
		return r.anything(e)
	}
	r.plausible(&e)
	return e
}

// anything is an event without regard to those before.
func (r *random) anything(e event.Event) event.Event {
	e.Kind = oneOf(r, event.Transition, event.Transition, event.Transition, event.Transition, event.Snapshot, event.Exit, event.Exec, event.Gap, event.Census, 99)
	e.Since = oneOf(r, e.Time, 0, e.Time-r.Int64N(1e4), math.MinInt64)
	e.Time = oneOf(r, e.Time, e.Time-5000, e.Time+1e6, 0, -1, math.MinInt64, math.MaxInt64, 1<<62-1)
	e.GoID = oneOf(r, e.GoID, e.GoID, e.GoID, 0, math.MaxUint64, 1<<40, 1<<62, 1<<63)
	e.P = oneOf(r, e.P, e.P, math.MaxInt32, math.MinInt32)
	e.TID = oneOf(r, e.TID, e.TID, 0, math.MaxUint32)
	e.From, e.To = oneOf(r, statuses...), oneOf(r, statuses...)
	e.Via = event.Via(r.IntN(25))
	e.Fake, e.Reason = r.IntN(4) == 0, oneOf(r, reasons...)
	e.Waker = uint64(r.IntN(20))
	if r.IntN(4) == 0 {
		e.Birth = r.birth()
	}
	return e
}

// plausible makes e continue the last state of its goroutine, on any thread.
func (r *random) plausible(e *event.Event) {
	e.From = r.status[e.GoID]
	switch e.From {
	case goruntime.Runnable:
		e.To, e.Via = goruntime.Running, event.ViaSchedule
		r.thread[e.GoID] = e.TID
	case goruntime.Running:
		e.To = oneOf(r, goruntime.Waiting, goruntime.Runnable, goruntime.Syscall, goruntime.Waiting, goruntime.Dead, goruntime.Preempted)
		e.Via = oneOf(r, event.ViaPark, event.ViaCoroutine, event.ViaYield, event.ViaExit, event.ViaNoP)
		e.Reason = oneOf(r, reasons...)
		e.Fake = e.To == goruntime.Waiting && goruntime.IsFakeWait(e.Reason)
		e.TID = r.thread[e.GoID]
	case goruntime.Syscall:
		e.To, e.Via = goruntime.Running, event.ViaSyscall
		if r.IntN(10) == 0 {
			e.To, e.Via = goruntime.Dead, event.ViaExtraM
		}
		e.TID = r.thread[e.GoID]
	case goruntime.Waiting, goruntime.Preempted:
		e.To, e.Via = goruntime.Runnable, event.ViaReady
		e.Waker = uint64(r.IntN(20))
		if r.IntN(4) == 0 {
			e.To, e.Via = goruntime.Running, event.ViaCoroutine
			r.thread[e.GoID] = e.TID
		}
	case goruntime.Dead, goruntime.Idle:
		switch r.IntN(8) {
		case 0:
			e.To, e.Via = goruntime.Syscall, event.ViaExtraM
			r.thread[e.GoID] = e.TID
		case 1:
			e.To, e.Via, e.Birth = goruntime.Waiting, event.ViaCreate, r.birth()
		default:
			e.To, e.Via, e.Birth = goruntime.Runnable, event.ViaCreate, r.birth()
		}
	}
	r.status[e.GoID] = e.To
}

// stream is a whole one, with goroutines that were there before.
func (r *random) stream(n int) (info *stream.Info, events []event.Event) {
	info = &stream.Info{Begin: oneOf(r, r.now, 0, r.now+500), Wall: 1.7e18, Procs: r.IntN(5)}
	for id := range uint64(r.IntN(20)) {
		e := event.Event{Kind: event.Snapshot, Time: r.now, GoID: id + 1, To: oneOf(r, statuses[1:5]...)}
		if r.IntN(2) == 0 {
			e.Birth = r.birth()
		}
		r.status[e.GoID], r.thread[e.GoID] = e.To, uint32(100+r.IntN(8))
		events = append(events, e)
	}
	for range n {
		events = append(events, r.next())
	}
	return info, events
}

func randomStack(id uint32) []event.Location {
	if id == 1 {
		return nil
	}
	frames := make([]event.Location, 200)
	for i := range frames {
		frames[i] = event.Location{Func: "f", File: "f.go", Line: i}
	}
	return frames
}

// FuzzWriter wants every stream to become a trace that can be read, in generations of any
// size, and the same stream the same trace.
func FuzzWriter(f *testing.F) {
	for seed := range uint64(300) {
		f.Add(seed, uint16(500), int64(seed%7)*1000)
	}
	f.Fuzz(func(t *testing.T, seed uint64, n uint16, size int64) {
		info, events := newRandom(seed).stream(int(n % 5000))
		data := writeParts(t, info, randomStack, events, size)
		if _, err := read(data); err != nil {
			t.Fatal(err)
		}
		if again := writeParts(t, info, randomStack, events, size); !bytes.Equal(data, again) {
			t.Fatal("the same stream became another trace")
		}
	})
}
