// Package profile attributes the time of goroutines to stacks: the time that they were
// parked, runnable, running or in system calls, each to the stack that the trace has of
// the goroutine there. It is a function of a stream of events, exact and not sampled:
// every interval is counted.
//
// # Which stack
//
// A trace has the stack of a goroutine where it parks and, as far as its source takes
// them, where it enters a system call, loses its P and is created, and where it was when
// the trace began. So
//
//   - time parked goes to the stack where it parked;
//   - time in a system call goes to the stack where it was entered;
//   - time runnable goes to the last of these stacks, of a new goroutine to that of the
//     go statement;
//   - time running goes to where the slice began, which is the last of these stacks
//     too. That is where the goroutine was and not all that it then did: a slice is no
//     sample of a CPU. A new goroutine begins in the function that its go statement
//     names.
//
// Where there is no stack, a pseudo frame says so: [UnknownStack] when nothing is known,
// [UnknownCallers] below a place of which only the callers are not known. The frames of
// the runtime in which all goroutines park are left out, for all would end in them.
//
// # Which time
//
// An interval that began before the trace counts from the beginning of the trace, one
// that is open at its end up to there. After a gap, in which nothing was traced, a
// goroutine counts again from the end of the gap on, as soon as it makes a change. Where
// a change was missed, the time since the one before is in no sample: it is
// Profile.Unaccounted.
package profile
