//go:build cgo && !nocgocode

package main

/*
extern void stacksCallback(void *p);
static void nop(void) {}
static void callback(void *p) { stacksCallback(p); }
*/
import "C"

import "unsafe"

func doC(*part) { C.nop() }

// callC calls C n times.
func callC(n int) func(p *part) {
	return func(p *part) {
		for i := 0; i < n; i++ {
			doC(p.note("cgo", "exact"))
		}
	}
}

var called *part

// callBack has C call Go, which parks.
func callBack(p *part) {
	called = p
	C.callback(unsafe.Pointer(nil))
}

//export stacksCallback
func stacksCallback(unsafe.Pointer) {
	doSleep(called.note("sleep", "prefix"))
}
