package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gopherscope/internal/engine"
	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gstate"
	"gopherscope/internal/stream"
	"gopherscope/internal/summary"
	"gopherscope/internal/testenv"
)

// statStream is a stream that has something for each part of a page: goroutine 2 waits
// for a lock and is woken by goroutine 1, goroutine 3 ends, and all names are hostile.
func statStream(s *summary.Summary) {
	const ms = int64(time.Millisecond)
	tr := gstate.NewTracker()
	births := []*event.Birth{
		{Start: event.Location{Func: "runtime.main", File: "proc.go", Line: 147}},
		{Parent: 1, CreatedBy: event.Location{Func: "main.serve\x1b[2J", File: "/src/a\nb.go", Line: 12}, Start: event.Location{Func: "main.handle\u202e", File: "/src/a.go", Line: 30}},
	}
	feed := func(e event.Event) {
		e.PID, e.TID, e.Time = 7, 70, e.Time*ms
		s.Event(&e, tr.Apply(&e))
	}
	change := func(at int64, goid uint64, from, to goruntime.Status, via event.Via, reason string) {
		feed(event.Event{Time: at, GoID: goid, From: from, To: to, Via: via, Reason: reason, Fake: goruntime.IsFakeWait(reason), P: 0})
	}
	feed(event.Event{Kind: event.Snapshot, GoID: 1, To: goruntime.Running, Birth: births[0]})
	feed(event.Event{Kind: event.Snapshot, GoID: 9, To: goruntime.Waiting, Reason: "chan receive", Birth: births[1]})
	for i := range int64(2) {
		feed(event.Event{Time: 10 * i, GoID: uint64(2 + i), From: goruntime.Dead, To: goruntime.Runnable, Via: event.ViaCreate, Birth: births[1]})
		change(10*i+1+i, uint64(2+i), goruntime.Runnable, goruntime.Running, event.ViaSchedule, "")
	}
	change(20, 2, goruntime.Running, goruntime.Waiting, event.ViaPark, "sync.Mutex.Lock")
	change(25, 1, goruntime.Running, goruntime.Waiting, event.ViaSTW, "stopping the world")
	change(27, 1, goruntime.Waiting, goruntime.Running, event.ViaSTW, "")
	change(30, 1, goruntime.Running, goruntime.Waiting, event.ViaGC, "GC assist marking")
	change(35, 1, goruntime.Waiting, goruntime.Running, event.ViaGC, "")
	change(40, 3, goruntime.Running, goruntime.Syscall, event.ViaSyscall, "")
	change(60, 3, goruntime.Syscall, goruntime.Running, event.ViaSyscall, "")
	feed(event.Event{Time: 70, GoID: 2, From: goruntime.Waiting, To: goruntime.Runnable, Via: event.ViaReady, Waker: 1})
	change(70, 3, goruntime.Running, goruntime.Dead, event.ViaExit, "")
	change(90, 2, goruntime.Runnable, goruntime.Running, event.ViaSchedule, "")
	s.Advance(100 * ms)
}

func statPage(top int) *Stat {
	s := summary.New(0, summary.Options{Top: top})
	statStream(s)
	p := s.Page()
	totals := stream.Totals{
		Now: p.End, Lost: engine.Lost{RingFull: 3}, TargetCPU: time.Second,
		Cost: engine.Cost{NsPerUprobe: 1000, Hits: engine.Hits{Uprobes: 40}, Total: 40 * time.Microsecond},
	}
	return &Stat{
		Page: p, Wall: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC).UnixNano() + p.End, Totals: totals, Top: top,
		Info: &stream.Info{Engine: "ebpf", GoVersion: "go1.26.8", PID: 7, Exe: "/bin/x", Command: []string{"x\x1b]0;", "-v"}, Procs: 2},
	}
}

// TestStat compares each form with what was reviewed.
func TestStat(t *testing.T) {
	local := time.Local
	time.Local = time.UTC
	defer func() { time.Local = local }()
	for name, make := range map[string]func(w *bytes.Buffer) Stats{
		"stat.txt.golden":      func(w *bytes.Buffer) Stats { return NewStatText(w) },
		"stat-line.txt.golden": func(w *bytes.Buffer) Stats { return NewStatLine(w) },
		"stat.jsonl.golden":    func(w *bytes.Buffer) Stats { return NewStatJSON(w) },
	} {
		var buf bytes.Buffer
		out := make(&buf)
		for _, top := range []int{10, 1} {
			if err := out.Page(statPage(top)); err != nil {
				t.Fatal(err)
			}
		}
		if err := out.Flush(); err != nil {
			t.Fatal(err)
		}
		for _, r := range buf.String() {
			if r < ' ' && r != '\n' || r == '\u202e' {
				t.Errorf("%s has a raw %U", name, r)
			}
		}
		testenv.Golden(t, filepath.Join("testdata", name), buf.Bytes())
	}
}

