package ptrace

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// ucFlags is UC_FP_XSTATE, UC_SIGCONTEXT_SS and UC_STRICT_RESTORE_SS.
	ucFlags = 7
	// noStack is flags of an alternate stack that there are none of: the kernel then
	// leaves the thread's own as it is (kernel/signal.c, restore_altstack).
	noStack = 0x7fff
	// frameSpace is the part of a frame before the FPU's state: with the siginfo.
	frameSpace = 512
)

// Inject stops the main thread of a process and calls f, which can make it execute
// system calls; all other threads run. Then the thread goes on where it was. It must be
// called in [Run].
//
// # If we die
//
// Before the thread's registers are touched, a complete signal frame is written to
// the unused end of its stack, as if a signal had interrupted it where it is. A system call
// is made by one PTRACE_SETREGS: PC at the process's own `syscall; ret`, SP at that
// frame, whose first word, the return address of a signal handler, is the address of
// rt_sigreturn. If this process dies at any moment after, the thread executes the
// system call, returns into rt_sigreturn, and has its registers, signal mask and
// FPU state back. The signals are blocked after that, and unblocked before the
// registers are put back, so that this is true of the mask, too.
//
// If all goes well the frame is not used: the registers are put back while the thread
// stands in the kernel's signal code, in which it also restarts a system call that
// the stop interrupted. Through the frame that is done by going back to the SYSCALL
// instruction; a call that is restarted from where it was (nanosleep, futex and poll
// with a timeout) returns EINTR in that case, as rt_sigreturn forgets how to
// (arch/x86/kernel/signal_64.c, restore_sigcontext).
//
// A seccomp filter is suspended only while we live: one that kills for these system
// calls would do so if we died just before one.
func Inject(pid int, g Gadgets, limit time.Duration, f func(*Remote) error) error {
	r, err := newRemote(pid, g, limit)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := seize(pid, pid, options(pid)); err != nil {
		return err
	}
	if err := r.interrupt(); err != nil {
		return err
	}
	if err := r.prepare(); err != nil {
		return errors.Join(err, r.letGo())
	}
	err = f(r)
	if r.armed {
		err = errors.Join(err, r.restore())
	}
	return errors.Join(err, r.letGo())
}

// InjectTraced is Inject for a process of one thread that this thread traces and that
// is stopped, as after an execve. It stays so, with the registers it had.
func InjectTraced(tid int, g Gadgets, limit time.Duration, f func(*Remote) error) error {
	r, err := newRemote(tid, g, limit)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := request(unix.PTRACE_SETOPTIONS, tid, 0, options(tid)|optExitKill); err != nil {
		return fmt.Errorf("set options: %w", err)
	}
	if err := r.prepare(); err != nil {
		return err
	}
	err = f(r)
	if !r.armed {
		return err
	}
	if e := setSigmask(r.tid, r.mask); e != nil {
		err = errors.Join(err, fmt.Errorf("unblock signals: %w", e))
	}
	if e := unix.PtraceSetRegs(r.tid, &r.saved); e != nil {
		err = errors.Join(err, fmt.Errorf("put registers back: %w", e))
	}
	return errors.Join(err, r.Write(r.frame, r.before))
}

// newRemote looks for what forbids this before the thread is touched.
func newRemote(pid int, g Gadgets, limit time.Duration) (*Remote, error) {
	if exiting(pid, pid) {
		return nil, fmt.Errorf("%w, or its main thread has", ErrExited)
	}
	if ShadowStack(pid) {
		return nil, ErrShadowStack
	}
	mem, err := OpenMem(pid)
	if err != nil {
		return nil, err
	}
	return &Remote{pid: pid, tid: pid, gadgets: g, limit: limit, deadline: time.Now().Add(limit), Mem: mem}, nil
}

// ShadowStack says whether the main thread of a process has a shadow stack (CET), on
// which the return addresses that Inject makes up are missing.
func ShadowStack(pid int) bool {
	features, ok := statusField(pid, pid, "x86_Thread_features")
	return ok && strings.Contains(features, "shstk")
}

