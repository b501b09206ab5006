package tsc

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A counter that starts anew, as after a suspend to RAM, is a jump, and the clock goes on
// with the new stamps.
func TestCounterStartsAnew(t *testing.T) {
	m := &slewed{}
	c := started(t, m)
	for range 100 {
		if err := c.Refresh(); err != nil {
			t.Fatal(err)
		}
	}
	m.tsc = 5000
	if err := c.Refresh(); !errors.Is(err, ErrJump) {
		t.Errorf("error %v", err)
	}
	for range 5 {
		if err := c.Refresh(); err != nil {
			t.Errorf("later: %v", err)
		}
	}
	if off := c.Mono(m.tsc) - int64(m.mono); max(off, -off) > 1000 {
		t.Errorf("%v off", time.Duration(off))
	}
}

// CLOCK_MONOTONIC does not count a suspend to idle, the counter does: one jump, after which
// the clock is right again. Nobody asked for a time in between.
func TestCounterRunsAhead(t *testing.T) {
	m := &slewed{}
	c := started(t, m)
	for range 100 {
		if err := c.Refresh(); err != nil {
			t.Fatal(err)
		}
	}
	c.Mono(m.tsc)
	m.tsc += 20e9
	if err := c.Refresh(); !errors.Is(err, ErrJump) {
		t.Errorf("error %v", err)
	}
	jumps := 0
	for range 1000 {
		if c.Refresh() != nil {
			jumps++
		}
	}
	if off := c.Mono(m.tsc) - int64(m.mono); jumps > 0 || max(off, -off) > 1000 {
		t.Errorf("%d jumps later, %v off", jumps, time.Duration(off))
	}
}

// A pause that lets the line drift, and soon after it the next calibration: no jump.
func TestPauseIsNoJump(t *testing.T) {
	for _, pause := range []time.Duration{100 * time.Millisecond, time.Second} {
		for _, slew := range []float64{200e-6, -200e-6} {
			m := &slewed{}
			c := started(t, m)
			for range 1000 {
				if err := c.Refresh(); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.add(m.step(uint64(pause)*2, 0.5*(1+slew), 0)); err != nil {
				t.Fatal(err)
			}
			jumps := 0
			for range 1000 {
				if c.add(m.step(2e6, 0.5*(1+slew), 0)) != nil {
					jumps++
				}
			}
			if off := c.Mono(m.tsc) - int64(m.mono); jumps > 0 || max(off, -off) > 1000 {
				t.Errorf("pause %v, slew %v: %d jumps in the second after it, then %v off", pause, slew, jumps, time.Duration(off))
			}
		}
	}
}

// Error is a bound, also with pauses.
func TestErrorBounds(t *testing.T) {
	for _, pause := range []int64{2e6, 40e6, 200e6} {
		rng := rand.New(rand.NewPCG(1, 2))
		m := &slewed{}
		c := started(t, m)
		over, worst := 0, int64(0)
		for range 5000 {
			if err := c.add(m.step(uint64(rng.Int64N(pause))+1000, 0.5, int64(rng.IntN(101))-50)); err != nil {
				t.Fatal(err)
			}
			off := c.Mono(m.tsc) - int64(m.mono)
			if off = max(off, -off); off > int64(c.Error()) {
				over++
			}
			worst = max(worst, off)
		}
		if over > 0 {
			t.Errorf("pauses up to %v: beyond Error %d times of 5000 at the moment of a calibration, worst %v", time.Duration(pause/2), over, time.Duration(worst))
		}
	}
}

// A time that was told once is told again, also after old pieces were thinned out: "times
// before it are as they were".
func TestToldTwice(t *testing.T) {
	m := &slewed{}
	c := started(t, m)
	for range 400 {
		if err := c.Refresh(); err != nil {
			t.Fatal(err)
		}
	}
	mid := m.tsc + 1e6
	before := c.Mono(mid)
	m.mono += 3e9
	if err := c.Refresh(); !errors.Is(err, ErrJump) {
		t.Fatal(err)
	}
	for range 120 { // the jump is in the newer half, which is not thinned out
		if err := c.Refresh(); err != nil {
			t.Fatal(err)
		}
	}
	if after := c.Mono(mid); after != before {
		t.Errorf("%v later than it was told before", time.Duration(after-before))
	}
}

// Over its whole life no two times contradict their stamps, in whatever order they were asked.
func TestNeverContradicts(t *testing.T) {
	type pair struct {
		tsc  uint64
		mono int64
	}
	rng := rand.New(rand.NewPCG(3, 2))
	m := &slewed{}
	c := started(t, m)
	var told []pair
	for i := range 5000 {
		pace := 0.5 * (1 + 400e-6*float64(i%200)/200)
		if err := c.add(m.step(2e6, pace, int64(rng.IntN(200))-100)); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			at := m.tsc - min(m.tsc, uint64(rng.Int64N(1900e6)))
			told = append(told, pair{at, c.Mono(at)})
		}
	}
	slices.SortFunc(told, func(a, b pair) int { return cmp.Compare(a.tsc, b.tsc) })
	back, worst, highest := 0, int64(0), int64(0)
	for _, p := range told {
		if p.mono < highest {
			back++
			worst = max(worst, highest-p.mono)
		}
		highest = max(highest, p.mono)
	}
	if back > 0 {
		t.Errorf("%d of %d times are before one of an earlier stamp, by up to %d ns", back, len(told), worst)
	}
}

