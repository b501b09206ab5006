// Command dump measures what a dump of all goroutines takes, and what it does to
// the program: gopherscope next to the program's own pprof endpoint and to Delve,
// in one run, for programs of a thousand to a million goroutines. Run it from the
// module's root; make bench-dump builds what it needs.
//
// The program watches its own stalls on a thread that never sleeps. On a shared
// machine such a thread is kept from its CPU for milliseconds now and then by
// others, so each figure stands next to that of the same time without any dump.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"time"
)

// options are the choices of a run.
type options struct {
	gopherscope, dlv string
	rounds           int
	limit            time.Duration // for one dump of a rival
	counts           []int
	cpu              string // what gopherscope is kept to; "" for none
}

func main() {
	var o options
	quick := false
	flag.StringVar(&o.gopherscope, "gopherscope", "./gopherscope", "the program to measure")
	flag.StringVar(&o.dlv, "dlv", "bin/dlv", "Delve's program")
	flag.IntVar(&o.rounds, "rounds", 5, "how often each is measured")
	flag.DurationVar(&o.limit, "limit", 3*time.Minute, "how long a rival may take")
	flag.BoolVar(&quick, "quick", false, "leave out the million")
	flag.Parse()
	o.counts = []int{1000, 100_000, 1_000_000}
	if quick {
		o.counts = o.counts[:2]
	}
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(o options) (err error) {
	dir, err := os.MkdirTemp("", "bench-dump")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	bin, err := buildTarget(dir)
	if err != nil {
		return err
	}
	for _, n := range o.counts {
		if err := measure(o, bin, n); err != nil {
			return fmt.Errorf("%d goroutines: %w", n, err)
		}
	}
	return repeated(o, bin)
}

// measure lets all ways of dumping take turns on one program.
func measure(o options, bin string, n int) error {
	t, err := startTarget(bin, n, "")
	if err != nil {
		return err
	}
	defer func() { t.stop() }()
	ways := allWays(o)
	results := make([]result, len(ways))
	for range o.rounds {
		for i, w := range ways {
			if !w.once && results[i].err == nil {
				results[i].add(t, w, o.limit)
			}
		}
	}
	for i, w := range ways {
		if !w.once {
			continue
		}
		t.stop()
		if t, err = startTarget(bin, n, ""); err != nil {
			return err
		}
		results[i].add(t, w, o.limit)
	}
	report(n, ways, results)
	return nil
}

// The stalls of a program that is dumped again and again.
const (
	repeatCount  = 10_000 // goroutines
	repeatEvery  = 100 * time.Millisecond
	repeatFor    = 5 * time.Second
	repeatRounds = 4
)

// repeated compares the stalls of a program that is dumped ten times a second
// with those of the same program left alone, in turns. Each has a CPU of its own:
// what is compared is what a dump does to a program, not what it is to share a CPU.
func repeated(o options, bin string) error {
	o.cpu = "1"
	t, err := startTarget(bin, repeatCount, "0")
	if err != nil {
		return err
	}
	defer t.stop()
	fmt.Printf("\n%d goroutines, ten dumps a second for %s, in turns with as long without, each on a CPU of its own:\n", repeatCount, repeatFor)
	for round := range repeatRounds {
		alone, err := t.stalls(func() error { time.Sleep(repeatFor); return nil })
		if err != nil {
			return err
		}
		dumps := 0
		dumped, err := t.stalls(func() error {
			for end := time.Now().Add(repeatFor); time.Now().Before(end); dumps++ {
				next := time.Now().Add(repeatEvery)
				if _, err := gopherscopeGroups(o).dump(t, time.Minute); err != nil {
					return err
				}
				time.Sleep(time.Until(next))
			}
			return nil
		})
		if err != nil {
			return err
		}
		fmt.Printf("  round %d: longest stall %8s without, %8s with %d dumps; over 1 ms: %d without, %d with\n",
			round+1, short(alone.longest), short(dumped.longest), dumps, alone.long, dumped.long)
	}
	return nil
}
