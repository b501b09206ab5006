//go:build amd64

package stress_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"gopherscope/internal/engine/ebpf"
	"gopherscope/internal/engine/inline"
	"gopherscope/internal/event"
	"gopherscope/internal/process"
	"gopherscope/internal/target"
	"gopherscope/internal/testenv"
)

// victimOf makes this test binary attach an engine to a process and detach it, until it
// is killed: "ENGINE PID".
const victimOf = "GOPHERSCOPE_STRESS_VICTIM_OF"

func victim(text string) int {
	err := func() error {
		var tr tracer
		var pid int
		if _, err := fmt.Sscan(text, &tr, &pid); err != nil {
			return err
		}
		p, err := process.Open(pid)
		if err != nil {
			return err
		}
		tgt, err := target.Open(p)
		if err != nil {
			return err
		}
		fmt.Println("begun")
		for {
			e, err := tr.start(tgt)
			if err != nil {
				return fmt.Errorf("attach: %w", err)
			}
			for range 3 {
				if err := e.Poll(time.Millisecond, func(*event.Event) error { return nil }); err != nil {
					return fmt.Errorf("poll: %w", err)
				}
			}
			if err := e.Close(); err != nil {
				return fmt.Errorf("detach: %w", err)
			}
		}
	}()
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// TestKilled kills the tracer at moments from its first step to its last, and looks
// whether the program lives, is right, and can be traced again. What was left in it is
// removed by Clean.
func TestKilled(t *testing.T) {
	each(t, true, func(t *testing.T, tr tracer, b testenv.Build, again func() bool) {
		s := start(t, b, "-storm", "1000")
		began := time.Now()
		s.trace(tr, 2*time.Millisecond)
		whole := 2 * time.Since(began) // from the first step to the last, and again
		n, left := 0, 0
		for ; again(); n++ {
			s.killTracer(tr, rand.N(whole))
			s.alive()
			if s.clean(tr) {
				left++
			}
			s.untouched()
			if n%20 == 0 {
				s.trace(tr, 2*time.Millisecond)
				s.untouched()
			}
		}
		t.Logf("%d of %d left something to remove", left, n)
		// One in three is; in a short run it may be none.
		if left == 0 && tr == viaCode && n >= 50 {
			t.Error("no tracer was killed while it was attached")
		}
		s.end()
	})
}

// clean removes what a tracer has left when it was killed, and says whether there was any.
func (s *subject) clean(tr tracer) (found bool) {
	s.t.Helper()
	var err error
	if tr == viaCode {
		if found, err = inline.Clean(s.tgt); err != nil {
			s.t.Fatal(err)
		}
		return found
	}
	const breakpoint = 0xcc
	n := 0
	s.codeIs(func(_ uint64, have byte) bool { n++; return have == breakpoint })
	s.nothingMore()
	found, left, err := ebpf.Clean(s.tgt)
	if err != nil || found != (n > 0) || left > 0 {
		s.t.Fatalf("%d breakpoints were there; found %v, left %d: %v", n, found, left, err)
	}
	return found
}

// killTracer has another process trace the program, and kills that after a while.
func (s *subject) killTracer(tr tracer, after time.Duration) {
	s.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", victimOf, tr, s.PID()))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 16)); err != nil {
		s.t.Fatalf("the tracer did not begin: %v", err)
	}
	time.Sleep(after)
	if err := cmd.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.Exited() {
		s.t.Fatalf("the tracer ended by itself: %v", err)
	}
}
