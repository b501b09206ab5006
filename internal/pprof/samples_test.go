package pprof

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/pprof/profile"

	"gopherscope/internal/event"
	samples "gopherscope/internal/profile"
)

// traced is a profile of a trace of which every sample tests something.
func traced(kind samples.Kind) *samples.Profile {
	at := func(name string, line int) event.Location {
		return event.Location{Func: name, File: "/src/main.go", Line: line}
	}
	recv := []event.Location{at("runtime.chanrecv1", 5), at("main.inner", 10), at("main.outer", 20)}
	return &samples.Profile{
		Kind: kind, Exe: "/bin/server", Begin: 5e9 + 7, Duration: 10 * time.Second, Missed: 2, Unaccounted: time.Second,
		Samples: []samples.Sample{
			{Stack: recv, Count: 3, Delay: 300 * time.Millisecond, State: "waiting", Reason: "chan receive", CreatedBy: "main.start"},
			{Stack: recv, Count: 1, Delay: 100 * time.Millisecond, State: "runnable", CreatedBy: "main.start"},
			{Stack: recv[1:], Count: 2, Delay: 80 * time.Millisecond, State: "running"},
			{Stack: []event.Location{{Func: samples.UnknownStack}}, Count: 4, Delay: 20 * time.Millisecond, State: "syscall"},
		},
	}
}

func writeSamples(t *testing.T, p *samples.Profile) string {
	t.Helper()
	var buf bytes.Buffer
	if err := WriteSamples(&buf, p); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "p.pb.gz")
	if err := os.WriteFile(path, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSamples(t *testing.T) {
	data, err := os.ReadFile(writeSamples(t, traced(samples.Wall)))
	if err != nil {
		t.Fatal(err)
	}
	p, err := profile.ParseData(data)
	if err != nil {
		t.Fatal(err)
	}
	want := []row{
		{3, []string{"runtime.chanrecv1", "main.inner", "main.outer"}, map[string][]string{LabelState: {"waiting"}, LabelReason: {"chan receive"}, LabelCreatedBy: {"main.start"}}},
		{1, []string{"runtime.chanrecv1", "main.inner", "main.outer"}, map[string][]string{LabelState: {"runnable"}, LabelCreatedBy: {"main.start"}}},
		{2, []string{"main.inner", "main.outer"}, map[string][]string{LabelState: {"running"}}},
		{4, []string{samples.UnknownStack}, map[string][]string{LabelState: {"syscall"}}},
	}
	if diff := cmp.Diff(want, rows(p)); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
	if len(p.Location) != 4 || len(p.Function) != 4 {
		t.Errorf("%d locations and %d functions, want each once", len(p.Location), len(p.Function))
	}
	if p.TimeNanos != 5e9+7 || p.DurationNanos != 1e10 || len(p.Comments) != 2 || p.Sample[0].Value[1] != 3e8 {
		t.Errorf("from %d for %d, comments %q, %v", p.TimeNanos, p.DurationNanos, p.Comments, p.Sample[0].Value)
	}
}

// TestSamplesSource has the tool show the lines of a program that is there: it must not
// look for addresses in it.
func TestSamplesSource(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc inner() { marked() }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := traced(samples.Block)
	p.Exe, p.Samples = self, p.Samples[:1]
	p.Samples[0].Stack = []event.Location{{Func: "main.inner", File: source, Line: 3}}
	file := writeSamples(t, p)
	for _, form := range []string{"-list", "-weblist"} {
		cmd := exec.Command("go", "tool", "pprof", form, `main\.inner`, "-output", "/dev/stdout", file)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "marked()") || !strings.Contains(string(out), "300ms") {
			t.Errorf("%s: %v\n%s", cmd, err, out)
		}
	}
}

// TestSamplesTool has the tool read them that people will.
func TestSamplesTool(t *testing.T) {
	block, created := writeSamples(t, traced(samples.Wall)), writeSamples(t, traced(samples.Created))
	twice := traced(samples.Wall)
	for i := range twice.Samples {
		twice.Samples[i].Delay *= 2
	}
	second := writeSamples(t, twice)
	path, err := exec.Command("go", "tool", "-n", "pprof").Output()
	if err != nil {
		t.Fatal(err)
	}
	tool := strings.TrimSpace(string(path))
	for _, tt := range []struct {
		args, want []string
	}{
		{[]string{"-top", block}, []string{"File: server", "Type: delay", "Duration: 10s, Total samples = 500ms", "400ms 80.00%", "runtime.chanrecv1", samples.UnknownStack}},
		{[]string{"-top", "-sample_index=contentions", block}, []string{"Type: contentions", "of 10 total"}},
		{[]string{"-top", "-tagfocus=state=waiting", block}, []string{"300ms, 60.00% of 500ms total"}},
		{[]string{"-top", "-tagroot=state", block}, []string{"waiting", "runnable"}},
		{[]string{"-raw", block}, []string{"PeriodType: contentions count", "contentions/count delay/nanoseconds", "state:[waiting]", "reason:[chan receive]", "created_by:[main.start]", "main.inner /src/main.go:10"}},
		{[]string{"-peek", `main\.inner`, block}, []string{"480ms   100% |   main.outer", "400ms 83.33% |   runtime.chanrecv1"}},
		{[]string{"-comments", block}, []string{"kind wall: all time", "2 changes were missed: 1.00s of goroutine time is in no sample"}},
		{[]string{"-top", created}, []string{"Type: goroutines", "of 10 total"}},
		{[]string{"-top", "-diff_base", block, second}, []string{"Showing nodes accounting for 500ms, 100% of 500ms total"}},
		{[]string{"-top", "-base", block, block}, []string{"Showing nodes accounting for 0, 0% of 0 total"}},
	} {
		cmd := exec.Command(tool, tt.args...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
		for _, want := range tt.want {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s: no %q in\n%s", cmd, want, out)
			}
		}
	}
}
