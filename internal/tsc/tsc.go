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
	"bufio"
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
	// suspended, which stops one of the two or starts the counter anew, or moved to
	// another host.
	ErrJump = errors.New("the CPU's time stamp counter jumped")
)

// Quality is what Check found.
type Quality struct {
	Hz     float64       // ticks in a second of CLOCK_MONOTONIC
	Skew   time.Duration // no CPU's counter is further from the first one's, as far as can be measured
	CPUs   int           // that were compared
	Source string        // the kernel's clock source
}

// Check compares the counters of the CPUs that this process may run on: all of them with
// the kernel's clock, and up to 32 of them directly with the first one. It takes some
// milliseconds, up to 20 on a busy machine. The error is ErrUnfit with what is
// wrong, or that of a system call which failed.
func Check() (Quality, error) {
	q := Quality{Source: "unknown"}
	if b, err := os.ReadFile("/sys/devices/system/clocksource/clocksource0/current_clocksource"); err == nil {
		q.Source = strings.TrimSpace(string(b))
	}
	if err := invariant(); err != nil {
		return q, err
	}
	err := onThread(q.compare)
	return q, err
}

// invariant looks for the flags of the CPUs, which are the same for all. On a machine with
// many of them /proc/cpuinfo is long and slow, so that only its beginning is read.
func invariant() error {
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("%w: not written for %s yet", ErrUnfit, runtime.GOARCH)
	}
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if !strings.HasPrefix(lines.Text(), "flags") {
			continue
		}
		flags := strings.Fields(lines.Text())
		for _, want := range []string{"constant_tsc", "nonstop_tsc"} {
			if !slices.Contains(flags, want) {
				return fmt.Errorf("%w: it is not invariant (no %s)", ErrUnfit, want)
			}
		}
		return nil
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read /proc/cpuinfo: %w", err)
	}
	return fmt.Errorf("%w: /proc/cpuinfo has no flags", ErrUnfit)
}

const (
	maxSkew    = 2 * time.Microsecond // of counters that are taken for synchronous
	rateWindow = 2 * time.Millisecond
)

// compare goes from CPU to CPU and reads the counter and the clock on each, on the first
// one before and after the others. A skew shows as a distance from that one's line; a
// reading is uncertain by less than the time it took. Then stamps are compared directly.
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
	others := make([]reading, 0, len(cpus))
	for _, cpu := range cpus[1:] {
		r, err := on(cpu)
		if err != nil {
			return err
		}
		others = append(others, r)
	}
	again, err := on(cpus[0])
	if err != nil {
		return err
	}
	perNs := float64(int64(again.tsc-first.tsc)) / float64(again.mono-first.mono)
	q.Hz, q.CPUs = perNs*1e9, len(cpus)
	if !(perNs > 0.01 && perNs < 100) {
		return fmt.Errorf("%w: %.3g ticks in a nanosecond", ErrUnfit, perNs)
	}
	apart, warped, err := rallies(spread(cpus[1:], rallyCPUs))
	if err != nil {
		return err
	}
	if warped != nil {
		return fmt.Errorf("%w: those of CPU %d and %d are %v or more apart", ErrUnfit,
			cpus[0], warped.cpu, time.Duration(math.Ceil(float64(warped.ticks)/perNs)))
	}
	for i, r := range others {
		cpu := cpus[i+1]
		// Where the counter of the first CPU was when this one's was read.
		expected := float64(first.tsc) + float64(r.mono-first.mono)*perNs
		off := math.Abs(float64(r.tsc) - expected)
		bound := float64(r.width/2 + max(first.width, again.width)/2 + 1)
		if (off-bound)/perNs > float64(maxSkew) {
			return fmt.Errorf("%w: those of CPU %d and %d differ by %v", ErrUnfit, cpus[0], cpu, time.Duration(off/perNs))
		}
		skew := off + bound
		if direct, ok := apart[cpu]; ok {
			skew = min(skew, float64(direct))
		}
		q.Skew = max(q.Skew, time.Duration(math.Ceil(skew/perNs)))
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
func on(cpu int) (reading, error) {
	if err := pin(cpu); err != nil {
		return reading{}, err
	}
	return read(10)
}

// reading is one of both, as close together as it could be had.
type reading struct {
	tsc   uint64
	mono  int64
	width uint64 // ticks: the clock was read no further than half of it from tsc
}

// anchor is what the reading says where the clock has a pace, in ns a tick.
func (r reading) anchor(pace float64) anchor {
	return anchor{r.tsc, r.mono, int64(math.Ceil(float64(r.width) / 2 * pace))}
}

// read takes the tightest of n readings: tsc is the middle of the one before and the
// one after the clock.
func read(n int) (reading, error) {
	best := reading{width: math.MaxUint64}
	for range n {
		var ts unix.Timespec
		before := Now()
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			return best, fmt.Errorf("read clock: %w", err)
		}
		after := Now()
		if w := after - before; w < best.width {
			best = reading{tsc: before + w/2, mono: ts.Nano(), width: w}
		}
	}
	return best, nil
}
