package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"gopherscope/internal/engine"
	"gopherscope/internal/engine/ebpf"
	"gopherscope/internal/engine/inline"
	"gopherscope/internal/perf"
	"gopherscope/internal/process"
	"gopherscope/internal/target"
)

// newDoctor is gopherscope doctor.
func newDoctor(t *terminal) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor [flags] [PID]",
		Short: "Say what works here and for a process, and how to mend what does not",
		Long: `Try everything that gopherscope needs on this host and, with a PID, everything
that it needs of that process, without touching the process. Each line says what
was found; a line that is not ok is followed by what to do about it. The last line
says which commands work.

Exit code 1 when tracing with uprobes would not work, also if dump and leaks, or
--engine inline, do.`,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("doctor takes one PID, got %d operands", len(args))
			}
			v := verdict{checks: append(ebpf.CheckHost(), checkSamples()), inline: inline.CheckHost()}
			if len(args) > 0 {
				pid, err := parsePID(args[0])
				if err != nil {
					return err
				}
				v.checkProcess(pid)
			}
			return v.print(t, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line")
	return cmd
}

// checkProcess reads and validates a process as dump and trace would. It stops at
// the first thing that fails: what comes after builds on it.
func (v *verdict) checkProcess(pid int) {
	v.process = true
	name := fmt.Sprintf("process %d", pid)
	add := func(name, detail string, err error) bool {
		if err != nil {
			v.checks = append(v.checks, failedCheck(name, explainMemory(pid, err)))
			return false
		}
		v.checks = append(v.checks, engine.Check{Name: name, Status: engine.CheckOK, Detail: detail})
		return true
	}
	p, err := process.Open(pid)
	if err != nil {
		add(name, "", err)
		return
	}
	defer p.Close()
	user, err := p.User()
	cmdline, err2 := p.Cmdline()
	if !add(name, fmt.Sprintf("%s, user %s", cmdline, user), errors.Join(err, err2)) {
		return
	}
	v.checks = append(v.checks, checkNamespaces(p))
	if !add("memory", "may be read, as dump and leaks need it", p.Readable()) {
		return
	}
	tgt, err := target.Open(p)
	if err != nil {
		add("Go runtime", "", err)
		return
	}
	defer tgt.Close()
	add("Go runtime", fmt.Sprintf("%s, %s; layout agrees with machine code and memory", tgt.Bin.Version(), tgt.Bin.Build()), nil)
	if last := &v.checks[len(v.checks)-1]; len(tgt.Notes) > 0 {
		last.Status, last.Hint = engine.CheckWarn, strings.Join(tgt.Notes, "; ")
	}
	n, err := target.CountGoroutines(p, tgt.Bin)
	v.readable = add("goroutines", fmt.Sprintf("%d alive", n), err)
	v.checks = append(v.checks, ebpf.CheckBinary(tgt.Bin))
	if tgt.CheckArch() == nil {
		v.inline = append(v.inline, inline.CheckProcess(tgt)...)
	}
}

// sampleDeadline is the longest that a thread which wants to run is without a CPU, on a
// host that can still be worked on.
const sampleDeadline = 2 * time.Second

// checkSamples samples a thread of this process that runs. Without samples only the
// stacks of running goroutines are missing from a dump.
func checkSamples() engine.Check {
	tid := make(chan int)
	var done atomic.Bool
	var spinner sync.WaitGroup
	spinner.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		tid <- unix.Gettid()
		for !done.Load() { // and runs
		}
	})
	samples, err := perf.NewSampler(&perf.Options{Deadline: sampleDeadline}).Sample([]int{<-tid})
	done.Store(true)
	spinner.Wait()
	c := engine.Check{Name: "perf samples", Status: engine.CheckOK, Detail: "threads can be sampled"}
	if level, err := os.ReadFile("/proc/sys/kernel/perf_event_paranoid"); err == nil {
		c.Detail += "; kernel.perf_event_paranoid is " + strings.TrimSpace(string(level))
	}
	if err == nil && len(samples) == 0 {
		err = errors.New("a thread that runs gave no sample")
	}
	if err != nil {
		c.Status, c.Detail = engine.CheckWarn, oneLine(err.Error())
		c.Hint = "dump works, but goroutines that run at that moment have no stack"
	}
	return c
}

