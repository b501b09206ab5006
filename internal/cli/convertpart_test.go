package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/pprof/profile"
	"golang.org/x/exp/trace"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/perfetto/perfettotest"
	"gopherscope/internal/testenv"
)

// command runs gopherscope and returns its standard output.
func command(t *testing.T, args ...string) []byte {
	t.Helper()
	var out, errs bytes.Buffer
	if code := Main(args, Stdio{In: strings.NewReader(""), Out: &out, Err: &errs}); code != exitOK {
		t.Fatalf("gopherscope %s: exit code %d\n%s", strings.Join(args, " "), code, &errs)
	}
	return out.Bytes()
}

func textEvents(t *testing.T, text []byte) []event.Event {
	t.Helper()
	var events []event.Event
	for line := range bytes.Lines(text) {
		e, err := event.ParseText(strings.TrimSuffix(string(line), "\n"))
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, *e)
	}
	return events
}

// partOf is what is left of a trace between two moments, worked out from all its events:
// for each goroutine that is there, its last event before.
func partOf(events []event.Event, from, to int64) []event.Event {
	last, births := map[uint64]event.Event{}, map[uint64]*event.Birth{}
	labels := map[uint64]event.Event{} // of those that have waited since they were read
	var there, part []event.Event
	for _, e := range events {
		if e.Birth != nil {
			births[e.GoID] = e.Birth
		}
		switch {
		case e.Kind == event.Exit:
		case e.Time < from && e.Kind == event.Labels:
			labels[e.GoID] = e
			continue
		case e.Time < from:
			last[e.GoID] = e
			delete(labels, e.GoID)
			continue
		}
		if e.Time >= from && e.Time < to {
			part = append(part, e)
		}
	}
	for id, e := range last {
		if e.To == goruntime.Dead || e.To == goruntime.DeadExtra {
			continue
		}
		s := event.Event{Kind: event.Snapshot, Time: from, PID: e.PID, GoID: id, To: e.To, Birth: births[id]}
		if e.To == goruntime.Waiting {
			s.Since = e.Time
		}
		if e.To == goruntime.Waiting || e.To == goruntime.Syscall {
			s.Reason, s.Fake, s.Stack = e.Reason, e.Fake, e.Stack
		}
		there = append(there, s)
		if l, ok := labels[id]; ok {
			l.Time = from
			there = append(there, l)
		}
	}
	slices.SortStableFunc(there, func(a, b event.Event) int { return cmp.Compare(a.GoID, b.GoID) })
	return append(there, part...)
}

// TestConvertPart records a program and takes the middle of its life, in every format.
func TestConvertPart(t *testing.T) {
	testenv.RequireRoot(t)
	testenv.RequireBPF(t)
	file := filepath.Join(t.TempDir(), "run.gscope")
	command(t, "record", "--stacks", "-o", file, "--", testenv.BuildTarget(t, "all", testenv.Build{}), "10")
	src, err := openRecording(&terminal{Stdio: Stdio{Err: io.Discard}}, file, engineOptions{name: engineAuto}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	events := textEvents(t, command(t, "convert", file, "--to", "text"))
	first, last := len(events)/3, len(events)*2/3
	for waits := 0; last < len(events)-1 && waits < 20; last++ { // whatever the machine had it do in the middle
		waits = 0
		for _, e := range events[first:last] {
			if e.From == goruntime.Waiting && e.To == goruntime.Runnable {
				waits++
			}
		}
	}
	from, to := events[first].Time, events[last].Time
	begin := src.Info().Begin
	part := []string{"--from", time.Duration(from - begin).String(), "--to-time", time.Duration(to - begin).String()}
	as := func(format string, more ...string) []byte {
		t.Helper()
		return command(t, slices.Concat([]string{"convert", file, "--to", format}, part, more)...)
	}

	got := as("text")
	want := partOf(events, from, to)
	if diff := gocmp.Diff(want, textEvents(t, got)); diff != "" || len(want) < 100 {
		t.Fatalf("%d events (-want +got):\n%.2000s", len(want), diff)
	}
	// The same by the time of day. The wall clock is read over the whole recording.
	if err := src.Run(context.Background(), func(*event.Event) error { return nil }, func(int64) error { return nil }); err != nil {
		t.Fatal(err)
	}
	clock := func(mono int64) string { return time.Unix(0, src.Wall(mono)).Format("15:04:05.000000000") }
	part = []string{"--from", clock(from), "--to-time", clock(to)}
	if n := len(textEvents(t, as("text"))); n < len(want)-20 || n > len(want)+20 {
		t.Errorf("%d events from %s to %s, want %d", n, clock(from), clock(to), len(want))
	}

	tr, err := perfettotest.Read(as("perfetto"))
	if err != nil {
		t.Error(err)
	}
	for _, s := range tr.Slices {
		if s.Args["violation"] == true {
			t.Errorf("%q on %q is a violation", s.Name, s.Track.Name)
		}
	}
	readGoTrace(t, as("gotrace"))
	for _, more := range [][]string{nil, {"--goid", "1"}, {"--created-by", "testprog"}} {
		if _, err := perfettotest.Read(as("perfetto", more...)); err != nil {
			t.Errorf("%v: %v", more, err)
		}
		readGoTrace(t, as("gotrace", more...))
		blocked := 0
		for _, e := range textEvents(t, as("text", more...)) {
			if e.From == goruntime.Waiting && e.To == goruntime.Runnable {
				blocked++ // a wait that ends in the part; in that of few goroutines there may be none
			}
			if slices.Contains(more, "--goid") && e.GoID != 1 {
				t.Errorf("goroutine %d", e.GoID)
			}
		}
		p, err := profile.ParseData(as("pprof", more...))
		if err != nil || blocked > 0 && len(p.Sample) == 0 || more == nil && blocked == 0 {
			t.Errorf("%v: %d waits; pprof: %v", more, blocked, err)
		}
		if json := as("json", more...); !bytes.Contains(json, []byte(`"violations":0`)) {
			t.Errorf("%v: the summary is %s", more, json[bytes.LastIndex(json, []byte(`{"type"`)):])
		}
	}
}

// readGoTrace wants a Go execution trace that can be read to its end.
func readGoTrace(t *testing.T, data []byte) {
	t.Helper()
	r, err := trace.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for {
		_, err := r.ReadEvent()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