// The first piece, which takes the place of old ones, stays near the clock.
func TestOldTimes(t *testing.T) {
	m := &slewed{}
	c := started(t, m)
	type pair struct {
		tsc  uint64
		mono int64
	}
	var were []pair
	for range 3000 {
		if err := c.add(m.step(2e6, 0.5*(1+300e-6), 0)); err != nil {
			t.Fatal(err)
		}
		were = append(were, pair{m.tsc, int64(m.mono)})
	}
	worst := int64(0)
	for _, p := range were {
		off := c.Mono(p.tsc) - p.mono
		worst = max(worst, off, -off)
	}
	if worst > 5000 {
		t.Errorf("%v off after 3s", time.Duration(worst))
	}
}

// One wide reading, honest about its error, must not spoil the pace.
func TestWideReading(t *testing.T) {
	m := &slewed{}
	c := started(t, m)
	for range 300 {
		if err := c.add(m.step(40e6, 0.5, 0)); err != nil {
			t.Fatal(err)
		}
	}
	a := m.step(40e6, 0.5, 400_000)
	a.err = 1_000_000
	if err := c.add(a); err != nil {
		t.Fatal(err)
	}
	worst := int64(0)
	for range 100 {
		if err := c.add(m.step(40e6, 0.5, 0)); err != nil {
			t.Fatal(err)
		}
		off := c.Mono(m.tsc) - int64(m.mono)
		worst = max(worst, off, -off)
	}
	if worst > 5000 {
		t.Errorf("%v off after a reading that was 400µs off and said up to 1ms", time.Duration(worst))
	}
}

// A counter that has another rate, as on another host, is a jump or two, and no more of them.
func TestAnotherRate(t *testing.T) {
	for _, rate := range []float64{0.3, 0.49, 0.4975, 0.503, 0.6, 5} {
		m := &slewed{}
		c := started(t, m)
		jumps := 0
		for i := range 2000 {
			pace := 0.5
			if i >= 500 {
				pace = rate
			}
			err := c.add(m.step(2e6, pace, int64(i%101)-50))
			if errors.Is(err, ErrJump) {
				jumps++
			} else if err != nil {
				t.Fatal(err)
			}
			off := c.Mono(m.tsc) - int64(m.mono)
			if off = max(off, -off); off > int64(c.Error()) || i > 1500 && off > 1000 {
				t.Fatalf("%v ns a tick, step %d: %d ns off, Error is %v", rate, i, off, c.Error())
			}
		}
		// One that is near takes a while to tell: each reading by itself contradicts little.
		if far := rate < 0.4 || rate > 0.55; jumps > 3 || far && jumps != 2 {
			t.Errorf("%v ns a tick: %d jumps", rate, jumps)
		}
	}
}

// What was told before a jump stays, and what comes after is not earlier; the clock is right
// again as soon as that allows, and says until then how far it is off.
func TestToldBeforeJump(t *testing.T) {
	m := &slewed{}
	c := started(t, m)
	for range 100 {
		if err := c.Refresh(); err != nil {
			t.Fatal(err)
		}
	}
	m.tsc += 200e6 // 100 ms that the clock does not count, and somebody asks meanwhile
	asked := m.tsc
	told := c.Mono(asked)
	if err := c.Refresh(); !errors.Is(err, ErrJump) {
		t.Fatalf("error %v", err)
	}
	for i := range 200 {
		off := c.Mono(m.tsc) - int64(m.mono)
		if c.Mono(m.tsc) < told || off > int64(c.Error()) || i > 140 && max(off, -off) > 200 {
			t.Fatalf("step %d: %d after %d was told, %d off, Error is %v", i, c.Mono(m.tsc), told, off, c.Error())
		}
		if c.Mono(asked) != told {
			t.Fatalf("step %d: %d was told, now it is %d", i, told, c.Mono(asked))
		}
		if err := c.Refresh(); err != nil {
			t.Fatal(err)
		}
	}
}

// A clock that began with a wrong pace finds the right one.
func TestWrongFirstPace(t *testing.T) {
	for _, wrong := range []int64{-1.5e6, -300e3, -30e3, -5e3, 5e3, 30e3, 1e6, 1e9} {
		m := &slewed{}
		c := &Clock{}
		if err := c.begin(m.step(1000, 0.5, 0), m.step(4e6, 0.5, wrong)); err != nil {
			t.Fatal(err)
		}
		jumps, late := 0, 0
		for i := range 2000 {
			if err := c.add(m.step(2e6, 0.5, 0)); err != nil {
				if jumps++; i > 10 {
					late++
				}
			}
		}
		off := c.Mono(m.tsc) - int64(m.mono)
		// Half a second ahead and more takes as long to come back: times are not taken back.
		if jumps > 4 || late > 0 || max(off, -off) > 1000 {
			t.Errorf("%d ns wrong: %d jumps, %d of them late, then %d ns off", wrong, jumps, late, off)
		}
	}
}

// After a second of readings in which the thread was put off its CPU each time, the clock is
// as good as those, and soon as good as later ones.
func TestAllWide(t *testing.T) {
	m := &slewed{}
	c := started(t, m)
	rng := rand.New(rand.NewPCG(8, 9))
	for i := range 2000 {
		noise, err := int64(rng.IntN(101)-50), int64(100)
		if i >= 500 && i < 1000 {
			noise, err = rng.Int64N(2e6)-1e6, 1e6
		}
		a := m.step(4e6, 0.5, noise)
		a.err = err
		if err := c.add(a); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		off := c.Mono(m.tsc) - int64(m.mono)
		if off = max(off, -off); off > int64(c.Error()) || off > 1000 && (i < 500 || i > 1010) {
			t.Fatalf("step %d: %d ns off, Error is %v", i, off, c.Error())
		}
	}
}
