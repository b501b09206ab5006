package process

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrNotFound is a command that names no executable file.
var ErrNotFound = errors.New("command not found")

// LaunchOptions change how a program is launched. The zero value is good.
type LaunchOptions struct {
	Stdin  *os.File // nil: this process's standard input
	Stdout *os.File // nil: this process's standard error, as its standard output carries data
	Stderr *os.File // nil: this process's standard error
	Dir    string   // working directory; "": this process's
	Env    []string // environment, KEY=VALUE; nil: this process's
}

// Launched is a child process that was started by [Launch]. Its methods are
// safe for concurrent use. It is reaped when it ends; Close it when done, which
// does nothing to the child.
type Launched struct {
	*Process

	child *os.Process
	mask  unix.Sigset_t // the signals that the child is to have blocked
	// calls has what the thread that traces is to do, until one lets the child go. It
	// is closed when the child is to die instead.
	calls   chan call
	using   sync.Mutex    // held while OnTracer works and while the fate is decided
	fate    sync.Once     // the first Resume or Kill decides
	decided chan struct{} // closed when it has
	resumed error         // what Resume returns, set by fate
	ended   chan struct{} // closed when the child was reaped
	state   *os.ProcessState
}

// call is something for the thread that traces to do.
type call struct {
	f    func() error
	done chan error
	last bool
}

// Launch starts a program as a child and returns when its image is mapped and
// not one of its instructions has been executed; [Launched.Resume] lets it
// begin. argv is the command, found in PATH as a shell does, and its arguments.
// If this process ends before Resume, so does the child.
//
// Signals sent to the child before Resume reach it then. After Resume nothing
// tells the child from one that a shell started, but for one thing: as it is
// traced when it is executed, a set-user-ID program or one with file
// capabilities gains privileges only if this process has CAP_SYS_PTRACE
// (execve(2)).
//
// The errors are ErrNotFound, ErrPermission, ErrExited for a child that was
// killed at once, and those of execve(2).
func Launch(argv []string, opts *LaunchOptions) (*Launched, error) {
	if len(argv) == 0 || argv[0] == "" {
		return nil, fmt.Errorf("launch: %w", ErrNotFound)
	}
	l, err := launch(argv, opts)
	if err != nil {
		return nil, fmt.Errorf("launch %s: %w", Printable(argv[0]), err)
	}
	return l, nil
}

func launch(argv []string, opts *LaunchOptions) (*Launched, error) {
	path, err := lookPath(argv[0])
	if err != nil {
		return nil, err
	}
	l := &Launched{calls: make(chan call), decided: make(chan struct{}), ended: make(chan struct{})}
	started := make(chan error)
	go l.trace(path, argv, opts.attr(), started)
	if err := <-started; err != nil {
		return nil, err
	}
	l.Process, err = Open(l.child.Pid)
	go l.reap()
	if err != nil {
		l.Kill()
		return nil, err
	}
	return l, nil
}

// lookPath finds the file of a command as a shell does.
func lookPath(command string) (string, error) {
	path, err := exec.LookPath(command)
	var e *exec.Error
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return "", ErrNotFound
	case errors.As(err, &e):
		return "", e.Err // without the command's name, which Launch adds
	}
	return path, err
}

// attr turns the options into those of os.StartProcess.
func (o *LaunchOptions) attr() *os.ProcAttr {
	if o == nil {
		o = &LaunchOptions{}
	}
	return &os.ProcAttr{
		Dir:   o.Dir,
		Env:   o.Env,
		Files: []*os.File{cmp.Or(o.Stdin, os.Stdin), cmp.Or(o.Stdout, os.Stderr), cmp.Or(o.Stderr, os.Stderr)},
		Sys:   &syscall.SysProcAttr{Ptrace: true},
	}
}

// trace starts the child, reports that on started, and serves l.calls. It keeps
// to one thread, as ptrace(2) obeys only the thread that traces.
func (l *Launched) trace(path string, argv []string, attr *os.ProcAttr, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := l.start(path, argv, attr)
	started <- err
	if err != nil {
		return
	}
	for c := range l.calls {
		c.done <- c.f()
		if c.last {
			return
		}
	}
}

// OnTracer runs f on the thread that traces the child, which is stopped at its first
// instruction, and returns what f does; f must leave it there. It is for ptrace(2) on
// the child. After Resume or Kill the error is os.ErrClosed.
func (l *Launched) OnTracer(f func(tid int) error) error {
	l.using.Lock()
	defer l.using.Unlock()
	select {
	case <-l.decided:
		return fmt.Errorf("process %d: trace: %w", l.child.Pid, os.ErrClosed)
	default:
	}
	done := make(chan error)
	l.calls <- call{f: func() error { return f(l.child.Pid) }, done: done}
	return <-done
}

