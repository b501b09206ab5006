package tui

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"gopherscope/internal/dump"
	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/testenv"
)

// hostile is a name that would clear the screen, set the title and turn the text
// around, if it came to a terminal as it is.
const hostile = "evil\x1b[2J\x1b]0;owned\a\u202etxt\n\u009b31m"

var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// process is a made-up process at second n: pool workers that wait, one that takes
// turns, one in a system call, one of the runtime's own.
func processAt(second int, stacks bool) *dump.Dump {
	d := &dump.Dump{
		PID: 1234, Version: goruntime.Version{Minor: 26, Text: "go1.26.8"}, HasStacks: stacks,
		Time: begin.Add(time.Duration(second) * time.Second), Mono: 1e12 + int64(second)*1e9, Took: 3 * time.Millisecond,
		Reasons: []string{"", "chan receive", "sleep", "GC worker (idle)"},
		Stacks: []dump.Stack{
			{},
			{Frames: []dump.Frame{
				{Func: "runtime.gopark", File: "/go/src/runtime/proc.go", Line: 460},
				{Func: "runtime.chanrecv1", File: "/go/src/runtime/chan.go", Line: 509},
				{Func: "example.com/shop/pool.(*Pool).work", File: "/src/pool/pool.go", Line: 31},
			}},
			{Frames: []dump.Frame{
				{Func: "time.Sleep", File: "/go/src/runtime/time.go", Line: 363},
				{Func: "main.poll", File: "/src/main.go", Line: 18},
			}},
			{Frames: []dump.Frame{{Func: "syscall.Syscall", File: "/go/src/syscall/syscall.go", Line: 74}, {Func: "main." + hostile, File: "/src/" + hostile, Line: 7}}, Cut: true},
		},
		Sites: []dump.Site{
			{},
			{Func: "example.com/shop/pool.New", Outer: "example.com/shop/pool.New", File: "/src/pool/pool.go", Line: 20},
			{Func: "main.main", Outer: "main.main", File: "/src/main.go", Line: 9},
			{Func: "main." + hostile, Outer: "main." + hostile, File: "/src/" + hostile, Line: 5},
			{Func: "runtime.gcBgMarkStartWorkers", Outer: "runtime.gcBgMarkStartWorkers", File: "/go/src/runtime/mgc.go", Line: 1},
			{Func: "runtime.main", Outer: "runtime.main", File: "/go/src/runtime/proc.go", Line: 147},
		},
		Labels: [][]dump.Label{nil, {{Key: "tenant", Value: "acme"}}, {{Key: hostile, Value: hostile}}},
	}
	add := func(g dump.Goroutine) {
		if !stacks {
			g.Stack, g.Source = 0, dump.SourceNone
		}
		d.Goroutines = append(d.Goroutines, g)
	}
	add(dump.Goroutine{ID: 1, Start: 5, Status: goruntime.Running, Seq: uint8(second), TID: 77})
	add(dump.Goroutine{ID: 2, Created: 4, Start: 4, Status: goruntime.Waiting, Reason: 3, Flags: dump.System})
	for id := uint64(10); id < 40; id++ {
		add(dump.Goroutine{
			ID: id, Parent: 1, Created: 1, Start: 2, Status: goruntime.Waiting, Reason: 1, Stack: 1, Source: dump.SourceMemory,
			Labels: dump.LabelsID(id % 2), WaitSince: 1e12 - 90e9, Seq: 5,
		})
	}
	g := dump.Goroutine{ID: 50, Parent: 1, Created: 2, Start: 2, Status: goruntime.Waiting, Reason: 2, Stack: 2, Source: dump.SourceMemory, Seq: uint8(second)}
	if second%2 == 1 {
		g.Status = goruntime.Runnable
	}
	add(g)
	if second < 8 {
		add(dump.Goroutine{ID: 60, Parent: 50, Created: 3, Start: 3, Status: goruntime.Syscall, Stack: 3, Source: dump.SourceMemory, Labels: 2, TID: 99, Flags: dump.Locked})
	}
	return d
}

