// Command bench measures what a trace costs the program that is traced, next to
// the ways that rivals do it, all in one run:
//
//   - untraced;
//   - Go's own tracer, runtime/trace, writing to nowhere;
//   - an empty BPF program at gopherscope's probe sites: the traps alone;
//   - gopherscope, as a user runs it, writing to /dev/null;
//   - the same with its inline engine, printing every event and printing none;
//   - the design of the tutorial that gopherscope began as: one uprobe at
//     runtime.casgstatus, and the reader woken for each event.
//
// The variants take turns, round after round, on one process, so that a change
// of the machine's speed meets them all. Only ratios within one run say
// anything. It must be run as root, in the module's directory: go run ./bench.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

type options struct {
	rounds   int
	duration time.Duration
	json     string
}

// tutorialCommand makes this program be the tutorial's tracer: its arguments are
// the target's file and PID.
const tutorialCommand = "trace-as-tutorial"

func main() {
	if len(os.Args) == 4 && os.Args[1] == tutorialCommand {
		exit(traceAsTutorial(os.Args[2], os.Args[3]))
	}
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "measure each variant `N` times")
	flag.DurationVar(&o.duration, "duration", 600*time.Millisecond, "time of one measurement")
	flag.StringVar(&o.json, "json", "", "also write the results to this `file`")
	flag.Parse()
	if flag.NArg() > 0 || o.rounds < 1 || o.duration <= 0 {
		flag.Usage()
		os.Exit(2)
	}
	exit(bench(os.Stdout, o))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run has the results of a workload.
type run struct {
	workload workload
	results  []result // as variants
}

func bench(w io.Writer, o options) (err error) {
	dir, err := os.MkdirTemp("", "gopherscope-bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	targetPath, tool := filepath.Join(dir, "target"), filepath.Join(dir, "gopherscope")
	if err := errors.Join(build(targetPath, "./bench/target"), build(tool, "./cmd/gopherscope")); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	m := thisMachine()
	m.print(w)
	var runs []run
	for _, wl := range workloads(m.CPUs) {
		res, err := measure(wl, targetPath, wl.of(variants(tool, self, targetPath)), o)
		if err != nil {
			return fmt.Errorf("%s: %w", wl.name, err)
		}
		r := run{wl, res}
		r.print(w)
		runs = append(runs, r)
	}
	gs := goals(runs)
	if runtime.GOARCH == "amd64" {
		gs = append(gs, inlineGoals(runs)...)
	}
	printGoals(w, gs)
	if o.json == "" {
		return nil
	}
	return writeJSON(o.json, m, runs, gs)
}

func build(path, pkg string) error {
	cmd := exec.Command("go", "build", "-o", path, pkg)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build %s: %w", pkg, err)
	}
	return nil
}

// target is the measured process.
type target struct {
	path  string
	cmd   *exec.Cmd
	stdin io.Writer
	out   *bufio.Reader
}

func startTarget(path string) (*target, error) {
	cmd := exec.Command(path)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &target{path: path, cmd: cmd, stdin: stdin, out: bufio.NewReader(stdout)}, nil
}

func (t *target) pid() int { return t.cmd.Process.Pid }

// ask sends a command and returns the answer.
func (t *target) ask(format string, args ...any) (string, error) {
	if _, err := fmt.Fprintf(t.stdin, format+"\n", args...); err != nil {
		return "", err
	}
	line, err := t.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("target ended: %w", err)
	}
	return strings.TrimSpace(line), nil
}

func (t *target) stop() {
	t.cmd.Process.Kill()
	_ = t.cmd.Wait() // it was killed
}
