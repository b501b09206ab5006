// Package ptrace stops the threads of a process and makes system calls in it, so
// that the process goes on unharmed: also when this process is killed at any moment.
//
// # Rules
//
// ptrace(2) obeys only the thread that traces, so everything happens inside [Run],
// which gives it a thread of its own. When that thread ends, the kernel lets go of
// whatever it still traces (kernel/ptrace.c, exit_ptrace); so does the death of
// this process. A stopped thread goes on then with the registers that it has. Every
// state that a thread is left in between two calls here is therefore one in which it can
// go on by itself. [Inject] tells how, for system calls.
//
// A system call that a stop interrupts is restarted by the kernel when the thread
// goes on (kernel/signal.c; -ERESTART… in RAX is turned into a restart on the way
// back to user mode), as long as its registers are left alone. The exceptions are
// the kernel's own rule for every stop by a debugger, see signal(7): epoll_wait,
// receives with a timeout and some others return EINTR.
//
// Only for amd64; on other architectures everything is ErrArch.
package ptrace

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Errors that callers tell apart with errors.Is.
var (
	ErrArch        = errors.New("not on this architecture yet")
	ErrTraced      = errors.New("the process is traced already")
	ErrPermission  = errors.New("no permission to trace the process")
	ErrExited      = errors.New("the process has ended")
	ErrDeadline    = errors.New("a thread did not stop in time")
	ErrShadowStack = errors.New("the process uses a shadow stack")
	ErrScratch     = errors.New("no room on the stack of the main thread")
)

// Range is the addresses from Lo up to, not including, Hi.
type Range struct{ Lo, Hi uint64 }

// Contains says whether an address lies in the range.
func (r Range) Contains(addr uint64) bool { return addr >= r.Lo && addr < r.Hi }

// Run calls f on a thread of its own, which ends with f: nothing stays traced.
func Run(f func() error) error {
	done := make(chan error)
	go runLocked(f, done)
	return <-done
}

// runLocked is Run's goroutine. It never unlocks its thread, so that the runtime ends
// the thread with it; the main thread, which the runtime would keep, passes f on.
func runLocked(f func() error, done chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		err := Run(f)
		runtime.UnlockOSThread()
		done <- err
		return
	}
	done <- f()
}

// What the kernel's headers call PTRACE_O_… and so on, where x/sys has no name.
const (
	wAll            = unix.WALL
	optSysGood      = unix.PTRACE_O_TRACESYSGOOD
	optSeccomp      = 1 << 21 // PTRACE_O_SUSPEND_SECCOMP
	optExitKill     = unix.PTRACE_O_EXITKILL
	syscallStop     = unix.SIGTRAP | 0x80
	ptraceEventStop = 128 // PTRACE_EVENT_STOP
	sigsetBytes     = 8
)

// request is ptrace(2).
func request(req, tid int, addr, data uintptr) error {
	if _, _, e := unix.Syscall6(unix.SYS_PTRACE, uintptr(req), uintptr(tid), addr, data, 0, 0); e != 0 {
		return e
	}
	return nil
}

func getSigmask(tid int) (mask uint64, err error) {
	err = request(unix.PTRACE_GETSIGMASK, tid, sigsetBytes, uintptr(unsafe.Pointer(&mask)))
	return mask, err
}

func setSigmask(tid int, mask uint64) error {
	return request(unix.PTRACE_SETSIGMASK, tid, sigsetBytes, uintptr(unsafe.Pointer(&mask)))
}

// seize begins to trace a thread without stopping it.
func seize(pid, tid int, options uintptr) error {
	err := request(unix.PTRACE_SEIZE, tid, 0, options)
	switch {
	case err == nil:
		return nil
	case err == unix.ESRCH || exiting(pid, tid):
		return ErrExited
	case err == unix.EPERM:
		return denied(pid, tid, options)
	}
	return fmt.Errorf("trace thread %d: %w", tid, err)
}

// denied says why tracing was refused.
func denied(pid, tid int, options uintptr) error {
	if tracer, ok := statusField(pid, tid, "TracerPid"); ok && tracer != "0" {
		comm, err := os.ReadFile("/proc/" + tracer + "/comm")
		if err != nil {
			comm = []byte("?")
		}
		return fmt.Errorf("%w, by process %s (%s)", ErrTraced, tracer, strings.TrimSpace(string(comm)))
	}
	if options&optSeccomp != 0 {
		return fmt.Errorf("%w: it has a seccomp filter, which only CAP_SYS_ADMIN may suspend", ErrPermission)
	}
	return ErrPermission
}

// wait waits for the next stop of a thread, until the deadline. It does not block,
// as there is no wait with a timeout: at first it only gives up the CPU, as a thread
// that runs stops within microseconds.
func wait(tid int, deadline time.Time) (unix.WaitStatus, error) {
	for spins := 0; ; spins++ {
		var ws unix.WaitStatus
		got, err := unix.Wait4(tid, &ws, wAll|unix.WNOHANG, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, ErrExited
		case got == tid && ws.Stopped():
			return ws, nil
		case got == tid:
			return ws, ErrExited
		case time.Now().After(deadline):
			return 0, ErrDeadline
		}
		if spins < 200 {
			unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
			continue
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// isEventStop says whether a stop is that of PTRACE_INTERRUPT, or a group-stop.
func isEventStop(ws unix.WaitStatus) bool { return int(ws)>>16 == ptraceEventStop }

// slow is the error for a thread that did not stop.
func slow(pid, tid int, limit time.Duration) error {
	state, _ := statusField(pid, tid, "State")
	at, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/wchan", pid, tid))
	return fmt.Errorf("%w: thread %d after %v, state %s, in %s", ErrDeadline, tid, limit, state, at)
}

// threads lists the threads of a process.
func threads(pid int) ([]int, error) {
	dir, err := os.Open(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil, ErrExited
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, ErrExited
	}
	ids := make([]int, 0, len(names))
	for _, name := range names {
		if id, err := strconv.Atoi(name); err == nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// exiting says whether a thread is dead or gone.
func exiting(pid, tid int) bool {
	state, ok := statusField(pid, tid, "State")
	return !ok || strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X")
}

// statusField is one line of a thread's status file.
func statusField(pid, tid int, name string) (string, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", pid, tid))
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && key == name {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}

// options are those with which a thread of the process is traced. A seccomp filter is
// suspended, as it was not made for our system calls.
func options(pid int) uintptr {
	if mode, ok := statusField(pid, pid, "Seccomp"); ok && mode != "0" {
		return optSysGood | optSeccomp
	}
	return optSysGood
}
