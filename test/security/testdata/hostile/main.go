// Command hostile is a Go program that overwrites what its runtime knows of its own
// goroutines. Its argument says with what:
//
//	length   a list of 2^40 goroutines
//	far      a list where there is no memory
//	zeros    a list of 2^26 goroutines, in memory that was never touched
//	same     half a million times the same goroutine
//	garbage  goroutines that change at random, and point to each other, to themselves and
//	         anywhere, with stacks that change at random
//
// It prints "held" and then sleeps, or goes on changing, without ever entering its
// scheduler again, which would be the end of it.
package main

import (
	"fmt"
	"math/rand"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"
	"unsafe"
)

//go:linkname allgs runtime.allgs
var allgs []uintptr

// gSize is more than the size of runtime.g in any release.
const gSize = 512

// parked are places on the stacks of goroutines that will never run again.
var parked = make(chan uintptr, 64)

//go:noinline
func deep(n int) int {
	var local [8]uintptr
	if n > 0 {
		return deep(n-1) + int(local[n&7])
	}
	parked <- uintptr(unsafe.Pointer(&local))
	select {}
}

func main() {
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	// The first of the list are looked at before anything else is, so they are in order.
	for range 600 {
		go func() { select {} }()
	}
	var stacks []uintptr
	for range 50 {
		go deep(100)
	}
	for range 50 {
		stacks = append(stacks, <-parked)
	}
	time.Sleep(10 * time.Millisecond) // they park
	change := func() {}
	switch os.Args[1] {
	case "length":
		set(address(&allgs[0]), 1<<40)
	case "far":
		set(1<<46, 1<<16)
	case "zeros":
		at := reserve(8 << 26)
		copy(unsafe.Slice((*uintptr)(pointer(at)), 1<<26), allgs)
		set(at, 1<<26)
	case "same":
		const n = 1 << 19
		at := reserve(8 * n)
		list := unsafe.Slice((*uintptr)(pointer(at)), n)
		for i := copy(list, allgs); i < n; i++ {
			list[i] = allgs[len(allgs)-1]
		}
		set(at, n)
	case "garbage":
		change = garbage(stacks)
	}
	os.Stdout.WriteString("held\n")
	for {
		change()
		t := syscall.Timespec{Nsec: 1000}
		syscall.RawSyscall(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), 0, 0)
	}
}

func set(at, n uintptr) {
	*(*[3]uintptr)(unsafe.Pointer(&allgs)) = [3]uintptr{at, n, n}
}

func address[T any](p *T) uintptr { return uintptr(unsafe.Pointer(p)) }

// pointer is of memory that is not the Go heap's.
//
//go:noinline
func pointer(at uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&at)) }

// reserve maps memory that takes none until it is touched.
func reserve(n uintptr) uintptr {
	at, _, errno := syscall.Syscall6(syscall.SYS_MMAP, 0, n, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE, ^uintptr(0), 0)
	if errno != 0 {
		fmt.Println("mmap:", errno)
		os.Exit(1)
	}
	return at
}

// garbage puts copies of the goroutines into the list, and returns what changes them.
func garbage(stacks []uintptr) func() {
	const copies = 20000
	real := append([]uintptr(nil), allgs...)
	list := reserve(8 * uintptr(len(real)+copies))
	gs := unsafe.Slice((*uintptr)(pointer(list)), len(real)+copies)
	copy(gs, real)
	memory := reserve(gSize * copies)
	words := unsafe.Slice((*uintptr)(pointer(memory)), gSize*copies/8)
	for i := range copies {
		at := memory + uintptr(i)*gSize
		gs[len(real)+i] = at
		copy(unsafe.Slice((*byte)(pointer(at)), gSize), unsafe.Slice((*byte)(pointer(real[i%len(real)])), gSize))
	}
	rng := rand.New(rand.NewSource(1))
	pc, _, _, _ := runtime.Caller(0)
	value := func() uintptr {
		values := [...]uintptr{
			0, 1, 4, 8, 1 << 40, 1<<47 - 8, 1 << 60, 1 << 63, ^uintptr(0), ^uintptr(7), pc, pc + 1, list, memory,
			memory + uintptr(rng.Intn(copies))*gSize, real[rng.Intn(len(real))], stacks[rng.Intn(len(stacks))], uintptr(rng.Uint64()),
		}
		return values[rng.Intn(len(values))]
	}
	change := func() {
		for range 100 {
			words[rng.Intn(len(words))] = value()
		}
		// 128 words above the place are those of the frames of deep.
		stack := unsafe.Slice((*uintptr)(pointer(stacks[rng.Intn(len(stacks))])), 128)
		stack[rng.Intn(len(stack))] = value()
	}
	for range 200 {
		change()
	}
	set(list, uintptr(len(gs)))
	return change
}
