//go:build cgo && !nocgocode

package work

import "C"

import "sync/atomic"

// threadGoID is the goroutine that the last callback on a C thread ran on.
var threadGoID int32

//export workCallback
func workCallback(onThread int32) {
	if onThread != 0 {
		atomic.StoreInt32(&threadGoID, int32(goid()))
	}
}
