package cli

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"gopherscope/internal/clock"
	"gopherscope/internal/engine"
	"gopherscope/internal/event"
	"gopherscope/internal/process"
)

// defaultOverhead is the budget of a trace of a process that was running before. A
// program that is launched for the trace has none.
const defaultOverhead = "25%"

// noBudget is the share of a trace that may cost what it takes.
const noBudget = 1

// overhead is the share that --max-overhead names.
func overhead(text string, op operand) (float64, error) {
	switch {
	case text == "" && (op.command != nil || op.exe != ""), text == "off":
		return noBudget, nil
	case text == "":
		text = defaultOverhead
	case op.exe != "":
		return 0, usagef("--max-overhead is for one process, not for --exe")
	}
	digits, ok := strings.CutSuffix(text, "%")
	percent, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || !(percent > 0 && percent <= 100) {
		return 0, usagef("--max-overhead %q is neither a share such as 5%% nor off", text)
	}
	return percent / 100, nil
}

// budget leaves out stacks and pauses a session when it costs the target too much, and
// makes it go on.
type budget struct {
	session *session
	engine.Budget
	share  float64
	spares bool  // stacks have been left out
	paused int64 // since then; 0 when it is not
	gaps   uint64
	gapped time.Duration // the time of the gaps that are over
}

func newBudget(s *session, share float64) budget {
	return budget{session: s, share: share, Budget: *engine.NewBudget(share, s.opts.stacks)}
}

// errDear ends a trace that no pause could make cheap enough.
var errDear = errors.New("even a moment of tracing costs more than --max-overhead allows")

// keep does what the budget demands now, and passes a gap on that it ends. It is to be
// called after each poll.
func (b *budget) keep(emit func(*event.Event) error) error {
	s := b.session
	if b.share >= noBudget || s.proc == nil {
		return nil
	}
	spent, err := b.spending()
	if err != nil {
		return err
	}
	if spent.CPU, err = s.proc.CPUTime(); err != nil {
		return nil // it has ended, and the session will notice
	}
	now, err := clock.Mono()
	if err != nil {
		return err
	}
	switch b.Step(now, spent) {
	case engine.DropStacks:
		if !b.spares {
			s.term.notef("note: doing without stacks now and then, as with them the trace costs the process more than %s of its CPU time; --max-overhead changes that", percent(b.share))
		}
		b.spares = true
		return s.engine.TakeStacks(false)
	case engine.TakeStacks:
		return s.engine.TakeStacks(true)
	case engine.Pause:
		if b.gaps == 0 {
			s.term.notef("note: pausing now and then, as the trace costs the process more than %s of its CPU time; --max-overhead changes that, --engine inline is cheaper", percent(b.share))
		}
		b.paused = now
		if err := s.engine.Pause(); err != nil {
			return err
		}
		return s.engine.Poll(0, emit)
	case engine.Resume:
		return b.resume(emit)
	case engine.GiveUp:
		return errDear
	}
	return nil
}

// spending is what the trace has cost so far.
func (b *budget) spending() (engine.Spending, error) {
	cost, err := b.session.engine.Cost()
	if err != nil {
		return engine.Spending{}, err
	}
	spent := engine.Spending{Cost: cost.Total, Stacks: cost.OfStacks(cost.Hits.Stacks)}
	if !b.spares {
		return spent, nil
	}
	stats, err := b.session.engine.Stats()
	spent.Spared = cost.OfStacks(stats.NoStack.Budget)
	return spent, err
}

// resume ends a pause, unless the process executes another program by now.
func (b *budget) resume(emit func(*event.Event) error) error {
	s := b.session
	if err := s.proc.Check(); errors.Is(err, process.ErrExec) || errors.Is(err, process.ErrExited) {
		s.execs = s.execs || errors.Is(err, process.ErrExec)
		return b.end(emit)
	}
	err := s.engine.Resume()
	if err != nil && s.proc.Check() != nil {
		err = nil // it has just ended
	}
	return errors.Join(err, b.end(emit))
}

// end passes the gap on that lasts until now, if there is one.
func (b *budget) end(emit func(*event.Event) error) error {
	if b.paused == 0 {
		return nil
	}
	now, err := clock.Mono()
	if err != nil {
		return err
	}
	gap := event.Event{Kind: event.Gap, Time: now, Since: b.paused, PID: uint32(b.session.proc.PID())}
	b.gaps++
	b.gapped += time.Duration(now - b.paused)
	b.paused = 0
	return emit(&gap)
}

func percent(share float64) string { return strconv.FormatFloat(100*share, 'g', 3, 64) + " %" }
