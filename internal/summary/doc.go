// Package summary adds up a stream of events: how many goroutines were in which state
// for how long, how long those that wanted to run had to wait for it, what the others
// waited for and where, and what the runtime did in between.
//
// A [Summary] is fed with each event and what package gstate knows of it. At any time
// it says how many goroutines are in which state ([Summary.States]), and what came of
// the interval since the last [Summary.Reset]: single figures ([Summary.Sched],
// [Summary.Blocked]) or all of them ([Summary.Page]).
//
// # What adds up
//
// A goroutine is in exactly one [State] from its first event to its last. The times
// in the states are kept in ns and rounded nowhere, so over all states they are the
// lifetimes of the goroutines, and over all rows of blocked time they are the time
// spent waiting, exactly. A state that lasts over the end of an interval counts
// in each interval for the part that is in it. Distributions are of whole durations, in
// the interval in which they end.
//
// What began before the trace counts from the trace's start, and each figure that has
// it is marked as a lower bound.
//
// The memory that it takes goes with the number of goroutines alive, creation sites
// and stacks, and not with the number of events. It is a pure function of the
// stream. A Summary is not safe for concurrent use.
package summary
