// Package engine defines what turns a live process into a stream of events.
//
// An engine attaches to a validated target, emits one [event.Event] for every
// change of a goroutine's status in an order that is causal per goroutine, and
// accounts for what it lost and for what it cost. Engines differ in how they
// see the changes, never in what they emit: nothing downstream can tell which
// one ran.
package engine

import (
	"time"

	"gopherscope/internal/event"
)

// Engine is a running trace. Its methods are called from one goroutine, but
// Stats and Stop may be called from any.
type Engine interface {
	// Name is the engine's name as flags and summaries spell it.
	Name() string

	// Poll waits up to wait for events and passes those that are there to emit,
	// in order. The Event is valid during the call only. An error of emit ends
	// Poll and is returned as it is. Otherwise every event that was made before
	// the call has been passed on.
	Poll(wait time.Duration, emit func(*event.Event) error) error

	// Follow traces a process that runs already from now on, when the engine
	// traces all processes of a binary: otherwise it would begin with the
	// process's first change that takes a probe in the target.
	Follow(pid int) error

	// Seed tells of a goroutine ([event.Snapshot]) that was there before, of which
	// nothing has been emitted, in which state it is.
	Seed(e *event.Event)

	// Stack is the stack that events name by this number, innermost frame first;
	// nil if there is none. The slice must not be changed.
	Stack(id uint32) []event.Location

	// TakeStacks makes a trace that was begun with stacks go on without, or with them
	// again. Each event that then has none is counted (NoStack.Budget). Of a trace that
	// was begun without it changes nothing.
	TakeStacks(take bool) error

	// Pause makes the trace cost the target next to nothing until Resume. What was
	// made before it can still be polled; of what is made meanwhile nothing is known.
	// The caller tells of that with an [event.Gap].
	Pause() error

	// Resume ends a pause. An error leaves the trace paused.
	Resume() error

	// Stop ends the trace: no change that is made after it is emitted. Events
	// made before it can still be polled.
	Stop() error

	// Cost is what the trace has cost the target so far.
	Cost() (Cost, error)

	// Stats are the counts so far.
	Stats() (Stats, error)

	// Close detaches everything from the target. It implies Stop.
	Close() error
}

// Stats counts what an engine did.
type Stats struct {
	Events uint64 // records taken in the target
	Lost   Lost
	Hits   Hits
	// NoStack counts events that went out without the stack that they should have.
	NoStack NoStack
}

// NoStack counts events without their stack, by cause.
type NoStack struct {
	Full   uint64 // there are more stacks than can be told apart
	Unread uint64 // the stack's memory was not readable, or not what it has to be
	Budget uint64 // it was left out, to spare the target: see Engine.TakeStacks
}

// Total is the sum over all causes.
func (n NoStack) Total() uint64 { return n.Full + n.Unread + n.Budget }

// Lost counts the changes of status that could not be emitted, by cause.
type Lost struct {
	RingFull  uint64 // no room: the reader was too slow
	ReadFault uint64 // the target's memory was not readable at the probe
	Recursion uint64 // the kernel skipped a program that was already running on that CPU
	Processes uint64 // hits in processes that were not traced because there were too many
	NoRing    uint64 // the thread had no ring: there were too many threads
	Corrupt   uint64 // records that make no sense: the target overwrote them
}

// Total is the sum over all causes.
func (l Lost) Total() uint64 {
	return l.RingFull + l.ReadFault + l.Recursion + l.Processes + l.NoRing + l.Corrupt
}

// Hits counts how often the target was interrupted.
type Hits struct {
	Uprobes  uint64 // traps into the kernel
	Syscalls uint64 // tracepoint programs run at the target's system calls
	Inline   uint64 // passes through code of ours in the target
	Stacks   uint64 // of all these, those in which a stack was walked
}
