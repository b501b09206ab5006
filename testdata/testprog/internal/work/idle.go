package work

import (
	"fmt"
	"net"
	"runtime"
	"sync"
	"time"
)

// holder is one goroutine of Idle: it prints who it is and parks for good.
type holder struct {
	key   string
	state string // how a stack dump names the state in which it ends up
	park  func()
}

// Idle parks one goroutine in each way that a program can, prints "held", and
// returns at the first line on stdin.
//
//	goid KEY        the goroutine that waits in the way called KEY
func Idle(int) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	for _, h := range holders(l) {
		ids := make(chan int)
		go hold(h, ids) // site: hold
		id := <-ids
		waitState(id, h.state, "semacquire") // sync's own reasons came with Go 1.20 and 1.24
		report(h.key, id)
	}
	fmt.Println("held")
	readLine()
	check(l.Close())
}

func hold(h holder, ids chan<- int) {
	ids <- goid()
	h.park()
}

func holders(l net.Listener) []holder {
	var mu sync.Mutex
	mu.Lock()
	var rw sync.RWMutex
	rw.RLock()
	var wg sync.WaitGroup
	wg.Add(1)
	cond := sync.NewCond(new(sync.Mutex))
	fds := pipe()
	full := make(chan int)
	var none chan int
	return []holder{
		{"chan_receive", "chan receive", func() { <-full }},
		{"chan_send", "chan send", func() { make(chan int) <- 1 }},
		{"chan_receive_nil", "chan receive (nil chan)", func() { <-none }},
		{"chan_send_nil", "chan send (nil chan)", func() { none <- 1 }},
		{"select", "select", func() {
			select {
			case <-full:
			case <-time.After(time.Hour):
			}
		}},
		{"select_no_cases", "select (no cases)", func() { select {} }},
		{"sleep", "sleep", func() { time.Sleep(time.Hour) }},
		{"mutex", "sync.Mutex.Lock", mu.Lock},
		{"rwmutex_write", "sync.RWMutex.Lock", rw.Lock},
		{"rwmutex_read", "sync.RWMutex.RLock", rw.RLock},
		{"waitgroup", "sync.WaitGroup.Wait", wg.Wait},
		{"cond", "sync.Cond.Wait", func() { cond.L.Lock(); cond.Wait() }},
		{"io_wait", "IO wait", func() { _, _ = l.Accept() }},
		{"syscall", "syscall", func() { read(fds[0], []byte{1}) }},
		{"locked", "chan receive", func() { runtime.LockOSThread(); <-full }},
	}
}
