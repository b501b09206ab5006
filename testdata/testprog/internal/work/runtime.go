package work

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// garbage keeps an allocation reachable, so that it is one.
var garbage []byte

// GC allocates and forces a garbage collection, n times.
//
//	count gc      collections since the program began (n and any by allocation):
//	              each stops the world twice
//	goid gcforcer
func GC(n int) {
	for i := 0; i < n; i++ {
		garbage = make([]byte, 1<<20)
		runtime.GC()
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	report("gcforcer", goid())
	count("gc", int(stats.NumGC))
}

// Preempt spins on more goroutines than there are Ps for n milliseconds, and
// collects garbage meanwhile.
//
//	count spinners  goroutines created at the site "spin"; they lose their P only
//	                by preemption
func Preempt(n int) {
	var stop int32
	var wg sync.WaitGroup
	spinners := runtime.GOMAXPROCS(0) + 2
	for i := 0; i < spinners; i++ {
		wg.Add(1)
		go spin(&stop, &wg) // site: spin
	}
	for begin := time.Now(); time.Since(begin) < time.Duration(n)*time.Millisecond; {
		time.Sleep(time.Millisecond)
		runtime.GC()
	}
	atomic.StoreInt32(&stop, 1)
	wg.Wait()
	count("spinners", spinners)
}

func spin(stop *int32, wg *sync.WaitGroup) {
	for atomic.LoadInt32(stop) == 0 {
	}
	wg.Done()
}
