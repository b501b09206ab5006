package ptrace_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// blockedFor is the timeout of the calls that have one. They are meddled with until
// the time meddleFor at least: a call that began anew then would end that much late,
// which is more than lateness, what a busy machine may cost.
const (
	blockedFor = 15 * time.Second
	meddleFor  = 5 * time.Second
	lateness   = 4 * time.Second
)

// timed and untimed are the system calls of the mode "block". What each returns after its
// timeout, and at its end, is the kernel's interface.
var (
	timed = map[string]int{
		"futex-timed": -int(unix.ETIMEDOUT), "nanosleep": 0, "clock_nanosleep": 0, "select": 0, "poll": 0, "ppoll": 0,
	}
	untimed = map[string]int{"read": 1, "futex": 0, "pause": -int(unix.EINTR)}
)

// forgets has the calls that the kernel restarts from where they were, which
// rt_sigreturn(2) makes it forget: after the death of the tracer these return EINTR.
var forgets = []string{"futex-timed", "nanosleep", "poll"}

// result is how a thread's call ended.
type result struct {
	rc    int
	took  time.Duration
	ended bool // after the program was told to end it
}

// results reads how the calls of both threads ended.
func results(t *testing.T, p *prog) map[string]result {
	t.Helper()
	got := map[string]result{}
	for _, line := range p.Lines() {
		var who string
		var r result
		var ended int
		if _, err := fmt.Sscanf(line, "result %s %d %d %d", &who, &r.rc, &r.took, &ended); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		r.ended = ended == 1
		got[who] = r
	}
	if err := p.Wait(); err != nil {
		t.Errorf("end: %v; stderr:\n%s", err, p.Stderr())
	}
	return got
}

// checkResult compares the end of a call with what it is in a process that nobody
// touched.
func checkResult(t *testing.T, call, who string, r result) {
	t.Helper()
	if want, ok := timed[call]; ok {
		if r.rc != want || r.took < blockedFor || r.took > blockedFor+lateness {
			t.Errorf("%s, %s thread: %d after %v, want %d after %v", call, who, r.rc, r.took, want, blockedFor)
		}
		return
	}
	// A futex call that the kernel restarts only when the program has been told, as the
	// thread had to wait for a CPU, finds the word changed (futex(2), FUTEX_WAIT): it
	// did not return before.
	late := call == "futex" && r.rc == -int(unix.EAGAIN)
	if want := untimed[call]; r.rc != want && !late || !r.ended {
		t.Errorf("%s, %s thread: %d, told to end: %v, want %d when told", call, who, r.rc, r.ended, want)
	}
}

// startBlocked starts a program for each system call.
func startBlocked(t *testing.T) map[string]*prog {
	t.Helper()
	progs := map[string]*prog{}
	for _, calls := range []map[string]int{timed, untimed} {
		for call := range calls {
			progs[call] = start(t, "block", call, fmt.Sprint(blockedFor.Seconds()))
		}
	}
	for _, p := range progs {
		awaitSleep(t, p.PID(), 4) // with one that looks after the parent, and one that reads commands
	}
	return progs
}

// awaitSleep waits until n threads of a process are there and all sleep.
func awaitSleep(t *testing.T, pid, n int) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
		if err != nil {
			t.Fatal(err)
		}
		asleep := 0
		for _, path := range paths {
			if strings.HasPrefix(statusIn(path, "State"), "S") {
				asleep++
			}
		}
		if asleep == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d threads of %d sleep, want %d", asleep, len(paths), n)
		}
	}
}

// No call returns early, late or with EINTR because its thread is stopped, or makes
// other calls, 100 times each.
func TestBlockedCallsGoOn(t *testing.T) {
	began := time.Now()
	progs := startBlocked(t)
	for i := range 100 {
		time.Sleep(time.Until(began.Add(meddleFor * time.Duration(i+1) / 100)))
		for call, p := range progs {
			if err := stopRelease(p.PID()); err != nil {
				t.Fatalf("%s, cycle %d: stop: %v", call, i, err)
			}
			if err := injectPID(p.PID(), p.gadgets); err != nil {
				t.Fatalf("%s, cycle %d: inject: %v", call, i, err)
			}
		}
	}
	cycles := time.Since(began)
	if cycles > blockedFor {
		t.Fatalf("100 cycles took %v: some calls have ended", cycles)
	}
	for call := range untimed {
		progs[call].WriteLine("")
	}
	for call, p := range progs {
		got := results(t, p)
		for _, who := range []string{"main", "other"} {
			checkResult(t, call, who, got[who])
		}
	}
}

// When the tracer dies while the main thread makes calls for it, the thread's own
// call is restarted all the same, or returns EINTR where that cannot be.
func TestBlockedCallsAfterDeath(t *testing.T) {
	for _, mode := range []string{"die-stopped", "die-before", "die-after", "die-later"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel() // all but asleep
			began := time.Now()
			progs := startBlocked(t)
			time.Sleep(time.Until(began.Add(meddleFor)))
			for call, p := range progs {
				h := startHelper(t, p, mode)
				if err := h.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
					t.Fatalf("%s: the helper ended with %v\n%s", call, err, h.Stderr())
				}
				p.untraced()
			}
			if took := time.Since(began); took > blockedFor {
				t.Fatalf("the tracers took until %v: some calls have ended", took)
			}
			for call := range untimed {
				progs[call].WriteLine("")
			}
			for call, p := range progs {
				got := results(t, p)
				checkResult(t, call, "other", got["other"])
				armed := mode == "die-after" || mode == "die-later"
				if r := got["main"]; !armed || !slices.Contains(forgets, call) {
					checkResult(t, call, "main", r)
				} else if r.rc != -int(unix.EINTR) || r.took > blockedFor {
					t.Errorf("%s: %d after %v, want EINTR at once", call, r.rc, r.took)
				}
			}
		})
	}
}
