// Command target is what the benchmark measures: it does what the lines on its
// standard input say, and answers each with a line.
//
//	pingpong PROCS PAIRS DURATION   hand tokens between pairs of goroutines;
//	                                answers with the round trips and the ns taken
//	paced TRIPS DURATION            one pair on one P, held to so many round trips a
//	                                second; answers likewise
//	http                            serve HTTP; answers with the address
//	trace on|off                    switch its own runtime/trace on, to nowhere
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/trace"
	"strconv"
	"strings"
	"sync"
	"time"
)

func main() {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		if err := do(strings.Fields(in.Text())); err != nil {
			fmt.Fprintln(os.Stderr, "target:", err)
			os.Exit(1)
		}
	}
}

func do(words []string) error {
	switch words[0] {
	case "pingpong":
		procs, err := strconv.Atoi(words[1])
		if err != nil {
			return err
		}
		pairs, err := strconv.Atoi(words[2])
		if err != nil {
			return err
		}
		d, err := time.ParseDuration(words[3])
		if err != nil {
			return err
		}
		runtime.GOMAXPROCS(procs)
		rounds, took := pingpong(pairs, 0, d)
		fmt.Println(rounds, took.Nanoseconds())
	case "paced":
		trips, err := strconv.Atoi(words[1])
		if err != nil {
			return err
		}
		d, err := time.ParseDuration(words[2])
		if err != nil {
			return err
		}
		runtime.GOMAXPROCS(1)
		rounds, took := pingpong(1, trips, d)
		fmt.Println(rounds, took.Nanoseconds())
	case "http":
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		go func() {
			err := http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello\n") }))
			fmt.Fprintln(os.Stderr, "target:", err)
		}()
		fmt.Println(l.Addr())
	case "trace":
		if words[1] == "on" {
			if err := trace.Start(io.Discard); err != nil {
				return err
			}
		} else {
			trace.Stop()
		}
		fmt.Println("ok")
	default:
		return fmt.Errorf("unknown command %q", words[0])
	}
	return nil
}

// pingpong lets pairs of goroutines hand a token to and fro for about d, each up to so many
// times a second, if pace is not 0: it spins when it is early.
func pingpong(pairs, pace int, d time.Duration) (rounds int, took time.Duration) {
	const batch = 200
	var wg sync.WaitGroup
	counts := make([]int, pairs)
	start := time.Now()
	for i := range pairs {
		ping, pong := make(chan int), make(chan int)
		go func() {
			for v := range ping {
				pong <- v
			}
			close(pong)
		}()
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer close(ping)
			for time.Since(start) < d {
				for range batch {
					ping <- 1
					<-pong
				}
				counts[i] += batch
				for pace > 0 && float64(counts[i]) > time.Since(start).Seconds()*float64(pace) {
				}
			}
		}()
	}
	wg.Wait()
	took = time.Since(start)
	for _, n := range counts {
		rounds += n
	}
	return rounds, took
}
