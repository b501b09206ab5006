package tui

import (
	"errors"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
)

// TestEveryKey types each key, and looks at what it does.
func TestEveryKey(t *testing.T) {
	b := newBench(t, 100, 24, nil)
	b.want("reading the goroutines")
	b.sampleAt(0, -1, nil)
	b.sampleAt(1, -1, nil)

	b.want("33 goroutines by creation site in 4 rows", "▼COUNT", "example.com/shop/pool.New pool.go:20", "running        1", "waiting       30", "syscall        1", "runnable       1")
	b.want(">      30")

	b.press("down")
	b.want(">       1")
	b.press("k", "j", "up")
	b.want(">      30")
	b.press("end")
	b.wantNot(">      30")
	b.press("home")
	b.want(">      30")

	b.press("g")
	b.want("by wait reason", "chan receive", "[syscall]")
	b.press("g")
	b.want("by function", "[stack not read yet]")
	if got := b.desk.asked; len(got) != 0 {
		t.Fatalf("asked for %q before the command ran", got)
	}
	b.cmd() // stacks are wanted at once
	if got := b.desk.asked; len(got) != 1 || got[0] != "sample stacks=true watch=0" {
		t.Fatalf("asked for %q", got)
	}
	b.sampleAt(2, 2, nil)
	b.want("pool.(*Pool).work", "main.poll", `\a\u202etxt\n\u009b31m`)
	b.press("g")
	b.want("by state", "syscall")
	b.press("g")
	b.want("by pprof labels", "tenant=acme", "[no labels]")
	b.press("g")
	b.want("goroutine", "GOID")
	b.press("g")
	b.want("by creation site")

	b.press(">")
	b.want("▼RUNNING")
	b.press("<", "<")
	b.want("▲CREATED BY")
	b.press("r")
	b.want("▼CREATED BY")
	b.press(">")
	b.want("▼COUNT")
	b.press("r")
	b.want("▲COUNT")
	b.press("r")

	b.press("?")
	b.want("the other way round")
	b.press("?")
	b.wantNot("the other way round")
}

func TestFilter(t *testing.T) {
	b := newBench(t, 100, 24, nil)
	b.sampleAt(0, -1, nil)
	b.press("/", "pool.*New")
	b.want("filter (regexp): pool.*New_")
	b.press("enter")
	b.want("30 goroutines by creation site in 1 row", "filter /pool.*New/", "shop/pool.New")
	b.wantNot("main.main")
	b.press("/", "backspace", "backspace", "backspace", "(", "enter")
	b.want("missing closing )")
	b.press("esc")
	b.want("filter /pool.*New/")
	b.press("/")
	b.send(tea.KeyPressMsg{Code: 'u', Mod: tea.ModCtrl})
	b.press("no such row", "enter")
	b.want("no row matches the filter")
	b.press("esc")
	b.want("33 goroutines")
	b.press("/q?ge", "enter") // keys that mean something elsewhere
	b.want("filter /q?ge/")
	b.press("/")
	b.send(tea.KeyPressMsg{Code: 'u', Mod: tea.ModCtrl})
	b.press("enter")
	b.want("33 goroutines by creation site in 4 rows")

	b.press("ggggg/^sleep", "enter") // single goroutines match by their state, too
	b.want("1 goroutine ", "50 sleep")
}

func TestDrillDown(t *testing.T) {
	b := newBench(t, 100, 30, nil)
	b.sampleAt(0, 0, nil)
	b.press("enter")
	b.want("30 goroutines of example.com/shop/pool.New pool.go:20", "chan receive", "1m30s")
	b.press("down", "down", "enter")
	b.want("goroutine 12", "waiting (chan receive) for about 1m30s", "created by example.com/shop/pool.New pool.go:20 in goroutine 1",
		"example.com/shop/pool.(*Pool).work pool.go:31", "seen in the last 1 sample")
	b.wantNot("runtime.gopark")
	b.cmd = b.m.takeSample()
	b.cmd()
	if got := b.desk.asked; len(got) != 1 || got[0] != "sample stacks=true watch=12" {
		t.Errorf("asked for %q", got)
	}
	b.sampleAt(1, 0, nil)
	b.want("stack, the same since 12:00:00", "12:00:00 to 12:00:01     2  waiting (chan receive)")
	b.press("esc")
	b.want("30 goroutines of", ">        12")
	b.press("esc", "esc", "esc")
	b.want("33 goroutines by creation site")

	b.press("/", "txt", "enter", "enter", "enter")
	b.want("goroutine 60", "syscall, locked to thread, thread 99", `labels evil\x1b[2J`, "... it goes on", "as it was 1.00s before this; it may have run since")
	b.sampleAt(8, 8, nil)
	b.want("it has ended; this was seen at 12:00:01", "not there")
	b.press("esc")
	b.want("no row matches the filter")
	b.press("esc")
	b.want("no row matches the filter") // the creation site has gone
	b.press("esc")
	b.want("32 goroutines")
}

