package cli

import (
	"errors"

	"golang.org/x/sys/unix"

	"gopherscope/internal/privilege"
)

// restrict gives up the capabilities that the rest of a trace does not need, once the
// engine is attached and the goroutines have been read. What is left is in
// docs/security.md. A view that may attach again later keeps all.
func (s *session) restrict() {
	if s.opts.attachesAgain {
		return
	}
	have, err := privilege.Permitted()
	if err == nil {
		err = privilege.Retain(s.needed(have))
	}
	if err != nil && !errors.Is(err, privilege.ErrThreads) { // a build with C code keeps all
		s.term.notef("note: capabilities that are not needed any more could not be given up: %v", err)
	}
}

// needed is what a trace that runs needs of the capabilities that this process has.
func (s *session) needed(have privilege.Set) privilege.Set {
	// A user's files stay within reach of root: a recording that is rotated makes and
	// renames some, and a directory can be another user's.
	keep := privilege.Of(unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER)
	if s.launched != nil {
		// To end it, whoever it runs as by then, and to read GOMAXPROCS when it is set.
		keep |= privilege.Of(unix.CAP_KILL, unix.CAP_SYS_PTRACE)
	}
	if s.opts.name == engineInline {
		// To stop the process once more and put its code back; CAP_SYS_ADMIN if it has
		// a seccomp filter by then (kernel/ptrace.c, check_ptrace_options).
		return keep | privilege.Of(unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH, unix.CAP_SYS_ADMIN)
	}
	// A pause of the budget attaches anew at its end, and until Linux 6.0 whatever is
	// asked of a map needs the first of these (kernel/bpf/syscall.c, __sys_bpf).
	tracing := privilege.Of(unix.CAP_BPF, unix.CAP_PERFMON)
	if !have.Has(tracing) {
		tracing = privilege.Of(unix.CAP_SYS_ADMIN) // which stands for both
	}
	return keep | tracing
}
