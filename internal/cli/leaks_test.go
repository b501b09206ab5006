package cli_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gopherscope/internal/cli"
	"gopherscope/internal/testenv"
)

// leakLine is a line of gopherscope leaks --json.
type leakLine struct {
	Type      string
	Grade     string
	CreatedBy *struct {
		File string
		Line int
	} `json:"created_by"`
	Count        int
	Net          int
	Gone         int
	PerMinute    float64 `json:"per_minute"`
	Leaked       int     `json:"runtime_leaked"`
	Unreferenced int
	DurationNs   int64 `json:"duration_ns"`
	Snapshots    int
	Suspects     int
	Evidence     []string
}

func startLeaky(t *testing.T, b testenv.Build) *testenv.Process {
	t.Helper()
	p := testenv.Start(t, testenv.BuildTarget(t, "leaky", b))
	p.WaitLine("ready")
	return p
}

// started is a gopherscope leaks that runs in this process.
type started struct {
	out, errs bytes.Buffer
	code      chan int
}

// startLeaks runs gopherscope leaks meanwhile.
func startLeaks(pid int, flags ...string) *started {
	s := &started{code: make(chan int, 1)}
	args := append([]string{"leaks", fmt.Sprint(pid)}, flags...)
	go func() { s.code <- cli.Main(args, cli.Stdio{Out: &s.out, Err: &s.errs}) }()
	return s
}

// sites waits for the end of a run with --json, and returns its sites by the key
// that the program's source has there, and the summary.
func (s *started) sites(t *testing.T) (map[string]leakLine, leakLine) {
	t.Helper()
	if code := <-s.code; code != 0 || s.errs.Len() > 0 {
		t.Fatalf("exit code %d\n%s", code, &s.errs)
	}
	keys := map[testenv.Site]string{}
	for key, site := range testenv.SitesIn(t, "leaky") {
		keys[site] = key
	}
	sites := map[string]leakLine{}
	var last leakLine
	for line := range strings.Lines(s.out.String()) {
		last = leakLine{}
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if last.Type == "summary" {
			break
		}
		key := line // what is marked nowhere must not be suspect
		if c := last.CreatedBy; c != nil && keys[testenv.Site{File: filepath.Base(c.File), Line: c.Line}] != "" {
			key = keys[testenv.Site{File: filepath.Base(c.File), Line: c.Line}]
		}
		sites[key] = last
	}
	if last.Type != "summary" {
		t.Fatalf("no summary:\n%s", &s.out)
	}
	return sites, last
}

// leakRates are the program's, in goroutines per second.
var leakRates = map[string]float64{
	"leak-abandoned": 40, "leak-global": 20, "leak-sleeper": 20, "leak-ticker": 20, "leak-retry": 20, "leak-mixed": 20,
}

// TestLeaks watches a program that leaks at known rates, and has pools and
// connections that must not be named. One pool grows meanwhile.
func TestLeaks(t *testing.T) {
	for _, build := range []testenv.Build{{Go: "1.18", Stripped: true}, {Go: "1.23", PIE: true}, {Go: "1.27"}} {
		t.Run(build.String(), func(t *testing.T) {
			t.Parallel()
			p := startLeaky(t, build)
			run := startLeaks(p.PID(), "--json", "-d", "3s")
			time.Sleep(1200 * time.Millisecond)
			p.WriteLine("grow")
			p.WaitLine("grown")
			sites, sum := run.sites(t)
			took := time.Duration(sum.DurationNs).Seconds()
			if sum.Snapshots != 7 || took < 2.9 || took > 6 || sum.Suspects != len(sites) {
				t.Errorf("%+v, %d sites", sum, len(sites))
			}
			for key, rate := range leakRates {
				s := sites[key]
				if want := rate * took; s.Grade != "growing" || float64(s.Net) < 0.7*want-3 || float64(s.Net) > 1.3*want+3 {
					t.Errorf("%s is %q with %+d, want growing with about %+.0f", key, s.Grade, s.Net, want)
				}
				if want := float64(s.Net) / took * 60; s.PerMinute < want-0.1 || s.PerMinute > want+0.1 {
					t.Errorf("%s: %g per minute, want %g", key, s.PerMinute, want)
				}
				if s.Gone > 0 && key != "leak-mixed" {
					t.Errorf("%s: %d gone", key, s.Gone)
				}
			}
			if s := sites["leak-abandoned"]; s.Unreferenced < s.Count*9/10 {
				t.Errorf("%d of %d abandoned are unreferenced", s.Unreferenced, s.Count)
			}
			if s := sites["leak-global"]; s.Unreferenced > 0 {
				t.Errorf("%d that wait on a global are unreferenced", s.Unreferenced)
			}
			if s := sites["leak-nil"]; s.Grade != "blocked_forever" || s.Count != 3 {
				t.Errorf("nil channel: %+v", s)
			}
			for key, s := range sites {
				if !strings.HasPrefix(key, "leak-") {
					t.Errorf("%s is called %s: %q", key, s.Grade, s.Evidence)
				}
			}
		})
	}
}