// start starts the child and waits until it stands at its first instruction.
//
// A traced child stops at any signal. If one came between the child's
// PTRACE_TRACEME and its execve, it would stop there, while this thread waits
// to hear of the execve for ever. So the child is born with all signals blocked
// but the one that reports the execve, and letGo gives it the mask of this
// thread. (Nothing can be done about a SIGSTOP in these microseconds.)
func (l *Launched) start(path string, argv []string, attr *os.ProcAttr) error {
	var blocked unix.Sigset_t
	for i := range blocked.Val {
		blocked.Val[i] = ^blocked.Val[i]
	}
	blocked.Val[0] &^= 1 << (unix.SIGTRAP - 1)
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &blocked, &l.mask); err != nil {
		return fmt.Errorf("block signals: %w", err)
	}
	var err error
	l.child, err = os.StartProcess(path, argv, attr)
	if e := unix.PthreadSigmask(unix.SIG_SETMASK, &l.mask, nil); e != nil && err == nil {
		err = fmt.Errorf("unblock signals: %w", e)
	}
	if err == nil {
		err = awaitExec(l.child.Pid)
	}
	if err != nil && l.child != nil {
		l.child.Kill() // it may be dead already
		_, e := l.child.Wait()
		err = errors.Join(err, e)
	}
	return err
}

// cldTrapped is the code by which waitid reports a traced child that stopped
// (include/uapi/asm-generic/siginfo.h, CLD_TRAPPED).
const cldTrapped = 4

// awaitExec waits until the child has stopped at its execve, and makes the
// kernel kill it if this process ends.
func awaitExec(pid int) error {
	// WNOWAIT, so that a child that was killed can still be waited for.
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return fmt.Errorf("wait for execve: %w", err)
		}
	}
	if info.Code != cldTrapped {
		return ErrExited
	}
	err := unix.PtraceSetOptions(pid, unix.PTRACE_O_EXITKILL)
	if err == unix.ESRCH {
		return ErrExited
	}
	if err != nil {
		return fmt.Errorf("set ptrace options: %w", err)
	}
	return nil
}

// reap waits for the child's end. As long as a thread of this process may trace the
// child, before Resume or later, to wait for it would give its stops (wait(2)): so it waits
// for the pidfd, which tells of the end alone.
func (l *Launched) reap() {
	if l.Process != nil {
		select {
		case <-l.Done():
		case <-l.closed: // nobody traces it any more
		}
	}
	l.state, _ = l.child.Wait() // nil if somebody else reaps our children
	close(l.ended)
}

// letGo gives the child its signal mask and ends the tracing of it. The
// kernel's signal set has 8 bytes.
func (l *Launched) letGo() error {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SETSIGMASK, uintptr(l.child.Pid),
		unsafe.Sizeof(l.mask.Val[0]), uintptr(unsafe.Pointer(&l.mask.Val[0])), 0, 0)
	var err error
	if errno != 0 {
		err = errno
	} else {
		err = unix.PtraceDetach(l.child.Pid)
	}
	if err == unix.ESRCH { // killed
		return ErrExited
	}
	return err
}

// Resume lets the child run, untraced. A second call returns what the first
// did. The errors are ErrExited for a child that was killed meanwhile, and
// os.ErrClosed after Kill; after any error the child is dead.
func (l *Launched) Resume() error {
	l.fate.Do(func() {
		l.using.Lock()
		defer l.using.Unlock()
		defer close(l.decided)
		done := make(chan error)
		l.calls <- call{f: l.letGo, done: done, last: true}
		if err := <-done; err != nil {
			l.resumed = l.fail(fmt.Errorf("resume: %w", err))
			l.child.Kill() // an error says that it has ended
		}
	})
	return l.resumed
}

// Kill ends the child at once, resumed or not, and waits for its end.
func (l *Launched) Kill() {
	l.fate.Do(func() {
		l.using.Lock()
		defer l.using.Unlock()
		defer close(l.decided)
		close(l.calls)
		l.resumed = fmt.Errorf("process %d: resume: %w", l.child.Pid, os.ErrClosed)
		l.child.Kill() // an error says that it has ended
	})
	l.child.Kill() // likewise
	<-l.ended
}

// Terminate asks the child to end (SIGTERM), waits for its end, and kills it
// if that takes longer than grace. A child that was not resumed hears of it only in
// Resume.
func (l *Launched) Terminate(grace time.Duration) {
	l.child.Signal(unix.SIGTERM) // an error says that it has ended
	select {
	case <-l.ended:
	case <-time.After(grace):
		l.Kill()
	}
}

// Ended is closed when the child has ended and was reaped.
func (l *Launched) Ended() <-chan struct{} { return l.ended }

// State says how the child ended, by exit status or signal, and what processor
// time it used. It is nil before Ended is closed.
func (l *Launched) State() *os.ProcessState {
	select {
	case <-l.ended:
		return l.state
	default:
		return nil
	}
}
