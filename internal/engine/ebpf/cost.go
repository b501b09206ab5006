package ebpf

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"gopherscope/internal/gobinary"
)

// costMeter measures what one hit costs, in three parts. The trap into the kernel
// and back is measured on a function of this process, with a program that does
// nothing, at the kind of instruction that is probed in the target. The run time
// of the programs is the kernel's own measurement, taken in the target while
// the first hits come (bpf(2), BPF_ENABLE_STATS), and what of it goes into stacks
// is that of the programs themselves: it costs the target some tens of ns a hit,
// so it is switched off after statsWindow.
type costMeter struct {
	uprobes, tracepoints []*ebpf.Program
	timer                *stackTimer // nil without stacks
	trap                 *trapMeter  // which is done

	mu    sync.Mutex
	stats io.Closer // nil when the kernel's measurement is off
	end   *time.Timer
}

// statsWindow is how long the kernel measures the programs' run time.
const statsWindow = 500 * time.Millisecond

// trapMeter measures the trap, while other things are made ready.
type trapMeter struct {
	done chan struct{} // closed when ns and err are set
	ns   float64
	err  error
}

func startTrapMeter(multi bool) *trapMeter {
	m := &trapMeter{done: make(chan struct{})}
	go func() {
		defer close(m.done)
		m.ns, m.err = trapCost(multi)
	}()
	return m
}

// wait returns when the trap is measured, or could not be.
func (m *trapMeter) wait() { <-m.done }

func startCostMeter(uprobes, tracepoints []*ebpf.Program, trap *trapMeter, timer *stackTimer) *costMeter {
	m := &costMeter{uprobes: uprobes, tracepoints: tracepoints, trap: trap, timer: timer}
	// Without permission for it (CAP_SYS_ADMIN) the programs count as free: they
	// take a tenth of what the trap does.
	if stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME)); err == nil {
		m.stats = stats
	}
	timer.switchTo(true)
	m.end = time.AfterFunc(statsWindow, m.stopStats)
	return m
}

// stopStats ends the kernel's measurement. Closing its descriptor is all that
// this takes, and cannot fail in a way that leaves it on.
func (m *costMeter) stopStats() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.timer.switchTo(false)
	if m.stats != nil {
		m.stats.Close()
		m.stats = nil
	}
}

// prices are what each costs, in ns.
type prices struct {
	uprobe, syscall float64 // a hit without its stack
	stack           float64
}

// measured is what was found out so far.
func (m *costMeter) measured() (prices, error) {
	if m.trap.err != nil {
		return prices{}, m.trap.err
	}
	s, err := m.timer.read()
	if err != nil {
		return prices{}, err
	}
	return prices{
		uprobe:  m.trap.ns + runtimeNs(m.uprobes, s.inUprobes),
		syscall: runtimeNs(m.tracepoints, s.inTracepoints),
		stack:   s.each,
	}, nil
}

// stackTimer makes the programs measure what their stacks take: see take in bpf/stack.h.
// Nil is that of a trace without stacks.
type stackTimer struct {
	on       *ebpf.Variable
	counters *counters
}

// stackTimes are what a stackTimer has measured.
type stackTimes struct {
	each float64 // ns of a stack; 0 if none was timed
	// ns of all that were timed and of timing them, as a part of the programs' run times
	inUprobes, inTracepoints uint64
}

// switchTo begins or ends the measurement. That it cannot be switched off does no harm, but
// that every stack takes some tens of ns more; it can fail with the map gone only.
func (s *stackTimer) switchTo(on bool) {
	if s == nil {
		return
	}
	v := uint8(0)
	if on {
		v = 1
	}
	_ = s.on.Set(v)
}

func (s *stackTimer) read() (t stackTimes, err error) {
	if s == nil {
		return t, nil
	}
	var n, clock uint64
	for which, to := range map[gtraceCounter]*uint64{
		gtraceCounterTIMED_STACK: &n, gtraceCounterNS_CLOCK: &clock,
		gtraceCounterNS_UPROBE_STACK: &t.inUprobes, gtraceCounterNS_SYSCALL_STACK: &t.inTracepoints,
	} {
		if *to, err = s.counters.sum(which); err != nil {
			return t, err
		}
	}
	if n > 0 {
		t.each = max(0, float64(t.inUprobes+t.inTracepoints)-float64(clock)) / float64(n)
	}
	return t, nil
}

