// Command profile blocks in known functions, each on a goroutine of its own that begins in
// that function and does nothing else, and measures how long each took:
//
//	count KEY_rounds N   it did that N times
//	count KEY_ns N       nanoseconds from the function's begin to its end
//	count burns_cpu_ns N CPU time of the thread that the function burns ran on
//
// With an argument it writes its own block profile of that time to that file, and with a
// second one its own execution trace.
package main

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"sync"
	"syscall"
	"time"

	"testprog/internal/work"
)

// rounds is how often each function blocks, and pause for how long each time.
const (
	rounds = 30
	pause  = 5 * time.Millisecond
)

func main() {
	work.Wait()
	stop := func() {}
	if len(os.Args) > 2 {
		f, err := os.Create(os.Args[2])
		check(err)
		check(trace.Start(f))
		stop = func() { trace.Stop(); check(f.Close()) }
	}
	runtime.SetBlockProfileRate(1)
	all()
	runtime.SetBlockProfileRate(0)
	stop()
	if len(os.Args) > 1 {
		f, err := os.Create(os.Args[1])
		check(err)
		check(pprof.Lookup("block").WriteTo(f, 0))
		check(f.Close())
	}
	for _, m := range measured {
		fmt.Println("count", m.key+"_rounds", rounds)
		fmt.Println("count", m.key+"_ns", int64(m.took))
	}
	fmt.Println("count burns_cpu_ns", int64(burnt))
}

type measurement struct {
	key  string
	took time.Duration
}

var (
	mu       sync.Mutex
	measured []measurement
	done     sync.WaitGroup
	burnt    time.Duration
)

// finish is deferred: the time of begin is taken at the defer statement.
func finish(key string, begin time.Time) {
	took := time.Since(begin)
	mu.Lock()
	measured = append(measured, measurement{key, took})
	mu.Unlock()
	done.Done()
}

func all() {
	received, sent, one, other := make(chan int), make(chan int), make(chan int), make(chan int)
	done.Add(10)
	go receives(received)
	go feeds(received)
	go sends(sent)
	go drains(sent)
	go selects(one, other)
	go feeds(one)
	go sleeps()
	go locks()
	go waits()
	go conds()
	go reads()
	go accepts()
	go burns()
	done.Wait()
}

func feeds(to chan int) {
	for i := 0; i < rounds; i++ {
		time.Sleep(pause)
		to <- i
	}
}

func drains(from chan int) {
	for i := 0; i < rounds; i++ {
		time.Sleep(pause)
		<-from
	}
}

func receives(from chan int) {
	defer finish("receives", time.Now())
	for i := 0; i < rounds; i++ {
		<-from
	}
}

func sends(to chan int) {
	defer finish("sends", time.Now())
	for i := 0; i < rounds; i++ {
		to <- i
	}
}

func selects(one, other chan int) {
	defer finish("selects", time.Now())
	for i := 0; i < rounds; i++ {
		select {
		case <-one:
		case <-other:
		}
	}
}

func sleeps() {
	defer finish("sleeps", time.Now())
	for i := 0; i < rounds; i++ {
		time.Sleep(pause)
	}
}

// locks waits for a mutex that another goroutine has taken each time before.
func locks() {
	defer finish("locks", time.Now())
	for i := 0; i < rounds; i++ {
		var mu sync.Mutex
		mu.Lock()
		go unlocks(&mu)
		mu.Lock()
	}
}

func unlocks(mu *sync.Mutex) {
	time.Sleep(pause)
	mu.Unlock()
}

func waits() {
	defer finish("waits", time.Now())
	for i := 0; i < rounds; i++ {
		var wg sync.WaitGroup
		wg.Add(1)
		go counts(&wg)
		wg.Wait()
	}
}

func counts(wg *sync.WaitGroup) {
	time.Sleep(pause)
	wg.Done()
}

func conds() {
	defer finish("conds", time.Now())
	c := sync.NewCond(new(sync.Mutex))
	for i := 0; i < rounds; i++ {
		c.L.Lock()
		go signals(c)
		c.Wait()
		c.L.Unlock()
	}
}

func signals(c *sync.Cond) {
	time.Sleep(pause)
	c.L.Lock()
	c.Signal()
	c.L.Unlock()
}

// reads blocks in read(2).
func reads() {
	var fds [2]int
	check(syscall.Pipe(fds[:]))
	defer finish("reads", time.Now())
	for i := 0; i < rounds; i++ {
		go writes(fds[1])
		_, err := syscall.Read(fds[0], make([]byte, 1))
		check(err)
	}
}

func writes(fd int) {
	time.Sleep(pause)
	_, err := syscall.Write(fd, []byte{1})
	check(err)
}

// accepts waits for the network poller.
func accepts() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	defer finish("accepts", time.Now())
	for i := 0; i < rounds; i++ {
		go dials(l.Addr().String())
		c, err := l.Accept()
		check(err)
		check(c.Close())
	}
}

func dials(to string) {
	time.Sleep(pause)
	c, err := net.Dial("tcp", to)
	check(err)
	check(c.Close())
}

// burns spends CPU time, on a thread of its own.
func burns() {
	runtime.LockOSThread()
	begin := cpuTime()
	defer finish("burns", time.Now())
	for n := 0; cpuTime()-begin < rounds*pause/2; n++ {
		for i := 0; i < 100000; i++ {
			sink += i
		}
	}
	burnt = cpuTime() - begin
}

var sink int

// cpuTime is that of the calling thread.
func cpuTime() time.Duration {
	const thisThread = 1 // RUSAGE_THREAD
	var u syscall.Rusage
	check(syscall.Getrusage(thisThread, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "testprog:", err)
		os.Exit(1)
	}
}
