package cli_test

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"gopherscope/internal/testenv"
)

// TestMaxOverhead traces a program that does nothing but change the states of its
// goroutines, and would melt under uprobes: the trace stays near its budget, says that
// it pauses, and every change after a gap is right.
func TestMaxOverhead(t *testing.T) {
	testenv.RequireBPF(t)
	p := testenv.Start(t, testenv.BuildTarget(t, "pingpong", testenv.Build{}), "1000000000")
	for _, tt := range []struct {
		budget string
		pauses bool
		most   float64 // the share that the trace may take: the snapshot that it begins with comes on top
	}{{"5%", true, 0.15}, {"off", false, 1}} {
		t.Run(tt.budget, func(t *testing.T) {
			var out, messages bytes.Buffer
			cmd := exec.Command("gopherscope", "trace", "--json", "-d", "4s", "--engine", "ebpf", "--max-overhead", tt.budget, strconv.Itoa(p.PID()))
			cmd.Stdout, cmd.Stderr = &out, &messages
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v\n%s", err, &messages)
			}
			var gaps, paused uint64
			var last struct {
				Type       string
				Violations uint64
				Lost       struct{ Total uint64 }
				Gaps       uint64
				PausedNs   uint64 `json:"paused_ns"`
				Cost       struct{ Share float64 }
			}
			for line := range strings.Lines(out.String()) {
				if !strings.HasPrefix(line, `{"type":"gap"`) {
					continue
				}
				var gap struct {
					ForNs uint64 `json:"for_ns"`
				}
				if err := json.Unmarshal([]byte(line), &gap); err != nil {
					t.Fatal(err)
				}
				gaps++
				paused += gap.ForNs
			}
			text := strings.TrimSpace(out.String())
			if err := json.Unmarshal([]byte(text[strings.LastIndexByte(text, '\n')+1:]), &last); err != nil {
				t.Fatal(err)
			}
			if last.Type != "summary" || last.Violations != 0 && last.Lost.Total == 0 || last.Gaps != gaps || last.PausedNs != paused {
				t.Errorf("%d gaps of %d ns in all, and the summary says %+v", gaps, paused, last)
			}
			said := strings.Contains(messages.String(), "pausing now and then")
			if (gaps > 0) != tt.pauses || said != tt.pauses || last.Cost.Share > tt.most {
				t.Errorf("%d gaps, a cost of %.3f; want at most %v, pauses: %v\n%s", gaps, last.Cost.Share, tt.most, tt.pauses, &messages)
			}
		})
	}
}
