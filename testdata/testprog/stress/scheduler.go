package main

import (
	"bytes"
	"io"
	"math"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"
)

func schedulerParts() []*part {
	var parts []*part
	for i := 0; i < 4; i++ {
		parts = append(parts, &part{name: "pingpong", run: pingPong})
	}
	return append(parts,
		&part{name: "gc", run: collect}, &part{name: "profile", run: profile}, &part{name: "timers", run: timers},
		&part{name: "locks", run: locks}, &part{name: "spin", run: spin}, &part{name: "stack", run: growStack},
		&part{name: "spawn", run: spawn}, &part{name: "select", run: selects}, &part{name: "procs", run: procs},
		&part{name: "threads", run: threads}, &part{name: "panic", run: panics}, &part{name: "float", run: floats})
}

// pingPong passes a number to and fro, which each side increments. It rests at times:
// two of these and a tracer share two CPUs.
func pingPong(done func()) {
	there, back := make(chan int), make(chan int)
	go func() {
		for n := range there {
			back <- n + 1
		}
	}()
	for n := 0; ; {
		for i := 0; i < 1000; i++ {
			there <- n
			if got := <-back; got != n+1 {
				wrong("ping-pong: sent %d, got %d", n, got)
			}
			n++
		}
		done()
		time.Sleep(2 * time.Millisecond)
	}
}

type tree struct {
	left, right *tree
	sum         int
}

func grow(depth, seed int) *tree {
	t := &tree{sum: seed}
	if depth > 0 {
		t.left, t.right = grow(depth-1, seed+1), grow(depth-1, seed+2)
	}
	return t
}

func (t *tree) total() int {
	if t == nil {
		return 0
	}
	return t.sum + t.left.total() + t.right.total()
}

// collect makes garbage, keeps some, and looks whether that is still whole.
func collect(done func()) {
	keep := grow(10, 1)
	want := keep.total()
	for i := 0; ; i++ {
		if got := grow(8, i).total(); got != grow(8, i).total() {
			wrong("a tree that was just made sums to %d", got)
		}
		if i%20 == 0 {
			debug.SetGCPercent(20 + i%200)
			runtime.GC()
		}
		if got := keep.total(); got != want {
			wrong("a tree sums to %d, made with %d", got, want)
		}
		done()
		time.Sleep(time.Millisecond)
	}
}

// profile has the CPU profiler on half of the time.
func profile(done func()) {
	for {
		if err := pprof.StartCPUProfile(io.Discard); err != nil {
			wrong("profile: %v", err)
		}
		time.Sleep(300 * time.Millisecond)
		pprof.StopCPUProfile()
		done()
		time.Sleep(300 * time.Millisecond)
	}
}

// timers looks whether timers come neither early nor out of order.
func timers(done func()) {
	for {
		var wg sync.WaitGroup
		for i := 1; i <= 50; i++ {
			wg.Add(1)
			d := time.Duration(i) * 200 * time.Microsecond
			start := time.Now()
			time.AfterFunc(d, func() {
				if got := time.Since(start); got < d {
					wrong("a timer of %v came after %v", d, got)
				}
				wg.Done()
			})
		}
		wg.Wait()
		done()
	}
}

// locks has four goroutines count under a Mutex, an RWMutex and a Cond.
func locks(done func()) {
	for {
		var mu sync.Mutex
		var rw sync.RWMutex
		cond := sync.NewCond(&mu)
		a, b, turn := 0, 0, 0
		var wg sync.WaitGroup
		for g := 0; g < 4; g++ {
			g := g
			wg.Add(1)
			go func() {
				defer wg.Done()
				for i := 0; i < 50; i++ {
					mu.Lock()
					for turn%4 != g {
						cond.Wait()
					}
					turn++
					a++
					cond.Broadcast()
					mu.Unlock()
					rw.Lock()
					b++
					rw.Unlock()
					rw.RLock()
					_ = b
					rw.RUnlock()
				}
			}()
		}
		wg.Wait()
		if a != 200 || b != 200 {
			wrong("counted %d and %d, not 200", a, b)
		}
		done()
		time.Sleep(2 * time.Millisecond)
	}
}

