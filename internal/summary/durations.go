package summary

import (
	"math"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// digits is the number of significant digits of quantiles: they are at most 1 % too
	// large. With three a histogram would take 350 KB, and there is one for each row.
	digits = 2
	// longest is where durations are cut off for quantiles, 13 days; never for totals
	// and maxima.
	longest = 1 << 50
	// fewest is how many durations are kept as they are before a histogram is made of
	// them. Most rows of a large program never have more.
	fewest = 32
)

// Durations are a distribution of durations. Count, total and maximum are exact;
// quantiles are exact up to 32 durations, and at most 1 % too large beyond. The zero
// Durations is empty and ready.
type Durations struct {
	count      uint64
	total      int64 // ns
	max        int64 // ns
	atLeast    uint64
	maxAtLeast bool
	few        []int64
	hist       *hdrhistogram.Histogram // nil until few is full; then few is empty
}

// add takes a duration in ns. atLeast says that it is a lower bound.
func (d *Durations) add(ns int64, atLeast bool) {
	d.count++
	d.total += ns
	if atLeast {
		d.atLeast++
	}
	if ns > d.max || ns == d.max && atLeast {
		d.max, d.maxAtLeast = ns, atLeast
	}
	if d.hist != nil {
		record(d.hist, ns)
		return
	}
	if d.few == nil {
		d.few = make([]int64, 0, fewest)
	}
	if len(d.few) < fewest {
		d.few = append(d.few, ns)
		return
	}
	d.spill()
	record(d.hist, ns)
}

// spill makes a histogram of the durations that are kept as they are.
func (d *Durations) spill() {
	d.hist = hdrhistogram.New(1, longest, digits)
	for _, v := range d.few {
		record(d.hist, v)
	}
	d.few = nil
}

// merge adds the durations of another distribution.
func (d *Durations) merge(from *Durations) {
	switch {
	case from.count == 0:
		return
	case from.hist == nil && (d.hist != nil || len(d.few)+len(from.few) <= fewest):
		for _, ns := range from.few {
			if d.hist != nil {
				record(d.hist, ns)
			} else {
				d.few = append(d.few, ns)
			}
		}
	default:
		if d.hist == nil {
			d.spill()
		}
		for _, ns := range from.few {
			record(d.hist, ns)
		}
		if from.hist != nil {
			d.hist.Merge(from.hist)
		}
	}
	if from.max > d.max || from.max == d.max && from.maxAtLeast {
		d.max, d.maxAtLeast = from.max, from.maxAtLeast
	}
	d.count += from.count
	d.total += from.total
	d.atLeast += from.atLeast
}

// record adds to h what is neither negative nor longer than longest, so that the
// library cannot refuse it; a negative duration is never made (see Summary.Event).
func record(h *hdrhistogram.Histogram, ns int64) {
	_ = h.RecordValue(max(0, min(ns, longest)))
}

// reset empties d and keeps its memory.
func (d *Durations) reset() {
	if d.count == 0 {
		return
	}
	if d.hist != nil {
		d.hist.Reset()
	}
	*d = Durations{few: d.few[:0], hist: d.hist}
}

// Count is how many durations there are.
func (d *Durations) Count() uint64 { return d.count }

// Total is their sum.
func (d *Durations) Total() time.Duration { return time.Duration(d.total) }

// Max is the longest; 0 without durations.
func (d *Durations) Max() time.Duration { return time.Duration(d.max) }

// Quantile is the smallest duration that a part q of them, from 0 to 1, does not
// exceed; 0 without durations.
func (d *Durations) Quantile(q float64) time.Duration {
	if d.count == 0 {
		return 0
	}
	if d.hist != nil {
		return time.Duration(min(d.hist.ValueAtQuantile(100*q), d.max))
	}
	sorted := slices.Sorted(slices.Values(d.few))
	rank := int(math.Ceil(q * float64(len(sorted))))
	return time.Duration(sorted[max(0, min(rank, len(sorted))-1)])
}

// Dist is what a page says of [Durations].
type Dist struct {
	Count               uint64
	Total               time.Duration
	P50, P90, P99, P999 time.Duration
	Max                 time.Duration
	AtLeast             uint64 // how many of them began before the trace: they lasted for that long or longer
	MaxAtLeast          bool   // the longest is one of these
}

// Mean is the mean duration; 0 without durations.
func (d *Dist) Mean() time.Duration {
	if d.Count == 0 {
		return 0
	}
	return d.Total / time.Duration(d.Count)
}

// dist freezes d.
func (d *Durations) dist() Dist {
	return Dist{
		Count: d.count, Total: d.Total(), Max: d.Max(), AtLeast: d.atLeast, MaxAtLeast: d.maxAtLeast,
		P50: d.Quantile(0.50), P90: d.Quantile(0.90), P99: d.Quantile(0.99), P999: d.Quantile(0.999),
	}
}

// Bucket is one bar of a histogram: how many durations are longer than the bound of
// the bucket before and at most UpTo.
type Bucket struct {
	UpTo  time.Duration
	Count uint64
}

// buckets sorts the durations into buckets of 1, 2, 5, 10, ... from 100 ns on, without
// the empty ones at both ends. A duration within 1 % of a bound can be in the bucket
// next to its own.
func (d *Durations) buckets() []Bucket {
	var out []Bucket
	put := func(upTo int64, count int64) {
		for len(out) == 0 || int64(out[len(out)-1].UpTo) < upTo {
			out = append(out, Bucket{UpTo: bound(len(out))})
		}
		for i := len(out) - 1; ; i-- {
			if i == 0 || int64(out[i-1].UpTo) < upTo {
				out[i].Count += uint64(count)
				return
			}
		}
	}
	for _, v := range d.few {
		put(v, 1)
	}
	if d.hist != nil {
		for _, bar := range d.hist.Distribution() {
			if bar.Count > 0 {
				put(bar.From, bar.Count)
			}
		}
	}
	first := slices.IndexFunc(out, func(b Bucket) bool { return b.Count > 0 })
	return out[max(0, first):]
}

// bound is the upper bound of bucket i: 100 ns, 200 ns, 500 ns, 1 µs and so on.
func bound(i int) time.Duration {
	b := 100 * time.Nanosecond
	for ; i >= 3; i -= 3 {
		b *= 10
	}
	return b * [3]time.Duration{1, 2, 5}[i]
}
