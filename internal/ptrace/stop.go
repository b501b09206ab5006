package ptrace

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Stopped is a process all of whose threads are stopped.
type Stopped struct {
	Threads []*Thread
	kept    bool // the threads stay traced: see StoppedTraced
}

// Thread is a stopped thread.
type Thread struct {
	TID  int
	Regs unix.PtraceRegs // as they were when it stopped
	Mask uint64          // the signals it blocks; bit n-1 is signal n

	signal int // in delivery; the thread gets it when it goes on
}

// StopAll stops every thread of a process. It must be called in [Run], and every
// path out of that Run lets the threads go. The limit is for the whole; when it is over
// the error is ErrDeadline with the thread's name and state: one that sleeps in the kernel
// uninterruptibly, as in vfork(2) or on a dead file server, does not stop.
//
// A thread can only be made by a thread that runs. So when all that are listed are
// stopped and a new list shows no other, the process is.
//
// A thread that is stopped when a signal is about to be delivered is as good as
// another: it gets the signal when it goes on. Threads of a process that
// SIGSTOP has stopped stay so.
func StopAll(pid int, limit time.Duration) (*Stopped, error) {
	s := &Stopped{}
	if err := s.stopAll(pid, limit); err != nil {
		s.Release() // with the signals that stopped them
		return nil, err
	}
	return s, nil
}

// calmPasses is how many lists in a row must show no new thread: the kernel may leave
// some out of a list while others end (fs/proc/base.c, proc_task_readdir).
const calmPasses = 2

func (s *Stopped) stopAll(pid int, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	seen := map[int]bool{}
	for calm := 0; calm < calmPasses; {
		ids, err := threads(pid)
		if err != nil {
			return err
		}
		var fresh []int
		for _, tid := range ids {
			if seen[tid] {
				continue
			}
			seen[tid] = true
			err := seize(pid, tid, optSysGood)
			if errors.Is(err, ErrExited) {
				continue
			}
			if err != nil {
				return errors.Join(err, s.stop(pid, fresh, limit, deadline))
			}
			fresh = append(fresh, tid)
		}
		if calm++; len(fresh) > 0 {
			calm = 0
		}
		if err := s.stop(pid, fresh, limit, deadline); err != nil {
			return err
		}
		// A list can be too short even so, while threads begin and end: what counts is that
		// the kernel knows of no thread that is not stopped here.
		if calm == calmPasses && s.missing(pid) {
			if calm = 0; time.Now().After(deadline) {
				return fmt.Errorf("%w: threads begin and end all the time", ErrDeadline)
			}
		}
	}
	if len(s.Threads) == 0 {
		return ErrExited
	}
	return nil
}

// missing says whether the process has threads beyond those that are stopped. A main
// thread that has ended is counted as long as there are others.
func (s *Stopped) missing(pid int) bool {
	known := len(s.Threads)
	if exiting(pid, pid) {
		known++
	}
	text, _ := statusField(pid, pid, "Threads")
	count, err := strconv.Atoi(text)
	return err == nil && count > known
}

// stop interrupts threads that are traced, all before it waits for the first.
func (s *Stopped) stop(pid int, tids []int, limit time.Duration, deadline time.Time) error {
	for _, tid := range tids {
		if err := request(unix.PTRACE_INTERRUPT, tid, 0, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("interrupt thread %d: %w", tid, err)
		}
	}
	var late error
	for _, tid := range tids {
		why, err := wait(pid, tid, deadline)
		switch {
		case errors.Is(err, ErrExited):
			if tid != pid { // it is ours to bury, and counts as a thread until then
				_, _ = unix.Wait4(tid, nil, unix.WALL|unix.WNOHANG, nil)
			}
			continue
		case errors.Is(err, ErrDeadline):
			late = errors.Join(late, slow(pid, tid, limit))
			continue // the others are stopped, and to be let go
		}
		t := &Thread{TID: tid}
		if !why.isEvent() {
			t.signal = why.signal()
		}
		if err := t.read(); err != nil {
			continue // killed
		}
		s.Threads = append(s.Threads, t)
	}
	return late
}

// StoppedTraced is StopAll for a process of one thread that this thread traces and
// that is stopped, as after an execve: Release leaves it as it is.
func StoppedTraced(tid int) (*Stopped, error) {
	t := &Thread{TID: tid}
	if err := t.read(); err != nil {
		return nil, fmt.Errorf("thread %d: %w", tid, ErrExited)
	}
	return &Stopped{Threads: []*Thread{t}, kept: true}, nil
}

func (t *Thread) read() error {
	if err := unix.PtraceGetRegs(t.TID, &t.Regs); err != nil {
		return err
	}
	var err error
	t.Mask, err = getSigmask(t.TID)
	return err
}

// Write gives the thread the registers in Regs, all at once. A thread that is in a
// system call must keep its own.
func (t *Thread) Write() error {
	if err := unix.PtraceSetRegs(t.TID, &t.Regs); err != nil {
		return fmt.Errorf("set registers of thread %d: %w", t.TID, err)
	}
	return nil
}

// Release lets all threads go on.
func (s *Stopped) Release() {
	if s.kept {
		return
	}
	for _, t := range s.Threads {
		// An error says that it was killed meanwhile.
		_ = request(unix.PTRACE_DETACH, t.TID, 0, uintptr(t.signal))
	}
	s.Threads = nil
}
