package cut_test

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gopherscope/internal/cut"
	"gopherscope/internal/engine"
	"gopherscope/internal/event"
	"gopherscope/internal/gstate"
	"gopherscope/internal/stream"
)

// source is a trace in text, with a line "tick N" where all events before N have come.
type source struct {
	lines string
	now   int64
}

func (s *source) Info() *stream.Info { return &stream.Info{Begin: 10, Wall: 1010, PID: 1} }

func (s *source) Run(_ context.Context, emit func(*event.Event) error, tick func(int64) error) error {
	for line := range strings.Lines(s.lines) {
		line = strings.TrimSpace(line)
		if n, ok := strings.CutPrefix(line, "tick "); ok {
			s.now = 0
			for _, c := range n {
				s.now = s.now*10 + int64(c-'0')
			}
			if err := tick(s.now); err != nil {
				return err
			}
			continue
		}
		e, err := event.ParseText(line)
		if err != nil {
			return err
		}
		if err := emit(e); err != nil {
			return err
		}
	}
	return nil
}

func (s *source) Stack(uint32) []event.Location { return nil }
func (s *source) Wall(mono int64) int64         { return mono + 1000 }
func (s *source) Close() error                  { return nil }
func (s *source) Totals() (stream.Totals, error) {
	return stream.Totals{Now: s.now, Lost: engine.Lost{NoRing: uint64(s.now)}, Gaps: 9, Paused: 99}, nil
}

// blocks is a source that tells what was lost at the end of each ten ns, as a recording does of a second.
type blocks struct{ source }

func (b *blocks) Totals() (stream.Totals, error) { return b.at(b.now/10*10 + 10), nil }

func (b *blocks) TotalsBefore() (stream.Totals, error) { return b.at(b.now / 10 * 10), nil }

func (b *blocks) at(now int64) stream.Totals {
	return stream.Totals{Now: b.now, Lost: engine.Lost{NoRing: uint64(now)}}
}

const whole = `snapshot mono_ns=10 pid=1 goid=1 to=waiting reason=sleep since_ns=4
snapshot mono_ns=10 pid=1 goid=2 to=running parent=1 created_by=main.serve,m.go,1 start=main.work,m.go,2
transition mono_ns=20 pid=1 tid=2 goid=2 from=running to=waiting via=park reason="chan receive" stack=5
transition mono_ns=21 pid=1 tid=2 goid=4 from=dead to=runnable via=create parent=1 created_by=main.main,m.go,1 start=main.other,m.go,2
transition mono_ns=25 pid=1 tid=2 goid=5 from=dead to=runnable via=create parent=1 created_by=main.serve,m.go,1 start=main.work,m.go,2
tick 28
transition mono_ns=32 pid=1 tid=2 goid=2 from=waiting to=runnable via=ready waker=4
transition mono_ns=29 pid=1 tid=3 goid=4 from=runnable to=running via=schedule
tick 30
transition mono_ns=40 pid=1 tid=2 goid=2 from=runnable to=running via=schedule
transition mono_ns=44 pid=1 tid=2 goid=5 from=runnable to=running via=schedule
transition mono_ns=45 pid=1 tid=2 goid=5 from=running to=dead via=exit
tick 46
transition mono_ns=50 pid=1 tid=2 goid=2 from=running to=dead via=exit
exit mono_ns=52 pid=1
tick 60
`

// run is a part of a trace, in text, with its end.
func run(t *testing.T, part cut.Part) (text string, src *cut.Source, err error) {
	t.Helper()
	src = cut.New(&source{lines: whole}, part)
	var b []byte
	states := gstate.NewTracker()
	err = src.Run(context.Background(), func(e *event.Event) error {
		if c := states.Apply(e); c.Violation {
			t.Errorf("a violation at %d", e.Time)
		}
		b = append(event.AppendText(b, e), '\n')
		return nil
	}, func(now int64) error {
		if now < part.From || part.To > 0 && now > part.To {
			t.Errorf("a tick at %d", now)
		}
		return nil
	})
	return string(b), src, err
}

