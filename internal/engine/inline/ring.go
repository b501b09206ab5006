package inline

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"unsafe"

	"gopherscope/internal/goruntime"
)

// The rings: memory that the target writes and this process reads. asm/probe_amd64.S has
// the same numbers.
//
//	page 0         magic and the code's address; at noRingOffset, the events lost because
//	               the M that made them had no ring
//	page 1 on      a header for each ring
//	page aligned   the records of each ring
//
// A ring belongs to one M, which is the only one that writes to it; the M takes
// it by a compare-and-swap on owner. Everything in this memory can be changed by
// the target at any time, to anything. So a word is loaded once, and nothing that is
// loaded is used as an index or a bound before it has been masked or compared.
const (
	headerBytes = 128
	recordBytes = 32

	noRingOffset = pageSize - 64

	ownerOffset = 0  // m.id+1; 0: free; with retired set: the M is to take another
	headOffset  = 8  // records written since the beginning; the target's
	lostOffset  = 16 // events lost as the ring was full; the target's
	dataOffset  = 24 // the target's address of the records
	baseOffset  = 32 // head when the record at the front of the ring was written; the target's
	tailOffset  = 64 // records read; ours

	retired = 1 << 62

	minRings = 64
	maxRings = 4096
)

// record is one hit as it was in its ring; see asm/probe_amd64.S.
type record struct {
	tsc  uint64 // when; in a ring it never falls
	raw  *raw
	rest []raw // the records that belong to it; valid until the next record
	ring *ring // where it was
}

// what is the change that a record tells of.
func (w *raw) what() (site, from, to uint8) {
	return uint8(w[3] >> 32), uint8(w[3]>>40) & 15, uint8(w[3]>>44) & 15
}

// plain says whether no other records belong to this one: by its site, unless it is of a dead
// g, as that can be a birth.
func (w *raw) plain(single *[256]bool) bool {
	return single[uint8(w[3]>>32)] && uint8(w[3]>>40)&15 != uint8(goruntime.Dead)
}

func (w *raw) goid() uint64  { return w[1] >> 8 }
func (w *raw) reason() uint8 { return uint8(w[1]) }
func (w *raw) other() uint64 { return w[2] }
func (w *raw) tid() uint32   { return uint32(w[3]) } // in the target's PID namespace; 0: not known yet
func (w *raw) p() int32      { return int32(int16(w[3] >> 48)) }

// ring is one ring as the reader knows it.
type ring struct {
	header []byte // in the shared memory
	data   []byte // likewise

	// Under the lock of rings:
	owner   int64 // the M; meaningful when used
	used    bool
	tail    uint64 // records taken; the word in the header is only a copy
	waiting queue  // records taken because the ring filled up
	lost    uint64 // from this ring, as far as it was believed
	touched uint64 // records whose pages are there already
	seen    uint64 // head when that was last looked at
	looked  uint64 // head when room last looked
	gone    int64  // when it was found without an owner, ns; 0 if it was not
	goneAt  uint64 // head then

	// Of the goroutine that drains:
	batch *chunk // records to pass on next; nil if there are none
	next  int    // the first of these that has not been passed on
	m     int64  // whose they are
	key   uint64 // stamp of the first one, or a later one: never falls
	early bool   // the first one was beyond the horizon of the drain before
	tid   uint32 // of the last record, in the target's PID namespace; 0: not known
	extra bool   // its M serves one C thread after the other: it outlives its thread
}

// rings are all rings of a target. One goroutine drains them and asks for their counts;
// another may call take at any time.
type rings struct {
	mu sync.Mutex // see ring; also for the fields from full on

	mem       []byte
	list      []ring
	slots     uint64 // records in a ring, a power of two
	ringBytes int
	follow    func(*raw) int // how many records belong to one, up to maxFollow
	single    [256]bool      // by site: for which follow need not be asked, see plain

	heap    []*ring
	rec     record
	first   raw            // of rec, when a batch ends behind it
	more    [maxFollow]raw // of rec
	budget  uint64         // records that this drain may still pass on
	horizon uint64         // stamps beyond are nonsense
	floor   uint64         // stamps below are not for this drain
	events  uint64         // records passed on, births once
	invalid uint64         // records that make no sense

	refills uint64 // by the one who drains
	eyed    uint64 // refills when works last looked
	queued  int    // records that wait
	corrupt uint64 // heads that make no sense
	noRing  uint64
	free    pool
}

// ringsSize is how long the shared memory is.
func ringsSize(count, ringBytes int) int { return recordsOffset(count) + count*ringBytes }

// recordsOffset is where the records of the first ring begin.
func recordsOffset(count int) int {
	return pageSize + (count*headerBytes+pageSize-1)&^(pageSize-1)
}

// newRings takes memory of ringsSize bytes, all zero. at is the target's address of
// it. follow says how many records belong to one, after it.
func newRings(mem []byte, at uint64, count, ringBytes int, follow func(*raw) int) (*rings, error) {
	powers := count&(count-1) == 0 && ringBytes&(ringBytes-1) == 0
	if !powers || count < minRings || count > maxRings || ringBytes < pageSize || len(mem) != ringsSize(count, ringBytes) {
		return nil, fmt.Errorf("internal error: %d rings of %d bytes in %d", count, ringBytes, len(mem))
	}
	r := &rings{mem: mem, list: make([]ring, count), slots: uint64(ringBytes / recordBytes), ringBytes: ringBytes, follow: follow}
	for i := range r.list {
		header := mem[pageSize+i*headerBytes:][:headerBytes]
		off := recordsOffset(count) + i*ringBytes
		binary.LittleEndian.PutUint64(header[dataOffset:], at+uint64(off))
		r.list[i] = ring{header: header, data: mem[off:][:ringBytes]}
	}
	return r, nil
}

