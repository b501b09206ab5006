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
	spares bool      // stacks have been left out
	kept   time.Time // when the last Step was
	events int       // since that was last looked at
	paused int64     // since then; 0 when it is not
	gaps   uint64
	gapped time.Duration // the time of the gaps that are over
	unsure bool          // the goroutines have not been read since the last gap
}

func newBudget(s *session, share float64) budget {
	return budget{session: s, share: share, Budget: *engine.NewBudget(share, s.opts.stacks && !s.opts.keepStacks)}
}

// errDear ends a trace that no pause could make cheap enough.
var errDear = errors.New("even a moment of tracing costs more than --max-overhead allows")

// keep does what the budget demands now, and passes a gap on that it ends. It is to be
// called after each poll.
func (b *budget) keep(emit func(*event.Event) error) error {
	verdict, err := b.step()
	if err != nil {
		return err
	}
	if verdict == engine.Resume {
		return b.resume(emit)
	}
	if err := b.obey(verdict); err != nil {
		return err
	}
	if verdict == engine.Pause {
		return b.session.engine.Poll(0, emit)
	}
	switch {
	case b.paused != 0 && b.execs():
		return b.end(emit)
	case b.paused == 0 && b.unsure:
		return b.seedAgain(emit)
	}
	return nil
}

const (
	// overdue is how long a poll may take, that has much to pass on, until the budget is
	// looked at in the middle of it. A target that makes more events than can be passed on
	// would cost what it likes meanwhile.
	overdue = 50 * time.Millisecond
	// eventsALook is after how many events the clock is looked at.
	eventsALook = 256
)

// during keeps the budget in the middle of a poll, which passes its events to the function
// that is returned. A pause ends outside only.
func (b *budget) during(emit func(*event.Event) error) func(*event.Event) error {
	if b.share >= noBudget || b.paused != 0 {
		return emit
	}
	return func(e *event.Event) error {
		if err := emit(e); err != nil {
			return err
		}
		if b.events++; b.events < eventsALook || b.paused != 0 {
			return nil
		}
		if b.events = 0; time.Since(b.kept) < overdue {
			return nil
		}
		verdict, err := b.step()
		if err != nil {
			return err
		}
		return b.obey(verdict)
	}
}

// step tells the budget what there was, and returns what it demands.
func (b *budget) step() (engine.Verdict, error) {
	s := b.session
	b.kept = time.Now()
	if b.share >= noBudget || s.proc == nil {
		return engine.GoOn, nil
	}
	spent, err := b.spending()
	if err != nil {
		return engine.GoOn, err
	}
	if spent.CPU, err = s.proc.CPUTime(); err != nil {
		return engine.GoOn, nil // it has ended, and the session will notice
	}
	now, err := clock.Mono()
	if err != nil {
		return engine.GoOn, err
	}
	return b.Step(now, spent), nil
}

// obey does what the budget demands, but for Resume. What was made before a pause can
// still be polled.
func (b *budget) obey(verdict engine.Verdict) error {
	s := b.session
	switch verdict {
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
			cheaper := ", --engine inline is cheaper"
			if s.engine.Name() == engineInline {
				cheaper = ""
			}
			s.term.notef("note: pausing now and then, as the trace costs the process more than %s of its CPU time; --max-overhead changes that%s", percent(b.share), cheaper)
		}
		now, err := clock.Mono()
		if err != nil {
			return err
		}
		b.paused = now
		return s.engine.Pause()
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
		return b.end(emit)
	}
	err := s.engine.Resume()
	if err != nil && s.proc.Check() != nil {
		err = nil // it has just ended
	}
	if err := errors.Join(err, b.end(emit)); err != nil {
		return err
	}
	return b.seedAgain(emit)
}

// stillGone is how long the memory of a process that executes another program has been gone: when a
// process ends, it is for a moment, too.
const stillGone = 5 * time.Millisecond

// execs says whether the process executes another program, which no probe tells in a pause.
func (b *budget) execs() bool {
	proc := b.session.proc
	if b.session.execs || !errors.Is(proc.Check(), process.ErrExec) {
		return false
	}
	time.Sleep(stillGone)
	return errors.Is(proc.Check(), process.ErrExec) && !proc.Exited()
}

// end passes the gap on that lasts until now, if there is one, and that the process executes
// another program since then.
func (b *budget) end(emit func(*event.Event) error) error {
	if b.paused == 0 || b.session.execs {
		return nil
	}
	now, err := clock.Mono()
	if err != nil {
		return err
	}
	gap := event.Event{Kind: event.Gap, Time: now, Since: b.paused, PID: uint32(b.session.proc.PID())}
	b.gaps++
	b.gapped += time.Duration(now - b.paused)
	b.paused, b.unsure = 0, true
	b.session.read.ripen()
	if err := emit(&gap); err != nil || !b.execs() {
		return err
	}
	return emit(&event.Event{Kind: event.Exec, Time: now, PID: gap.PID, TID: gap.PID})
}

func percent(share float64) string { return strconv.FormatFloat(100*share, 'g', 3, 64) + " %" }
