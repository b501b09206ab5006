package profile

import (
	"fmt"
	"strings"
	"time"

	"gopherscope/internal/elapsed"
	"gopherscope/internal/event"
)

// Kind says which time of goroutines a Profile has, or which event.
type Kind uint8

// The kinds.
const (
	Block   Kind = iota // time parked: real waits, not those in which a goroutine keeps its thread
	Sched               // time runnable: waiting for a P
	Exec                // time running, with the waits in which a goroutine keeps its thread
	Syscall             // time in system calls and in C code
	Wall                // all of these
	Created             // goroutines that were created; no time
)

var kindNames = [...]string{
	Block: "block", Sched: "sched", Exec: "exec", Syscall: "syscall", Wall: "wall", Created: "created",
}

// String is the kind as flags spell it.
func (k Kind) String() string { return kindNames[k] }

// KindNames are the kinds as flags spell them.
func KindNames() []string { return append([]string(nil), kindNames[:]...) }

// ParseKind is the inverse of [Kind.String].
func ParseKind(name string) (Kind, error) {
	for k, n := range kindNames {
		if n == name {
			return Kind(k), nil
		}
	}
	return 0, fmt.Errorf("unknown kind %q (one of %s)", name, strings.Join(kindNames[:], ", "))
}

// about says in a sentence what a profile of the kind has.
func (k Kind) about() string {
	switch k {
	case Block:
		return "time parked, by the stack where goroutines parked"
	case Sched:
		return "time runnable, by the stack where goroutines parked last, lost their P or were created"
	case Exec:
		return "time running, by the stack where goroutines parked last or began; not a sample of the CPU"
	case Syscall:
		return "time in system calls, by the stack where they were entered"
	case Wall:
		return "all time of goroutines, by the stack where they parked last, entered a system call or began"
	}
	return "goroutines created, by the stack of the go statement"
}

// The functions of the pseudo frames.
const (
	UnknownStack   = "[unknown stack]"   // nothing is known
	UnknownCallers = "[unknown callers]" // who called the frame before is not known
)

// Profile is what a trace came to.
type Profile struct {
	Kind     Kind
	Exe      string        // the target's executable; "" if there are several
	Begin    int64         // Unix time, ns
	Duration time.Duration // with the gaps
	Samples  []Sample      // the greatest first; no two have the same stack and labels

	Gaps        time.Duration // in which nothing was traced
	Unaccounted time.Duration // of goroutines between two changes, when one was missed in between
	Missed      uint64        // how often that was

	Labels     Labelled
	LabelsFull bool // there were more sets of labels than are told apart
}

// Labelled is of how much time of the samples the pprof labels are known.
type Labelled struct {
	Known time.Duration // of Of; a goroutine that is known to have none counts too
	Of    time.Duration // the time parked, in system calls and runnable: a goroutine that runs may change them
}

// Share is the known part, from 0 to 1; 0 of nothing.
func (l Labelled) Share() float64 {
	if l.Of == 0 {
		return 0
	}
	return float64(l.Known) / float64(l.Of)
}

// Sample is what the intervals with the same stack and the same labels have in common.
type Sample struct {
	Stack []event.Location // innermost first; never empty
	Count int64            // of intervals; of Created, goroutines
	Delay time.Duration    // the sum of the intervals; 0 of Created

	// The labels.
	State     string // as in JSON: waiting, runnable, running, syscall; "" of Created
	Reason    string // of a wait; "" if it is not known
	CreatedBy string // the function of the go statement; "" if it is not known

	Labels []event.Label // the program's own, by key; nil if it has none or they are not known. They can have any bytes
}

// Value is what the sample counts for: nanoseconds, of Created goroutines.
func (p *Profile) Value(s *Sample) int64 {
	if p.Kind == Created {
		return s.Count
	}
	return int64(s.Delay)
}

// Total is the sum of the values of all samples, and the part of it of which the stack is
// not known at all.
func (p *Profile) Total() (all, unknown int64) {
	for i := range p.Samples {
		v := p.Value(&p.Samples[i])
		all += v
		if p.Samples[i].Stack[0].Func == UnknownStack {
			unknown += v
		}
	}
	return all, unknown
}

// About says what the profile has and what is missing, a line each.
func (p *Profile) About() []string {
	lines := []string{fmt.Sprintf("gopherscope profile, kind %s: %s", p.Kind, p.Kind.about())}
	if p.LabelsFull {
		lines = append(lines, fmt.Sprintf("more than %d sets of pprof labels: the time with the others is without", maxLabelSets))
	}
	if p.Gaps > 0 {
		lines = append(lines, fmt.Sprintf("nothing was traced for %s of %s", elapsed.Text(p.Gaps), elapsed.Text(p.Duration)))
	}
	if p.Missed > 0 {
		lines = append(lines, fmt.Sprintf("%d changes were missed: %s of goroutine time is in no sample", p.Missed, elapsed.Text(p.Unaccounted)))
	}
	return lines
}
