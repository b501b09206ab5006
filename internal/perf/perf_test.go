package perf_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gopherscope/internal/perf"
	"gopherscope/internal/snapshot"
	"gopherscope/internal/testenv"
)

// spinner is a thread of this test that is always in spin.
type spinner struct {
	tid    int
	rounds atomic.Uint64
	stop   atomic.Bool
	ended  chan struct{}
}

//go:noinline
func (s *spinner) spin(mark *uint64) {
	for !s.stop.Load() {
		s.rounds.Add(1)
		*mark++
	}
}

const markTop = 0x5eed << 40 // the upper bits of what is on the stack

// newSpinner starts a thread that spins until its end.
func newSpinner() *spinner {
	s := &spinner{ended: make(chan struct{})}
	ready := make(chan struct{})
	go func() {
		defer close(s.ended)
		runtime.LockOSThread() // the thread ends with the goroutine
		var mark uint64 = markTop
		s.tid = unix.Gettid()
		close(ready)
		s.spin(&mark)
	}()
	<-ready
	return s
}

func startSpinner(t testing.TB) *spinner {
	t.Helper()
	s := newSpinner()
	t.Cleanup(s.end)
	return s
}

func (s *spinner) end() {
	s.stop.Store(true)
	<-s.ended
}

// requirePerf skips the test where there are no perf events for us.
func requirePerf(t testing.TB) {
	t.Helper()
	_, err := perf.NewSampler(nil).Sample([]int{os.Getpid()})
	if errors.Is(err, perf.ErrPermission) || errors.Is(err, perf.ErrUnsupported) {
		testenv.Missing(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestSample samples two threads of its own, and looks at all of a sample: where
// it is, its frame pointer, its g, a variable on its stack.
func TestSample(t *testing.T) {
	requirePerf(t)
	one, two := startSpinner(t), startSpinner(t)
	sampler := perf.NewSampler(&perf.Options{Deadline: 2 * time.Second})
	gs := map[int]uint64{}
	for range 20 {
		samples, err := sampler.Sample([]int{one.tid, two.tid})
		if err != nil {
			t.Fatal(err)
		}
		if len(samples) != 2 || samples[0].TID == samples[1].TID {
			t.Fatalf("%d samples of two threads that spin", len(samples))
		}
		for i := range samples {
			checkSpinning(t, &samples[i], gs)
		}
	}
	if len(gs) != 2 || gs[one.tid] == gs[two.tid] {
		t.Errorf("the threads' goroutines: %v", gs)
	}
}

func checkSpinning(t *testing.T, s *snapshot.Sample, gs map[int]uint64) {
	t.Helper()
	fn := runtime.FuncForPC(uintptr(s.PC))
	name := fn.Name() // "" for a nil fn
	if !strings.HasSuffix(name, ".(*spinner).spin") && !strings.HasPrefix(name, "runtime.") && !strings.HasPrefix(name, "sync/atomic.") {
		t.Errorf("thread %d is at %#x, in %q", s.TID, s.PC, name)
		return
	}
	if strings.HasPrefix(name, "runtime.") {
		return // it was interrupted to be preempted
	}
	if s.SP%8 != 0 || s.BP < s.SP || s.BP > s.SP+256 || s.Core {
		t.Errorf("thread %d: SP %#x, BP %#x", s.TID, s.SP, s.BP)
	}
	if was := gs[s.TID]; s.G == 0 || was != 0 && was != s.G {
		t.Errorf("thread %d: its g is %#x, was %#x", s.TID, s.G, was)
	}
	gs[s.TID] = s.G
	found := false
	for i := 0; i+8 <= min(len(s.Stack), 512); i += 8 {
		found = found || s.Stack[i+7] == 0 && s.Stack[i+6] == 0x5e && s.Stack[i+5] == 0xed
	}
	if !found {
		t.Errorf("thread %d: its variable is not in %d bytes of stack", s.TID, len(s.Stack))
	}
}

// TestNoSample samples threads that do not run, that there never were, and that
// end while they are waited for.
func TestNoSample(t *testing.T) {
	requirePerf(t)
	sleeper := exec.Command("sleep", "60")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { sleeper.Process.Kill(); sleeper.Wait() }()
	waitAsleep(t, sleeper.Process.Pid)
	began := time.Now()
	samples, err := perf.NewSampler(&perf.Options{Deadline: 50 * time.Millisecond}).Sample([]int{1 << 30, sleeper.Process.Pid})
	if took := time.Since(began); err != nil || len(samples) != 0 || took < 50*time.Millisecond {
		t.Errorf("%d samples, %v after %v", len(samples), err, took)
	}
	go func() { time.Sleep(50 * time.Millisecond); sleeper.Process.Kill() }()
	began = time.Now()
	samples, err = perf.NewSampler(&perf.Options{Deadline: time.Minute}).Sample([]int{sleeper.Process.Pid})
	if took := time.Since(began); err != nil || took > 30*time.Second {
		t.Errorf("%d samples of a thread that ended, %v after %v", len(samples), err, took)
	}
	if samples, err := perf.NewSampler(nil).Sample(nil); len(samples) != 0 || err != nil {
		t.Errorf("no threads: %v, %v", samples, err)
	}
}

// waitAsleep waits until a process sleeps for good.
func waitAsleep(t *testing.T, pid int) {
	t.Helper()
	for range 1000 {
		wchan, err := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", pid))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(wchan), "nanosleep") {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("sleep does not sleep")
}

// TestBatches samples more threads than are sampled at once.
func TestBatches(t *testing.T) {
	requirePerf(t)
	var tids []int
	for range 5 {
		tids = append(tids, startSpinner(t).tid, 1<<30)
	}
	samples, err := perf.NewSampler(&perf.Options{Batch: 3, Deadline: 5 * time.Second}).Sample(tids)
	if err != nil || len(samples) != 5 {
		t.Errorf("%d samples, %v", len(samples), err)
	}
}

// TestShortStack asks for little stack.
func TestShortStack(t *testing.T) {
	requirePerf(t)
	s := startSpinner(t)
	for ask, want := range map[int]int{8: 8, 1001: 1008, 4096: 4096} {
		samples, err := perf.NewSampler(&perf.Options{Stack: ask, Deadline: 2 * time.Second}).Sample([]int{s.tid})
		if err != nil || len(samples) != 1 || len(samples[0].Stack) != want {
			t.Errorf("%d bytes of stack: %d samples, %v", ask, len(samples), err)
		}
	}
}

// held counts what this process has of perf: file descriptors and mappings.
func held(t *testing.T) (n int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.Contains(to, "perf_event") {
			n++
		}
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return n + strings.Count(string(maps), "perf_event")
}

// TestNothingLeft wants nothing to be left of samples that were taken, that were
// not, and of an error half-way.
func TestNothingLeft(t *testing.T) {
	requirePerf(t)
	s := startSpinner(t)
	seen := atomic.Int64{}
	watch, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case <-watch:
				return
			default:
				seen.Store(max(seen.Load(), int64(held(t))))
			}
		}
	}()
	sampler := perf.NewSampler(nil)
	for range 20 {
		if _, err := sampler.Sample([]int{s.tid, os.Getpid(), 1 << 30}); err != nil {
			t.Error(err)
		}
		if _, err := sampler.Sample([]int{s.tid, -5}); err == nil {
			t.Error("thread -5 can be sampled")
		}
	}
	close(watch)
	<-watched
	if n := held(t); n != 0 || seen.Load() == 0 {
		t.Errorf("%d descriptors and mappings left, %d seen meanwhile", n, seen.Load())
	}
}
