//go:build cgo && !nocgocode

package work

/*
#cgo LDFLAGS: -lpthread
#include <pthread.h>
#include <stdint.h>

extern void workCallback(int32_t onThread);

static void nop(void) {}

static void callback(void) { workCallback(0); }

static void *thread(void *arg) {
	for (intptr_t i = 0; i < (intptr_t)arg; i++)
		workCallback(1);
	return 0;
}

static int runThread(int32_t callbacks) {
	pthread_t t;
	int err = pthread_create(&t, 0, thread, (void *)(intptr_t)callbacks);
	return err ? err : pthread_join(t, 0);
}
*/
import "C"

import (
	"fmt"
	"os"
	"sync/atomic"
)

// Cgo calls C n times, has C call back n times on the same goroutine, and n
// times on a thread that C made.
//
//	count cgo_calls             3n+1: changes of goroutine cgo_caller from running
//	                            to syscall (n calls, two for each of n callbacks,
//	                            one around the thread)
//	count cgo_thread_callbacks  n: changes of goroutine cgo_thread from syscall to
//	                            running
//	goid cgo_caller, cgo_thread
func Cgo(n int) {
	ids := make(chan int)
	go func() {
		for i := 0; i < n; i++ {
			C.nop()
		}
		for i := 0; i < n; i++ {
			C.callback()
		}
		if e := C.runThread(C.int32_t(n)); e != 0 {
			fmt.Fprintln(os.Stderr, "testprog: pthread:", e)
			os.Exit(1)
		}
		ids <- goid()
	}()
	report("cgo_caller", <-ids)
	report("cgo_thread", int(atomic.LoadInt32(&threadGoID)))
	count("cgo_calls", 3*n+1)
	count("cgo_thread_callbacks", n)
}
