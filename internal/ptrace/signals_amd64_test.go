package ptrace_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// queue is SIGRTMIN + 1 of the C library, which keeps two for itself.
const queue = unix.Signal(35)

// sendQueued queues a signal with a value to a thread (rt_tgsigqueueinfo(2)).
func sendQueued(pid, tid int, value uint64) error {
	// struct siginfo with the members of SI_QUEUE: asm-generic/siginfo.h, _rt.
	info := struct {
		signo, errno, code, _ int32
		pid, uid              int32
		value                 uint64
		_                     [96]byte
	}{signo: int32(queue), code: -1, pid: int32(unix.Getpid()), value: value}
	_, _, errno := unix.Syscall6(unix.SYS_RT_TGSIGQUEUEINFO, uintptr(pid), uintptr(tid), uintptr(queue), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// meddle does f over and over in another goroutine. The function that it returns ends
// that, and says how often it was done; the end of the test calls it, too.
func meddle(t *testing.T, f func() error) (end func() int) {
	done, ended, n := make(chan struct{}), make(chan struct{}), 0
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := f(); err != nil {
				t.Errorf("attempt %d: %v", n, err)
				return
			}
			n++
		}
	}()
	var once sync.Once
	end = func() int {
		once.Do(func() { close(done) })
		<-ended
		return n
	}
	t.Cleanup(func() { end() })
	return end
}

// Every queued signal arrives once, in its order and with its siginfo, and every
// SIGURG arrives, while the process is stopped, and its main thread makes calls, as often as
// can be.
func TestNoSignalIsLost(t *testing.T) {
	for name, f := range map[string]func(p *prog) error{
		"stop":   func(p *prog) error { return stopRelease(p.PID()) },
		"inject": func(p *prog) error { return injectPID(p.PID(), p.gadgets) },
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, "integrity")
			end := meddle(t, func() error { return f(p) })
			const n = 2000
			for i := range uint64(n) {
				if err := sendQueued(p.PID(), p.PID(), i); err != nil {
					t.Fatal(err)
				}
				if err := unix.Tgkill(p.PID(), p.PID(), unix.SIGURG); err != nil {
					t.Fatal(err)
				}
				if i%8 == 7 { // not more in the queue than there may be
					p.await("the queued signals", func(f facts) bool { return f.Queued > i })
				}
				// One more SIGURG would be merged with one that waits.
				p.await("SIGURG", func(f facts) bool { return f.Urgent > i })
			}
			cycles := end()
			f := p.lives()
			if f.Queued != n || f.Urgent != n || f.EINTR != 0 {
				t.Errorf("%d queued signals and %d SIGURG handled of %d each, %d sleeps ended early", f.Queued, f.Urgent, n, f.EINTR)
			}
			if cycles < 100 {
				t.Errorf("only %d cycles", cycles)
			}
			t.Logf("%d cycles, %d SIGALRM", cycles, f.Ticks)
		})
	}
}

// A stop that comes in the middle of it is not lost either.
func TestStopMeanwhile(t *testing.T) {
	p := start(t, "integrity")
	end := meddle(t, func() error {
		if err := injectPID(p.PID(), p.gadgets); err != nil {
			return err
		}
		return stopRelease(p.PID())
	})
	for range 200 {
		time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond)
		p.Signal(unix.SIGSTOP)
		// Its threads are in tracing stops at times. It stands when its facts do.
		stands := 0
		for deadline := time.Now().Add(patience); stands < 3; {
			if p.standsFor(3*time.Millisecond) == nil {
				stands++
			} else {
				stands = 0
			}
			if time.Now().After(deadline) {
				t.Fatal("it runs on after SIGSTOP")
			}
		}
		p.Signal(unix.SIGCONT)
		was := p.facts().Rounds
		p.await("to go on after SIGCONT", func(f facts) bool { return f.Rounds > was })
	}
	t.Logf("%d cycles", end())
	p.lives()
}
