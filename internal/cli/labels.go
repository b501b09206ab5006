package cli

import (
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"gopherscope/internal/clock"
	"gopherscope/internal/dump"
	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/labels"
	"gopherscope/internal/snapshot"
)

// sessionLabels adds the pprof labels of goroutines that wait to the events of a session.
type sessionLabels struct {
	reader   *snapshot.LabelReader
	follower *labels.Follower // nil if no labels are wanted, or of several processes
}

// start begins to follow the events that are passed to the result, which passes them on to
// emit.
func (l *sessionLabels) start(s *session, emit func(*event.Event) error) (func(*event.Event) error, error) {
	if !s.opts.stacks || s.opts.noLabels || s.proc == nil {
		return emit, nil
	}
	var err error
	if l.reader, err = snapshot.NewLabelReader(s.target); err != nil {
		return nil, err
	}
	clocks := labels.Clocks{Mono: clock.Mono, CPU: threadTime}
	l.follower = labels.NewFollower(s.proc.PID(), l.reader, clocks, emit)
	return l.follower.Event, nil
}

// threadTime is the CPU time of this thread, ns.
func threadTime() (int64, error) {
	var t unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
	return t.Nano(), err
}

// polled emits what is proved, now that every event before upTo (CLOCK_MONOTONIC, ns) has been
// passed on, and reads more if the trace goes on.
func (l *sessionLabels) polled(upTo int64, goesOn bool) error {
	if l.follower == nil {
		return nil
	}
	if err := l.follower.Settle(upTo); err != nil || !goesOn {
		return err
	}
	runtime.LockOSThread() // for threadTime
	defer runtime.UnlockOSThread()
	return l.follower.Round()
}

// seeded returns what emits the labels of a goroutine that waits in a snapshot, after its event of kind Snapshot, if
// the goroutine has not changed from the time of that until it was read. One whose labels the snapshot does not have is read
// like others later.
func (l *sessionLabels) seeded(d *dump.Dump, emit func(*event.Event) error) func(*event.Event) error {
	if l.follower == nil {
		return func(*event.Event) error { return nil }
	}
	sets := map[dump.LabelsID]*event.LabelSet{}
	return func(e *event.Event) error {
		g := l.known(d, e)
		if g == nil {
			return nil
		}
		set := sets[g.Labels]
		if set == nil {
			set = snapshot.LabelSet(d.Labels[g.Labels])
			sets[g.Labels] = set
		}
		return emit(&event.Event{Kind: event.Labels, Time: e.Time, PID: e.PID, GoID: e.GoID, Labels: set})
	}
}

// known is the goroutine of an event in a snapshot, if it waits and has labels there. The reader learns
// where it is.
func (l *sessionLabels) known(d *dump.Dump, e *event.Event) *dump.Goroutine {
	i, ok := slices.BinarySearchFunc(d.Goroutines, e.GoID, func(g dump.Goroutine, id uint64) int {
		switch {
		case g.ID < id:
			return -1
		case g.ID > id:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	g := &d.Goroutines[i]
	l.reader.Know(g.ID, g.Addr)
	waits := e.To == goruntime.Waiting && !e.Fake || e.To == goruntime.Leaked || e.To == goruntime.Syscall
	if !waits || g.Labels == 0 || g.Source == dump.SourceTorn {
		return nil
	}
	return g
}
