package cli

import (
	"context"
	"errors"
	"io"
	"regexp"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gstate"
	"gopherscope/internal/report"
)

// traceOptions are the choices of gopherscope trace.
type traceOptions struct {
	operand  operand
	duration time.Duration
	engine   engineOptions
	json     bool
	output   string
	count    uint64
	filter   traceFilter
}

// traceFilter says which changes are printed. All are followed, so that
// durations and violations do not depend on it. An empty list lets all pass.
type traceFilter struct {
	goids     []uint64
	states    []goruntime.Status
	reasons   []string
	createdBy *regexp.Regexp
}

// match says whether a change is to be printed.
func (f *traceFilter) match(e *event.Event, c *gstate.Change) bool {
	switch e.Kind {
	case event.Transition, event.Snapshot:
	case event.Labels: // no change, so of no state and no reason
		if len(f.states)+len(f.reasons) > 0 {
			return false
		}
	default:
		return true
	}
	if !anyOf(f.goids, e.GoID) || !anyOf(f.states, e.To) {
		return false
	}
	if len(f.reasons) > 0 && (e.To != goruntime.Waiting || !anyOf(f.reasons, e.Reason)) {
		return false
	}
	return f.createdBy == nil || c.Birth != nil && f.createdBy.MatchString(c.Birth.CreatedBy.Func)
}

func anyOf[T comparable](list []T, v T) bool {
	for _, one := range list {
		if one == v {
			return true
		}
	}
	return len(list) == 0
}

// traceFlags are the options as they are given, and those that need no reading.
type traceFlags struct {
	exe, createdBy string
	goids          []uint
	states         []string
	opts           traceOptions
}

func newTrace(t *terminal) *cobra.Command {
	var f traceFlags
	cmd := &cobra.Command{
		Use:   "trace [flags] PID | RECORDING | --exe FILE | -- COMMAND [ARG...]",
		Short: "Print every state change of every goroutine, one line each",
		Long: `Print every state change of every goroutine of a live Go process, one line each.

The operand is a PID, a recording (gopherscope record makes them; - is one on
standard input), a command to launch (after --: traced from its first goroutine
on, its standard output goes to standard error), or --exe with a Go executable:
every process that runs it, also those that start later.

Columns: STATE is the state entered and FROM the one left, for FOR; PID is the
kernel's id of the thread that made the change and TGID that of the process; P
is the runtime's processor, - when the thread holds none; REASON is why a
goroutine waits, in the runtime's words. DETAIL names who created a goroutine
and where, and who made one runnable.

A trace begins with a snapshot of the goroutines that are there already: of one
that waits since before the trace, FOR says for how long at least, as >3.41s.
They are lines of their own in --json only.

Ends on Ctrl-C, after -d, after --count changes, or with the process. Filters
choose what is printed; the summary counts everything.`,
		Example: `  gopherscope trace 1234
  gopherscope trace -d 5s --json 1234 > trace.jsonl
  gopherscope trace --state waiting --reason 'chan receive' 1234
  gopherscope trace -- ./server -port 8080`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o := f.opts
			var err error
			if o.operand, err = parseOperand(args, cmd.ArgsLenAtDash(), f.exe); err != nil {
				return err
			}
			if err := o.filter.parse(f.goids, f.states, f.createdBy); err != nil {
				return err
			}
			if err := o.engine.check(); err != nil {
				return err
			}
			if err := checkDuration(o.duration, cmd.Flags().Changed("duration")); err != nil {
				return err
			}
			return runTrace(cmd.Context(), t, &o)
		},
	}
	f.flags(cmd.Flags())
	return cmd
}

