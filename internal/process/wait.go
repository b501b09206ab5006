package process

import (
	"context"
	"os"

	"golang.org/x/sys/unix"
)

// Exited tells whether the process has ended; a zombie has. After Close the
// answer is true as well.
func (p *Process) Exited() bool { return p.exited() }

// Done returns a channel that is closed when the process has ended. It stays
// open when p is closed before.
func (p *Process) Done() <-chan struct{} {
	p.watch.Do(func() { go p.await() })
	return p.done
}

// Wait waits until the process has ended, and returns nil then, else the error
// of ctx, or os.ErrClosed when p is closed meanwhile.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.Done():
		return nil
	case <-p.closed:
		return p.fail(os.ErrClosed)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// await closes p.done at the process's end. A pidfd is readable from then on
// (pidfd_open(2)), and the runtime's poller waits for that.
func (p *Process) await() {
	conn, err := p.pidfd.SyscallConn()
	if err != nil {
		return
	}
	if conn.Read(func(fd uintptr) bool { return readable(int(fd)) }) == nil {
		close(p.done)
	}
}

func (p *Process) exited() bool {
	gone := false
	err := p.control(p.pidfd, func(fd int) { gone = readable(fd) })
	return err != nil || gone
}

// readable tells without waiting whether fd is readable.
func readable(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 0)
		if err == unix.EINTR {
			continue
		}
		return n > 0
	}
}

// control calls fn with the descriptor of f, which stays open meanwhile.
func (p *Process) control(f *os.File, fn func(fd int)) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return conn.Control(func(fd uintptr) { fn(int(fd)) })
}
