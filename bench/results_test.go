package main

import (
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"gopherscope/internal/engine"
	"gopherscope/internal/report"
)

// rounds makes a variant's result of the ns a unit of each round.
func rounds(name string, u usage, ns ...int) result {
	r := result{name: name, usage: u}
	if u.events > 0 {
		r.reader = []float64{u.cpuSeconds()}
	}
	for _, n := range ns {
		r.rounds = append(r.rounds, sample{units: 10, took: time.Duration(10 * n)})
	}
	return r
}

// theResults is a run in which the machine is half as fast in the second round
// of three, which must change no ratio.
func theResults() []result {
	res := []result{
		rounds(untraced, usage{}, 100, 200, 100),
		rounds(empty, usage{}, 1100, 2200, 1100),
		rounds(ours, usage{events: 180, cpu: 90 * time.Microsecond, rss: 50 << 20}, 1200, 2400, 1200),
		rounds(rival, usage{events: 180, lost: 1}, 2300, 4600, 2300),
	}
	compare(res)
	return res
}

func TestCompare(t *testing.T) {
	res := theResults()
	for _, tt := range []struct {
		name            string
		slower, toEmpty float64
	}{{untraced, 1, 0}, {empty, 11, 1}, {ours, 12, 1.1}, {rival, 23, 2.2}} {
		r := find(res, tt.name)
		for k := range r.rounds {
			if r.slower[k] != tt.slower || math.Abs(r.toEmpty[k]-tt.toEmpty) > 1e-9 {
				t.Errorf("%s, round %d: slower %v, to empty %v, want %v, %v", tt.name, k, r.slower[k], r.toEmpty[k], tt.slower, tt.toEmpty)
			}
		}
	}
	if got := transitions(res); got != 6 {
		t.Errorf("transitions a unit = %v, want 6", got)
	}
}

func TestGoals(t *testing.T) {
	gs := goals([]run{
		{workload{onOneCPU: true}, theResults()},
		{workload{}, []result{rounds(ours, usage{events: 20, lost: 3, cpu: 30 * time.Microsecond, rss: 101 << 20}, 1)}},
	})
	want := []struct {
		measured float64
		pass     bool
	}{{1.1, true}, {0.5, true}, {0.6, false}, {101, false}, {3, false}}
	if len(gs) != len(want) {
		t.Fatalf("%d goals, want %d", len(gs), len(want))
	}
	for i, w := range want {
		if math.Abs(gs[i].Measured-w.measured) > 1e-9 || gs[i].Pass != w.pass {
			t.Errorf("%s: %v, pass %v, want %v, %v", gs[i].Text, gs[i].Measured, gs[i].Pass, w.measured, w.pass)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		of   []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{4, 2}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{8, 1, 4, 2}, 3}} {
		if got := median(tt.of); got != tt.want {
			t.Errorf("median(%v) = %v, want %v", tt.of, got, tt.want)
		}
	}
}

// TestCounted holds the pattern to what gopherscope and the tutorial's tracer
// print: a change of the summary must not go unnoticed here.
func TestCounted(t *testing.T) {
	sum := report.Summary{
		Events: 105163, Goroutines: 9, Duration: 1503 * time.Millisecond, Lost: engine.Lost{RingFull: 2},
		Cost: engine.Cost{NsPerUprobe: 5000, Total: time.Second},
	}
	for line, want := range map[string]string{sum.Text(): "105163 1.50s 2", "105163 events in 1.503s, 2 lost\n": "105163 1.503s 2"} {
		if got := strings.Join(counted.FindStringSubmatch(line)[1:], " "); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

func TestPrint(t *testing.T) {
	var b strings.Builder
	run{workload{name: "w", unit: "round trip"}, theResults()}.print(&b)
	for _, want := range []string{"w: 6.00 transitions a round trip", "gopherscope --json  1200 (1200-2400)", "12.00 (12.00-12.00)", "1.10 (1.10-1.10)", "50 MB"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in:\n%s", want, b.String())
		}
	}
}

// TestPaceGoal: what is lost at a pace counts, whether the pace was held, and what reading it costs.
func TestPaceGoal(t *testing.T) {
	for _, test := range []struct {
		events, lost uint64
		cpu          time.Duration
		pass, cheap  bool
	}{{80, 0, 4 * time.Microsecond, true, true}, {77, 0, 5 * time.Microsecond, true, false}, {75, 0, 0, false, true}, {79, 1, 0, false, true}} {
		res := []result{
			rounds(untraced, usage{}, 1000, 1000),
			rounds(inlineChecked, usage{events: test.events, lost: test.lost, cpu: test.cpu}, 500, 500), // 10 units each: 10 µs in all
		}
		compare(res)
		r := run{workload{name: "w", unit: "round trip", pace: 8e6}, res}
		if goals := inlineGoals([]run{r}); len(goals) != 2 || goals[0].Pass != test.cheap || goals[1].Pass != test.pass || goals[1].Measured != float64(test.lost) {
			t.Errorf("%d events, %d lost: %+v", test.events, test.lost, goals)
		}
		r.print(io.Discard)
	}
}

func TestInlineGoals(t *testing.T) {
	with := func(trace, inline result) []result {
		res := append(theResults(), trace, inline)
		for i := range res {
			res[i].slower, res[i].toEmpty = nil, nil
		}
		compare(res)
		return res
	}
	gs := inlineGoals([]run{
		{workload{onOneCPU: true}, with(rounds(goTracer, usage{}, 200, 400, 200), rounds(inlineChecked, usage{events: 100, cpu: 4 * time.Microsecond}, 120, 240, 120))},
		{workload{}, with(rounds(goTracer, usage{}, 200, 400, 200), rounds(inlineChecked, usage{events: 100, lost: 2, cpu: 4 * time.Microsecond}, 160, 320, 160))},
		{workload{rate: true}, with(rounds(goTracer, usage{}, 150, 300, 150), rounds(inlineChecked, usage{}, 120, 240, 120))},
	})
	want := []struct {
		measured float64
		pass     bool
	}{{0.2, true}, {1.2, true}, {1.6, false}, {0.8, true}}
	if len(gs) != len(want) {
		t.Fatalf("%d goals, want %d", len(gs), len(want))
	}
	for i, w := range want {
		if math.Abs(gs[i].Measured-w.measured) > 1e-9 || gs[i].Pass != w.pass {
			t.Errorf("%s: %v, pass %v, want %v, %v", gs[i].Text, gs[i].Measured, gs[i].Pass, w.measured, w.pass)
		}
	}
}
