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
// kernel lets us (CAP_SYS_NICE). It takes the records only if they do: as a rule the one
// who drains does, in whose CPU's cache they then are.
//
// To wake up costs a CPU some ten microseconds or more, of which the target may have need.
// So it sleeps for as long as the rings have room for what has come lately, and the one
// who drains calls it when more comes of a sudden.
const (
	// minNap and maxNap bound the time between two looks.
	minNap = 250 * time.Microsecond
	maxNap = 200 * time.Millisecond
	// longNap is from when on sleeping is left to the scheduler, for which another thread
	// is woken first, but which can be called.
	longNap = 10 * time.Millisecond
	// A ring that is fuller than crowded is emptied.
	crowded = 0.30

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
		fullest := r.relieve(crowded)
		r.touchAhead(fd)
		now := time.Now()
		nap := r.room(now.Sub(last), fullest)
		if last = now; called {
			nap = minNap // what came lately is no measure of what comes now
		}
		called, on = t.sleep(nap)
	}
}

// sleep says whether it was called, and whether the taker is to go on.
func (t *taker) sleep(nap time.Duration) (called, on bool) {
	if nap >= longNap {
		select {
		case <-t.done:
			return false, false
		case <-t.wake:
			return true, true
		case <-time.After(nap):
			return false, true
		}
	}
	select {
	case <-t.done:
		return false, false
	case <-t.wake:
		return true, true
	default:
	}
	wait := unix.NsecToTimespec(int64(nap))
	_ = unix.Nanosleep(&wait, nil) // a signal ends it early
	return false, true
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
