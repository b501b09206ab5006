package tui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/recording"
	"gopherscope/internal/stream"
)

// life is a made-up process without end: goroutines that come, go through all states in
// any order that a runtime allows, and end; some of extra Ms; pauses of the trace.
type life struct {
	rng    *rand.Rand
	info   stream.Info
	now    int64
	goid   uint64
	states map[uint64]goruntime.Status
	ids    []uint64
	totals stream.Totals
}

const lifeBegin = int64(1e12)

func newLife(seed uint64) *life {
	return &life{
		rng: rand.New(rand.NewPCG(seed, 1)), now: lifeBegin, states: map[uint64]goruntime.Status{},
		info: stream.Info{
			Engine: "ebpf", GoVersion: "go1.26.8", PID: 7, Exe: "/bin/shop", Command: []string{"/bin/shop", "-port", "80"}, Procs: 2,
			Stacks: true, Begin: lifeBegin, Wall: 1_800_000_000e9,
		},
	}
}

// The methods of a stream.Source that a recorder calls.

func (l *life) Info() *stream.Info { return &l.info }

func (l *life) Run(context.Context, func(*event.Event) error, func(int64) error) error {
	return errors.New("it is recorded event by event")
}

func (l *life) Stack(id uint32) []event.Location {
	return []event.Location{{Func: "runtime.gopark", File: "/go/proc.go", Line: 1}, {Func: fmt.Sprintf("main.f%d", id), File: "/src/main.go", Line: int(id)}}
}

// Wall drifts, and is set now and then.
func (l *life) Wall(mono int64) int64 {
	return l.info.Wall + (mono - l.info.Begin) + (l.now-l.info.Begin)/1000 + (l.now-l.info.Begin)/20e9*3e9
}

func (l *life) Totals() (stream.Totals, error) { l.totals.Now = l.now; return l.totals, nil }
func (l *life) Close() error                   { return nil }

var lifeStates = []goruntime.Status{goruntime.Runnable, goruntime.Running, goruntime.Syscall, goruntime.Waiting, goruntime.Leaked, goruntime.Dead}

// next is the next event. Times go back a little between goroutines.
func (l *life) next(most int) event.Event {
	l.now += l.rng.Int64N(2e6)
	l.totals.Cost.Total += 800
	l.totals.TargetCPU += time.Duration(l.rng.IntN(1e5))
	e := event.Event{Time: l.now - l.rng.Int64N(1000), PID: 7, TID: uint32(10 + l.rng.IntN(4)), P: int32(l.rng.IntN(2))}
	if l.rng.IntN(500) == 0 {
		l.totals.Lost.RingFull++
	}
	if len(l.ids) == 0 || l.rng.IntN(10) == 0 && len(l.ids) < most {
		l.goid++
		e.GoID, e.From, e.To, e.Via = l.goid, goruntime.Dead, goruntime.Runnable, event.ViaCreate
		e.Birth = &event.Birth{
			Parent: 1, CreatedBy: event.Location{Func: fmt.Sprintf("main.make%d", l.goid%5), File: "/src/main.go", Line: 3},
			Start: event.Location{Func: [...]string{"main.work", "runtime.bgsweep"}[l.goid%7/6], File: "/src/main.go", Line: 9},
		}
		l.ids = append(l.ids, l.goid)
		l.states[l.goid] = e.To
		return e
	}
	i := l.rng.IntN(len(l.ids))
	if l.rng.IntN(2) == 0 {
		i = i % min(len(l.ids), 5) // a few do most
	}
	e.GoID = l.ids[i]
	e.From = l.states[e.GoID]
	for e.To = e.From; e.To == e.From; {
		e.To = lifeStates[l.rng.IntN(len(lifeStates))]
	}
	switch e.To {
	case goruntime.Waiting:
		e.Reason, e.Via, e.Stack = [...]string{"select", "chan receive", "sleep"}[l.rng.IntN(3)], event.ViaPark, uint32(1+l.rng.IntN(30))
		e.Fake = l.rng.IntN(10) == 0
	case goruntime.Syscall:
		e.Stack = uint32(l.rng.IntN(30))
	case goruntime.Dead:
		if e.GoID%9 == 0 {
			e.Via = event.ViaExtraM // it comes back
			break
		}
		l.ids = slices.Delete(l.ids, i, i+1)
		delete(l.states, e.GoID)
		return e
	}
	l.states[e.GoID] = e.To
	return e
}

// recordLife records a life with this many events, and returns the events in their order, too.
func recordLife(t testing.TB, l *life, n, most int, gaps bool) (file []byte, events []event.Event) {
	t.Helper()
	var out bytes.Buffer
	w, err := recording.NewWriter(&out, l, nil)
	if err != nil {
		t.Fatal(err)
	}
	put := func(e event.Event) {
		events = append(events, e)
		if err := w.Event(&e); err != nil {
			t.Fatal(err)
		}
	}
	tick := func() {
		if err := w.Tick(l.now); err != nil {
			t.Fatal(err)
		}
	}
	for id := uint64(1); id <= 4; id++ { // there when it began
		l.ids, l.states[id], l.goid = append(l.ids, id), goruntime.Waiting, id
		put(event.Event{Kind: event.Snapshot, Time: l.now + 5, PID: 7, GoID: id, To: goruntime.Waiting, Reason: "select", Since: l.now - int64(id)*1e9 + 1e9})
	}
	ticked := l.now
	for range n {
		put(l.next(most))
		if id := l.rng.Uint64N(l.goid) + 1; l.states[id] == goruntime.Waiting && l.rng.IntN(5) == 0 {
			put(event.Event{Kind: event.Labels, Time: l.now, PID: 7, GoID: id, Labels: &event.LabelSet{Labels: []event.Label{{Key: "tenant", Value: fmt.Sprint(id % 3)}}}})
		}
		if gaps && l.rng.IntN(400) == 0 {
			since := l.now + 1
			for range 1 + l.rng.IntN(40) { // ticks go on
				l.now += 50e6
				tick()
			}
			put(event.Event{Kind: event.Gap, Time: l.now, Since: since, PID: 7})
			for i, id := range l.ids { // some are read again
				if i%2 == 0 && l.states[id] != goruntime.Dead {
					put(event.Event{Kind: event.Snapshot, Time: l.now + 10, PID: 7, GoID: id, To: l.states[id], Since: l.now - 7})
				}
			}
		}
		if l.now-ticked > 50e6 {
			l.now += 2000
			tick()
			ticked = l.now
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), events
}
