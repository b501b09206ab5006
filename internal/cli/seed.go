package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gopherscope/internal/clock"
	"gopherscope/internal/dump"
	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/process"
	"gopherscope/internal/seed"
	"gopherscope/internal/snapshot"
	"gopherscope/internal/target"
)

// seedInterval is how long the end of a snapshot may stay unnoticed. Until then no
// budget is kept.
const seedInterval = 5 * time.Millisecond

// What ends a snapshot early.
var (
	errTooFast = errors.New("too many changes while they were read")
	errEnded   = errors.New("the trace ended while they were read")
)

// seed passes the goroutines to emit that are there when the trace begins, and
// then the events that were made until it knew them. When they cannot be read it
// says so, and the trace goes on without: no event is lost for them.
func (s *session) seed(ctx context.Context, emit func(*event.Event) error) error {
	if s.launched != nil {
		return nil // nothing was there at its first instruction
	}
	present, err := s.present()
	defer s.closeOthers(present)
	if err != nil {
		s.unseeded(err)
		return nil
	}
	seeder := s.seeder(emit)
	return seeder.run(ctx, present)
}

// unseeded tells that goroutines that were there before are not known.
func (s *session) unseeded(err error) {
	s.term.notef("note: the goroutines that were there before are not known until they change: %v", err)
}

// seeder is what session.seed works with.
type seeder struct {
	session *session
	emit    func(*event.Event) error
	events  seed.Buffer
	full    bool // the events are passed on at once
	refused bool // emit returned an error
	again   bool // it is not the first time, and nothing is said of it
	bare    bool // without stacks, although the trace has them
	known   bool // goroutines have been told of
	cancel  context.CancelCauseFunc
}

// seeder makes one for the first time.
func (s *session) seeder(emit func(*event.Event) error) *seeder {
	one := &seeder{session: s, emit: emit}
	if s.proc != nil {
		one.events.Waits = &s.waits
	}
	return one
}

// reader makes one for another time, which does not say that goroutines are not known; bare is
// without their stacks.
func (s *session) reader(emit func(*event.Event) error, bare bool) *seeder {
	one := s.seeder(emit)
	one.again, one.bare = true, bare
	return one
}

// run takes the snapshots, and passes on what was there and what was made meanwhile.
func (s *seeder) run(ctx context.Context, present processes) error {
	begin, err := clock.Mono()
	if err != nil {
		return err
	}
	dumps, err := s.read(ctx, present)
	if err == nil {
		err = s.seeds(dumps, begin)
	}
	if !s.refused {
		err = errors.Join(err, s.events.Replay(s.emit)) // also when the engine failed: they were made
	}
	end, clockErr := clock.Mono()
	s.session.read.note(begin, end, s.bare)
	return errors.Join(err, clockErr)
}

// unseeded tells the same as session.unseeded, the first time.
func (s *seeder) unseeded(err error) {
	if !s.again {
		s.session.unseeded(err)
	}
}

// read takes the snapshots, while the engine is polled so that its ring does not
// overflow, and drains the ring once they are done.
func (s *seeder) read(ctx context.Context, present processes) ([]*dump.Dump, error) {
	ctx, s.cancel = context.WithCancelCause(ctx)
	defer s.cancel(nil)
	type result struct {
		dumps []*dump.Dump
		err   error
	}
	results := make(chan result, 1)
	go func() {
		dumps, err := present.dumps(ctx, s.session.opts.stacks && !s.bare)
		results <- result{dumps, err}
	}()
	for {
		if err := s.session.engine.Poll(seedInterval, s.event); err != nil {
			s.cancel(err)
			<-results // it uses what the caller closes
			return nil, err
		}
		select {
		case r := <-results:
			if r.err != nil {
				s.unseeded(r.err)
			}
			err := s.session.engine.Poll(0, s.event)
			if !s.full {
				return r.dumps, err
			}
			// Events were passed on that belong after the dumps.
			if r.err == nil && err == nil {
				s.unseeded(errTooFast)
			}
			return nil, err
		default:
		}
	}
}

// event keeps an event. When there are too many it gives up the snapshot rather
// than memory or events.
func (s *seeder) event(e *event.Event) error {
	if !s.full && s.events.Add(e) {
		return nil
	}
	if !s.full {
		s.full = true
		s.cancel(errTooFast)
		kept := s.events
		s.events = seed.Buffer{Waits: kept.Waits}
		if err := kept.Replay(s.pass); err != nil {
			return err
		}
	}
	return s.pass(e)
}

