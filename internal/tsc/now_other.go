//go:build !amd64

package tsc

// Now is 0: there is no counter that this package reads here, and Check says so.
func Now() uint64 { return 0 }
