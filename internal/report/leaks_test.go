package report

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"gopherscope/internal/dump"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/leaks"
	"gopherscope/internal/testenv"
)

// leakReport is a report with a site of each kind.
func leakReport() *leaks.Report {
	waiting := goruntime.Waiting
	return &leaks.Report{
		PID: 1234, Version: goruntime.Version{Text: "go1.27.4", Minor: 27},
		Start:  time.Date(2026, 11, 22, 21, 0, 47, 5, time.UTC),
		Period: 30 * time.Second, Snapshots: 7, Growth: true, Goroutines: 1500, Torn: 1,
		Sites: []leaks.Site{
			{
				Grade: leaks.Leaked, Evidence: []string{"3 are leaked: the runtime says so", "more evidence"},
				Created: dump.Site{Func: "main.ask", File: "/src/ask.go", Line: 7},
				Start:   dump.Site{Func: "main.ask.func1", File: "/src/ask.go", Line: 7},
				Count:   4, Counts: []int{3, 4}, New: 1, PerMinute: 2, Unmoved: 3, Leaked: 3, Oldest: 94 * time.Second, Waiting: 30 * time.Second,
				States:     []dump.StateCount{{Status: goruntime.Leaked, Reason: "chan send", Count: 3}, {Status: goruntime.Running, Count: 1}},
				StackCount: 3, GoIDs: []uint64{17, 18, 19},
				Stack: dump.Stack{Frames: []dump.Frame{
					{Func: "runtime.gopark", File: "/go/src/runtime/proc.go", Line: 435, Offset: 0xce},
					{Func: "main.send", File: "/src/ask.go", Line: 3, Offset: 0x1d, Inlined: true},
					{Func: "main.ask.func1", File: "/src/ask.go", Line: 8, Offset: 0x1d},
				}},
			},
			{
				Grade: leaks.Growing, Evidence: []string{"it grows"},
				Start: dump.Site{Func: "main.\x1b]0;owned\x07", File: "/src/\x1b.go", Line: 1},
				Count: 1203, Counts: []int{803, 1203}, New: 412, Gone: 12, PerMinute: 800.4, Unreferenced: 1200,
				States:     []dump.StateCount{{Status: waiting, Reason: "sleep", Count: 1203}},
				StackCount: 1200, GoIDs: []uint64{1, 2, 3}, Oldest: 1500 * time.Millisecond,
				Stack: dump.Stack{Cut: true, Frames: []dump.Frame{{Func: "main.\x1b[31m", File: "/src/\x1b.go", Line: 2}}},
			},
			{Grade: leaks.None, Count: 3, Counts: []int{5, 3}, Gone: 2, PerMinute: -4, States: []dump.StateCount{{Status: goruntime.Runnable, Count: 3}}},
		},
	}
}

func writeLeakReport(t *testing.T, make func(io.Writer, *leaks.Report) Leaks, r *leaks.Report, s LeaksSummary) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := make(&buf, r)
	s.Report = r
	for i := range r.Sites {
		s.Shown++
		if err := w.Site(&r.Sites[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Summary(&s), w.Flush()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestLeaksGolden(t *testing.T) {
	once := leakReport()
	once.Snapshots, once.Period, once.Growth, once.Sites = 1, 0, false, once.Sites[:1]
	once.Sites[0].Counts, once.Sites[0].New, once.Sites[0].PerMinute = []int{4}, 0, 0
	none := &leaks.Report{Snapshots: 7, Period: 30 * time.Second, Growth: true, Goroutines: 12}
	failed := LeaksSummary{Hidden: 2, Err: errors.New("process 1234: has exited")}
	for name, got := range map[string][]byte{
		"leaks.txt":        writeLeakReport(t, NewLeaksText, leakReport(), LeaksSummary{}),
		"leaks.jsonl":      writeLeakReport(t, NewLeaksJSON, leakReport(), LeaksSummary{}),
		"leaks-once.txt":   writeLeakReport(t, NewLeaksText, once, failed),
		"leaks-once.jsonl": writeLeakReport(t, NewLeaksJSON, once, failed),
		"leaks-none.txt":   writeLeakReport(t, NewLeaksText, none, LeaksSummary{}),
	} {
		if bytes.ContainsAny(got, "\x1b\x07") {
			t.Errorf("%s: a name is written raw", name)
		}
		testenv.Golden(t, filepath.Join("testdata", name+".golden"), got)
	}
}

// TestLeaksPage holds docs/usage/leaks.md to the JSON and the grades.
func TestLeaksPage(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(testenv.ModuleRoot(t), "docs", "usage", "leaks.md"))
	if err != nil {
		t.Fatal(err)
	}
	sites, sum, _ := strings.Cut(string(text), "Of the summary:")
	check := func(page string, v any) {
		t.Helper()
		typ := reflect.TypeOf(v)
		for i := range typ.NumField() {
			key, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if key != "" && !strings.Contains(page, "\n| `"+key+"`") && !strings.Contains(page, ", `"+key+"` |") {
				t.Errorf("docs/usage/leaks.md does not list the key %q", key)
			}
		}
	}
	check(sites, jsonLeak{})
	check(sum, jsonLeaksSummary{})
	for g := leaks.Stuck; g <= leaks.Leaked; g++ {
		if !strings.Contains(sites, "\n| "+g.String()+" | `"+g.Key()+"` |") {
			t.Errorf("docs/usage/leaks.md does not list the grade %q", g)
		}
	}
	for _, v := range []any{jsonPlace{}, jsonFrame{}, jsonState{}} {
		typ := reflect.TypeOf(v)
		for i := range typ.NumField() {
			if key, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ","); !strings.Contains(sites, "`"+key+"`") {
				t.Errorf("docs/usage/leaks.md does not name the key %q", key)
			}
		}
	}
}
