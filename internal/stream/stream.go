// Package stream is a trace as a view takes it: what it is a trace of, its events in
// order, the stacks that they name, and what was lost and what it cost. A live process
// and a recording of one are both a [Source], and no view can tell them apart.
package stream

import (
	"context"
	"time"

	"gopherscope/internal/engine"
	"gopherscope/internal/event"
)

// Info is what is known of a trace when it begins.
type Info struct {
	Engine    string   // ebpf or inline
	GoVersion string   // of the target: "go1.26.8"
	Arch      string   // of the target, as GOARCH
	PID       int      // of the target, in our PID namespace; 0 when there can be several
	Exe       string   // the target's executable
	Command   []string // the target's arguments, with the program's name; nil if unknown
	Procs     int      // GOMAXPROCS; 0 if unknown
	Stacks    bool     // events name stacks
	Begin     int64    // when it began: CLOCK_MONOTONIC, ns
	Wall      int64    // the same moment: Unix time, ns
}

// Totals are what a trace came to so far.
type Totals struct {
	Now       int64          // up to when every event has been passed on: CLOCK_MONOTONIC, ns
	Lost      engine.Lost    // events that there are none of
	NoStack   engine.NoStack // events without the stack that was asked for
	Cost      engine.Cost    // to the target
	Gaps      uint64         // pauses in which nothing was traced, to spare the target ([event.Gap]), and
	Paused    time.Duration  // their time
	TargetCPU time.Duration  // that the target used since the beginning, with the cost; 0 if unknown
}

// Since is what came to the totals after the ones before; Now and the prices of a cost are
// those of t. A number that is smaller than before is taken for one that began anew.
func (t Totals) Since(before Totals) Totals {
	of := before.counts()
	for i, n := range t.counts() {
		if *n >= *of[i] {
			*n -= *of[i]
		}
	}
	t.Cost.Total = max(0, t.Cost.Total-before.Cost.Total)
	t.Paused = max(0, t.Paused-before.Paused)
	t.TargetCPU = max(0, t.TargetCPU-before.TargetCPU)
	return t
}

// counts are the numbers that only grow, but for the times.
func (t *Totals) counts() []*uint64 {
	l, s, h := &t.Lost, &t.NoStack, &t.Cost.Hits
	return []*uint64{
		&l.RingFull, &l.ReadFault, &l.Recursion, &l.Processes, &l.NoRing, &l.Corrupt,
		&s.Full, &s.Unread, &s.Budget, &h.Uprobes, &h.Syscalls, &h.Inline, &h.Stacks, &t.Gaps,
	}
}

// Source is where a trace comes from. Its methods are called from one goroutine.
type Source interface {
	Info() *Info

	// Run passes the events to emit, in an order that is causal for each goroutine,
	// until the trace or ctx ends. An event is valid during the call only. Whenever no
	// event that is older than now is still to come, and at the end, it calls tick:
	// of a live process some 20 times a second, however little happens. An
	// error of emit or tick ends Run and is returned as it is. It is called once.
	Run(ctx context.Context, emit func(*event.Event) error, tick func(now int64) error) error

	// Stack is the stack that an event names by this number, innermost frame first;
	// nil if there is none. It must not be changed.
	Stack(id uint32) []event.Location

	// Wall is the Unix time, in ns, of a moment of the trace by CLOCK_MONOTONIC.
	Wall(mono int64) int64

	// Totals can be asked for at any time until Close; after Run, of the whole trace.
	Totals() (Totals, error)

	// Close detaches from the target.
	Close() error
}

// Pausing is what a Source has besides if it knows of a pause before that is over, as of a
// live process. Others tell of a pause with the [event.Gap] at its end only.
type Pausing interface {
	// PausedSince is when the pause began that the trace is in, CLOCK_MONOTONIC in ns; 0 if it
	// is in none.
	PausedSince() int64
}