// TestLeaksAll asks for sites that are not suspect, too.
func TestLeaksAll(t *testing.T) {
	t.Parallel()
	p := startLeaky(t, testenv.Build{})
	sites, _ := startLeaks(p.PID(), "--json", "-d", "0", "--all", "--min", "50").sites(t)
	for key, count := range map[string]int{"ok-pool": 50, "ok-idle": 150} {
		if s := sites[key]; s.Type != "leak_site" || s.Grade != "none" || s.Count != count {
			t.Errorf("%s: %+v", key, s)
		}
	}
	for _, key := range []string{"leak-nil", "ok-accept"} {
		if s, ok := sites[key]; ok {
			t.Errorf("%s is there in spite of --min: %+v", key, s)
		}
	}
}

// TestLeaksOfRuntime has the program look for leaks itself. Its profile finds
// those that nothing can wake, and those only.
func TestLeaksOfRuntime(t *testing.T) {
	t.Parallel()
	p := startLeaky(t, testenv.Build{Go: "1.27"})
	p.WriteLine("leakprofile")
	var found int
	if _, err := fmt.Sscanf(p.WaitLine("leaked"), "leaked %d", &found); err != nil || found < 50 {
		t.Fatalf("the runtime found %d: %v", found, err)
	}
	sites, sum := startLeaks(p.PID(), "--json", "-d", "0").sites(t)
	abandoned, never := sites["leak-abandoned"], sites["leak-nil"]
	if abandoned.Grade != "leaked" || never.Grade != "leaked" || never.Leaked != 3 || abandoned.Leaked+never.Leaked != found {
		t.Errorf("%d and %d leaked, the runtime found %d", abandoned.Leaked, never.Leaked, found)
	}
	if len(sites) != 2 || sum.Snapshots != 1 {
		t.Errorf("%d suspects in %d snapshots", len(sites), sum.Snapshots)
	}
}

// TestLeaksProcessEnds kills the program between two snapshots.
func TestLeaksProcessEnds(t *testing.T) {
	t.Parallel()
	p := startLeaky(t, testenv.Build{})
	begin := time.Now()
	run := startLeaks(p.PID(), "-d", "1m")
	time.Sleep(time.Second)
	p.Kill()
	if code := <-run.code; code != 1 || time.Since(begin) > 9*time.Second {
		t.Errorf("exit code %d after %s", code, time.Since(begin))
	}
	if !strings.Contains(run.errs.String(), "gopherscope: error: ") || !strings.Contains(run.errs.String(), "has exited") {
		t.Errorf("messages: %s", &run.errs)
	}
	for _, want := range []string{"created by main.neverReady at main.go:", "blocked for ever", "; 1 snapshot; too few snapshots to tell what grows\n", "evidence, not proof"} {
		if !strings.Contains(run.out.String(), want) {
			t.Errorf("no %q in\n%s", want, &run.out)
		}
	}
}

// TestLeaksInterrupted ends a watch with Ctrl-C.
func TestLeaksInterrupted(t *testing.T) {
	t.Parallel()
	testenv.RequireRoot(t) // the tool runs in a process of its own
	p := startLeaky(t, testenv.Build{})
	var out, errs bytes.Buffer
	cmd := exec.Command("gopherscope", "leaks", "-d", "1m", "--json", fmt.Sprint(p.PID()))
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(3*time.Second, func() { cmd.Process.Signal(os.Interrupt) })
	var exit *exec.ExitError
	if err := cmd.Wait(); errors.As(err, &exit) || err != nil {
		t.Errorf("%v", err)
	}
	if got := errs.String(); got != "gopherscope: ended early, after 1 of 7 snapshots\n" {
		t.Errorf("messages: %q", got)
	}
	if !strings.Contains(out.String(), `"grade":"blocked_forever"`) || !strings.Contains(out.String(), `"growth_judged":false`) {
		t.Errorf("output: %s", &out)
	}
}