// word is a word of a header, for atomic use.
func (r *ring) word(off int) *uint64 { return (*uint64)(unsafe.Pointer(&r.header[off])) }

// maxQueued bounds the records that wait in this process, to 128 MiB. When it is
// reached the rings stay full, and what does not fit is counted as lost.
const maxQueued = 4 << 20

// relieve moves the records of the rings that are at least as full as that, from 0 to
// 1, to the queues, so that there is room however long the one who drains takes. It
// returns how full the fullest was.
func (r *rings) relieve(least float64) (fullest float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.list {
		one := &r.list[i]
		n := r.filled(one)
		fill := float64(n) / float64(r.slots)
		fullest = max(fullest, fill)
		if n == 0 || fill < least {
			continue
		}
		for n = min(n, uint64(max(0, maxQueued-r.queued))); n > 0; {
			b := r.readable(one, n)
			one.waiting.push(b, &r.free)
			r.took(one, len(b))
			r.queued += len(b) / recordBytes
			n -= uint64(len(b) / recordBytes)
		}
	}
	return fullest
}

// fullest is how full the fullest ring is, from 0 to 1.
func (r *rings) fullest() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	most := uint64(0)
	for i := range r.list {
		most = max(most, r.filled(&r.list[i]))
	}
	return float64(most) / float64(r.slots)
}

// unread is how many records there are, in rings and queues.
func (r *rings) unread() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := uint64(r.queued)
	for i := range r.list {
		one := &r.list[i]
		if n += r.filled(one); one.batch != nil {
			n += uint64(one.batch.n - one.next)
		}
	}
	return n
}

// filled is how many records are in a ring. A head that is behind what was taken, or
// further ahead than the ring is long, was not written by the probes: what is there is
// given up.
func (r *rings) filled(one *ring) uint64 {
	head := atomic.LoadUint64(one.word(headOffset))
	n := head - one.tail
	if n > r.slots {
		r.corrupt++
		one.tail = head
		atomic.StoreUint64(one.word(tailOffset), head)
		return 0
	}
	return n
}

// readable is the first records of a ring, up to n, of which there must be some, and up to the
// ring's end. The base is read after the head that tells of them, and before their room is
// given back: the target changes it only when all have been taken, so it is theirs.
func (r *rings) readable(one *ring, n uint64) []byte {
	at := (one.tail - atomic.LoadUint64(one.word(baseOffset))) & (r.slots - 1)
	return one.data[at*recordBytes:][:min(n, r.slots-at)*recordBytes]
}

// took gives the room of records that have been copied back.
func (r *rings) took(one *ring, bytes int) {
	if owner := atomic.LoadUint64(one.word(ownerOffset)) &^ retired; owner != 0 {
		one.owner, one.used = int64(owner)-1, true
	}
	one.tail += uint64(bytes / recordBytes)
	atomic.StoreUint64(one.word(tailOffset), one.tail)
}

// refill gets the next records of a ring to pass on. It is false if there are none.
func (r *rings) refill(one *ring) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refills++
	if one.batch != nil {
		r.free.put(one.batch)
		one.batch = nil
	}
	if one.batch = one.waiting.shift(); one.batch != nil {
		r.queued -= one.batch.n
	} else {
		n := r.filled(one)
		if n == 0 {
			return false
		}
		one.batch = r.free.get()
		r.took(one, one.batch.fill(r.readable(one, n)))
	}
	one.next, one.m = 0, one.owner
	return true
}

// pop is the first record of a ring to pass on, which there must be; r.rec has it. It is
// false if the record makes no sense. Its memory is valid until the next refill.
func (r *rings) pop(one *ring) bool {
	w := &one.batch.recs[one.next]
	one.next++
	r.rec = record{tsc: one.key, raw: w, ring: one}
	if tid := w.tid(); tid != 0 {
		one.tid = tid
	}
	if w.plain(&r.single) {
		return true
	}
	n := r.follow(w)
	if n == 0 {
		return true
	}
	r.first = *w
	r.rec.raw = &r.first
	for i := range r.more[:n] {
		if one.next == one.batch.n && !r.refill(one) { // all are published at once
			r.invalid++
			return false
		}
		r.more[i] = one.batch.recs[one.next]
		one.next++
	}
	r.rec.rest = r.more[:n]
	return true
}

// maxFollow is how many records can belong to one: where a newborn comes from, and a stack.
const maxFollow = 1 + maxDepth/pcsInRecord

// lostCounts are the events that the probes could not store: for want of room, and for want
// of a ring. A count that falls is not believed.
func (r *rings) lostCounts() (ringFull, noRing, corrupt uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.list {
		one := &r.list[i]
		if n := atomic.LoadUint64(one.word(lostOffset)); n > one.lost {
			one.lost = n
		}
		ringFull += min(one.lost, math.MaxUint64-ringFull)
	}
	if n := atomic.LoadUint64((*uint64)(unsafe.Pointer(&r.mem[noRingOffset]))); n > r.noRing {
		r.noRing = n
	}
	return ringFull, r.noRing, r.corrupt + r.invalid
}
