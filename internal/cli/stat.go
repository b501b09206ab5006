package cli

import (
	"context"
	"errors"
	"io"
	"math"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"gopherscope/internal/engine"
	"gopherscope/internal/event"
	"gopherscope/internal/gstate"
	"gopherscope/internal/report"
	"gopherscope/internal/stream"
	"gopherscope/internal/summary"
)

// statOptions are the choices of gopherscope stat.
type statOptions struct {
	operand  operand
	duration time.Duration
	interval time.Duration // 0 for one page of all
	line     bool
	engine   engineOptions
	json     bool
	output   string
	top      int
}

// shortestInterval is what the events of a live process, which are asked for some 20
// times a second, are good for.
const shortestInterval = 100 * time.Millisecond

func newStat(t *terminal) *cobra.Command {
	var o statOptions
	var exe string
	cmd := &cobra.Command{
		Use:   "stat [flags] PID | --exe FILE | -- COMMAND [ARG...]",
		Short: "Say on one page where the time of all goroutines goes",
		Long: `Say on one page where the time of all goroutines of a live Go process goes:
in which states they are, how long those that want to run wait for it, what the
others wait for and which code put them there, stops of the world, system calls,
who wakes whom.

Every change counts: nothing is sampled. Times in states add up to the lifetimes
of the goroutines. A wait that began before the trace counts from its start and is
marked with >=.

Ends on Ctrl-C, after -d, or with the process. With -i there is a page each
interval, of what happened in it; --line makes that one line.`,
		Example: `  gopherscope stat -d 10s 1234
  gopherscope stat -i 1s --line 1234
  gopherscope stat --engine inline --stacks -d 10s 1234
  gopherscope stat --json -d 10s 1234 | jq .sched.p99_ns
  gopherscope stat -- ./prog -flag`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if o.operand, err = parseOperand(args, cmd.ArgsLenAtDash(), exe); err != nil {
				return err
			}
			if err := o.check(cmd.Flags().Changed); err != nil {
				return err
			}
			return runStat(cmd.Context(), t, &o)
		},
	}
	fl := cmd.Flags()
	fl.DurationVarP(&o.duration, "duration", "d", 0, "stop after this time, such as 10s (default: until the process ends)")
	fl.DurationVarP(&o.interval, "interval", "i", 0, "a page each such time, such as 1s, of what happened in it (default: one page of all)")
	fl.BoolVar(&o.line, "line", false, "one line instead of a page; needs --interval")
	fl.BoolVar(&o.json, "json", false, "one JSON object a page, each on a line")
	fl.StringVarP(&o.output, "output", "o", "", "write to this file instead of standard output")
	fl.IntVar(&o.top, "top", 10, "rows of each table at most")
	fl.StringVar(&exe, "exe", "", "all processes of this executable together")
	o.engine.flags(fl)
	o.engine.noLabels = true
	fl.BoolVar(&o.engine.stacks, "stacks", false, "name the function that waits, not the one that the goroutine began at; costs more")
	fl.SortFlags = false
	return cmd
}

// check refuses what makes no sense.
func (o *statOptions) check(given func(flag string) bool) error {
	if err := checkDuration(o.duration, given("duration")); err != nil {
		return err
	}
	switch {
	case given("interval") && o.interval < shortestInterval:
		return usagef("--interval %s is shorter than %s", o.interval, shortestInterval)
	case o.line && o.interval == 0:
		return usagef("--line needs --interval")
	case o.line && o.json:
		return usagef("--line and --json are two forms: choose one")
	case o.top < 1:
		return usagef("--top %d is less than 1", o.top)
	}
	return o.engine.check()
}