// desk is a Host that notes what it was asked for.
type desk struct {
	asked []string
	ended chan struct{}
}

func (h *desk) Sample(w Want) (*Sample, error) {
	h.asked = append(h.asked, fmt.Sprintf("sample stacks=%t watch=%d", w.Stacks, w.Watch))
	return nil, errors.New("tests hand over their own")
}

func (h *desk) StartEngine() error {
	h.asked = append(h.asked, "start")
	h.ended = make(chan struct{})
	return nil
}

func (h *desk) StopEngine() error { h.asked = append(h.asked, "stop"); return nil }

func (h *desk) EngineEnded() <-chan struct{} { return h.ended }

func (h *desk) Save(text string, when time.Time) (string, error) {
	h.asked = append(h.asked, "save "+when.Format(time.TimeOnly)+"\n"+text)
	return "gopherscope-top.txt", nil
}

// bench is a Model on which a test types.
type bench struct {
	t    *testing.T
	m    *Model
	desk *desk
	cmd  tea.Cmd // of the last message
}

func newBench(t *testing.T, width, height int, opts *Options) *bench {
	b := &bench{t: t, desk: &desk{}}
	b.m = New(b.desk, Process{PID: 1234, Command: "/bin/shop -port 80 " + hostile, GoVersion: "go1.26.8", Procs: 4}, opts)
	b.send(tea.WindowSizeMsg{Width: width, Height: height})
	return b
}

func (b *bench) send(msg tea.Msg) {
	b.t.Helper()
	_, b.cmd = b.m.Update(msg)
	b.check()
}

// sampleAt hands over the Sample of a second, with stacks that are as old as said.
func (b *bench) sampleAt(second, stacksOf int, rates *Rates) {
	b.t.Helper()
	s := &Sample{Dump: processAt(second, second == stacksOf), Rates: rates}
	s.TargetCPU, s.OwnCPU = time.Second+time.Duration(second)*250*time.Millisecond, time.Duration(second)*10*time.Millisecond
	switch {
	case stacksOf == second:
		s.Stacks = s.Dump
	case stacksOf >= 0:
		s.Stacks = processAt(stacksOf, true)
	}
	b.send(sampleMsg{sample: s, took: 3 * time.Millisecond})
}

var special = map[string]rune{
	"enter": tea.KeyEnter, "esc": tea.KeyEscape, "up": tea.KeyUp, "down": tea.KeyDown, "home": tea.KeyHome, "end": tea.KeyEnd,
	"pgup": tea.KeyPgUp, "pgdown": tea.KeyPgDown, "left": tea.KeyLeft, "right": tea.KeyRight, "backspace": tea.KeyBackspace, "space": tea.KeySpace,
}

// press types keys. Those of more than one letter are named.
func (b *bench) press(keys ...string) {
	b.t.Helper()
	for _, k := range keys {
		if code, ok := special[k]; ok {
			b.send(tea.KeyPressMsg{Code: code})
			continue
		}
		if k == "ctrl+c" {
			b.send(tea.KeyPressMsg{Code: 'c', Mod: tea.ModCtrl})
			continue
		}
		for _, r := range k {
			b.send(tea.KeyPressMsg{Code: r, Text: string(r)})
		}
	}
}

// check holds every frame to the screen: its size, and nothing that could control a
// terminal but the colours.
func (b *bench) check() {
	b.t.Helper()
	frame := b.m.Frame()
	lines := strings.Split(frame, "\n")
	if len(lines) != b.m.height {
		b.t.Fatalf("%d lines on a screen of %d:\n%s", len(lines), b.m.height, frame)
	}
	for _, line := range lines {
		if w := ansi.StringWidth(line); w > b.m.width {
			b.t.Fatalf("a line of %d cells on a screen of %d: %q", w, b.m.width, line)
		}
		if strings.Contains(line, "\x1b[2J") || strings.Contains(line, "\x1b]") {
			b.t.Fatalf("a name of the program came through: %q", line)
		}
		for _, r := range ansi.Strip(line) {
			if !unicode.IsPrint(r) {
				b.t.Fatalf("%q in a line: %q", r, line)
			}
		}
	}
}

