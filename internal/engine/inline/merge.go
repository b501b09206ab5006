package inline

import (
	"math"
)

// everything is a limit that no stamp reaches.
const everything = math.MaxUint64

// future is further beyond the limit of a drain than a true stamp can be, in ticks: seconds.
const future = 1 << 35

// drain passes on the records that were stamped before limit, all rings merged by time
// stamp. limit is the counter, read before the call by a fenced RDTSC (package tsc), or
// everything.
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
// limit was read; so e1 was published before that, and drain looks at every ring after
// it.
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
//
// A target that writes nonsense cannot hold it up: no more is passed on than a ring full
// beyond what was there at the beginning, and a stamp from the future counts as that of
// the record before.
func (r *rings) drain(limit uint64, emit func(*record) error) error {
	r.heap = r.heap[:0]
	r.budget = r.slots + r.unread()
	r.horizon = everything - 1
	if limit < everything-future {
		r.horizon = limit + future
	}
	for i := range r.list {
		if one := &r.list[i]; r.ready(one) {
			r.heap = append(r.heap, one)
		}
	}
	for i := len(r.heap)/2 - 1; i >= 0; i-- {
		r.sink(i)
	}
	for len(r.heap) > 0 && r.heap[0].key < limit && r.budget > 0 {
		if err := r.run(r.heap[0], min(limit, r.second()), emit); err != nil {
			return err
		}
	}
	return nil
}

// restarted says whether the counter, at now, began anew since it was at last. It falls with
// the power, for one: when a machine has slept, or goes on from an image. What it is behind
// on another CPU is far less.
func restarted(last, now uint64) bool { return now < last && last-now > 1<<24 }

// restart passes on what was stamped before the counter began anew, all rings merged, and
// forgets those stamps: what comes later has lower ones and must not wait until the counter
// is there again. The counter was at last in the drain before, and is at now. Everything
// that was stamped before causes nothing that was stamped since, so this order is causal,
// too. A record that was stamped before and is published only now comes with those of now,
// as one that is late.
func (r *rings) restart(last, now uint64, emit func(*record) error) error {
	r.floor = now + (last-now)/2 // the stamps of before are near last, those of now near now
	err := r.drain(everything, emit)
	r.floor = 0
	for i := range r.list {
		r.list[i].key, r.list[i].early = 0, false
	}
	return err
}

// ready says whether the ring has a record to pass on, and sets its key: in a ring stamps
// rise, and if one does not, the record still comes after those before it.
func (r *rings) ready(one *ring) bool {
	if (one.batch == nil || one.next == one.batch.n) && !r.refill(one) {
		return false
	}
	stamp := min(one.batch.recs[one.next][0], everything-1)
	switch {
	case stamp < r.floor:
		return false
	case stamp <= r.horizon:
		one.key = max(one.key, stamp)
	case !one.early: // it may be true, if this drain takes long: the next limit is later
		one.early = true
		return false
	default:
		r.invalid++
	}
	one.early = false
	return true
}

// second is the key of the ring that comes after the first in the heap.
func (r *rings) second() uint64 {
	next := uint64(everything)
	for i := 1; i <= 2 && i < len(r.heap); i++ {
		next = min(next, r.heap[i].key)
	}
	return next
}

// run passes on the records of the first ring up to a key, and puts the ring in its
// place in the heap.
func (r *rings) run(one *ring, until uint64, emit func(*record) error) error {
	var err error
	more := true
	for first := true; err == nil && more && r.budget > 0 && (first || one.key < until); first = false {
		r.budget--
		if r.pop(one) {
			r.events++
			err = emit(&r.rec)
		}
		more = r.ready(one)
	}
	if !more {
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
			if h[child].key < h[least].key {
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
