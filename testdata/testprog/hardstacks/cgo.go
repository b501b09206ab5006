//go:build cgo

package main

// static int twice(int n) { return 2 * n; }
import "C"

func foreign(int) {
	if C.twice(C.int(len(here("cgo", make([]byte, 4))))) != 8 {
		panic("twice")
	}
}
