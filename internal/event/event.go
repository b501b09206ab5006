// Package event defines what a trace consists of: one [Event] for every change
// of a goroutine's status, in an order that is causal per goroutine, and before
// those one for each goroutine that was there when the trace began. In between are
// the pprof labels of goroutines that wait, where they were read.
//
// The package is the border of the program. What is left of it (engines,
// processes, binaries) needs Linux, privileges and a live process; what is
// right of it (gstate, report and every encoder) is a pure function of events.
// It imports neither side. Values are plain data, safe to copy; an engine may
// reuse the Event it passes to a callback, but never what a Birth or a LabelSet points to.
package event

import "gopherscope/internal/goruntime"

// Kind says what an Event is about.
type Kind uint8

// The kinds.
const (
	// Transition is one change of one goroutine's status.
	Transition Kind = iota
	// Exec is a process that executes another program: its goroutines are gone.
	// Only Kind, Time, PID and TID are set.
	Exec
	// Exit is a process that ended. Only Kind, Time and PID are set.
	Exit
	// Snapshot is a goroutine that was there at Time, before its first
	// Transition, or its first one since a Gap. Only Kind, Time, PID, GoID, To, Reason, Fake, Since and Birth
	// are set. An engine does not emit it: package seed makes it.
	Snapshot
	// Gap says that nothing was traced from Since to Time, to spare the target: in
	// which state a goroutine is is not known until its next Transition, and which
	// goroutines have ended is not known until a Census. Only Kind, Time, Since and PID are
	// set; PID is 0 when several processes are traced.
	Gap
	// Labels says which pprof labels a goroutine had at Time, in the middle of a wait or
	// a system call. As only the goroutine itself changes them, and runs to do so, they are
	// its labels from the Transition before until it runs again. Only Kind,
	// Time, PID, GoID and Labels are set. An engine does not emit it: package labels makes it.
	Labels
	// Census says that every goroutine that was there at Time has been told of since the
	// last Gap, by a Snapshot or a Transition: the others ended in a gap. Only Kind,
	// Time and PID are set. An engine does not emit it: it follows the Snapshots of
	// package seed.
	Census
)

// Event is one change of one goroutine's status, the end of all goroutines of a
// process, a goroutine that was there before, or the labels of one.
type Event struct {
	Kind   Kind
	Time   int64            // CLOCK_MONOTONIC, nanoseconds
	PID    uint32           // the process (the kernel's tgid), in our PID namespace
	TID    uint32           // the thread that made the change, in our PID namespace
	GoID   uint64           // the goroutine; never 0
	M      int64            // the runtime's number of that thread (m.id)
	P      int32            // the processor it held (p.id); NoP if none
	From   goruntime.Status // the status just left
	To     goruntime.Status // the status entered
	Via    Via              // which path of the runtime made the change
	Fake   bool             // To is Waiting but the goroutine keeps its M (see goruntime.IsFakeWait)
	Reason string           // the wait reason when To is Waiting, in the runtime's words; of a Snapshot "" if unknown
	Waker  uint64           // the goroutine that made this one runnable; 0 if the scheduler did
	Since  int64            // of a Snapshot: it waits since then at least; of a Gap: its begin; CLOCK_MONOTONIC, ns; 0 if unknown
	Stack  uint32           // a stack, by the number that the source of the events knows it by; 0 if it was not taken. Where To is Waiting or Syscall: where it parked or entered the system call; of a birth: the parent's, at the go statement
	Birth  *Birth           // non-nil on the event that creates a goroutine, and on a Snapshot where it is known
	Labels *LabelSet        // non-nil on an event of kind Labels, and only there
}

// NoP is the value of [Event.P] that says there is none.
const NoP = -1

// Birth is what is known of a goroutine at its creation.
type Birth struct {
	Parent    uint64   // the goroutine that executed the go statement; 0 if the runtime did, of a Snapshot also if it is unknown (before Go 1.21)
	CreatedBy Location // the go statement
	Start     Location // the function that the go statement names
}

// Location is a place in Go source code. The zero Location is unknown.
type Location struct {
	Func string // with its package path: "net/http.(*Server).Serve"
	File string // as recorded in the binary; may be trimmed
	Line int    // 1-based; 0 if unknown
}

// LabelSet is the pprof labels that a goroutine has, as far as they could be read; the zero LabelSet is that of a
// goroutine without. They are the traced program's: any bytes, and bounded in length by who read them. A LabelSet is shared
// by events and never changed.
type LabelSet struct {
	Labels []Label // in the order of keys, then values
}

// Label is one pprof label.
type Label struct{ Key, Value string }

// IsNew says whether the event is the first of a goroutine's life.
func (e *Event) IsNew() bool { return e.Kind == Transition && e.Birth != nil }

// Ends says whether the event is a goroutine's last. That of an extra M, on which threads of
// C code call Go, is none: the goroutine comes back to life under its goid when C calls Go
// again (runtime/proc.go, needm and dropm).
func (e *Event) Ends() bool {
	return e.To == goruntime.Dead && e.Kind == Transition && e.Via != ViaExtraM
}
