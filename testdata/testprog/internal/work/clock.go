package work

import "time"

// Sleep sleeps n times for a millisecond.
//
//	count sleeps  n: parks of goroutine sleeper with "sleep", each 1 ms or more
//	goid sleeper
func Sleep(n int) {
	ids := make(chan int)
	go func() {
		id := goid()
		for i := 0; i < n; i++ {
			time.Sleep(time.Millisecond)
		}
		ids <- id
	}()
	report("sleeper", <-ids)
	count("sleeps", n)
}

// Timer waits for n functions that timers start, one after the other, and for n
// timers' channels.
//
//	count timers  n goroutines, created by time.goFunc, started in a function of
//	              Timer; their parent is the scheduler, not a goroutine
func Timer(n int) {
	fired := make(chan bool)
	for i := 0; i < n; i++ {
		time.AfterFunc(time.Millisecond, func() { fired <- true })
		<-fired
		<-time.After(time.Millisecond)
	}
	count("timers", n)
}
