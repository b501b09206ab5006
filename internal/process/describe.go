package process

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// FileID identifies a file as stat(2) does. Two names of one file, also in
// different mount namespaces, have the same FileID.
type FileID struct {
	Dev, Inode uint64
}

// fileID follows the name path, which may be a magic link of /proc.
func fileID(path string) (FileID, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return FileID{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return FileID{Dev: st.Dev, Inode: st.Ino}, nil
}

// ExePath is the name under which the executable can be opened, here and by
// the kernel: /proc/PID/exe. It works for files that were deleted or replaced
// and for those of other mount namespaces. Whoever opens it must call Check
// afterwards to know that it was this process's.
func (p *Process) ExePath() string { return p.path("exe") }

// Exe is the executable's name for people: where it is or, when deleted is
// true, where it was, seen from the process's root directory.
func (p *Process) Exe() (path string, deleted bool, err error) {
	path, err = os.Readlink(p.ExePath())
	if err := p.verify(err); err != nil {
		return "", false, err
	}
	trimmed, marked := strings.CutSuffix(path, " (deleted)")
	if !marked {
		return path, false, nil
	}
	// A file may really be called that.
	exe, err := p.ExeID()
	if err != nil {
		return "", false, err
	}
	if named, err := fileID(p.path("root" + path)); err == nil && named == exe {
		return path, false, nil
	}
	return trimmed, true, nil
}

// ExeID identifies the executable's file.
func (p *Process) ExeID() (FileID, error) {
	id, err := fileID(p.ExePath())
	if err := p.verify(err); err != nil {
		return FileID{}, err
	}
	return id, nil
}

// UID is the effective user id, seen from this process's user namespace.
func (p *Process) UID() (uint32, error) {
	status, err := p.read("status")
	if err != nil {
		return 0, err
	}
	line, _ := statusField(status, "Uid") // real, effective, saved, file system
	ids := strings.Fields(line)
	if len(ids) != 4 {
		return 0, p.fail(fmt.Errorf("parse status: user ids %q", line))
	}
	uid, err := strconv.ParseUint(ids[1], 10, 32)
	if err != nil {
		return 0, p.fail(fmt.Errorf("parse status: %w", err))
	}
	return uint32(uid), nil
}

// User is the name of the effective user, or its number when it has no name
// here.
func (p *Process) User() (string, error) {
	uid, err := p.UID()
	if err != nil {
		return "", err
	}
	id := strconv.FormatUint(uint64(uid), 10)
	u, err := user.LookupId(id)
	var unknown user.UnknownUserIdError
	switch {
	case errors.As(err, &unknown), errors.Is(err, fs.ErrNotExist):
		return id, nil
	case err != nil:
		return "", p.fail(fmt.Errorf("user %s: %w", id, err))
	}
	return u.Username, nil
}

// Comm is the name the kernel has for the first thread, at most 15 bytes, with
// what a terminal might act on escaped.
func (p *Process) Comm() (string, error) {
	st, err := p.stat()
	return Printable(st.comm), err
}

// Args are the command line's words exactly as the process has them now. They
// are empty when the process has overwritten them or cannot be asked.
func (p *Process) Args() ([]string, error) {
	b, err := p.read("cmdline")
	if err != nil {
		return nil, err
	}
	b = bytes.TrimRight(b, "\x00")
	if len(b) == 0 {
		return nil, nil
	}
	return strings.Split(string(b), "\x00"), nil
}

// Cmdline is the command line for people: the words joined by blanks, with
// what a terminal might act on escaped. For a process without one it is the
// Comm in brackets, as in ps(1).
func (p *Process) Cmdline() (string, error) {
	args, err := p.Args()
	if err != nil {
		return "", err
	}
	if len(args) > 0 {
		return Printable(strings.Join(args, " ")), nil
	}
	comm, err := p.Comm()
	return "[" + comm + "]", err
}

// Printable returns s with everything that is not plainly printed escaped as
// in a Go string: control characters, which can drive a terminal, characters
// that reorder or hide text, and bytes that are not UTF-8.
func Printable(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		}
	}
	return b.String()
}

// CPUTime is the processor time that all threads have used so far, those that
// have ended included, in user and kernel mode, to the nanosecond. Any process
// may be asked. It works until the process is reaped.
func (p *Process) CPUTime() (time.Duration, error) {
	// The number of a process's clock of scheduled time, see
	// clock_getcpuclockid(3) and include/linux/posix-timers_types.h,
	// MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED).
	clock := int32(^p.pid<<3 | 2)
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		return 0, p.verify(fmt.Errorf("processor time: %w", err))
	}
	// A zombie keeps its PID, so only when the process has been reaped can the
	// number have been another's.
	if p.reaped() {
		return 0, p.fail(ErrExited)
	}
	return time.Duration(ts.Nano()), nil
}

// Status is one field of the main thread's status file, as proc_pid_status(5) names it. A
// field that this kernel does not have is "0".
func (p *Process) Status(name string) (string, error) {
	text, err := p.read("status")
	if err != nil {
		return "", err
	}
	if value, ok := statusField(text, name); ok && value != "" {
		return value, nil
	}
	return "0", nil
}

// Threads are the numbers of the process's threads in this process's own PID
// namespace, in ascending order. Threads come and go meanwhile.
func (p *Process) Threads() ([]int, error) {
	entries, err := os.ReadDir(p.path("task"))
	if err := p.verify(err); err != nil {
		return nil, err
	}
	tids := make([]int, 0, len(entries))
	for _, e := range entries {
		if tid, err := strconv.Atoi(e.Name()); err == nil {
			tids = append(tids, tid)
		}
	}
	slices.Sort(tids)
	return tids, nil
}

// signal sends sig through the pidfd; 0 sends nothing.
func (p *Process) signal(sig unix.Signal) error {
	var sent error
	err := p.control(p.pidfd, func(fd int) { sent = unix.PidfdSendSignal(fd, sig, nil, 0) })
	return errors.Join(err, sent)
}

// reaped tells whether the process is gone altogether: ended, and its parent
// knows. Not to be allowed to send it a signal (EPERM) shows that it is there.
func (p *Process) reaped() bool {
	err := p.signal(0)
	return errors.Is(err, unix.ESRCH) || errors.Is(err, os.ErrClosed)
}
