// Command fatal ends in a fatal error of the runtime, which kills it while the
// goroutine that made it has left its stack for that of its thread.
package main

import "sync"

//go:noinline
func unlock(mu *sync.Mutex) { mu.Unlock() }

func main() {
	go unlock(new(sync.Mutex))
	select {}
}
