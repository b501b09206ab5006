package cli

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/process"
	"gopherscope/internal/seed"
	"gopherscope/internal/target"
)

// A snapshot during which there are too many changes is given up; every change is
// passed on once, in order, and none is kept.
func TestSeedTooFast(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	next := int64(0)
	s := seeder{cancel: cancel, emit: func(e *event.Event) error {
		if e.Time != next {
			t.Fatalf("event %d is number %d", e.Time, next)
		}
		next++
		return nil
	}}
	const more = 10
	for i := range int64(seed.MaxEvents + more) {
		if got := context.Cause(ctx); (got != nil) != (i > seed.MaxEvents) {
			t.Fatalf("after %d events: %v", i, got)
		}
		if err := s.event(&event.Event{Time: i, PID: 5, GoID: 7, From: goruntime.Running, To: goruntime.Runnable}); err != nil {
			t.Fatal(err)
		}
	}
	if !errors.Is(context.Cause(ctx), errTooFast) || !s.full || next != seed.MaxEvents+more {
		t.Errorf("cause %v, %d events passed on", context.Cause(ctx), next)
	}
	if err := s.events.Replay(func(*event.Event) error { return errors.New("kept") }); err != nil {
		t.Error("an event is kept")
	}
}

// A memory that cannot be read is told of, and is no reason not to trace.
func TestSeedUnreadable(t *testing.T) {
	own, err := process.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	cancel(errTooFast)
	tgt, err := target.OpenBinary("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer tgt.Close()
	unreadable := *tgt
	unreadable.Mem, unreadable.Bias = own, 1<<62 // nothing is at its addresses
	if _, err := (processes{&unreadable}).dumps(t.Context()); err == nil {
		t.Error("a memory that is not there is read")
	}
	if _, err := (processes{&unreadable}).dumps(ctx); !errors.Is(err, errTooFast) {
		t.Errorf("given up: %v", err)
	}
	var out bytes.Buffer
	s := session{term: &terminal{Stdio{Err: &out}}}
	s.unseeded(errTooFast)
	if got := out.String(); !strings.HasPrefix(got, "gopherscope: note: ") || strings.Count(got, "\n") != 1 {
		t.Errorf("note %q", got)
	}
}
