package inline

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"unsafe"
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
	tailOffset  = 64 // records read; ours

	retired = 1 << 62

	minRings = 64
	maxRings = 4096
)

// record is one hit, decoded; see asm/probe_amd64.S.
type record struct {
	tsc, goid, other uint64
	gopc, startpc    uint64 // of a birth
	m                int64
	tid              uint32 // in the target's PID namespace; 0: not known yet
	p                int16
	site, reason     uint8
	from, to         uint8

	ring *ring // that it comes from
}

// ring is one ring as the reader knows it.
type ring struct {
	header []byte // in the shared memory
	data   []byte // likewise
	m      int64  // its owner; meaningful when used
	used   bool
	tail   uint64 // records read; the word in the header is only a copy
	head   uint64 // as loaded by the drain that is going on
	key    uint64 // the last record's time stamp, or a later one: never falls
	next   uint64 // key of the record at tail, while it is in the heap

	tid   uint32 // of the last record, in the target's PID namespace; 0: not known
	extra bool   // its M serves one C thread after the other: it outlives its thread

	lost    uint64 // from this ring, as far as it was believed
	touched uint64 // records whose pages are there already
	gone    int64  // when it was found without an owner, ns; 0 if it was not
	goneAt  uint64 // head then
}

// rings are all rings of a target. They are for one goroutine.
type rings struct {
	mem       []byte
	list      []ring
	slots     uint64 // records in a ring, a power of two
	isBirth   func(site, from, to uint8) bool
	heap      []*ring
	rec       record
	events    uint64 // records taken, births once
	corrupt   uint64 // records that make no sense
	noRing    uint64
	ringBytes int
}

// ringsSize is how long the shared memory is.
func ringsSize(count, ringBytes int) int { return recordsOffset(count) + count*ringBytes }

// recordsOffset is where the records of the first ring begin.
func recordsOffset(count int) int {
	return pageSize + (count*headerBytes+pageSize-1)&^(pageSize-1)
}

// newRings takes memory of ringsSize bytes, all zero. at is the target's address of
// it. isBirth says which records are the first of two.
func newRings(mem []byte, at uint64, count, ringBytes int, isBirth func(site, from, to uint8) bool) (*rings, error) {
	powers := count&(count-1) == 0 && ringBytes&(ringBytes-1) == 0
	if !powers || count < minRings || count > maxRings || ringBytes < pageSize || len(mem) != ringsSize(count, ringBytes) {
		return nil, fmt.Errorf("internal error: %d rings of %d bytes in %d", count, ringBytes, len(mem))
	}
	r := &rings{mem: mem, list: make([]ring, count), slots: uint64(ringBytes / recordBytes), ringBytes: ringBytes, isBirth: isBirth}
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

// load is a word of the record at index i.
func (r *ring) load(slots, i uint64, word int) uint64 {
	off := (i&(slots-1))*recordBytes + uint64(word)*8
	return atomic.LoadUint64((*uint64)(unsafe.Pointer(&r.data[off])))
}

// look loads head, and notes who owns the ring. A head that is behind what was read, or
// further ahead than the ring is long, was not written by the probes: what is there is
// given up.
func (r *rings) look(one *ring) {
	head := atomic.LoadUint64(one.word(headOffset))
	if head-one.tail > r.slots {
		r.corrupt++
		one.tail = head
		atomic.StoreUint64(one.word(tailOffset), head)
	}
	one.head = head
	if head == one.tail && one.used {
		return
	}
	if owner := atomic.LoadUint64(one.word(ownerOffset)) &^ retired; owner != 0 {
		one.m, one.used = int64(owner)-1, true
	}
}

// decode reads the record at the ring's tail into rec, and returns how many records it
// takes; 0 if it makes no sense.
func (r *rings) decode(one *ring) uint64 {
	rec := &r.rec
	who := one.load(r.slots, one.tail, 1)
	where := one.load(r.slots, one.tail, 3)
	*rec = record{
		tsc: one.key, goid: who >> 8, reason: uint8(who), other: one.load(r.slots, one.tail, 2), m: one.m,
		tid: uint32(where), site: uint8(where >> 32), from: uint8(where>>40) & 15, to: uint8(where >> 44 & 15), p: int16(where >> 48), ring: one,
	}
	if rec.tid != 0 {
		one.tid = rec.tid
	}
	if !r.isBirth(rec.site, rec.from, rec.to) {
		return 1
	}
	if one.head-one.tail < 2 {
		r.corrupt++
		return 0
	}
	rec.gopc, rec.startpc = one.load(r.slots, one.tail+1, 0), one.load(r.slots, one.tail+1, 1)
	return 2
}

// lostCounts are the events that the probes could not store: for want of room, and for want
// of a ring. A count that falls is not believed.
func (r *rings) lostCounts() (ringFull, noRing uint64) {
	for i := range r.list {
		one := &r.list[i]
		if n := atomic.LoadUint64(one.word(lostOffset)); n > one.lost {
			one.lost = n
		}
		ringFull += one.lost
	}
	if n := atomic.LoadUint64((*uint64)(unsafe.Pointer(&r.mem[noRingOffset]))); n > r.noRing {
		r.noRing = n
	}
	return ringFull, r.noRing
}

// fill is how full the fullest ring was at the last drain, from 0 to 1.
func (r *rings) fill() float64 {
	most := uint64(0)
	for i := range r.list {
		if one := &r.list[i]; one.used {
			most = max(most, atomic.LoadUint64(one.word(headOffset))-one.tail)
		}
	}
	return min(1, float64(most)/float64(r.slots))
}
