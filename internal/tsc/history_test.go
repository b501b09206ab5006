package tsc

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"
)

// started is a clock that is calibrated with a machine's readings, at 2 GHz.
func started(t *testing.T, m *slewed) *Clock {
	t.Helper()
	c := &Clock{read: func() (anchor, error) { return m.step(2e6, 0.5, 0), nil }}
	if err := c.begin(m.step(1000, 0.5, 0), m.step(4e6, 0.5, 0)); err != nil {
		t.Fatal(err)
	}
	return c
}

// A tracer asks for its stamps in rising order: those of the moment, which may be after the
// latest calibration, and, when a merge has to wait, some that are up to 200 calibrations
// old. Whatever the clock did meanwhile, slewing, noise, pauses and jumps, the times must rise.
func TestRisingStampsRise(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 7))
		m := &slewed{}
		c := started(t, m)
		jumps, asked, told := 0, uint64(0), int64(0)
		var waiting []uint64
		wait := 0 // stamps that are there before the merge goes on
		for step := range 4000 {
			if rng.IntN(200) == 0 {
				m.mono += float64(rng.Int64N(2e9) - 1e9) // a jump to either side
			}
			begin, ticks := m.tsc, 1000+uint64(rng.Int64N(40e6))
			for at := begin; at < begin+ticks; at += 1 + uint64(rng.Int64N(int64(ticks))) {
				waiting = append(waiting, at)
			}
			waiting = append(waiting, begin+ticks-1) // just before the next calibration
			if len(waiting) >= wait {
				for _, at := range waiting {
					mono := c.Mono(at)
					if mono < told {
						t.Fatalf("seed %d, step %d: %d is told for stamp %d, after %d for %d", seed, step, mono, at, told, asked)
					}
					asked, told = at, mono
				}
				waiting, wait = waiting[:0], rng.IntN(2)*rng.IntN(500)
			}
			pace := 0.5 * (1 + 500e-6*(2*rng.Float64()-1))
			err := c.add(m.step(ticks, pace, int64(rng.IntN(101))-50))
			if errors.Is(err, ErrJump) {
				jumps++
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if jumps < 5 {
			t.Errorf("seed %d: only %d jumps were noticed", seed, jumps)
		}
	}
}

// A stamp's time is between those of any two around it, to the nanosecond, at every place
// where pieces of the line meet, also after old ones were thinned out.
func TestNoStepAtKnots(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 7))
	m := &slewed{}
	c := started(t, m)
	for range 3 * maxKnots {
		// Slower than at first: the line of the beginning lies above the later ones.
		pace := 0.5 * (1 - 400e-6*rng.Float64())
		if err := c.add(m.step(2e6, pace, int64(rng.IntN(101))-50)); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.knots) > maxKnots {
		t.Errorf("%d pieces", len(c.knots))
	}
	for i, k := range c.knots[1:] {
		before, at, after := c.Mono(k.tsc-4), c.Mono(k.tsc), c.Mono(k.tsc+4)
		if before > at || at > after {
			t.Errorf("piece %d: %d, %d, %d", i, before, at, after)
		}
		// 8 ticks are 4 ns.
		if after-before > 6 {
			t.Errorf("piece %d: a step of %d ns", i, after-before)
		}
	}
}

// A stamp's time does not depend on what was asked before.
func TestAnyOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 7))
	m := &slewed{}
	c := started(t, m)
	for range maxKnots - 2 {
		pace := 0.5 * (1 + 500e-6*(2*rng.Float64()-1))
		if err := c.add(m.step(20e6, pace, 0)); err != nil {
			t.Fatal(err)
		}
	}
	for range 1000 {
		at := uint64(rng.Int64N(int64(m.tsc + 20e6)))
		c.Mono(0)
		rising := c.Mono(at)
		c.Mono(m.tsc + 20e6)
		falling := c.Mono(at)
		c.Mono(uint64(rng.Int64N(int64(m.tsc))))
		if any := c.Mono(at); rising != falling || rising != any {
			t.Fatalf("stamp %d is %d, %d after later ones, %d after any", at, rising, falling, any)
		}
	}
}

