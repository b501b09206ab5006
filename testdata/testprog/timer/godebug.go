//go:build go1.23

// The go.mod of go 1.18 would choose the timer channels of before Go 1.23.
//
//go:debug asynctimerchan=0
package main
