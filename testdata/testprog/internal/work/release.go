package work

import (
	"fmt"
	"net"
	"runtime"
	"sync"
	"time"
)

// captive is a holder that can be let go.
type captive struct {
	holder
	release func()
}

// Release parks one goroutine in each way in which it can be let go again, runs
// garbage collections, in which the runtime notes that they wait, parks another one, of
// which it notes a later moment, and prints "held". At the next line on stdin it lets them go, in the order in which it
// reported them, and returns when all have ended.
//
//	goid KEY        the goroutine that waits in the way called KEY
//	goid releaser   the goroutine that created them and lets them go
func Release(int) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	all := captives(l)
	var wg sync.WaitGroup
	wg.Add(len(all))
	report("releaser", goid())
	for _, c := range all {
		ids := make(chan int)
		go captivity(c.holder, ids, &wg) // site: captivity
		id := <-ids
		waitState(id, c.state, "semacquire")
		report(c.key, id)
	}
	runtime.GC() // the first of a program notes nothing
	runtime.GC()
	late, ids := make(chan int), make(chan int)
	go func() { ids <- goid(); <-late }()
	waitState(<-ids, "chan receive")
	runtime.GC()
	fmt.Println("held")
	readLine()
	close(late)
	for _, c := range all {
		c.release()
	}
	wg.Wait()
}

func captivity(h holder, ids chan<- int, wg *sync.WaitGroup) {
	hold(h, ids)
	wg.Done()
}

func captives(l net.Listener) []captive {
	receive, send, choose, locked := make(chan int), make(chan int), make(chan int), make(chan int)
	var mu sync.Mutex
	mu.Lock()
	var rw, ro sync.RWMutex
	rw.RLock()
	ro.Lock()
	var wg sync.WaitGroup
	wg.Add(1)
	cond := sync.NewCond(new(sync.Mutex))
	fds := pipe()
	return []captive{
		{holder{"chan_receive", "chan receive", func() { <-receive }}, func() { receive <- 1 }},
		{holder{"chan_send", "chan send", func() { send <- 1 }}, func() { <-send }},
		{holder{"select", "select", func() {
			select {
			case <-choose:
			case <-time.After(time.Hour):
			}
		}}, func() { choose <- 1 }},
		{holder{"mutex", "sync.Mutex.Lock", mu.Lock}, mu.Unlock},
		{holder{"rwmutex_write", "sync.RWMutex.Lock", rw.Lock}, rw.RUnlock},
		{holder{"rwmutex_read", "sync.RWMutex.RLock", ro.RLock}, ro.Unlock},
		{holder{"waitgroup", "sync.WaitGroup.Wait", wg.Wait}, wg.Done},
		{holder{"cond", "sync.Cond.Wait", func() { cond.L.Lock(); cond.Wait(); cond.L.Unlock() }}, cond.Signal},
		{holder{"io_wait", "IO wait", func() { _, _ = l.Accept() }}, func() { check(l.Close()) }},
		{holder{"syscall", "syscall", func() { read(fds[0], []byte{1}) }}, func() { write(fds[1], []byte{1}) }},
		{holder{"locked", "chan receive", func() { runtime.LockOSThread(); <-locked }}, func() { locked <- 1 }},
	}
}
