// Package probes knows where a Go runtime changes the status of a goroutine, and
// what a record made there says. It is what the engines have in common: [Plan]
// lists the instructions, an engine makes a [Record] whenever a thread comes to
// one, and a [Sequencer] turns the records into events. Thus engines differ in how
// they come by a record and in nothing else.
package probes

import "gopherscope/internal/goruntime"

// Kind is what a Record says.
type Kind uint8

// The kinds; the same numbers as in the engines' programs.
const (
	Change      Kind = 1 // one change of g.atomicstatus
	Attempted   Kind = 2 // the same, but the compare-and-swap after it can lose to another thread's
	Syscall     Kind = 3 // the same, at a system call: it can come twice
	Birth       Kind = 4 // a goroutine comes to life, runnable
	BirthParked Kind = 5 // the same, but waiting: a coroutine
	Exec        Kind = 6 // the process executes another program: all goroutines are gone
	Return      Kind = 7 // a thread leaves a system call; GoID is not known, see Sequencer
)

// Record is one hit of a probe: plain data.
type Record struct {
	Kind     Kind
	Site     uint8 // index in the plan, or NoSite
	Reason   uint8 // g.waitreason, where From or To is waiting
	P        int32 // p.id; event.NoP when the thread holds none
	TID, PID uint32
	From, To goruntime.Status // not of births
	Time     int64            // CLOCK_MONOTONIC, ns
	GoID     uint64
	Other    uint64 // the waker or, of a birth, the parent; 0 when there is none
	M        int64  // m.id
	SP       uint32 // Syscall, Return: low half of the thread's stack pointer

	Stack         uint32 // the engine's number of the stack; 0 when there is none
	GoPC, StartPC uint64 // of a birth: return address of the go statement, and start function, as linked; 0 unknown
}
