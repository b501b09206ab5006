// Package dump is what is known of all goroutines of a process at one moment:
// their states, why they wait and for how long at least, their stacks, who
// created them. Package snapshot reads a Dump from a process or a core file;
// report, pprof and leaks turn it into something for people and programs.
//
// It is pure: plain data and functions of it, which touch no system. A Dump is
// not changed after it was made, and is safe for concurrent use.
package dump

import (
	"time"

	"gopherscope/internal/goruntime"
)

// Dump is a snapshot. Goroutines name what many of them share (stacks, places,
// labels) by number, so that a million goroutines take some 60 MB.
type Dump struct {
	PID       int               // in our PID namespace; of the dead process for a core file
	Version   goruntime.Version // Go release of the program
	Time      time.Time         // when the reading began; zero for a core file
	Mono      int64             // the same moment by CLOCK_MONOTONIC, ns; 0 if it is not known
	Took      time.Duration     // how long the reading took
	HasStacks bool              // stacks were asked for

	Goroutines []Goroutine // in ascending order of ID
	Reasons    []string    // the wait reasons, by number
	Stacks     []Stack     // by StackID; the first is empty
	Sites      []Site      // by SiteID; the first is empty
	Labels     [][]Label   // by LabelsID; the first is empty

	// Torn counts the goroutines that never held still long enough to be read:
	// their state is that of a moment, they have no stack.
	Torn int
	// Unread counts those of the Torn of which nothing could be read: they are not in
	// Goroutines, and may be dead.
	Unread int
	// FPMismatches counts the stacks on which the chain of frame pointers
	// disagrees with the walk by the function table. The walk is what the runtime
	// itself does, and is what the Dump has.
	FPMismatches int
	// NoSample is why no stacks of running goroutines could be taken; "" when
	// they were, or none ran, or none were asked for.
	NoSample string
}

// StackID is an index in Dump.Stacks; 0 is none.
type StackID uint32

// SiteID is an index in Dump.Sites; 0 is none.
type SiteID uint32

// LabelsID is an index in Dump.Labels; 0 is none.
type LabelsID uint32

// Goroutine is one goroutine. It is kept small, as a process may have millions.
type Goroutine struct {
	ID        uint64
	Parent    uint64 // the goroutine that executed the go statement; 0 if unknown (before Go 1.21) or the runtime
	Addr      uint64 // address of its g struct in the process
	WaitSince int64  // the runtime's note of the wait: see Notes; CLOCK_MONOTONIC, ns; 0 if there is none
	Stack     StackID
	Created   SiteID // the go statement
	Start     SiteID // the function that the go statement names
	Labels    LabelsID
	TID       int32 // the thread, when it is running or in a system call and known; else 0
	Status    goruntime.Status
	Reason    uint8 // index in Dump.Reasons; of meaning when Status is Waiting or Leaked
	Source    StackSource
	Flags     Flags
	// Seq is g.trackingSeq, which goes up by one, modulo 256, each time that the
	// goroutine stops running (runtime/proc.go, casgstatus): if two snapshots
	// show different values, it has run in between.
	Seq uint8
}

// StackSource says where a goroutine's stack comes from, or why there is none.
type StackSource uint8

// The sources.
const (
	SourceNone    StackSource = iota // none was asked for, or it runs and its registers are on a CPU
	SourceMemory                     // the process's memory, while it held still
	SourceSample                     // it runs: a sample of its thread
	SourceCore                       // it ran: its thread's registers in the core file
	SourceTorn                       // it kept changing while it was read: no stack
	SourceInvalid                    // its memory made no sense: no stack
)

var sourceNames = [...]string{
	SourceNone: "none", SourceMemory: "memory", SourceSample: "perf sample",
	SourceCore: "core registers", SourceTorn: "torn", SourceInvalid: "invalid",
}

// String is the source as JSON spells it.
func (s StackSource) String() string { return sourceNames[s] }

// Flags are a goroutine's properties.
type Flags uint8

// The flags.
const (
	Locked Flags = 1 << iota // wired to its thread (runtime.LockOSThread)
	System                   // the runtime's own; hidden unless asked for
	Fake                     // it waits but stays on its M (see goruntime.IsFakeWait)
)

// Stack is a call stack that at least one goroutine has.
type Stack struct {
	Frames []Frame // innermost first; not to be changed
	// Cut says that the stack goes on where the frames end: it is too deep, or
	// the code there is unknown (C code, a plugin).
	Cut bool
}

// Frame is one function of a stack.
type Frame struct {
	PC      uint64 // as linked: the return address, or the instruction itself for the innermost of a running goroutine
	Func    string // as the runtime prints it
	File    string
	Line    int32
	Offset  uint32 // of PC in its function; 0 at the entry
	Inlined bool   // into the frame that follows
	Wrapper bool   // made by the compiler; not in the source
}

// Site is a place in the program that goroutines were created by or start at.
type Site struct {
	PC     uint64 // as linked
	Func   string // the function as in the source, even if inlined
	Outer  string // the function as compiled, which Func is inlined into or the same
	File   string
	Line   int32
	Offset uint32 // of PC in Outer
}

// Label is one of a goroutine's pprof labels.
type Label struct {
	Key, Value string
}

// ReasonOf is why g waits, in the runtime's words; "" when it does not wait or
// the runtime gives no reason.
func (d *Dump) ReasonOf(g *Goroutine) string {
	if g.Status != goruntime.Waiting && g.Status != goruntime.Leaked || int(g.Reason) >= len(d.Reasons) {
		return ""
	}
	return d.Reasons[g.Reason]
}

// WaitedFor is for how long g has waited at the time of the Dump by the runtime's note, as in the
// runtime's own tracebacks: the wait can be shorter, by up to the time between two collections (see
// Notes). 0 if there is none: only a garbage collection makes one.
func (d *Dump) WaitedFor(g *Goroutine) time.Duration {
	switch g.Status {
	case goruntime.Waiting, goruntime.Syscall, goruntime.Leaked:
	default:
		return 0
	}
	if g.WaitSince == 0 || d.Mono == 0 || g.WaitSince > d.Mono {
		return 0
	}
	return time.Duration(d.Mono - g.WaitSince)
}

// Has says whether all of the flags f are set.
func (g *Goroutine) Has(f Flags) bool { return g.Flags&f == f }
