package summary

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"gopherscope/internal/event"
)

// TestQuantiles compares with the sorted durations themselves.
func TestQuantiles(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{1, 2, 31, 32, 33, 1000, 50_000} {
		var d Durations
		var all []int64
		for range 2 { // the second time in the memory of the first
			d.reset()
			all = all[:0]
			for range n {
				v := int64(math.Exp(r.Float64() * 25)) // up to 72 s
				d.add(v, false)
				all = append(all, v)
			}
		}
		slices.Sort(all)
		var total int64
		for _, v := range all {
			total += v
		}
		if d.Count() != uint64(n) || int64(d.Total()) != total || int64(d.Max()) != all[n-1] {
			t.Errorf("%d: count %d, total %d, max %d", n, d.Count(), d.Total(), d.Max())
		}
		for _, q := range []float64{0, 0.5, 0.9, 0.99, 0.999, 1} {
			want := all[max(0, int(math.Ceil(q*float64(n)))-1)]
			got := int64(d.Quantile(q))
			if got < want || float64(got) > 1.01*float64(want)+1 || n <= fewest && got != want {
				t.Errorf("%d durations: quantile %v is %d, want %d", n, q, got, want)
			}
		}
		var inBuckets uint64
		low := time.Duration(0)
		for _, b := range d.buckets() {
			inBuckets += b.Count
			want := uint64(0)
			for _, v := range all {
				if float64(v) > 1.01*float64(low) && float64(v) < 0.99*float64(b.UpTo) {
					want++ // for sure
				}
			}
			if b.Count < want {
				t.Errorf("%d durations: %d in the bucket up to %v, at least %d belong there", n, b.Count, b.UpTo, want)
			}
			low = b.UpTo
		}
		if inBuckets != uint64(n) {
			t.Errorf("%d of %d durations are in buckets", inBuckets, n)
		}
	}
}

// A duration beyond what a histogram has room for counts as the longest that it has.
func TestVeryLong(t *testing.T) {
	var d Durations
	for range 40 {
		d.add(math.MaxInt64/64, true)
	}
	if d.Count() != 40 || d.Max() != math.MaxInt64/64 || d.Quantile(0.5) < longest || !d.dist().MaxAtLeast || d.dist().AtLeast != 40 {
		t.Errorf("%+v", d.dist())
	}
}

func TestBound(t *testing.T) {
	for i, want := range []time.Duration{100, 200, 500, 1000, 2000, 5000, 10000} {
		if got := bound(i); got != want {
			t.Errorf("bound %d is %v, want %v", i, got, want)
		}
	}
}

func TestUserFunc(t *testing.T) {
	for _, tt := range []struct {
		stack []string
		want  string
	}{
		{[]string{"runtime.gopark", "time.Sleep", "main.nap"}, "main.nap"},
		{[]string{"internal/poll.(*FD).Read", "net.(*conn).Read", "net/http.(*connReader).backgroundRead"}, "net/http.(*connReader).backgroundRead"},
		{[]string{"internal/runtime/maps.f", "sync/atomic.g", "example.com/internal/x.(*T[net/http.Header]).f"}, "example.com/internal/x.(*T[net/http.Header]).f"},
		{[]string{"runtime.gopark", "runtime.bgsweep"}, ""},
		{nil, ""},
	} {
		var stack []event.Location
		for _, fn := range tt.stack {
			stack = append(stack, event.Location{Func: fn})
		}
		if got := UserFunc(stack); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.stack, got, tt.want)
		}
	}
}