// runStat writes what was collected also when something failed.
func runStat(ctx context.Context, t *terminal, o *statOptions) (err error) {
	if err := checkOutput(o.output, o.operand.recording); err != nil {
		return err
	}
	src, err := openSource(t, o.operand, o.engine, o.duration)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	out, err := openOutput(o.output, t.Out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()

	if o.interval == 0 || columns(t.Out) == 0 || o.output != "" {
		t.patience("adding up", o.operand, o.duration)
	}
	st := newStatter(t, o, src, out)
	runErr := src.Run(ctx, st.event, st.tick)
	if !st.refused {
		runErr = errors.Join(runErr, st.finish())
	}
	t.notef("%s", summarize(t, src, st.states, st.events).Text())
	return outputError(runErr, o.output)
}

// statter makes pages of a trace.
type statter struct {
	term    *terminal
	opts    *statOptions
	src     stream.Source
	states  *gstate.Tracker
	sum     *summary.Summary
	out     report.Stats
	sink    io.Writer     // what out writes to
	before  stream.Totals // at the last page
	next    int64         // when the next page is due: CLOCK_MONOTONIC, ns; 0 without an interval
	last    int64         // from then on no page is due but the last, which has what little time is over
	ticked  int64         // the last tick
	told    int64         // up to when the pages have a pause of which the Gap is still to come; CLOCK_MONOTONIC, ns
	gaps    uint64        // that are over
	events  uint64
	refused bool // out takes no more
}

func newStatter(t *terminal, o *statOptions, src stream.Source, out io.Writer) *statter {
	info := src.Info()
	st := &statter{term: t, opts: o, src: src, states: gstate.NewTracker(), sink: out, out: report.NewStatText(out)}
	switch {
	case o.json:
		st.out = report.NewStatJSON(out)
	case o.line:
		st.out = report.NewStatLine(out)
	}
	st.sum = summary.New(info.Begin, summary.Options{Top: o.top, Stack: src.Stack})
	st.last = math.MaxInt64
	if o.interval > 0 {
		st.next = info.Begin + int64(o.interval)
	}
	if o.duration > 0 {
		st.last = later(info.Begin, o.duration)
	}
	return st
}

// event counts an event, after the pages that are due before it.
func (st *statter) event(e *event.Event) error {
	if st.next != 0 && e.Time >= st.next {
		since := int64(0)
		if e.Kind == event.Gap {
			since = e.Since
		}
		if err := st.cut(e.Time, since); err != nil {
			return err
		}
	}
	c := st.states.Apply(e)
	switch e.Kind {
	case event.Transition:
		st.events++
	case event.Gap:
		st.gaps++
		st.gap(e.Since, e.Time, e.PID)
		return nil
	}
	st.sum.Event(e, c)
	return nil
}

// gap counts what is not counted yet of a pause.
func (st *statter) gap(since, until int64, pid uint32) {
	e := event.Event{Kind: event.Gap, Since: max(since, st.told), Time: until, PID: pid}
	st.told = until
	st.sum.Event(&e, nil)
}

// tick is called when every event before now has been counted. Whether the trace paused at the
// end of an interval is not known yet if it does not say so: then the page waits for the next
// event, or for as long as a pause can last.
func (st *statter) tick(now int64) error {
	st.ticked = now
	known, since := now, int64(0)
	if src, ok := st.src.(stream.Pausing); ok {
		since = src.PausedSince()
	} else {
		known -= int64(engine.LongestPause)
	}
	if err := st.cut(known, since); err != nil {
		return err
	}
	if st.next == 0 || now < st.next {
		st.sum.Advance(now)
	}
	if readerGone(st.sink) {
		st.refused = true
		return unix.EPIPE
	}
	return nil
}

// cut ends all intervals up to now. They go by event time alone, so that those of a
// recording are those that were seen live. With since, nothing was traced since then.
func (st *statter) cut(now, since int64) error {
	for st.next != 0 && now >= st.next && st.next < st.last {
		if since != 0 && since < st.next {
			st.gap(since, st.next, uint32(st.src.Info().PID))
		}
		st.sum.Advance(st.next)
		if err := st.page(); err != nil {
			return err
		}
		st.sum.Reset()
		st.next += int64(st.opts.interval)
	}
	return nil
}

// finish writes the last page, of an interval that was cut short or of all.
func (st *statter) finish() error {
	if err := st.cut(st.ticked, 0); err != nil {
		return err
	}
	st.sum.Advance(st.ticked)
	if st.next != 0 && st.sum.Now() <= st.sum.Begin() {
		return nil
	}
	return st.page()
}

// page writes a page.
func (st *statter) page() error {
	totals, err := st.src.Totals()
	if err != nil {
		st.term.notef("warning: what was lost and what it cost is not known: %v", err)
		totals = st.before
	}
	totals.Gaps = st.gaps // those of a recording are of the end of a block
	p := st.sum.Page()
	err = st.out.Page(&report.Stat{
		Page: p, Info: st.src.Info(), Wall: st.src.Wall(p.End), Totals: report.Since(totals, st.before), Top: st.opts.top,
	})
	st.before = totals
	if err == nil {
		err = st.out.Flush()
	}
	st.refused = err != nil
	return err
}
