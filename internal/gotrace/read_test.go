package gotrace_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"golang.org/x/exp/trace"

	"gopherscope/internal/event"
	"gopherscope/internal/gotrace"
	"gopherscope/internal/gstate"
	"gopherscope/internal/stream"
)

// noStack is for streams whose events name no stacks.
func noStack(uint32) []event.Location { return nil }

// write translates a stream.
func write(t testing.TB, info *stream.Info, stack func(uint32) []event.Location, events []event.Event) []byte {
	t.Helper()
	return writeParts(t, info, stack, events, 1<<20)
}

// writeParts translates a stream, in generations of at least so many bytes.
func writeParts(t testing.TB, info *stream.Info, stack func(uint32) []event.Location, events []event.Event, size int64) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gotrace.New(&b, info, stack)
	w.SetGeneration(size)
	states := gstate.NewTracker()
	for i := range events {
		if err := w.Event(&events[i], states.Apply(&events[i])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// read reads a trace to its end, as every tool for the format does.
func read(data []byte) ([]trace.Event, error) {
	r, err := trace.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	var events []trace.Event
	for {
		ev, err := r.ReadEvent()
		if errors.Is(err, io.EOF) {
			return events, nil
		}
		if err != nil {
			return events, err
		}
		events = append(events, ev)
	}
}
