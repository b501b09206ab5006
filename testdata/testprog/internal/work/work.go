// Package work holds the behaviours of the programs in testdata/testprog: each
// makes goroutines change state in one known way, a known number of times, so
// that a test can compare what a tracer saw with what was done.
//
// A behaviour reports by lines on stdout:
//
//	count KEY N    it did the thing called KEY exactly N times
//	goid KEY ID    the goroutine that plays the part called KEY
//
// The doc comment of each behaviour says what its keys mean in changes of
// goroutine status. A go statement that a test looks for ends in "// site: KEY".
package work

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// Main is the main function of a program: it waits for an empty line on stdin
// when the environment has WAIT=1 (after the line "ready" on stdout), then runs
// the behaviour with n from the first argument.
func Main(run func(n int), n int) {
	if len(os.Args) > 1 {
		n = atoi(os.Args[1])
	}
	Wait()
	run(n)
}

// Wait waits for an empty line on stdin when the environment has WAIT=1. Other
// lines are read and dropped: each makes the main goroutine enter and leave
// system calls, by which a tracer can tell that it is attached.
func Wait() {
	if os.Getenv("WAIT") == "1" {
		fmt.Println("ready", os.Getpid())
		for readLine() > 0 {
		}
	}
}

// readLine reads a line of stdin and returns its length, 0 at the end of stdin.
// It does not use package os, whose reads may go through the network poller.
func readLine() int {
	b := make([]byte, 1)
	for length := 0; ; length++ {
		n, err := syscall.Read(0, b)
		for err == syscall.EINTR {
			n, err = syscall.Read(0, b)
		}
		if n < 1 || b[0] == '\n' {
			return length
		}
	}
}

func count(key string, n int) { fmt.Println("count", key, n) }

func report(key string, id int) { fmt.Println("goid", key, id) }

// goid is the calling goroutine's number, from its own stack dump.
func goid() int {
	buf := make([]byte, 64)
	return dumpedID(buf[:runtime.Stack(buf, false)])
}

// dumpedID is the number in a dump that begins "goroutine 18 [running]:".
func dumpedID(dump []byte) int {
	return atoi(string(bytes.Fields(dump)[1]))
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	check(err)
	return n
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "testprog:", err)
		os.Exit(1)
	}
}

// waitState returns when the goroutine is in a state whose name in a stack dump
// begins with one of the given names. It makes "B happens after A has parked"
// certain where a sleep would make it likely.
func waitState(id int, names ...string) {
	buf := make([]byte, 1<<20)
	begin := []byte("goroutine " + strconv.Itoa(id) + " [")
	for {
		all := append([]byte("\n\n"), buf[:runtime.Stack(buf, true)]...)
		if i := bytes.Index(all, append([]byte("\n\n"), begin...)); i >= 0 {
			state := all[i+2+len(begin):]
			for _, name := range names {
				if bytes.HasPrefix(state, []byte(name)) {
					return
				}
			}
		}
		time.Sleep(time.Millisecond)
	}
}
