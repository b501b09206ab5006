package tsc

import (
	"cmp"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sample is a reading of CLOCK_MONOTONIC between two stamps of the same thread. The
// clock was read after before and ahead of after, however long that took: a thread that is
// put off its CPU meanwhile makes the sample wide, not wrong.
type sample struct {
	before, after uint64
	mono          int64
}

func takeSample() (sample, error) {
	var ts unix.Timespec
	s := sample{before: Now()}
	err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	s.after, s.mono = Now(), ts.Nano()
	return s, err
}

// samplers keeps threads reading the clock until it is closed.
type samplers struct {
	mu   sync.Mutex
	got  []sample
	err  error
	quit atomic.Bool
	done sync.WaitGroup
}

func (s *samplers) run(threads int) {
	for range threads {
		s.done.Go(func() {
			runtime.LockOSThread() // unlocked by the end of the goroutine, with its thread
			for !s.quit.Load() {
				one, err := takeSample()
				s.mu.Lock()
				s.got = append(s.got, one)
				if err != nil {
					s.err = err
				}
				s.mu.Unlock()
				time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
			}
		})
	}
}

// drain is what was sampled since it was last called.
func (s *samplers) drain() ([]sample, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.got
	s.got = nil
	return got, s.err
}

func (s *samplers) close() {
	s.quit.Store(true)
	s.done.Wait()
}

// What other threads stamped is converted as a tracer does it: after the next
// calibration. The kernel's clock, as the thread read it, must be between its two stamps.
func TestClockThreads(t *testing.T) {
	q := fit(t)
	c, err := NewClock()
	if err != nil {
		t.Fatal(err)
	}
	var from samplers
	from.run(4)
	defer from.close()
	var all []sample
	for begin := time.Now(); time.Since(begin) < time.Second; {
		time.Sleep(time.Duration(1+rand.IntN(19)) * time.Millisecond)
		if err := c.Refresh(); err != nil {
			t.Fatal(err)
		}
		got, err := from.drain()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range got {
			allowed := int64(c.Error()+q.Skew) + 20_000 // the last for the distance from the latest calibration
			if early, late := c.Mono(s.before)-s.mono, s.mono-c.Mono(s.after); early > allowed || late > allowed {
				t.Errorf("the clock was %d, by the stamps %d to %d, allowed is %d", s.mono, c.Mono(s.before), c.Mono(s.after), allowed)
			}
		}
		all = append(all, got...)
	}
	if len(all) < 500 {
		t.Errorf("only %d samples in a second", len(all))
	}
	checkOrder(t, all)
}

// checkOrder needs no tolerance: the kernel's clock is the same for all CPUs and never runs
// backwards, so of two samples that do not overlap by their stamps the later has not the
// earlier clock.
func checkOrder(t *testing.T, all []sample) {
	t.Helper()
	byEnd := slices.Clone(all)
	slices.SortFunc(byEnd, func(a, b sample) int { return cmp.Compare(a.after, b.after) })
	slices.SortFunc(all, func(a, b sample) int { return cmp.Compare(a.before, b.before) })
	ended, latest := 0, int64(0)
	for _, s := range all {
		for ; ended < len(byEnd) && byEnd[ended].after < s.before; ended++ {
			latest = max(latest, byEnd[ended].mono)
		}
		if s.mono < latest {
			t.Errorf("stamp %d is after one at clock %d, yet the clock was %d", s.before, latest, s.mono)
		}
	}
	if ended < len(all)/2 {
		t.Errorf("only %d of %d samples had another one before them", ended, len(all))
	}
}

// Stamps of one thread never fall. Two may be the same: some processors let the counter
// rise in steps of several ticks.
func TestNowRises(t *testing.T) {
	fit(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	first := Now()
	last := first
	for range 1_000_000 {
		now := Now()
		if now < last {
			t.Fatalf("%d after %d", now, last)
		}
		last = now
	}
	if last-first < 1_000_000 {
		t.Errorf("a million readings in %d ticks", last-first)
	}
}
