package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gopherscope/internal/elapsed"
	"gopherscope/internal/event"
	"gopherscope/internal/pprof"
	"gopherscope/internal/profile"
	"gopherscope/internal/stream"
)

// profileOptions are the choices of gopherscope profile.
type profileOptions struct {
	operand  operand
	duration time.Duration
	engine   engineOptions
	kind     profile.Kind
	format   string
	output   string
	http     string // host:port; "" if the profile is not to be served
}

// The forms of output.
const (
	formatPprof      = "pprof"
	formatFolded     = "folded"
	formatSpeedscope = "speedscope"
)

func newProfile(t *terminal) *cobra.Command {
	var o profileOptions
	var kind, exe string
	cmd := &cobra.Command{
		Use:   "profile [flags] PID | --exe FILE | -- COMMAND [ARG...]",
		Short: "Say which code goroutines wait in, queue in and run in, as a profile",
		Long: `Say which code the goroutines of a live Go process wait in, queue in and run in,
as a profile for pprof, or as a flame graph. Every interval counts: it is not sampled.

The kinds:

  block    time parked: channels, locks, sleep, IO; by the stack that parked
  sched    time runnable, waiting for a P; by the stack that parked last
  exec     time running; by the stack that parked last, where the slice began
  syscall  time in system calls and C code; by the stack that entered
  wall     all of these; the label state tells them apart
  created  goroutines created, by the stack of the go statement

A goroutine whose stack is not known counts under "[unknown stack]". Labels: state,
reason (of a wait), created_by, and the pprof labels that the program gave its
goroutines, as far as they are known: of waits that last a poll or two (50 ms each).

Ends on Ctrl-C, after -d, or with the process.`,
		Example: `  gopherscope profile -d 10s -o block.pb.gz 1234 && go tool pprof block.pb.gz
  gopherscope profile -d 10s --kind wall --http localhost:0 1234
  gopherscope profile -d 10s --kind sched --format folded 1234 | flamegraph.pl > sched.svg
  gopherscope profile --kind created -o created.pb.gz -- ./server -port 8080`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if o.operand, err = parseOperand(args, cmd.ArgsLenAtDash(), exe); err != nil {
				return err
			}
			if o.kind, err = profile.ParseKind(kind); err != nil {
				return usageError{err}
			}
			if err := o.check(cmd.Flags().Changed("duration"), columns(t.Out) > 0); err != nil {
				return err
			}
			return runProfile(cmd.Context(), t, &o)
		},
	}
	fl := cmd.Flags()
	fl.DurationVarP(&o.duration, "duration", "d", 0, "stop after this time, such as 10s (default: until the process ends)")
	fl.StringVar(&kind, "kind", profile.Block.String(), "what to count: "+strings.Join(profile.KindNames(), ", "))
	fl.StringVar(&o.format, "format", formatPprof, "pprof, folded (for flamegraph.pl) or speedscope")
	fl.StringVarP(&o.output, "output", "o", "", "write to this file instead of standard output")
	fl.StringVar(&o.http, "http", "", "then show the profile in pprof's web interface at this host:port, such as localhost:0")
	fl.StringVar(&exe, "exe", "", "trace every process of this executable")
	o.engine.flags(fl)
	fl.SortFlags = false
	return cmd
}

// check refuses what cannot work before anything is done. screen says that standard output
// is a terminal.
func (o *profileOptions) check(durationGiven, screen bool) error {
	if err := checkDuration(o.duration, durationGiven); err != nil {
		return err
	}
	switch {
	case !slices.Contains([]string{formatPprof, formatFolded, formatSpeedscope}, o.format):
		return usagef("--format %q is none of pprof, folded, speedscope", o.format)
	case o.http != "" && o.output == "" && o.format != formatPprof:
		return usagef("--http shows the profile; to write it as %s too, name a file with --output", o.format)
	case o.http == "" && o.output == "" && o.format != formatFolded && screen:
		return withHint(usagef("a profile is no text for a terminal"), "write it to a file with --output, or look at it with --http localhost:0")
	}
	o.engine.stacks, o.engine.keepStacks = true, true
	return o.engine.check()
}

