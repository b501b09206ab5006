package ptrace_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gopherscope/internal/ptrace"
	"gopherscope/internal/testenv"
)

// Threads that are made while it stops are stopped, too: each here makes the next.
func TestStopAllWhileThreadsAreMade(t *testing.T) {
	p := start(t, "churn")
	for range 200 {
		before := p.facts().Other
		err := ptrace.Run(func() error {
			s, err := ptrace.StopAll(p.PID(), limit)
			if err != nil {
				return err
			}
			defer s.Release()
			return p.standsFor(time.Millisecond)
		})
		if err != nil {
			t.Fatal(err)
		}
		p.await("more threads", func(f facts) bool { return f.Other > before })
	}
	if err := p.Wait(); err != nil {
		t.Errorf("end: %v", err)
	}
}

// A storm of signals keeps neither from getting through.
func TestSignalStorm(t *testing.T) {
	p := start(t, "integrity")
	done, ended := make(chan struct{}), make(chan int)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				ended <- n
				return
			default:
				unix.Tgkill(p.PID(), p.PID(), unix.SIGURG) // an error shows in the facts
			}
		}
	}()
	var longest time.Duration
	for i := range 300 {
		began := time.Now()
		if err := injectPID(p.PID(), p.gadgets); err != nil {
			t.Errorf("inject %d: %v", i, err)
			break
		}
		longest = max(longest, time.Since(began))
		if err := stopRelease(p.PID()); err != nil {
			t.Errorf("stop %d: %v", i, err)
			break
		}
	}
	close(done)
	sent := <-ended
	f := p.lives()
	if f.Urgent == 0 || f.EINTR != 0 {
		t.Errorf("%d SIGURG handled, %d sleeps ended early", f.Urgent, f.EINTR)
	}
	t.Logf("%d SIGURG sent, %d handled, longest inject %v", sent, f.Urgent, longest)
}

// A process that is stopped and continued by others while it is traced ends as they
// wanted it: running here.
func TestStopAndContinueMeanwhile(t *testing.T) {
	for name, f := range map[string]func(p *prog) error{
		"stop":   func(p *prog) error { return stopRelease(p.PID()) },
		"inject": func(p *prog) error { return injectPID(p.PID(), p.gadgets) },
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, "integrity")
			end := meddle(t, func() error { return f(p) })
			for i := range 3000 {
				if err := unix.Tgkill(p.PID(), p.PID(), unix.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				for until := time.Now().Add(time.Duration(rand.IntN(300)) * time.Microsecond); time.Now().Before(until); {
				}
				p.Signal(unix.SIGCONT)
				if i%10 == 0 {
					was := p.facts().Rounds
					p.await("to go on after SIGCONT", func(f facts) bool { return f.Rounds > was })
				}
			}
			cycles := end()
			p.lives()
			t.Logf("%d cycles", cycles)
		})
	}
}

// A process that is killed meanwhile is an error and no more.
func TestKilledMeanwhile(t *testing.T) {
	for i := range 20 {
		p := start(t, "integrity")
		end := make(chan error)
		go func() {
			for {
				err := injectPID(p.PID(), p.gadgets)
				if err == nil {
					err = stopRelease(p.PID())
				}
				if err != nil {
					end <- err
					return
				}
			}
		}()
		time.Sleep(time.Duration(i) * 137 * time.Microsecond)
		p.Signal(unix.SIGKILL)
		select {
		case err := <-end:
			if !errors.Is(err, ptrace.ErrExited) {
				t.Errorf("error %v", err)
			}
		case <-time.After(testenv.Deadline):
			t.Fatal("no end")
		}
	}
}
