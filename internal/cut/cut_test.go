package cut_test

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"

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
	return stream.Totals{Now: s.now, Lost: engine.Lost{NoRing: 1}}, nil
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
	}{
		"all":                   {cut.Part{}, pick("", 0, 1, 2, 3, 4, 6, 7, 9, 10, 11, 13, 14)},
		"from":                  {cut.Part{From: 30}, pick(there, 6, 9, 10, 11, 13, 14)},
		"from before the begin": {cut.Part{From: 5}, pick("", 0, 1, 2, 3, 4, 6, 7, 9, 10, 11, 13, 14)},
		"from, to":              {cut.Part{From: 30, To: 45}, pick(there, 6, 9, 10)},
		"to":                    {cut.Part{To: 29}, pick("", 0, 1, 2, 3, 4)},
		"goid":                  {cut.Part{GoIDs: []uint64{4}}, pick("", 3, 7, 14)},
		"goid, from":            {cut.Part{GoIDs: []uint64{4}, From: 30}, pick(thereLines[2], 14)},
		"created by":            {cut.Part{CreatedBy: serve}, pick("", 1, 2, 4, 6, 9, 10, 11, 13, 14)},
		"created by, from":      {cut.Part{CreatedBy: serve, From: 30}, pick(thereLines[1]+thereLines[3], 6, 9, 10, 11, 13, 14)},
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
		if err != nil || totals.Lost.NoRing != 1 || tt.part.To > 0 && totals.Now != tt.part.To {
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
