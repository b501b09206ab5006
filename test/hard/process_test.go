//go:build amd64

package hard_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

// TestFork: a child without an exec runs through our code and records nothing: its goroutines
// have the numbers of the parent's, whose chain it would break. Both live.
func TestFork(t *testing.T) {
	s := start(t, []string{"one"})
	sc := s.attachedTo(traced.Inline, "--ring-size", "64M")
	for range 5 {
		s.do("work 100")
		if code := s.do("fork"); code != 7 {
			t.Errorf("the child ended with %d", code)
		}
	}
	s.do("work 100")
	lines, sum := sc.end()
	whole(t, sum)
	for _, id := range []int64{s.ping, s.pong} {
		if n := chain(t, lines, s.pid, id); n < worked(600) || n > 6*(600+200)+1000 {
			t.Errorf("goroutine %d: %d changes", id, n)
		}
	}
	s.untouched()
	s.finish()
}

// TestExec: the process executes another program while it is traced.
func TestExec(t *testing.T) {
	for _, e := range traced.Engines() {
		t.Run(string(e), func(t *testing.T) {
			s := start(t, nil)
			sc := s.attachedTo(e)
			s.do("work 100")
			before := s.ping
			s.WriteLine("exec")
			s.ready()
			lines, sum := sc.read() // it ends by itself
			whole(t, sum)
			at := slices.IndexFunc(lines, func(l line) bool { return l.Type == "exec" })
			if at < 0 {
				t.Fatal("it was not seen")
			}
			if n := chain(t, lines[:at], s.pid, before); n < worked(100) {
				t.Errorf("%d changes before it", n)
			}
			s.untouched()
			s.finish()
		})
	}
}

// TestNamespaces: the process is in PID, mount and user namespaces of its own, as in a
// container. Its numbers are those that we know it by.
func TestNamespaces(t *testing.T) {
	for _, e := range traced.Engines() {
		t.Run(string(e), func(t *testing.T) {
			s := start(t, nil, "unshare", "-p", "-f", "--mount-proc", "-m", "-n", "-u", "-i")
			s.pid = childOf(t, s.PID())
			sc := s.attachedTo(e)
			s.do("work 1000")
			threads := map[int]bool{}
			for _, tid := range tasks(t, s.pid) {
				threads[tid] = true
			}
			lines, sum := sc.end()
			whole(t, sum)
			if n := chain(t, lines, s.pid, s.ping); n < worked(1000) {
				t.Errorf("%d changes", n)
			}
			for i := range lines {
				if !threads[lines[i].TID] {
					t.Fatalf("there is no such thread: %s", lines[i].Text)
				}
			}
			s.untouched()
			s.finish()
		})
	}
}

func childOf(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatalf("children of %d: %q", pid, text)
	}
	return child
}

func tasks(t *testing.T, pid int) (list []int) {
	t.Helper()
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		tid, err := strconv.Atoi(name.Name())
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, tid)
	}
	return list
}

// TestLaunched: a program that was launched for a while is ended with the trace.
func TestLaunched(t *testing.T) {
	for _, e := range traced.Engines() {
		t.Run(string(e), func(t *testing.T) {
			sc := trace(t, e, "-d", "500ms", "--", testenv.BuildTarget(t, "spin", build), "1000000")
			lines, sum := sc.read()
			whole(t, sum)
			if len(lines) == 0 {
				t.Fatal("nothing was seen")
			}
			if err := syscall.Kill(lines[0].PID, 0); err != syscall.ESRCH {
				t.Errorf("the program is there still: %v", err)
			}
		})
	}
}

// TestStopped: the process is stopped (SIGSTOP) when we attach, and again when we detach.
// It stays so until it is told to go on.
func TestStopped(t *testing.T) {
	for _, e := range traced.Engines() {
		t.Run(string(e), func(t *testing.T) {
			s := start(t, nil)
			s.stop()
			sc := trace(t, e, s.operand())
			// The snapshot of the goroutines that are there comes out when it is attached.
			sc.attached()
			if st := s.state(); st != "T" {
				t.Errorf("state %s after attaching", st)
			}
			s.Signal(syscall.SIGCONT)
			s.do("work 1000")
			s.stop()
			lines, sum := sc.end()
			whole(t, sum)
			if n := chain(t, lines, s.pid, s.ping); n < worked(1000) {
				t.Errorf("%d changes", n)
			}
			if st := s.state(); st != "T" {
				t.Errorf("state %s after detaching", st)
			}
			s.untouched()
			s.Signal(syscall.SIGCONT)
			s.finish()
		})
	}
}

// stop stops the program.
func (s *subject) stop() {
	s.t.Helper()
	s.Signal(syscall.SIGSTOP)
	waitFor(s.t, "the program to stop", func() bool { return s.state() == "T" })
}

// TestManyThreads: more threads than there are rings. What they do is lost and counted, as
// much as there is; the threads that have rings lose nothing.
func TestManyThreads(t *testing.T) {
	s := start(t, nil)
	sc := s.attachedTo(traced.Inline)
	s.do("work 1000")
	s.do("threads 300")
	lines, sum := sc.end()
	if sum.Lost["no_ring"] == 0 {
		t.Errorf("300 threads had rings: lost %v", sum.Lost)
	}
	for cause, n := range sum.Lost {
		if cause != "no_ring" && cause != "total" && n != 0 {
			t.Errorf("lost by %s: %d", cause, n)
		}
	}
	if sum.Lost["total"] != sum.Lost["no_ring"] {
		t.Errorf("lost %v", sum.Lost)
	}
	rings := map[int64]bool{}
	for i := range lines {
		rings[lines[i].M] = true
	}
	if len(rings) < 60 {
		t.Errorf("%d threads have recorded", len(rings))
	}
	for _, id := range []int64{s.ping, s.pong} {
		if n := chain(t, lines, s.pid, id); n < worked(1000) {
			t.Errorf("goroutine %d: %d changes", id, n)
		}
	}
	s.untouched()
	s.finish()
}
