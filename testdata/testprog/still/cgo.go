//go:build cgo && !nocgocode

package main

/*
#include <pthread.h>
#include <unistd.h>

extern void goParks(void);

static void holdInC(void) { pause(); }
static void callBack(void) { goParks(); }
*/
import "C"

import "time"

//export goParks
func goParks() { park() }

// withC parks a goroutine in C code, and one in Go code that C code called.
func withC() {
	start(func() { C.holdInC() })
	start(func() { C.callBack() })
	time.Sleep(50 * time.Millisecond)
}
