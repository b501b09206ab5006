package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/maruel/panicparse/v2/stack"

	"gopherscope/internal/dump"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/testenv"
)

const second = int64(time.Second)

// escape is what must never reach a terminal.
const escape = "\x1b]0;title\a\x1b[2J\n\u202e\u009b\x7f\xff"

// goroutines is a Dump with everything that the writers tell apart, names that
// attack a terminal included.
func goroutines() *dump.Dump {
	deep := []dump.Frame{{PC: 1, Func: "runtime.gopark", File: "runtime/proc.go", Line: 402}}
	for i := range 130 {
		deep = append(deep, dump.Frame{PC: uint64(10 + i), Func: "main.deep", File: "/src/deep.go", Line: int32(i), Offset: 0x10})
	}
	frame := func(name string, line int32, offset uint32) dump.Frame {
		return dump.Frame{PC: 0x1000 + uint64(line), Func: name, File: "/src/main.go", Line: line, Offset: offset}
	}
	inlined := frame("main.inlined", 7, 0x22)
	inlined.Inlined = true
	gopark := dump.Frame{PC: 1, Func: "runtime.gopark", File: "runtime/proc.go", Line: 402}
	return &dump.Dump{
		PID: 1234, Version: goruntime.Version{Text: "go1.27.4", Minor: 27}, Took: 1234567 * time.Nanosecond, HasStacks: true,
		Time: time.Date(2026, 11, 24, 6, 30, 0, 5, time.UTC), Mono: 1000 * second,
		Reasons: []string{"", "chan receive", "stopping the world", "select (no cases)\x1b\n\u202e\u009b"},
		Stacks: []dump.Stack{
			{},
			{Frames: []dump.Frame{gopark, inlined, frame("main.outer", 9, 0x22), frame("main.main", 3, 0)}},
			{Frames: deep},
			{Frames: []dump.Frame{gopark, frame("main.deferred", 20, 0x1), frame("runtime.gopanic", 21, 0x2), frame("main.cgo", 22, 0x3)}, Cut: true},
			{Frames: []dump.Frame{{PC: 5, Func: "main.evil" + escape, File: escape + "/evil.go", Line: 1, Offset: 5}}},
			{Frames: []dump.Frame{gopark, {PC: 6, Func: "runtime.bgsweep", File: "runtime/mgcsweep.go", Line: 297, Offset: 0x93}}},
		},
		Sites: []dump.Site{
			{},
			{PC: 9, Func: "main.inlinedServe", Outer: "main.serve", File: "/src/main.go", Line: 41, Offset: 0x87},
			{PC: 10, Func: "main.worker", Outer: "main.worker", File: "/src/main.go", Line: 12},
			{PC: 11, Func: "main.evil" + escape, Outer: "main.evil" + escape, File: escape + "/evil.go", Line: 1, Offset: 1},
			{PC: 12, Func: "runtime.gcenable", Outer: "runtime.gcenable", File: "runtime/mgc.go", Line: 204, Offset: 0x66},
		},
		Labels: [][]dump.Label{nil, {{Key: "handler", Value: "/index"}, {Key: "tenant", Value: `a b"c`}}, {{Key: escape, Value: escape}, {Key: escape, Value: "again"}}},
		Torn:   1, FPMismatches: 2, NoSample: "perf events are not permitted",
		Goroutines: []dump.Goroutine{
			{ID: 1, Status: goruntime.Running, Created: 4, TID: 1240},
			{ID: 2, Status: goruntime.Waiting, Stack: 5, Created: 4, Flags: dump.System, Source: dump.SourceMemory},
			{ID: 5, Status: goruntime.Waiting, Reason: 1, Stack: 1, Created: 1, Start: 2, Parent: 1, Source: dump.SourceMemory, Labels: 1},
			{ID: 6, Status: goruntime.Waiting, Reason: 1, Stack: 1, Created: 1, Start: 2, Parent: 1, Source: dump.SourceMemory, WaitSince: 1000*second - 59*second},
			{ID: 7, Status: goruntime.Syscall, Reason: 1, Stack: 1, Created: 1, Start: 2, Parent: 2, Source: dump.SourceMemory, WaitSince: 1000*second - 61*second, TID: 1241},
			{ID: 8, Status: goruntime.Leaked, Reason: 1, Stack: 1, Created: 1, Start: 2, Parent: 1, Source: dump.SourceMemory, WaitSince: second},
			{ID: 9, Status: goruntime.Waiting, Reason: 1, Stack: 2, Created: 1, Parent: 1, Source: dump.SourceMemory, WaitSince: second, Flags: dump.Locked},
			{ID: 10, Status: goruntime.Runnable, Created: 1, Start: 2, Source: dump.SourceTorn},
			{ID: 11, Status: goruntime.Waiting, Reason: 2, Created: 1, Start: 2, Source: dump.SourceInvalid, Flags: dump.Fake},
			{ID: 12, Status: goruntime.Running, Stack: 3, Created: 1, Start: 2, Source: dump.SourceSample},
			{ID: 13, Status: goruntime.Waiting, Reason: 3, Stack: 4, Created: 3, Start: 3, Parent: 12, Source: dump.SourceMemory, Labels: 2},
			{ID: 14, Status: goruntime.CopyStack, Created: 0},
		},
	}
}

type newWriter func(io.Writer, *dump.Dump, DumpOptions) Goroutines