// runProfile traces first and writes then, but finds out before whether it will be able
// to. What was collected when something failed is written all the same.
func runProfile(ctx context.Context, t *terminal, o *profileOptions) (err error) {
	var ln net.Listener
	if o.http != "" {
		if ln, err = listen(o.http); err != nil {
			return err
		}
		defer ln.Close()
	}
	if err := checkOutput(o.output, o.operand.recording); err != nil {
		return err
	}
	src, err := openSource(t, o.operand, o.engine, o.duration)
	if err != nil {
		return err
	}
	closed := false
	defer func() {
		if !closed {
			err = errors.Join(err, src.Close())
		}
	}()
	var out io.WriteCloser
	if o.http == "" || o.output != "" {
		if out, err = openOutput(o.output, t.Out); err != nil {
			return err
		}
	}
	if !src.Info().Stacks {
		t.notef("note: this trace has no stacks; all is %s", profile.UnknownStack)
	}
	t.patience("profiling", o.operand, o.duration)
	p, runErr := collect(ctx, t, src, o)
	if out != nil {
		err = wholeOutputError(errors.Join(o.write(out, p), out.Close()), o.output)
	}
	closed = true // before it is looked at: the process is done with
	err = errors.Join(runErr, err, src.Close())
	if ln == nil || err != nil {
		return err
	}
	return serveProfile(ctx, t, ln, p)
}

// collect runs the trace to its end, and says what it came to.
func collect(ctx context.Context, t *terminal, src stream.Source, o *profileOptions) (*profile.Profile, error) {
	c := profile.New(o.kind, src.Info())
	progress := profileProgress{term: t, duration: o.duration, begin: src.Info().Begin, collector: c}
	emit := func(e *event.Event) error { c.Event(e); return nil }
	err := src.Run(ctx, emit, progress.tick)
	sum := summarize(t, src, c.States(), c.Events())
	p := c.Finish(src.Info().Begin+int64(sum.Duration), src.Stack, src.Wall)
	t.notef("%s", sum.Text())
	t.notef("%s", profileText(p))
	if n := sum.NoStack.Budget; n > 0 {
		t.notef("warning: %.2g %% of the stacks were left out to keep within --max-overhead; their time is %s", 100*float64(n)/float64(n+sum.NoStack.Full+sum.NoStack.Unread+sum.Cost.Hits.Stacks), profile.UnknownStack)
	}
	for _, missing := range p.About()[1:] {
		t.notef("warning: %s", missing)
	}
	return p, err
}

// profileText is what a profile came to, in a sentence.
func profileText(p *profile.Profile) string {
	all, unknown := p.Total()
	text := fmt.Sprintf("%s: %s of goroutine time", p.Kind, elapsed.Text(time.Duration(all)))
	if p.Kind == profile.Created {
		text = fmt.Sprintf("%s: %d goroutines", p.Kind, all)
	}
	text += fmt.Sprintf(" in %d samples", len(p.Samples))
	if unknown > 0 {
		text += fmt.Sprintf(", %.2g %% of it with an unknown stack", 100*float64(unknown)/float64(all))
	}
	if p.Labels.Of > 0 {
		of := "it"
		if p.Kind == profile.Wall {
			of = "the time not running"
		}
		text += fmt.Sprintf("; pprof labels known for %.1f %% of %s", 100*p.Labels.Share(), of)
	}
	return text
}

func (o *profileOptions) write(w io.Writer, p *profile.Profile) error {
	switch o.format {
	case formatFolded:
		return profile.WriteFolded(w, p)
	case formatSpeedscope:
		return profile.WriteSpeedscope(w, p)
	}
	return pprof.WriteSamples(w, p)
}

// profileProgress shows how far a profile is, on a terminal only.
type profileProgress struct {
	term      *terminal
	collector *profile.Collector
	duration  time.Duration
	begin     int64 // CLOCK_MONOTONIC, ns
}

// tick is called when all events before now have come.
func (p *profileProgress) tick(now int64) error {
	if !p.term.progressDue() {
		return nil
	}
	so := time.Duration(now - p.begin).Round(time.Second).String()
	if p.duration > 0 {
		so += " of " + p.duration.String()
	}
	p.term.progress("%s, %d events, %d samples", so, p.collector.Events(), p.collector.Samples())
	return nil
}
