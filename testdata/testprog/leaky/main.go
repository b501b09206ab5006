// Command leaky leaks goroutines at known rates in the ways that servers do, and
// has as many that only look like it. Comments "// site: KEY" mark the go
// statements: keys that begin with "leak-" are leaks, those with "ok-" are not.
//
// It prints "ready" when all of it has gone on for a while, and then obeys the
// lines on its stdin:
//
//	grow         makes a pool of workers larger, once, then prints "grown"
//	leakprofile  has the runtime look for leaked goroutines, where it can, then
//	             prints "leaked N", 0 where it cannot
//
// The end of stdin ends it.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"time"
)

// The rates, in goroutines per second. The test knows them.
const (
	abandonedRate = 40
	globalRate    = 20
	sleeperRate   = 20
	tickerRate    = 20
	retryRate     = 20
	mixedRate     = 100 // one in five leaks
	briefRate     = 1000
	lastingRate   = 40
)

var (
	global  = make(chan int) // nobody sends
	grown   = make(chan int)
	jobs    = make(chan int)
	results = make(chan int, 1)
)

// every calls f rate times a second. It catches up when it was late.
func every(rate int, f func(n int)) {
	start := time.Now()
	for n := 0; ; n++ {
		due := start.Add(time.Duration(n) * time.Second / time.Duration(rate))
		time.Sleep(time.Until(due))
		f(n)
	}
}

func work() int {
	time.Sleep(time.Millisecond)
	return 1
}

// handler gives up before its goroutine has an answer, which then has nobody to
// send it to.
func handler(int) {
	answer := make(chan int)
	go func() { answer <- work() }() // site: leak-abandoned
	select {
	case <-answer:
	case <-time.After(time.Microsecond):
	}
}

func subscribe(int) {
	go func() { <-global }() // site: leak-global
}

func heartbeat(int) {
	go func() { // site: leak-sleeper
		for {
			time.Sleep(30 * time.Millisecond)
		}
	}()
}

func tick(int) {
	go func() { // site: leak-ticker
		t := time.NewTicker(20 * time.Millisecond)
		for range t.C {
			work()
		}
	}()
}

// retry waits twice as long each time, and never gives up.
func retry(int) {
	go func() { // site: leak-retry
		for wait := time.Millisecond; ; wait *= 2 {
			select {
			case <-global:
				return
			case <-time.After(wait):
			}
		}
	}()
}

// mixed is a site of which most goroutines do well.
func mixed(n int) {
	go func() { // site: leak-mixed
		if n%5 == 0 {
			<-global
		}
		work()
	}()
}

func neverReady() {
	var c chan int
	for i := 0; i < 3; i++ {
		go func() { c <- 1 }() // site: leak-nil
	}
}

func brief(int) {
	go work() // site: ok-brief
}

// lasting goroutines end, but live longer than the time between two snapshots of
// a short watch.
func lasting(int) {
	go time.Sleep(1500 * time.Millisecond) // site: ok-lasting
}

func pool() {
	for i := 0; i < 50; i++ {
		go func() { // site: ok-pool
			for j := range jobs {
				results <- j
			}
		}()
	}
	go every(100, func(n int) { // site: ok-feeder
		jobs <- n
		<-results
	})
}

// idle workers wait for work that does not come.
func idle() {
	for i := 0; i < 150; i++ {
		go func() { <-grown }() // site: ok-idle
	}
}

func grow() {
	for i := 0; i < 30; i++ {
		go func() { <-grown }() // site: ok-grown
	}
}

func serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() { // site: ok-connection
			io.Copy(io.Discard, c)
			c.Close()
		}()
	}
}

func network() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go serve(l)              // site: ok-accept
	go every(50, func(int) { // site: ok-client
		if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
			time.AfterFunc(100*time.Millisecond, func() { c.Close() })
		}
	})
}

// leakProfile counts the goroutines that the runtime found to be leaked. They stay
// marked until the next garbage collection, so there is none.
func leakProfile() int {
	p := pprof.Lookup("goroutineleak")
	if p == nil {
		return 0
	}
	debug.SetGCPercent(-1)
	if err := p.WriteTo(io.Discard, 0); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return p.Count()
}

func main() {
	runtime.GOMAXPROCS(2)
	neverReady()
	pool()
	idle()
	network()
	go every(abandonedRate, handler)
	go every(globalRate, subscribe)
	go every(sleeperRate, heartbeat)
	go every(tickerRate, tick)
	go every(retryRate, retry)
	go every(mixedRate, mixed)
	go every(briefRate, brief)
	go every(lastingRate, lasting)
	time.Sleep(2 * time.Second)
	fmt.Println("ready")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case "grow":
			grow()
			fmt.Println("grown")
		case "leakprofile":
			fmt.Println("leaked", leakProfile())
		}
	}
}
