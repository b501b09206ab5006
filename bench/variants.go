package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/cilium/ebpf"

	sites "gopherscope/internal/engine/ebpf"
	"gopherscope/internal/gobinary"
	"gopherscope/internal/process"
)

// The names of the variants that goals speak of.
const (
	untraced = "untraced"
	empty    = "empty program"
	ours     = "gopherscope --json"
	rival    = "tutorial's design"
)

// variant is one way to trace the target, or none.
type variant struct {
	name string
	// start begins to trace the target; stop ends that.
	start func(t *target) (stop func() (usage, error), err error)
}

// usage is what a variant used and did, where that is known.
type usage struct {
	events, lost uint64
	cpu          time.Duration // of the reading process, while there was something to read
	rss          int64         // its peak memory, bytes
}

// variants are in the order in which they take turns. self is this program, path
// the target.
func variants(tool, self, path string) []variant {
	trace := []string{"trace", "--max-overhead", "off", "-o", os.DevNull}
	vs := []variant{
		{untraced, func(*target) (func() (usage, error), error) {
			return func() (usage, error) { return usage{}, nil }, nil
		}},
		{goTracer, runtimeTrace},
		{"gopherscope text", reader(attachedTool, tool, trace...)},
		{empty, emptyProgram},
		{ours, reader(attachedTool, tool, append(trace, "--json")...)},
		{rival, reader(attachedTutorial, self, tutorialCommand, path)},
	}
	if runtime.GOARCH == "amd64" {
		vs = append(vs, inlineVariants(tool)...)
	}
	return vs
}

// of are the variants that a workload has.
func (wl workload) of(vs []variant) []variant {
	if wl.pace == 0 {
		return vs
	}
	var few []variant
	for _, v := range vs {
		if v.name == untraced || v.name == inlineChecked {
			few = append(few, v)
		}
	}
	return few
}

// runtimeTrace is Go's own tracer, in the target.
func runtimeTrace(t *target) (func() (usage, error), error) {
	if _, err := t.ask("trace on"); err != nil {
		return nil, err
	}
	return func() (usage, error) {
		_, err := t.ask("trace off")
		return usage{}, err
	}, nil
}

// emptyProgram is the traps alone: a program that does nothing, where
// gopherscope has its own.
func emptyProgram(t *target) (func() (usage, error), error) {
	bin, err := gobinary.Open(t.path)
	if err != nil {
		return nil, err
	}
	defer bin.Close()
	offsets, err := sites.SiteOffsets(bin)
	if err != nil {
		return nil, err
	}
	a, err := attach(t.path, t.pid(), offsets, 0, func(o *tutorialObjects) *ebpf.Program { return o.Empty })
	if err != nil {
		return nil, err
	}
	return func() (usage, error) { return usage{}, a.Close() }, nil
}

// How long a reader gets to start, before the target has work: first, and at
// most. Of that it must have been attached for some time when the work begins;
// gopherscope measures its own cost in the first half second.
const (
	firstSettle      = 800 * time.Millisecond
	longestSettle    = 10 * time.Second
	attachedTool     = 550 * time.Millisecond
	attachedTutorial = 50 * time.Millisecond
	attachedInline   = 100 * time.Millisecond
)

// settleEnd is how long a reader gets to read what is left.
const settleEnd = 100 * time.Millisecond

// errLate says that a reader did not start in time, on a busy machine. It gets
// twice the time from then on.
var errLate = errors.New("the reader was not attached in time")

// counted is what both readers print when they are interrupted.
var counted = regexp.MustCompile(`(\d+) events.* in ([0-9a-zµ.]+), (\d+) lost`)

// reader runs a program that is given the PID to trace as its last argument,
// its output going nowhere, and interrupts it in the end. stop fails with
// errLate if it had not been attached for some time when start returned.
func reader(attached time.Duration, path string, args ...string) func(*target) (func() (usage, error), error) {
	settle := firstSettle
	return func(t *target) (func() (usage, error), error) {
		cmd := exec.Command(path, append(args[:len(args):len(args)], strconv.Itoa(t.pid()))...)
		stderr, err := cmd.StderrPipe()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		time.Sleep(settle)
		before, err := cpuTime(cmd.Process.Pid)
		if err != nil {
			_, _, ended := interrupt(cmd, stderr) // it says why there is no such process
			return nil, errors.Join(err, ended)
		}
		began := time.Now()
		return func() (usage, error) {
			time.Sleep(settleEnd)
			after, cpuErr := cpuTime(cmd.Process.Pid)
			want := time.Since(began) + attached
			u, traced, err := interrupt(cmd, stderr)
			if err := errors.Join(cpuErr, err); err != nil {
				return u, err
			}
			u.cpu = after - before
			if traced >= want {
				return u, nil
			}
			if settle *= 2; settle > longestSettle {
				return u, fmt.Errorf("%s: attached for %s of at least %s", cmd.Args, traced, want)
			}
			return u, errLate
		}, nil
	}
}

// interrupt ends a reader and returns what it counted, and for how long it was
// attached.
func interrupt(cmd *exec.Cmd, stderr io.Reader) (u usage, traced time.Duration, err error) {
	signalled := cmd.Process.Signal(os.Interrupt)
	text, err := io.ReadAll(stderr)
	if err := errors.Join(signalled, err, cmd.Wait()); err != nil {
		return u, 0, fmt.Errorf("%s: %w: %s", cmd.Args, err, text)
	}
	m := counted.FindSubmatch(text)
	if m == nil {
		return u, 0, fmt.Errorf("%s printed no counts: %s", cmd.Args, text)
	}
	if traced, err = time.ParseDuration(string(m[2])); err != nil {
		return u, 0, err
	}
	u.rss = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
	if u.events, err = strconv.ParseUint(string(m[1]), 10, 64); err != nil {
		return u, 0, err
	}
	u.lost, err = strconv.ParseUint(string(m[3]), 10, 64)
	return u, traced, err
}

func cpuTime(pid int) (time.Duration, error) {
	p, err := process.Open(pid)
	if err != nil {
		return 0, err
	}
	defer p.Close()
	return p.CPUTime()
}
