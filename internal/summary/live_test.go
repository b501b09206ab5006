package summary_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"gopherscope/internal/goruntime"
	"gopherscope/internal/gstate"
	"gopherscope/internal/summary"
)

// TestFigures follows random lives in intervals of single figures. Together they are what a
// Summary has that knows no intervals, and a window has the last of them.
func TestFigures(t *testing.T) {
	successors[goruntime.Leaked] = []goruntime.Status{running}
	defer delete(successors, goruntime.Leaked)
	r := rand.New(rand.NewPCG(3, 4))
	tr, live, whole := gstate.NewTracker(), summary.New(0, summary.Options{}), summary.New(0, summary.Options{})
	everything, everyWait, last3 := summary.NewWindow(1000), summary.NewWindow(1), summary.NewWindow(3)
	last := map[uint64]goruntime.Status{}
	var next, created uint64
	var counts []uint64
	var totals []time.Duration
	at := int64(0)
	for i := range 20_000 {
		at += r.Int64N(2000)
		e := randomEvent(r, last, &next, at)
		if e.From == goruntime.Leaked {
			e.From = waiting
		}
		c := tr.Apply(&e)
		live.Event(&e, c)
		whole.Event(&e, c)
		if i%97 == 0 {
			waits := map[string]int{"select": 0, "sleep": 0, "IO wait": 0, "": 0}
			for _, b := range whole.Page().Blocked {
				waits[b.Reason] += b.Now
			}
			for reason, n := range waits {
				if got := live.WaitingFor(reason); got != n {
					t.Fatalf("event %d: %d wait for %q, the page has %d", i, got, reason, n)
				}
			}
		}
		if i%20 != 19 {
			continue
		}
		created += live.Created()
		counts, totals = append(counts, live.Sched().Count()), append(totals, live.Sched().Total())
		for _, w := range []*summary.Window{everything, last3} {
			w.Next()
			w.Add(live.Sched())
		}
		live.EachBlocked(func(_ string, d *summary.Durations) { everyWait.Add(d) })
		live.ResetFigures()
		n := len(counts)
		if d := last3.Durations(); n > 3 && (d.Count() != counts[n-1]+counts[n-2]+counts[n-3] || d.Total() != totals[n-1]+totals[n-2]+totals[n-3]) {
			t.Fatalf("interval %d: the last three have %d latencies, %v; want %v, %v", n, d.Count(), d.Total(), counts[n-3:], totals[n-3:])
		}
	}
	if created != whole.Created() || created == 0 {
		t.Errorf("%d created, want %d", created, whole.Created())
	}
	got, want := everything.Durations(), whole.Sched()
	if got.Count() != want.Count() || got.Total() != want.Total() || got.Max() != want.Max() || got.Count() < 1000 {
		t.Errorf("%d latencies, %v, longest %v; want %d, %v, %v", got.Count(), got.Total(), got.Max(), want.Count(), want.Total(), want.Max())
	}
	for _, q := range []float64{0, 0.5, 0.9, 0.99, 0.999, 1} {
		if g, w := got.Quantile(q), want.Quantile(q); g != w {
			t.Errorf("quantile %v is %v, want %v", q, g, w)
		}
	}
	var waits uint64
	whole.EachBlocked(func(_ string, d *summary.Durations) { waits += d.Count() })
	if n := everyWait.Durations().Count(); n != waits || n == 0 {
		t.Errorf("%d waits, want %d", n, waits)
	}
}
