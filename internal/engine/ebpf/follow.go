package ebpf

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// follower keeps track of the processes seen executing a binary, when all of
// them are traced, and notices when one is gone.
type follower struct {
	kernel *ebpf.Map      // `processes` in bpf/trace.h
	pidfds map[uint32]int // by tgid; noPidfd once the process is known to be gone
	next   time.Time      // when to look again
}

// biasUnknown is BIAS_UNKNOWN of bpf/event.h: a process in `processes` of which the
// next hit of a probe will tell the bias.
const biasUnknown = 1

// noPidfd stands for a process that has ended. Its last records may still be in
// the ring, so it is forgotten only after the ring has been read once more.
const noPidfd = -1

// reapInterval bounds how often the processes are looked at; a PID that is used
// anew within it is told apart by sched_process_exec.
const reapInterval = 100 * time.Millisecond

func newFollower(kernel *ebpf.Map) *follower {
	return &follower{kernel: kernel, pidfds: map[uint32]int{}}
}

// saw notes that a process has emitted a record.
func (f *follower) saw(tgid uint32) {
	if _, ok := f.pidfds[tgid]; ok {
		return
	}
	fd, err := unix.PidfdOpen(int(tgid), 0)
	if err != nil {
		fd = noPidfd
	}
	f.pidfds[tgid] = fd
}

// reap calls gone for each process that has ended and whose records have all
// been read. It is called when the ring is empty.
func (f *follower) reap(gone func(tgid uint32) error) error {
	now := time.Now()
	if now.Before(f.next) {
		return nil
	}
	f.next = now.Add(reapInterval)
	for tgid, fd := range f.pidfds {
		if fd != noPidfd {
			if ended(fd) {
				unix.Close(fd)
				f.pidfds[tgid] = noPidfd
			}
			continue
		}
		delete(f.pidfds, tgid)
		if err := f.kernel.Delete(tgid); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget process %d: %w", tgid, err)
		}
		if err := gone(tgid); err != nil {
			return err
		}
	}
	return nil
}

// ended says whether the process of a pidfd has ended: the descriptor becomes
// readable then (pidfd_open(2)).
func ended(fd int) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n > 0
}

// Close releases the processes.
func (f *follower) Close() error {
	var errs []error
	for _, fd := range f.pidfds {
		if fd != noPidfd {
			errs = append(errs, unix.Close(fd))
		}
	}
	return errors.Join(errs...)
}
