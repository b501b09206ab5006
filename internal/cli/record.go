package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"gopherscope/internal/event"
	"gopherscope/internal/gstate"
	"gopherscope/internal/recording"
	"gopherscope/internal/stream"
)

// recordOptions are the choices of gopherscope record.
type recordOptions struct {
	operand  operand
	duration time.Duration
	engine   engineOptions
	output   string // a path, or stdinName for standard output
	maxSize  int64  // of a file; 0 is no limit
	maxFiles int
	flight   flightOptions
}

// recordFlags are the options as they are given, and those that need no reading.
type recordFlags struct {
	exe, maxSize string
	opts         recordOptions
	flight       flightFlags
}

func newRecord(t *terminal) *cobra.Command {
	var f recordFlags
	cmd := &cobra.Command{
		Use:   "record [flags] PID | --exe FILE | -- COMMAND [ARG...]",
		Short: "Record every state change of every goroutine in a file, to be looked at later",
		Long: `Record every state change of every goroutine in a file, to be looked at later.

The operand is that of trace. Every command that takes it takes the recording
in its place, on any machine and without privileges, and shows the same as of
the live process.

Ends on Ctrl-C, after -d, or with the process. What was recorded up to a second
before is in the file whatever happens: if the recorder is killed or the disk
is full, it opens up to there, and says so.

With --max-size the file becomes FILE.1 when it is that large, FILE.1 becomes
FILE.2, and so on; each of them is a recording of its own.

With --when or --last it is a flight recorder: it keeps the last seconds in
memory, and writes them, and what follows for --after, when a condition comes
to hold, on SIGUSR1, or when the process ends or crashes. Each time it is a new
file: incident.gscope, incident-2.gscope and so on. Conditions are about
goroutines, running, runnable, waiting, syscall, created, lost, sched.p99 and
block['IO wait'].p99; 2x is twice the last minute's median.`,
		Example: `  gopherscope record 1234 -d 30s -o run.gscope
  gopherscope record -o run.gscope --max-size 1G --max-files 4 -- ./server
  gopherscope trace --json run.gscope
  gopherscope record -o - 1234 | ssh host 'cat > run.gscope'
  gopherscope record 1234 --last 30s --when 'sched.p99 > 10ms' --when 'goroutines > 2x' -o incident.gscope`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o := f.opts
			var err error
			if o.operand, err = parseOperand(args, cmd.ArgsLenAtDash(), f.exe); err != nil {
				return err
			}
			if f.maxSize != "" {
				if o.maxSize, err = parseFileSize("max-size", f.maxSize, minFileSize); err != nil {
					return err
				}
			}
			if o.flight, err = f.flight.parse(t, cmd.Flags().Changed); err != nil {
				return err
			}
			if err := o.check(cmd.Flags().Changed("duration"), cmd.Flags().Changed("max-files")); err != nil {
				return err
			}
			if o.flight.on {
				return runFlight(cmd.Context(), t, &o)
			}
			return runRecord(cmd.Context(), t, &o)
		},
	}
	f.flags(cmd.Flags())
	return cmd
}

func (f *recordFlags) flags(fl *pflag.FlagSet) {
	fl.StringVarP(&f.opts.output, "output", "o", "", "the recording, such as run.gscope; - is standard output")
	fl.DurationVarP(&f.opts.duration, "duration", "d", 0, "stop after this time, such as 30s (default: until the process ends)")
	fl.StringVar(&f.exe, "exe", "", "record every process of this executable")
	fl.StringVar(&f.maxSize, "max-size", "", "begin a new file when one is this large, such as 100M")
	fl.IntVar(&f.opts.maxFiles, "max-files", 0, "with --max-size, keep so many files, the newest ones (default 2); with --when or --last, end after so many (default 10)")
	f.flight.flags(fl)
	f.opts.engine.flags(fl)
	fl.BoolVar(&f.opts.engine.stacks, "stacks", false, "with the stacks of goroutines that park, enter system calls and create others")
	fl.SortFlags = false
}

