// Command truth waits in known ways and measures each wait itself, by the clock around
// it. It prints, one line for each way:
//
//	truth KEY COUNT TOTAL MAX P50
//
// COUNT waits took TOTAL ns together, the longest MAX and half of them P50 or less. The
// go statements of the goroutines that wait end in "// site: KEY".
package main

import (
	"fmt"
	"os"
	"runtime"
	"sort"
	"sync"
	"syscall"
	"time"

	"testprog/internal/work"
)

const rounds = 100

func main() {
	work.Wait()
	mutexes()
	channels()
	selects()
	sleeps()
	brief()
	var stops, mem truth
	stops.wait(func() { runtime.GOMAXPROCS(1) })
	queue()
	syscalls()
	for i := 0; i < 5; i++ {
		runtime.GC()
	}
	var stats runtime.MemStats
	mem.wait(func() { runtime.ReadMemStats(&stats) })
	stops.print("gomaxprocs")
	mem.print("memstats")
	fmt.Println("count num_gc", stats.NumGC)
	fmt.Println("count pause_ns", stats.PauseTotalNs)
}

// truth is how long each wait took, in ns.
type truth []int64

func (t *truth) wait(f func()) {
	begin := time.Now()
	f()
	*t = append(*t, int64(time.Since(begin)))
}

func (t truth) print(key string) {
	sort.Slice(t, func(i, j int) bool { return t[i] < t[j] })
	var total int64
	for _, ns := range t {
		total += ns
	}
	fmt.Println("truth", key, len(t), total, t[len(t)-1], t[(len(t)-1)/2])
}

// mutexes has one goroutine hold a mutex for 10 ms, again and again, while the other
// waits for it.
func mutexes() {
	var mu sync.Mutex
	locked, next, done := make(chan bool), make(chan bool), make(chan truth)
	go func() { // site: mutex_holder
		for i := 0; i < rounds; i++ {
			mu.Lock()
			locked <- true
			time.Sleep(10 * time.Millisecond)
			mu.Unlock()
			<-next
		}
	}()
	go func() { // site: mutex
		var t truth
		for i := 0; i < rounds; i++ {
			<-locked
			t.wait(mu.Lock)
			mu.Unlock()
			next <- true
		}
		done <- t
	}()
	(<-done).print("mutex")
}

// channels feeds a channel every 5 ms.
func channels() {
	ch, done := make(chan int), make(chan truth)
	go func() { // site: chan_feeder
		for i := 0; i < rounds; i++ {
			time.Sleep(5 * time.Millisecond)
			ch <- i
		}
	}()
	go func() { // site: chan
		var t truth
		for i := 0; i < rounds; i++ {
			t.wait(func() { <-ch })
		}
		done <- t
	}()
	(<-done).print("chan")
}

// selects feeds one of two channels every 5 ms.
func selects() {
	ch, done := [2]chan int{make(chan int), make(chan int)}, make(chan truth)
	go func() { // site: select_feeder
		for i := 0; i < rounds; i++ {
			time.Sleep(5 * time.Millisecond)
			ch[i%2] <- i
		}
	}()
	go func() { // site: select
		var t truth
		for i := 0; i < rounds; i++ {
			t.wait(func() {
				select {
				case <-ch[0]:
				case <-ch[1]:
				}
			})
		}
		done <- t
	}()
	(<-done).print("select")
}

func sleeps() {
	done := make(chan truth)
	go func() { // site: sleep
		var t truth
		for i := 0; i < rounds; i++ {
			t.wait(func() { time.Sleep(3 * time.Millisecond) })
		}
		done <- t
	}()
	(<-done).print("sleep")
}

// brief starts goroutines that live for a millisecond or so.
func brief() {
	done := make(chan truth)
	var all truth
	for i := 0; i < rounds; i++ {
		go func() { // site: brief
			var t truth
			t.wait(func() { time.Sleep(time.Millisecond) })
			done <- t
		}()
		all = append(all, <-done...)
	}
	all.print("brief")
}

// queue has 50 goroutines take turns on the one P that there is, 200 µs each: each waits
// for the 49 others.
func queue() {
	const depth, turns = 50, 20
	done := make(chan truth)
	for i := 0; i < depth; i++ {
		go func() { // site: queue
			var t truth
			for j := 0; j < turns; j++ {
				for begin := time.Now(); time.Since(begin) < 200*time.Microsecond; {
				}
				t.wait(runtime.Gosched)
			}
			done <- t
		}()
	}
	var all truth
	for i := 0; i < depth; i++ {
		all = append(all, <-done...)
	}
	all.print("queue")
}

// syscalls has a goroutine block in the system call read, on the one P that there is,
// until another goroutine writes 5 ms later. Package os would wait in the network poller.
func syscalls() {
	var fds [2]int
	check(syscall.Pipe(fds[:]))
	again, done := make(chan bool), make(chan truth)
	go func() { // site: syscall_feeder
		for range again {
			time.Sleep(5 * time.Millisecond)
			_, err := syscall.Write(fds[1], []byte{1})
			check(err)
		}
	}()
	go func() { // site: syscall
		var t truth
		b := make([]byte, 1)
		for i := 0; i < rounds; i++ {
			again <- true
			t.wait(func() {
				_, err := syscall.Read(fds[0], b)
				check(err)
			})
		}
		done <- t
	}()
	(<-done).print("syscall")
	close(again)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "testprog:", err)
		os.Exit(1)
	}
}
