// Command frames prints call stacks of its own as the runtime resolves them,
// for comparison with what is read from the executable. Its lines are
//
//	anchor ADDRESS      entry of main.anchor
//	stack NAME          the lines that follow are of one stack, innermost first
//	pc ADDRESS          as runtime.Callers returns it
//	frame FUNC FILE LINE
//
// Its go and defer statements are those whose functions get wrappers from the
// compiler: see starts.
package main

import (
	"fmt"
	"reflect"
	"runtime"
	"sort"
	"sync"
)

//go:noinline
func anchor() {}

//go:noinline
func record(name string) {
	pcs := make([]uintptr, 64)
	pcs = pcs[:runtime.Callers(2, pcs)]
	fmt.Println("stack", name)
	for _, pc := range pcs {
		fmt.Printf("pc %#x\n", pc)
	}
	frames := runtime.CallersFrames(pcs)
	for {
		fr, more := frames.Next()
		fmt.Println("frame", fr.Function, fr.File, fr.Line)
		if !more {
			return
		}
	}
}

// Four levels, three of them inlined.
func outer(n int) int {
	return middle(n) + 1
}

func middle(n int) int {
	return inner(n) +
		inner(n+1)
}

func inner(n int) int {
	record("inlined")
	return n
}

type shape interface{ area() int }

type square struct{ side int }

func (s *square) area() int {
	record("method")
	return s.side * s.side
}

type named struct{ *square } // area is promoted through a wrapper

//go:noinline
func measure(s shape) int { return s.area() }

//go:noinline
func generic[T any](v T) T {
	record("generic")
	return v
}

type list[T any] struct{ items []T }

func (l *list[T]) each(f func(T)) {
	for _, v := range l.items {
		f(v)
	}
}

func library() {
	x := []int{2, 1}
	sort.Slice(x, func(i, j int) bool {
		record("library")
		return x[i] < x[j]
	})
	var once sync.Once
	once.Do(func() { record("once") })
}

func recovered() {
	defer func() {
		recover()
		record("recovered")
	}()
	var p *square
	p.side = 1
}

//go:noinline
func worker(wg *sync.WaitGroup, n int) { wg.Done() }

//go:noinline
func (s *square) work(wg *sync.WaitGroup) { wg.Done() }

//go:noinline
func pair[T any](wg *sync.WaitGroup, v T) { wg.Done() }

//go:noinline
func cleanup(n int) {}

// starts has one statement each of the kinds that need a wrapper, and two that
// need none.
func starts(n int) {
	var wg sync.WaitGroup
	wg.Add(6)
	go worker(&wg, n)
	go (&square{n}).work(&wg)
	go pair(&wg, n)
	go func(k int) {
		record("literal")
		wg.Done()
	}(n)
	go func() { wg.Done() }()
	go wg.Done()
	for i := 0; i < n; i++ {
		defer cleanup(i)
	}
	wg.Wait()
}

func main() {
	fmt.Printf("anchor %#x\n", reflect.ValueOf(anchor).Pointer())
	outer(1)
	measure(&square{2})
	measure(named{&square{3}})
	generic(4)
	generic("five")
	(&list[int]{[]int{6}}).each(func(int) { record("list") })
	library()
	recovered()
	starts(1)
	func() {
		defer record("deferred")
	}()
}