func (f *traceFlags) flags(fl *pflag.FlagSet) {
	fl.DurationVarP(&f.opts.duration, "duration", "d", 0, "stop after this time, such as 5s (default: until the process ends)")
	fl.BoolVar(&f.opts.json, "json", false, "one JSON object a line")
	fl.StringVarP(&f.opts.output, "output", "o", "", "write to this file instead of standard output")
	fl.StringVar(&f.exe, "exe", "", "trace every process of this executable")
	fl.Uint64Var(&f.opts.count, "count", 0, "stop after this many changes were printed")
	fl.UintSliceVar(&f.goids, "goid", nil, "only these goroutines")
	fl.StringSliceVar(&f.states, "state", nil, "only changes to these states, such as waiting")
	fl.StringArrayVar(&f.opts.filter.reasons, "reason", nil, "only changes to waiting for this reason, such as 'chan receive'")
	fl.StringVar(&f.createdBy, "created-by", "", "only goroutines created by a function that matches this regexp")
	f.opts.engine.flags(fl)
	fl.BoolVar(&f.opts.engine.stacks, "stacks", false, "say where goroutines park, enter system calls and create others: the stack in --json, its innermost line otherwise")
	fl.SortFlags = false
}

func (f *traceFilter) parse(goids []uint, states []string, createdBy string) error {
	for _, id := range goids {
		f.goids = append(f.goids, uint64(id))
	}
	for _, name := range states {
		s, err := goruntime.ParseStatus(name)
		if err != nil {
			return usageError{err}
		}
		f.states = append(f.states, s)
	}
	if createdBy == "" {
		return nil
	}
	re, err := regexp.Compile(createdBy)
	if err != nil {
		return usagef("--created-by: %w", err)
	}
	f.createdBy = re
	return nil
}

// pollInterval bounds how late a line is printed. The reader is not woken
// before: a wake-up for each event would cost the target more than the probe.
const pollInterval = 50 * time.Millisecond

// errEnough ends a trace that has printed --count lines.
var errEnough = errors.New("enough lines")

func runTrace(ctx context.Context, t *terminal, o *traceOptions) (err error) {
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

	tr := &tracer{opts: o, states: gstate.NewTracker(), out: report.NewText(out, src), sink: out}
	if o.json {
		tr.out = report.NewJSON(out, src)
	}
	if o.engine.stacks {
		tr.out.Stacks(src.Stack)
	}
	if err := tr.out.Flush(); err != nil {
		return outputError(err, o.output)
	}
	if o.count == 0 && (columns(t.Out) == 0 || o.output != "") {
		t.patience("tracing", o.operand, o.duration)
	}
	runErr := src.Run(ctx, tr.event, tr.tick)
	sum := summarize(t, src, tr.states, tr.events)
	if runErr == nil || errors.Is(runErr, errEnough) {
		runErr = tr.finish(sum)
	} else if !tr.refused {
		runErr = errors.Join(runErr, tr.out.Flush())
	}
	t.notef("%s", sum.Text())
	return outputError(runErr, o.output)
}

// tracer prints the events of a session.
type tracer struct {
	opts   *traceOptions
	states *gstate.Tracker
	out    report.Transitions
	sink   io.Writer // what out writes to
	events uint64
	lines  uint64
	// refused says that out takes no more.
	refused bool
}

func (tr *tracer) event(e *event.Event) error {
	if tr.opts.count > 0 && tr.lines >= tr.opts.count {
		return errEnough
	}
	c := tr.states.Apply(e)
	if e.Kind == event.Transition {
		tr.events++
	}
	if !tr.opts.filter.match(e, c) {
		return nil
	}
	if e.Kind == event.Transition {
		tr.lines++
	}
	err := tr.out.Event(e, *c)
	tr.refused = err != nil
	return err
}

// tick is called when every event that was made has been printed.
func (tr *tracer) tick(int64) error {
	if err := tr.out.Flush(); err != nil {
		tr.refused = true
		return err
	}
	if readerGone(tr.sink) {
		tr.refused = true
		return unix.EPIPE
	}
	if tr.opts.count > 0 && tr.lines >= tr.opts.count {
		return errEnough
	}
	return nil
}

func (tr *tracer) finish(sum *report.Summary) error {
	if err := tr.out.Summary(sum); err != nil {
		return err
	}
	return tr.out.Flush()
}