// written is what a writer makes of the goroutines, in groups or not.
func written(t *testing.T, make newWriter, o DumpOptions, group bool) string {
	t.Helper()
	d := goroutines()
	var buf bytes.Buffer
	w := make(&buf, d, o)
	sum := &DumpSummary{Dump: d}
	f := dump.Filter{All: o.All}
	gs := f.Select(d)
	for g := range gs {
		sum.Shown++
		if !group {
			if err := w.Goroutine(g); err != nil {
				t.Fatal(err)
			}
		}
	}
	if group {
		groups := d.Groups(gs, o.All)
		for i := range groups {
			if err := w.Group(&groups[i]); err != nil {
				t.Fatal(err)
			}
		}
		sum.Groups = len(groups)
	}
	if err := errors.Join(w.Summary(sum), w.Flush()); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

func TestDumpGolden(t *testing.T) {
	for _, tt := range []struct {
		name  string
		make  newWriter
		o     DumpOptions
		group bool
	}{
		{"dump.txt", NewDumpText, DumpOptions{}, false},
		{"dump-all.txt", NewDumpText, DumpOptions{All: true, Labels: true}, false},
		{"dump-group.txt", NewDumpText, DumpOptions{}, true},
		{"dump.jsonl", NewDumpJSON, DumpOptions{}, false},
		{"dump-group.jsonl", NewDumpJSON, DumpOptions{}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := written(t, tt.make, tt.o, tt.group)
			testenv.Golden(t, filepath.Join("testdata", tt.name+".golden"), []byte(got))
			for _, r := range got {
				if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
					t.Errorf("%q is printed raw", r)
				}
			}
		})
	}
}

func TestDumpParses(t *testing.T) {
	for _, o := range []DumpOptions{{}, {All: true}} {
		text := written(t, NewDumpText, o, false)
		var rest bytes.Buffer
		s, suffix, err := stack.ScanSnapshot(strings.NewReader(text), &rest, &stack.Opts{})
		if err != nil && !errors.Is(err, io.EOF) || s == nil || rest.Len()+len(suffix) > 0 {
			t.Fatalf("panicparse: %v, left %q %q", err, &rest, suffix)
		}
		want := len(goroutines().Goroutines)
		if !o.All {
			want--
		}
		if len(s.Goroutines) != want {
			t.Errorf("panicparse finds %d goroutines of %d", len(s.Goroutines), want)
		}
	}
}

// TestDumpJSONKeys holds docs/usage/dump.md to the keys that are written.
func TestDumpJSONKeys(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(testenv.ModuleRoot(t), "docs", "usage", "dump.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllSubmatch(page, -1) {
		documented[string(m[1])] = true
	}
	d := goroutines()
	sum := &DumpSummary{Dump: d, Shown: 1, Groups: 1, Err: errors.New("process ended")}
	last, err := sum.JSON()
	if err != nil {
		t.Fatal(err)
	}
	lines := written(t, NewDumpJSON, DumpOptions{All: true}, false) + written(t, NewDumpJSON, DumpOptions{}, true) + string(last)
	keys := map[string]bool{}
	for line := range strings.Lines(lines) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if v["type"] == "summary" {
			delete(v, "states") // its keys are the states
			v["states"] = nil
		}
		delete(v, "labels") // its keys are the program's
		keys["labels"] = true
		collect(v, keys)
	}
	for key := range keys {
		if !documented[key] {
			t.Errorf("docs/usage/dump.md does not list the key %q", key)
		}
	}
	for key := range documented {
		if !keys[key] {
			t.Errorf("docs/usage/dump.md lists the key %q, which is never written", key)
		}
	}
}

// collect adds the keys of v and of all that is in it.
func collect(v any, keys map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for key, inner := range v {
			keys[key] = true
			collect(inner, keys)
		}
	case []any:
		for _, inner := range v {
			collect(inner, keys)
		}
	}
}

func TestDumpSummaryText(t *testing.T) {
	d := goroutines()
	s := &DumpSummary{Dump: d, Shown: 11}
	want := "12 goroutines, 1 of the runtime's own, in 1.23ms; 11 shown; the process was not stopped; " +
		"1 torn (they kept changing while they were read); 2 stacks on which the frame pointers disagree; " +
		"1 running without a stack: perf events are not permitted"
	if got := s.Text(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	d = &dump.Dump{Goroutines: d.Goroutines[:1], Took: time.Second, HasStacks: true}
	want = "1 goroutine, 0 of the runtime's own, in 1.00s; 1 shown in 1 group; 0 torn; 1 running without a stack: its thread was not seen in Go code"
	if got := (&DumpSummary{Dump: d, Shown: 1, Groups: 1}).Text(); got != want {
		t.Errorf("core file:\ngot  %s\nwant %s", got, want)
	}
}

// TestDumpWriteError wants the first error kept, and nothing written after it.
func TestDumpWriteError(t *testing.T) {
	d := goroutines()
	full := errors.New("disk full")
	for i, make := range []newWriter{NewDumpText, NewDumpJSON} {
		w := make(fullDisk{full}, d, DumpOptions{})
		var err error
		n := 0
		for ; err == nil && n < 10000; n++ {
			err = w.Goroutine(&d.Goroutines[6])
		}
		if !errors.Is(err, full) || !errors.Is(w.Flush(), full) {
			t.Errorf("writer %d: %v after %d goroutines", i, err, n)
		}
	}
}

type fullDisk struct{ err error }

func (f fullDisk) Write([]byte) (int, error) { return 0, f.err }

// BenchmarkDump writes a million goroutines that share their stacks.
func BenchmarkDump(b *testing.B) {
	for name, make := range map[string]newWriter{"text": NewDumpText, "json": NewDumpJSON} {
		b.Run(name, func(b *testing.B) {
			d := goroutines()
			g := &d.Goroutines[2]
			b.ReportAllocs()
			w := make(io.Discard, d, DumpOptions{})
			for range b.N {
				if err := w.Goroutine(g); err != nil {
					b.Fatal(err)
				}
			}
			fmt.Fprint(io.Discard, w.Flush())
		})
	}
}
