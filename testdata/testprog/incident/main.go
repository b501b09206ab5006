// Command incident does little, and then something that is worth recording:
//
//	incident MODE DELAY
//
// After DELAY it prints "now" and begins with MODE, which lasts until the end of its
// standard input:
//
//	calm        nothing changes
//	runnable    300 goroutines become runnable at once, five times a second
//	latency     one P and 40 goroutines that never yield: each queues for 0.4 s
//	goroutines  50 more goroutines that wait, ten times a second
//	created     200 goroutines come and go, 50 times a second
//	syscall     30 goroutines that are in a system call
//	mutex       8 goroutines take turns with a mutex, for 60 ms each
//	io          a goroutine waits for a pipe, for 50 ms each time
//	running     two goroutines that never yield
//	panic       the program crashes
//	fast        two goroutines wake each other as fast as they can
package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"testprog/internal/work"
)

var modes = map[string]func(){
	"calm": func() {}, "runnable": herd, "latency": hogs, "goroutines": grow, "created": spawn,
	"syscall": reads, "mutex": locks, "io": pipes, "running": func() { spin(2) }, "panic": func() { panic("incident") },
	"fast": func() { work.PingPong(1 << 30) },
}

func main() {
	mode := modes[os.Args[1]]
	delay, err := time.ParseDuration(os.Args[2])
	if mode == nil || err != nil {
		fmt.Fprintln(os.Stderr, "usage: incident MODE DELAY")
		os.Exit(2)
	}
	for i := 0; i < 20; i++ {
		go func() {
			for {
				time.Sleep(20 * time.Millisecond)
			}
		}()
	}
	go func() {
		time.Sleep(delay)
		fmt.Println("now")
		mode()
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func herd() {
	for {
		start := make(chan bool)
		for i := 0; i < 300; i++ {
			go func() { <-start }()
		}
		time.Sleep(200 * time.Millisecond)
		close(start)
	}
}

func hogs() {
	runtime.GOMAXPROCS(1)
	spin(40)
}

func spin(n int) {
	for i := 0; i < n; i++ {
		go func() {
			for {
			}
		}()
	}
}

func grow() {
	for {
		for i := 0; i < 50; i++ {
			go func() { select {} }()
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func spawn() {
	for {
		for i := 0; i < 200; i++ {
			go func() {}()
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// reads makes system calls that the runtime knows nothing of but that they are made.
func reads() {
	for i := 0; i < 30; i++ {
		go func() {
			var p [2]int
			if err := syscall.Pipe(p[:]); err != nil {
				panic(err)
			}
			_, _ = syscall.Read(p[0], make([]byte, 1))
		}()
	}
}

func locks() {
	var mu sync.Mutex
	for i := 0; i < 8; i++ {
		go func() {
			for {
				mu.Lock()
				time.Sleep(60 * time.Millisecond)
				mu.Unlock()
			}
		}()
	}
}

func pipes() {
	r, w, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, r)
	}()
	for {
		time.Sleep(50 * time.Millisecond)
		_, _ = w.Write([]byte("x"))
	}
}
