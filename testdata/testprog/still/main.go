// Command still parks goroutines in as many ways and places as a stack dump can
// tell apart, and then holds still: inlined calls, generics, methods through
// wrappers, deferred calls, deep recursion, labels, threads of their own.
//
// It prints "held" and then obeys the lines on its stdin, which it reads with a
// plain system call:
//
//	stack         prints its own runtime.Stack of all goroutines, then "end"
//	profile PATH  writes its goroutine profile to a file, then prints "end"
//	labels        prints "label GOID KEY VALUE" for each label, then "end"
//
// An empty line, or the end of stdin, ends it.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"syscall"
	"time"
)

var (
	block    = make(chan int)
	labelled []string
)

// park is where most goroutines stop.
//
//go:noinline
func park() { <-block }

func inlinedOuter(n int) int { return inlinedInner(n) + 1 }

func inlinedInner(n int) int {
	park()
	return n
}

//go:noinline
func deep(n int, pad [4]uint64) uint64 {
	if n == 0 {
		park()
		return pad[0]
	}
	pad[n%4]++
	return deep(n-1, pad) + pad[1]
}

// wide has a frame of several kilobytes.
//
//go:noinline
func wide(n int) int {
	var big [1 << 12]byte
	big[n] = 1
	park()
	return int(big[n*2])
}

type stack[T any] struct{ items []T }

//go:noinline
func (s *stack[T]) each(f func(T)) {
	for _, v := range s.items {
		f(v)
	}
}

//go:noinline
func generic[T any](v T) T {
	park()
	return v
}

type waiter interface{ wait(int) int }

type base struct{ n int }

//go:noinline
func (b *base) wait(n int) int {
	park()
	return b.n + n
}

type derived struct{ *base } // wait is promoted through a wrapper

//go:noinline
func dynamic(w waiter) int { return w.wait(1) }

//go:noinline
func deferred() {
	defer func() {
		recover()
		park()
	}()
	panic("caught")
}

//go:noinline
func nilPointer() {
	defer func() {
		recover()
		park()
	}()
	var b *base
	b.n++
}

func selecting() {
	tick := make(chan string, 3)
	select {
	case <-block:
	case tick2 := <-make(chan bool):
		_ = tick2
	case make(chan int) <- 1:
	case v := <-tick:
		_ = v
	}
}

func finalizing() {
	type object struct{ pad [64]byte }
	o := new(object)
	runtime.SetFinalizer(o, func(*object) { park() })
	o = nil
	for i := 0; i < 3; i++ {
		runtime.GC()
	}
}

func sleeping() { time.Sleep(time.Hour) }

func locked() {
	runtime.LockOSThread()
	park()
}

func accepting(l net.Listener) {
	if c, err := l.Accept(); err == nil {
		c.Close()
	}
}

// start runs f in a goroutine and returns its number.
func start(f func()) {
	started := make(chan struct{})
	go func() {
		close(started)
		f()
	}()
	<-started
}

func withLabels(pairs ...string) {
	started := make(chan struct{})
	go pprof.Do(context.Background(), pprof.Labels(pairs...), func(context.Context) {
		id := goid()
		for i := 0; i < len(pairs); i += 2 {
			labelled = append(labelled, fmt.Sprintf("label %s %q %q", id, pairs[i], pairs[i+1]))
		}
		close(started)
		park()
	})
	<-started
}

func goid() string {
	b := make([]byte, 64)
	return strings.Fields(string(b[:runtime.Stack(b, false)]))[1]
}

func startAll() {
	var mu sync.Mutex
	mu.Lock()
	var rw sync.RWMutex
	rw.Lock()
	var wg sync.WaitGroup
	wg.Add(1)
	cond := sync.NewCond(&sync.Mutex{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	var fds [2]int
	if err := syscall.Pipe(fds[:]); err != nil {
		panic(err)
	}
	start(park)
	start(func() { inlinedOuter(1) })
	start(func() { deep(30, [4]uint64{}) })
	start(func() { deep(300, [4]uint64{}) })
	start(func() { wide(3) })
	start(func() { generic("x") })
	start(func() { generic(block) })
	start(func() { (&stack[int]{[]int{1}}).each(func(int) { park() }) })
	start(func() { dynamic(&base{1}) })
	start(func() { dynamic(derived{&base{1}}) })
	start(deferred)
	start(nilPointer)
	start(selecting)
	start(sleeping)
	start(locked)
	start(mu.Lock)
	start(rw.RLock)
	start(rw.Lock)
	start(wg.Wait)
	start(func() { cond.L.Lock(); cond.Wait() })
	start(func() { accepting(l) })
	start(func() { syscall.Read(fds[0], make([]byte, 1)) })
	start(func() { select {} })
	start(func() { var c chan int; <-c })
	start(func() { make(chan int) <- 1 })
	go wide(1)
	go derived{&base{2}}.wait(3)
	for i := 0; i < 5; i++ {
		go park()
	}
	withLabels("handler", "/index", "tenant", "a b\"c")
	withLabels("handler", "/index", "tenant", "a b\"c")
	many := []string{}
	for i := 0; i < 20; i++ {
		many = append(many, fmt.Sprintf("key%02d", i), strings.Repeat("v", i))
	}
	withLabels(many...)
	withC()
	finalizing()
}

func main() {
	startAll()
	time.Sleep(200 * time.Millisecond) // the last of them park
	fmt.Println("held", os.Getpid())
	for {
		words := strings.Fields(readLine())
		if len(words) == 0 {
			return
		}
		switch words[0] {
		case "stack":
			buf := make([]byte, 4<<20)
			fmt.Printf("%s\n", buf[:runtime.Stack(buf, true)])
		case "profile":
			f, err := os.Create(words[1])
			if err == nil {
				err = pprof.Lookup("goroutine").WriteTo(f, 0)
			}
			if err == nil {
				err = f.Close()
			}
			if err != nil {
				fmt.Println("error", err)
			}
		case "labels":
			for _, l := range labelled {
				fmt.Println(l)
			}
		}
		fmt.Println("end")
	}
}

// readLine does not use package os, whose reads may go through the network
// poller.
func readLine() string {
	var line []byte
	b := make([]byte, 1)
	for {
		n, err := syscall.Read(0, b)
		if err == syscall.EINTR {
			continue
		}
		if n < 1 || b[0] == '\n' {
			return string(line)
		}
		line = append(line, b[0])
	}
}
