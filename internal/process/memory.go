package process

import (
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxBatch is how many pieces of memory one process_vm_readv takes
// (include/uapi/linux/uio.h, UIO_MAXIOV).
const maxBatch = 1024

// MemRead is one piece of memory to read: the len(Buf) bytes at Addr, which go
// to Buf.
type MemRead struct {
	Addr uint64
	Buf  []byte
}

// Memory is what can be read of a program from outside: of a [Process], or of
// the core file of a dead one. Its methods are those of Process.
type Memory interface {
	// ReadMem reads the len(b) bytes at addr.
	ReadMem(addr uint64, b []byte) error
	// ReadMany reads several pieces, in their order, and returns how many were
	// read whole before the first that was not.
	ReadMany(reads []MemRead) (n int, err error)
}

var _ Memory = (*Process)(nil)

// Readable tells whether this process may look into p: nil or an ErrPermission
// for the memory, and with it the executable and the mappings.
func (p *Process) Readable() error {
	if p.memErr != nil {
		return p.verify(p.memErr)
	}
	return p.Check()
}

// ReadMem reads the len(b) bytes at addr. The process runs on meanwhile, so
// what is read together need not have been there together. Memory that the
// process itself may not read is read as well. The errors are ErrBadAddress
// (b then holds an undefined prefix), ErrPermission, ErrExited and ErrExec.
func (p *Process) ReadMem(addr uint64, b []byte) error {
	if p.memErr != nil {
		return p.verify(p.memErr)
	}
	if len(b) == 0 {
		return nil
	}
	if addr > math.MaxInt64-uint64(len(b)) { // the kernel's half
		return p.badAddress(addr, len(b))
	}
	_, err := p.mem.ReadAt(b, int64(addr))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF): // see hasImage
		return p.fail(p.imageGone())
	case errors.Is(err, unix.EIO):
		return p.badAddress(addr, len(b))
	}
	return p.verify(err)
}

// ReadMany reads several pieces of memory, which is cheaper than one ReadMem
// for each. It returns how many pieces, from the first on, were read whole. If
// these are not all, err is that of the piece that follows, as ReadMem gives
// it; the caller may leave that piece out and go on after it. On ErrExited and
// ErrExec no piece can be trusted, and n is 0.
func (p *Process) ReadMany(reads []MemRead) (n int, err error) {
	if p.memErr != nil {
		return 0, p.verify(p.memErr)
	}
	for n < len(reads) && err == nil {
		var k int
		k, err = p.readBatch(reads[n:min(n+maxBatch, len(reads))])
		n += k
	}
	// process_vm_readv goes by the PID, which could be another image's by now.
	if gone := p.Check(); gone != nil {
		return 0, gone
	}
	return n, err
}

// iovecs are the arguments of one process_vm_readv.
type iovecs struct {
	local  [maxBatch]unix.Iovec
	remote [maxBatch]unix.RemoteIovec
}

// vectors has iovecs that are not in use: to read a million goroutines takes
// thousands of them.
var vectors sync.Pool

// readBatch is ReadMany for at most maxBatch pieces. The kernel stops at the
// first page it cannot read and returns the number of bytes before it; ReadMem
// then finds out about the piece concerned. It reads all when the system call
// is missing or forbidden by a seccomp filter, as in some containers.
func (p *Process) readBatch(reads []MemRead) (int, error) {
	v, _ := vectors.Get().(*iovecs)
	if v == nil {
		v = new(iovecs)
	}
	defer vectors.Put(v)
	local, remote := v.local[:0], v.remote[:0]
	for _, r := range reads {
		if len(r.Buf) == 0 {
			continue
		}
		one := unix.Iovec{Base: unsafe.SliceData(r.Buf)}
		one.SetLen(len(r.Buf))
		local = append(local, one)
		remote = append(remote, unix.RemoteIovec{Base: uintptr(r.Addr), Len: len(r.Buf)})
	}
	got := 0
	if len(local) > 0 {
		got, _ = unix.ProcessVMReadv(p.pid, local, remote, 0)
	}
	clear(local) // the pool is not to keep what they point to
	for i, r := range reads {
		if got >= len(r.Buf) {
			got -= len(r.Buf)
			continue
		}
		got = 0
		if err := p.ReadMem(r.Addr, r.Buf); err != nil {
			return i, err
		}
	}
	return len(reads), nil
}

func (p *Process) badAddress(addr uint64, n int) error {
	return p.fail(fmt.Errorf("%d bytes at %#x: %w", n, addr, ErrBadAddress))
}
