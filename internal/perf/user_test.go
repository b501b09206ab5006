package perf_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gopherscope/internal/perf"
	"gopherscope/internal/testenv"
)

// roleVar makes the test binary play a role instead of running tests: that of an
// ordinary user.
const roleVar = "GOPHERSCOPE_PERF_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVar) {
	case "":
		os.Exit(m.Run())
	case "spin":
		fmt.Println(newSpinner().tid)
		io.Copy(io.Discard, os.Stdin)
	case "sample":
		tid, _ := strconv.Atoi(os.Args[1])
		sampleAll([]int{tid})
	case "crowd":
		crowd()
	}
}

// sampleAll prints how many of the threads have a sample, and the error.
func sampleAll(tids []int) {
	samples, err := perf.NewSampler(&perf.Options{Deadline: 200 * time.Millisecond}).Sample(tids)
	fmt.Println(len(samples), err)
}

// crowdSize is more threads than an ordinary user can have rings at once with no
// other locked memory than kernel.perf_event_mlock_kb, which is for each CPU.
func crowdSize() int {
	kb, _ := os.ReadFile("/proc/sys/kernel/perf_event_mlock_kb")
	n, _ := strconv.Atoi(strings.TrimSpace(string(kb)))
	return 20 + n*runtime.NumCPU()/64
}

// crowd samples many threads, of which the last one spins.
func crowd() {
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{}); err != nil {
		fmt.Println(err)
		return
	}
	var tids []int
	started := make(chan int)
	for range crowdSize() {
		go func() {
			runtime.LockOSThread()
			started <- unix.Gettid()
			select {}
		}()
		tids = append(tids, <-started)
	}
	sampleAll(append(tids, newSpinner().tid))
}

// nobody starts the test binary in a role, as a user who may nothing.
func nobody(t *testing.T, name string, args ...string) *bufio.Reader {
	t.Helper()
	testenv.RequireRoot(t) // to become another user
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleVar+"="+name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return bufio.NewReader(out)
}

func line(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	s, err := r.ReadString('\n')
	if err != nil {
		t.Fatalf("output of a role: %q, %v", s, err)
	}
	return strings.TrimSpace(s)
}

// open tells whether this system lets ordinary users sample their own processes.
func open(t *testing.T) bool {
	t.Helper()
	level, err := os.ReadFile("/proc/sys/kernel/perf_event_paranoid")
	if err != nil {
		testenv.Missing(t, "perf events: "+err.Error())
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(level)))
	return err == nil && n <= 2
}

// TestOrdinaryUser has an ordinary user sample a process of their own, and one
// of root's.
func TestOrdinaryUser(t *testing.T) {
	own := line(t, nobody(t, "spin"))
	got := line(t, nobody(t, "sample", own))
	if open(t) && got != "1 <nil>" || !open(t) && !strings.HasPrefix(got, "0 perf events are not permitted: ") {
		t.Errorf("an ordinary user's own process: %s", got)
	}
	got = line(t, nobody(t, "sample", strconv.Itoa(startSpinner(t).tid)))
	if !strings.HasPrefix(got, "0 ") || !strings.Contains(got, perf.ErrPermission.Error()+": kernel.perf_event_paranoid is ") ||
		!strings.HasSuffix(got, unix.EACCES.Error()) {
		t.Errorf("an ordinary user, root's process: %s", got)
	}
}

// TestLockedMemory has an ordinary user sample more threads than they can have
// rings: so many at once as they can.
func TestLockedMemory(t *testing.T) {
	crowd := nobody(t, "crowd")
	if !open(t) {
		testenv.Missing(t, "kernel.perf_event_paranoid forbids ordinary users all")
	}
	if got := line(t, crowd); got != "1 <nil>" {
		t.Errorf("of %d threads: %s", crowdSize()+1, got)
	}
}
