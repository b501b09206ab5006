// Command bench measures what a trace costs the program that is traced, next to
// the ways that rivals do it, all in one run:
//
//   - untraced;
//   - Go's own tracer, runtime/trace, writing to nowhere;
//   - an empty BPF program at gopherscope's probe sites: the traps alone;
//   - gopherscope, as a user runs it, writing to /dev/null;
//   - the design of the tutorial that gopherscope began as: one uprobe at
//     runtime.casgstatus, and the reader woken for each event.
//
// The variants take turns, round after round, on one process, so that a change
// of the machine's speed meets them all. Only ratios within one run say
// anything. It must be run as root, in the module's directory: go run ./bench.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

type options struct {
	rounds   int
	duration time.Duration
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "how often each variant is measured")
	flag.DurationVar(&o.duration, "duration", time.Second, "how long one measurement takes")
	flag.Parse()
	if err := run(os.Stdout, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, o options) error {
	dir, err := os.MkdirTemp("", "gopherscope-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	targetPath, tool := filepath.Join(dir, "target"), filepath.Join(dir, "gopherscope")
	for path, pkg := range map[string]string{targetPath: "./bench/target", tool: "./cmd/gopherscope"} {
		build := exec.Command("go", "build", "-o", path, pkg)
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("build %s: %w", pkg, err)
		}
	}
	printMachine(w)
	var goals []goal
	for _, wl := range []workload{pingpong(1, 1), pingpong(runtime.NumCPU(), 8), httpLoad()} {
		res, err := measure(wl, targetPath, variants(tool), o)
		if err != nil {
			return fmt.Errorf("%s: %w", wl.name, err)
		}
		printResults(w, wl, res)
		goals = append(goals, wl.goals(res)...)
	}
	printGoals(w, goals)
	return nil
}

func printMachine(w io.Writer) {
	var u unix.Utsname
	release := "unknown"
	if unix.Uname(&u) == nil {
		release = unix.ByteSliceToString(u.Release[:])
	}
	fmt.Fprintf(w, "%s, Linux %s, %s, %d CPUs. Medians (min to max); only ratios within this run say anything.\n",
		time.Now().Format("2006-01-02"), release, runtime.Version(), runtime.NumCPU())
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
	t.cmd.Wait()
}
