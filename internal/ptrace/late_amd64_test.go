package ptrace_test

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gopherscope/internal/ptrace"
)

// A process goes on, and as it was, when a system call is given up on the way: as when its
// thread has had no CPU for too long. A call that it had not begun is not made.
func TestGivenUp(t *testing.T) {
	for _, late := range []bool{false, true} {
		for _, pause := range []time.Duration{0, 20 * time.Millisecond} { // it has not stopped yet, or it has
			t.Run(fmt.Sprintf("late=%v/%v", late, pause), func(t *testing.T) {
				p := start(t, "integrity")
				before := descriptors(t, p.PID())
				for range 20 {
					begin := time.Now()
					err := ptrace.Run(func() error {
						return ptrace.Inject(p.PID(), p.gadgets, limit, func(r *ptrace.Remote) error {
							if err := saysPID(r, p.PID()); err != nil {
								return err
							}
							nr, args := uintptr(unix.SYS_GETPID), []uint64(nil)
							if !late {
								nr, args = unix.SYS_DUP, []uint64{0}
							}
							err := r.GiveUp(late, nr, args...)
							time.Sleep(pause)
							return err
						})
					})
					if !onlyDeadline(err) {
						t.Fatal(err)
					}
					if took := time.Since(begin); took > 5*time.Second {
						t.Errorf("it took %v", took)
					}
					p.lives()
				}
				if after := descriptors(t, p.PID()); after != before {
					t.Errorf("%d descriptors, there were %d", after, before)
				}
				err := ptrace.Run(func() error {
					return ptrace.Inject(p.PID(), p.gadgets, limit, func(r *ptrace.Remote) error { return saysPID(r, p.PID()) })
				})
				if err != nil {
					t.Error(err)
				}
				p.lives()
			})
		}
	}
}

// onlyDeadline says whether an error is ErrDeadline, and no other one joined with it.
func onlyDeadline(err error) bool { return err != nil && err.Error() == ptrace.ErrDeadline.Error() }

// After the limit no call is begun; to take back what was done, there is time.
func TestAfterTheLimit(t *testing.T) {
	p := start(t, "integrity")
	before := descriptors(t, p.PID())
	err := ptrace.Run(func() error {
		return ptrace.Inject(p.PID(), p.gadgets, limit, func(r *ptrace.Remote) error {
			fd, err := r.Syscall(unix.SYS_DUP, 0)
			if err != nil {
				return err
			}
			time.Sleep(limit + 10*time.Millisecond)
			_, late := r.Syscall(unix.SYS_DUP, 0)
			r.Extend()
			_, err = r.Syscall(unix.SYS_CLOSE, fd)
			return errors.Join(late, err)
		})
	})
	if !errors.Is(err, ptrace.ErrDeadline) {
		t.Error(err)
	}
	p.lives()
	if after := descriptors(t, p.PID()); after != before {
		t.Errorf("%d descriptors, there were %d", after, before)
	}
}

func descriptors(t *testing.T, pid int) int {
	t.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}
