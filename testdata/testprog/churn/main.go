// Command churn keeps N goroutines (the first argument) changing: each descends
// through a chain of calls that spells its own number and the number of the
// descent, parks at the bottom in one of several ways, returns, and descends
// anew; after some descents it ends and another takes its place. Stacks grow and
// shrink meanwhile. Whoever reads a stack can tell whether it is whole: see
// [path].
//
// It prints "churning", and "descents N" at its end, which an end of stdin brings.
package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The length of a path: bits that number the descent, and bits that check them.
const (
	epochBits = 8
	checkBits = 16
	levels    = epochBits + checkBits
)

// path is the chain of calls of one descent: bit i says whether the call at depth
// i is of step0 or step1. The bits above epochBits are a hash of the goroutine's
// number and of those below.
func path(goid, epoch uint64) uint64 {
	epoch &= 1<<epochBits - 1
	h := (goid<<epochBits | epoch) * 0x9e3779b97f4a7c15
	return epoch | h>>(64-checkBits)<<epochBits
}

var (
	descents int64
	locks    [64]sync.Mutex
	meeting  [64]chan int
	sink     [64]byte
)

//go:noinline
func step0(depth int, path, n uint64) {
	if depth == levels {
		park(n)
	} else if path>>uint(depth)&1 == 0 {
		step0(depth+1, path, n)
	} else {
		step1(depth+1, path, n)
	}
	sink[n%64]++
}

//go:noinline
func step1(depth int, path, n uint64) {
	if depth == levels {
		park(n)
	} else if path>>uint(depth)&1 == 0 {
		step0(depth+1, path, n)
	} else {
		step1(depth+1, path, n)
	}
	sink[n%64]++
}

//go:noinline
func park(n uint64) {
	switch n % 8 {
	case 0:
		parkYield()
	case 1, 2:
		parkMeet(n)
	case 3:
		parkLock(n)
	case 4:
		grow(20, [64]uint64{})
	default:
		parkSleep(n)
	}
}

//go:noinline
func parkYield() { runtime.Gosched() }

//go:noinline
func parkSleep(n uint64) { time.Sleep(time.Duration(n*2654435761%2000) * time.Millisecond / 2) }

//go:noinline
func parkMeet(n uint64) {
	c := meeting[n/8%64]
	timeout := time.NewTimer(time.Second)
	defer timeout.Stop()
	select {
	case c <- 1:
	case <-c:
	case <-timeout.C:
	}
}

//go:noinline
func parkLock(n uint64) {
	m := &locks[n/8%64]
	m.Lock()
	runtime.Gosched()
	m.Unlock()
}

//go:noinline
func grow(n int, pad [64]uint64) uint64 {
	if n == 0 {
		runtime.Gosched()
		return pad[0]
	}
	pad[n]++
	return grow(n-1, pad) + pad[n]
}

// root is where each descent begins.
//
//go:noinline
func root(goid, epoch, n uint64) {
	p := path(goid, epoch)
	if p&1 == 0 {
		step0(1, p, n)
	} else {
		step1(1, p, n)
	}
	atomic.AddInt64(&descents, 1)
}

// live is one goroutine's life: some descents, and a successor.
func live(seed uint64) {
	id := goid()
	n := seed*6364136223846793005 + id*1442695040888963407
	for epoch := uint64(0); epoch < 3+n%40; epoch++ {
		n = n*6364136223846793005 + 1442695040888963407
		root(id, epoch, n>>33)
	}
	go live(n)
}

func goid() uint64 {
	b := make([]byte, 64)
	id, err := strconv.ParseUint(strings.Fields(string(b[:runtime.Stack(b, false)]))[1], 10, 64)
	if err != nil {
		panic(err)
	}
	return id
}

func main() {
	n, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	for i := range meeting {
		meeting[i] = make(chan int)
	}
	for i := 0; i < n; i++ {
		go live(uint64(i))
	}
	fmt.Println("churning", os.Getpid())
	io.Copy(io.Discard, os.Stdin)
	fmt.Println("descents", atomic.LoadInt64(&descents))
}
