package main

import (
	"bytes"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"
)

func runtimeParts() []*part {
	return []*part{{name: "notify", run: notify}, {name: "stop", run: stops}, {name: "sweep", run: sweeps}}
}

// notify sends itself signals, and gets each.
func notify(done func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	for {
		if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
			wrong("kill: %v", err)
		}
		if got := <-c; got != syscall.SIGUSR1 {
			wrong("signal %v", got)
		}
		done()
		time.Sleep(2 * time.Millisecond)
	}
}

// stops stops the world: for the counts of the heap, and for the stacks of all goroutines.
func stops(done func()) {
	buf := make([]byte, 1<<20)
	for {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if m.HeapAlloc == 0 || m.Mallocs < m.Frees {
			wrong("memory: %d bytes, %d made, %d freed", m.HeapAlloc, m.Mallocs, m.Frees)
		}
		if stacks := buf[:runtime.Stack(buf, true)]; !bytes.Contains(stacks, []byte("main.stops")) {
			wrong("the stacks of all goroutines are without this one's:\n%.1000s", stacks)
		}
		done()
		time.Sleep(20 * time.Millisecond)
	}
}

// sweeps turns the collector off and on, and gives memory back to the kernel.
func sweeps(done func()) {
	for {
		debug.SetGCPercent(-1)
		keep := grow(8, 1)
		want := keep.total()
		debug.SetGCPercent(50)
		debug.FreeOSMemory()
		if got := keep.total(); got != want {
			wrong("a tree sums to %d after a collection, made with %d", got, want)
		}
		done()
		time.Sleep(100 * time.Millisecond)
	}
}
