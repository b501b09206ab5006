// Command escapes has names that a terminal would act on, once the test has put other
// characters in the place of its markers: of a function, a type, a file, labels, the
// command line and the thread. Its goroutines wait and wake until its stdin ends.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/pprof"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

type escapeMarkerType12345678 struct{ n int }

//go:noinline
func escapeMarkerFunc12345678(in, out chan *escapeMarkerType12345678) {
	for v := range in {
		out <- v
	}
}

//go:noinline
func escapeMarkerStart1234567(in, out chan *escapeMarkerType12345678) {
	go escapeMarkerFunc12345678(in, out)
}

func main() {
	runtime.LockOSThread()
	hostile := os.Args[1]
	name := append([]byte(hostile), 0)
	if err := unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0); err != nil {
		fmt.Println("prctl:", err)
		os.Exit(1)
	}
	ping, pong := make(chan *escapeMarkerType12345678), make(chan *escapeMarkerType12345678)
	pprof.Do(context.Background(), pprof.Labels(hostile, hostile), func(context.Context) {
		escapeMarkerStart1234567(ping, pong)
		go func() {
			for v := range pong {
				time.Sleep(2 * time.Millisecond)
				ping <- v
			}
		}()
		go func() { select {} }()
		for range 3 { // which wait for good
			escapeMarkerStart1234567(make(chan *escapeMarkerType12345678), nil)
		}
	})
	ping <- &escapeMarkerType12345678{}
	fmt.Println("held")
	_, _ = io.Copy(io.Discard, os.Stdin)
}
