package cli

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"gopherscope/internal/clock"
	"gopherscope/internal/engine"
	"gopherscope/internal/event"
	"gopherscope/internal/process"
	"gopherscope/internal/seed"
	"gopherscope/internal/target"
)

// session is a running trace of one operand, from attach to detach.
type session struct {
	term     *terminal
	proc     *process.Process  // nil with --exe
	launched *process.Launched // nil unless we started it
	target   *target.Target
	engine   engine.Engine
	started  time.Time
	latest   int64         // the time of the latest event: CLOCK_MONOTONIC, ns
	upTo     int64         // every event made before has been passed on: CLOCK_MONOTONIC, ns
	cpu      time.Duration // of the target when the trace began
	execs    bool          // the target executes another program now
	opts     engineOptions
	budget   budget
	seeded   seededStacks
	read     reading // of goroutines
	waits    seed.Waits
	labels   sessionLabels
}

// startSession opens and validates the operand, launches it if it is a
// command, and attaches. Nothing stays attached or running after an error.
func startSession(t *terminal, op operand, o engineOptions) (*session, error) {
	share, err := overhead(o.overhead, op)
	if err != nil {
		return nil, err
	}
	s := &session{term: t, opts: o}
	s.budget = newBudget(s, share)
	if err := s.start(op); err != nil {
		return nil, errors.Join(err, s.abandon())
	}
	return s, nil
}

func (s *session) start(op operand) error {
	if err := s.open(op); err != nil {
		return err
	}
	for _, note := range s.target.Notes {
		s.term.notef("note: %s", note)
	}
	eng, err := s.attach()
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	s.engine = eng
	s.started = time.Now()
	if s.proc != nil {
		s.cpu, _ = s.proc.CPUTime()
	}
	if s.launched != nil {
		if err := s.launched.Resume(); err != nil {
			return fmt.Errorf("start %s: %w", op.command[0], err)
		}
	}
	return nil
}

// open finds the operand's process and reads its binary.
func (s *session) open(op operand) error {
	var err error
	switch {
	case op.exe != "":
		s.target, err = target.OpenBinary(op.exe)
		return err
	case op.command != nil:
		if s.launched, err = process.Launch(op.command, nil); err != nil {
			return err
		}
		s.proc = s.launched.Process
	default:
		if s.proc, err = process.Open(op.pid); err != nil {
			return err
		}
	}
	s.target, err = target.Open(s.proc)
	return err
}

// run passes the goroutines that are there to emit, and then events until the
// context ends, the duration since the attachment is over (0: it never is), the
// target ends, or emit or polled return an error, which is returned. Events that
// were made before the end are all passed on. The duration does not cut the
// reading of the goroutines short.
func (s *session) run(ctx context.Context, duration time.Duration, emit func(*event.Event) error, polled func() error) error {
	emit, err := s.labels.start(s, emit)
	if err != nil {
		return err
	}
	watch := func(e *event.Event) error {
		if s.execs {
			return nil // it is of the other program, or the engine and the budget have both seen that
		}
		s.execs = e.Kind == event.Exec && s.proc != nil
		s.latest = max(s.latest, e.Time)
		return emit(e)
	}
	if err := s.seed(ctx, watch); err != nil {
		return err
	}
	s.advise()
	s.restrict()
	if duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, s.started.Add(duration))
		defer cancel()
	}
	end := s.awaitEnd()
	for {
		last := s.execs || end.Load() != 0
		select {
		case <-ctx.Done():
			last = true
		default:
		}
		wait := min(pollInterval, s.budget.Next())
		if limit, ok := ctx.Deadline(); ok {
			wait = max(0, min(wait, time.Until(limit)))
		}
		err := s.poll(wait, last, watch)
		if errors.Is(err, errDear) {
			s.term.notef("stopped: %v", err)
			err, last = s.poll(0, true, watch), true
		}
		if err == nil {
			err = s.labels.polled(s.upTo, !last && s.budget.paused == 0)
		}
		if at := end.Load(); err == nil && last && at != 0 && !s.execs {
			err = emit(&event.Event{Kind: event.Exit, Time: max(at, s.latest), PID: uint32(s.proc.PID())})
		}
		if err != nil {
			return err
		}
		if err := polled(); err != nil || last {
			return err
		}
	}
}

// awaitEnd notes when the process ends: CLOCK_MONOTONIC, ns; 0 as long as it has not.
func (s *session) awaitEnd() *atomic.Int64 {
	var end atomic.Int64
	if s.proc == nil {
		return &end
	}
	go func() {
		if s.proc.Wait(context.Background()) != nil {
			return // it is let go of before
		}
		if now, err := clock.Mono(); err == nil {
			end.Store(now)
		}
	}()
	return &end
}

// poll passes the events on that were made before now, and keeps the budget. The last
// time it ends the trace first.
func (s *session) poll(wait time.Duration, last bool, emit func(*event.Event) error) error {
	if last {
		wait = 0
		if err := s.budget.ending(emit); err != nil {
			return err
		}
		if err := s.engine.Stop(); err != nil {
			return err
		}
	}
	now, err := clock.Mono()
	if err != nil {
		return err
	}
	if last {
		if err := s.engine.Poll(wait, emit); err != nil {
			return err
		}
		s.upTo = now
		return s.budget.finish(emit)
	}
	if err := s.engine.Poll(wait, s.budget.during(emit)); err != nil {
		return err
	}
	s.upTo = now
	if s.execs {
		return nil
	}
	return s.budget.keep(emit)
}

// cpuUsed is the CPU time of the target since the trace began; 0 if unknown.
func (s *session) cpuUsed() time.Duration {
	if s.proc == nil {
		return 0
	}
	if now, err := s.proc.CPUTime(); err == nil {
		return now - s.cpu
	}
	if s.launched == nil || !s.proc.Exited() {
		return 0
	}
	<-s.launched.Ended()
	if state := s.launched.State(); state != nil {
		return state.UserTime() + state.SystemTime() - s.cpu
	}
	return 0
}

// launchedGrace is how long a program that we launched may take to end when
// asked to.
const launchedGrace = 5 * time.Second

// close detaches and, if we launched the target and it still runs, ends it.
func (s *session) close() error {
	var errs []error
	if s.engine != nil {
		errs = append(errs, s.engine.Close())
	}
	if s.launched != nil {
		if !s.launched.Exited() {
			s.term.notef("ending the program that was launched (PID %d)", s.launched.PID())
			s.launched.Terminate(launchedGrace)
		}
		<-s.launched.Ended()
	}
	return errors.Join(append(errs, s.release())...)
}

// abandon is close for a session that did not start: a launched program has not
// run yet and is killed.
func (s *session) abandon() error {
	var errs []error
	if s.engine != nil {
		errs = append(errs, s.engine.Close())
	}
	if s.launched != nil {
		s.launched.Kill()
	}
	return errors.Join(append(errs, s.release())...)
}

func (s *session) release() error {
	var errs []error
	if s.target != nil {
		errs = append(errs, s.target.Close())
	}
	if s.proc != nil {
		errs = append(errs, s.proc.Close())
	}
	return errors.Join(errs...)
}
