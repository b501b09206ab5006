package cli

import (
	"context"
	"errors"
	"time"

	"gopherscope/internal/clock"
	"gopherscope/internal/event"
	"gopherscope/internal/gstate"
	"gopherscope/internal/report"
	"gopherscope/internal/stream"
)

// checkDuration refuses a --duration that leaves no time. given says that the flag is there:
// without it a trace has no end of its own.
func checkDuration(d time.Duration, given bool) error {
	switch {
	case d < 0:
		return usagef("--duration %s is negative", d)
	case d == 0 && given:
		return usagef("--duration 0 leaves no time to trace; without it a trace ends with the process")
	}
	return nil
}

// openSource begins the trace of an operand, which ends after the duration if that is not
// 0. The caller must Close what it returns.
func openSource(t *terminal, op operand, o engineOptions, duration time.Duration) (stream.Source, error) {
	if op.recording != "" {
		s, err := openRecording(t, op.recording, o, duration)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	l, err := startLive(t, op, o, duration)
	if err != nil {
		return nil, err
	}
	return l, nil
}

// liveSource is the trace of a live process.
type liveSource struct {
	session  *session
	clock    *clock.Clock
	duration time.Duration
	info     stream.Info
}

var (
	_ stream.Source  = (*liveSource)(nil)
	_ stream.Pausing = (*liveSource)(nil)
)

func startLive(t *terminal, op operand, o engineOptions, duration time.Duration) (*liveSource, error) {
	clk, err := clock.New()
	if err != nil {
		return nil, err
	}
	s, err := startSession(t, op, o)
	if err != nil {
		return nil, err
	}
	l := &liveSource{session: s, clock: clk, duration: duration}
	if err := l.describe(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return l, nil
}

// describe fills in the info. What is not known of the process is left out.
func (l *liveSource) describe() error {
	begin, err := clock.Mono()
	if err != nil {
		return err
	}
	begin -= int64(time.Since(l.session.started))
	bin := l.session.target.Bin
	l.session.upTo = begin
	l.info = stream.Info{
		Engine: l.session.engine.Name(), GoVersion: bin.Version().Text, Arch: string(bin.Arch()),
		Procs: l.session.target.Procs(), Stacks: l.session.opts.stacks, Begin: begin, Wall: l.clock.Wall(begin),
	}
	if p := l.session.proc; p != nil {
		l.info.PID = p.PID()
		l.info.Exe, _, _ = p.Exe()
		l.info.Command, _ = p.Args()
	}
	return nil
}

// Info implements stream.Source.
func (l *liveSource) Info() *stream.Info { return &l.info }

// Run implements stream.Source.
func (l *liveSource) Run(ctx context.Context, emit func(*event.Event) error, tick func(now int64) error) error {
	err := l.session.run(ctx, l.duration, emit, func() error {
		if err := l.clock.Refresh(); err != nil {
			return err
		}
		if l.info.Procs == 0 { // a program that was launched has none at first
			l.info.Procs = l.session.target.Procs()
		}
		return tick(l.session.upTo)
	})
	if err != nil { // perhaps of emit, in the middle of a reading
		l.session.upTo = max(l.session.upTo, l.session.latest)
	}
	return err
}

// Stack implements stream.Source.
func (l *liveSource) Stack(id uint32) []event.Location {
	if id >= firstSeeded {
		return l.session.seeded.stack(id)
	}
	return l.session.engine.Stack(id)
}

// Wall implements stream.Source.
func (l *liveSource) Wall(mono int64) int64 { return l.clock.Wall(mono) }

// Totals implements stream.Source.
func (l *liveSource) Totals() (stream.Totals, error) {
	b := &l.session.budget
	t := stream.Totals{Now: l.session.upTo, TargetCPU: l.session.cpuUsed(), Gaps: b.gaps, Paused: b.gapped}
	stats, err := l.session.engine.Stats()
	if err != nil {
		return t, err
	}
	t.Lost, t.NoStack = stats.Lost, stats.NoStack
	t.Cost, err = l.session.engine.Cost()
	return t, err
}

// PausedSince implements stream.Pausing.
func (l *liveSource) PausedSince() int64 { return l.session.budget.paused }

// Close implements stream.Source.
func (l *liveSource) Close() error { return l.session.close() }

// summarize counts what a trace did so far. What is not known is left out, and said.
func summarize(t *terminal, src stream.Source, states *gstate.Tracker, events uint64) *report.Summary {
	info := src.Info()
	totals, err := src.Totals()
	if err != nil {
		t.notef("warning: what was lost and what it cost is not known: %v", err)
	}
	return &report.Summary{
		Engine: info.Engine, GoVersion: info.GoVersion,
		Duration: time.Duration(max(0, totals.Now-info.Begin)),
		Events:   events, Violations: states.Violations(), Goroutines: states.Goroutines(), Seeded: states.Seeded(),
		Lost: totals.Lost, NoStack: totals.NoStack, Cost: totals.Cost, TargetCPU: totals.TargetCPU, Gaps: totals.Gaps, Paused: totals.Paused,
	}
}
