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
const (
	// minPace and maxPace bound the time between two looks: a thread that does nothing else
	// fills its ring in 6 ms or more.
	minPace = 250 * time.Microsecond
	maxPace = 4 * time.Millisecond
	// A ring that is fuller than crowded is emptied, and looked at sooner the next time;
	// when all are emptier than calm, later.
	crowded, calm = 0.30, 0.10

	nice = -20
)

// taker empties the rings all the time.
type taker struct {
	done  chan struct{}
	ended sync.WaitGroup
}

func startTaker(r *rings, fd int) *taker {
	t := &taker{done: make(chan struct{})}
	t.ended.Go(func() { t.run(r, fd) })
	return t
}

// run keeps its thread to itself and ends it, as its priority is not for others.
func (t *taker) run(r *rings, fd int) {
	runtime.LockOSThread()
	if tid := unix.Gettid(); tid != unix.Getpid() {
		_ = unix.Setpriority(unix.PRIO_PROCESS, tid, nice) // works without, too
	}
	pace := maxPace
	for {
		select {
		case <-t.done:
			return
		default:
		}
		fullest := r.relieve(crowded)
		r.touchAhead(fd)
		switch {
		case fullest >= crowded:
			pace = max(minPace, pace/2)
		case fullest < calm:
			pace = min(maxPace, pace+pace/8)
		}
		// Not time.Sleep, which would leave it to another thread to wake this one.
		wait := unix.NsecToTimespec(int64(pace))
		_ = unix.Nanosleep(&wait, nil) // a signal ends it early
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