// interrupt stops the thread in the kernel's signal code, with no signal in
// delivery: one that comes first is delivered, and the thread stops at the first
// instruction of its handler.
func (r *Remote) interrupt() error {
	if err := request(unix.PTRACE_INTERRUPT, r.tid, 0, 0); err != nil {
		return ErrExited
	}
	for {
		why, err := wait(r.pid, r.tid, r.deadline)
		if errors.Is(err, ErrDeadline) {
			return slow(r.pid, r.tid, r.limit)
		}
		if err != nil || why.isEvent() {
			return err
		}
		if err := request(unix.PTRACE_CONT, r.tid, 0, uintptr(why.signal())); err != nil {
			return ErrExited
		}
		// The stop may have come after the interrupt, and have taken its place.
		if err := request(unix.PTRACE_INTERRUPT, r.tid, 0, 0); err != nil {
			return ErrExited
		}
	}
}

// prepare saves the thread's state and writes the frame.
func (r *Remote) prepare() error {
	if err := unix.PtraceGetRegs(r.tid, &r.saved); err != nil {
		return ErrExited
	}
	var err error
	if r.mask, err = getSigmask(r.tid); err != nil {
		return ErrExited
	}
	for addr, want := range map[uint64][]byte{r.gadgets.SyscallRet: {0x0f, 0x05, 0xc3}, r.gadgets.Sigreturn: nil} {
		if err := r.checkGadget(addr, want); err != nil {
			return err
		}
	}
	stack, err := stackOf(r.pid)
	if err != nil {
		return err
	}
	r.frame = (stack.Lo + 63) &^ 63
	r.before = make([]byte, frameRoom+ScratchBytes)
	if stack.Hi-stack.Lo < scratchRoom {
		return fmt.Errorf("%w: it has %d bytes", ErrScratch, stack.Hi-stack.Lo)
	}
	if err := r.Read(r.frame, r.before); err != nil {
		return err
	}
	if !r.unused(stack) {
		return fmt.Errorf("%w: it is used down to its end", ErrScratch)
	}
	frame, err := r.signalFrame()
	if err != nil {
		return err
	}
	return r.Write(r.frame, frame)
}

// unused says whether nobody needs what is at the end of the stack: the stack pointer is
// on it, far above; or it is elsewhere, as on a goroutine's stack, and the end has never
// been used or holds what we left there when we were killed.
func (r *Remote) unused(stack Range) bool {
	const near = 1 << 20 // below the mapping: a function that has not touched its frame yet
	sp := r.saved.Rsp
	if sp >= stack.Lo-near && sp < stack.Hi {
		return sp >= stack.Lo+scratchRoom
	}
	word := func(off int) uint64 { return binary.LittleEndian.Uint64(r.before[off:]) }
	ours := word(0) == r.gadgets.Sigreturn && word(frameFlags) == ucFlags && word(frameStack+8) == noStack
	return ours || len(bytes.TrimLeft(r.before, "\x00")) == 0
}

// checkGadget compares the instructions in the process's memory with what they must be.
func (r *Remote) checkGadget(addr uint64, want []byte) error {
	have := make([]byte, 9)
	if err := r.Read(addr, have); err != nil {
		return err
	}
	if want != nil && string(have[:len(want)]) == string(want) {
		return nil
	}
	if want == nil && (string(have) == "\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05" || string(have[:7]) == "\xb8\x0f\x00\x00\x00\x0f\x05") {
		return nil
	}
	return fmt.Errorf("code at %#x of process %d is % x, not as in its binary", addr, r.pid, have)
}

// signalFrame is a struct rt_sigframe that puts the thread back where it is.
func (r *Remote) signalFrame() ([]byte, error) {
	fpu, err := r.fpuState()
	if err != nil {
		return nil, err
	}
	b := make([]byte, frameSpace, frameSpace+len(fpu))
	put := func(off int, v uint64) { binary.LittleEndian.PutUint64(b[off:], v) }
	put(0, r.gadgets.Sigreturn)
	put(frameFlags, ucFlags)
	put(frameStack+8, noStack)
	s := r.resumed()
	for i, v := range []uint64{s.R8, s.R9, s.R10, s.R11, s.R12, s.R13, s.R14, s.R15, s.Rdi, s.Rsi, s.Rbp, s.Rbx, s.Rdx, s.Rax, s.Rcx, s.Rsp, s.Rip, s.Eflags} {
		put(frameRegs+8*i, v)
	}
	binary.LittleEndian.PutUint16(b[frameCS:], userCS)
	binary.LittleEndian.PutUint16(b[frameSS:], userSS)
	put(frameFPU, r.frame+frameSpace)
	put(frameMask, r.mask)
	return append(b, fpu...), nil
}

