package tui

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/recording"
	"gopherscope/internal/testenv"
)

// reel is a Host of a recording, which a Replay reads.
type reel struct {
	desk
	replay *Replay
	fails  error
}

func (r *reel) Sample(w Want) (*Sample, error) {
	r.asked = append(r.asked, fmt.Sprintf("%.1f watch %d", float64(w.At-lifeBegin)/1e9, w.Watch))
	if r.fails != nil {
		return nil, r.fails
	}
	return r.replay.Sample(w)
}

// newTapeBench is a Model of a recording.
func newTapeBench(t *testing.T, file []byte, width, height int, opts Options) (*bench, *reel) {
	t.Helper()
	if opts.Interval == 0 {
		opts.Interval = time.Second
	}
	host := &reel{replay: openReplay(t, file, opts.Interval, 500)}
	rec := host.replay.Recorded()
	opts.Recorded = &rec
	info := host.replay.reader.Info()
	b := &bench{t: t, desk: &host.desk}
	b.m = New(host, Process{PID: info.PID, File: "run" + hostile + ".gscope", Command: strings.Join(info.Command, " ") + hostile, GoVersion: info.GoVersion, Procs: info.Procs}, &opts)
	b.send(tea.WindowSizeMsg{Width: width, Height: height})
	b.cmd = b.m.Init()
	b.ran()
	return b, host
}

