//go:build cgo && !nocgocode

package main

/*
#cgo LDFLAGS: -lpthread
#include <pthread.h>
#include <stdint.h>
#include <unistd.h>

extern int64_t stressCallback(int64_t n);

static int64_t twice(int64_t n) { usleep(50); return 2 * n; }

static int64_t back(int64_t n) { return stressCallback(n); }

static void *thread(void *arg) {
	int64_t sum = 0;
	for (int64_t i = 0; i < 20; i++)
		sum += stressCallback(i);
	*(int64_t *)arg = sum;
	return 0;
}

static int64_t onThread(void) {
	pthread_t t;
	int64_t sum = -1;
	if (pthread_create(&t, 0, thread, &sum) || pthread_join(t, 0))
		return -1;
	return sum;
}
*/
import "C"

import "time"

func cgoParts() []*part {
	return []*part{{name: "cgo", run: calls}, {name: "cthread", run: cThreads}}
}

//export stressCallback
func stressCallback(n C.int64_t) C.int64_t {
	c := make(chan C.int64_t)
	go func() { c <- n + 1 }()
	return <-c
}

func calls(done func()) {
	for i := C.int64_t(0); ; i++ {
		if got := C.twice(i); got != 2*i {
			wrong("C gave %d for %d", got, i)
		}
		if got := C.back(i); got != i+1 {
			wrong("a callback gave %d for %d", got, i)
		}
		done()
		time.Sleep(time.Millisecond)
	}
}

func cThreads(done func()) {
	for {
		if got := C.onThread(); got != 210 {
			wrong("callbacks of a thread summed to %d", got)
		}
		done()
		time.Sleep(3 * time.Millisecond)
	}
}
