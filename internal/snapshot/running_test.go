package snapshot_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gopherscope/internal/clock"
	"gopherscope/internal/dump"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/perf"
	"gopherscope/internal/snapshot"
	"gopherscope/internal/target"
	"gopherscope/internal/testenv"
)

// tally is what a number of snapshots of the program spin showed.
type tally struct {
	running, sampled int // of the spinning goroutines in those states
	whole            int // stacks that begin in the program's own functions
	below            int // stacks that begin in a function of the runtime or so
	assembly         int // stacks that begin in code that uses the register of the current g
	innermost        map[string]int
}

// count adds a snapshot, and fails the test for a stack that no spinning goroutine
// has.
func (y *tally) count(t *testing.T, d *dump.Dump) {
	t.Helper()
	if d.NoSample != "" {
		t.Fatalf("no samples: %s", d.NoSample)
	}
	for i := range d.Goroutines {
		g := &d.Goroutines[i]
		if d.Sites[g.Start].Func != "main.start.func1" {
			if g.Source == dump.SourceSample {
				t.Logf("goroutine %d, started at %s, was sampled", g.ID, d.Sites[g.Start].Func)
			}
			continue
		}
		if g.Status == goruntime.Running {
			y.running++
		}
		if g.Source != dump.SourceSample {
			continue
		}
		y.sampled++
		if g.Status != goruntime.Running || g.TID == 0 {
			t.Errorf("goroutine %d was sampled: it is %s on thread %d", g.ID, g.Status, g.TID)
		}
		y.countStack(t, g, d.Stacks[g.Stack])
	}
}

func (y *tally) countStack(t *testing.T, g *dump.Goroutine, s dump.Stack) {
	t.Helper()
	var names []string
	for _, f := range s.Frames {
		names = append(names, f.Func)
	}
	if len(names) == 0 {
		t.Errorf("goroutine %d: a stack of no frames", g.ID)
		return
	}
	y.innermost[names[0]]++
	if slices.Contains(names, "crypto/md5.block") {
		y.assembly++
	}
	if s.Cut || !strings.HasSuffix(strings.Join(names, " "), "main.spinC main.spinB main.spinA main.start.func1 runtime.goexit") {
		// Its first instructions, before it has called anything.
		if len(names) == 2 && names[0] == "main.start.func1" && names[1] == "runtime.goexit" && !s.Cut {
			return
		}
		t.Errorf("goroutine %d: a wrong stack, cut %v: %v", g.ID, s.Cut, names)
		return
	}
	if strings.HasPrefix(names[0], "main.") {
		y.whole++
	} else {
		y.below++
	}
}

func sampledTake(t *testing.T, tgt *target.Target, sampler snapshot.Sampler) *dump.Dump {
	t.Helper()
	d, err := snapshot.Take(context.Background(), tgt, &snapshot.Options{Stacks: true, Clock: clock.Mono, Sampler: sampler})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestRunning takes the stacks of goroutines that never stop running: whatever
// they are doing, it is below one chain of calls that is known.
func TestRunning(t *testing.T) {
	for _, b := range []testenv.Build{
		{Go: "1.18"}, {Go: "1.21"}, {Go: "1.24"}, {Go: "1.27"}, {Go: "1.26", Cgo: true, PIE: true, Stripped: true},
	} {
		t.Run(b.String(), func(t *testing.T) {
			prog := testenv.Start(t, testenv.BuildTarget(t, "spin", b))
			prog.WaitLine("ready")
			tgt := opened(t, prog.PID())
			sampler := perf.NewSampler(nil)
			seen := tally{innermost: map[string]int{}}
			for range 50 {
				seen.count(t, sampledTake(t, tgt, sampler))
				time.Sleep(3 * time.Millisecond)
			}
			t.Logf("%d running, %d with a stack: %d in the program, %d below it, %d of these in MD5's assembly code; innermost: %v",
				seen.running, seen.sampled, seen.whole, seen.below, seen.assembly, seen.innermost)
			if seen.whole == 0 || seen.assembly == 0 || seen.sampled < seen.running/10 {
				t.Errorf("of %d running goroutines %d have a stack, %d in the program's own functions, %d in assembly code",
					seen.running, seen.sampled, seen.whole, seen.assembly)
			}
		})
	}
}

// TestRunningCost measures what a sampled snapshot costs, and what the target
// loses by it, in one run. It holds the snapshot to the deadline.
func TestRunningCost(t *testing.T) {
	prog := testenv.Start(t, testenv.BuildTarget(t, "spin", testenv.Build{}), "1")
	prog.WaitLine("ready")
	tgt := opened(t, prog.PID())
	sampler := perf.NewSampler(nil)
	const n = 20
	var plain, sampled time.Duration
	stacks := 0
	for range n {
		began := time.Now()
		take(t, tgt)
		plain += time.Since(began)
		began = time.Now()
		d := sampledTake(t, tgt, sampler)
		sampled += time.Since(began)
		for i := range d.Goroutines {
			if d.Goroutines[i].Source == dump.SourceSample {
				stacks++
			}
		}
	}
	t.Logf("a snapshot takes %v, with samples %v; %d stacks of %d", plain/n, sampled/n, stacks, n)
	if stacks < n/2 {
		t.Errorf("%d stacks of one goroutine in %d snapshots", stacks, n)
	}
	// By the target's own CPU time, so that who else uses the CPUs does not count;
	// the interrupts are charged to it.
	cost := func(each func()) float64 {
		before, used, began := work(t, prog), cpuTime(t, prog.PID()), time.Now()
		for time.Since(began) < 300*time.Millisecond {
			each()
			time.Sleep(10 * time.Millisecond)
		}
		rounds := work(t, prog) - before
		return float64(cpuTime(t, prog.PID())-used) / float64(rounds)
	}
	var with, without float64
	for range 3 {
		without += cost(func() { take(t, tgt) })
		with += cost(func() { sampledTake(t, tgt, sampler) })
	}
	t.Logf("a round of work takes the target %.3f times the CPU time when it is sampled", with/without)
	if with > without*2 {
		t.Errorf("samples make the target's work take %.2f times the CPU time", with/without)
	}
}

// cpuTime is the CPU time of a process. Its clock has a number that is made of the
// PID (include/linux/posix-timers.h, make_process_cpuclock; CPUCLOCK_SCHED).
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// work is how much the program spin has done.
func work(t *testing.T, prog *testenv.Process) uint64 {
	t.Helper()
	prog.WriteLine("count")
	var n string
	if _, err := fmt.Sscanf(prog.WaitLine("count work"), "count work %s", &n); err != nil {
		t.Fatal(err)
	}
	v, err := strconv.ParseUint(n, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