func checkNamespaces(p *process.Process) engine.Check {
	c := engine.Check{Name: "namespaces", Status: engine.CheckOK, Detail: "same as this tool's"}
	otherPID, err1 := p.InOtherPIDNS()
	otherMount, err2 := p.InOtherMountNS()
	if err := errors.Join(err1, err2); err != nil {
		return failedCheck(c.Name, explainMemory(p.PID(), err))
	}
	if otherPID || otherMount {
		c.Detail = "in a container; ids shown are those of this tool's namespace"
	}
	return c
}

func failedCheck(name string, err error) engine.Check {
	return engine.Check{Name: name, Status: engine.CheckFail, Detail: oneLine(err.Error()), Hint: hint(err)}
}

// verdict is what was checked.
type verdict struct {
	checks   []engine.Check
	inline   []engine.Check // what only --engine inline needs
	process  bool           // a process was checked, too
	readable bool           // dump and leaks work for it
}

// print writes the table and which commands work, and returns errReported when a
// check failed.
func (v *verdict) print(t *terminal, asJSON bool) error {
	if err := v.write(t, asJSON); err != nil {
		return outputError(err, "")
	}
	bad := failures(v.checks)
	t.notef("%s", v.works(bad))
	if text := v.inlineWorks(bad); text != "" {
		t.notef("%s", text)
	}
	if bad > 0 {
		return errReported
	}
	return nil
}

// failures counts the checks that failed.
func failures(checks []engine.Check) int {
	n := 0
	for _, c := range checks {
		if c.Status == engine.CheckFail {
			n++
		}
	}
	return n
}

// works says which commands work if bad checks failed.
func (v *verdict) works(bad int) string {
	failed := fmt.Sprintf("%d of %d checks failed: ", bad, len(v.checks))
	switch {
	case bad == 0 && v.process:
		return "trace, dump and leaks work for this process"
	case bad == 0:
		return "trace works on this host; give a PID to hear of that process"
	case !v.process:
		return failed + "tracing with uprobes does not work; dump and leaks need none of that: give a PID to hear whether they work"
	case v.readable:
		return failed + "tracing with uprobes does not work; dump and leaks work"
	}
	return failed + "trace, dump and leaks do not work for this process"
}

// inlineWorks says whether the inline engine works if bad of the other checks failed; ""
// when that is said already: it does not work for a process that cannot be read.
func (v *verdict) inlineWorks(bad int) string {
	switch n := failures(v.inline); {
	case v.process && !v.readable:
		return ""
	case n > 0:
		return fmt.Sprintf("--engine inline does not work: %d of its %d checks failed", n, len(v.inline))
	case bad > 0:
		return "tracing with --engine inline works"
	}
	return "--engine inline works, too"
}

func (v *verdict) write(t *terminal, asJSON bool) error {
	if !asJSON {
		return printCheckTable(t, printable(slices.Concat(v.checks, v.inline)))
	}
	enc := json.NewEncoder(t.Out)
	for _, c := range printable(slices.Concat(v.checks, v.inline)) {
		if err := enc.Encode(c); err != nil {
			return err
		}
	}
	return nil
}

// printable is what was found with everything escaped that a terminal might act on: a
// detail can be the program's own words.
func printable(checks []engine.Check) []engine.Check {
	for i := range checks {
		c := &checks[i]
		c.Detail, c.Hint = process.Printable(c.Detail), process.Printable(c.Hint)
	}
	return checks
}

func printCheckTable(t *terminal, checks []engine.Check) error {
	w := tabwriter.NewWriter(t.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CHECK\tSTATUS\tDETAIL")
	for _, c := range checks {
		fmt.Fprintf(w, "%s\t%s\t%s\n", c.Name, c.Status, c.Detail)
		if c.Hint != "" {
			fmt.Fprintf(w, "\t\t-> %s\n", c.Hint)
		}
	}
	return w.Flush()
}
