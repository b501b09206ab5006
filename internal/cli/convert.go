package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"gopherscope/internal/cut"
	"gopherscope/internal/event"
	"gopherscope/internal/gstate"
	"gopherscope/internal/profile"
	"gopherscope/internal/recording"
	"gopherscope/internal/stream"
)

// convertOptions are the choices of gopherscope convert.
type convertOptions struct {
	operand  operand
	duration time.Duration
	engine   engineOptions
	format   convertFormat
	kind     profile.Kind // of a profile
	output   string
	part     partOptions
}

func newConvert(t *terminal) *cobra.Command {
	var o convertOptions
	var to, kind, exe string
	var part partFlags
	cmd := &cobra.Command{
		Use:   "convert --to FORMAT [flags] RECORDING | PID | --exe FILE | -- COMMAND [ARG...]",
		Short: "Write a trace in the format of another tool",
		Long: `Write a trace, or a part of it, in the format of another tool: a recording, which
gopherscope record makes, or a trace of a live process.

The formats:

` + convertFormatsHelp() + `
The parts: --from and --to-time take what happened between two moments, given as
the time since the trace began (10s) or as the time of day (15:04:05.5). What
was there at the first is in it as it was. --goid and --created-by take some
goroutines. Whatever the part, the result is whole.

Ends at the end of the recording, on Ctrl-C, after -d, at --to-time, or with the
process.`,
		Example: `  gopherscope convert run.gscope --to perfetto -o run.pftrace    # for ui.perfetto.dev
  gopherscope convert run.gscope --to gotrace -o run.trace && go tool trace run.trace
  gopherscope convert run.gscope --to perfetto --from 10s --to-time 12s -o run.pftrace
  gopherscope convert run.gscope --to folded --kind sched --created-by 'http.*Serve'
  gopherscope convert --to perfetto -d 5s -o run.pftrace 1234`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if o.operand, err = parseOperand(args, cmd.ArgsLenAtDash(), exe); err != nil {
				return err
			}
			if o.format, err = parseConvertFormat(to); err != nil {
				return err
			}
			if o.kind, err = profile.ParseKind(kind); err != nil {
				return usageError{err}
			}
			if o.part, err = part.parse(); err != nil {
				return err
			}
			if err := o.check(cmd.Flags().Changed, columns(t.Out) > 0); err != nil {
				return err
			}
			return runConvert(cmd.Context(), t, &o)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&to, "to", "", "the format: "+strings.Join(convertFormatNames(), ", "))
	fl.StringVarP(&o.output, "output", "o", "", "write to this file instead of standard output")
	fl.StringVar(&part.from, "from", "", "begin then: 10s after the trace began, or at 15:04:05")
	fl.StringVar(&part.to, "to-time", "", "end then, given as with --from")
	fl.UintSliceVar(&part.goids, "goid", nil, "only these goroutines")
	fl.StringVar(&part.createdBy, "created-by", "", "only goroutines created by a function that matches this regexp")
	fl.StringVar(&kind, "kind", profile.Wall.String(), "of a profile, what to count: "+strings.Join(profile.KindNames(), ", "))
	fl.DurationVarP(&o.duration, "duration", "d", 0, "stop after this time, such as 5s (default: at the end)")
	fl.StringVar(&exe, "exe", "", "trace every process of this executable")
	o.engine.flags(fl)
	fl.SortFlags = false
	return cmd
}

// check refuses what cannot work before anything is done. screen says that standard output
// is a terminal.
func (o *convertOptions) check(given func(flag string) bool, screen bool) error {
	if o.output == "-" {
		o.output = ""
	}
	if err := checkDuration(o.duration, given("duration")); err != nil {
		return err
	}
	switch {
	case given("kind") && !o.format.profile:
		return usagef("--kind is for pprof, folded and speedscope")
	case o.output == "" && screen && o.format.binary:
		return withHint(usagef("%s is no text for a terminal", o.format.name), "write it to a file with --output")
	}
	o.engine.stacks = o.format.stacks
	return o.engine.check()
}

