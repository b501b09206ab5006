package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"gopherscope/internal/testenv"
)

// statPage is what the test uses of the JSON of docs/usage/stat.md.
type statPage struct {
	Gaps       int   `json:"gaps"`
	Events     int   `json:"events"`
	Untraced   int64 `json:"untraced_ns"`
	Duration   int64 `json:"duration_ns"`
	Goroutines struct {
		Alive    int   `json:"alive"`
		Unsure   int   `json:"unsure"`
		Before   int   `json:"there_before"`
		Found    int   `json:"found"`
		Missed   int   `json:"missed"`
		Created  int   `json:"created"`
		Ended    int   `json:"ended"`
		Lifetime int64 `json:"lifetime_ns"`
	} `json:"goroutines"`
	States map[string]struct {
		Time int64 `json:"time_ns"`
		Now  int   `json:"now"`
	} `json:"states"`
	Blocked []struct {
		Reason string `json:"reason"`
		Max    int64  `json:"max_ns"`
		Open   int64  `json:"open_ns"`
	} `json:"blocked"`
}

// TestStatPauses adds up a program whose goroutines often end in pauses of the trace: those
// that are gone do not count as alive, and not much more time is unknown than was not traced.
func TestStatPauses(t *testing.T) {
	testenv.RequireBPF(t)
	const goroutines = 50
	p := testenv.Start(t, testenv.BuildTarget(t, "generations", testenv.Build{}), strconv.Itoa(goroutines))
	stat := func(flags ...string) (pages []statPage) {
		var messages bytes.Buffer
		cmd := exec.Command("gopherscope", append([]string{"stat", "--json", "-d", "4s", "--engine", "ebpf", "--max-overhead", "30%", strconv.Itoa(p.PID())}, flags...)...)
		cmd.Stderr = &messages
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s", err, &messages)
		}
		gaps := 0
		for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
			var p statPage
			if err := dec.Decode(&p); err != nil {
				t.Fatal(err)
			}
			gaps += p.Gaps
			pages = append(pages, p)
		}
		if gaps == 0 {
			t.Fatalf("the trace did not pause:\n%s\n%s", out, &messages)
		}
		return pages
	}

	all := stat()[0]
	untraced := float64(all.Untraced) / float64(all.Duration)
	unknown := float64(all.States["unknown"].Time) / float64(all.Goroutines.Lifetime)
	t.Logf("%d gaps, %.2f of the time; unknown %.2f", all.Gaps, untraced, unknown)
	if unknown > untraced+0.2 {
		t.Errorf("%.2f of the time was not traced, and %.2f of it is unknown", untraced, unknown)
	}

	g := all.Goroutines
	if came, went := g.Before+g.Found+g.Created, g.Ended+g.Missed; came-went != g.Alive+g.Unsure || g.Missed == 0 {
		t.Errorf("%d came and %d went: %+v", came, went, g)
	}

	most := 0
	for _, page := range stat("-i", "200ms") {
		most = max(most, page.Goroutines.Alive)
	}
	// At most two for each, and the runtime's.
	if t.Logf("%d alive", most); most < goroutines || most > 2*goroutines+10 {
		t.Errorf("%d of %d goroutines are alive", most, goroutines)
	}
}

// TestStatParked adds up a program most of whose goroutines wait all the time, in a trace that
// pauses for much of it: they are known to have waited in the pauses, and at the end. The few
// that wait again and again are not taken to have waited for long.
func TestStatParked(t *testing.T) {
	testenv.RequireBPF(t)
	const parked = 2000
	p := testenv.Start(t, testenv.BuildTarget(t, "parked", testenv.Build{}), strconv.Itoa(parked))
	// Whether there is time to read them is the budget's to say, and on a busy machine there may be
	// none; and what sleeps may do so for longer.
	const attempts = 5
	for n := 1; ; n++ {
		wrong := statParked(t, p.PID(), parked)
		if len(wrong) == 0 {
			return
		}
		if n == attempts {
			t.Fatal(strings.Join(wrong, "\n"))
		}
		t.Logf("attempt %d: %q", n, wrong)
	}
}

