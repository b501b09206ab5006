// Package privilege gives up, for good, the capabilities that this process needs no
// more: what reads a hostile program's strings for hours should not also be able to
// read the memory of every other process (capabilities(7)).
package privilege

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Set is a set of capabilities: bit n stands for the capability n of
// include/uapi/linux/capability.h.
type Set uint64

// Of makes a Set of the numbers of capabilities, such as unix.CAP_BPF.
func Of(caps ...int) Set {
	var s Set
	for _, c := range caps {
		s |= 1 << c
	}
	return s
}

// Has says whether all capabilities of other are in s.
func (s Set) Has(other Set) bool { return s&other == other }

// ErrThreads says that the capabilities of all threads cannot be changed: the program
// is linked with C code, whose threads the runtime does not know (syscall.AllThreadsSyscall).
var ErrThreads = errors.New("a program with C code in it cannot change all of its threads")

// Permitted is what this process may make use of.
func Permitted() (Set, error) {
	got, err := get()
	if err != nil {
		return 0, err
	}
	return join(got[0].Permitted, got[1].Permitted), nil
}

// Retain takes every capability that is not in keep from all threads of this process:
// from the effective, the permitted and the inheritable set, and thereby from the
// ambient one (security/commoncap.c, cap_capset). It cannot be undone, but by executing
// a program as root. It gives nothing that the process does not have.
func Retain(keep Set) error {
	got, err := get()
	if err != nil {
		return err
	}
	for i := range got {
		part := uint32(keep >> (32 * i))
		got[i].Effective &= part
		got[i].Permitted &= part
		got[i].Inheritable &= part
	}
	h := header()
	// Capabilities are a thread's own: pid 0 is the thread that makes the call. The
	// results cannot differ between the threads, as all have the same sets.
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&h)), uintptr(unsafe.Pointer(&got)), 0)
	switch errno {
	case 0:
		return nil
	case unix.ENOTSUP:
		return ErrThreads
	}
	return fmt.Errorf("capset: %w", errno)
}

// header asks for the 64 bits of the present version of capset(2), for the thread that
// calls it.
func header() unix.CapUserHeader {
	return unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
}

// get has the sets of the calling thread.
func get() (got [2]unix.CapUserData, err error) {
	h := header()
	if err := unix.Capget(&h, &got[0]); err != nil {
		return got, fmt.Errorf("capget: %w", err)
	}
	return got, nil
}

func join(low, high uint32) Set { return Set(low) | Set(high)<<32 }
