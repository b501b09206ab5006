package cli

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"gopherscope/internal/dump"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/report"
)

// dumpOptions are the choices of gopherscope dump.
type dumpOptions struct {
	operand string
	exe     string // the executable of a core file
	filter  dump.Filter
	group   bool
	json    bool
	pprof   bool
	labels  bool
	waiting bool
	states  bool // no stacks
	output  string
}

// filterFlags are the filter of gopherscope dump as it is on the command line.
type filterFlags struct {
	goids            []uint
	states           []string
	createdBy, stack string
}

func newDump(t *terminal) *cobra.Command {
	var o dumpOptions
	var f filterFlags
	cmd := &cobra.Command{
		Use:   "dump [flags] PID | CORE",
		Short: "Print the stacks of all goroutines, without stopping the process",
		Long: `Print the stacks of all goroutines of a live Go process, without stopping it, or
of a dead one, from its core file.

The text is that of Go's own tracebacks, so that tools which read those read
this; only arguments are always "(...)". Goroutines that run on a CPU are sampled,
where the host permits it. One that has no stack has a line that says why.

Each goroutine is shown as it was at some moment of the reading, which takes
milliseconds; the summary on standard error says how long it took. Filters can be
combined, and work with every form of output.`,
		Example: `  gopherscope dump 1234
  gopherscope dump --group 1234
  gopherscope dump --state waiting --reason 'chan receive' --stack 'main\.' 1234
  gopherscope dump --json 1234 > goroutines.jsonl
  gopherscope dump --pprof -o goroutines.pb.gz 1234 && go tool pprof goroutines.pb.gz
  gopherscope dump --exe ./server core.1234`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("dump takes one PID or core file, got %d operands", len(args))
			}
			o.operand = args[0]
			if err := o.parse(&f); err != nil {
				return err
			}
			if o.pprof && o.output == "" && columns(t.Out) > 0 {
				return withHint(usagef("a profile is no text for a terminal"), "write it to a file with --output, or look at the text with --group")
			}
			return runDump(cmd.Context(), t, &o)
		},
	}
	addDumpFlags(cmd, &o, &f)
	return cmd
}

func addDumpFlags(cmd *cobra.Command, o *dumpOptions, f *filterFlags) {
	fl := cmd.Flags()
	fl.BoolVar(&o.group, "group", false, "fold identical stacks, the most frequent first")
	fl.BoolVar(&o.json, "json", false, "one JSON object a line")
	fl.BoolVar(&o.pprof, "pprof", false, "a profile for go tool pprof")
	fl.StringVarP(&o.output, "output", "o", "", "write to this file instead of standard output")
	fl.UintSliceVar(&f.goids, "goid", nil, "only these goroutines")
	fl.StringSliceVar(&f.states, "state", nil, "only goroutines in these states, such as waiting")
	fl.StringArrayVar(&o.filter.Reasons, "reason", nil, "only goroutines that wait for this reason, such as 'chan receive'")
	fl.StringVar(&f.createdBy, "created-by", "", "only goroutines created by a function that matches this regexp")
	fl.StringVar(&f.stack, "stack", "", "only goroutines with a function on their stack that matches this regexp")
	fl.BoolVar(&o.filter.All, "all", false, "the runtime's own goroutines and frames, too")
	fl.BoolVar(&o.labels, "labels", false, "pprof labels in the text, as Go 1.27 prints them")
	fl.BoolVar(&o.states, "states", false, "leave out the stacks: several times faster")
	fl.BoolVar(&o.waiting, "waiting-on", false, "instead of stacks, the objects that goroutines wait on, and deadlocks")
	fl.StringVar(&o.exe, "exe", "", "the executable of the core file, if it is not where it was")
	fl.SortFlags = false
}

// parse checks the flags, and fills in the filter.
func (o *dumpOptions) parse(f *filterFlags) error {
	if o.pprof && (o.json || o.group) {
		return usagef("--pprof cannot be combined with --json or --group")
	}
	if o.waiting && (o.pprof || o.group || o.labels) {
		return usagef("--waiting-on cannot be combined with --pprof, --group or --labels")
	}
	if o.states && (o.pprof || o.waiting || f.stack != "") {
		return usagef("--states leaves out the stacks, which --pprof, --waiting-on and --stack need")
	}
	for _, id := range f.goids {
		o.filter.GoIDs = append(o.filter.GoIDs, uint64(id))
	}
	for _, name := range f.states {
		s, err := parseDumpState(name)
		if err != nil {
			return err
		}
		o.filter.States = append(o.filter.States, s)
	}
	var err error
	if o.filter.CreatedBy, err = optionalRegexp("--created-by", f.createdBy); err != nil {
		return err
	}
	o.filter.Stack, err = optionalRegexp("--stack", f.stack)
	return err
}

// dumpStates are the states that a goroutine of a dump can be in.
var dumpStates = [...]goruntime.Status{
	goruntime.Runnable, goruntime.Running, goruntime.Syscall, goruntime.Waiting,
	goruntime.CopyStack, goruntime.Preempted, goruntime.Leaked,
}

func parseDumpState(name string) (goruntime.Status, error) {
	var names []string
	for _, s := range dumpStates {
		if strings.EqualFold(s.Name(), name) {
			return s, nil
		}
		names = append(names, s.Name())
	}
	return 0, usagef("unknown state %q (one of %s)", name, strings.Join(names, ", "))
}

// optionalRegexp compiles a flag's value; nil if it is empty.
func optionalRegexp(flag, text string) (*regexp.Regexp, error) {
	if text == "" {
		return nil, nil
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, usagef("%s: %w", flag, err)
	}
	return re, nil
}

// runDump takes the snapshot before it creates the output, so that an error
// leaves no empty file.
func runDump(ctx context.Context, t *terminal, o *dumpOptions) error {
	src, err := openDumpOrCore(o.operand, o.exe)
	if err != nil {
		return err
	}
	defer src.Close()
	if src.core != nil && sameFile(o.output, o.operand) {
		return withHint(usagef("--output %s is the file that is read", o.output), "choose another name")
	}
	for _, note := range src.target.Notes {
		t.notef("note: %s", note)
	}
	if src.core != nil && src.core.Missing() > 0 {
		t.notef("note: the core file was cut short: %d bytes of memory are missing", src.core.Missing())
	}
	src.options.Stacks = !o.states
	d, takeErr := src.take(ctx)
	if d == nil {
		return takeErr
	}
	if o.waiting {
		return runWaitingOn(ctx, t, src, o, d, takeErr)
	}
	out, err := openOutput(o.output, t.Out)
	if err != nil {
		return errors.Join(takeErr, err)
	}
	sum := &report.DumpSummary{Dump: d, Err: takeErr}
	w := &dumpWriter{d: d, opts: o, sum: sum, src: src}
	err = errors.Join(w.write(out), out.Close())
	t.notef("%s", sum.Text())
	return errors.Join(takeErr, outputError(err, o.output))
}
