package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// result is what was measured of one variant.
type result struct {
	variant string
	ns      []float64 // a unit, each round
	ratio   []float64 // to the untraced measurement of the same round
	p99     []float64
	took    time.Duration // traced time in all
	usage   usage
}

// measure lets the variants take turns.
func measure(wl workload, path string, vs []variant, o options) ([]result, error) {
	t, err := startTarget(path)
	if err != nil {
		return nil, err
	}
	defer t.stop()
	if err := wl.prepare(t); err != nil {
		return nil, err
	}
	if _, _, err := wl.once(t, o.duration/2); err != nil { // warm up
		return nil, err
	}
	res := make([]result, len(vs))
	for range o.rounds {
		base := 0.0
		for i, v := range vs {
			r := &res[i]
			r.variant = v.name
			stop, err := v.start(t)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", v.name, err)
			}
			began := time.Now()
			ns, p99, err := wl.once(t, o.duration)
			r.took += time.Since(began)
			u, stopErr := stop()
			if err != nil || stopErr != nil {
				return nil, fmt.Errorf("%s: %w", v.name, firstError(err, stopErr))
			}
			if i == 0 {
				base = ns
			}
			r.ns, r.ratio, r.p99 = append(r.ns, ns), append(r.ratio, ns/base), append(r.p99, p99)
			r.usage.events += u.events
			r.usage.lost += u.lost
			r.usage.cpu += u.cpu
			r.usage.rss = max(r.usage.rss, u.rss)
		}
	}
	return res, nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

func printResults(w io.Writer, wl workload, res []result) {
	fmt.Fprintf(w, "\n%s\n", wl.name)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "  variant\t%s\tslowdown\tns/transition\tp99\tevents/s\tlost\treader s/M events\tRSS\n", wl.unit)
	base := median(res[0].ns)
	for i, r := range res {
		fmt.Fprintf(tw, "  %s\t%.0f\t%.2f (%.2f to %.2f)", r.variant, median(r.ns), median(r.ratio), slices.Min(r.ratio), slices.Max(r.ratio))
		if wl.transitions > 0 && i > 0 {
			fmt.Fprintf(tw, "\t%.0f", (median(r.ns)-base)/wl.transitions)
		} else {
			fmt.Fprint(tw, "\t-")
		}
		if p := median(r.p99); p > 0 {
			fmt.Fprintf(tw, "\t%s", time.Duration(p).Round(10*time.Microsecond))
		} else {
			fmt.Fprint(tw, "\t-")
		}
		u := r.usage
		if u.events > 0 {
			fmt.Fprintf(tw, "\t%.0f\t%d", float64(u.events)/r.took.Seconds(), u.lost)
		} else {
			fmt.Fprint(tw, "\t-\t-")
		}
		if u.cpu > 0 {
			fmt.Fprintf(tw, "\t%.2f\t%d MB\n", readerSeconds(u), u.rss>>20)
		} else {
			fmt.Fprint(tw, "\t-\t-\n")
		}
	}
	tw.Flush()
}

// readerSeconds is the CPU time of the reading process for a million events,
// without what it takes to attach and to detach.
func readerSeconds(u usage) float64 { return u.cpu.Seconds() / (float64(u.events) / 1e6) }

// goal is a bound on something measured.
type goal struct {
	text       string
	have, want float64
}

func find(res []result, name string) result {
	for _, r := range res {
		if r.variant == name {
			return r
		}
	}
	panic("no variant " + name)
}

// costGoals compare the cost of a transition, round by round.
func costGoals(res []result) []goal {
	against := func(rival string) float64 {
		ours, other := find(res, "gopherscope --json"), find(res, rival)
		quotients := make([]float64, len(ours.ratio))
		for i := range quotients {
			quotients[i] = (ours.ratio[i] - 1) / (other.ratio[i] - 1)
		}
		return median(quotients)
	}
	return []goal{
		{"cost of a transition, against an empty program", against("empty program at our sites"), 1.15},
		{"cost of a transition, against the tutorial's design", against("tutorial's design"), 0.6},
	}
}

// readerGoals bound what the tool itself uses at its full rate.
func readerGoals(res []result) []goal {
	u := find(res, "gopherscope --json").usage
	return []goal{
		{"reader's CPU seconds for a million events", readerSeconds(u), 0.5},
		{"tool's memory at full rate, MB", float64(u.rss >> 20), 100},
		{"events lost", float64(u.lost), 0},
	}
}

func printGoals(w io.Writer, goals []goal) {
	fmt.Fprintln(w)
	for _, g := range goals {
		verdict := "PASS"
		if g.have > g.want {
			verdict = "FAIL"
		}
		fmt.Fprintf(w, "%s  %s: %.2f, at most %.2f\n", verdict, g.text, g.have, g.want)
	}
}