// check reads the flags that are not the operand's.
func (o *recordOptions) check(durationGiven, filesGiven bool) error {
	switch {
	case o.operand.recording != "":
		return withHint(usagef("%q is a recording already", o.operand.recording), "copy the file, or look at it with gopherscope trace")
	case o.output == "":
		return withHint(usagef("where to record is missing"), "name a file with --output, such as -o run.gscope")
	}
	if err := checkDuration(o.duration, durationGiven); err != nil {
		return err
	}
	if err := o.checkFiles(filesGiven); err != nil {
		return err
	}
	return o.engine.check()
}

// checkFiles reads the flags of how many files there are.
func (o *recordOptions) checkFiles(given bool) error {
	if !given {
		o.maxFiles = defaultRotated
		if o.flight.on {
			o.maxFiles = defaultIncidents
		}
	}
	switch {
	case o.flight.on && o.output == stdinName:
		return usagef("--last and --when need a file to record to")
	case o.flight.on && o.maxFiles < 1:
		return usagef("--max-files %d leaves no file to record to", o.maxFiles)
	case o.flight.on:
	case given && o.maxSize == 0:
		return usagef("--max-files needs --max-size, --last or --when")
	case o.maxFiles < 2:
		return usagef("--max-files %d is less than 2: one file to record to, and the one before", o.maxFiles)
	case o.maxSize != 0 && o.output == stdinName:
		return usagef("--max-size needs a file to record to")
	}
	return nil
}

// minFileSize is the smallest --max-size: a file has at least one block.
const minFileSize = 64 << 10

// parseFileSize reads a flag that is a size of least bytes or more.
func parseFileSize(flag, s string, least int64) (int64, error) {
	digits := strings.TrimRight(s, "kKmMgGtT")
	shift := 0
	switch strings.ToUpper(s[len(digits):]) {
	case "":
	case "K":
		shift = 10
	case "M":
		shift = 20
	case "G":
		shift = 30
	case "T":
		shift = 40
	default:
		digits = ""
	}
	v, err := strconv.ParseInt(digits, 10, 64)
	if err == nil && v <= math.MaxInt64>>shift && v<<shift >= least {
		return v << shift, nil
	}
	return 0, usagef("--%s %q is not a size of %dK or more, such as 100M", flag, s, least>>10)
}

