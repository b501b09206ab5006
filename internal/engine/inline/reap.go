package inline

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// ahead is how far before the writer the pages of a ring are made at least, in
	// records: 128 KiB.
	ahead  = 4 << 10
	inPage = pageSize / recordBytes
	// quiet is how long a ring without an owner must rest before it is given to another.
	quiet = 50 * time.Millisecond
)

// touchAhead makes the pages of the rings in use that will be written next. A page of a
// memfd is charged to the memory cgroup of whoever touches it first (mm/shmem.c,
// shmem_get_folio_gfp): so it is ours and not the target's. fallocate(2) does not change
// what is there already. Which pages cannot be made, the target makes itself. Those that
// are there the kernel maps 64 KiB at a time when the target comes to them.
func (r *rings) touchAhead(fd int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.list {
		one := &r.list[i]
		if !one.used || one.touched >= r.slots {
			continue
		}
		// Several times as far as it came since the last time.
		head := one.tail + r.filled(one)
		want := head - atomic.LoadUint64(one.word(baseOffset)) + max(ahead, 4*(head-one.seen))
		one.seen = head
		if want < one.touched+ahead/2 {
			continue
		}
		want = min((want+inPage-1)/inPage*inPage, r.slots)
		off := int64(recordsOffset(len(r.list))+i*r.ringBytes) + int64(one.touched*recordBytes)
		_ = unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, off, int64((want-one.touched)*recordBytes))
		// And the way to them, here: at once, instead of by a fault for each.
		_ = unix.Madvise(one.data[one.touched*recordBytes:want*recordBytes], unix.MADV_POPULATE_READ)
		one.touched = want
	}
}

// reap frees the rings of Ms that are gone, and gives their pages back: an M whose thread
// has ended is, unless it is one that C threads borrow. A ring is first retired, so that
// its M would take another one if it were not gone after all; when nothing has been written
// to it for a while it is free. now is in ns.
func (r *rings) reap(now int64, alive func(tid uint32) bool, fd int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.list {
		one := &r.list[i]
		owner := atomic.LoadUint64(one.word(ownerOffset))
		unread := atomic.LoadUint64(one.word(headOffset)) != one.tail || len(one.waiting) > 0 || one.batch != nil && one.next < one.batch.n
		if !one.used || owner == 0 || unread || one.extra || one.tid == 0 || alive(one.tid) {
			one.gone = 0
			continue
		}
		switch {
		case one.gone == 0 || one.goneAt != one.tail:
			one.gone, one.goneAt = now, one.tail
			atomic.CompareAndSwapUint64(one.word(ownerOffset), owner, owner|retired)
		case now-one.gone >= int64(quiet):
			one.gone, one.touched, one.used, one.tid = 0, 0, false, 0
			off := int64(recordsOffset(len(r.list)) + i*r.ringBytes)
			_ = unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, int64(r.ringBytes))
			if atomic.LoadUint64(one.word(headOffset)) != one.tail {
				r.corrupt++ // it was not gone, and its record is
			}
			atomic.CompareAndSwapUint64(one.word(ownerOffset), owner|retired, 0)
		}
	}
}

// inUse is how many rings have an owner.
func (r *rings) inUse() int {
	n := 0
	for i := range r.list {
		if atomic.LoadUint64(r.list[i].word(ownerOffset)) != 0 {
			n++
		}
	}
	return n
}
