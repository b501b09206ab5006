package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// machine is where the benchmark ran.
type machine struct {
	Date   string `json:"date"`
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	Load   string `json:"load"` // other work, when the run began
}

func thisMachine() machine {
	m := machine{Date: time.Now().Format(time.DateOnly), CPUs: runtime.NumCPU(), CPU: runtime.GOARCH, Go: runtime.Version()}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load, _, _ = strings.Cut(string(text), " ")
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	return m
}

func (m machine) print(w io.Writer) {
	fmt.Fprintf(w, "%s, %s, %d CPUs, Linux %s, %s, load average at the start %s\n", m.Date, m.CPU, m.CPUs, m.Kernel, m.Go, m.Load)
	fmt.Fprintln(w, "Medians of the rounds, with minimum and maximum. Only ratios within this run say anything.")
}

// print writes the table of one workload.
func (r run) print(w io.Writer) {
	value, p99 := "ns/"+strings.ReplaceAll(r.workload.unit, " ", "-"), ""
	if r.workload.rate {
		value, p99 = r.workload.unit+"s/s", "p99\t"
	}
	changes := transitions(r.results)
	fmt.Fprintf(w, "\n%s: %.2f transitions a %s\n", r.workload.name, changes, r.workload.unit)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "  variant\t%s\t%sslowdown\tadded ns/transition\tto empty\tevents/s\tlost\treader s/M events\tRSS\n", value, p99)
	base := median(find(r.results, untraced).nsPerUnit())
	for _, v := range r.results {
		ns := v.nsPerUnit()
		toEmpty := "-"
		if len(v.toEmpty) > 0 {
			toEmpty = spread(v.toEmpty)
		}
		fmt.Fprintf(tw, "  %s\t", v.name)
		if r.workload.rate {
			fmt.Fprintf(tw, "%.0f (%.0f-%.0f)\t%s\t", 1e9/median(ns), 1e9/slices.Max(ns), 1e9/slices.Min(ns), v.p99().Round(10*time.Microsecond))
		} else {
			fmt.Fprintf(tw, "%.0f (%.0f-%.0f)\t", median(ns), slices.Min(ns), slices.Max(ns))
		}
		fmt.Fprintf(tw, "%s\t", spread(v.slower))
		if v.name == untraced {
			fmt.Fprint(tw, "-\t-\t")
		} else {
			fmt.Fprintf(tw, "%.1f\t%s\t", (median(ns)-base)/changes, toEmpty)
		}
		if u := v.usage; u.events > 0 {
			fmt.Fprintf(tw, "%.0f\t%d\t%.3f\t%d MB\n", float64(u.events)/v.took().Seconds(), u.lost, u.cpuSeconds(), u.rss>>20)
		} else {
			fmt.Fprint(tw, "-\t-\t-\t-\n")
		}
	}
	_ = tw.Flush() // as with Fprintf, w tells
}

func spread(v []float64) string {
	return fmt.Sprintf("%.2f (%.2f-%.2f)", median(v), slices.Min(v), slices.Max(v))
}

func printGoals(w io.Writer, goals []goal) {
	fmt.Fprintln(w)
	for _, g := range goals {
		verdict := "PASS"
		if !g.Pass {
			verdict = "FAIL"
		}
		fmt.Fprintf(w, "%s  %s: %.2f, at most %.2f\n", verdict, g.Text, g.Measured, g.AtMost)
	}
}

// jsonResult is a result as --json writes it; the lists have a number a round.
type jsonResult struct {
	Workload  string    `json:"workload"`
	Unit      string    `json:"unit"`
	Variant   string    `json:"variant"`
	NsPerUnit []float64 `json:"ns_per_unit"`
	Slowdown  []float64 `json:"slowdown"`
	P99Ns     int64     `json:"p99_ns,omitempty"`
	// Transitions are those of a unit, AddedNs what each of them costs.
	Transitions float64 `json:"transitions"`
	AddedNs     float64 `json:"added_ns_per_transition"`
	Events      uint64  `json:"events,omitempty"`
	EventsPerS  float64 `json:"events_per_s,omitempty"`
	Lost        uint64  `json:"lost"`
	ReaderCPUs  float64 `json:"reader_cpu_s,omitempty"`
	ReaderRSS   int64   `json:"reader_rss_bytes,omitempty"`
}

// writeJSON writes a whole run as one object.
func writeJSON(path string, m machine, runs []run, gs []goal) error {
	var results []jsonResult
	for _, r := range runs {
		base, changes := median(find(r.results, untraced).nsPerUnit()), transitions(r.results)
		for _, v := range r.results {
			results = append(results, jsonResult{
				Workload: r.workload.name, Unit: r.workload.unit, Variant: v.name,
				NsPerUnit: v.nsPerUnit(), Slowdown: v.slower, P99Ns: v.p99().Nanoseconds(),
				Transitions: changes, AddedNs: (median(v.nsPerUnit()) - base) / changes,
				Events: v.usage.events, EventsPerS: float64(v.usage.events) / v.took().Seconds(), Lost: v.usage.lost,
				ReaderCPUs: v.usage.cpu.Seconds(), ReaderRSS: v.usage.rss,
			})
		}
	}
	text, err := json.MarshalIndent(struct {
		Machine machine      `json:"machine"`
		Results []jsonResult `json:"results"`
		Goals   []goal       `json:"goals"`
	}{m, results, gs}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
