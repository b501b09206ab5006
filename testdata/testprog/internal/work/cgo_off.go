//go:build !cgo || nocgocode

package work

// Cgo does nothing in a program without C code.
func Cgo(int) {}
