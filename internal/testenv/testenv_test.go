package testenv_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gopherscope/internal/testenv"
)

// TestCrossSectionCovers holds the cross-section to its promise: every version
// and every mode of the matrix.
func TestCrossSectionCovers(t *testing.T) {
	mode := func(b testenv.Build) testenv.Build { b.Go = ""; return b }
	versions, modes := map[int]bool{}, map[testenv.Build]bool{}
	for _, b := range testenv.CrossSection() {
		versions[b.Minor()], modes[mode(b)] = true, true
	}
	for _, b := range testenv.Matrix() {
		if !versions[b.Minor()] {
			t.Errorf("no build by Go 1.%d", b.Minor())
		}
		if !modes[mode(b)] {
			t.Errorf("no build like %s", b)
		}
	}
	if got, want := len(testenv.Matrix()), 5*len(testenv.Versions()); got != want {
		t.Errorf("the matrix has %d builds, want %d", got, want)
	}
}

func TestBuildString(t *testing.T) {
	for _, test := range []struct {
		build testenv.Build
		want  string
	}{
		{testenv.Build{Go: "1.18"}, "go1.18.10-plain"},
		{testenv.Build{Go: "1.26.0", PIE: true, Stripped: true}, "go1.26.0-pie-stripped"},
		{testenv.Build{Go: "1.27", Cgo: true, GOARCH: "arm64"}, "go1.27.4-cgo-arm64"},
	} {
		if got := test.build.String(); got != test.want {
			t.Errorf("%+v: got %q, want %q", test.build, got, test.want)
		}
	}
}

// TestEveryBuildRuns compiles the program all in each build of the
// cross-section and compares its counts with what it was told to do.
func TestEveryBuildRuns(t *testing.T) {
	for _, b := range testenv.CrossSection() {
		t.Run(b.String(), func(t *testing.T) {
			p := testenv.Start(t, testenv.BuildTarget(t, "all", b), "50")
			facts := testenv.ParseFacts(t, p.Lines())
			if err := p.Wait(); err != nil {
				t.Fatalf("%v\n%s", err, p.Stderr())
			}
			want := map[string]int64{"handoffs": 100, "goroutines": 50, "gosched": 50, "syscalls": 102, "timers": 6}
			if b.Minor() >= 23 {
				want["coro_switches"] = 102
			}
			if b.HasC() {
				want["cgo_calls"], want["cgo_thread_callbacks"] = 151, 50
			}
			for key, n := range want {
				if facts.Counts[key] != n {
					t.Errorf("count %s is %d, want %d", key, facts.Counts[key], n)
				}
			}
			if facts.GoIDs["ping"] == 0 || facts.GoIDs["ping"] == facts.GoIDs["pong"] {
				t.Errorf("goids %v", facts.GoIDs)
			}
		})
	}
}

// TestEveryProgramBuilds compiles each program by the oldest toolchain.
func TestEveryProgramBuilds(t *testing.T) {
	mains, err := filepath.Glob(filepath.Join(testenv.Testprog(t), "*", "main.go"))
	if err != nil || len(mains) == 0 {
		t.Fatalf("no programs: %v", err)
	}
	for _, path := range mains {
		prog := filepath.Base(filepath.Dir(path))
		t.Run(prog, func(t *testing.T) {
			source, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			testenv.BuildTarget(t, prog, testenv.Build{Go: testenv.Versions()[0], Cgo: bytes.HasPrefix(source, []byte("//go:build cgo"))})
		})
	}
}

func TestBuildTargetIsCached(t *testing.T) {
	first := testenv.BuildTarget(t, "pingpong", testenv.Build{})
	if second := testenv.BuildTarget(t, "pingpong", testenv.Build{}); second != first {
		t.Errorf("built %s, then %s", first, second)
	}
}

func TestStartWaiting(t *testing.T) {
	p := testenv.StartWaiting(t, testenv.BuildTarget(t, "pingpong", testenv.Build{}), "7")
	if p.PID() <= 1 {
		t.Fatalf("PID %d", p.PID())
	}
	p.Go()
	facts := testenv.ParseFacts(t, p.Lines())
	if err := p.Wait(); err != nil || facts.Counts["handoffs"] != 14 {
		t.Errorf("end %v, counts %v", err, facts.Counts)
	}
}

func TestIdleHolds(t *testing.T) {
	p := testenv.Start(t, testenv.BuildTarget(t, "idle", testenv.Build{}))
	p.WaitLine("held")
	p.Go()
	if err := p.Wait(); err != nil {
		t.Errorf("end: %v", err)
	}
}

func TestWaitReportsTheEnd(t *testing.T) {
	p := testenv.Start(t, testenv.BuildTarget(t, "idle", testenv.Build{}))
	p.WaitLine("held")
	p.Kill()
	var exit *exec.ExitError
	if err := p.Wait(); !errors.As(err, &exit) {
		t.Errorf("a killed process ended with %v", err)
	}
}

// TestSites wants the marked go statements to be go statements.
func TestSites(t *testing.T) {
	sites := testenv.Sites(t)
	for _, key := range []string{"ping", "pong", "spawn", "contend", "spin", "hold"} {
		if s := sites[key]; s.Line == 0 || !strings.HasSuffix(s.File, ".go") {
			t.Errorf("site %s: %+v", key, s)
		}
	}
}
