//go:build amd64

package stress_test

import (
	"os"
	"strconv"
	"testing"
	"time"

	"gopherscope/internal/testenv"
)

// run says how much is done.
type run struct {
	whole  time.Duration // GOPHERSCOPE_SOAK: for all; 0 if it is not set
	cycles int           // GOPHERSCOPE_CYCLES: for each build; 0 if it is not set
}

func asked(t *testing.T) run {
	t.Helper()
	var r run
	var err error
	if text := os.Getenv("GOPHERSCOPE_SOAK"); text != "" {
		if r.whole, err = time.ParseDuration(text); err != nil || r.whole <= 0 {
			t.Fatalf("GOPHERSCOPE_SOAK=%q is not a duration such as 30m", text)
		}
	}
	if text := os.Getenv("GOPHERSCOPE_CYCLES"); text != "" {
		if r.cycles, err = strconv.Atoi(text); err != nil || r.cycles < 1 {
			t.Fatalf("GOPHERSCOPE_CYCLES=%q is not a number from 1", text)
		}
	}
	return r
}

// builds are a way to load a program each, and C code, between runtimes that differ most. A
// long run has all of them.
func (r run) builds() []testenv.Build {
	switch {
	case os.Getenv("GOPHERSCOPE_MATRIX") == "1":
		return testenv.Matrix()
	case !r.short():
		return allBuilds()
	}
	return []testenv.Build{{Go: "1.18"}, {Go: "1.21", PIE: true}, {Go: "1.24", Cgo: true}, {Go: "1.27"}}
}

// allBuilds are the builds of a long run.
func allBuilds() (list []testenv.Build) {
	for _, v := range []string{"1.18", "1.21", "1.24", "1.27"} {
		list = append(list, testenv.Build{Go: v}, testenv.Build{Go: v, PIE: true}, testenv.Build{Go: v, Cgo: true})
	}
	return list
}

// short says that nobody asked for more than a part of a test run.
func (r run) short() bool { return r.whole == 0 && r.cycles == 0 }

// tests is how many tests share the time, for each build and engine: TestCycles and
// TestKilled.
const tests = 2

// each runs a test for every build with every engine; or, in a short run and if half of it
// will do, with the engines by turns.
func each(t *testing.T, half bool, test func(t *testing.T, tr tracer, b testenv.Build, again func() bool)) {
	r := asked(t)
	builds := r.builds()
	for i, b := range builds {
		for j, tr := range tracers {
			if half && r.short() && i%len(tracers) != j {
				continue
			}
			t.Run(b.String()+"/"+string(tr), func(t *testing.T) {
				share := r.whole / time.Duration(tests*len(builds)*len(tracers))
				test(t, tr, b, r.cycle(share, r.least(tr, b, half)))
			})
		}
	}
}

const (
	// leastCycles are enough to see what grows with each.
	leastCycles = 10
	// manyCycles are what the engine that changes the program's code has to pass in any run,
	// where attaching is quick: for what goes wrong once in a hundred times.
	manyCycles = 200
)

// least is how many cycles there are in a short run, and how many there are at least in a long
// one.
func (r run) least(tr tracer, b testenv.Build, half bool) int {
	if r.short() && tr == viaCode && !half && b.Go != "1.18" {
		return manyCycles
	}
	return leastCycles
}

// cycle returns a function that says whether there is to be another cycle.
func (r run) cycle(share time.Duration, least int) func() bool {
	limit := r.cycles
	if r.short() {
		limit = least
	}
	var end time.Time
	n := 0
	return func() bool {
		if n == 0 {
			end = time.Now().Add(share)
		}
		n++
		switch {
		case n <= least:
			return limit == 0 || n <= limit
		case limit > 0 && n > limit:
			return false
		}
		return r.whole == 0 || time.Now().Before(end)
	}
}