// wrap says what could not be done to the thread; ErrExited if it is gone.
func (r *Remote) wrap(what string, err error) error {
	if errors.Is(err, unix.ESRCH) {
		return ErrExited
	}
	return fmt.Errorf("%s of thread %d: %w", what, r.tid, err)
}

// resumed is the registers with which the thread goes on without the kernel's help:
// where a system call was interrupted, at its SYSCALL instruction again.
func (r *Remote) resumed() unix.PtraceRegs {
	const (
		restartSys     = -512 // ERESTARTSYS, include/linux/errno.h
		restartNoIntr  = -513 // ERESTARTNOINTR
		restartNoHand  = -514 // ERESTARTNOHAND
		restartBlock   = -516 // ERESTART_RESTARTBLOCK
		syscallInsnLen = 2
	)
	s := r.saved
	if int64(s.Orig_rax) < 0 {
		return s
	}
	switch int64(s.Rax) {
	case restartSys, restartNoIntr, restartNoHand:
		s.Rax = s.Orig_rax
		s.Rip -= syscallInsnLen
	case restartBlock:
		interrupted := -int64(unix.EINTR)
		s.Rax = uint64(interrupted)
	}
	return s
}

const (
	ntX86Xstate = 0x202
	fxBytes     = 464 // of the FXSAVE area before the bytes for software
	fpMagic1    = 0x46505853
	fpMagic2    = 0x46505845
	amx         = 3 << 17 // XTILECFG and XTILEDATA in XSTATE_BV
	beforeAMX   = 2696    // where the state before them ends at most
)

// fpuState is the FPU's state as a signal frame has it: the XSAVE area with struct
// _fpx_sw_bytes in it and a magic word behind (arch/x86/kernel/fpu/signal.c,
// save_sw_bytes). ptrace gives the area with all features that the machine has; a thread
// that has not used AMX has no room for it in the kernel, and the part is left out.
func (r *Remote) fpuState() ([]byte, error) {
	b := make([]byte, frameRoom)
	iov := unix.Iovec{Base: &b[0], Len: uint64(len(b))}
	if err := request(unix.PTRACE_GETREGSET, r.tid, ntX86Xstate, uintptr(unsafe.Pointer(&iov))); err != nil {
		return nil, r.wrap("read FPU state", err)
	}
	n := int(iov.Len)
	if n < fxBytes+48+64 {
		return nil, fmt.Errorf("FPU state of thread %d has %d bytes", r.tid, n)
	}
	b = b[:n]
	if features := binary.LittleEndian.Uint64(b[512:]); features&amx == 0 && n > beforeAMX {
		n = beforeAMX
		b = b[:n]
	}
	features := binary.LittleEndian.Uint64(b[fxBytes:])
	sw := b[fxBytes:512]
	clear(sw)
	binary.LittleEndian.PutUint32(sw, fpMagic1)
	binary.LittleEndian.PutUint32(sw[4:], uint32(n+4))
	binary.LittleEndian.PutUint64(sw[8:], features)
	binary.LittleEndian.PutUint32(sw[16:], uint32(n))
	b = binary.LittleEndian.AppendUint32(b, fpMagic2)
	if frameSpace+len(b) > frameRoom {
		return nil, fmt.Errorf("FPU state of thread %d has %d bytes", r.tid, n)
	}
	return b, nil
}

// seenThrough is how long is waited for a thread that makes a system call for us, or comes
// back from it. It is long, as waiting harms nobody: the thread is where the kernel is busy for it, or
// has no CPU, and could not go on with what it did before either.
const seenThrough = 10 * time.Second

// Syscall makes one system call. The error of a call that failed in the process is a
// unix.Errno. After the limit of Inject it is ErrDeadline, and the call is not made; one that has
// begun before is seen through.
func (r *Remote) Syscall(nr uintptr, args ...uint64) (uint64, error) {
	if time.Now().After(r.deadline) {
		return 0, fmt.Errorf("%w: system call %d was to be made after %v", ErrDeadline, nr, r.limit)
	}
	regs, err := r.begin(nr, args)
	if err != nil {
		return 0, err
	}
	for _, r.call = range []call{entering, leaving} {
		if err := r.toSyscallStop(); err != nil {
			return 0, err
		}
	}
	r.call = noCall
	if err := unix.PtraceGetRegs(r.tid, regs); err != nil {
		return 0, ErrExited
	}
	if v := int64(regs.Rax); v < 0 && v > -4096 {
		return 0, unix.Errno(-v)
	}
	return regs.Rax, nil
}

