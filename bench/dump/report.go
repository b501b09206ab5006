package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

// result is what was measured of one way.
type result struct {
	took, reading []time.Duration
	rss           int64
	stalled       []time.Duration // the longest stall during a dump
	alone         []time.Duration // the longest stall in as long a time without
	err           error
}

// add measures once: the dump, and as long a time without it.
func (r *result) add(t *target, w way, limit time.Duration) {
	var u usage
	var took time.Duration
	s, err := t.stalls(func() (err error) {
		began := time.Now()
		u, err = w.dump(t, limit)
		took = time.Since(began)
		return err
	})
	if err != nil {
		r.err = err
		return
	}
	alone, err := t.stalls(func() error { time.Sleep(min(took, 10*time.Second)); return nil })
	if err != nil {
		r.err = err
		return
	}
	r.took, r.reading = append(r.took, took), append(r.reading, u.reading)
	r.stalled, r.alone = append(r.stalled, s.longest), append(r.alone, alone.longest)
	r.rss = max(r.rss, u.rss)
}

func report(n int, ways []way, results []result) {
	fmt.Printf("\n%d goroutines (medians; the stalls are the program's longest, next to those of as long a time without a dump):\n", n)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  dump\ttime\treading alone\tstall\twithout\tmemory of the tool\ta goroutine")
	for i, r := range results {
		if r.err != nil {
			text := r.err.Error()
			if errors.Is(r.err, errLimit) {
				text = "given up: " + text
			}
			fmt.Fprintf(w, "  %s\t%s\n", ways[i].name, text)
			continue
		}
		memory, each := "-", "-"
		if r.rss > 0 {
			memory, each = fmt.Sprintf("%d MB", r.rss>>20), fmt.Sprintf("%d B", r.rss/int64(n))
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\n", ways[i].name, short(median(r.took)), short(median(r.reading)),
			short(median(r.stalled)), short(median(r.alone)), memory, each)
	}
	if err := w.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

func median(ds []time.Duration) time.Duration {
	if len(ds) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(ds))
	return sorted[len(sorted)/2]
}

// short is a duration in three digits or so; - for none.
func short(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}
