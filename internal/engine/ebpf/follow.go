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
	kernel *ebpf.Map      // `processes` in bpf/gtrace.bpf.c
	pidfds map[uint32]int // -1 when the process was gone before it could be opened
	next   time.Time      // when to look again
}

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
		fd = -1
	}
	f.pidfds[tgid] = fd
}

// reap calls gone for each process that has ended since the last call.
func (f *follower) reap(gone func(tgid uint32) error) error {
	now := time.Now()
	if now.Before(f.next) {
		return nil
	}
	f.next = now.Add(reapInterval)
	for tgid, fd := range f.pidfds {
		if fd >= 0 {
			poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			if n, err := unix.Poll(poll, 0); err != nil || n == 0 {
				continue
			}
			unix.Close(fd)
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

// Close releases the processes.
func (f *follower) Close() error {
	var errs []error
	for _, fd := range f.pidfds {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	return errors.Join(errs...)
}
