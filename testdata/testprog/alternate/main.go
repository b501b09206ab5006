// Command alternate has goroutines that stop at the same depth in two functions by
// turns, in system calls and in coroutine switches: a stack that was read half
// before and half after such a turn has the frame of one function and the place
// in the loop that calls the other. The frames are large, so that reading one
// takes long.
//
// It prints "alternating" and ends with its stdin.
package main

import (
	"fmt"
	"io"
	"os"
	"syscall"
)

const pad = 96 << 10

//go:noinline
func enterP(n int) byte {
	var big [pad]byte
	big[3] = 1
	syscall.Syscall(syscall.SYS_GETPPID, 0, 0, 0)
	return big[n%7]
}

//go:noinline
func enterQ(n int) byte {
	var big [pad]byte
	big[3] = 1
	syscall.Syscall(syscall.SYS_GETPPID, 0, 0, 0)
	return big[n%7]
}

func calling() {
	for n := 0; ; n++ {
		enterP(n) // site: enterP
		enterQ(n) // site: enterQ
	}
}

func main() {
	go calling()
	switching()
	fmt.Println("alternating", os.Getpid())
	io.Copy(io.Discard, os.Stdin)
}
