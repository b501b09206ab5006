// Package witness_test compares gopherscope with the Go runtime's own
// execution tracer. A target runs under both at once; for each goroutine, every
// change of state that the runtime recorded must be among those that
// gopherscope saw, in the same order and with the same particulars, and
// gopherscope must have seen no other, but for the documented differences of
// the two views (see [differences]).
//
// The formats before Go 1.22 do not tell enough for this comparison.
package witness_test

import (
	"os"
	"path/filepath"
	"sort"
	"testing"

	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

func TestMain(m *testing.M) {
	code := m.Run()
	traced.Cleanup()
	os.Exit(code)
}

// TestWitness runs the target with each toolchain, without and with C code; with
// GOPHERSCOPE_MATRIX=1 in the environment in every build mode.
func TestWitness(t *testing.T) {
	all := os.Getenv("GOPHERSCOPE_MATRIX") == "1"
	for _, b := range testenv.Matrix() {
		everyRun := b == testenv.Build{Go: b.Go} || b == testenv.Build{Go: b.Go, Cgo: true}
		if b.Minor() < 22 || !all && !everyRun {
			continue
		}
		for _, e := range traced.Engines() {
			t.Run(string(e)+"/"+b.String(), func(t *testing.T) { compare(t, e, b) })
		}
	}
}

func compare(t *testing.T, e traced.Engine, b testenv.Build) {
	ours, theirs := run(t, e, b)
	c := compareAll(ours, theirs)
	for _, text := range c.found {
		t.Error(text)
	}
	if c.matched == 0 {
		t.Fatal("nothing was compared")
	}
	c.log(t)
}

// run runs the target under both tracers.
func run(t *testing.T, e traced.Engine, b testenv.Build) (*traced.Trace, *goTrace) {
	file := filepath.Join(t.TempDir(), "go.trace")
	ours := e.Launch(t, "tracewit", b, file, "50")
	if s := ours.Summary; s.Violations != 0 || s.Lost["total"] != 0 {
		t.Fatalf("%d violations, lost %v", s.Violations, s.Lost)
	}
	return ours, readGoTrace(t, file)
}

// log tells what was compared, and how often each difference occurred.
func (c *comparison) log(t *testing.T) {
	t.Logf("%d transitions of %d goroutines are the same", c.matched, len(c.theirs.byGoID))
	var kinds []string
	for kind := range c.seen {
		kinds = append(kinds, string(kind))
	}
	sort.Strings(kinds)
	for _, kind := range kinds {
		t.Logf("%6d  %s", c.seen[difference(kind)], kind)
	}
	if n := len(c.offsets); n > 0 {
		sort.Slice(c.offsets, func(i, j int) bool { return c.offsets[i] < c.offsets[j] })
		at := func(percent int) int64 { return c.offsets[(n-1)*percent/100] }
		t.Logf("Go's time less ours, in ns: min %d, 1%% %d, median %d, 99%% %d, max %d",
			at(0), at(1), at(50), at(99), at(100))
		t.Logf("the latest is %s", c.latest.step.line.Text)
	}
}
