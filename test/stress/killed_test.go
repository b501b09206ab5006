//go:build amd64

package stress_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"gopherscope/internal/engine/inline"
	"gopherscope/internal/event"
	"gopherscope/internal/process"
	"gopherscope/internal/target"
)

// victimOf makes this test binary attach to the process with this PID and detach, until
// it is killed.
const victimOf = "GOPHERSCOPE_STRESS_VICTIM_OF"

func victim(text string) int {
	err := func() error {
		pid, err := strconv.Atoi(text)
		if err != nil {
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
			e, err := inline.Start(tgt, nil)
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
// whether the program lives, is right, and can be traced again. What was left is
// removed by the next one.
func TestKilled(t *testing.T) {
	for _, b := range builds() {
		t.Run(b.String(), func(t *testing.T) {
			s := start(t, b, "-storm", "1000")
			left := 0
			began := time.Now()
			s.trace(2 * time.Millisecond)
			whole := 2 * time.Since(began) // from the first step to the last, and again
			for i := range cycles(t) {
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), victimOf+"="+strconv.Itoa(s.PID()))
				cmd.Stderr = os.Stderr
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				if _, err := out.Read(make([]byte, 16)); err != nil {
					t.Fatalf("the tracer did not begin: %v", err)
				}
				time.Sleep(rand.N(whole))
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				if err := cmd.Wait(); cmd.ProcessState.Exited() {
					t.Fatalf("kill %d: the tracer ended by itself: %v", i, err)
				}
				s.alive()
				found, err := inline.Clean(s.tgt)
				if err != nil {
					t.Fatalf("kill %d: %v", i, err)
				}
				if found {
					left++
				}
				s.untouched()
				if i%20 == 0 {
					s.trace(2 * time.Millisecond)
					s.untouched()
				}
			}
			s.alive()
			t.Logf("%d of %d left something to remove", left, cycles(t))
			if left == 0 {
				t.Error("no tracer was killed while it was attached")
			}
		})
	}
}