// statParked says what is wrong in a page about the program.
func statParked(t *testing.T, pid, parked int) (wrong []string) {
	t.Helper()
	var messages bytes.Buffer
	cmd := exec.Command("gopherscope", "stat", "--json", "-d", "5s", "--engine", "ebpf", "--max-overhead", "20%", strconv.Itoa(pid))
	cmd.Stderr = &messages
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, &messages)
	}
	var page statPage
	if err := json.Unmarshal(out, &page); err != nil {
		t.Fatal(err)
	}
	untraced := float64(page.Untraced) / float64(page.Duration)
	unknown := float64(page.States["unknown"].Time) / float64(page.Goroutines.Lifetime)
	t.Logf("%d gaps, %.2f of the time; unknown %.3f; %+v; %+v", page.Gaps, untraced, unknown, page.Goroutines, page.States)
	if page.Gaps == 0 {
		t.Fatalf("the trace did not pause:\n%s", &messages)
	}
	if unknown > untraced/2 {
		wrong = append(wrong, fmt.Sprintf("%.2f of the time was not traced, and %.2f of it is unknown", untraced, unknown))
	}
	for _, b := range page.Blocked {
		if most := time.Duration(max(b.Max, b.Open)); b.Reason == "sleep" && most > 300*time.Millisecond {
			wrong = append(wrong, fmt.Sprintf("a goroutine is said to have slept for %v", most))
		}
	}
	if now := page.States["waiting"].Now; now < parked || page.Goroutines.Unsure != 0 {
		wrong = append(wrong, fmt.Sprintf("at the end %d goroutines wait, and %d are not sure to be there", now, page.Goroutines.Unsure))
	}
	return wrong
}

// TestStatPagesInPauses holds the pages of a trace that pauses to its one page: each knows of the pause
// that it is in, live and of a recording.
func TestStatPagesInPauses(t *testing.T) {
	testenv.RequireBPF(t)
	p := testenv.Start(t, testenv.BuildTarget(t, "generations", testenv.Build{}), "50")
	file := filepath.Join(t.TempDir(), "run.gscope")
	run := func(args ...string) (pages []statPage) {
		var messages bytes.Buffer
		cmd := exec.Command("gopherscope", args...)
		cmd.Stderr = &messages
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s", err, &messages)
		}
		for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
			var p statPage
			if err := dec.Decode(&p); err != nil {
				t.Fatal(err)
			}
			pages = append(pages, p)
		}
		return pages
	}
	check := func(name string, pages []statPage) (all statPage) {
		dark := 0
		for i, p := range pages {
			all.Gaps += p.Gaps
			all.Untraced += p.Untraced
			all.Events += p.Events
			if p.Untraced > p.Duration || p.Untraced == p.Duration && (p.Events != 0 || p.Goroutines.Alive != 0 || p.Goroutines.Unsure == 0) {
				t.Errorf("%s: page %d: %+v", name, i, p)
			}
			if p.Untraced == p.Duration {
				dark++
			}
		}
		if dark == 0 {
			t.Errorf("%s: no page of %d is all in a pause: %+v", name, len(pages), all)
		}
		return all
	}
	check("live", run("stat", "--json", "-i", "100ms", "-d", "2s", "--engine", "ebpf", "--max-overhead", "2%", strconv.Itoa(p.PID())))

	run("record", "-o", file, "-d", "2s", "--engine", "ebpf", "--max-overhead", "2%", strconv.Itoa(p.PID()))
	one := run("stat", "--json", file)[0]
	for d := 300 * time.Millisecond; d < 2*time.Second; d += 100 * time.Millisecond { // some end in a pause
		whole := run("stat", "--json", "-i", d.String(), file)[0]
		cut := run("stat", "--json", "-d", d.String(), file)[0]
		whole.Gaps, cut.Gaps = 0, 0 // that of the end is over for one of them
		if !reflect.DeepEqual(cut, whole) {
			t.Errorf("the first %v: %+v\nand with -d %+v", d, whole, cut)
		}
	}
	if all := check("recording", run("stat", "--json", "-i", "100ms", file)); all.Gaps != one.Gaps || all.Untraced != one.Untraced || all.Events != one.Events {
		t.Errorf("all pages have %+v, the one page has %+v", all, one)
	}
}
