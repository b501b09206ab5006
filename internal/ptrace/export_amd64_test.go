package ptrace

import "golang.org/x/sys/unix"

// GiveUp makes a system call up to the way to its beginning or, with late, to its end, and
// gives it up there.
func (r *Remote) GiveUp(late bool, nr uintptr, args ...uint64) error {
	if _, err := r.begin(nr, args); err != nil {
		return err
	}
	r.call = entering
	if late {
		if err := r.toSyscallStop(); err != nil {
			return err
		}
		r.call = leaving
	}
	if err := request(unix.PTRACE_SYSCALL, r.tid, 0, 0); err != nil {
		return err
	}
	return ErrDeadline
}
