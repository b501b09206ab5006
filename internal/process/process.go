package process

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrNoProcess is a PID that no process has.
	ErrNoProcess = errors.New("no such process")
	// ErrKernelThread is a PID of a thread of the kernel, which has no program.
	ErrKernelThread = errors.New("kernel thread, not a program")
	// ErrExited is a process that has ended, be it reaped or a zombie.
	ErrExited = errors.New("has exited")
	// ErrExec is a process that executes another program image than at Open.
	ErrExec = errors.New("has executed another program")
	// ErrBadAddress is memory that the process does not have.
	ErrBadAddress = errors.New("bad address")
	// ErrPermission is a process that this one must not look into. It is
	// fs.ErrPermission, so that it matches errors of other packages as well.
	ErrPermission = fs.ErrPermission
)

// Process is one process and the program image it executes. Its methods are
// safe for concurrent use. Close it when done.
type Process struct {
	pid   int
	pidfd *os.File // non-blocking, so that waiting for it takes no thread
	mem   *os.File // the image at Open; nil when memErr is set
	// memErr is why mem could not be opened.
	memErr error

	watch  sync.Once
	done   chan struct{} // closed when the process has ended
	closed chan struct{} // closed by Close
	close  func() error
}

// Open takes hold of the running process pid, a number of this process's own
// PID namespace. It needs no privileges; whether the process may be looked
// into is told by [Process.Readable]. The errors are ErrNoProcess (also for
// the number of a thread that leads no process), ErrKernelThread, ErrExited
// for a zombie, and ErrPermission for a process that /proc hides (proc(5),
// hidepid).
func Open(pid int) (*Process, error) {
	p := &Process{pid: pid, done: make(chan struct{}), closed: make(chan struct{})}
	p.close = sync.OnceValue(p.release)
	if pid <= 0 {
		return nil, p.fail(ErrNoProcess)
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, p.fail(pidfdError(pid, err))
	}
	p.pidfd = os.NewFile(uintptr(fd), "pidfd")
	if err := p.inspect(fd); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	p.mem, p.memErr = os.Open(p.path("mem"))
	if p.exited() {
		return nil, errors.Join(p.fail(ErrExited), p.Close())
	}
	return p, nil
}

// pidfdError explains an error of pidfd_open. A number that belongs to a
// thread other than the first of its process gives EINVAL or, on newer
// kernels, ENOENT (kernel/pid.c, pidfd_create and pidfd_prepare).
func pidfdError(pid int, err error) error {
	switch {
	case errors.Is(err, unix.ESRCH):
		return ErrNoProcess
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		leader, ok := statusField(status, "Tgid")
		if err != nil || !ok {
			return ErrNoProcess
		}
		return fmt.Errorf("%w, it is a thread of process %s", ErrNoProcess, leader)
	}
	return fmt.Errorf("pidfd_open: %w", err)
}

// inspect looks whether p is a program that runs, and whether /proc shows the
// process that the pidfd refers to: a /proc of another PID namespace does not.
func (p *Process) inspect(fd int) error {
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return p.fail(fmt.Errorf("/proc is of no use: %w", err))
	}
	if shown, ok := statusField(info, "Pid"); ok && shown != strconv.Itoa(p.pid) && !p.exited() {
		return p.fail(fmt.Errorf("/proc is of another PID namespace: there it is process %s", shown))
	}
	st, err := p.stat()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return p.fail(fmt.Errorf("hidden in /proc: %w", ErrPermission))
	case err != nil:
		return err
	case st.flags&flagKernelThread != 0:
		return p.fail(ErrKernelThread)
	}
	return nil
}

// PID is the process's number in this process's own PID namespace.
func (p *Process) PID() int { return p.pid }

// Close releases what p holds, and does nothing to the process. A second call
// returns what the first did.
func (p *Process) Close() error { return p.close() }

func (p *Process) release() error {
	close(p.closed)
	err := p.pidfd.Close()
	if p.mem != nil {
		err = errors.Join(err, p.mem.Close())
	}
	return err
}

// Check tells whether the process still executes the image it had at Open:
// nil when it does, else ErrExited or ErrExec. Where the image is out of reach
// ([Process.Readable]) an execve goes unnoticed.
func (p *Process) Check() error {
	switch {
	case p.exited():
		return p.fail(ErrExited)
	case p.mem != nil && !p.hasImage():
		return p.fail(p.imageGone())
	}
	return nil
}

// hasImage tells whether the memory that was opened is still in use. When its
// last user has left it, by exit or execve, a read gives 0 bytes whatever the
// address; before that address 0 gives EIO, or a byte where something is
// mapped there (fs/proc/base.c, mem_rw).
func (p *Process) hasImage() bool {
	var b [1]byte
	ok := false
	err := p.control(p.mem, func(fd int) {
		n, err := unix.Pread(fd, b[:], 0)
		ok = n > 0 || err != nil
	})
	return err == nil && ok
}

// imageGone says why the image is gone: exit or execve. A process that exits
// gives up its memory a moment before the pidfd tells.
func (p *Process) imageGone() error {
	st, err := p.stat()
	if err != nil || st.flags&flagExiting != 0 || st.state == 'Z' || st.state == 'X' {
		return ErrExited
	}
	return ErrExec
}

// fail adds to err whose error it is.
func (p *Process) fail(err error) error {
	return fmt.Errorf("process %d: %w", p.pid, err)
}

// path is the name of a file of the process in /proc.
func (p *Process) path(name string) string {
	return fmt.Sprintf("/proc/%d/%s", p.pid, name)
}

// verify replaces the error of an access by PID by ErrExited when the process
// has ended, in which case the access may have met another process.
func (p *Process) verify(err error) error {
	switch {
	case p.exited(), errors.Is(err, unix.ESRCH):
		return p.fail(ErrExited)
	case err != nil:
		return p.fail(err)
	}
	return nil
}

// read reads a file of the process in /proc.
func (p *Process) read(name string) ([]byte, error) {
	b, err := os.ReadFile(p.path(name))
	if err := p.verify(err); err != nil {
		return nil, err
	}
	return b, nil
}

// statusField finds the value of a line "NAME:\tVALUE", as /proc/PID/status and
// fdinfo have them.
func statusField(text []byte, name string) (string, bool) {
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte(name+":")); ok {
			return string(bytes.TrimSpace(rest)), true
		}
	}
	return "", false
}