// spin never calls anything for a while: only a signal preempts it.
func spin(done func()) {
	for {
		n := uint64(1)
		for i := 0; i < 2000000; i++ {
			n = n*6364136223846793005 + 1442695040888963407
		}
		if n != spun {
			wrong("spun to %d, not %d", n, spun)
		}
		done()
		time.Sleep(20 * time.Millisecond)
	}
}

var spun = func() uint64 {
	n := uint64(1)
	for i := 0; i < 2000000; i++ {
		n = n*6364136223846793005 + 1442695040888963407
	}
	return n
}()

// deep needs more stack with each call, so that it is copied.
func deep(n int) int {
	var pad [128]int
	pad[n%128] = n
	if n == 0 {
		return 0
	}
	return deep(n-1) + pad[n%128]
}

func growStack(done func()) {
	for {
		result := make(chan int)
		go func() { result <- deep(500) }()
		if got := <-result; got != 500*501/2 {
			wrong("a deep recursion gave %d", got)
		}
		done()
		time.Sleep(time.Millisecond)
	}
}

// spawn starts many goroutines that live for a moment.
func spawn(done func()) {
	for {
		var sum int64
		var wg sync.WaitGroup
		for i := 0; i < 500; i++ {
			wg.Add(1)
			go func(i int) {
				atomic.AddInt64(&sum, int64(i))
				wg.Done()
			}(i)
		}
		wg.Wait()
		if sum != 499*500/2 {
			wrong("500 goroutines summed to %d", sum)
		}
		done()
		time.Sleep(3 * time.Millisecond)
	}
}

// selects waits on several channels at once.
func selects(done func()) {
	chans := [4]chan int{make(chan int), make(chan int), make(chan int, 3), make(chan int)}
	for i := range chans {
		i := i
		go func() {
			for n := 0; ; n++ {
				chans[i] <- n
			}
		}()
	}
	var next [4]int
	for {
		for k := 0; k < 400; k++ {
			var which, n int
			select {
			case n = <-chans[0]:
				which = 0
			case n = <-chans[1]:
				which = 1
			case n = <-chans[2]:
				which = 2
			case n = <-chans[3]:
				which = 3
			}
			if n != next[which] {
				wrong("select: %d from channel %d, not %d", n, which, next[which])
			}
			next[which]++
		}
		done()
		time.Sleep(2 * time.Millisecond)
	}
}

// procs changes how many Ps there are.
func procs(done func()) {
	for i := 0; ; i++ {
		runtime.GOMAXPROCS(1 + i%4)
		done()
		time.Sleep(25 * time.Millisecond)
	}
}

// threads has goroutines that keep a thread and end with it.
func threads(done func()) {
	for {
		var wg sync.WaitGroup
		for i := 0; i < 3; i++ {
			wg.Add(1)
			go func() {
				runtime.LockOSThread()
				time.Sleep(time.Millisecond)
				wg.Done()
			}()
		}
		wg.Wait()
		done()
		time.Sleep(5 * time.Millisecond)
	}
}

func panics(done func()) {
	for {
		func() {
			defer func() {
				if r := recover(); r == nil {
					wrong("a nil pointer did not panic")
				}
			}()
			var t *tree
			t.sum++
		}()
		done()
		time.Sleep(5 * time.Millisecond)
	}
}

// floats keeps values in floating point registers while it is interrupted.
func floats(done func()) {
	compute := func() float64 {
		x := 1.0
		for i := 1; i < 20000; i++ {
			x = math.Sqrt(x*float64(i)) + 1/float64(i)
		}
		return x
	}
	want := compute()
	var buf bytes.Buffer
	for {
		if got := compute(); got != want {
			wrong("floating point: %v, not %v", got, want)
		}
		buf.Reset()
		done()
		time.Sleep(time.Millisecond)
	}
}