// begin gives the thread, which stands still, the registers for a system call.
func (r *Remote) begin(nr uintptr, args []uint64) (*unix.PtraceRegs, error) {
	regs := r.saved
	regs.Rip, regs.Rsp = r.gadgets.SyscallRet, r.frame
	regs.Rax, regs.Orig_rax = uint64(nr), ^uint64(0)
	for i, to := range []*uint64{&regs.Rdi, &regs.Rsi, &regs.Rdx, &regs.R10, &regs.R8, &regs.R9} {
		*to = 0
		if i < len(args) {
			*to = args[i]
		}
	}
	if err := unix.PtraceSetRegs(r.tid, &regs); err != nil {
		return nil, r.wrap("set registers", err)
	}
	if !r.armed {
		r.armed = true
		if err := setSigmask(r.tid, ^uint64(0)); err != nil {
			return nil, r.wrap("block signals", err)
		}
	}
	return &regs, nil
}

// toSyscallStop lets the thread run to the next beginning or end of a system call.
func (r *Remote) toSyscallStop() error {
	for sig := 0; ; {
		if err := request(unix.PTRACE_SYSCALL, r.tid, 0, uintptr(sig)); err != nil {
			return ErrExited
		}
		why, err := wait(r.pid, r.tid, time.Now().Add(seenThrough))
		switch {
		case errors.Is(err, ErrDeadline):
			return slow(r.pid, r.tid, seenThrough)
		case err != nil:
			return err
		case why.signal() == int(syscallStop):
			return nil
		}
		// SIGSTOP, which nothing blocks, is passed on: the kernel then stops the process
		// behind our back, and knows better than we whether a SIGCONT came after it.
		sig = 0
		if !why.isEvent() {
			sig = why.signal()
		}
	}
}

// restore brings the thread back into the kernel's signal code and puts its signal
// mask and registers back.
func (r *Remote) restore() error {
	if err := r.toSignalCode(time.Now().Add(seenThrough)); err != nil {
		return fmt.Errorf("put thread %d back: %w", r.tid, err)
	}
	if err := setSigmask(r.tid, r.mask); err != nil {
		return r.wrap("unblock signals", err)
	}
	if err := unix.PtraceSetRegs(r.tid, &r.saved); err != nil {
		return r.wrap("put registers back", err)
	}
	return r.Write(r.frame, r.before)
}

// toSignalCode interrupts the thread and lets it run until it has stopped for that. That can take
// until the deadline: after it the thread would go by the frame, but the system call that it was
// interrupted in would not be restarted. A call that was given up while the thread was on its way to
// it is not made any more.
func (r *Remote) toSignalCode(deadline time.Time) error {
	for stands, sig := r.call == noCall, 0; ; stands = true {
		// Each time, as any other stop takes the place of this one (kernel/signal.c, ptrace_stop).
		if err := request(unix.PTRACE_INTERRUPT, r.tid, 0, 0); err != nil {
			return ErrExited
		}
		if stands {
			_ = request(unix.PTRACE_CONT, r.tid, 0, uintptr(sig)) // it fails if the thread is killed
		}
		why, err := wait(r.pid, r.tid, deadline)
		switch {
		case err != nil || why.isEvent():
			return err
		case time.Now().After(deadline):
			return slow(r.pid, r.tid, seenThrough)
		case why.signal() != int(syscallStop):
			sig = why.signal()
			continue
		case r.call == entering:
			err = r.skip()
		}
		if sig, r.call = 0, noCall; err != nil {
			return err
		}
	}
}

// skip makes the system call at the beginning of which the thread stands none
// (arch/x86/entry/common.c, do_syscall_x64: there is none of the number -1).
func (r *Remote) skip() error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(r.tid, &regs); err != nil {
		return ErrExited
	}
	regs.Orig_rax = ^uint64(0)
	if err := unix.PtraceSetRegs(r.tid, &regs); err != nil {
		return r.wrap("skip a system call", err)
	}
	return nil
}

// letGo ends the tracing of the thread.
func (r *Remote) letGo() error {
	err := request(unix.PTRACE_DETACH, r.tid, 0, 0)
	if err != nil {
		return r.wrap("let go", err)
	}
	return nil
}
