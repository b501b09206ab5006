package profile

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gopherscope/internal/event"
	"gopherscope/internal/stream"
)

// labels is an event with labels k=value; none without a value.
func labels(at int64, value string) event.Event {
	set := &event.LabelSet{}
	if value != "" {
		set.Labels = []event.Label{{Key: "k", Value: value}}
	}
	return event.Event{Kind: event.Labels, Time: at, PID: 1, GoID: 7, Labels: set}
}

// ofProcess has the events of process 1 and goroutine 7.
func ofProcess(events ...event.Event) []event.Event {
	for i := range events {
		events[i].PID, events[i].GoID = 1, 7
	}
	return events
}

// TestLabels gives each wait the labels that came within it, and the time runnable those of the wait before.
func TestLabels(t *testing.T) {
	events := ofProcess(
		change(1000, run, wait, stack(2), reason("sleep")),
		labels(1100, "a"),
		change(1200, wait, ready),
		change(1230, ready, run),
		labels(1235, "never"), // while it runs
		change(1240, run, wait, stack(2), reason("sleep")),
		change(1250, wait, ready), // too short to be read
		change(1260, ready, run),
		change(1270, run, ready), // it gives up its P
		change(1280, ready, run),
		change(1300, run, call, stack(4)),
		labels(1350, "b"),
		change(1400, call, run),
		change(1410, run, wait, stack(2), reason("sleep")),
		labels(1420, "a"),
		change(1500, wait, wait, stack(2), reason("sleep")), // the same wait
		change(1510, wait, ready),
		change(1520, ready, run),
		change(1530, run, wait, stack(2), reason("sleep")),
		labels(1540, ""),
	)
	p := finished(Wall, 1, 1600, events)
	got := map[string]int64{}
	for _, s := range p.Samples {
		key := s.State
		for _, l := range s.Labels {
			key += " " + l.Key + "=" + l.Value
		}
		got[key] += int64(s.Delay)
	}
	want := map[string]int64{
		"waiting k=a": 200 + 100, "runnable k=a": 30 + 10, "syscall k=b": 100,
		"waiting": 10 + 70, "runnable": 20, "running": 10 + 10 + 20 + 10 + 10,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("time (-want +got):\n%s", diff)
	}
	if w := (Labelled{Known: 300 + 40 + 100 + 70, Of: 300 + 40 + 100 + 80 + 20}); p.Labels != w || p.LabelsFull {
		t.Errorf("known of %+v, want %+v", p.Labels, w)
	}
	if p := finished(Exec, 1, 1600, events); p.Labels.Of != 0 {
		t.Errorf("labels of time running: %+v", p.Labels)
	}
	for kind, known := range map[Kind]int64{Block: 370, Sched: 40, Syscall: 100} {
		if p := finished(kind, 1, 1600, events); int64(p.Labels.Known) != known {
			t.Errorf("%v: labels known for %d, want %d", kind, p.Labels.Known, known)
		}
	}
}

// TestLabelsOfMissed gives up the labels with the time, when a change was missed.
func TestLabelsOfMissed(t *testing.T) {
	p := finished(Block, 1, 1600, ofProcess(
		change(1000, run, wait, stack(2), reason("sleep")),
		change(1010, run, wait, stack(2), reason("sleep")), // what was between is missing
		labels(1100, "a"),
		change(1200, run, wait, stack(2), reason("sleep")),
		change(1300, wait, ready),
	))
	for _, s := range p.Samples {
		if len(s.Labels) > 0 {
			t.Errorf("%d with %v", s.Delay, s.Labels)
		}
	}
	if p.Missed != 2 {
		t.Errorf("%d missed", p.Missed)
	}
}

// TestLabelsBounded keeps so many sets, however many there are, and says so.
func TestLabelsBounded(t *testing.T) {
	c := New(Block, &stream.Info{PID: 1, Begin: begin})
	for i := range int64(maxLabelSets + 100) {
		for _, e := range ofProcess(
			change(1000+10*i, run, wait, stack(2), reason("sleep")), labels(1005+10*i, fmt.Sprint(i)),
			change(1007+10*i, wait, ready), change(1008+10*i, ready, run),
		) {
			c.Event(&e)
		}
	}
	p := c.Finish(begin+10*(maxLabelSets+100), stacks, func(int64) int64 { return 0 })
	if len(p.Samples) != maxLabelSets+1 || !p.LabelsFull || p.Labels.Known != 7*maxLabelSets || p.Labels.Of != 7*(maxLabelSets+100) {
		t.Errorf("%d samples, full %v, %+v", len(p.Samples), p.LabelsFull, p.Labels)
	}
	if about := strings.Join(p.About(), "\n"); !strings.Contains(about, "more than 65536 sets of pprof labels") {
		t.Errorf("it says %q", about)
	}
}