// The clock must follow a slew as strong as NTP makes it, in both directions, and must not
// take it for a jump, at any of the pauses between calibrations that a tracer makes.
func TestFollowsSlew(t *testing.T) {
	for _, poll := range []time.Duration{time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond} {
		for _, slew := range []float64{500e-6, -500e-6} {
			m := &slewed{}
			c := started(t, m)
			ticks := uint64(poll) * 2
			worst := int64(0)
			for i := range 2000 {
				pace := 0.5
				if i >= 500 {
					pace *= 1 + slew
				}
				if err := c.add(m.step(ticks, pace, 0)); err != nil {
					t.Fatalf("every %v, slew %v, step %d: %v", poll, slew, i, err)
				}
				off := c.Mono(m.tsc) - int64(m.mono)
				worst = max(worst, off, -off)
				if settled := i < 500 || i > 1500; settled && max(off, -off) > 100 {
					t.Fatalf("every %v, slew %v, step %d: %d ns off", poll, slew, i, off)
				}
			}
			// What the change of pace makes until the next calibration and while the line
			// comes back: half the way in 5 ms or a pause.
			if limit := 3 * 500e-6 * float64(max(poll, 5*time.Millisecond)); float64(worst) > limit {
				t.Errorf("every %v, slew %v: %d ns off, allowed are %.0f", poll, slew, worst, limit)
			}
		}
	}
}

// Times long after the last calibration and before the first go on at the pace.
func TestBeyondTheEnds(t *testing.T) {
	m := &slewed{tsc: 1 << 40}
	c := started(t, m)
	for range 100 {
		if err := c.Refresh(); err != nil {
			t.Fatal(err)
		}
	}
	for _, ticks := range []uint64{1, 2e6, 200e6, 1 << 34} {
		if got, want := c.Mono(m.tsc+ticks)-int64(m.mono), int64(ticks/2); got < want-1 || got > want+1 {
			t.Errorf("%d ticks after the last calibration it is %d ns, not %d", ticks, got, want)
		}
		first := c.knots[0]
		if got, want := first.mono-c.Mono(first.tsc-ticks), int64(ticks/2); got < want-1 || got > want+1 {
			t.Errorf("%d ticks before the first calibration it is %d ns, not %d", ticks, got, want)
		}
	}
}

// A reading that fails is the caller's to know, and changes nothing.
func TestRefreshFails(t *testing.T) {
	m := &slewed{}
	c := started(t, m)
	before := c.Mono(m.tsc + 1000)
	broken := errors.New("no clock")
	c.read = func() (anchor, error) { return anchor{tsc: m.tsc + 500, mono: 1}, broken }
	if err := c.Refresh(); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if after := c.Mono(m.tsc + 1000); after != before {
		t.Errorf("the time went from %d to %d", before, after)
	}
}

// A line through two readings that do not rise is none.
func TestStandsStill(t *testing.T) {
	a := anchor{tsc: 1000, mono: 1000}
	for _, b := range []anchor{a, {tsc: 2000, mono: 1000}, {tsc: 1000, mono: 2000}, {tsc: 500, mono: 2000}} {
		if err := (&Clock{}).begin(a, b); !errors.Is(err, ErrUnfit) {
			t.Errorf("%+v: error %v", b, err)
		}
	}
}

// Refresh is called at each poll and Mono for each event: neither may make garbage, nor
// the readings that Refresh takes.
func TestNoGarbage(t *testing.T) {
	m := &slewed{}
	c := started(t, m)
	failed := 0
	allocs := testing.AllocsPerRun(3*maxKnots, func() {
		if c.Refresh() != nil {
			failed++
		}
		c.Mono(m.tsc)
	})
	readingAllocs := testing.AllocsPerRun(100, func() {
		if _, err := read(readings); err != nil {
			failed++
		}
	})
	if allocs > 0 || readingAllocs > 0 || failed > 0 {
		t.Errorf("%v allocations for a calibration, %v for its readings, %d errors", allocs, readingAllocs, failed)
	}
}

// A merge asks for stamps out of the last milliseconds, of which several pieces are.
func BenchmarkMonoLate(b *testing.B) {
	m := &slewed{}
	c := &Clock{}
	if err := c.begin(m.step(1000, 0.5, 0), m.step(4e6, 0.5, 0)); err != nil {
		b.Fatal(err)
	}
	for range maxKnots {
		if err := c.add(m.step(2e6, 0.5, 0)); err != nil {
			b.Fatal(err)
		}
	}
	at, end := m.tsc-40e6, m.tsc
	for b.Loop() {
		if at += 997; at > end {
			at -= 40e6
		}
		c.Mono(at)
	}
}