// shop records a made-up program of 12.3 seconds: one that takes turns, one that a wake-up
// reaches each second, one that is born at 4 s and ends at 8 s, three that wait all the time.
func shop(t testing.TB, stacks bool) []byte {
	t.Helper()
	l := newLife(1)
	l.info.Stacks = stacks
	l.info.Wall = 1_772_366_400e9 // 2026-03-01 12:00:00
	var out strings.Builder
	w, err := recording.NewWriter(&out, l, nil)
	if err != nil {
		t.Fatal(err)
	}
	put := func(e event.Event) {
		e.PID = 7
		if err := w.Event(&e); err != nil {
			t.Fatal(err)
		}
	}
	site := func(name string, line int) event.Location {
		return event.Location{Func: name, File: "/src/shop/pool.go", Line: line}
	}
	at := func(ms int) int64 { return lifeBegin + int64(ms)*1e6 }
	for id := uint64(2); id <= 6; id++ {
		put(event.Event{Kind: event.Snapshot, Time: at(1), GoID: id, To: goruntime.Waiting, Reason: "chan receive", Since: at(-2000),
			Birth: &event.Birth{Parent: 1, CreatedBy: site("shop/pool.New", 20), Start: site("shop/pool.(*Pool).work", 30)}})
	}
	for ms := 10; ms <= 12300; ms += 10 {
		switch {
		case ms%1000 == 500:
			put(event.Event{Time: at(ms), GoID: 2, From: goruntime.Waiting, To: goruntime.Runnable, Via: event.ViaReady, Waker: 1})
			put(event.Event{Time: at(ms) + 3e6, TID: 11, GoID: 2, From: goruntime.Runnable, To: goruntime.Running, Via: event.ViaSchedule})
			put(event.Event{Time: at(ms) + 4e6, TID: 11, GoID: 2, From: goruntime.Running, To: goruntime.Waiting, Via: event.ViaPark, Reason: "select", Stack: 2})
		case ms == 4000:
			put(event.Event{Time: at(ms), GoID: 9, From: goruntime.Dead, To: goruntime.Runnable, Via: event.ViaCreate,
				Birth: &event.Birth{Parent: 2, CreatedBy: site("main."+hostile, 5), Start: site("main.brief", 6)}})
			put(event.Event{Time: at(ms) + 2e6, TID: 12, GoID: 9, From: goruntime.Runnable, To: goruntime.Running, Via: event.ViaSchedule})
			put(event.Event{Time: at(ms) + 3e6, TID: 12, GoID: 9, From: goruntime.Running, To: goruntime.Syscall, Via: event.ViaSyscall, Stack: 3})
		case ms == 8000:
			put(event.Event{Time: at(ms), TID: 12, GoID: 9, From: goruntime.Syscall, To: goruntime.Running, Via: event.ViaSyscall})
			put(event.Event{Time: at(ms) + 1e6, TID: 12, GoID: 9, From: goruntime.Running, To: goruntime.Dead, Via: event.ViaExit})
		}
		if ms%50 == 0 {
			l.now = at(ms) + 9e6
			l.totals.TargetCPU += 6 * time.Millisecond
			l.totals.Cost.Total += 100 * time.Microsecond
			l.totals.Lost.RingFull = uint64(ms / 6000)
			if err := w.Tick(l.now); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return []byte(out.String())
}

// TestTapeKeys types each key that a recording has.
func TestTapeKeys(t *testing.T) {
	b, host := newTapeBench(t, shop(t, true), 110, 24, Options{})
	at := func(want string) {
		t.Helper()
		if b.m.tapeStale() {
			b.ran()
		}
		b.want(want)
	}
	at("1.0 s of 12.3 s, 12:00:01  paused")
	b.want(`gopherscope top run`, `5 goroutines by creation site in 1 row`, "shop/pool.New pool.go:20", "waiting        5", "process 11.9% CPU  lost 0  ebpf cost it 0.2%  3 transitions/s", "3.01ms")
	b.press("right")
	at("2.0 s of 12.3 s")
	b.press("t")
	b.ran()
	b.press("right")
	b.ran()
	at("4.0 s of 12.3 s")
	b.wantNot("9 in row")
	b.press("right")
	at("5.0 s of 12.3 s, 12:00:05")
	b.want("6 goroutines by creation site in 2 rows", `d\a\u202etxt\n\u009b31m pool.go:5`, "syscall        1")
	five := b.plain()
	b.press("left")
	at("4.0 s")
	b.press("T")
	at("3.0 s")
	b.want("waiting        5")
	b.press("end")
	at("12.3 s of 12.3 s")
	b.want("lost 2")
	b.press("left")
	at("12.0 s of")
	b.press("home")
	at("1.0 s of")
	b.press("left") // there is nothing before
	b.want("1.0 s of")
	for range 4 {
		b.press("right")
		b.ran()
	}
	at("5.0 s of")
	if b.plain() != five {
		t.Errorf("the screen of 5.0 s is another one after a walk:\n%s\nit was:\n%s", b.plain(), five)
	}
	b.press("e")
	b.want("a recording has every change of state")
	if b.cmd != nil || strings.Contains(strings.Join(host.asked, " "), "start") {
		t.Error("an engine was asked for")
	}
	b.press("ggg") // reason, function, state
	b.want("by state")
	b.press("g") // no labels
	b.want("GOID", "STATE")
	b.press("g")
	b.want("by creation site")
	b.press("?")
	b.want("one interval forward, back")
	b.press("?")
	b.press("w")
	b.ran()
	if got := host.asked[len(host.asked)-1]; !strings.HasPrefix(got, "save 12:00:05\ngopherscope top run") || !strings.Contains(got, "5.0 s of 12.3 s, 12:00:05  paused") {
		t.Errorf("written: %q", got)
	}
}

// TestTapePlays lets a recording play.
func TestTapePlays(t *testing.T) {
	b, host := newTapeBench(t, shop(t, true), 110, 24, Options{})
	ticks := func(n int, want string) {
		t.Helper()
		for range n {
			b.send(playMsg(b.m.timer)) // the timer's
			b.ran()
		}
		b.want(want)
	}
	b.press("space")
	b.ran()
	b.want("2.0 s of 12.3 s, 12:00:02  PLAYING 1x")
	ticks(2, "4.0 s of")
	b.send(playMsg(b.m.timer - 1))
	if b.cmd != nil {
		t.Error("an old timer played on")
	}
	b.press("+", "+", "+", "+") // 16 s a second: 1.6 s in 100 ms
	ticks(1, "6.0 s of 12.3 s, 12:00:06  PLAYING 16x")
	b.press("p")
	b.want("paused 16x")
	b.send(playMsg(b.m.timer))
	if b.cmd != nil {
		t.Error("plays while it is paused")
	}
	for range 20 {
		b.press("-")
	}
	b.want("paused 0.25x")
	b.press("space")
	b.ran()
	ticks(6, "12.3 s of 12.3 s")
	b.want("paused", "the end of the recording")
	if b.cmd != nil {
		t.Error("plays on after the end")
	}
	b.press("space") // from the begin
	b.ran()
	b.want("1.0 s of 12.3 s")

	// A key that goes elsewhere while a Sample is being taken, and an error.
	b.press("space", "right")
	first := b.cmd
	b.press("end")
	if b.cmd != nil {
		t.Error("two Samples at a time")
	}
	b.want("reading up to 12.3 s")
	b.send(first())
	b.ran()
	b.want("12.3 s of 12.3 s")
	host.fails = errors.New("read run.gscope: input/output error\x1b[2J")
	b.press("home")
	b.ran()
	b.want("error: read run.gscope: input/output error", "12.3 s of 12.3 s")
	host.fails = nil
	b.press("home")
	b.ran()
	b.want("1.0 s of 12.3 s")
}

// TestTapeGoroutine looks at single goroutines at several times.
func TestTapeGoroutine(t *testing.T) {
	b, host := newTapeBench(t, shop(t, true), 110, 40, Options{From: lifeBegin + 5e9})
	b.want("5.0 s of 12.3 s")
	b.press("/txt", "enter", "enter", "enter")
	b.want("goroutine 9", "reading its transitions")
	b.ran()
	if got := host.asked[len(host.asked)-1]; got != "5.0 watch 9" {
		t.Errorf("asked for %q", got)
	}
	b.want("syscall for about 997ms, thread 12", "created by main.evil", "in goroutine 2", "main.f3 main.go:3", "its last transitions, by ebpf",
		"running  for 1.00ms  -> syscall", "dead     for -       -> runnable")
	b.press("left")
	b.ran()
	b.want("it is not there at this time; this was seen at 12:00:05", "none up to here")
	b.press("end")
	b.ran()
	b.want("-> dead")
	b.press("left", "esc", "esc", "esc")
	b.send(sampleMsg{err: errors.New("late")})

	b, _ = newTapeBench(t, shop(t, false), 110, 40, Options{From: lifeBegin + 5e9})
	b.press("gg")
	b.want("[recorded without --stacks]")
}

// TestTapeFrames is what a recording looks like.
func TestTapeFrames(t *testing.T) {
	for _, size := range []struct{ width, height int }{{80, 24}, {120, 40}, {60, 15}} {
		b, _ := newTapeBench(t, shop(t, true), size.width, size.height, Options{})
		frame := func(name string) {
			t.Helper()
			var out strings.Builder
			for line := range strings.Lines(b.plain()) {
				out.WriteString(strings.TrimRight(line, " \n") + "\n")
			}
			testenv.Golden(t, filepath.Join("testdata", fmt.Sprintf("tape-%s-%dx%d.golden", name, size.width, size.height)), []byte(out.String()))
		}
		for range 5 {
			b.press("right")
			b.ran()
		}
		frame("paused")
		b.press("+", "space")
		b.ran()
		frame("playing")
		b.press("?")
		frame("help")
		b.press("?", "space", "down", "enter", "enter")
		b.ran()
		frame("one")
	}
}
