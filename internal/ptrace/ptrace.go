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
	"bytes"
	"encoding/binary"
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

// Run calls f on a thread of its own, which ends with f: nothing stays traced when it
// returns.
func Run(f func() error) error {
	done := make(chan result)
	go runLocked(f, done, nil)
	r := <-done
	// The kernel lets go of what is traced before the thread is gone.
	for deadline := time.Now().Add(longestEnd); !r.gone() && time.Now().Before(deadline); {
		time.Sleep(20 * time.Microsecond)
	}
	return r.err
}

// longestEnd bounds the wait for the end of a thread: in gone, one can be taken for another that
// began in the same tick.
const longestEnd = 10 * time.Second

// result is what a thread of Run has done.
type result struct {
	tid   int    // it ends now
	begin string // when it began; "" if unknown
	err   error
}

// gone says whether the thread has ended. Its number can be another thread's of this process
// by then.
func (r *result) gone() bool {
	if unix.Tgkill(unix.Getpid(), r.tid, 0) != nil {
		return true
	}
	begin, err := threadBegin(r.tid)
	return err == nil && r.begin != "" && begin != r.begin
}

// threadBegin is when a thread of this process began, in ticks since the machine did:
// field 22 of its stat (fs/proc/array.c, do_task_stat).
func threadBegin(tid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", tid))
	if err != nil {
		return "", err
	}
	// The name is in parentheses, and can have any in it.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return "", fmt.Errorf("malformed stat of thread %d", tid)
	}
	return fields[19], nil
}

// runLocked is Run's goroutine. It never unlocks its thread, so that the runtime ends
// the thread with it; the main thread, which the runtime would keep, passes f on.
func runLocked(f func() error, done chan<- result, began chan<- struct{}) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		if began != nil {
			close(began)
		}
		err := f()
		begin, _ := threadBegin(unix.Gettid()) // "" if unknown
		done <- result{unix.Gettid(), begin, err}
		return
	}
	// This thread stays taken until another has it, so that it cannot be this one again.
	elsewhere := make(chan struct{})
	go runLocked(f, done, elsewhere)
	<-elsewhere
	runtime.UnlockOSThread()
}

// What the kernel's headers call PTRACE_O_… and so on, where x/sys has no name.
const (
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
	case errors.Is(err, unix.ESRCH) || exiting(pid, tid):
		return ErrExited
	case errors.Is(err, unix.EPERM):
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

// stop is why a thread stopped: struct siginfo's si_status of waitid(2), for a tracee a
// signal and, above it, an event.
type stop uint32

func (s stop) signal() int { return int(s & 0xff) }

// isEvent says whether the stop is that of PTRACE_INTERRUPT, or a group-stop.
func (s stop) isEvent() bool { return s>>8 == ptraceEventStop }

// wait waits for a thread to stop, until the deadline, and leaves the stop as it is
// (WNOWAIT): if we die, the kernel then delivers the signal that stopped it. It does not
// block, as there is no wait with a timeout: at first it only gives up the CPU, as a thread
// that runs stops within microseconds.
func wait(pid, tid int, deadline time.Time) (stop, error) {
	for spins := 0; ; spins++ {
		s, err := peek(tid)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, ErrExited
		case s != 0:
			return s, nil
		case time.Now().After(deadline):
			return 0, ErrDeadline
		}
		switch {
		case spins < 200:
			_, _, _ = unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
			continue
		case spins%64 == 0 && exiting(pid, tid): // a leader is not reported while others live
			return 0, ErrExited
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// Offsets in struct siginfo for a child (include/uapi/asm-generic/siginfo.h), on 64-bit
// machines.
const (
	siCode   = 8
	siPID    = 16
	siStatus = 24
)

// peek is the stop that a thread is in; 0 if it runs. An error says that it has ended.
func peek(tid int) (stop, error) {
	const cldTrapped, cldStopped = 4, 5 // CLD_…
	var info [128]byte
	_, _, e := unix.Syscall6(unix.SYS_WAITID, unix.P_PID, uintptr(tid), uintptr(unsafe.Pointer(&info[0])),
		unix.WSTOPPED|unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, 0, 0)
	if e != 0 {
		return 0, e
	}
	word := func(off int) uint32 { return binary.NativeEndian.Uint32(info[off:]) }
	switch {
	case word(siPID) == 0:
		return 0, nil
	case word(siCode) == cldTrapped || word(siCode) == cldStopped:
		return stop(word(siStatus)), nil
	}
	return 0, unix.ESRCH
}

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
