package cli

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"gopherscope/internal/engine"
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
	if _, err := (processes{&unreadable}).dumps(t.Context(), false); err == nil {
		t.Error("a memory that is not there is read")
	}
	if _, err := (processes{&unreadable}).dumps(ctx, false); !errors.Is(err, errTooFast) {
		t.Errorf("given up: %v", err)
	}
	var out bytes.Buffer
	s := session{term: &terminal{Stdio: Stdio{Err: &out}}}
	s.unseeded(errTooFast)
	if got := out.String(); !strings.HasPrefix(got, "gopherscope: note: ") || strings.Count(got, "\n") != 1 {
		t.Errorf("note %q", got)
	}
}

// scripted is an engine that only polls, as the test says.
type scripted struct {
	engine.Engine
	poll func(wait time.Duration, emit func(*event.Event) error) error
}

func (s scripted) Poll(wait time.Duration, emit func(*event.Event) error) error {
	return s.poll(wait, emit)
}

// emitMany passes on n events.
func emitMany(n int, emit func(*event.Event) error) error {
	for i := range n {
		if err := emit(&event.Event{Time: int64(i), PID: 5, GoID: 7, From: goruntime.Running, To: goruntime.Runnable}); err != nil {
			return err
		}
	}
	return nil
}

// A snapshot that is done is dropped when its events do not fit, and that is told.
func TestSeedTooFastAtTheEnd(t *testing.T) {
	var messages bytes.Buffer
	passed := 0
	s := seeder{emit: func(*event.Event) error { passed++; return nil }}
	s.session = &session{term: &terminal{Stdio: Stdio{Err: &messages}}, engine: scripted{poll: func(wait time.Duration, emit func(*event.Event) error) error {
		if wait > 0 {
			return nil
		}
		return emitMany(seed.MaxEvents+1, emit) // the last poll
	}}}
	if _, err := s.read(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if passed != seed.MaxEvents+1 || strings.Count(messages.String(), errTooFast.Error()) != 1 {
		t.Errorf("%d events passed on, messages %q", passed, &messages)
	}
}

// The events that were kept when the engine fails are passed on, unless they are
// refused.
func TestSeedEngineFails(t *testing.T) {
	tgt, err := target.OpenBinary("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer tgt.Close()
	own, err := process.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	tgt.Mem, tgt.Bias = own, 1<<62 // nothing is at its addresses
	broken, refused := errors.New("broken"), errors.New("refused")
	var messages bytes.Buffer
	s := &session{term: &terminal{Stdio: Stdio{Err: &messages}}, proc: own, target: tgt, engine: scripted{poll: func(_ time.Duration, emit func(*event.Event) error) error {
		return errors.Join(emitMany(3, emit), broken)
	}}}
	passed := 0
	err = s.seed(t.Context(), func(*event.Event) error { passed++; return nil })
	if !errors.Is(err, broken) || passed != 3 {
		t.Errorf("%v, %d events passed on", err, passed)
	}
	passed = 0
	err = s.seed(t.Context(), func(*event.Event) error { passed++; return refused })
	if !errors.Is(err, broken) || !errors.Is(err, refused) || passed != 1 {
		t.Errorf("%v, %d events passed on", err, passed)
	}
}