func TestHistory(t *testing.T) {
	b := newBench(t, 100, 40, nil)
	for second := range 4 {
		b.sampleAt(second, 0, nil)
	}
	b.press("ggggg/^sleep|runnable", "enter", "enter")
	b.want("goroutine 50", "  12:00:03                 1  runnable", "  12:00:02                 1  waiting (sleep)")
	for second := 5; second < 9; second += 2 { // always caught in the same state
		b.sampleAt(second, 0, nil)
	}
	b.want("12:00:03 to 12:00:07     3  runnable, with runs in between")
	b.press("end", "down", "pgdown")
	b.press("home")
	b.want("goroutine 50")
}

func TestPauseAndSave(t *testing.T) {
	b := newBench(t, 100, 24, nil)
	b.sampleAt(0, -1, nil)
	timer := timerMsg(b.m.timer)
	b.press("p")
	b.want("PAUSED 12:00:00")
	b.send(timer)
	if b.cmd != nil {
		t.Error("a sample was taken in a pause")
	}
	b.press("w")
	b.ran()
	b.want("written to gopherscope-top.txt")
	saved := b.desk.asked[len(b.desk.asked)-1]
	for _, text := range []string{"save 12:00:00", "33 goroutines by creation site in 4 rows", "shop/pool.New pool.go:20", "starts at runtime.main"} {
		if !strings.Contains(saved, text) {
			t.Errorf("%q is not in what was written:\n%s", text, saved)
		}
	}
	if strings.ContainsAny(saved, "\x1b\a") {
		t.Errorf("written: %q", saved)
	}
	b.press("p")
	b.wantNot("PAUSED")
	b.cmd()
	if got := b.desk.asked[len(b.desk.asked)-1]; got != "sample stacks=false watch=0" {
		t.Errorf("after the pause: %q", got)
	}
	b.sampleAt(1, -1, nil)
	b.want("12:00:01")
}

// TestSaveAll wants rows in the file that have no room on the screen.
func TestSaveAll(t *testing.T) {
	b := newBench(t, 60, 12, nil)
	b.sampleAt(0, 0, nil)
	b.press("enter", "w")
	b.ran()
	saved := b.desk.asked[len(b.desk.asked)-1]
	if got := strings.Count(saved, "chan receive"); got != 30 {
		t.Errorf("%d of 30 goroutines in what was written:\n%s", got, saved)
	}
}

func TestEngine(t *testing.T) {
	b := newBench(t, 120, 24, nil)
	b.sampleAt(0, -1, nil)
	b.wantNot("TRANS/S")
	b.press("e")
	b.want("engine: attaching")
	b.ran()
	first := b.cmd
	b.want("engine: attached")
	b.sampleAt(1, -1, figuresOf())
	b.want("lost 0", "ebpf costs it 2.1%", "12.3k transitions/s", "SCHED P99", "TRANS/S", "BLOCKED/S", "735", "30.0s", "main.brief brief.go:3")
	b.want("39.9us") // the p99 of 10 to 39 us, at most 1/32 above
	b.press("<", "<", "<")
	b.want("▼TRANS/S", "2000")

	lossy := figuresOf()
	lossy.Lost, lossy.Violations, lossy.Over = 17, 3, 4*time.Second
	b.sampleAt(2, -1, lossy)
	b.want("lost 17")

	b.press("e")
	b.want("engine: detaching")
	close(b.desk.ended)
	b.ran()
	b.want("engine off")
	b.wantNot("TRANS/S", "main.brief")
	b.want("▼COUNT") // the column that it was sorted by is gone
	if got := strings.Join(b.desk.asked, " "); got != "start stop" {
		t.Errorf("asked for %q", got)
	}

	b.press("e")
	b.ran()
	second := b.cmd
	b.sampleAt(3, -1, figuresOf())
	b.send(first())
	b.want("TRANS/S") // that was the end of the first one
	close(b.desk.ended)
	b.send(second())
	b.ran()
	b.want("engine off")
}

