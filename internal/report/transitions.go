package report

import (
	"io"

	"gopherscope/internal/event"
	"gopherscope/internal/gstate"
)

// Transitions writes a stream of events.
type Transitions interface {
	// Event writes one event and what is known beyond it, where the format has a
	// line for it. The line may stay in a buffer until Flush.
	Event(e *event.Event, c gstate.Change) error
	// Stacks says what stack an event's number stands for, innermost frame first.
	// Without it no stacks are written.
	Stacks(stack func(id uint32) []event.Location)
	// Summary writes the end of the stream, where the format has one.
	Summary(s *Summary) error
	// Flush hands everything to the underlying writer.
	Flush() error
}

// Clock gives the wall-clock time of a CLOCK_MONOTONIC reading.
type Clock interface {
	// Wall is the Unix time, in nanoseconds, of the monotonic time mono.
	Wall(mono int64) int64
}

// bufferSize holds the lines of one poll at a high rate.
const bufferSize = 256 << 10

// buffer collects lines. After a write error it stays empty and keeps the error.
type buffer struct {
	w   io.Writer
	b   []byte
	err error

	stack func(id uint32) []event.Location // nil without stacks
}

// Stacks implements Transitions.
func (b *buffer) Stacks(stack func(id uint32) []event.Location) { b.stack = stack }

// stackOf is the event's stack; nil if it has none.
func (b *buffer) stackOf(e *event.Event) []event.Location {
	if b.stack == nil || e.Stack == 0 {
		return nil
	}
	return b.stack(e.Stack)
}

func (b *buffer) line(p []byte) error {
	b.b = p
	if len(b.b) >= bufferSize {
		return b.Flush()
	}
	return b.err
}

// Flush implements Transitions.
func (b *buffer) Flush() error {
	if len(b.b) > 0 && b.err == nil {
		_, b.err = b.w.Write(b.b)
	}
	b.b = b.b[:0]
	return b.err
}
