package tsc

import (
	"fmt"
	"math"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// rally is a ping-pong of stamps between two threads: each takes one as soon as it sees the
// other's. It finds counters that differ by more than a cache line takes from CPU to CPU.
// A comparison with the kernel's clock cannot, where the kernel makes that clock from the
// same counter. The kernel does likewise when a CPU comes up (check_tsc_warp in
// arch/x86/kernel/tsc_sync.c), but not under a hypervisor that says it is not needed.
type rally struct {
	now  [2]func() uint64 // each side's counter
	over atomic.Bool
	turn atomic.Int32 // the side that may touch what follows

	stamp  uint64    // the latest
	trip   [2]uint64 // ticks from the other's stamp to this side's, the fewest
	behind uint64    // ticks that a stamp was before the one that it follows, the most
}

// The sides of a rally.
const (
	home    = 0
	visitor = 1
)

const (
	rallyRounds = 200
	// rallyTime is for all rallies of a Check, which is part of every start. Some ten
	// microseconds do for a pair, unless other load keeps its CPUs.
	rallyTime = 15 * time.Millisecond
	rallyCPUs = 32 // at most, which are spread over all
	spins     = 2000
)

// await returns true when it is the side's turn, and false when there will be none.
func (r *rally) await(side int32, deadline time.Time) bool {
	for n := 1; r.turn.Load() != side; n++ {
		if n%spins != 0 {
			continue
		}
		if r.over.Load() || time.Now().After(deadline) {
			return false
		}
		runtime.Gosched() // GOMAXPROCS may be 1
	}
	return true
}

// stroke takes a stamp and passes the turn on.
func (r *rally) stroke(side int32) {
	own := r.now[side]()
	if own < r.stamp {
		r.behind = max(r.behind, r.stamp-own)
	} else {
		r.trip[side] = min(r.trip[side], own-r.stamp)
	}
	r.stamp = own
	r.turn.Store(1 - side)
}

// stay plays one side until the other ends the rally.
func (r *rally) stay(deadline time.Time) {
	for r.await(home, deadline) {
		r.stroke(home)
	}
}

// visit plays the other side for some rounds, and says whether it came to an end. The
// result is in trip and behind; they are of this visit only.
func (r *rally) visit(rounds int, deadline time.Time) bool {
	for i := range rounds {
		if !r.await(visitor, deadline) {
			return false
		}
		if i == 0 {
			r.trip, r.behind = [2]uint64{math.MaxUint64, math.MaxUint64}, 0
		}
		r.stroke(visitor)
	}
	return r.await(visitor, deadline)
}

// apart bounds how far the two counters are apart, in ticks. What is there is the time
// of the way plus or minus the difference, and the way back is minus or plus it.
func (r *rally) apart() uint64 { return max(r.trip[home], r.trip[visitor]) }

// warp is a CPU whose stamps were before others that they follow.
type warp struct {
	cpu   int
	ticks uint64
}

// rallies has a thread on the calling one's CPU exchange stamps with one that goes to each
// of the others, and is how far their counters are apart at most, in ticks. CPUs that
// keep the thread waiting for too long are not in it. The calling thread must be pinned.
func rallies(cpus []int) (apart map[int]uint64, warped *warp, err error) {
	apart = map[int]uint64{}
	r := &rally{now: [2]func() uint64{Now, Now}}
	r.turn.Store(visitor)
	deadline := time.Now().Add(rallyTime)
	done := make(chan error, 1)
	go func() {
		done <- onThread(func() error {
			defer r.over.Store(true)
			for _, cpu := range cpus {
				if err := pin(cpu); err != nil {
					return err
				}
				if !r.visit(rallyRounds, deadline) {
					return nil
				}
				if r.behind > 0 {
					warped = &warp{cpu, r.behind}
					return nil
				}
				apart[cpu] = r.apart()
			}
			return nil
		})
	}()
	r.stay(deadline)
	err = <-done
	return apart, warped, err
}

// spread is n of the CPUs at most, at even distances, the last of them included: those of
// other sockets have high numbers.
func spread(cpus []int, n int) []int {
	if len(cpus) <= n {
		return cpus
	}
	var some []int
	for i := range n {
		some = append(some, cpus[(i+1)*len(cpus)/n-1])
	}
	return some
}

// onThread calls f on a thread that ends with it, and with it the CPU affinity that f may
// have given it. New threads do not get that: the runtime starts none from a locked one.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go runLocked(f, done)
	return <-done
}

// runLocked is onThread's goroutine. The runtime ends a thread whose goroutine ends
// without unlocking it, except for the main thread, which would stay as it is. That one
// hands f on, and stays locked meanwhile, or it could be the one that gets f again.
func runLocked(f func() error, done chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		defer runtime.UnlockOSThread()
		done <- onThread(f)
		return
	}
	err := f()
	done <- err
}

// pin has the calling thread run on one CPU.
func pin(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("run on CPU %d: %w", cpu, err)
	}
	return nil
}
