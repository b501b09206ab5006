// Package perf takes the registers and the stack of threads that are running,
// without stopping them, by the kernel's perf events.
//
// Each thread gets a clock event: after some of the thread's own CPU time the
// kernel's timer interrupts it and writes one record, the user's registers and a
// copy of the stack from the stack pointer up. The thread is on that CPU in the
// interrupt and executes nothing meanwhile, so registers and stack are of one
// moment; only another thread that writes to this one's stack could still be at
// it (kernel/events/core.c: perf_swevent_hrtimer, perf_sample_regs_user,
// perf_output_sample_ustack; Linux 3.7 on). The event excludes the kernel, so the
// interrupted instruction is always one of the program: a tick that meets the
// thread in a system call writes nothing.
//
// The kernel does not page anything in from the interrupt: a copy ends at the
// first page that is not there, and the record says how long it is.
//
// An ordinary user may do this to processes of their own where
// kernel.perf_event_paranoid is 2 or less, the kernel's default;
// CAP_PERFMON (Linux 5.8) or CAP_SYS_ADMIN, and CAP_SYS_PTRACE for the processes
// of others, may always (kernel/events/core.c, perf_event_open).
//
// # Why the event is not told to stop after one record
//
// PERF_EVENT_IOC_REFRESH would do it, but for a clock event it hangs the whole
// machine on Linux 6.16 and 6.17: the timer's handler waits for itself
// (kernel/events/core.c, __perf_event_overflow, cpu_clock_event_stop; mended by
// "perf: Fix system hang caused by cpu-clock" in 6.18 and its backports). Here the
// ring has room for one record of full size; the kernel drops what follows before
// it copies anything, until the event is disabled on the first record's wake-up.
package perf

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gopherscope/internal/snapshot"
)

// MaxStack is the most bytes of a stack that the kernel copies: the number has 16
// bits, not all of them set, and is a multiple of 8 (kernel/events/core.c,
// perf_copy_attr). The whole record has a length of 16 bits too, so the kernel
// copies some 100 bytes less (perf_sample_ustack_size).
const MaxStack = 1<<16 - 8

// The errors of Sample. They wrap the kernel's own.
var (
	// ErrPermission is a process or a system that does not let us.
	ErrPermission = errors.New("perf events are not permitted")
	// ErrUnsupported is a kernel, or a container, that has no perf events.
	ErrUnsupported = errors.New("no perf events here")
)

// Options are the choices that a Sampler has. A field that is zero, or out of
// its range, stands for its default.
type Options struct {
	// Deadline is for how long Sample waits for each batch of threads to run; the
	// default is 20 ms. It is over sooner when all have a sample.
	Deadline time.Duration
	// Period is the CPU time of its own after which a thread is sampled, 50 µs or
	// more; the default is 300 µs. The thread is interrupted once more in each
	// period until this process has got to run and taken the sample. On a virtual
	// machine an interrupt took some 40 µs, most of it to set the timer again.
	Period time.Duration
	// Stack is how many bytes of each stack to copy; the default is MaxStack.
	Stack int
	// Batch is how many threads are sampled together; the default is 512. Each
	// needs a file descriptor, and locked memory of the size of its stack.
	Batch int
}

// The defaults.
const (
	defaultDeadline = 20 * time.Millisecond
	defaultPeriod   = 300 * time.Microsecond
	defaultBatch    = 512
	minPeriod       = 50 * time.Microsecond // the kernel's is 10 µs, which leaves some machines time for nothing else
)

// A Sampler samples threads. It holds nothing between two calls, and is safe for
// concurrent use.
type Sampler struct{ opts Options }

var _ snapshot.Sampler = (*Sampler)(nil)

// NewSampler returns a Sampler; nil stands for the defaults.
func NewSampler(opts *Options) *Sampler {
	s := &Sampler{}
	if opts != nil {
		s.opts = *opts
	}
	o := &s.opts
	if o.Deadline <= 0 {
		o.Deadline = defaultDeadline
	}
	if o.Period < minPeriod {
		o.Period = defaultPeriod
	}
	if o.Stack <= 0 || o.Stack > MaxStack {
		o.Stack = MaxStack
	}
	o.Stack = (o.Stack + 7) &^ 7
	if o.Batch <= 0 {
		o.Batch = defaultBatch
	}
	return s
}

// Sample returns at most one sample for each of the threads tids, which are
// numbers of our own PID namespace. A thread that ended, or did not execute its
// program's code within Options.Deadline, has none. The samples are the caller's
// and are in no order. The error, with which there may be samples of some threads,
// is an ErrPermission, an ErrUnsupported, or whatever else the kernel says.
func (s *Sampler) Sample(tids []int) ([]snapshot.Sample, error) {
	var out []snapshot.Sample
	for len(tids) > 0 {
		b, n, err := s.open(tids)
		if err == nil {
			err = b.enable()
		}
		if err == nil {
			err = b.wait(s.opts.Deadline)
		}
		b.close()
		if err != nil {
			return out, err
		}
		out = append(out, b.samples...)
		tids = tids[n:]
	}
	return out, nil
}

// explain makes an error of perf_event_open one that says what to do.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: %s: %w", ErrPermission, denied(), err)
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENODEV), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return err
}

// denied says why, as far as that can be told from outside.
func denied() string {
	const path = "/proc/sys/kernel/perf_event_paranoid"
	text, err := os.ReadFile(path)
	if err != nil { // the file is there whenever perf is: perf_event_open(2)
		return "there is no " + path + ": the kernel has no perf events"
	}
	return advice(strings.TrimSpace(string(text)))
}

// advice is what to do at a value of kernel.perf_event_paranoid. Those above 2
// are of some distributions.
func advice(level string) string {
	switch level {
	case "-1", "0", "1", "2":
		return "kernel.perf_event_paranoid is " + level + ", which lets everybody sample processes of their own, " +
			"but this is another user's, or a seccomp filter forbids it; run as root, or with CAP_PERFMON and CAP_SYS_PTRACE"
	}
	return "kernel.perf_event_paranoid is " + level + "; set it to 2, or run as root or with CAP_PERFMON"
}