// pass is emit, and notes whether that refused.
func (s *seeder) pass(e *event.Event) error {
	err := s.emit(e)
	s.refused = s.refused || err != nil
	return err
}

// seeds passes on the goroutines that were there at begin.
func (s *seeder) seeds(dumps []*dump.Dump, begin int64) error {
	var states [32]int
	total := 0
	s.known = len(dumps) > 0
	for _, d := range dumps {
		stacks := uint32(0)
		if d.HasStacks {
			stacks = 1
		}
		label := s.session.labels.seeded(d, s.pass)
		err := s.events.Seeds(d, begin, stacks, func(e *event.Event, changed bool) error {
			if e.Stack != 0 {
				e.Stack = s.session.seeded.add(&d.Stacks[e.Stack-stacks])
			}
			if !changed {
				s.session.engine.Seed(e)
			}
			total++
			states[int(e.To)%len(states)]++
			if err := s.pass(e); err != nil || changed {
				return err
			}
			return label(e)
		})
		if err == nil && s.again {
			err = s.census(d, begin)
		}
		if err != nil {
			return err
		}
	}
	if total == 0 || s.again {
		return nil
	}
	var by []string
	for state, n := range states {
		if n > 0 {
			by = append(by, fmt.Sprintf("%d %s", n, goruntime.Status(state).Name()))
		}
	}
	s.session.term.notef("goroutines that were there before: %d (%s)", total, strings.Join(by, ", "))
	return nil
}

// census says that all goroutines have been told of, if they have: those that could not be
// read are not in a dump, unless they were seen to be there.
func (s *seeder) census(d *dump.Dump, begin int64) error {
	if d.Unread > 0 || s.events.Ended(uint32(d.PID)) {
		return nil
	}
	return s.pass(&event.Event{Kind: event.Census, Time: begin, PID: uint32(d.PID)})
}

// processes are those whose goroutines are read. They share the session's binary.
type processes []*target.Target

// closeOthers releases the processes but the session's own.
func (s *session) closeOthers(ps processes) {
	for _, t := range ps {
		if t != s.target {
			t.Proc.Close()
		}
	}
}

// dumps takes a snapshot of each process that is still there. On an error, which
// does not come with any, the goroutines of none are known.
func (ps processes) dumps(ctx context.Context, stacks bool) ([]*dump.Dump, error) {
	var dumps []*dump.Dump
	for _, t := range ps {
		d, err := snapshot.Take(ctx, t, &snapshot.Options{Clock: clock.Mono, Stacks: stacks})
		switch cause := context.Cause(ctx); {
		case errors.Is(cause, errTooFast):
			return nil, cause
		case cause != nil:
			return nil, errEnded
		}
		if errors.Is(err, process.ErrExited) || errors.Is(err, process.ErrExec) {
			continue // as is its goroutines
		}
		if err != nil {
			return nil, err
		}
		dumps = append(dumps, d)
	}
	return dumps, nil
}

// present lists the processes that were there before, and makes the engine follow
// them. The caller must close them (closeOthers), also after an error.
func (s *session) present() (processes, error) {
	if s.proc != nil {
		return processes{s.target}, nil
	}
	var st unix.Stat_t
	if err := unix.Stat(s.target.Bin.Path(), &st); err != nil {
		return nil, fmt.Errorf("stat executable: %w", err)
	}
	entries, _, err := process.List()
	if err != nil {
		return nil, err
	}
	var ps processes
	for _, e := range entries {
		if e.Exe != (process.FileID{Dev: st.Dev, Inode: st.Ino}) {
			continue
		}
		t, err := s.follow(e)
		if errors.Is(err, process.ErrNoProcess) || errors.Is(err, process.ErrExited) || errors.Is(err, process.ErrExec) {
			continue
		}
		if err != nil {
			return ps, err
		}
		ps = append(ps, t)
	}
	return ps, nil
}

// follow makes the engine trace a process of the binary from now on.
func (s *session) follow(e process.Entry) (*target.Target, error) {
	p, err := process.Open(e.PID)
	if err != nil {
		return nil, err
	}
	t := &target.Target{Proc: p, Bin: s.target.Bin, Layout: s.target.Layout, Reasons: s.target.Reasons}
	bias, err := p.LoadBias(target.Segments(t.Bin))
	if err == nil {
		err = t.UseMemory(p, bias)
	}
	if err == nil {
		err = s.engine.Follow(e.PID)
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return t, nil
}
