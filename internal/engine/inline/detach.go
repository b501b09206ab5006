package inline

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"gopherscope/internal/process"
	"gopherscope/internal/ptrace"
)

// ErrLeft is a process in which something of ours had to stay: what does no harm. It says
// what and why.
var ErrLeft = errors.New("left in the process")

// remove puts the text back, sees to it that no thread is in the code nor will come
// back to it, and takes the mappings away. A process that is gone needs nothing.
//
// The text is put back first and the threads are moved after: if we die in between,
// they go on in the code that is still there.
func (in *injection) remove() error {
	var err error
	if in.what.Code != 0 {
		err = in.clear()
	}
	if err == nil {
		err = in.unmap()
	}
	if gone(in.proc) {
		return nil
	}
	return err
}

// gone says whether the process has ended or executes another program.
func gone(p *process.Process) bool {
	err := p.Check()
	return errors.Is(err, process.ErrExited) || errors.Is(err, process.ErrExec)
}

// clear is the part of remove that needs the threads stopped. As long as a signal
// handler would return into the code, a thread does not stop, or somebody else traces the
// process, it is tried again.
func (in *injection) clear() error {
	began := time.Now()
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		var busy []int
		err := in.whileStopped(func(s *ptrace.Stopped) error {
			if err := in.restore(); err != nil {
				return err
			}
			code := ptrace.Range{Lo: in.what.Code, Hi: in.what.Code + codeBytes}
			if busy = s.ReturnsInto(in.proc.PID(), code, in.text); len(busy) > 0 {
				return nil
			}
			return in.moveOut(s, code)
		})
		if err == nil && len(busy) == 0 {
			return nil
		}
		traced := errors.Is(err, ptrace.ErrTraced)
		if err != nil && !traced && !errors.Is(err, ptrace.ErrDeadline) {
			return err
		}
		if d := time.Since(began); d > detachFor || traced && d > tracedFor {
			if err == nil {
				err = fmt.Errorf("signal handlers of threads %v keep returning into it", busy)
			}
			return fmt.Errorf("%w: the code at %#x, which records nothing: %w", ErrLeft, in.what.Code, err)
		}
		time.Sleep(wait)
	}
}

// restore puts the original bytes back where ours are. If something else is there,
// somebody else's code may lead to ours: then that stays, with its reason.
func (in *injection) restore() error {
	var left error
	for _, e := range in.what.Hooks {
		have := make([]byte, len(e.Orig))
		if err := in.mem.Read(e.At, have); err != nil {
			return err
		}
		switch {
		case bytes.Equal(have, e.Orig):
		case bytes.Equal(have, e.Patch):
			if err := in.mem.Write(e.At, e.Orig); err != nil {
				return err
			}
		default:
			left = fmt.Errorf("%w: the code, as %w: % x at %#x", ErrLeft, ErrText, have, e.At)
		}
	}
	return left
}

// moveOut moves the threads that are in the code out of it.
func (in *injection) moveOut(s *ptrace.Stopped, code ptrace.Range) error {
	for _, t := range s.Threads {
		pc := programCounter(t)
		if !code.Contains(pc) {
			continue
		}
		to, ok := in.what.spanAt(pc)
		if !ok {
			return fmt.Errorf("%w: the code, as thread %d is at an unknown place in it, %#x", ErrLeft, t.TID, pc)
		}
		if err := moveOut(t, to); err != nil {
			return err
		}
	}
	return nil
}

// unmap takes the mappings away. Nobody can come to them any more.
func (in *injection) unmap() error {
	if err := in.inject(in.unmapWith); err != nil {
		return fmt.Errorf("%w: unused mappings: %w", ErrLeft, err)
	}
	return nil
}

// unmapWith is unmap's work: the code first, as it is found by the rings. A descriptor
// of the rings is there only if we were killed in the middle of placeRings.
//
// The last system call of one that was killed can have taken the mappings away since they
// were seen, and the process can have put something of its own there. It was the thread
// that is ours now that made that call, so what is still there now stays until we unmap it.
func (in *injection) unmapWith(r *ptrace.Remote) error {
	maps, err := in.proc.Mappings()
	if err != nil {
		return err
	}
	var errs []error
	if in.what.Code != 0 && isCode(maps, in.what.Code) {
		_, err := r.Syscall(unix.SYS_MUNMAP, in.what.Code, codeBytes)
		errs = append(errs, err)
	}
	if rings, ok := leftover(maps); ok && rings.Start == in.what.Rings {
		_, err := r.Syscall(unix.SYS_MUNMAP, in.what.Rings, in.what.RingsLen)
		errs = append(errs, err)
	}
	for _, fd := range in.descriptors {
		_, err := r.Syscall(unix.SYS_CLOSE, uint64(fd))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
