// Package gotrace writes a trace as a Go execution trace, the format of the runtime's
// own tracer, for go tool trace and every program built on golang.org/x/exp/trace. The
// target never called runtime/trace.
//
// It is a pure function of a stream of events. How the two views of a program are
// brought together, and what is inferred, is in docs/design/gotrace.md.
//
// # Why the result is always valid
//
// A reader of the format plays the scheduler: it holds the state of every goroutine, M and
// P, and refuses an event that does not follow from it (internal/trace/order.go, type
// ordering). A [Writer] holds the same state, and writes an event only after it has made
// that state such that the event follows. What a stream of events leaves out or
// contradicts is put right with transitions of its own, so the result does not depend on
// the stream being whole.
//
// Facts about the format are from Go 1.26: internal/trace/tracev2/events.go for the events,
// internal/trace/batch.go and generation.go for what is around them,
// internal/trace/order.go for what may follow what.
package gotrace
