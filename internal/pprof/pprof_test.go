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

	"gopherscope/internal/dump"
	"gopherscope/internal/goruntime"
)

// sample is a Dump of which every goroutine tests something.
func sample() *dump.Dump {
	frame := func(pc uint64, name string, inlined, wrapper bool) dump.Frame {
		return dump.Frame{PC: pc, Func: name, File: "/src/main.go", Line: int32(pc), Inlined: inlined, Wrapper: wrapper}
	}
	gopark, goexit := frame(1, "runtime.gopark", false, false), frame(99, "runtime.goexit", false, false)
	return &dump.Dump{
		Version: goruntime.Version{Minor: 27}, Time: time.Unix(5, 7),
		Reasons: []string{"", "chan receive", "select"},
		Stacks: []dump.Stack{
			{},
			{Frames: []dump.Frame{gopark, frame(10, "main.inner", true, false), frame(10, "main.outer", false, false), goexit}},
			{Frames: []dump.Frame{gopark, frame(20, "main.wrapper", false, true), frame(10, "main.inner", true, false), frame(10, "main.outer", false, false), goexit}},
			{Frames: []dump.Frame{goexit}},
		},
		Sites:  []dump.Site{{}, {Func: "main.start", Outer: "main.start"}},
		Labels: [][]dump.Label{nil, {{Key: "state", Value: "mine"}, {Key: "tenant", Value: "x"}}},
		Goroutines: []dump.Goroutine{
			{ID: 1, Status: goruntime.Waiting, Reason: 1, Stack: 1, Created: 1, Source: dump.SourceMemory},
			{ID: 2, Status: goruntime.Waiting, Reason: 1, Stack: 1, Created: 1, Source: dump.SourceMemory},
			{ID: 3, Status: goruntime.Waiting, Reason: 2, Stack: 1, Created: 1, Source: dump.SourceMemory},
			{ID: 4, Status: goruntime.Runnable, Reason: 2, Stack: 2, Labels: 1, Source: dump.SourceMemory},
			{ID: 5, Status: goruntime.Runnable, Reason: 1, Stack: 2, Labels: 1, Source: dump.SourceMemory},
			{ID: 6, Status: goruntime.Running},
			{ID: 7, Status: goruntime.Runnable, Source: dump.SourceTorn},
			{ID: 8, Status: goruntime.Runnable, Stack: 3, Source: dump.SourceMemory},
		},
	}
}

var testMapping = Mapping{Start: 0x400000, Limit: 0x500000, Offset: 0x1000, File: "/bin/server"}

func written(t *testing.T) []byte {
	t.Helper()
	d := sample()
	var buf bytes.Buffer
	if err := Write(&buf, d, (&dump.Filter{}).Select(d), testMapping); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// rows are the samples of a profile, for people.
func rows(p *profile.Profile) (out []row) {
	for _, s := range p.Sample {
		r := row{N: s.Value[0], Labels: s.Label}
		for _, l := range s.Location {
			var names []string
			for _, line := range l.Line {
				names = append(names, line.Function.Name)
			}
			r.Stack = append(r.Stack, strings.Join(names, "<"))
		}
		out = append(out, r)
	}
	return out
}

type row struct {
	N      int64
	Stack  []string
	Labels map[string][]string
}

func TestWrite(t *testing.T) {
	p, err := profile.ParseData(written(t))
	if err != nil {
		t.Fatal(err)
	}
	labels := func(pairs ...string) map[string][]string {
		m := map[string][]string{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = append(m[pairs[i]], pairs[i+1])
		}
		return m
	}
	stack := []string{"runtime.gopark", "main.inner<main.outer"}
	want := []row{
		{2, stack, labels("state", "waiting", "reason", "chan receive", "created_by", "main.start")},
		{1, stack, labels("state", "waiting", "reason", "select", "created_by", "main.start")},
		{2, stack, labels("state", "mine", "state", "runnable", "tenant", "x")},
		{1, []string{"[no stack: running]"}, labels("state", "running")},
		{1, []string{"[no stack: torn]"}, labels("state", "runnable")},
		{1, nil, labels("state", "runnable")},
	}
	if diff := cmp.Diff(want, rows(p)); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
	if len(p.Location) != 4 {
		t.Errorf("%d locations, want each address once", len(p.Location))
	}
	if m := p.Mapping[0]; m.Start != testMapping.Start || m.File != testMapping.File || !m.HasInlineFrames {
		t.Errorf("mapping %+v", m)
	}
	if p.TimeNanos != 5e9+7 || p.PeriodType.Type != "goroutine" || p.SampleType[0].Unit != "count" {
		t.Errorf("time %d, period %+v, sample type %+v", p.TimeNanos, p.PeriodType, p.SampleType[0])
	}
}

// TestTool has the tool read it that people will. One sample has no location, as
// in profiles that programs make of themselves.
func TestTool(t *testing.T) {
	path := filepath.Join(t.TempDir(), "goroutines.pb.gz")
	if err := os.WriteFile(path, written(t), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args, want []string
	}{
		{[]string{"-top"}, []string{"Type: goroutine", "87.50% of 8 total", "main.inner (inline)", "[no stack: torn]"}},
		{[]string{"-raw"}, []string{"PeriodType: goroutine count", "tenant:[x]", "0x400000/0x500000/0x1000 /bin/server"}},
		{[]string{"-top", "-tagfocus", "reason=select"}, []string{"of 8 total", "1 12.50%"}},
	} {
		cmd := exec.Command("go", append(append([]string{"tool", "pprof"}, tt.args...), path)...)
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
