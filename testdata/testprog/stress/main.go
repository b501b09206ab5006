// Command stress does everything at once that a tracer might disturb, checks every
// result, and watches that each part goes on. It prints "ready" when all have begun, and
// "alive" for each line of stdin, until stdin ends or has the line "end". Then it prints
// "rounds PART N" for each part and ends with 0. A wrong result ends it with 3 and "WRONG ..." on stderr, a part that stands
// still with 4 and "STALL ...".
//
//	-storm N    N signals (SIGURG) a second to its own threads, one after the other
//	-stall D    how long a part may stand still
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"
)

// part is one thing that is done over and over. It calls done after each round.
type part struct {
	name  string
	run   func(done func())
	count int64 // atomic
}

// wrong ends the program: a result is not what it must be.
func wrong(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, "WRONG "+format+"\n", args...)
	os.Exit(3)
}

func main() {
	storm := flag.Int("storm", 0, "signals a second")
	stall := flag.Duration("stall", 20*time.Second, "how long a part may stand still")
	flag.Parse()
	runtime.GOMAXPROCS(4)
	parts := append(schedulerParts(), systemParts(*storm)...)
	parts = append(parts, coroutineParts()...)
	parts = append(parts, runtimeParts()...)
	parts = append(parts, cgoParts()...)
	parts = append(parts, forkParts()...)
	for _, p := range parts {
		p := p
		go p.run(func() { atomic.AddInt64(&p.count, 1) })
	}
	go watch(parts, *stall)
	for _, p := range parts {
		for atomic.LoadInt64(&p.count) == 0 {
			time.Sleep(10 * time.Millisecond)
		}
	}
	fmt.Println("ready")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() && in.Text() != "end" {
		fmt.Println("alive")
	}
	for _, p := range parts {
		fmt.Println("rounds", p.name, atomic.LoadInt64(&p.count))
	}
}

// watch ends the program when a part stands still.
func watch(parts []*part, limit time.Duration) {
	last := make([]int64, len(parts))
	since := make([]time.Time, len(parts))
	for i := range since {
		since[i] = time.Now()
	}
	for {
		time.Sleep(limit / 20)
		for i, p := range parts {
			if n := atomic.LoadInt64(&p.count); n != last[i] {
				last[i], since[i] = n, time.Now()
			} else if d := time.Since(since[i]); d > limit {
				fmt.Fprintf(os.Stderr, "STALL %s stands at %d for %v\n", p.name, n, d)
				os.Exit(4)
			}
		}
	}
}
