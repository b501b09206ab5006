package tsc

import (
	"errors"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// played is a rally of two CPUs, the second of which has a counter that is
// off by as many ticks.
func played(t *testing.T, a, b int, off uint64) *rally {
	t.Helper()
	const rounds = 2000
	r := &rally{now: [2]func() uint64{Now, func() uint64 { return Now() + off }}}
	r.turn.Store(visitor)
	deadline := time.Now().Add(5 * time.Second)
	stayed := make(chan error, 1)
	go func() {
		stayed <- onThread(func() error {
			if err := pin(a); err != nil {
				return err
			}
			r.stay(deadline)
			return nil
		})
	}()
	finished := false
	err := onThread(func() error {
		defer r.over.Store(true)
		if err := pin(b); err != nil {
			return err
		}
		finished = r.visit(rounds, deadline)
		return nil
	})
	if err := errors.Join(err, <-stayed); err != nil {
		t.Fatal(err)
	}
	if !finished {
		t.Fatalf("CPU %d and %d: not finished in 5s", a, b)
	}
	return r
}

// Stamps that follow one another through memory must rise, whichever CPUs they are from. Check
// must come to the same verdict.
func TestStampsRise(t *testing.T) {
	_, verdict := Check()
	if err := invariant(); err != nil {
		if !errors.Is(verdict, ErrUnfit) {
			t.Fatalf("%v, yet Check says %v", err, verdict)
		}
		t.Skip(err)
	}
	allowed := everywhere(t)
	cpus := cpusOf(&allowed)
	behind := uint64(0)
	for i := range cpus[1:] {
		r := played(t, cpus[i], cpus[i+1], 0)
		t.Logf("CPU %d and %d: at least %d ticks there, %d back", cpus[i], cpus[i+1], r.trip[visitor], r.trip[home])
		behind = max(behind, r.behind)
	}
	if behind > 0 {
		t.Errorf("stamps are up to %d ticks before one that they follow; Check says %v", behind, verdict)
	} else if verdict != nil {
		t.Errorf("the stamps are in order, yet Check says %v", verdict)
	}
}

// Counters that differ must be found, whichever is ahead, and the bound must hold.
func TestRallyFindsSkew(t *testing.T) {
	fit(t)
	allowed := everywhere(t)
	cpus := cpusOf(&allowed)
	if len(cpus) < 2 {
		t.Skip("one CPU")
	}
	for _, off := range []int64{-20_000, 20_000} {
		r := played(t, cpus[0], cpus[1], uint64(off))
		if r.behind == 0 || r.behind > 20_000 {
			t.Errorf("%d ticks off: up to %d behind", off, r.behind)
		}
	}
	for _, off := range []int64{-10, 10} {
		if r := played(t, cpus[0], cpus[1], uint64(off)); r.behind > 0 || r.apart() < 10 {
			t.Errorf("%d ticks off: %d behind, no more than %d apart", off, r.behind, r.apart())
		}
	}
}

// With one P the two sides cannot run at once, and have to make room for one another.
func TestRallyOneP(t *testing.T) {
	fit(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	begin := time.Now()
	if _, err := Check(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}

// A side whose other one never comes gives up.
func TestRallyAlone(t *testing.T) {
	r := &rally{now: [2]func() uint64{Now, Now}}
	r.turn.Store(home)
	begin := time.Now()
	if r.visit(1, begin.Add(10*time.Millisecond)) {
		t.Error("it finished")
	}
	if took := time.Since(begin); took < 10*time.Millisecond || took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestSpread(t *testing.T) {
	var cpus []int
	for cpu := range 127 {
		cpus = append(cpus, cpu+1)
	}
	if got := spread(cpus[:32], 32); !slices.Equal(got, cpus[:32]) {
		t.Errorf("%v", got)
	}
	if got := spread(cpus[:0], 32); len(got) != 0 {
		t.Errorf("%v of none", got)
	}
	for n := 33; n <= len(cpus); n++ {
		got := spread(cpus[:n], 32)
		if len(got) != 32 || got[31] != n || !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != 32 {
			t.Errorf("%v of %d", got, n)
		}
	}
}

// pin's error names the CPU.
func TestPinFails(t *testing.T) {
	if err := onThread(func() error { return pin(1023) }); err == nil || !strings.Contains(err.Error(), "CPU 1023") {
		t.Errorf("error %v", err)
	}
}

// A rally keeps the shortest trips and the worst stamp that was behind.
func TestStroke(t *testing.T) {
	at := []uint64{100, 150, 120, 200}
	now := func() uint64 { v := at[0]; at = at[1:]; return v }
	r := &rally{now: [2]func() uint64{now, now}, trip: [2]uint64{math.MaxUint64, math.MaxUint64}}
	for i := range int32(4) {
		r.stroke(i % 2)
	}
	if r.trip != [2]uint64{100, 50} || r.behind != 30 || r.stamp != 200 || r.turn.Load() != home {
		t.Errorf("trips %d, %d behind, latest %d, turn %d", r.trip, r.behind, r.stamp, r.turn.Load())
	}
}
