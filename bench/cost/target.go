package main

import (
	"bufio"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// serve does the work that each line asks for, and answers with the round trips that were
// done and the CPU time that they took.
func serve(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var procs, work int
		var d time.Duration
		if _, err := fmt.Sscan(lines.Text(), &procs, &work, (*int64)(&d)); err != nil {
			return err
		}
		runtime.GOMAXPROCS(procs)
		before, err := cpuTime()
		if err != nil {
			return err
		}
		trips := handOver(procs, work, d)
		after, err := cpuTime()
		if err != nil {
			return err
		}
		fmt.Fprintln(out, trips, int64(after-before))
	}
	return lines.Err()
}

// handOver lets pairs of goroutines, four for each P so that none idles, hand a token to and
// fro for about d, and work before each time.
func handOver(procs, work int, d time.Duration) (trips int64) {
	var total atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(d)
	for range 4 * procs {
		ping, pong := make(chan uint64), make(chan uint64)
		wg.Go(func() {
			for v := range ping {
				pong <- compute(v, work)
			}
			close(pong)
		})
		wg.Go(func() {
			defer close(ping)
			for v := uint64(1); time.Now().Before(end); {
				for range 20 {
					ping <- compute(v, work)
					v = <-pong
				}
				total.Add(20)
			}
		})
	}
	wg.Wait()
	return total.Load()
}

// compute takes as long as steps say and the machine needs.
//
//go:noinline
func compute(v uint64, steps int) uint64 {
	for range steps {
		v ^= v << 13
		v ^= v >> 7
		v ^= v << 17
	}
	return v
}

// cpuTime is that of this process: of user space and kernel, with the traps.
func cpuTime() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		return 0, fmt.Errorf("CPU time: %w", err)
	}
	return time.Duration(t.Nano()), nil
}
