package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"

	sites "gopherscope/internal/engine/ebpf"
	"gopherscope/internal/gobinary"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/process"
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
	cpu          time.Duration // of the reading process, from when it has attached
	rss          int64         // its peak memory, bytes
}

func variants(tool string) []variant {
	return []variant{
		{"untraced", func(*target) (func() (usage, error), error) {
			return func() (usage, error) { return usage{}, nil }, nil
		}},
		{"runtime/trace", runtimeTrace},
		{"empty program at our sites", emptyProgram},
		{"gopherscope --json", gopherscope(tool, "--json")},
		{"gopherscope text", gopherscope(tool)},
		{"tutorial's design", tutorial},
	}
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

// emptyProgram is the traps alone.
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
	l, objs, err := attach(t, "empty", offsets, 0)
	if err != nil {
		return nil, err
	}
	return func() (usage, error) { return usage{}, errors.Join(l.Close(), objs.Close()) }, nil
}

// attach loads tutorial.bpf.c and attaches one of its programs.
func attach(t *target, program string, offsets []uint64, offGoID uint32) (link.Link, *tutorialObjects, error) {
	spec, err := loadTutorial()
	if err != nil {
		return nil, nil, err
	}
	if err := spec.Variables["off_goid"].Set(offGoID); err != nil {
		return nil, nil, err
	}
	for _, p := range spec.Programs {
		p.AttachType = ebpf.AttachTraceUprobeMulti
	}
	objs := &tutorialObjects{}
	if err := spec.LoadAndAssign(objs, nil); err != nil {
		return nil, nil, err
	}
	prog := objs.Empty
	if program != "empty" {
		prog = objs.OnCasgstatus
	}
	exe, err := link.OpenExecutable(t.path)
	if err != nil {
		return nil, nil, err
	}
	l, err := exe.UprobeMulti(nil, prog, &link.UprobeMultiOptions{Addresses: offsets, PID: uint32(t.pid())})
	if err != nil {
		return nil, nil, errors.Join(err, objs.Close())
	}
	return l, objs, nil
}

// tutorial is the design that this tool began as.
func tutorial(t *target) (func() (usage, error), error) {
	bin, err := gobinary.Open(t.path)
	if err != nil {
		return nil, err
	}
	defer bin.Close()
	g, err := bin.Struct("runtime.g")
	if err != nil {
		return nil, err
	}
	goid, ok := g.Offset("goid")
	fn, ok2 := bin.Func("runtime.casgstatus")
	off, ok3 := bin.FileOffset(fn.Entry)
	if !ok || !ok2 || !ok3 {
		return nil, errors.New("casgstatus or goid not found")
	}
	l, objs, err := attach(t, "tutorial", []uint64{off}, uint32(goid))
	if err != nil {
		return nil, err
	}
	reader, err := ringbuf.NewReader(objs.Events)
	if err != nil {
		return nil, err
	}
	out, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	done := make(chan uint64)
	go func() { done <- printTable(out, reader) }()
	return func() (usage, error) {
		err := errors.Join(l.Close(), reader.Close())
		n := <-done
		return usage{events: n}, errors.Join(err, objs.Close(), out.Close())
	}, nil
}

// printTable prints the tutorial's table until the reader is closed.
func printTable(w io.Writer, reader *ringbuf.Reader) (n uint64) {
	buf := bufio.NewWriter(w)
	defer buf.Flush()
	var rec ringbuf.Record
	for reader.ReadInto(&rec) == nil {
		le := binary.LittleEndian
		b := rec.RawSample
		fmt.Fprintf(buf, "%-15s %-13s %-8d %-8d %-8d\n", time.Now().Format("15:04:05.000000"),
			goruntime.Status(le.Uint32(b[24:])), le.Uint64(b[8:]), le.Uint32(b[16:]), le.Uint32(b[20:]))
		n++
	}
	return n
}

// settle is how long gopherscope gets to attach, and to finish what it measures
// of itself at the start of a trace.
const settle = 900 * time.Millisecond

var summary = regexp.MustCompile(`gopherscope: (\d+) events .* (\d+) lost`)

// gopherscope runs the tool as a user would, its output going nowhere.
func gopherscope(tool string, flags ...string) func(*target) (func() (usage, error), error) {
	return func(t *target) (func() (usage, error), error) {
		args := append([]string{"trace", "-o", os.DevNull}, flags...)
		cmd := exec.Command(tool, append(args, strconv.Itoa(t.pid()))...)
		stderr, err := cmd.StderrPipe()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		time.Sleep(settle)
		proc, err := process.Open(cmd.Process.Pid)
		if err != nil {
			return nil, err
		}
		before, err := proc.CPUTime()
		if err != nil {
			return nil, err
		}
		return func() (usage, error) {
			defer proc.Close()
			after, err := proc.CPUTime()
			if err != nil {
				return usage{}, err
			}
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				return usage{}, err
			}
			text, err := io.ReadAll(stderr)
			if err := errors.Join(err, cmd.Wait()); err != nil {
				return usage{}, fmt.Errorf("gopherscope: %w: %s", err, text)
			}
			m := summary.FindSubmatch(text)
			if m == nil {
				return usage{}, fmt.Errorf("gopherscope printed no summary: %s", text)
			}
			u := usage{cpu: after - before}
			u.events, _ = strconv.ParseUint(string(m[1]), 10, 64)
			u.lost, _ = strconv.ParseUint(string(m[2]), 10, 64)
			u.rss = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
			return u, nil
		}, nil
	}
}
