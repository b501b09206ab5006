package inline

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"gopherscope/internal/engine/probes"
	"gopherscope/internal/process"
	"gopherscope/internal/ptrace"
	"gopherscope/internal/target"
)

// How long a process may be stopped. A thread that sleeps uninterruptibly in the
// kernel does not stop at all: then everything is let go and tried again.
const (
	stopLimit   = 100 * time.Millisecond
	stopTries   = 5
	injectLimit = 2 * time.Second
	retryPause  = 20 * time.Millisecond
	// detachFor is how long detaching is tried while a signal handler is about to return
	// into the code.
	detachFor = 10 * time.Second
	// tracedFor is how long it is tried while somebody else traces the process: more than
	// who only looks at it needs, and not as long as a person with a debugger.
	tracedFor = 2 * time.Second
)

// injection is our code and rings in one process.
type injection struct {
	proc    *process.Process
	tgt     *target.Target
	tracer  func(func(tid int) error) error // of a program that does not run yet; else nil
	gadgets ptrace.Gadgets
	text    ptrace.Range // the program's Go code
	prog    *program
	what    *manifest
	// descriptors that a gopherscope before left open in the process
	descriptors []int
	mem         *ptrace.Mem
	fd          int    // of the rings' memfd; -1 without
	shared      []byte // the rings, mapped here
	pause       time.Duration
	stopped     int // threads

}

// onTracer runs f on the thread that traces a program which does not run yet; held is
// false if there is none, or if it runs by now.
func (in *injection) onTracer(f func(tid int) error) (held bool, err error) {
	if in.tracer == nil {
		return false, nil
	}
	if err = in.tracer(f); errors.Is(err, os.ErrClosed) {
		in.tracer = nil
		return false, nil
	}
	return true, err
}

// inject runs f with system calls in the process.
func (in *injection) inject(f func(r *ptrace.Remote) error) error {
	if held, err := in.onTracer(func(tid int) error { return ptrace.InjectTraced(tid, in.gadgets, injectLimit, f) }); held {
		return err
	}
	return ptrace.Run(func() error { return ptrace.Inject(in.proc.PID(), in.gadgets, injectLimit, f) })
}

// whileStopped runs f with all threads of the process stopped, and measures how long
// they were.
func (in *injection) whileStopped(f func(s *ptrace.Stopped) error) error {
	if held, err := in.onTracer(func(tid int) error {
		s, err := ptrace.StoppedTraced(tid)
		if err != nil {
			return err
		}
		return f(s)
	}); held {
		return err
	}
	return ptrace.Run(func() error {
		start := time.Now()
		s, err := ptrace.StopAll(in.proc.PID(), stopLimit)
		if err != nil {
			return err
		}
		in.stopped = len(s.Threads)
		err = f(s)
		s.Release()
		in.pause = time.Since(start)
		return err
	})
}

// prepare finds out about the process and where everything goes.
func prepare(t *target.Target, sites []probes.Site, sh shape) (*injection, error) {
	in, err := newInjection(t)
	if err != nil {
		return nil, err
	}
	maps, err := t.Proc.Mappings()
	if err != nil {
		return nil, errors.Join(err, in.release())
	}
	base, err := findSpace(maps, in.text.Lo, in.text.Hi, codeBytes)
	if err != nil {
		return nil, errors.Join(err, in.release())
	}
	in.prog, err = build(t, sites, base, sh)
	if err == nil {
		err = in.verifyText()
	}
	if err != nil {
		return nil, errors.Join(err, in.release())
	}
	return in, nil
}

// newInjection opens the memory of t's process. The caller must release it.
func newInjection(t *target.Target) (*injection, error) {
	in := &injection{proc: t.Proc, tgt: t, fd: -1}
	ret, err := t.Bin.SyscallRet()
	if err != nil {
		return nil, err
	}
	sig, err := t.Bin.Sigreturn()
	if err != nil {
		return nil, err
	}
	in.gadgets = ptrace.Gadgets{SyscallRet: ret + t.Bias, Sigreturn: sig + t.Bias}
	lo, hi := t.Bin.Text()
	in.text = ptrace.Range{Lo: lo + t.Bias, Hi: hi + t.Bias}
	in.mem, err = ptrace.OpenMem(t.Proc.PID())
	return in, err
}

