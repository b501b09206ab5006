package work

import (
	"runtime"
	"sync"
	"time"
)

// PingPong hands a token to and fro between two goroutines, n round trips over
// unbuffered channels.
//
//	count handoffs   2n. Of the two sides of a handoff exactly one parks, with
//	                 "chan receive" or "chan send", and the other wakes it. So
//	                 ping and pong park 2n times together for these reasons,
//	                 and wake each other 2n times.
//	goid ping, pong  the two goroutines
func PingPong(n int) {
	there, back := make(chan int), make(chan int)
	var ping, pong int
	var wg sync.WaitGroup
	wg.Add(2)
	go pinger(n, there, back, &ping, &wg) // site: ping
	go ponger(n, there, back, &pong, &wg) // site: pong
	wg.Wait()
	report("ping", ping)
	report("pong", pong)
	count("handoffs", 2*n)
}

func pinger(n int, there chan<- int, back <-chan int, id *int, wg *sync.WaitGroup) {
	*id = goid()
	for i := 0; i < n; i++ {
		there <- i
		<-back
	}
	wg.Done()
}

func ponger(n int, there <-chan int, back chan<- int, id *int, wg *sync.WaitGroup) {
	*id = goid()
	for i := 0; i < n; i++ {
		back <- <-there
	}
	wg.Done()
}

// Spawn starts n goroutines by one go statement, all from the calling one.
//
//	count goroutines  n: created by the line with the site "spawn", started in
//	                  spawned, each ending by itself
//	goid spawner      the goroutine with the go statement
func Spawn(n int) {
	report("spawner", goid())
	var wg sync.WaitGroup
	for i := 0; i < n; i++ {
		wg.Add(1)
		go spawned(&wg) // site: spawn
	}
	wg.Wait()
	count("goroutines", n)
}

func spawned(wg *sync.WaitGroup) { wg.Done() }

// Generations keeps n goroutines alive until it is killed. Each lives for 5 ms and then starts
// another. For a moment both are there: never more than 2 n are.
func Generations(n int) {
	for i := 0; i < n; i++ {
		go generation()
	}
	select {}
}

func generation() {
	time.Sleep(5 * time.Millisecond)
	go generation()
}

// Parked keeps n goroutines in one receive each until it is killed, while ten others sleep for
// 50 ms again and again, two hand a value to and fro, and the garbage is collected a hundred
// times a second.
func Parked(n int) {
	ever := make(chan int)
	for i := 0; i < n; i++ {
		go held(ever)
	}
	for i := 0; i < 10; i++ {
		go func() {
			for {
				time.Sleep(50 * time.Millisecond)
			}
		}()
	}
	there, back := make(chan int), make(chan int)
	go func() {
		for v := range there {
			back <- v
		}
	}()
	go func() {
		for {
			there <- 1
			<-back
		}
	}()
	for range time.Tick(10 * time.Millisecond) {
		runtime.GC()
	}
}

func held(ever chan int) { <-ever }
