package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"gopherscope/internal/snapshot"
	"gopherscope/internal/tui"
)

// topOptions are the choices of gopherscope top.
type topOptions struct {
	operand  string
	recorded bool // it is a recording
	from     moment
	interval time.Duration
	engine   engineOptions
	noColor  bool
	all      bool
}

// minInterval is the shortest --interval of top: below it the screen flickers, and
// the reading costs more than it shows.
const minInterval = 100 * time.Millisecond

func newTop(t *terminal) *cobra.Command {
	var o topOptions
	var from string
	cmd := &cobra.Command{
		Use:   "top [flags] PID | RECORDING",
		Short: "Watch the goroutines of a process, live or recorded, on the full screen",
		Long: `Watch the goroutines of a live Go process on the full screen: how many are in
which state, where they were created, what they wait for, what they run.

The goroutines are read from memory once a second; the process is not stopped and
does not notice. The key e attaches an engine, as trace does, and adds what only
every change can tell: scheduling latency, changes a second, time blocked. The same
key detaches it.

Keys: g groups by creation site, wait reason, function, state, pprof labels or
goroutine; < > choose the column to sort by, r reverses; / filters by a regexp;
Enter leads to the goroutines of a row, and then to the stack and the history of
one, Esc back; p pauses; w writes what is shown to a file; ? helps; q quits.

A recording, which gopherscope record makes, is shown in the same way, as it was at
one moment after another: space plays it and pauses, the right and left arrows go one
interval forward and back, Home and End to its begin and end, + and - change the
speed. It needs no process and no engine: it has every change.

Needs a terminal: for a text, use dump --group, or stat for a recording.`,
		Example: `  gopherscope top 1234
  gopherscope top --interval 5s --engine inline 1234
  gopherscope top run.gscope
  gopherscope top --from 14:02:10 --interval 100ms run.gscope`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("top takes one PID or recording, got %d operands", len(args))
			}
			o.operand = args[0]
			if err := o.check(from); err != nil {
				return err
			}
			if o.recorded {
				return runTopRecording(cmd.Context(), t, &o)
			}
			return runTop(cmd.Context(), t, &o)
		},
	}
	fl := cmd.Flags()
	fl.DurationVarP(&o.interval, "interval", "i", time.Second, "from one reading of the goroutines to the next")
	fl.StringVar(&from, "from", "", "of a recording: begin there, 10s after it began, or at 15:04:05")
	fl.BoolVar(&o.all, "all", false, "the runtime's own goroutines and frames, too")
	fl.BoolVar(&o.noColor, "no-color", false, "no colours; so does NO_COLOR in the environment")
	o.engine.flags(fl)
	fl.SortFlags = false
	return cmd
}

// check reads the flags and the operand.
func (o *topOptions) check(from string) (err error) {
	if o.interval < minInterval {
		return usagef("--interval %s is less than %s", o.interval, minInterval)
	}
	if o.from, err = parseMoment("--from", from); err != nil {
		return err
	}
	if err := o.engine.check(); err != nil {
		return err
	}
	if err := o.checkOperand(); err != nil {
		return err
	}
	switch {
	case o.recorded && (o.engine.name != engineAuto || o.engine.ring != "" || o.engine.overhead != ""):
		return usagef("--engine, --ring-size and --max-overhead are for a trace of a process: %s is a recording", o.operand)
	case !o.recorded && from != "":
		return usagef("--from is for a recording: a process can only be watched now")
	}
	return nil
}

// checkOperand finds out whether the operand is a recording.
func (o *topOptions) checkOperand() error {
	if _, err := strconv.Atoi(o.operand); err == nil {
		return nil
	}
	if o.operand == stdinName {
		return withHint(usagef("top reads keys from standard input, so a recording cannot come from there"), "write it to a file, and give its name")
	}
	kind, err := fileKind(o.operand)
	switch {
	case err != nil:
		return fmt.Errorf("open recording: %w", err)
	case kind == otherFile:
		return withHint(usagef("%q is neither a PID nor a recording", o.operand), "gopherscope record makes recordings")
	}
	o.recorded = kind == recordingFile
	if st, err := os.Stat(o.operand); o.recorded && err == nil && !st.Mode().IsRegular() {
		return withHint(usagef("%q is no file, and top goes back and forth in a recording", o.operand), "write the recording to a file first")
	}
	return nil // not a PID, as will be said
}

// screen are the two ends of the terminal, if there is one that top can draw on. If not, the
// hint is what to do instead.
func screen(t *terminal, instead string) (in, out *os.File, err error) {
	in, isIn := t.In.(*os.File)
	out, isOut := t.Out.(*os.File)
	switch {
	case !isIn || !isOut || columns(out) == 0 || columns(in) == 0:
		return nil, nil, withHint(usagef("top needs a terminal as standard input and output"), "%s", instead)
	case os.Getenv("TERM") == "dumb" || os.Getenv("TERM") == "":
		return nil, nil, withHint(usagef("top needs a terminal that can place text, and TERM is %q", os.Getenv("TERM")), "%s", instead)
	}
	return in, out, nil
}

func runTop(ctx context.Context, t *terminal, o *topOptions) (err error) {
	if _, err := parsePID(o.operand); err != nil {
		return err
	}
	in, out, err := screen(t, "for a text, use gopherscope dump --group PID")
	if err != nil {
		return err
	}
	src, err := openDumpTarget(o.operand)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	src.options.Stacks, src.options.Memory = false, &snapshot.Memory{}
	o.engine.attachesAgain = true
	host := &topHost{ctx: ctx, src: src, opts: o.engine}
	defer func() { err = errors.Join(err, host.StopEngine()) }()
	for _, note := range src.target.Notes {
		host.notes.add(note)
	}
	m := tui.New(host, topProcess(src), &tui.Options{
		Interval: o.interval, Location: time.Local, All: o.all, ASCII: !utf8Locale(),
	})
	return tui.Run(ctx, m, tui.Terminal{In: in, Out: out, Environ: os.Environ(), NoColor: o.noColor})
}

// topProcess is what does not change of the process.
func topProcess(src *dumpSource) tui.Process {
	p := tui.Process{PID: src.proc.PID(), GoVersion: src.target.Bin.Version().Text, Command: src.path, Procs: src.target.Procs()}
	if args, err := src.proc.Args(); err == nil && len(args) > 0 {
		p.Command = strings.Join(args, " ")
	}
	return p
}

// utf8Locale says whether the terminal shows more than ASCII, as setlocale(3) finds it.
func utf8Locale() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToUpper(os.Getenv(name)); v != "" {
			return strings.Contains(v, "UTF-8") || strings.Contains(v, "UTF8")
		}
	}
	return false
}

// saveAttempts bounds how many files may have been written in one second.
const saveAttempts = 100

// topSaver writes what is shown to files.
type topSaver struct{}

// Save implements tui.Host: to a new file in the working directory, readable by its
// owner only.
func (topSaver) Save(text string, when time.Time) (string, error) {
	base := "gopherscope-top-" + when.Local().Format("20060102-150405")
	for n := 1; ; n++ {
		path := base + ".txt"
		if n > 1 {
			path = base + "-" + strconv.Itoa(n) + ".txt"
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, os.ErrExist) && n < saveAttempts {
			continue
		}
		if err != nil {
			return "", err
		}
		_, err = io.WriteString(f, text)
		return path, errors.Join(err, f.Close())
	}
}

// ownCPU is the CPU time that this process has used.
func ownCPU() time.Duration {
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
