// Command spin keeps two Ps busy for good. Each of its goroutines stays in
//
//	main.spinC < main.spinB < main.spinA < main.start.func1
//
// and does there one kind of work, by its number: arithmetic in an inlined loop,
// map assignments, allocations, calls of deep, which recurses, or MD5 sums, whose
// assembly code has other uses for the register that holds the current g. It
// prints "ready" and then obeys the lines on its stdin:
//
//	count   prints "count work N": how many rounds the goroutines have done
//
// An empty line, or the end of stdin, ends it. Its argument is the number of
// goroutines, 5 if there is none.
package main

import (
	"bufio"
	"crypto/md5"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
)

// slot counts the rounds of one goroutine, on a cache line of its own.
type slot struct {
	n uint64
	_ [56]byte
}

var (
	slots []slot
	sink  uint64
	text  = make([]byte, 64<<10) // of one goroutine
)

// loop is inlined into spinC.
func loop(x uint64) uint64 {
	for i := uint64(0); i < 1000; i++ {
		x = x*2862933555777941757 + i
	}
	return x
}

//go:noinline
func deep(n int, x uint64) uint64 {
	if n == 0 {
		return loop(x)
	}
	return deep(n-1, x+1) + 1
}

//go:noinline
func assign(m map[uint64]uint64, x uint64) {
	for i := uint64(0); i < 100; i++ {
		m[(x+i*7919)%4096]++
	}
}

//go:noinline
func allocate(x uint64) uint64 {
	var keep *[64]uint64
	for i := 0; i < 100; i++ {
		keep = new([64]uint64)
		keep[i%64] = x
		atomic.StoreUint64(&sink, keep[0])
	}
	return uint64(len(keep))
}

//go:noinline
func digest(x uint64) uint64 {
	text[x%uint64(len(text))]++
	sum := md5.Sum(text)
	return uint64(sum[0])
}

//go:noinline
func spinC(kind int, s *slot) uint64 {
	x := uint64(kind)
	m := map[uint64]uint64{}
	for {
		switch kind % 5 {
		case 0:
			x = loop(x)
		case 1:
			assign(m, x)
			x++
		case 2:
			x += allocate(x)
		case 3:
			x = deep(20, x)
		case 4:
			x += digest(x)
		}
		if atomic.AddUint64(&s.n, 1) == 0 {
			return x // never; the compiler does not know
		}
	}
}

//go:noinline
func spinB(kind int, s *slot) uint64 { return spinC(kind, s) + 1 }

//go:noinline
func spinA(kind int, s *slot) uint64 { return spinB(kind, s) + 1 }

func start(n int) {
	slots = make([]slot, n)
	for i := 0; i < n; i++ {
		i := i
		go func() { atomic.StoreUint64(&sink, spinA(i, &slots[i])) }()
	}
}

func total() (n uint64) {
	for i := range slots {
		n += atomic.LoadUint64(&slots[i].n)
	}
	return n
}

func main() {
	n := 5
	if len(os.Args) > 1 {
		var err error
		if n, err = strconv.Atoi(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
	runtime.GOMAXPROCS(2)
	start(n)
	fmt.Println("ready", os.Getpid())
	for in := bufio.NewScanner(os.Stdin); in.Scan() && in.Text() != ""; {
		fmt.Println("count work", total())
	}
}