// plain is the screen without colours.
func (b *bench) plain() string { return ansi.Strip(b.m.Frame()) }

func (b *bench) want(texts ...string) {
	b.t.Helper()
	for _, text := range texts {
		if !strings.Contains(b.plain(), text) {
			b.t.Errorf("there is no %q on the screen:\n%s", text, b.plain())
		}
	}
}

func (b *bench) wantNot(texts ...string) {
	b.t.Helper()
	for _, text := range texts {
		if strings.Contains(b.plain(), text) {
			b.t.Errorf("there is %q on the screen:\n%s", text, b.plain())
		}
	}
}

// ran runs the command of the last message, and hands over what comes of it.
func (b *bench) ran() {
	b.t.Helper()
	if b.cmd == nil {
		b.t.Fatalf("nothing is to be done; the screen:\n%s", b.plain())
	}
	b.send(b.cmd())
}

// figuresOf are made-up rates of a second.
func figuresOf() *Rates {
	r := &Rates{
		Engine: "ebpf", For: time.Second, Over: time.Second, Transitions: 12345, Cost: 21 * time.Millisecond,
		Goroutines: map[uint64]*Figures{}, Ended: map[event.Location]*Figures{},
	}
	for id := uint64(10); id < 40; id++ {
		f := &Figures{Transitions: id, Blocked: time.Second}
		f.sched.count(bucketOf(id*1000), 1)
		r.Goroutines[id] = f
	}
	r.Goroutines[50] = &Figures{Transitions: 2000, Blocked: 300 * time.Millisecond}
	r.Ended[event.Location{Func: "main.brief", File: "/src/brief.go", Line: 3}] = &Figures{Transitions: 90}
	return r
}

func TestFrames(t *testing.T) {
	for _, size := range []struct{ width, height int }{{80, 24}, {120, 40}, {60, 15}} {
		t.Run(fmt.Sprintf("%dx%d", size.width, size.height), func(t *testing.T) {
			frame := func(name string, b *bench) {
				path := filepath.Join("testdata", fmt.Sprintf("%s-%dx%d.golden", name, size.width, size.height))
				var out strings.Builder
				for line := range strings.Lines(b.plain()) {
					out.WriteString(strings.TrimRight(line, " \n") + "\n")
				}
				testenv.Golden(t, path, []byte(out.String()))
			}
			b := newBench(t, size.width, size.height, nil)
			for second := range 7 {
				b.sampleAt(second, -1, nil)
			}
			frame("created", b)
			b.press("ggg")
			frame("state", b)
			b.press("gggggg", "enter")
			b.press("g", "g", "g", "g", "g", "enter") // to the function, by way of all
			b.press("esc")
			b.sampleAt(7, 5, nil)
			frame("function", b)
			b.press("?")
			frame("help", b)
			b.press("esc", "gggg", "e") // by creation site
			b.ran()
			b.sampleAt(8, 5, figuresOf())
			frame("engine", b)
			b.press("enter")
			frame("goroutines", b)
			b.press("enter")
			b.sampleAt(9, 9, figuresOf())
			frame("one", b)
			b.send(sampleMsg{err: &EndedError{Why: "the process has exited"}})
			frame("ended", b)
		})
	}
	t.Run("ascii", func(t *testing.T) {
		b := newBench(t, 80, 24, &Options{ASCII: true, All: true})
		for second := range 7 {
			b.sampleAt(second, -1, nil)
		}
		for _, r := range b.plain() {
			if r >= 0x80 {
				t.Fatalf("%q on a screen that shows ASCII only", r)
			}
		}
		testenv.Golden(t, "testdata/ascii-80x24.golden", []byte(b.plain()+"\n"))
	})
}
