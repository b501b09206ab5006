// Command labels waits in functions whose names say which pprof labels the goroutine has
// there: waitsSleep waits with the label kind=sleep only, and nobody else waits in it. The
// goroutines that change their labels from one wait to the next, as fast as the scheduler
// lets them, show a label that belongs to another wait.
//
// Before the newline that it waits for with WAIT=1, one goroutine waits in waitsBefore already.
package main

import (
	"context"
	"fmt"
	"runtime/pprof"
	"sync"
	"syscall"
	"time"

	"testprog/internal/work"
)

// How long each function waits in a round, and how many rounds there are.
const (
	long   = 250 * time.Millisecond
	rounds = 4
)

var done sync.WaitGroup

// labelled runs f on a goroutine of its own with a label.
func labelled(kind string, f func()) {
	done.Add(1)
	go func() {
		defer done.Done()
		pprof.Do(context.Background(), pprof.Labels("kind", kind, "user", "7"), func(context.Context) { f() })
	}()
}

//go:noinline
func waitsBefore(c chan int) { <-c }

//go:noinline
func waitsSleep() { time.Sleep(long) }

//go:noinline
func waitsChan(c chan int) { <-c }

//go:noinline
func waitsMutex(mu *sync.Mutex) { mu.Lock() }

//go:noinline
func waitsSyscall() {
	t := syscall.NsecToTimespec(int64(long))
	syscall.Nanosleep(&t, nil)
}

//go:noinline
func waitsNone() { time.Sleep(long) }

//go:noinline
func waitsInherited() { time.Sleep(long) }

//go:noinline
func waitsHostile() { time.Sleep(long) }

//go:noinline
func waitsOdd(d time.Duration) { time.Sleep(d) }

//go:noinline
func waitsEven(d time.Duration) { time.Sleep(d) }

func again(f func()) func() {
	return func() {
		for i := 0; i < rounds; i++ {
			f()
		}
	}
}

// alternate changes its labels with each wait, for about as long as the others.
func alternate(wait time.Duration) {
	for begin := time.Now(); time.Since(begin) < rounds*long; {
		pprof.Do(context.Background(), pprof.Labels("turn", "odd"), func(context.Context) { waitsOdd(wait) })
		pprof.Do(context.Background(), pprof.Labels("turn", "even", "of", "two"), func(context.Context) { waitsEven(wait) })
	}
}

// hand sends once in a while.
func hand(c chan int, n int) {
	for i := 0; i < n; i++ {
		time.Sleep(long)
		c <- i
	}
}

func main() {
	before, slow := make(chan int), make(chan int)
	labelled("before", func() { waitsBefore(before) })
	work.Wait()
	labelled("sleep", again(waitsSleep))
	labelled("chan", again(func() { waitsChan(slow) }))
	labelled("syscall", again(waitsSyscall))
	labelled("\x1b]0;owned\a\x1b[2J\xff", again(waitsHostile))
	labelled("inherited", func() {
		done.Add(1)
		go func() {
			defer done.Done()
			again(waitsInherited)()
		}()
	})
	var mu sync.Mutex
	mu.Lock()
	labelled("mutex", func() {
		waitsMutex(&mu)
		mu.Unlock()
	})
	done.Add(1)
	go func() {
		defer done.Done()
		again(waitsNone)()
	}()
	for _, wait := range []time.Duration{time.Microsecond, 3 * time.Millisecond, 12 * time.Millisecond, 31 * time.Millisecond, 70 * time.Millisecond} {
		wait := wait
		done.Add(1)
		go func() {
			defer done.Done()
			alternate(wait)
		}()
	}
	go hand(slow, rounds)
	time.Sleep(3 * long)
	mu.Unlock()
	before <- 1
	done.Wait()
	fmt.Println("done")
}
