package cli

import (
	"context"
	"errors"
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
	cmd := &cobra.Command{
		Use:   "top [flags] PID",
		Short: "Watch the goroutines of a process, live on the full screen",
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

Needs a terminal: for a text, use dump --group.`,
		Example: `  gopherscope top 1234
  gopherscope top --interval 5s --engine inline 1234`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("top takes one PID, got %d operands", len(args))
			}
			o.operand = args[0]
			if err := o.check(); err != nil {
				return err
			}
			return runTop(cmd.Context(), t, &o)
		},
	}
	fl := cmd.Flags()
	fl.DurationVarP(&o.interval, "interval", "i", time.Second, "from one reading of the goroutines to the next")
	fl.BoolVar(&o.all, "all", false, "the runtime's own goroutines and frames, too")
	fl.BoolVar(&o.noColor, "no-color", false, "no colours; so does NO_COLOR in the environment")
	o.engine.flags(fl)
	fl.SortFlags = false
	return cmd
}

// check reads the flags and the operand.
func (o *topOptions) check() error {
	if o.interval < minInterval {
		return usagef("--interval %s is less than %s", o.interval, minInterval)
	}
	if err := o.engine.check(); err != nil {
		return err
	}
	if _, err := strconv.Atoi(o.operand); err == nil {
		return nil
	}
	if _, err := os.Stat(o.operand); err == nil {
		return withHint(usagef("%q is a file: top shows live processes", o.operand),
			"for a recording, use gopherscope stat %s", oneLine(strconv.Quote(o.operand)))
	}
	return nil // not a PID, as will be said
}

// screen are the two ends of the terminal, if there is one that top can draw on.
func screen(t *terminal) (in, out *os.File, err error) {
	in, isIn := t.In.(*os.File)
	out, isOut := t.Out.(*os.File)
	const instead = "for a text, use gopherscope dump --group PID"
	switch {
	case !isIn || !isOut || columns(out) == 0 || columns(in) == 0:
		return nil, nil, withHint(usagef("top needs a terminal as standard input and output"), instead)
	case os.Getenv("TERM") == "dumb" || os.Getenv("TERM") == "":
		return nil, nil, withHint(usagef("top needs a terminal that can place text, and TERM is %q", os.Getenv("TERM")), instead)
	}
	return in, out, nil
}

func runTop(ctx context.Context, t *terminal, o *topOptions) (err error) {
	if _, err := parsePID(o.operand); err != nil {
		return err
	}
	in, out, err := screen(t)
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

// Save implements tui.Host: to a new file in the working directory, readable by its
// owner only.
func (h *topHost) Save(text string, when time.Time) (string, error) {
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
