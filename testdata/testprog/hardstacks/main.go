// Command hardstacks parks, makes system calls and starts goroutines at places of which
// it prints the stacks as the runtime sees them, for comparison with what a tracer saw.
// Its lines are
//
//	goid ID             the goroutine that does all of it
//	stack KEY           the lines that follow are of one stack, innermost first
//	frame FUNC LINE
//
// The keys are park, read, block and go; cgo when there is C code. The first frame of each is the one that
// makes the call: what is called is not in it.
package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
)

// out holds what is printed, until all is done.
var out bytes.Buffer

// here notes the stack of the function that calls it, and returns v: so it can be an
// argument of the call that the tracer sees, on the same line.
//
//go:noinline
func here(key string, v []byte) []byte {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	fmt.Fprintln(&out, "stack", key)
	for {
		fr, more := frames.Next()
		fmt.Fprintln(&out, "frame", fr.Function, fr.Line)
		if !more {
			return v
		}
	}
}

// Several levels, some of which the compiler inlines.
func outer(do func(n int)) { middle(do, 3) }

func middle(do func(n int), n int) {
	if n > 0 {
		recurse(do, n)
		return
	}
	do(n)
}

//go:noinline
func recurse(do func(n int), n int) { middle(do, n-1) }

func park(int) {
	c := make(chan []byte)
	var wg sync.WaitGroup
	wg.Add(1)
	go func() { c <- nil; wg.Done() }()
	// The goroutine that runs now is the only one, as GOMAXPROCS is 1: so it parks.
	here("park", <-c)
	wg.Wait()
}

func read(int) {
	var p [2]int
	check(syscall.Pipe(p[:]))
	_, err := syscall.Write(p[1], []byte{1})
	check(err)
	_, err = syscall.Read(p[0], here("read", make([]byte, 1)))
	check(err)
	check(syscall.Close(p[0]))
	check(syscall.Close(p[1]))
}

type starter struct{ done chan bool }

func (s *starter) start(int) {
	go s.finish(here("go", nil))
	<-s.done
}

func (s *starter) finish([]byte) { s.done <- true }

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	runtime.GOMAXPROCS(1)
	buf := make([]byte, 64)
	id := strings.Fields(string(buf[:runtime.Stack(buf, false)]))[1]
	fmt.Fprintln(&out, "goid", id)
	outer(park)
	outer(read)
	outer((&starter{make(chan bool)}).start)
	outer(foreign)
	_, err := os.Stderr.Write(out.Bytes())
	check(err)
}