func TestEngineRefused(t *testing.T) {
	b := newBench(t, 100, 24, nil)
	b.sampleAt(0, -1, nil)
	b.press("e")
	b.send(engineMsg{on: true, err: errors.New("attach: not permitted\x1b[2J (run as root)")})
	b.want(`error: attach: not permitted\x1b[2J (run as root)`, "engine off")
	b.press("x")
	b.wantNot("error:")
}

func TestTransitions(t *testing.T) {
	b := newBench(t, 100, 30, nil)
	b.sampleAt(0, 0, nil)
	b.press("e")
	b.ran()
	b.press("enter", "enter")
	rates := figuresOf()
	rates.Watched = 10
	rates.History = []Transition{
		{Wall: begin, From: goruntime.Waiting, To: goruntime.Runnable, Via: event.ViaReady, P: event.NoP, For: 90e9, AtLeast: true, Waker: 50},
		{Wall: begin.Add(12e3), From: goruntime.Runnable, To: goruntime.Running, Via: event.ViaSchedule, P: 3, For: 12e3},
		{Wall: begin.Add(90e3), From: goruntime.Running, To: goruntime.Waiting, Via: event.ViaPark, P: 3, For: 78e3, Reason: "chan receive"},
	}
	b.sampleAt(1, 0, rates)
	b.want("its last transitions, by ebpf",
		"  12:00:00.000090  running  for 78.0us  -> waiting  P3 (chan receive) park\n  12:00:00.000012  runnable for 12.0us  -> running  P3 schedule\n  12:00:00.000000  waiting  for >1m30s  -> runnable ready by goroutine 50")
}

func TestEnds(t *testing.T) {
	b := newBench(t, 80, 24, nil)
	b.sampleAt(0, -1, nil)
	b.press("e")
	b.ran()
	b.send(sampleMsg{err: errors.New("the list of goroutines keeps moving")})
	b.want("error: the list of goroutines keeps moving", "33 goroutines")
	b.send(sampleMsg{err: &EndedError{Why: "the process has exited"}})
	b.ran() // detaches
	b.want("ENDED 12:00:00", "the process has exited; this is what was seen last; q quits", "33 goroutines", "shop/pool.New")
	b.press("enter", "p", "e", "w")
	b.want("30 goroutines of", "ENDED")
	if b.m.takeSample() != nil {
		t.Error("another sample is taken of a process that has ended")
	}
	if got := strings.Join(b.desk.asked, " "); got != "start stop" {
		t.Errorf("asked for %q", got)
	}
	for _, quit := range []string{"q", "ctrl+c"} {
		b.press(quit)
		if _, ok := b.cmd().(tea.QuitMsg); !ok {
			t.Errorf("%s does not quit", quit)
		}
	}
}

// TestResize draws the same on screens of all sizes: bench.check holds each frame.
func TestResize(t *testing.T) {
	b := newBench(t, 80, 24, nil)
	for second := range 9 {
		b.sampleAt(second, 0, figuresOf())
	}
	b.m.engine = engineOn
	for _, keys := range []string{"", "g", "g", "g", "g", "g", "gg", "?"} {
		b.press(keys)
		for _, open := range []bool{false, true} {
			if open {
				b.press("enter")
			}
			for width := 1; width < 150; width += 7 {
				for height := 1; height < 50; height += 3 {
					b.send(tea.WindowSizeMsg{Width: width, Height: height})
				}
			}
		}
	}
}

// TestChoiceStays wants the chosen row to stay chosen when others pass it.
func TestChoiceStays(t *testing.T) {
	b := newBench(t, 100, 24, nil)
	b.sampleAt(0, -1, nil)
	b.press("ggggg", "<", "<", "<") // by goid
	b.want("▲GOID", ">         1")
	b.press("down", "down")
	b.want(">        11")
	b.press("r")
	b.want("▼GOID", ">        11")
	b.press("r", "home")
	b.sampleAt(1, -1, nil)
	b.want(">         1")
}