// verifyText compares the bytes around every site with those of the file.
func (in *injection) verifyText() error {
	for i := range in.prog.hooks {
		h := &in.prog.hooks[i]
		n := len(h.orig)
		if h.window == nil {
			n++ // the call's opcode before its distance
		}
		want, err := in.tgt.Bin.CodeAt(h.addr-in.tgt.Bias, n)
		if err != nil {
			return err
		}
		have := make([]byte, n)
		if err := in.proc.ReadMem(h.addr, have); err != nil {
			return err
		}
		if !bytes.Equal(have, want) {
			return fmt.Errorf("%w: % x at %#x instead of % x", ErrText, have, h.addr, want)
		}
	}
	return nil
}

// verifyHooks looks whether the bytes at the sites still are as they were left. Where a
// uprobe is put on a call, the kernel executes the call as it is in the file and
// nothing is recorded.
func (in *injection) verifyHooks() error {
	reads := make([]process.MemRead, len(in.prog.hooks))
	for i := range in.prog.hooks {
		h := &in.prog.hooks[i]
		reads[i] = process.MemRead{Addr: h.addr, Buf: make([]byte, int(h.at-h.addr)+len(h.patch))}
	}
	if _, err := in.proc.ReadMany(reads); err != nil {
		return err
	}
	for i := range in.prog.hooks {
		h := &in.prog.hooks[i]
		want := h.patch
		if h.window == nil {
			want = append([]byte{0xe8}, h.patch...)
		}
		if !bytes.Equal(reads[i].Buf, want) {
			return fmt.Errorf("%w: % x at %#x instead of % x: changes are no longer seen", ErrText, reads[i].Buf, h.addr, want)
		}
	}
	return nil
}

// ErrText is code in memory that is not that of the file: a breakpoint, a uprobe or
// another tool is there.
var ErrText = errors.New("the process's code was changed by somebody else")

// place makes the mappings in the process and opens the rings here.
func (in *injection) place(sh shape) error {
	size := ringsSize(sh.rings, sh.ringBytes)
	in.what = manifestOf(in.prog, 0, uint64(size))
	in.what.Code = 0 // until it is mapped
	err := in.inject(func(r *ptrace.Remote) error {
		err := in.placeRings(r, size)
		if err == nil {
			copy(in.shared, header(in.prog.base))
			err = in.placeCode(r)
		}
		if err == nil {
			err = in.fillIn()
		}
		if err == nil {
			return nil
		}
		r.Extend()
		return errors.Join(err, in.unmapWith(r))
	})
	if err != nil {
		in.what = nil // what could be taken back is
		return fmt.Errorf("inject: %w", err)
	}
	return nil
}

