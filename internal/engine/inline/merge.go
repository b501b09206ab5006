package inline

import (
	"math"
	"sync/atomic"
)

// everything is a limit that no stamp reaches.
const everything = math.MaxUint64

// publishEvery is how many records are read of a ring before the target sees the room.
const publishEvery = 1024

// drain passes on the records that were stamped before limit, all rings merged by time
// stamp. limit must have been read from the counter before the call, by a fenced RDTSC
// (package tsc). With limit everything, what is there is passed on.
//
// # Why the order is causal
//
// Say e1 causes e2: the change that e1 reports happens before that of e2, because the
// thread of e2 has seen it, or something that came after it. Each is reported before
// its change: e1 was stamped, then published (head was stored), then its change was
// made; after that e2 was stamped. So e2's stamp is the later one, and if both are in this
// drain, e1 is passed on first.
//
// And if e2 is in this drain, e1 is in it or was in one before. e2 was stamped before
// limit was read, so e1 was published before that, and drain loads the heads after it.
//
// A record can come late: the thread is put off its CPU between stamp and store. It then
// has an earlier time than records that were passed on before. Nothing that it causes
// can be among those, as its change had not been made.
//
// This needs counters that agree between CPUs, which is checked before, and that the
// RDTSC of e2 does not run ahead of its thread's learning of e1's change, as it is
// not ordered with other instructions: between the two lie the compare-and-swap, the
// transfer of a cache line from another CPU and the scheduler's code, hundreds of
// instructions with locked ones among them. The check of every goroutine's chain (package
// gstate) is the proof that it holds: a violation would be counted.
//
// An error of emit ends the drain; the record counts as passed on, the others stay.
func (r *rings) drain(limit uint64, emit func(*record) error) error {
	r.heap = r.heap[:0]
	for i := range r.list {
		one := &r.list[i]
		r.look(one)
		if one.head != one.tail {
			r.stamp(one)
			r.heap = append(r.heap, one)
		}
	}
	for i := len(r.heap)/2 - 1; i >= 0; i-- {
		r.sink(i)
	}
	for len(r.heap) > 0 && r.heap[0].next < limit {
		if err := r.run(r.heap[0], min(limit, r.second()), emit); err != nil {
			return err
		}
	}
	return nil
}

// stamp sets the key of the ring's next record: in a ring stamps rise, and if one
// does not, the record still comes after those before it.
func (r *rings) stamp(one *ring) {
	one.next = max(one.key, min(one.load(r.slots, one.tail, 0), everything-1))
}

// second is the key of the ring that comes after the first in the heap.
func (r *rings) second() uint64 {
	next := uint64(everything)
	for i := 1; i <= 2 && i < len(r.heap); i++ {
		next = min(next, r.heap[i].next)
	}
	return next
}

// run passes on the records of the first ring up to a key, and puts the ring in its place in
// the heap.
func (r *rings) run(one *ring, until uint64, emit func(*record) error) error {
	var err error
	published := one.tail
	for first := true; err == nil && one.tail != one.head && (first || one.next < until); first = false {
		one.key = one.next
		n := r.decode(one)
		if n == 0 {
			one.tail++
		} else {
			one.tail += n
			r.events++
			err = emit(&r.rec)
		}
		if one.tail-published >= publishEvery {
			published = one.tail
			atomic.StoreUint64(one.word(tailOffset), published)
		}
		if one.tail != one.head {
			r.stamp(one)
		}
	}
	atomic.StoreUint64(one.word(tailOffset), one.tail)
	if one.tail == one.head {
		last := len(r.heap) - 1
		r.heap[0] = r.heap[last]
		r.heap = r.heap[:last]
	}
	r.sink(0)
	return err
}

// sink restores the heap's order from index i down.
func (r *rings) sink(i int) {
	h := r.heap
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h); child++ {
			if h[child].next < h[least].next {
				least = child
			}
		}
		if least == i {
			return
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}