// Rates are of the time that was traced, and goroutines that may have ended in a pause are neither
// alive nor gone.
func TestStatPaused(t *testing.T) {
	const ms = int64(time.Millisecond)
	s := summary.New(0, summary.Options{})
	statStream(s)
	s.Event(&event.Event{Kind: event.Gap, Since: 100 * ms, Time: 1000 * ms, PID: 7}, nil)
	s.Advance(1000 * ms)
	page := *statPage(10)
	for _, want := range []struct{ text, line []string }{
		{[]string{"goroutines: up to 3, ", " 2 created (20.0/s), 1 ended (10.0/s)", "events: 14 (140/s)", "not traced for 900.0ms"}, []string{" 0-3 ", " 20.0 ", " 10.0 ", " 140 ", " 2.70 "}},
		{[]string{" 0 created (0.00/s), 0 ended (0.00/s)", "events: 0 (0.00/s)", "not traced for 1.00s"}, []string{" 0-3 ", " - ", " 3.00 "}},
	} {
		page.Page = s.Page()
		var text, line bytes.Buffer
		for out, w := range map[Stats]*bytes.Buffer{NewStatText(&text): &text, NewStatLine(&line): &line} {
			if err := errors.Join(out.Page(&page), out.Flush()); err != nil {
				t.Fatal(err)
			}
			all := want.text
			if w == &line {
				all = want.line
			}
			for _, part := range all {
				if !strings.Contains(w.String(), part) {
					t.Errorf("no %q in\n%s", part, w)
				}
			}
		}
		s.Reset()
		s.Event(&event.Event{Kind: event.Gap, Since: 1000 * ms, Time: 2000 * ms, PID: 7}, nil)
	}
	// Now they are read: two are gone, and one came.
	for _, goid := range []uint64{1, 5} {
		s.Event(&event.Event{Kind: event.Snapshot, GoID: goid, Time: 2000 * ms, PID: 7, To: goruntime.Waiting, Reason: "sleep"}, nil)
	}
	s.Event(&event.Event{Kind: event.Census, Time: 2000 * ms, PID: 7}, nil)
	page.Page = s.Page()
	var text bytes.Buffer
	out := NewStatText(&text)
	if err := errors.Join(out.Page(&page), out.Flush()); err != nil {
		t.Fatal(err)
	}
	if want := "goroutines: 2 alive; 2 were there before, 1 found and 2 gone after pauses, 0 created"; !strings.Contains(text.String(), want) {
		t.Errorf("no %q in\n%s", want, &text)
	}
}

// An empty interval has no row and no division by zero, and its lists are not null.
func TestStatEmpty(t *testing.T) {
	empty := &Stat{Page: summary.New(0, summary.Options{}).Page(), Info: &stream.Info{Engine: "inline", GoVersion: "go1.27"}}
	var text, line, js bytes.Buffer
	for _, out := range []Stats{NewStatText(&text), NewStatLine(&line), NewStatJSON(&js)} {
		if err := out.Page(empty); err != nil {
			t.Fatal(err)
		}
		if err := out.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []string{text.String(), line.String(), js.String()} {
		if strings.Contains(s, "NaN") || strings.Contains(s, "Inf") {
			t.Errorf("not a number: %s", s)
		}
	}
	var v map[string]any
	if err := json.Unmarshal(js.Bytes(), &v); err != nil {
		t.Fatal(err)
	}
	for key, value := range v {
		if value == nil {
			t.Errorf("%s is null", key)
		}
	}
	if !strings.Contains(text.String(), "cost to the target: not measured") {
		t.Errorf("%s", text.String())
	}
}

// TestStatKeys holds docs/usage/stat.md to the keys that there are.
func TestStatKeys(t *testing.T) {
	var buf bytes.Buffer
	out := NewStatJSON(&buf)
	if err := out.Page(statPage(10)); err != nil {
		t.Fatal(err)
	}
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(buf.Bytes(), &v); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(testenv.ModuleRoot(t), "docs", "usage", "stat.md"))
	if err != nil {
		t.Fatal(err)
	}
	walkKeys(v, func(key string) {
		if !strings.Contains(string(page), "`"+key+"`") {
			t.Errorf("docs/usage/stat.md does not have the key %q", key)
		}
	})
}

func walkKeys(v any, visit func(key string)) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			visit(key)
			walkKeys(value, visit)
		}
	case []any:
		for _, value := range v {
			walkKeys(value, visit)
		}
	}
}

// Since takes away what was there before, of each cause.
func TestSince(t *testing.T) {
	before := stream.Totals{Lost: engine.Lost{RingFull: 1, NoRing: 2}, Cost: engine.Cost{Total: 10, Hits: engine.Hits{Inline: 5}, NsPerInline: 2}, TargetCPU: 100, Gaps: 1, Paused: 7}
	now := stream.Totals{Now: 9, Lost: engine.Lost{RingFull: 4, NoRing: 2, Corrupt: 1}, Cost: engine.Cost{Total: 30, Hits: engine.Hits{Inline: 15}, NsPerInline: 2}, TargetCPU: 150, Gaps: 3, Paused: 9}
	want := stream.Totals{Now: 9, Lost: engine.Lost{RingFull: 3, Corrupt: 1}, Cost: engine.Cost{Total: 20, Hits: engine.Hits{Inline: 10}, NsPerInline: 2}, TargetCPU: 50, Gaps: 2, Paused: 2}
	if got := Since(now, before); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := Since(stream.Totals{}, before); got.TargetCPU != 0 || got.Cost.Total != 0 {
		t.Errorf("what is not known any more: %+v", got)
	}
}

// TestLongTimes wants times of minutes and hours in a table as a clock has them.
func TestLongTimes(t *testing.T) {
	s := &Stat{Page: &summary.Page{Begin: 1, End: 1 + int64(2*time.Hour)}, Info: &stream.Info{}, Top: 1}
	s.States[summary.Waiting].Time = 326_400 * time.Millisecond
	s.Lived = 125 * time.Minute
	var out bytes.Buffer
	w := NewStatText(&out)
	if err := errors.Join(w.Page(s), w.Flush()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"  2h00m\n", "of 2h05m in all", "\n  5m26s "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}