// runtimeNs is the mean run time of the programs, less what of all of it went into stacks;
// 0 if none was measured.
func runtimeNs(progs []*ebpf.Program, stacks uint64) float64 {
	var total time.Duration
	var runs uint64
	for _, p := range progs {
		if s, err := p.Stats(); err == nil {
			total += s.Runtime
			runs += s.RunCount
		}
	}
	if runs == 0 {
		return 0
	}
	return max(0, float64(total)-float64(stacks)) / float64(runs)
}

// Close ends the measurement.
func (m *costMeter) Close() {
	m.end.Stop()
	m.stopStats()
}

// trapHits and trapRounds make trapCost take some ten milliseconds.
const (
	trapHits   = 25
	trapRounds = 60
)

// trapCost measures the cost in ns of one uprobe hit with an empty program.
func trapCost(multi bool) (ns float64, err error) {
	base, err := timeHits()
	if err != nil {
		return 0, err
	}
	detach, err := probeSelf(multi)
	if err != nil {
		return 0, fmt.Errorf("measure the cost of a probe: %w", err)
	}
	defer func() { err = errors.Join(err, detach()) }()
	hit, err := timeHits()
	return max(0, hit-base), err
}

// timeHits is the CPU time of one call of calibrationPoint, in ns: the median of rounds. The
// least would be that of the best moments of a machine that is busy, and a trap then
// costs by a third more, since the other CPUs and what else ran on this one are in its way: so
// it does in the target, which shares the machine at the same time. In CPU time it does not count that the
// thread was put off its CPU.
func timeHits() (float64, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	times := make([]time.Duration, trapRounds)
	n := 0
	for i := range times {
		start, err := threadTime()
		if err != nil {
			return 0, err
		}
		for range trapHits {
			n = calibrationPoint(n)
		}
		end, err := threadTime()
		if err != nil {
			return 0, err
		}
		times[i] = end - start
	}
	slices.Sort(times)
	return float64(times[trapRounds/2]) / trapHits, nil
}

// threadTime is the CPU time of the calling thread.
func threadTime() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0, fmt.Errorf("CPU time of a thread: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

// calibrationPoint is the function of this process that trapCost probes. It
// has a frame, so that its prologue has an instruction like the target's.
//
//go:noinline
func calibrationPoint(n int) int { return calibrationCallee(n) + 1 }

//go:noinline
func calibrationCallee(n int) int { return n ^ 1 }

// probeSelf attaches an empty program to calibrationPoint.
func probeSelf(multi bool) (detach func() error, err error) {
	const exe = "/proc/self/exe"
	spec := &ebpf.ProgramSpec{
		Type:          ebpf.Kprobe,
		Instructions:  asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
		License:       "MIT",
		KernelVersion: anyKernel,
	}
	if multi {
		spec.AttachType = ebpf.AttachTraceUprobeMulti
	}
	bin, err := gobinary.Open(exe)
	if err != nil {
		return nil, err
	}
	defer bin.Close()
	point, err := bin.ProbePoint("gopherscope/internal/engine/ebpf.calibrationPoint")
	if err != nil {
		return nil, err
	}
	off, ok := bin.FileOffset(point.PC)
	if !ok {
		return nil, fmt.Errorf("address %#x is not in the file", point.PC)
	}
	prog, err := ebpf.NewProgram(spec)
	if err != nil {
		return nil, explain(err)
	}
	attached, err := attachOne(exe, prog, off, unix.Getpid(), multi)
	if err != nil {
		return nil, errors.Join(err, prog.Close())
	}
	return func() error { return errors.Join(attached.Close(), prog.Close()) }, nil
}

func attachOne(path string, prog *ebpf.Program, off uint64, pid int, multi bool) (link.Link, error) {
	exe, err := link.OpenExecutable(path)
	if err != nil {
		return nil, err
	}
	if multi {
		return exe.UprobeMulti(nil, prog, &link.UprobeMultiOptions{Addresses: []uint64{off}, PID: uint32(pid)})
	}
	return exe.Uprobe("", prog, &link.UprobeOptions{Address: off, PID: pid})
}
