package tsc

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func fit(t testing.TB) Quality {
	t.Helper()
	q, err := Check()
	if errors.Is(err, ErrUnfit) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// The clock must agree with the kernel's, at any time between two calibrations.
func TestClockFollows(t *testing.T) {
	q := fit(t)
	t.Logf("%+v", q)
	c, err := NewClock()
	if err != nil {
		t.Fatal(err)
	}
	worst := time.Duration(0)
	for range 300 {
		if err := c.Refresh(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
		r, err := read(10)
		if err != nil {
			t.Fatal(err)
		}
		a := r.anchor(1e9 / q.Hz)
		off := time.Duration(c.Mono(a.tsc) - a.mono).Abs()
		if off > 20*time.Microsecond+time.Duration(a.err) {
			t.Errorf("the clock is %v off, the reading itself %dns", off, a.err)
		}
		worst = max(worst, off)
	}
	t.Logf("worst %v", worst)
}

// A reading must be within what all of it took, and so must be what it says that it may be
// off.
func TestReadingError(t *testing.T) {
	fit(t)
	for range 100 {
		before := Now()
		r, err := read(1)
		after := Now()
		if err != nil {
			t.Fatal(err)
		}
		if r.width == 0 || r.tsc-r.width/2 < before || r.tsc+r.width/2 > after {
			t.Fatalf("%+v between %d and %d", r, before, after)
		}
		if a := r.anchor(0.25); a.tsc != r.tsc || a.mono != r.mono || a.err < int64(r.width/8) || a.err > int64(r.width/8)+1 {
			t.Fatalf("%+v is %+v at 4 GHz", r, a)
		}
	}
}

// slewed is a machine whose clock runs at a pace that changes.
type slewed struct {
	tsc  uint64
	mono float64
}

func (s *slewed) step(ticks uint64, nsPerTick float64, noise int64) anchor {
	s.tsc += ticks
	s.mono += float64(ticks) * nsPerTick
	return anchor{tsc: s.tsc, mono: int64(s.mono) + noise, err: 100}
}

func TestClockMonotone(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	m := &slewed{}
	c := &Clock{}
	if err := c.begin(m.step(1000, 0.5, 0), m.step(4e6, 0.5, 0)); err != nil {
		t.Fatal(err)
	}
	type pair struct {
		tsc  uint64
		mono int64
	}
	var told []pair
	for i := range 5000 {
		pace := 0.5 * (1 + 400e-6*float64(i%200)/200)
		if err := c.add(m.step(2e6, pace, int64(rng.IntN(200))-100)); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		if off := c.Mono(m.tsc) - int64(m.mono); off > 5000 || off < -5000 {
			t.Fatalf("step %d: %d ns off", i, off)
		}
		told = told[:0]
		for range 20 {
			at := m.tsc + uint64(rng.IntN(2e6))
			if rng.IntN(4) == 0 {
				at -= uint64(rng.IntN(40e6)) % at // one that comes late
			}
			told = append(told, pair{at, c.Mono(at)})
		}
		slices.SortFunc(told, func(a, b pair) int { return cmp.Compare(a.tsc, b.tsc) })
		for i := 1; i < len(told); i++ {
			if told[i].mono < told[i-1].mono {
				t.Fatalf("%v is told after %v", told[i], told[i-1])
			}
		}
	}
}

func TestClockJump(t *testing.T) {
	m := &slewed{}
	c := &Clock{}
	if err := c.begin(m.step(1000, 0.5, 0), m.step(4e6, 0.5, 0)); err != nil {
		t.Fatal(err)
	}
	before := c.Mono(m.tsc)
	m.mono += 3e9 // the machine slept, and the counter with it
	if err := c.add(m.step(2e6, 0.5, 0)); !errors.Is(err, ErrJump) {
		t.Fatalf("error %v", err)
	}
	if got := c.Mono(m.tsc); got-int64(m.mono) != 0 {
		t.Errorf("after the jump the clock is %d off", got-int64(m.mono))
	}
	m.mono -= 1e9
	if err := c.add(m.step(2e6, 0.5, 0)); !errors.Is(err, ErrJump) {
		t.Fatalf("error %v", err)
	}
	if got := c.Mono(m.tsc); got < before {
		t.Errorf("it ran backwards: %d after %d", got, before)
	}
}

func BenchmarkNow(b *testing.B) {
	for b.Loop() {
		Now()
	}
}

func BenchmarkMono(b *testing.B) {
	fit(b)
	c, err := NewClock()
	if err != nil {
		b.Fatal(err)
	}
	at := Now()
	for b.Loop() {
		at++
		c.Mono(at)
	}
}

func BenchmarkRefresh(b *testing.B) {
	fit(b)
	c, err := NewClock()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := c.Refresh(); err != nil && !errors.Is(err, ErrJump) {
			b.Fatal(err)
		}
	}
}
