package inline

import (
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A ring must hold what comes between two takes, also when what is done with the events
// takes long, and when this process has to wait for a CPU. So a thread of its own looks
// whether the rings fill up, with a priority that makes it run when it wants to, if the
// kernel lets us (CAP_SYS_NICE). It takes the records only if they do and the one who drains
// does not: as a rule that one takes them, in whose CPU's cache they then are.
//
// To wake up costs a CPU some ten microseconds or more, of which the target may have need.
// So it sleeps for as long as the rings have room for what has come lately, and the one
// who drains calls it when more comes of a sudden.
const (
	// minNap and maxNap bound the time between two looks.
	minNap = time.Millisecond
	maxNap = 200 * time.Millisecond
	// A ring that is fuller than crowded is emptied.
	crowded = 0.60
	never   = 2 // no ring is as full as that

	nice = -20
)

// taker empties the rings all the time.
type taker struct {
	done  chan struct{}
	wake  chan struct{} // holds one call
	ended sync.WaitGroup
}

func startTaker(r *rings, fd int) *taker {
	t := &taker{done: make(chan struct{}), wake: make(chan struct{}, 1)}
	t.ended.Go(func() { t.run(r, fd) })
	return t
}

// run keeps its thread to itself and ends it, as its priority is not for others.
func (t *taker) run(r *rings, fd int) {
	runtime.LockOSThread()
	if tid := unix.Gettid(); tid != unix.Getpid() {
		_ = unix.Setpriority(unix.PRIO_PROCESS, tid, nice) // works without, too
	}
	last, called := time.Now(), true
	for on := true; on; {
		least := crowded
		if r.works() {
			least = never
		}
		fullest := r.relieve(least)
		r.touchAhead(fd)
		now := time.Now()
		nap := r.room(now.Sub(last), fullest)
		if last = now; called {
			nap = minNap // what came lately is no measure of what comes now
		}
		called, on = t.sleep(nap)
	}
}

// sleep says whether it was called, and whether the taker is to go on. It does not sleep in a
// system call: the runtime would take the processor (P) from it each time, and look for
// others to take every 20 µs (runtime/proc.go, retake and sysmon).
func (t *taker) sleep(nap time.Duration) (called, on bool) {
	select {
	case <-t.done:
		return false, false
	case <-t.wake:
		return true, true
	case <-time.After(nap):
		return false, true
	}
}

// call ends a long sleep. A nil taker has never been started.
func (t *taker) call() {
	if t == nil {
		return
	}
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// stop ends it. A nil taker has never been started.
func (t *taker) stop() {
	if t == nil {
		return
	}
	close(t.done)
	t.ended.Wait()
}

// works says whether the one who drains has come for records since the last call. As long as
// it does, nothing is taken from it: what is copied to a queue must be copied and read
// again, and memory that is touched for the first time costs more than the events in it.
func (r *rings) works() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	works := r.refills != r.eyed
	r.eyed = r.refills
	return works
}

// room is half the time that it takes until a ring is crowded, if it goes on as in the time
// since the last call. At the end of that the fullest ring was as full as that, and was
// emptied if it was crowded.
func (r *rings) room(since time.Duration, fullest float64) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	most := uint64(1)
	for i := range r.list {
		one := &r.list[i]
		head := one.tail + r.filled(one)
		most = max(most, head-one.looked)
		one.looked = head
	}
	if fullest >= crowded {
		fullest = 0
	}
	left := (crowded - fullest) * float64(r.slots)
	nap := float64(since) * left / float64(most) / 2
	return time.Duration(max(float64(minNap), min(nap, float64(maxNap))))
}
