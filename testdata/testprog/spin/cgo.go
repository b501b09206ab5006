//go:build cgo && !nocgocode

package main

// int spin_one(void) { return 1; }
import "C"

func init() { sink = uint64(C.spin_one()) }
