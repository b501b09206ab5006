// Package tsc reads the time stamp counter of x86 processors and relates it to
// CLOCK_MONOTONIC.
//
// A time stamp taken with RDTSC costs some 10 ns and no system call, and is the same
// on all CPUs of a machine whose counter is invariant: it counts at a constant rate
// (CPUID 80000007H EDX bit 8; constant_tsc and nonstop_tsc in /proc/cpuinfo) and the
// CPUs' counters were started together. [Check] makes sure of both. Which clock source
// the kernel uses says less: under a hypervisor it is often kvm-clock, whatever the
// counter is like.
package tsc

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrUnfit is a counter by which events of several CPUs cannot be ordered.
	ErrUnfit = errors.New("the CPU's time stamp counter cannot order events")
	// ErrJump is a counter that did not keep pace with CLOCK_MONOTONIC: the machine was
	// suspended, or moved to another host.
	ErrJump = errors.New("the CPU's time stamp counter jumped")
)

// Quality is what Check found.
type Quality struct {
	Hz     float64       // ticks in a second of CLOCK_MONOTONIC
	Skew   time.Duration // the counters of no two CPUs are further apart, as far as can be measured
	CPUs   int           // that were compared
	Source string        // the kernel's clock source
}

// Check compares the counters of all CPUs that this process may run on. It takes a few
// milliseconds. The errors are ErrUnfit with what is wrong.
func Check() (Quality, error) {
	q := Quality{Source: "unknown"}
	if b, err := os.ReadFile("/sys/devices/system/clocksource/clocksource0/current_clocksource"); err == nil {
		q.Source = strings.TrimSpace(string(b))
	}
	if err := invariant(); err != nil {
		return q, err
	}
	done := make(chan error)
	go func() { // a thread that ends with its changed affinity
		runtime.LockOSThread()
		done <- q.compare()
	}()
	return q, <-done
}

// invariant looks for the flags of the CPUs.
func invariant() error {
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("%w: not written for %s yet", ErrUnfit, runtime.GOARCH)
	}
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "flags") {
			continue
		}
		flags := strings.Fields(line)
		for _, want := range []string{"constant_tsc", "nonstop_tsc"} {
			if !slices.Contains(flags, want) {
				return fmt.Errorf("%w: it is not invariant (no %s)", ErrUnfit, want)
			}
		}
		return nil
	}
	return fmt.Errorf("%w: /proc/cpuinfo has no flags", ErrUnfit)
}

const (
	maxSkew    = 2 * time.Microsecond // of counters that are taken for synchronous
	rateWindow = 2 * time.Millisecond
)

// compare goes from CPU to CPU and reads the counter and the clock on each. A skew
// shows as a difference to the first CPU's line; the tightest of several readings is
// uncertain by less than the time it took.
func (q *Quality) compare() error {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return fmt.Errorf("read CPU affinity: %w", err)
	}
	cpus := cpusOf(&allowed)
	first, err := on(cpus[0])
	if err != nil {
		return err
	}
	time.Sleep(rateWindow)
	again, err := on(cpus[0])
	if err != nil {
		return err
	}
	perNs := float64(again.tsc-first.tsc) / float64(again.mono-first.mono)
	q.Hz, q.CPUs = perNs*1e9, len(cpus)
	if !(perNs > 0.01 && perNs < 100) {
		return fmt.Errorf("%w: %.3g ticks in a nanosecond", ErrUnfit, perNs)
	}
	for _, cpu := range cpus[1:] {
		a, err := on(cpu)
		if err != nil {
			return err
		}
		b, err := on(cpus[0])
		if err != nil {
			return err
		}
		// Where the counter of the first CPU was when the other's was read.
		expected := float64(b.tsc) - float64(b.mono-a.mono)*perNs
		off := math.Abs(float64(a.tsc)-expected) / perNs
		bound := float64(a.err + b.err)
		if off-bound > float64(maxSkew) {
			return fmt.Errorf("%w: those of CPU %d and %d differ by %v", ErrUnfit, cpus[0], cpu, time.Duration(off))
		}
		q.Skew = max(q.Skew, time.Duration(off+bound))
	}
	return nil
}

func cpusOf(set *unix.CPUSet) []int {
	var cpus []int
	for cpu := 0; len(cpus) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus
}

// on reads both on one CPU.
func on(cpu int) (anchor, error) {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return anchor{}, fmt.Errorf("run on CPU %d: %w", cpu, err)
	}
	return read(10)
}

// anchor is a reading of both, as close together as it could be had.
type anchor struct {
	tsc  uint64
	mono int64
	err  int64 // the two are no further apart than this, in ns
}

// read takes the tightest of n readings: tsc is the middle of the one before and the
// one after the clock.
func read(n int) (anchor, error) {
	best := anchor{err: math.MaxInt64}
	width := uint64(math.MaxUint64)
	for range n {
		var ts unix.Timespec
		before := Now()
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			return best, fmt.Errorf("read clock: %w", err)
		}
		after := Now()
		if w := after - before; w < width {
			width = w
			best = anchor{tsc: before + w/2, mono: ts.Nano(), err: int64(w)}
		}
	}
	return best, nil
}
