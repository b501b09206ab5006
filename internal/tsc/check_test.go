package tsc

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The rate must be the one that the counter has over a time that is long against every
// disturbance of a reading.
func TestCheckRate(t *testing.T) {
	q := fit(t)
	a, err := takeSample()
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	b, err := takeSample()
	if err != nil {
		t.Fatal(err)
	}
	// The clock of a sample was read somewhere between its stamps.
	elapsed := float64(b.mono-a.mono) / 1e9
	slowest, fastest := float64(b.before-a.after)/elapsed, float64(b.after-a.before)/elapsed
	const tolerance = 2000e-6 // what a Clock puts up with
	if q.Hz < slowest*(1-tolerance) || q.Hz > fastest*(1+tolerance) {
		t.Errorf("%.0f Hz, in 200ms it is %.0f to %.0f", q.Hz, slowest, fastest)
	}
	// A bound that was measured is never 0, and one of a millisecond says nothing.
	if (q.Skew > 0) != (q.CPUs > 1) || q.Skew > time.Millisecond {
		t.Errorf("skew of %v between %d CPUs", q.Skew, q.CPUs)
	}
	source, err := os.ReadFile("/sys/devices/system/clocksource/clocksource0/current_clocksource")
	if err == nil && q.Source != strings.TrimSpace(string(source)) {
		t.Errorf("clock source %q, it is %q", q.Source, source)
	}
}

// Check is part of every start, so it must not be felt. Other load makes single ones slow.
func TestCheckFast(t *testing.T) {
	q := fit(t)
	fastest := time.Duration(math.MaxInt64)
	for range 20 {
		begin := time.Now()
		if _, err := Check(); err != nil {
			t.Fatal(err)
		}
		fastest = min(fastest, time.Since(begin))
	}
	if fastest > 20*time.Millisecond {
		t.Errorf("%v for %d CPUs", fastest, q.CPUs)
	}
}

// Check moves a thread from CPU to CPU. Threads that run Go code afterwards, old and new,
// must be where they may be, and it must go to all the CPUs that it may and no other: a
// process of its own that may run on one CPU compares one.
func TestCheckAffinity(t *testing.T) {
	fit(t)
	allowed := everywhere(t)
	cpus := cpusOf(&allowed)
	var one unix.CPUSet
	one.Set(cpus[len(cpus)-1])
	for _, set := range []*unix.CPUSet{&allowed, &one} {
		out, err := checkOn(t, set)
		if want := fmt.Sprintf("CPUs %d, elsewhere 0\n", set.Count()); err != nil || out != want {
			t.Errorf("on %d CPUs: error %v, output %q, not %q", set.Count(), err, out, want)
		}
	}
}

// everywhere is where any thread of this process may run. A single thread will not do: a
// Check that leaves its mark would have changed that one.
func everywhere(t *testing.T) unix.CPUSet {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	var all unix.CPUSet
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			t.Fatal(err)
		}
		var set unix.CPUSet
		if err := unix.SchedGetaffinity(tid, &set); err != nil && !errors.Is(err, unix.ESRCH) {
			t.Fatal(err)
		}
		for _, cpu := range cpusOf(&set) {
			all.Set(cpu)
		}
	}
	return all
}

// onlyCheck in the environment makes the test program report on a Check and exit.
const onlyCheck = "TSC_TEST_ONLY_CHECK"

func checkOn(t *testing.T, set *unix.CPUSet) (string, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestOnlyCheck$")
	cmd.Env = append(os.Environ(), onlyCheck+"=1")
	out, err := "", errors.New("not started")
	done := make(chan struct{})
	go func() { // the child has the affinity of the thread that starts it
		defer close(done)
		runtime.LockOSThread() // the thread ends with its changed affinity
		if err = unix.SchedSetaffinity(0, set); err == nil {
			var b []byte
			b, err = cmd.CombinedOutput()
			out = string(b)
		}
	}()
	<-done
	return out, err
}

// TestOnlyCheck is the child's part of TestCheckAffinity.
func TestOnlyCheck(t *testing.T) {
	if os.Getenv(onlyCheck) == "" {
		t.Skip("run by TestCheckAffinity")
	}
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	q, err := Check()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("CPUs %d, elsewhere %d\n", q.CPUs, elsewhere(t, before))
	os.Exit(0)
}

// elsewhere starts goroutines that hold their threads, more than there are threads, and is
// how many of those may not run where the process may.
func elsewhere(t *testing.T, want unix.CPUSet) int {
	t.Helper()
	const threads = 64
	verdicts, release := make(chan bool, threads), make(chan struct{})
	for range threads {
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			var set unix.CPUSet
			err := unix.SchedGetaffinity(0, &set)
			verdicts <- err != nil || set != want
			<-release
		}()
	}
	n := 0
	for range threads {
		if <-verdicts {
			n++
		}
	}
	close(release)
	return n
}

// onMainThread in the environment makes the test program report on the main thread and exit.
const onMainThread = "TSC_TEST_MAIN_THREAD"

// TestMain is, for TestMainThread, a main goroutine that calls Check.
func TestMain(m *testing.M) {
	if os.Getenv(onMainThread) == "" {
		os.Exit(m.Run())
	}
	var before, after unix.CPUSet
	errBefore := unix.SchedGetaffinity(os.Getpid(), &before)
	_, err := Check()
	errAfter := unix.SchedGetaffinity(os.Getpid(), &after)
	fmt.Print(errors.Join(errBefore, err, errAfter), cpusOf(&before), cpusOf(&after))
}

// The main thread must be where it may be after a Check by the main goroutine: a goroutine
// that ends locked to it does not end it.
func TestMainThread(t *testing.T) {
	fit(t)
	all := everywhere(t)
	want := fmt.Sprint(error(nil), cpusOf(&all), cpusOf(&all))
	for range 10 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), onMainThread+"=1")
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != want {
			t.Fatalf("error %v, %q, not %q", err, out, want)
		}
	}
}
