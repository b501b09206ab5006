package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Launched is a child process that [Launch] started.
type Launched struct {
	*Process

	resume chan struct{} // closed to let the program run
	kill   chan struct{} // closed to end it before it runs
	once   sync.Once     // one of the two, once
	ran    chan error    // the outcome of letting it run
	ended  chan struct{} // closed when the child was reaped
	state  *os.ProcessState
}

// LaunchOptions are the choices of Launch; nil means the defaults.
type LaunchOptions struct {
	// Stdout is the program's standard output; nil means our standard error,
	// because our standard output carries our data.
	Stdout *os.File
}

// Launch starts a program and stops it at its very beginning: it is loaded, and
// not one of its instructions has run. [Launched.Resume] lets it go on. It
// inherits the environment, standard input and standard error. Should this
// process end before, the program is killed.
//
// The child is held with ptrace(2), whose calls must all come from one thread:
// a goroutine of its own makes them, and lets go of the child in Resume.
func Launch(argv []string, opts *LaunchOptions) (*Launched, error) {
	if opts == nil {
		opts = &LaunchOptions{}
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, opts.Stdout, os.Stderr
	if opts.Stdout == nil {
		cmd.Stdout = os.Stderr
	}
	cmd.SysProcAttr = &unix.SysProcAttr{Ptrace: true}
	l := &Launched{
		resume: make(chan struct{}),
		kill:   make(chan struct{}),
		ran:    make(chan error, 1),
		ended:  make(chan struct{}),
	}
	started := make(chan error)
	go l.hold(cmd, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("launch %s: %w", argv[0], err)
	}
	var err error
	if l.Process, err = Open(cmd.Process.Pid); err != nil {
		l.Kill()
		return nil, fmt.Errorf("launch %s: %w", argv[0], err)
	}
	return l, nil
}

// hold starts the child, holds it until it may run or must die, and reaps it.
func (l *Launched) hold(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
	defer close(l.ended)
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	pid := cmd.Process.Pid
	err := stopAtExec(pid)
	started <- err
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		return
	}
	select {
	case <-l.resume:
		err := unix.PtraceDetach(pid)
		if err != nil {
			cmd.Process.Kill()
		}
		l.ran <- err
	case <-l.kill:
		cmd.Process.Kill()
	}
	cmd.Wait() // the outcome is in ProcessState
	l.state = cmd.ProcessState
}

// stopAtExec waits for the SIGTRAP with which a traced child stops after execve
// (ptrace(2), PTRACE_TRACEME).
func stopAtExec(pid int) error {
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &ws, 0, nil)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for its start: %w", err)
		}
	}
	if !ws.Stopped() || ws.StopSignal() != unix.SIGTRAP {
		return fmt.Errorf("did not start: wait status %#x", uint32(ws))
	}
	if err := unix.PtraceSetOptions(pid, unix.PTRACE_O_EXITKILL); err != nil {
		return fmt.Errorf("ptrace: %w", err)
	}
	return nil
}

// Resume lets the program run, free of us. Signals that came meanwhile reach it
// now. It may be called once, and not after Kill.
func (l *Launched) Resume() error {
	l.once.Do(func() { close(l.resume) })
	if err := <-l.ran; err != nil {
		return l.fail(fmt.Errorf("let it run: %w", err))
	}
	return nil
}

// Kill ends the child at once, also one that has not been resumed, and waits
// for its end.
func (l *Launched) Kill() {
	l.once.Do(func() { close(l.kill) })
	if l.Process != nil {
		l.signal(unix.SIGKILL) // fails when it has ended already
	}
	<-l.ended
}

// Terminate asks the resumed child to end, and kills it when it has not within
// grace.
func (l *Launched) Terminate(grace time.Duration) {
	l.signal(unix.SIGTERM) // fails when it has ended already
	select {
	case <-l.ended:
	case <-time.After(grace):
		l.Kill()
	}
}

// Ended is closed when the child has ended and was reaped.
func (l *Launched) Ended() <-chan struct{} { return l.ended }

// State is how the child ended and what it used; nil before Ended is closed.
func (l *Launched) State() *os.ProcessState {
	select {
	case <-l.ended:
		return l.state
	default:
		return nil
	}
}
