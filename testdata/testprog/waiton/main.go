// Command waiton parks goroutines on objects of every kind that goroutines can
// wait on, and then holds still. It prints what it knows to be true:
//
//	object KIND KEY ADDRESS   an object; the address is 0 for one that is none
//	waiter KEY GOID HOW       a goroutine that waits on it, and what for
//	holder KEY GOID           one whose stack refers to it and that does not
//
// then "held", and ends when its stdin does, which it reads with a plain system
// call.
package main

import (
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

var (
	linesMu sync.Mutex
	lines   []string
	started sync.WaitGroup // those that have not said yet what they are

	block = make(chan int) // the holders wait on it

	globalChan = make(chan string)
	globalMu   sync.Mutex
	globalBox  *box
)

type box struct {
	name [4]uint64
	c    sync.WaitGroup
}

// padded is a mutex that has nothing near it.
type padded struct {
	before [1024]byte
	mu     sync.Mutex
	after  [1024]byte
}

// account is a struct that embeds a mutex.
type account struct {
	owner [100]byte
	sync.Mutex
	sum int
}

type condition struct {
	mu   sync.Mutex
	cond sync.Cond
}

func say(format string, args ...interface{}) {
	line := fmt.Sprintf(format, args...)
	linesMu.Lock()
	lines = append(lines, line)
	linesMu.Unlock()
}

//go:noinline
func object(kind, key string, addr uintptr) { say("object %s %s %#x", kind, key, addr) }

// channel is the address of a channel.
func channel(c interface{}) uintptr { return reflect.ValueOf(c).Pointer() }

// start runs f in a goroutine; f calls waits or holds.
func start(f func()) {
	started.Add(1)
	go f()
}

func waits(key, how string) {
	say("waiter %s %s %s", key, goid(), how)
	started.Done()
}

func goid() string {
	b := make([]byte, 64)
	return strings.Fields(string(b[:runtime.Stack(b, false)]))[1]
}

// hold keeps a pointer on its stack for ever.
//
//go:noinline
func hold(key string, p unsafe.Pointer) {
	say("holder %s %s", key, goid())
	started.Done()
	<-block
	runtime.KeepAlive(p)
}

//go:noinline
func holdChan(key string, c chan int) {
	say("holder %s %s", key, goid())
	started.Done()
	<-block
	c <- 1
}

func channels() {
	c := make(chan int)
	object("chan", "recv", channel(c))
	for i := 0; i < 3; i++ {
		start(func() { waits("recv", "receive"); <-c })
	}
	start(func() { holdChan("recv", c) })

	full := make(chan int, 2)
	full <- 1
	full <- 2
	object("chan", "full", channel(full))
	start(func() { waits("full", "send"); full <- 3 })
	start(func() { holdChan("full", full) })

	empty := make(chan int, 3)
	object("chan", "empty", channel(empty))
	start(func() { waits("empty", "receive"); <-empty })
	start(func() { holdChan("empty", empty) })
}

func selects() {
	a, b, c := make(chan int), make(chan int), make(chan int)
	object("chan", "select-a", channel(a))
	object("chan", "select-b", channel(b))
	object("chan", "select-c", channel(c))
	start(func() {
		say("waiter select-a %s receive", goid())
		say("waiter select-b %s send", goid())
		waits("select-c", "receive")
		select {
		case <-a:
		case b <- 1:
		case <-c:
		}
	})
	start(func() { holdChan("select-a", a) })
	start(func() { holdChan("select-b", b) })
	start(func() { holdChan("select-c", c) })
}

func nothing() {
	object("nil channel", "nil-recv", 0)
	object("nil channel", "nil-send", 0)
	object("empty select", "no-cases", 0)
	start(func() { waits("nil-recv", "receive"); var c chan int; <-c })
	start(func() { waits("nil-send", "send"); var c chan int; c <- 1 })
	start(func() { waits("no-cases", "select"); select {} })
}

func mutex() {
	mu := new(padded)
	object("sync.Mutex", "mutex", uintptr(unsafe.Pointer(&mu.mu)))
	mu.mu.Lock()
	for i := 0; i < 3; i++ {
		start(func() { waits("mutex", "lock"); mu.mu.Lock() })
	}
	start(func() { hold("mutex", unsafe.Pointer(&mu.mu)) })

	acc := new(account)
	object("sync.Mutex", "embedded", uintptr(unsafe.Pointer(&acc.Mutex)))
	acc.Lock()
	start(func() { waits("embedded", "lock"); acc.Lock() })
	start(func() { hold("embedded", unsafe.Pointer(acc)) })
	start(func() { hold("embedded", unsafe.Pointer(acc)) })
}

func rwmutex() {
	type locks struct {
		before [1024]byte
		mu     sync.RWMutex
		after  [1024]byte
	}
	w, r := new(locks), new(locks)
	object("sync.RWMutex", "written", uintptr(unsafe.Pointer(&w.mu)))
	w.mu.Lock()
	for i := 0; i < 2; i++ {
		start(func() { waits("written", "rlock"); w.mu.RLock() })
	}
	start(func() { waits("written", "lock"); w.mu.Lock() })
	start(func() { hold("written", unsafe.Pointer(&w.mu)) })

	object("sync.RWMutex", "read", uintptr(unsafe.Pointer(&r.mu)))
	r.mu.RLock()
	start(func() { waits("read", "lock"); r.mu.Lock() })
	start(func() { hold("read", unsafe.Pointer(&r.mu)) })
	time.Sleep(50 * time.Millisecond) // the writer waits now, and so will readers
	start(func() { waits("read", "rlock"); r.mu.RLocker().Lock() })
}

func groups() {
	wg := new(sync.WaitGroup)
	wg.Add(2)
	object("sync.WaitGroup", "group", uintptr(unsafe.Pointer(wg)))
	for i := 0; i < 2; i++ {
		start(func() { waits("group", "wait"); wg.Wait() })
	}
	start(func() { hold("group", unsafe.Pointer(wg)) })
}

func conditions() {
	c := new(condition)
	c.cond.L = &c.mu
	object("sync.Cond", "cond", uintptr(unsafe.Pointer(&c.cond)))
	for i := 0; i < 2; i++ {
		start(func() { c.mu.Lock(); waits("cond", "wait"); c.cond.Wait() })
	}
	start(func() { hold("cond", unsafe.Pointer(&c.cond)) })
}

// semaphore makes two goroutines read one file: the second waits for the first
// with a semaphore of package internal/poll.
func semaphore() {
	r, w, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	sema := reflect.ValueOf(r).Elem().Field(0).Elem().FieldByName("pfd").FieldByName("fdmu").FieldByName("rsema")
	object("semaphore", "poll", sema.UnsafeAddr())
	start(func() { started.Done(); r.Read(make([]byte, 1)) })
	time.Sleep(50 * time.Millisecond)
	start(func() { waits("poll", "acquire"); r.Read(make([]byte, 1)); w.Close() })
}

// deadlock is two goroutines that lock two mutexes in different orders.
func deadlock() {
	a, b := new(padded), new(padded)
	object("sync.Mutex", "abba-a", uintptr(unsafe.Pointer(&a.mu)))
	object("sync.Mutex", "abba-b", uintptr(unsafe.Pointer(&b.mu)))
	var both sync.WaitGroup
	both.Add(2)
	start(func() { lockTwo(&a.mu, &b.mu, "abba-b", both.Done, both.Wait) })
	start(func() { lockTwo(&b.mu, &a.mu, "abba-a", both.Done, both.Wait) })
	both.Wait()
}

//go:noinline
func lockTwo(first, second *sync.Mutex, key string, done, wait func()) {
	first.Lock()
	defer first.Unlock()
	done()
	wait()
	waits(key, "lock")
	second.Lock()
	second.Unlock()
}

// ring is three goroutines each of which waits for the one before.
func ring() {
	var c [3]chan int
	for i := range c {
		c[i] = make(chan int)
		object("chan", fmt.Sprint("ring-", i), channel(c[i]))
	}
	for i := range c {
		key, in, out := fmt.Sprint("ring-", i), c[i], c[(i+1)%3]
		start(func() { passOn(key, in, out) })
	}
}

//go:noinline
func passOn(key string, in, out chan int) {
	waits(key, "receive")
	out <- <-in
}

// abandoned is a goroutine that waits for what nobody can send.
func abandoned() {
	start(func() {
		c := make(chan struct{ a, b int })
		object("chan", "abandoned", channel(c))
		waits("abandoned", "receive")
		<-c
	})
}

func globals() {
	object("chan", "global", channel(globalChan))
	start(func() { waits("global", "receive"); <-globalChan })
	object("chan", "block", channel(block))

	object("sync.Mutex", "global-mutex", uintptr(unsafe.Pointer(&globalMu)))
	globalMu.Lock()
	start(func() { waits("global-mutex", "lock"); globalMu.Lock() })

	globalBox = new(box)
	globalBox.c.Add(1)
	object("sync.WaitGroup", "in-global", uintptr(unsafe.Pointer(&globalBox.c)))
	start(func() { waits("in-global", "wait"); globalBox.c.Wait() })
}

func timer() {
	start(func() {
		c := time.After(time.Hour)
		object("chan", "timer", channel(c))
		waits("timer", "receive")
		<-c
	})
}

func main() {
	for _, setUp := range []func(){
		channels, selects, nothing, mutex, rwmutex, groups, conditions, semaphore,
		deadlock, ring, abandoned, globals, timer,
	} {
		// In a goroutine of its own, so that nothing is left on this stack.
		done := make(chan struct{})
		go func() { setUp(); close(done) }()
		<-done
		started.Wait()
	}
	time.Sleep(200 * time.Millisecond) // the last of them park
	linesMu.Lock()
	fmt.Println(strings.Join(lines, "\n"))
	linesMu.Unlock()
	fmt.Println("held", os.Getpid())
	b := make([]byte, 1)
	for {
		if n, err := syscall.Read(0, b); n < 1 && err != syscall.EINTR {
			return
		}
	}
}