func TestPart(t *testing.T) {
	lines := strings.Split(whole, "\n")
	pick := func(prefix string, keep ...int) string {
		var b strings.Builder
		b.WriteString(prefix)
		for _, i := range keep {
			b.WriteString(lines[i] + "\n")
		}
		return b.String()
	}
	const there = `snapshot mono_ns=30 pid=1 goid=1 to=waiting reason=sleep since_ns=4
snapshot mono_ns=30 pid=1 goid=2 to=waiting reason="chan receive" stack=5 since_ns=20 parent=1 created_by=main.serve,m.go,1 start=main.work,m.go,2
snapshot mono_ns=30 pid=1 goid=4 to=running parent=1 created_by=main.main,m.go,1 start=main.other,m.go,2
snapshot mono_ns=30 pid=1 goid=5 to=runnable parent=1 created_by=main.serve,m.go,1 start=main.work,m.go,2
`
	serve := regexp.MustCompile("serve").MatchString
	thereLines := strings.SplitAfter(there, "\n")
	for name, tt := range map[string]struct {
		part cut.Part
		want string
		lost uint64
	}{
		"all":                   {cut.Part{}, pick("", 0, 1, 2, 3, 4, 6, 7, 9, 10, 11, 13, 14), 60},
		"from":                  {cut.Part{From: 30}, pick(there, 6, 9, 10, 11, 13, 14), 32},
		"from before the begin": {cut.Part{From: 5}, pick("", 0, 1, 2, 3, 4, 6, 7, 9, 10, 11, 13, 14), 60},
		"from, to":              {cut.Part{From: 30, To: 45}, pick(there, 6, 9, 10), 18},
		"to":                    {cut.Part{To: 29}, pick("", 0, 1, 2, 3, 4), 30},
		"goid":                  {cut.Part{GoIDs: []uint64{4}}, pick("", 3, 7, 14), 60},
		"goid, from":            {cut.Part{GoIDs: []uint64{4}, From: 30}, pick(thereLines[2], 14), 32},
		"created by":            {cut.Part{CreatedBy: serve}, pick("", 1, 2, 4, 6, 9, 10, 11, 13, 14), 60},
		"created by, from":      {cut.Part{CreatedBy: serve, From: 30}, pick(thereLines[1]+thereLines[3], 6, 9, 10, 11, 13, 14), 32},
	} {
		got, src, err := run(t, tt.part)
		if diff := cmp.Diff(parse(t, tt.want), parse(t, got)); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
		begin := max(10, tt.part.From)
		if i := src.Info(); i.Begin != begin || i.Wall != begin+1000 {
			t.Errorf("%s: begins at %d, %d", name, i.Begin, i.Wall)
		}
		totals, err := src.Totals()
		if err != nil || totals.Lost.NoRing != tt.lost || totals.Gaps != 0 || totals.Paused != 0 || tt.part.To > 0 && totals.Now != tt.part.To {
			t.Errorf("%s: %+v, %v", name, totals, err)
		}
	}
}

