package ptrace_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gopherscope/internal/process"
	"gopherscope/internal/ptrace"
	"gopherscope/internal/target"
	"gopherscope/internal/testenv"
)

// gadgetsOf finds the gadgets of a Go program as its tracer does.
func gadgetsOf(t *testing.T, pr *process.Process) ptrace.Gadgets {
	t.Helper()
	tgt, err := target.Open(pr)
	if err != nil {
		t.Fatal(err)
	}
	defer tgt.Close()
	ret, err := tgt.Bin.SyscallRet()
	if err != nil {
		t.Fatal(err)
	}
	sig, err := tgt.Bin.Sigreturn()
	if err != nil {
		t.Fatal(err)
	}
	return ptrace.Gadgets{SyscallRet: ret + tgt.Bias, Sigreturn: sig + tgt.Bias}
}

// A Go program does all that it is there to do while it is stopped and made to make
// calls from its start to its end.
func TestGoProgram(t *testing.T) {
	testenv.RequireRoot(t)
	for _, b := range []testenv.Build{{Go: "1.18"}, {Go: "1.23", PIE: true}, {Go: "1.27", Cgo: true}, {}} {
		t.Run(b.String(), func(t *testing.T) {
			const n = 3000
			p := testenv.StartWaiting(t, testenv.BuildTarget(t, "all", b), fmt.Sprint(n))
			pr, err := process.Open(p.PID())
			if err != nil {
				t.Fatal(err)
			}
			defer pr.Close()
			g := gadgetsOf(t, pr)
			done := make(chan int)
			go func() {
				for i := 0; ; i++ {
					err := injectPID(p.PID(), g)
					if err == nil {
						err = stopRelease(p.PID())
					}
					if err != nil {
						// The program's end is one; it is not far then.
						select {
						case <-pr.Done():
						case <-time.After(time.Second):
							t.Errorf("cycle %d: %v", i, err)
						}
						done <- i
						return
					}
				}
			}()
			p.Go()
			got := testenv.ParseFacts(t, p.Lines())
			if err := p.Wait(); err != nil {
				t.Errorf("end: %v\n%s", err, p.Stderr())
			}
			want := map[string]int64{"handoffs": 2 * n, "goroutines": n, "gosched": n}
			for key, v := range want {
				if got.Counts[key] != v {
					t.Errorf("count %s is %d, want %d", key, got.Counts[key], v)
				}
			}
			if cycles := <-done; cycles < 5 {
				t.Errorf("only %d cycles", cycles)
			} else {
				t.Logf("%d cycles", cycles)
			}
		})
	}
}

// A program that was launched and does not run yet makes calls, and runs then as if
// nothing had been.
func TestInjectTraced(t *testing.T) {
	testenv.RequireRoot(t)
	for _, b := range []testenv.Build{{}, {Go: "1.18"}, {Go: "1.27", PIE: true}, {Cgo: true}} {
		t.Run(b.String(), func(t *testing.T) {
			out, err := os.Create(filepath.Join(t.TempDir(), "out"))
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			l, err := process.Launch([]string{testenv.BuildTarget(t, "all", b), "20"}, &process.LaunchOptions{Stdout: out})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			defer l.Kill()
			g := gadgetsOf(t, l.Process)
			at := uint64(0x7123_4567_8000)
			for range 3 {
				if err := l.OnTracer(func(tid int) error { return injectStopped(tid, g, at) }); err != nil {
					t.Fatal(err)
				}
				at += 1 << 20
			}
			if err := l.Resume(); err != nil {
				t.Fatal(err)
			}
			if err := l.OnTracer(func(int) error { return nil }); !errors.Is(err, os.ErrClosed) {
				t.Errorf("OnTracer after Resume: %v", err)
			}
			select {
			case <-l.Ended():
			case <-time.After(testenv.Deadline):
				t.Fatal("it does not end")
			}
			text, err := os.ReadFile(out.Name())
			if err != nil || !l.State().Success() {
				t.Fatalf("end %v, %v\n%s", l.State(), err, text)
			}
			if got := testenv.ParseFacts(t, strings.Split(string(text), "\n")); got.Counts["handoffs"] != 40 {
				t.Errorf("it says %q", text)
			}
		})
	}
}

// injectStopped maps a page in a program that stands at its first instruction, and wants
// its registers as they were.
func injectStopped(tid int, g ptrace.Gadgets, at uint64) error {
	before, err := ptrace.StoppedTraced(tid)
	if err != nil {
		return err
	}
	err = ptrace.InjectTraced(tid, g, limit, func(r *ptrace.Remote) error {
		got, err := r.Syscall(unix.SYS_MMAP, at, 4096, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE, ^uint64(0), 0)
		if err == nil && got != at {
			err = fmt.Errorf("mapped at %#x, not %#x", got, at)
		}
		return errors.Join(err, saysPID(r, tid))
	})
	if err != nil {
		return err
	}
	after, err := ptrace.StoppedTraced(tid)
	if err != nil {
		return err
	}
	if b, a := before.Threads[0], after.Threads[0]; b.Regs != a.Regs || b.Mask != a.Mask {
		return fmt.Errorf("registers %+v, mask %x; then %+v, %x", b.Regs, b.Mask, a.Regs, a.Mask)
	}
	after.Release()
	if state := status(tid, "State"); state == "" || state[0] != 't' {
		return fmt.Errorf("state %s", state)
	}
	return nil
}
