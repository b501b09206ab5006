package cli_test

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strconv"
	"testing"

	"gopherscope/internal/testenv"
)

// statPage is what the test uses of the JSON of docs/usage/stat.md.
type statPage struct {
	Gaps       int   `json:"gaps"`
	Untraced   int64 `json:"untraced_ns"`
	Duration   int64 `json:"duration_ns"`
	Goroutines struct {
		Alive    int   `json:"alive"`
		Lifetime int64 `json:"lifetime_ns"`
	} `json:"goroutines"`
	States map[string]struct {
		Time int64 `json:"time_ns"`
	} `json:"states"`
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

	most := 0
	for _, page := range stat("-i", "200ms") {
		most = max(most, page.Goroutines.Alive)
	}
	// At most two for each, and the runtime's.
	if t.Logf("%d alive", most); most < goroutines || most > 2*goroutines+10 {
		t.Errorf("%d of %d goroutines are alive", most, goroutines)
	}
}
