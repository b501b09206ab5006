package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"gopherscope/internal/engine/ebpf"
	"gopherscope/internal/engine/inline"
	"gopherscope/internal/gobinary"
	"gopherscope/internal/process"
	"gopherscope/internal/report"
	"gopherscope/internal/target"
)

// Every message to the user is made here. The rules:
//
//   - Data goes to standard output, everything else to standard error.
//   - A message is one line, "gopherscope: …", in lower case and with no full
//     stop; an error is "gopherscope: error: …", followed by a line
//     "gopherscope: hint: …" where there is something that the user can do.
//   - Nothing that comes from a traced program is printed raw.

// terminal is where a run talks to its user.
type terminal struct {
	Stdio
	line progressLine
}

// notef prints a message.
func (t *terminal) notef(format string, args ...any) {
	t.clearProgress()
	fmt.Fprintf(t.Err, "gopherscope: %s\n", message(fmt.Sprintf(format, args...)))
}

// fail prints an error and what can be done about it.
func (t *terminal) fail(err error) {
	t.clearProgress()
	fmt.Fprintf(t.Err, "gopherscope: error: %s\n", message(report.ErrorText(err)))
	if h := hint(err); h != "" {
		fmt.Fprintf(t.Err, "gopherscope: hint: %s\n", message(h))
	}
}

// message is a text as it is printed: one line, with everything escaped that a terminal
// might act on, as an error has names and paths of the traced program in it.
func message(s string) string { return process.Printable(oneLine(s)) }

// oneLine joins the lines of joined errors.
func oneLine(s string) string { return strings.ReplaceAll(s, "\n", "; ") }

// errReported is an error that has been told to the user already.
var errReported = errors.New("reported")

// usageError is a command line that cannot be understood.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func isUsage(err error) bool {
	var u usageError
	return errors.As(err, &u)
}

// hintError adds a hint to an error where the general rules of hint have none.
type hintError struct {
	error
	hint string
}

func (h hintError) Unwrap() error { return h.error }

func withHint(err error, format string, args ...any) error {
	return hintError{err, fmt.Sprintf(format, args...)}
}

// hint is what a person can do about an error; "" when there is nothing.
func hint(err error) string {
	var h hintError
	switch {
	case errors.As(err, &h):
		return h.hint
	case isUsage(err):
		return "see gopherscope help"
	case errors.Is(err, inline.ErrLeft):
		return "it does no harm; gopherscope detach PID removes it when nobody else traces the process"
	case errors.Is(err, process.ErrNoProcess), errors.Is(err, process.ErrKernelThread):
		return "gopherscope ps lists the Go processes on this host"
	case errors.Is(err, process.ErrExited):
		return "the process ended; to trace a program from its start, use: gopherscope trace -- COMMAND"
	case errors.Is(err, target.ErrUnsupportedGo), errors.Is(err, gobinary.ErrUnsupportedGo):
		return "programs built by Go 1.18 and later can be traced"
	case errors.Is(err, gobinary.ErrNoPclntab):
		return "the binary is packed or obfuscated; trace one that is not"
	case errors.Is(err, gobinary.ErrNotGo), errors.Is(err, gobinary.ErrNotELF):
		return "only programs written in Go have goroutines; gopherscope ps lists those on this host"
	case errors.Is(err, target.ErrLayout):
		return "nothing was touched; gopherscope doctor PID shows what was found"
	case errors.Is(err, ebpf.ErrOldKernel):
		return "use --engine inline, which needs no BPF; dump and leaks need none, either"
	case errors.Is(err, unix.ENOMEM):
		return "there is no memory for the ring, or a cgroup's limit is reached; choose a smaller --ring-size"
	case errors.Is(err, process.ErrPermission), errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, fs.ErrPermission):
		return permissionHint(os.Geteuid() == 0, runtime.GOARCH)
	}
	return ""
}

// permissionHint is what to do where tracing is not permitted.
func permissionHint(root bool, arch string) string {
	if root {
		return "root is not allowed this here: a container or a security policy takes CAP_BPF, CAP_PERFMON or CAP_SYS_PTRACE away; gopherscope doctor says which"
	}
	const capable = "run as root, or grant the binary CAP_BPF, CAP_PERFMON and, for processes of other users, CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH (setcap)"
	if arch == "amd64" {
		return capable + ", or trace a process of your own with --engine inline; gopherscope doctor PID says what is missing"
	}
	return capable + "; gopherscope doctor PID says what is missing"
}