// placeRings makes the memfd in the process, takes hold of it and maps it there. Its size
// is sealed, so that nobody can make a mapping of it fault. The rings come first: by their
// name the rest is found if we are killed.
func (in *injection) placeRings(r *ptrace.Remote, size int) error {
	if err := r.Write(r.Scratch(), append([]byte(mapName), 0)); err != nil {
		return err
	}
	fd, err := r.Syscall(unix.SYS_MEMFD_CREATE, r.Scratch(), unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return fmt.Errorf("memfd_create: %w", err)
	}
	err = in.takeHold(int(fd), size)
	if err == nil {
		var at uint64
		at, err = r.Syscall(unix.SYS_MMAP, 0, uint64(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED, fd, 0)
		if err != nil {
			err = fmt.Errorf("map rings: %w", err)
		} else {
			in.what.Rings = at
		}
	}
	if err != nil {
		r.Extend()
	}
	if _, e := r.Syscall(unix.SYS_CLOSE, fd); e != nil {
		err = errors.Join(err, fmt.Errorf("close memfd: %w", e))
	}
	return err
}

// takeHold gets the memfd from the process and maps it here.
func (in *injection) takeHold(fd, size int) error {
	pidfd, err := unix.PidfdOpen(in.proc.PID(), 0)
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(pidfd)
	got, err := unix.PidfdGetfd(pidfd, fd, 0)
	if err != nil {
		return fmt.Errorf("pidfd_getfd: %w", err)
	}
	defer unix.Close(got)
	// Another open file: a lock on it is ours alone, and gone when we are.
	if in.fd, err = unix.Open(fmt.Sprintf("/proc/self/fd/%d", got), unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open memfd: %w", err)
	}
	if err := unix.Flock(in.fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("lock memfd: %w", err)
	}
	if err := unix.Ftruncate(in.fd, int64(size)); err != nil {
		return fmt.Errorf("size of memfd: %w", err)
	}
	if _, err := unix.FcntlInt(uintptr(in.fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		return fmt.Errorf("seal memfd: %w", err)
	}
	if in.shared, err = unix.Mmap(in.fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("map rings here: %w", err)
	}
	return nil
}

// placeCode makes the code's mapping, with the control page writable, and empty in a
// child that the process forks: the child shares the rings, but is not the one that is
// traced.
func (in *injection) placeCode(r *ptrace.Remote) error {
	if _, err := r.Syscall(unix.SYS_MMAP, in.prog.base, codeBytes, unix.PROT_READ|unix.PROT_EXEC,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE, ^uint64(0), 0); err != nil {
		return fmt.Errorf("map code: %w", err)
	}
	in.what.Code = in.prog.base
	at := in.prog.base + controlOffset
	if _, err := r.Syscall(unix.SYS_MPROTECT, at, controlPages*pageSize, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return fmt.Errorf("mprotect: %w", err)
	}
	if _, err := r.Syscall(unix.SYS_MADVISE, at, controlPages*pageSize, unix.MADV_WIPEONFORK); err != nil {
		return fmt.Errorf("madvise: %w", err)
	}
	return nil
}

// fillIn writes manifest and code, while the main thread is traced. Nothing leads to the
// code yet: what lies there says what it is before anything is changed. The manifest's
// length comes last, so that it is whole if there is one.
func (in *injection) fillIn() error {
	text, err := in.what.encode()
	if err != nil {
		return err
	}
	if err := in.mem.Write(in.prog.base+lengthBytes, text[lengthBytes:]); err != nil {
		return err
	}
	if err := in.mem.Write(in.prog.base, text[:lengthBytes]); err != nil {
		return err
	}
	if err := in.mem.Write(in.prog.base+codeOffset, in.prog.code); err != nil {
		return err
	}
	have := make([]byte, len(in.prog.code))
	if err := in.proc.ReadMem(in.prog.base+codeOffset, have); err != nil {
		return err
	}
	if !bytes.Equal(have, in.prog.code) {
		return errors.New("the code written to the process does not read back")
	}
	return nil
}

// hookIn changes the text, with all threads stopped.
func (in *injection) hookIn() error {
	var err error
	for try := range stopTries {
		if try > 0 {
			time.Sleep(retryPause)
		}
		busy := false
		err = in.whileStopped(func(s *ptrace.Stopped) error {
			var err error
			busy, err = in.patch(s)
			return err
		})
		if err == nil && !busy {
			return nil
		}
		if err == nil {
			err = errors.New("a signal handler keeps returning into the code to be changed")
		} else if !errors.Is(err, ptrace.ErrDeadline) {
			break
		}
	}
	return fmt.Errorf("stop the process: %w", err)
}

// patch is hookIn's work. busy says that a thread would come back into the middle of
// instructions that are replaced; nothing was changed then. A thread that stands there
// is moved to the copy, before, as the copy does the same at any time. Retargeting a
// call needs neither: its bytes are read as one instruction.
func (in *injection) patch(s *ptrace.Stopped) (busy bool, err error) {
	if err := in.verifyText(); err != nil {
		return false, err
	}
	for i := range in.prog.hooks {
		h := &in.prog.hooks[i]
		if h.window == nil {
			continue
		}
		inside := ptrace.Range{Lo: h.at + 1, Hi: h.at + uint64(len(h.orig))}
		if len(s.ReturnsInto(in.proc.PID(), inside, in.text)) > 0 {
			return true, nil
		}
		for _, t := range s.Threads {
			if pc := programCounter(t); inside.Contains(pc) {
				if err := setProgramCounter(t, h.tail+(pc-h.at)); err != nil {
					return false, err
				}
			}
		}
	}
	for i := range in.prog.hooks {
		h := &in.prog.hooks[i]
		if err := in.mem.Write(h.at, h.patch); err != nil {
			return false, errors.Join(err, in.unpatch())
		}
	}
	return false, nil
}

// unpatch puts the text back after patch failed half-way. Nothing has run meanwhile.
func (in *injection) unpatch() error {
	var errs []error
	for i := range in.prog.hooks {
		h := &in.prog.hooks[i]
		errs = append(errs, in.mem.Write(h.at, h.orig))
	}
	return errors.Join(errs...)
}

// enable says to the code where the rings are: from then on it records. 0 ends it.
func (in *injection) enable(headers uint64) error {
	b := make([]byte, 8)
	putWord(b, headers)
	return in.mem.Write(in.prog.base+controlOffset, b)
}

// release gives our own mapping and descriptor back.
func (in *injection) release() error {
	var errs []error
	if in.shared != nil {
		errs = append(errs, unix.Munmap(in.shared))
		in.shared = nil
	}
	if in.fd >= 0 {
		errs = append(errs, unix.Close(in.fd))
		in.fd = -1
	}
	if in.mem != nil {
		errs = append(errs, in.mem.Close())
		in.mem = nil
	}
	return errors.Join(errs...)
}
