//go:build go1.23

package work

import "iter"

// Coro takes n values from an iter.Pull iterator and stops it.
//
//	count coro_switches  2n+2: the caller enters the coroutine n+1 times (the
//	                     last to stop it) and is entered as often. All but the
//	                     coroutine's end park with "coroutine": 2n+1.
//	goid coro_caller, coro
func Coro(n int) {
	ids := make(chan int)
	go func() {
		var coro int
		next, stop := iter.Pull(func(yield func(int) bool) {
			coro = goid()
			for i := 0; yield(i); i++ {
			}
		})
		for i := 0; i < n; i++ {
			next()
		}
		stop()
		ids <- goid()
		ids <- coro
	}()
	report("coro_caller", <-ids)
	report("coro", <-ids)
	count("coro_switches", 2*n+2)
}
