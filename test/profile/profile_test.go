// Package profile_test holds gopherscope profile to what a program measures itself, to
// the block profile that it takes of itself and to its own execution trace, all of the
// same run.
package profile_test

import (
	"bytes"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

func TestMain(m *testing.M) {
	code := m.Run()
	traced.Cleanup()
	os.Exit(code)
}

// flags are those of a run that misses nothing.
func flags(e traced.Engine, more ...string) []string {
	return append([]string{"profile", "--engine", string(e), "--max-overhead", "off"}, more...)
}

// read is a profile in a file.
func read(t *testing.T, path string) *profile.Profile {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := profile.ParseData(data)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// sum adds up the samples that match: how many intervals, and nanoseconds.
func sum(p *profile.Profile, match func(*profile.Sample) bool) (count, ns int64) {
	for _, s := range p.Sample {
		if match(s) {
			count += s.Value[0]
			ns += s.Value[1]
		}
	}
	return count, ns
}

// through says whether a stack goes through a function.
func through(s *profile.Sample, function string) bool {
	return slices.ContainsFunc(s.Location, func(l *profile.Location) bool {
		return slices.ContainsFunc(l.Line, func(line profile.Line) bool { return line.Function.Name == function })
	})
}

// labelled says whether a sample has a label.
func labelled(s *profile.Sample, key, value string) bool { return slices.Contains(s.Label[key], value) }

// near says whether two times are within 5 % of each other or within a few milliseconds.
func near(a, b int64, slack time.Duration) bool {
	d := math.Abs(float64(a - b))
	return d <= float64(slack) || d <= 0.05*float64(max(a, b))
}

// run is a program that was profiled, with what it says of itself.
type run struct {
	wall, block, trace string // files: our wall profile, its own profile and trace
	facts              testenv.Facts
}

// launch profiles the program profile from its first goroutine on.
func launch(t *testing.T, e traced.Engine, b testenv.Build) *run {
	t.Helper()
	dir := t.TempDir()
	r := &run{wall: filepath.Join(dir, "wall"), block: filepath.Join(dir, "block"), trace: filepath.Join(dir, "trace")}
	bin := testenv.BuildTarget(t, "profile", b)
	scope := testenv.Start(t, traced.Tool(t), flags(e, "--kind", "wall", "-o", r.wall, "--", bin, r.block, r.trace)...)
	if err := scope.Wait(); err != nil {
		t.Fatalf("gopherscope profile: %v\n%s", err, scope.Stderr())
	}
	if !strings.Contains(scope.Stderr(), " 0 lost, 0 violations") {
		t.Fatal(scope.Stderr())
	}
	r.facts = testenv.ParseFacts(t, strings.Split(scope.Stderr(), "\n"))
	if len(r.facts.Counts) == 0 {
		t.Fatalf("the program said nothing:\n%s", scope.Stderr())
	}
	return r
}

// blocking are the functions of the program that wait for others, by what the runtime
// records in a block profile.
var blocking = []string{"receives", "sends", "selects", "locks", "waits", "conds"}

func TestProfile(t *testing.T) {
	for _, e := range traced.Engines() {
		t.Run(string(e), func(t *testing.T) {
			r := launch(t, e, testenv.Build{})
			ours := read(t, r.wall)
			t.Run("the program's clock", func(t *testing.T) { checkFacts(t, ours, r.facts) })
			t.Run("its block profile", func(t *testing.T) { checkBlock(t, ours, read(t, r.block)) })
			t.Run("its execution trace", func(t *testing.T) { checkTrace(t, ours, r.trace) })
		})
	}
}

// TestOldest is the oldest Go with stacks of all kinds, and a binary without symbols.
func TestOldest(t *testing.T) {
	e := traced.Engines()[len(traced.Engines())-1]
	r := launch(t, e, testenv.Build{Go: testenv.Versions()[0], Stripped: true})
	ours := read(t, r.wall)
	checkFacts(t, ours, r.facts)
	checkBlock(t, ours, read(t, r.block))
}

// checkFacts compares with the time that each function took by the program's own clock:
// that much, as wall time, must be at the stacks of that function.
func checkFacts(t *testing.T, ours *profile.Profile, facts testenv.Facts) {
	for _, key := range append([]string{"sleeps", "reads", "accepts", "burns"}, blocking...) {
		inside := func(s *profile.Sample) bool {
			// Of what the function creates the creation has that stack too.
			return through(s, "main."+key) && labelled(s, "created_by", "main.all")
		}
		_, got := sum(ours, inside)
		want := facts.Counts[key+"_ns"]
		t.Logf("%s: %v, the program says %v", key, time.Duration(got), time.Duration(want))
		// The goroutine lives longer than it measures: on a busy machine its thread can
		// lose the CPU before it begins to, and after.
		if want == 0 || got < want-int64(time.Millisecond) || got > want+int64(120*time.Millisecond) {
			t.Errorf("%s: %v, the program says %v", key, time.Duration(got), time.Duration(want))
		}
	}
	sleeps, _ := sum(ours, func(s *profile.Sample) bool {
		return through(s, "main.sleeps") && labelled(s, "reason", "sleep") && labelled(s, "state", "waiting")
	})
	if want := facts.Counts["sleeps_rounds"]; sleeps != want {
		t.Errorf("%d sleeps, want %d", sleeps, want)
	}
	_, burnt := sum(ours, func(s *profile.Sample) bool { return through(s, "main.burns") && labelled(s, "state", "running") })
	if cpu := facts.Counts["burns_cpu_ns"]; burnt < cpu-int64(time.Millisecond) {
		t.Errorf("burns ran for %v, less than its CPU time %v", time.Duration(burnt), time.Duration(cpu))
	}
}

// checkBlock compares with the block profile that the runtime took with a rate of 1. It
// has no sleeps, no waits for IO and for ever, and none that goes on at the end. It counts
// a wait for a mutex once that is woken and loses the race for it: we count each park.
func checkBlock(t *testing.T, ours, own *profile.Profile) {
	for _, key := range append([]string{"all"}, blocking...) {
		inside := func(s *profile.Sample) bool { return through(s, "main."+key) }
		wantCount, want := sum(own, inside)
		count, got := sum(ours, func(s *profile.Sample) bool { return inside(s) && labelled(s, "state", "waiting") })
		t.Logf("%s: %d contentions, %v; by itself %d, %v", key, count, time.Duration(got), wantCount, time.Duration(want))
		if wantCount == 0 || !near(got, want, time.Millisecond) {
			t.Errorf("%s: blocked for %v, by its own profile for %v", key, time.Duration(got), time.Duration(want))
		}
		if count < wantCount || key != "locks" && count > wantCount {
			t.Errorf("%s: %d contentions, by its own profile %d", key, count, wantCount)
		}
	}
}

// checkTrace compares with what go tool trace makes of the program's execution trace.
func checkTrace(t *testing.T, ours *profile.Profile, trace string) {
	for _, tt := range []struct {
		kind, state string
		functions   []string
		slack       time.Duration
	}{
		{"sync", "waiting", blocking, time.Millisecond},
		// The trace has the end when the goroutine has a P again, or has been found
		// to have none: some microseconds later, on a busy machine more.
		{"syscall", "syscall", []string{"reads"}, 20 * time.Millisecond},
	} {
		out, err := exec.Command("go", "tool", "trace", "-pprof="+tt.kind, trace).Output()
		if err != nil {
			t.Fatal(err)
		}
		own, err := profile.Parse(bytes.NewReader(out))
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range tt.functions {
			inside := func(s *profile.Sample) bool { return through(s, "main."+key) }
			_, want := sum(own, inside)
			_, got := sum(ours, func(s *profile.Sample) bool {
				return inside(s) && labelled(s, "state", tt.state) && labelled(s, "created_by", "main.all")
			})
			t.Logf("%s %s: %v, by its trace %v", tt.kind, key, time.Duration(got), time.Duration(want))
			if want == 0 || !near(got, want, tt.slack) {
				t.Errorf("%s %s: %v, by its trace %v", tt.kind, key, time.Duration(got), time.Duration(want))
			}
		}
	}
}

// TestParked attaches to goroutines that are parked already and stay so: each counts
// for the whole time, at the stack that it has. It ends by a signal.
func TestParked(t *testing.T) {
	for _, e := range traced.Engines() {
		t.Run(string(e), func(t *testing.T) {
			p := testenv.Start(t, testenv.BuildTarget(t, "idle", testenv.Build{}))
			var lines []string
			for line := ""; line != "held"; lines = append(lines, line) {
				var ok bool
				if line, ok = p.ReadLine(); !ok {
					t.Fatal(p.Stderr())
				}
			}
			held := testenv.ParseFacts(t, lines).GoIDs
			out := filepath.Join(t.TempDir(), "p")
			scope := testenv.Start(t, traced.Tool(t), flags(e, "-o", out, "--kind", "wall", strconv.Itoa(p.PID()))...)
			for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
				if _, err := os.Stat(out); err == nil { // it is attached
					break
				} else if time.Since(begin) > testenv.Deadline {
					t.Fatal(scope.Stderr())
				}
			}
			time.Sleep(time.Second)
			scope.Signal(os.Interrupt)
			if err := scope.Wait(); err != nil {
				t.Fatalf("%v\n%s", err, scope.Stderr())
			}
			ours := read(t, out)
			count, ns := sum(ours, func(s *profile.Sample) bool {
				return through(s, "testprog/internal/work.hold") && labelled(s, "created_by", "testprog/internal/work.Idle")
			})
			if want := int64(len(held)); count != want || !near(ns, want*ours.DurationNanos, 0) {
				t.Errorf("%d intervals of %v, want %d of %v", count, time.Duration(ns), want, time.Duration(ours.DurationNanos))
			}
			if ours.DurationNanos < int64(time.Second) {
				t.Errorf("a profile of %v", time.Duration(ours.DurationNanos))
			}
			_, selects := sum(ours, func(s *profile.Sample) bool { return labelled(s, "reason", "select") && through(s, "runtime.selectgo") })
			_, sleeps := sum(ours, func(s *profile.Sample) bool { return labelled(s, "reason", "sleep") && through(s, "time.Sleep") })
			if !near(selects, ours.DurationNanos, 0) || !near(sleeps, ours.DurationNanos, 0) {
				t.Errorf("%v in select and %v in sleep, want one goroutine's each", time.Duration(selects), time.Duration(sleeps))
			}
		})
	}
}