// runRecord writes what it can of what was seen, whatever fails.
func runRecord(ctx context.Context, t *terminal, o *recordOptions) (err error) {
	out, err := openRecordFile(t, o.output)
	if err != nil {
		return err
	}
	src, err := openSource(t, o.operand, o.engine, o.duration)
	if err != nil {
		return errors.Join(err, out.abandon())
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	r := &recorder{opts: o, term: t, src: src, out: out, states: gstate.NewTracker()}
	if o.maxSize > 0 {
		r.roster = &recording.Roster{}
	}
	t.patience("recording", o.operand, o.duration)
	runErr := r.run(ctx)
	sum := summarize(t, src, r.states, r.events)
	t.notef("%s", sum.Text())
	if n := r.written(); n > 0 || runErr == nil {
		t.notef("recorded %d events in %s", n, r.sizes())
	}
	if r.refused {
		runErr = r.explain(runErr)
	}
	return runErr
}

// recorder writes the events of a session.
type recorder struct {
	opts   *recordOptions
	term   *terminal
	src    stream.Source
	out    *recordFile
	w      *recording.Writer
	states *gstate.Tracker
	roster *recording.Roster // nil without --max-size
	events uint64            // transitions
	before struct {          // in files that are full
		files  int
		bytes  int64
		events uint64
	}
	full    int64 // the file was full at this tick, CLOCK_MONOTONIC, ns; 0 is not yet
	refused bool  // the output takes no more
}

// run records to the end, and then closes the output.
func (r *recorder) run(ctx context.Context) error {
	err := r.out.begin()
	if err == nil {
		r.w, err = recording.NewWriter(r.out, r.src, &recording.Options{Tool: "gopherscope " + version()})
	}
	if err != nil {
		r.refused = true
		return errors.Join(err, r.out.Close())
	}
	err = r.src.Run(ctx, r.event, r.tick)
	if r.refused {
		return errors.Join(err, r.out.Close())
	}
	// What was recorded before an error of the trace is a whole recording.
	if closeErr := r.close(); closeErr != nil {
		r.refused = true
		err = errors.Join(err, closeErr)
	}
	return err
}

// close ends the file.
func (r *recorder) close() error { return errors.Join(r.w.Close(), r.out.Close()) }

// event writes an event. The file after a full one begins with one, so that there is never an
// empty file at the end.
func (r *recorder) event(e *event.Event) error {
	if r.full != 0 && e.Kind == event.Transition {
		if err := r.note(r.rotate(r.full)); err != nil {
			return err
		}
		r.full = 0
	}
	r.states.Apply(e)
	if e.Kind == event.Transition {
		r.events++
	}
	if r.roster != nil {
		r.roster.Apply(e)
	}
	return r.note(r.w.Event(e))
}

// note remembers that the output takes no more.
func (r *recorder) note(err error) error {
	r.refused = r.refused || err != nil
	return err
}

func (r *recorder) tick(now int64) error {
	if err := r.note(r.w.Tick(now)); err != nil {
		return err
	}
	if r.roster != nil && r.w.Size() >= r.opts.maxSize {
		r.full = now
	}
	if r.out.gone() {
		return r.note(unix.EPIPE)
	}
	r.progress(now)
	return nil
}

// rotate begins a new file, with the goroutines that are there now.
func (r *recorder) rotate(now int64) error {
	if err := r.close(); err != nil {
		return err
	}
	r.before.files++
	r.before.bytes += r.w.Size()
	r.before.events += r.w.Written()
	base := r.w.Totals()
	r.w = nil
	if err := r.out.rotate(r.opts.maxFiles); err != nil {
		return err
	}
	w, err := recording.NewWriter(r.out, r.src, &recording.Options{Begin: now, Base: base, Tool: "gopherscope " + version()})
	if err != nil {
		return err
	}
	r.w = w
	return r.roster.Snapshots(now, r.w.Event)
}

// written is the number of events in the files.
func (r *recorder) written() uint64 {
	if r.w == nil {
		return r.before.events
	}
	return r.before.events + r.w.Written()
}

// sizes tells what was written.
func (r *recorder) sizes() string {
	bytes := r.before.bytes
	if r.w != nil {
		bytes += r.w.Size()
	}
	text := formatBytes(bytes)
	if n := r.written(); n > 0 {
		text += fmt.Sprintf(", %.2f bytes an event", float64(bytes)/float64(n))
	}
	if r.before.files > 0 {
		kept := min(r.before.files+1, r.opts.maxFiles)
		text += fmt.Sprintf(", in %d files, of which the last %d are kept", r.before.files+1, kept)
	}
	return text
}

// formatBytes is a number of bytes with three digits.
func formatBytes(n int64) string {
	switch {
	case n < 10_000:
		return fmt.Sprintf("%d bytes", n)
	case n < 10_000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 10_000_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

// explain adds what is left to an error of writing.
func (r *recorder) explain(err error) error {
	if errors.Is(err, unix.EPIPE) {
		return nil
	}
	return explainWrite(err, r.written())
}

// explainWrite adds to an error of a file how many events are in it.
func explainWrite(err error, n uint64) error {
	err = fmt.Errorf("write recording: %w", err)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return withHint(err, "what was written before, %d events, can be read; free space or choose another --output", n)
	}
	return withHint(err, "what was written before, %d events, can be read", n)
}

// progress shows how far the recording is, on a terminal only.
func (r *recorder) progress(now int64) {
	if !r.term.progressDue() {
		return
	}
	totals, err := r.src.Totals()
	if err != nil {
		return // the summary tells
	}
	cost := ""
	if totals.TargetCPU > 0 {
		cost = fmt.Sprintf(", cost %.1f %%", 100*min(1, float64(totals.Cost.Total)/float64(totals.TargetCPU)))
	}
	r.term.progress("%v, %d events, %s, %d lost%s", time.Duration(now-r.src.Info().Begin).Round(time.Second),
		r.events, formatBytes(r.before.bytes+r.w.Size()), totals.Lost.Total(), cost)
}
