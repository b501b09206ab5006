// Command stacks parks, makes system calls, calls C and creates goroutines in known
// functions, and prints afterwards the stack of each, as the runtime tells it at the
// place itself. Its lines are
//
//	stack GOID KIND HOW  the lines that follow are of one stack, innermost first
//	frame FUNC FILE LINE
//
// KIND is the reason of a wait (mutex for that of a mutex, which has changed), or syscall, cgo or create. HOW is exact for what the
// goroutine does once, in this order; some for where it can be and may not be; prefix for
// what is exact, but of a stack that a walk along the frame pointers may have to cut.
//
// What it does is in functions whose names begin with do: they are called on the line
// where the stack was taken, and are not in it.
package main

import (
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"testprog/internal/work"
)

type note struct {
	kind, how string
	pcs       []uintptr
}

// part is a goroutine that takes notes. Only itself writes them.
type part struct {
	id    string
	notes []note
}

//go:noinline
func (p *part) note(kind, how string) *part {
	pcs := make([]uintptr, 100)
	p.notes = append(p.notes, note{kind, how, pcs[:runtime.Callers(2, pcs)]})
	return p
}

func (p *part) print() {
	for _, n := range p.notes {
		fmt.Println("stack", p.id, strings.ReplaceAll(n.kind, " ", "_"), n.how)
		frames := runtime.CallersFrames(n.pcs)
		for more := true; more; {
			var f runtime.Frame
			f, more = frames.Next()
			fmt.Println("frame", strings.ReplaceAll(f.Function, " ", "_"), f.File, f.Line)
		}
	}
}

func goid() string {
	buf := make([]byte, 64)
	return strings.Fields(string(buf[:runtime.Stack(buf, false)]))[1]
}

// null is /dev/null, opened before goroutines take notes.
var null, nullFD = func() (*os.File, int) {
	f, err := os.OpenFile("/dev/null", os.O_WRONLY, 0)
	if err != nil {
		panic(err)
	}
	return f, int(f.Fd())
}()

func doSleep(*part) { time.Sleep(time.Microsecond) }

func doWrite(*part) {
	if _, err := syscall.Write(nullFD, []byte("x")); err != nil {
		panic(err)
	}
}

// doFile writes through package os, whose calls are inlined into each other.
func doFile(*part) {
	if _, err := null.Write([]byte("x")); err != nil {
		panic(err)
	}
}

// A path is a call chain that is chosen anew each time.
type path struct {
	p    *part
	rest []byte // what to call next
}

type caller interface{ call(x *path) }

type direct struct{ pad int }

func (d *direct) call(x *path) { x.step(); d.pad++ }

type promoted struct{ *direct } // call is reached through a wrapper

//go:noinline
func generic[T any](v T, x *path) T { x.step(); return v }

//go:noinline
func deferring(x *path) { defer x.step() }

func inlined(x *path) { x.step() }

//go:noinline
func large(x *path) int {
	var a [3000]byte // the stack grows
	a[len(x.rest)] = 1
	x.step()
	return int(a[1])
}

//go:noinline
func recovering(x *path) {
	defer func() {
		recover()
		x.step()
	}()
	panic("in a path")
}

//go:noinline
func (x *path) step() {
	if len(x.rest) == 0 {
		x.last()
		return
	}
	next := x.rest[0]
	x.rest = x.rest[1:]
	switch next % 9 {
	case 0:
		inlined(x)
	case 1:
		func() { x.step() }()
	case 2:
		var c caller = promoted{&direct{}}
		c.call(x)
	case 3:
		generic(x.rest, x)
	case 4:
		deferring(x)
	case 5:
		large(x)
	case 6:
		reflect.ValueOf(inlined).Call([]reflect.Value{reflect.ValueOf(x)})
	case 7:
		f := x.step
		f()
	case 8:
		recovering(x)
	}
}

//go:noinline
func (x *path) last() {
	switch p := x.p; {
	case len(p.notes)%4 == 0:
		doSleep(p.note("sleep", "exact"))
	case len(p.notes)%4 == 1:
		doWrite(p.note("syscall", "exact"))
	case len(p.notes)%4 == 2:
		doFile(p.note("syscall", "exact"))
	default:
		go func(*part) {}(p.note("create", "exact"))
	}
}

// paths goes n ways of up to three calls each to do one thing after another.
func paths(seed uint32, n int) func(p *part) {
	return func(p *part) {
		for i := 0; i < n; i++ {
			x := &path{p: p}
			for k := uint32(0); k < seed>>16%4; k++ {
				x.rest = append(x.rest, byte(seed>>(8+k*3)))
			}
			x.step()
			seed = seed*1664525 + 1013904223
		}
	}
}

// faults parks in functions that were deferred by one whose callee, which has no frame,
// was stopped by a signal.
func faults(p *part) {
	for i := 0; i < 5; i++ {
		faulty(p, nil)
	}
}

//go:noinline
func faulty(p *part, n *int) {
	defer func() {
		recover()
		doSleep(p.note("sleep", "prefix"))
	}()
	leaf(n)
}

//go:noinline
func leaf(n *int) int { return *n }

// deep parks under more frames than a stack has room for.
func deep(p *part) { recurse(p, 60) }

//go:noinline
func recurse(p *part, n int) int {
	if n == 0 {
		doSleep(p.note("sleep", "prefix"))
		return 0
	}
	return recurse(p, n-1) + 1
}

// locks waits in several ways, if the other comes first.
func locks(n int) func(p *part) {
	return func(p *part) {
		var mu sync.Mutex
		c, d := make(chan int), make(chan int)
		go func() {
			for i := 0; i < n; i++ {
				mu.Lock()
				time.Sleep(200 * time.Microsecond)
				c <- i
				time.Sleep(200 * time.Microsecond)
				mu.Unlock()
				time.Sleep(200 * time.Microsecond)
				d <- i
			}
		}()
		for i := 0; i < n; i++ {
			doReceive(c, p.note("chan receive", "some"))
			doLock(&mu, p.note("mutex", "some"))
			doSelect(c, d, p.note("select", "some"))
		}
	}
}

func doReceive(c chan int, _ *part) { <-c }

func doLock(mu *sync.Mutex, _ *part) {
	mu.Lock()
	mu.Unlock()
}

func doSelect(c, d chan int, _ *part) {
	select {
	case <-c:
	case <-d:
	}
}

// timers are functions that the runtime starts: they have no parent.
func timers(*part) {
	for i := 0; i < 5; i++ {
		done := make(chan bool)
		time.AfterFunc(time.Microsecond, func() { close(done) })
		<-done
	}
}

func main() {
	n := 100
	if len(os.Args) > 1 {
		n, _ = strconv.Atoi(os.Args[1])
	}
	work.Wait()
	what := []func(*part){paths(1, n), paths(7, n), paths(42, n), faults, deep, locks(20), timers, callC(n), callBack}
	var all sync.WaitGroup
	parts := make([]part, len(what))
	for i := range what {
		p, f := &parts[i], what[i]
		all.Add(1)
		go func() {
			p.id = goid()
			f(p)
			all.Done()
		}()
	}
	stop := make(chan bool)
	go func() { // stacks shrink and move
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				runtime.GC()
			}
		}
	}()
	all.Wait()
	close(stop)
	for i := range parts {
		parts[i].print()
	}
}