// runConvert writes while it reads. What was read when something failed is written, and
// whole.
func runConvert(ctx context.Context, t *terminal, o *convertOptions) (err error) {
	if err := checkOutput(o.output, o.operand.recording); err != nil {
		return err
	}
	whole, err := openSource(t, o.operand, o.engine, o.duration)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, whole.Close()) }()
	part, err := o.part.resolve(whole)
	if err != nil {
		return err
	}
	src := cut.New(whole, part)
	out, err := openOutput(o.output, t.Out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()

	c := &converter{src: src, notes: newNoteReader(whole), part: part, states: gstate.NewTracker(), sink: out, begin: whole.Info().Begin}
	if o.output != "" || columns(t.Out) == 0 { // else the output itself is to be seen
		c.term = t
	}
	c.enc = o.format.make(out, src, o)
	if part.To == 0 {
		t.patience("converting", o.operand, o.duration)
	}
	runErr := src.Run(ctx, c.event, c.tick)
	if !c.refused {
		runErr = errors.Join(runErr, c.passNotes())
	}
	sum := summarize(t, src, c.states, c.events)
	if !c.refused {
		runErr = errors.Join(runErr, c.enc.finish(sum))
	}
	t.notef("%s", sum.Text())
	if errors.Is(runErr, cut.ErrNothing) {
		if totals, err := whole.Totals(); err == nil {
			runErr = withHint(runErr, "it is %v long", time.Duration(totals.Now-whole.Info().Begin).Round(time.Millisecond))
		}
		return runErr
	}
	if o.format.binary || o.format.profile {
		return wholeOutputError(runErr, o.output)
	}
	return outputError(runErr, o.output)
}

// converter passes a trace on to an encoder.
type converter struct {
	src     stream.Source
	notes   noteReader
	part    cut.Part
	states  *gstate.Tracker
	enc     encoder
	sink    io.Writer // what enc writes to
	term    *terminal // to show the progress on; nil for none
	begin   int64     // of the whole trace: CLOCK_MONOTONIC, ns
	events  uint64
	refused bool // enc takes no more
}

func (c *converter) event(e *event.Event) error {
	ch := c.states.Apply(e)
	if e.Kind == event.Transition {
		c.events++
	}
	if err := c.enc.event(e, ch); err != nil {
		c.refused = true
		return err
	}
	return nil
}

func (c *converter) tick(now int64) error {
	if c.term != nil && c.term.progressDue() {
		c.term.progress("%v of the trace, %d events", time.Duration(now-c.begin).Round(100*time.Millisecond), c.events)
	}
	err := c.passNotes()
	if err == nil {
		err = c.enc.tick()
	}
	if err == nil && readerGone(c.sink) {
		err = unix.EPIPE
	}
	c.refused = c.refused || err != nil
	return err
}

// passNotes passes on the notes of the part that came.
func (c *converter) passNotes() error {
	err := c.notes.each(func(n *recording.Note) error {
		if n.Time < c.part.From || c.part.To > 0 && n.Time >= c.part.To {
			return nil
		}
		return c.enc.note(n)
	})
	c.refused = c.refused || err != nil
	return err
}

func convertFormatNames() []string {
	var names []string
	for _, f := range convertFormats {
		names = append(names, f.name)
	}
	return names
}

// convertFormatsHelp has a line for each format.
func convertFormatsHelp() string {
	var b strings.Builder
	for _, f := range convertFormats {
		fmt.Fprintf(&b, "  %-11s %s\n", f.name, f.help)
	}
	return b.String()
}

func parseConvertFormat(name string) (convertFormat, error) {
	i := slices.IndexFunc(convertFormats, func(f convertFormat) bool { return f.name == name })
	switch {
	case name == "":
		return convertFormat{}, usagef("--to is missing: one of %s", strings.Join(convertFormatNames(), ", "))
	case i < 0:
		return convertFormat{}, usagef("--to %q is none of %s", name, strings.Join(convertFormatNames(), ", "))
	}
	return convertFormats[i], nil
}
