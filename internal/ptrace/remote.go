package ptrace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Gadgets are the addresses, in the process, of instructions of its own that a system
// call from outside needs.
type Gadgets struct {
	SyscallRet uint64 // SYSCALL; RET
	Sigreturn  uint64 // rt_sigreturn(2): MOV $15, AX; SYSCALL
}

// Remote makes system calls in a process; see Inject. It is valid only during the
// function that Inject calls.
type Remote struct {
	pid, tid int
	gadgets  Gadgets
	deadline time.Time
	limit    time.Duration
	*Mem                     // the process's memory
	saved    unix.PtraceRegs // of the thread as it was
	mask     uint64          // the signals that it blocked
	frame    uint64          // address of the signal frame that puts it back
	before   []byte          // what was there
	armed    bool            // its registers are ours
	call     call            // the system call that it makes for us
}

// call is how far a system call is that is made by [Remote.Syscall].
type call int

const (
	noCall   call = iota // the thread stands still
	entering             // it is on its way to the stop at the beginning of the call
	leaving              // it is on its way from there to the stop at the end
)

// Extend gives what is to be done after the limit of Inject, as to take back what was done, as
// much time again.
func (r *Remote) Extend() { r.deadline = time.Now().Add(r.limit) }

// Scratch is the address of ScratchBytes that may be written to during Inject.
func (r *Remote) Scratch() uint64 { return r.frame + frameRoom }

// The room at the unused end of the stack: first the signal frame with the largest FPU
// state there is (AMX, 11 KiB), then what the caller of Inject may use.
const (
	frameRoom    = 16 << 10
	ScratchBytes = 4 << 10
	scratchRoom  = 32 << 10 // with clearance
)

// stackOf is the mapping of the main thread's stack.
func stackOf(pid int) (Range, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return Range{}, ErrExited
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasSuffix(line, "[stack]\n") {
			continue
		}
		lo, rest, _ := strings.Cut(line, "-")
		hi, _, _ := strings.Cut(rest, " ")
		r := Range{}
		if r.Lo, err = strconv.ParseUint(lo, 16, 64); err == nil {
			r.Hi, err = strconv.ParseUint(hi, 16, 64)
		}
		return r, err
	}
	return Range{}, fmt.Errorf("%w: it has no mapping [stack]", ErrScratch)
}

// Mem is the memory of a process, open for reading and writing: also what the process
// itself may not write, as a tracer may (mm/gup.c, FOLL_FORCE). A page of a file that
// is written to becomes the process's own copy. On kernels that allow this only to a
// tracer (proc_mem.force_override=ptrace), a thread of the process must be traced by
// the calling thread.
type Mem struct {
	file *os.File
	pid  int
}

// OpenMem opens the memory of a process. The caller must Close it.
func OpenMem(pid int) (*Mem, error) {
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ESRCH):
		return nil, ErrExited
	case err != nil:
		return nil, fmt.Errorf("memory of process %d: %w", pid, ErrPermission)
	}
	return &Mem{f, pid}, nil
}

// Close releases it.
func (m *Mem) Close() error { return m.file.Close() }

// Read reads len(b) bytes at addr.
func (m *Mem) Read(addr uint64, b []byte) error {
	if _, err := m.file.ReadAt(b, int64(addr)); err != nil {
		if exiting(m.pid, m.pid) {
			return ErrExited
		}
		return fmt.Errorf("read %d bytes at %#x of process %d: %w", len(b), addr, m.pid, err)
	}
	return nil
}

// Write writes b at addr.
func (m *Mem) Write(addr uint64, b []byte) error {
	if _, err := m.file.WriteAt(b, int64(addr)); err != nil {
		if exiting(m.pid, m.pid) {
			return ErrExited
		}
		return fmt.Errorf("write %d bytes at %#x of process %d: %w", len(b), addr, m.pid, err)
	}
	return nil
}
