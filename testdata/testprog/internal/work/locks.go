package work

import (
	"runtime"
	"sync"
)

// mutexStates are the states of a goroutine that waits for a sync.Mutex: since
// Go 1.20, and before.
var mutexStates = []string{"sync.Mutex.Lock", "semacquire"}

// Mutex makes a goroutine wait n times for a lock that the caller holds, then
// lets four goroutines compete for it.
//
//	count lock_waits  n: parks of goroutine locker with "sync.Mutex.Lock"
//	                  ("semacquire" in Go 1.18 and 1.19), each ended by holder
//	goid locker, holder
//	count contenders  4 goroutines, created at the site "contend"
func Mutex(n int) {
	var mu sync.Mutex
	ids := make(chan int)
	turn := make(chan bool)
	go func() {
		ids <- goid()
		for range turn {
			mu.Lock()
			mu.Unlock()
			ids <- 0
		}
		ids <- 0
	}()
	locker := <-ids
	for i := 0; i < n; i++ {
		mu.Lock()
		turn <- true
		waitState(locker, mutexStates...)
		mu.Unlock()
		<-ids
	}
	close(turn)
	<-ids
	report("locker", locker)
	report("holder", goid())
	count("lock_waits", n)
	contend(&mu, n)
}

// contend has four goroutines hold the lock across a Gosched.
func contend(mu *sync.Mutex, n int) {
	const contenders = 4
	var wg sync.WaitGroup
	for i := 0; i < contenders; i++ {
		wg.Add(1)
		go func() { // site: contend
			for i := 0; i < n; i++ {
				mu.Lock()
				runtime.Gosched()
				mu.Unlock()
			}
			wg.Done()
		}()
	}
	wg.Wait()
	count("contenders", contenders)
}

// Yield calls runtime.Gosched n times on one goroutine.
//
//	count gosched  n: changes of goroutine yielder from running to runnable,
//	               besides those by preemption
//	goid yielder
func Yield(n int) {
	ids := make(chan int)
	go func() {
		id := goid()
		for i := 0; i < n; i++ {
			runtime.Gosched()
		}
		ids <- id
	}()
	report("yielder", <-ids)
	count("gosched", n)
}

// Locked hands a token between a goroutine that is locked to its thread and one
// that is not, n times.
//
//	count locked_rounds  n
//	goid locked          runs on one thread from its first handoff on
func Locked(n int) {
	there, back := make(chan int), make(chan int)
	go func() {
		runtime.LockOSThread() // never undone: the thread ends with the goroutine
		back <- goid()
		for i := range there {
			back <- i
		}
		close(back)
	}()
	id := <-back
	for i := 0; i < n; i++ {
		there <- i
		<-back
	}
	close(there)
	<-back
	report("locked", id)
	count("locked_rounds", n)
}
