package perf

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"gopherscope/internal/snapshot"
)

// event is the perf event of one thread, with its ring.
type event struct {
	tid int
	fd  int
	mem []byte // a page of struct perf_event_mmap_page, then the ring
}

// batch is the threads that are sampled together.
type batch struct {
	events  []event
	polls   []unix.PollFd // of events, in their order; a negative Fd is one that is done
	left    int           // how many are not done
	samples []snapshot.Sample
}

// open opens an event for each of the first n of the threads; threads that have
// ended count, and have none. n is at least 1. It is less than could be when
// file descriptors or locked memory run out. The batch is to be closed in any
// case.
func (s *Sampler) open(tids []int) (b *batch, n int, err error) {
	b = &batch{}
	for _, tid := range tids[:min(len(tids), s.opts.Batch)] {
		e, err := s.openEvent(tid)
		switch {
		case err == nil:
			b.events = append(b.events, e)
		case errors.Is(err, unix.ESRCH):
		case len(b.events) > 0 && isShortage(err):
			return b, n, nil
		default:
			return b, n, fmt.Errorf("sample thread %d: %w", tid, err)
		}
		n++
	}
	return b, n, nil
}

// isShortage tells whether err may be over when other events are closed.
func isShortage(err error) bool {
	return errors.Is(err, errRing) || errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

// errRing is memory for a ring that the kernel refuses.
var errRing = errors.New("map a perf ring")

// openEvent opens the event of one thread, which does not count yet.
func (s *Sampler) openEvent(tid int) (event, error) {
	if tid <= 0 { // to the kernel these are ourselves, and everybody
		return event{}, unix.EINVAL
	}
	attr := unix.PerfEventAttr{
		Type:              unix.PERF_TYPE_SOFTWARE,
		Config:            unix.PERF_COUNT_SW_CPU_CLOCK,
		Size:              uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Sample:            uint64(s.opts.Period),
		Sample_type:       sampleType,
		Sample_regs_user:  userRegs,
		Sample_stack_user: uint32(s.opts.Stack),
		Wakeup:            1, // record
		Bits:              unix.PerfBitDisabled | unix.PerfBitExcludeKernel | unix.PerfBitExcludeHv,
	}
	fd, err := unix.PerfEventOpen(&attr, tid, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return event{}, explain(err)
	}
	page := os.Getpagesize()
	mem, err := unix.Mmap(fd, 0, page+ringSize(s.opts.Stack, page), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.EPERM) { // kernel/events/core.c, perf_mmap
			return event{}, fmt.Errorf("%w: %w: kernel.perf_event_mlock_kb and the limit of locked memory (ulimit -l) are used up", ErrPermission, errRing)
		}
		return event{}, fmt.Errorf("%w: %w", errRing, err)
	}
	return event{tid: tid, fd: fd, mem: mem}, nil
}

// ringSize is the size of a ring for one record with that much stack: a power of
// two of pages, of which the kernel leaves one byte unused
// (kernel/events/ring_buffer.c, ring_buffer_has_space).
func ringSize(stack, page int) int {
	size := min(fixedSize+stack, maxRecord) + 1
	return max(page, 1<<bits.Len(uint(size-1)))
}

// enable starts the clocks, all at about the same time.
func (b *batch) enable() error {
	for i := range b.events {
		e := &b.events[i]
		if err := unix.IoctlSetInt(e.fd, unix.PERF_EVENT_IOC_ENABLE, 0); err != nil {
			return fmt.Errorf("sample thread %d: enable its event: %w", e.tid, err)
		}
		b.polls = append(b.polls, unix.PollFd{Fd: int32(e.fd), Events: unix.POLLIN})
	}
	b.left = len(b.events)
	return nil
}

// wait collects the samples as they come, until all threads have one or have
// ended, or the time is over.
func (b *batch) wait(d time.Duration) error {
	end := time.Now().Add(d)
	for b.left > 0 {
		rest := max(time.Until(end), 0)
		timeout := unix.NsecToTimespec(rest.Nanoseconds())
		n, err := unix.Ppoll(b.polls, &timeout, nil)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for samples: %w", err)
		}
		for i := range b.polls {
			if n > 0 && b.polls[i].Revents != 0 {
				if err := b.finish(i); err != nil {
					return err
				}
			}
		}
		if rest == 0 {
			return nil
		}
	}
	return nil
}

// finish takes the sample of a thread whose event has told that there is one
// (POLLIN), or that the thread has ended (POLLHUP; kernel/events/core.c,
// perf_poll). A wake-up without a sample is passed over while the thread lives.
func (b *batch) finish(i int) error {
	e := &b.events[i]
	ended := b.polls[i].Revents&^unix.POLLIN != 0
	b.polls[i].Revents = 0
	s, ok, err := e.sample()
	if err != nil {
		return fmt.Errorf("sample thread %d: %w", e.tid, err)
	}
	if !ok && !ended {
		return nil
	}
	if ok {
		b.samples = append(b.samples, s)
	}
	b.polls[i].Fd = -1 // poll(2) leaves it out
	b.left--
	return e.disable()
}

// disable ends the interrupts of the thread; to close the event does it too, but
// only when the whole batch is done.
func (e *event) disable() error {
	if err := unix.IoctlSetInt(e.fd, unix.PERF_EVENT_IOC_DISABLE, 0); err != nil {
		return fmt.Errorf("sample thread %d: disable its event: %w", e.tid, err)
	}
	return nil
}

// sample reads the ring up to the first sample. Other records, such as the count
// of those that were lost, and samples without registers are passed over, and
// make room for others.
func (e *event) sample() (s snapshot.Sample, ok bool, err error) {
	page := os.Getpagesize()
	control := (*unix.PerfEventMmapPage)(unsafe.Pointer(unsafe.SliceData(e.mem)))
	head := atomic.LoadUint64(&control.Data_head)
	tail := control.Data_tail // ours
	for tail != head && !ok {
		var r record
		if r, tail, err = nextRecord(e.mem[page:], tail, head); err != nil {
			return snapshot.Sample{}, false, err
		}
		if r.kind == unix.PERF_RECORD_SAMPLE {
			s, ok = decodeSample(r.body)
			ok = ok && s.TID == e.tid
		}
	}
	if ok {
		s.Stack = append([]byte(nil), s.Stack...) // the ring goes away
	}
	atomic.StoreUint64(&control.Data_tail, tail)
	return s, ok, nil
}

// close gives everything back to the kernel.
func (b *batch) close() {
	for _, e := range b.events {
		_ = unix.Munmap(e.mem) // fails only for memory that is not mapped
		unix.Close(e.fd)
	}
	b.events = nil
}
