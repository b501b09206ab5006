//go:build amd64

package inline

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gopherscope/internal/process"
	"gopherscope/internal/ptrace"
	"gopherscope/internal/target"
	"gopherscope/internal/testenv"
)

// hooked starts a program that does nothing but switch goroutines, a good part of the time
// in our code, and puts the code in. The rings are soon full.
func hooked(t *testing.T) *injection {
	t.Helper()
	testenv.RequireRoot(t)
	p := testenv.StartWaiting(t, testenv.BuildTarget(t, "pingpong", testenv.Build{Go: "1.26"}), "2000000000")
	proc, err := process.Open(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proc.Close() })
	tgt, err := target.Open(proc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tgt.Close() })
	sites, err := plan(tgt)
	if err != nil {
		t.Fatal(err)
	}
	sh := shape{rings: minRings, ringBytes: pageSize}
	in, err := prepare(tgt, sites, sh)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.release() })
	if err := in.place(sh); err != nil {
		t.Fatal(err)
	}
	if _, err := newRings(in.shared, in.what.Rings, sh.rings, sh.ringBytes, func(*raw) int { return 0 }); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(in.hookIn(), in.enable(in.what.Rings+pageSize)); err != nil {
		t.Fatal(err)
	}
	p.Go()
	return in
}

func (in *injection) codeRange() ptrace.Range {
	return ptrace.Range{Lo: in.what.Code, Hi: in.what.Code + codeBytes}
}

// interrupted stops the process with one thread at the first instruction of a signal
// handler that will return into our code. It must be called in ptrace.Run.
func (in *injection) interrupted(t *testing.T) (*ptrace.Stopped, *ptrace.Thread) {
	t.Helper()
	for try := range 2000 {
		s, err := ptrace.StopAll(in.proc.PID(), time.Second)
		if err != nil {
			t.Errorf("stop: %v", err)
			return nil, nil
		}
		for _, th := range s.Threads {
			if in.codeRange().Contains(programCounter(th)) && in.deliver(th) {
				t.Logf("a thread was in the code at try %d", try)
				return s, th
			}
		}
		s.Release()
		time.Sleep(time.Duration(try%7) * 100 * time.Microsecond)
	}
	t.Error("no thread was ever found in the code")
	return nil, nil
}

// deliver sends SIGURG to a stopped thread and lets it go as far as its handler. With an
// interrupt pending it stops there, before the first instruction.
func (in *injection) deliver(th *ptrace.Thread) bool {
	if unix.Tgkill(in.proc.PID(), th.TID, unix.SIGURG) != nil || unix.PtraceCont(th.TID, 0) != nil {
		return false
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(th.TID, &ws, unix.WALL, nil); err != nil || ws.StopSignal() != unix.SIGURG {
		return false
	}
	if unix.PtraceInterrupt(th.TID) != nil || unix.PtraceCont(th.TID, int(unix.SIGURG)) != nil {
		return false
	}
	if _, err := unix.Wait4(th.TID, &ws, unix.WALL, nil); err != nil || !ws.Stopped() {
		return false
	}
	th.Mask = ^uint64(0) // as the kernel sets it for Go's handlers
	return unix.PtraceGetRegs(th.TID, &th.Regs) == nil && in.text.Contains(programCounter(th))
}

// TestHandlers stops a program while a signal handler is to return into the code, which
// must be seen, and detaches it after.
func TestHandlers(t *testing.T) {
	in := hooked(t)
	if err := ptrace.Run(func() error {
		s, th := in.interrupted(t)
		if s == nil {
			return nil
		}
		defer s.Release()
		if tids := s.ReturnsInto(in.proc.PID(), in.codeRange(), in.text); len(tids) != 1 || tids[0] != th.TID {
			t.Errorf("handlers of threads %v return into the code, want %d", tids, th.TID)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := in.remove(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if in.proc.Exited() {
		t.Fatal("the program ended")
	}
}

// TestHandlersIgnored is the negative control: the same, but the code is taken away all the
// same. The program must crash, which shows what the search for signal frames is for.
func TestHandlersIgnored(t *testing.T) {
	in := hooked(t)
	if err := ptrace.Run(func() error {
		s, th := in.interrupted(t)
		if s == nil {
			return nil
		}
		defer s.Release()
		for i, other := range s.Threads {
			if other == th {
				s.Threads = append(s.Threads[:i:i], s.Threads[i+1:]...)
				break
			}
		}
		err := errors.Join(in.restore(), in.moveOut(s, in.codeRange()))
		s.Threads = append(s.Threads, th)
		return errors.Join(err, ptrace.InjectTraced(in.proc.PID(), in.gadgets, time.Second, in.unmapWith))
	}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-in.proc.Done():
	case <-time.After(20 * time.Second):
		t.Error("the program lives though its signal handler returned to where nothing is")
	}
}
