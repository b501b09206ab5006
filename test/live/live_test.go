// Package live_test runs gopherscope on programs whose behaviour is known
// exactly, compiled by every supported toolchain in every build mode, and holds
// every line of its output to what must be true of it. The environment's
// GOPHERSCOPE_MATRIX=1 selects all builds; otherwise a cross-section is run.
package live_test

import (
	"os"
	"testing"

	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

func TestMain(m *testing.M) {
	code := m.Run()
	traced.Cleanup()
	os.Exit(code)
}

func builds() []testenv.Build {
	if os.Getenv("GOPHERSCOPE_MATRIX") == "1" {
		return testenv.Matrix()
	}
	return testenv.CrossSection()
}

// everyBuild runs a test with each engine on each build.
func everyBuild(t *testing.T, f func(*testing.T, traced.Engine, testenv.Build)) {
	for _, e := range traced.Engines() {
		for _, b := range builds() {
			t.Run(string(e)+"/"+b.String(), func(t *testing.T) { f(t, e, b) })
		}
	}
}

// rounds is how often the target repeats each of its behaviours.
const rounds = "200"

// TestLaunched traces the program that behaves in every way from its first
// goroutine on.
func TestLaunched(t *testing.T) {
	everyBuild(t, func(t *testing.T, e traced.Engine, b testenv.Build) {
		tr := e.Launch(t, "all", b, rounds)
		checkStream(tr).report(t)
		checkFacts(t, tr).report(t)
	})
}

// TestAttached traces the same program when it runs already.
func TestAttached(t *testing.T) {
	everyBuild(t, func(t *testing.T, e traced.Engine, b testenv.Build) {
		tr := e.Attach(t, "all", b, rounds)
		checkStream(tr).report(t)
		checkFacts(t, tr).report(t)
	})
}
