// Command target parks N goroutines (the first argument) and watches its own
// stalls: a thread that does nothing but read the clock notes how long it was
// kept from it. It serves net/http/pprof, and
//
//	/stall  the longest stall since the last request, ns, and how many were
//	        longer than a millisecond
//
// It prints the address that it listens on when all goroutines are parked.
package main

import (
	"fmt"
	"net"
	"net/http"
	_ "net/http/pprof" // registers its handlers
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

var (
	longest atomic.Int64 // ns
	long    atomic.Int64 // stalls of more than a millisecond
)

func watch() {
	runtime.LockOSThread()
	for last := time.Now(); ; {
		now := time.Now()
		gap := int64(now.Sub(last))
		last = now
		if gap > int64(time.Millisecond) {
			long.Add(1)
		}
		if gap > longest.Load() {
			longest.Store(gap)
		}
	}
}

func stall(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintln(w, longest.Swap(0), long.Swap(0))
}

//go:noinline
func handle(c <-chan int, n int) int { return wait(c, n) + 1 }

//go:noinline
func wait(c <-chan int, n int) int {
	for v := range c {
		n += v
	}
	return n
}

func main() {
	n, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	never := make(chan int)
	var started sync.WaitGroup
	started.Add(n)
	for i := range n {
		go func() {
			started.Done()
			handle(never, i)
		}()
	}
	started.Wait()
	runtime.GC() // no collection that they caused is to be taken for a stall
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	http.HandleFunc("/stall", stall)
	go watch()
	fmt.Println(l.Addr())
	panic(http.Serve(l, nil))
}