// TestLabelsOfPart begins in the middle of waits: labels that are known of one that goes on are there,
// those of one that is over are not, and those of another goroutine are not in its part.
func TestLabelsOfPart(t *testing.T) {
	src := &source{lines: `snapshot mono_ns=10 pid=1 goid=1 to=waiting reason=sleep
labels mono_ns=10 pid=1 goid=1 labels=1,k,one
snapshot mono_ns=10 pid=1 goid=2 to=waiting reason=sleep
labels mono_ns=11 pid=1 goid=2 labels=1,k,two
tick 20
transition mono_ns=22 pid=1 tid=2 goid=2 from=waiting to=runnable via=timer
tick 30
labels mono_ns=31 pid=1 goid=1 labels=1,k,late
tick 40
`}
	for name, tt := range map[string]struct {
		part cut.Part
		want string
	}{
		"from": {cut.Part{From: 25}, `snapshot mono_ns=25 pid=1 goid=1 to=waiting reason=sleep since_ns=10
labels mono_ns=25 pid=1 goid=1 labels=1,k,one
snapshot mono_ns=25 pid=1 goid=2 to=runnable
labels mono_ns=31 pid=1 goid=1 labels=1,k,late
`},
		"goid": {cut.Part{GoIDs: []uint64{2}}, `snapshot mono_ns=10 pid=1 goid=2 to=waiting reason=sleep
labels mono_ns=11 pid=1 goid=2 labels=1,k,two
transition mono_ns=22 pid=1 tid=2 goid=2 from=waiting to=runnable via=timer
`},
	} {
		var b []byte
		err := cut.New(src, tt.part).Run(context.Background(), func(e *event.Event) error {
			b = append(event.AppendText(b, e), '\n')
			return nil
		}, func(int64) error { return nil })
		if diff := cmp.Diff(parse(t, tt.want), parse(t, string(b))); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
}

// TestTotalsOfBlocks: what is told at the end of a block only is never told too low of a part.
func TestTotalsOfBlocks(t *testing.T) {
	for part, want := range map[[2]int64]uint64{{}: 70, {30, 0}: 50, {30, 45}: 30, {0, 29}: 40} {
		src := cut.New(&blocks{source{lines: whole}}, cut.Part{From: part[0], To: part[1]})
		if err := src.Run(context.Background(), func(*event.Event) error { return nil }, func(int64) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if got, err := src.Totals(); err != nil || got.Lost.NoRing != want {
			t.Errorf("%v: %d lost, %v; want %d", part, got.Lost.NoRing, err, want)
		}
	}
}

// TestPauses takes parts out of a trace with pauses, whose Gaps come at their ends. In one that begins in a pause
// no state is known, and one that ends in a pause is told of it.
func TestPauses(t *testing.T) {
	const paused = `snapshot mono_ns=10 pid=1 goid=1 to=waiting reason=sleep
tick 20
tick 30
gap mono_ns=40 pid=1 since_ns=15
snapshot mono_ns=41 pid=1 goid=1 to=syscall stack=3
labels mono_ns=41 pid=1 goid=1 labels=1,k,v
tick 45
transition mono_ns=46 pid=1 tid=2 goid=2 from=waiting to=runnable via=timer
tick 50
tick 60
gap mono_ns=70 pid=1 since_ns=51
tick 71
`
	const read = `snapshot mono_ns=41 pid=1 goid=1 to=syscall stack=3
labels mono_ns=41 pid=1 goid=1 labels=1,k,v
`
	const change = "transition mono_ns=46 pid=1 tid=2 goid=2 from=waiting to=runnable via=timer\n"
	for name, tt := range map[string]struct {
		part  cut.Part
		want  string
		gaps  uint64
		pause time.Duration
		last  int64 // tick
	}{
		"begins in a pause":       {cut.Part{From: 25}, "gap mono_ns=40 pid=1 since_ns=25\n" + read + change + "gap mono_ns=70 pid=1 since_ns=51\n", 2, 34, 71},
		"ends in a pause":         {cut.Part{From: 43, To: 55}, strings.ReplaceAll(read, "=41", "=43") + change + "gap mono_ns=55 pid=1 since_ns=51\n", 1, 4, 55},
		"is in a pause":           {cut.Part{From: 20, To: 30}, "gap mono_ns=30 pid=1 since_ns=20\n", 1, 10, 30},
		"is between pauses":       {cut.Part{From: 43, To: 48}, strings.ReplaceAll(read, "=41", "=43") + change, 0, 0, 48},
		"ends before the pause":   {cut.Part{To: 12}, "snapshot mono_ns=10 pid=1 goid=1 to=waiting reason=sleep\n", 0, 0, 12},
		"begins after the events": {cut.Part{From: 71}, "", 0, 0, 71},
	} {
		var b []byte
		last := int64(0)
		src := cut.New(&source{lines: paused}, tt.part)
		err := src.Run(context.Background(), func(e *event.Event) error {
			b = append(event.AppendText(b, e), '\n')
			return nil
		}, func(now int64) error { last = now; return nil })
		if diff := cmp.Diff(parse(t, tt.want), parse(t, string(b))); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
		if totals, _ := src.Totals(); totals.Gaps != tt.gaps || totals.Paused != tt.pause || last != tt.last {
			t.Errorf("%s: %d gaps, %d ns, last tick %d; want %d, %d, %d", name, totals.Gaps, totals.Paused, last, tt.gaps, tt.pause, tt.last)
		}
	}
}

// TestPatience: a process that is at rest after the end of the part does not make it wait for ever.
func TestPatience(t *testing.T) {
	for _, part := range []cut.Part{{To: 30}, {From: 20, To: 30}} {
		src := cut.New(&source{lines: "snapshot mono_ns=10 pid=1 goid=1 to=waiting reason=sleep\ntick 25\ntick 40\ntick 7000000000\ntick 8000000000\n"}, part)
		last, n := int64(0), 0
		err := src.Run(context.Background(), func(*event.Event) error { n++; return nil }, func(now int64) error { last = now; return nil })
		if totals, _ := src.Totals(); err != nil || last != 30 || n != 1 || totals.Now != 30 {
			t.Errorf("%v: last tick %d, %d events, %v", part, last, n, err)
		}
	}
}

// parse reads events, so that they are compared and not their text.
func parse(t *testing.T, text string) []*event.Event {
	t.Helper()
	var events []*event.Event
	for line := range bytes.Lines([]byte(text)) {
		e, err := event.ParseText(strings.TrimSpace(string(line)))
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

func TestNothing(t *testing.T) {
	if text, _, err := run(t, cut.Part{From: 61}); !errors.Is(err, cut.ErrNothing) || text != "" {
		t.Errorf("%q, %v", text, err)
	}
}

// TestErrors wants the errors of the view to end the trace as they are.
func TestErrors(t *testing.T) {
	full := errors.New("full")
	for _, part := range []cut.Part{{}, {From: 30}} {
		src := cut.New(&source{lines: whole}, part)
		fail := func(*event.Event) error { return full }
		if err := src.Run(context.Background(), fail, func(int64) error { return nil }); err != full {
			t.Errorf("emit: %v", err)
		}
		src = cut.New(&source{lines: whole}, part)
		none := func(*event.Event) error { return nil }
		if err := src.Run(context.Background(), none, func(int64) error { return full }); err != full {
			t.Errorf("tick: %v", err)
		}
	}
}
