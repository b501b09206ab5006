package recording

import (
	"bytes"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
)

func labelsOf(at int64, goid uint64, pairs ...string) *event.Event {
	s := &event.LabelSet{}
	for i := 0; i < len(pairs); i += 2 {
		s.Labels = append(s.Labels, event.Label{Key: pairs[i], Value: pairs[i+1]})
	}
	return &event.Event{Kind: event.Labels, Time: at, PID: 77, GoID: goid, Labels: s}
}

// labelled is a trace with labels in every place where they can be.
func labelled() *trace {
	tr := random(3, 0)
	tr.steps = nil
	offset := tr.info.Wall - tr.info.Begin
	add := func(e *event.Event, now int64) { tr.steps = append(tr.steps, step{event: e, now: now, offset: offset}) }
	park := func(at int64) *event.Event {
		return &event.Event{Time: at, PID: 77, GoID: 5, From: goruntime.Running, To: goruntime.Waiting, Reason: "sleep"}
	}
	add(labelsOf(begin, 4, "a", "b"), 0) // before any event
	add(nil, begin+1)
	add(labelsOf(begin+2, 4), 0) // between two ticks
	add(labelsOf(begin+2, 1<<63, "a", "b", "a", "c"), 0)
	add(nil, begin+3)
	add(park(begin+4), 0)
	add(labelsOf(begin+5, 5, "path", "\x1b[2J"), 0)
	add(park(begin+6), 0)
	add(nil, begin+7)
	add(labelsOf(begin+9, 5, "path", "\x1b[2J"), 0) // in the next block, without an event
	add(nil, begin+9+blockTime)
	add(labelsOf(begin+10+blockTime, 6, "k", ""), 0) // the last
	return tr
}

func TestLabels(t *testing.T) {
	want := labelled()
	r := open(t, want.record(t, nil))
	got, err := play(t, r)
	if err != nil || !r.Complete() || r.Events() != 2 {
		t.Fatalf("%v, complete %v, %d events", err, r.Complete(), r.Events())
	}
	same(t, got.steps, want.steps)
}

// TestLabelsAreSkipped reads a recording without the sections that format 1.2 added, as a
// reader of 1.1 does: all else is there.
func TestLabelsAreSkipped(t *testing.T) {
	tr := random(8, 5000)
	file := tr.record(t, nil)
	offsets, headers := blocks(t, file)
	old := bytes.Clone(file[:headerLen])
	w := Writer{dst: io.Discard, zstd: newCompressor(t)}
	dropped := 0
	for i, h := range headers {
		payload, err := newDecompressor(t).DecodeAll(file[offsets[i]+blockHeaderLen:offsets[i+1]], nil)
		if err != nil {
			t.Fatal(err)
		}
		w.payload, w.buf = nil, w.buf[:0]
		if err := sections(payload, func(kind uint64, content []byte) {
			if h.kind == blockEvents && (kind == secLabels || kind == colLabels) {
				dropped++
				return
			}
			w.payload = appendSection(w.payload, kind, content)
		}); err != nil {
			t.Fatal(err)
		}
		if err := w.block(h); err != nil {
			t.Fatal(err)
		}
		old = append(old, w.buf...)
	}
	got, err := play(t, open(t, old))
	if err != nil || dropped == 0 {
		t.Fatalf("%v, %d sections dropped", err, dropped)
	}
	var want []step
	for _, s := range tr.steps {
		if s.event == nil || s.event.Kind != event.Labels {
			want = append(want, s)
		}
	}
	same(t, got.steps, want)
}

// TestLabelsHostile wants a malformed block, not a crash and not a wrong event, for
// each way in which the sections can contradict themselves or the others.
func TestLabelsHostile(t *testing.T) {
	for name, edit := range map[string]func(e *encoder){
		"no such set":        func(e *encoder) { clear(e.sections[secLabels]) },
		"no such text":       func(e *encoder) { e.sections[secLabels] = []byte{1, 100, 0} },
		"more than there is": func(e *encoder) { e.sections[secLabels] = []byte{100, 0, 0} },
		"after the last":     func(e *encoder) { e.sections[colLabels] = []byte{50, 0, 0, 0, 0, 0} },
		"ticks that are not": func(e *encoder) { e.sections[colLabels] = []byte{0, 9, 0, 0, 0, 0} },
		"cut":                func(e *encoder) { e.sections[colLabels] = e.sections[colLabels][:3] },
		"set out of range":   func(e *encoder) { e.sections[colLabels] = []byte{0, 0, 0, 0, 0, 7} },
		"a shape of the kind": func(e *encoder) {
			e.event(&event.Event{Kind: event.Labels})
		},
	} {
		t.Run(name, func(t *testing.T) {
			tr := labelled()
			var file bytes.Buffer
			w, err := NewWriter(&file, tr, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Event(labelsOf(begin, 4, "a", "b")); err != nil {
				t.Fatal(err)
			}
			if name == "no such set" {
				w.enc.sections[secLabels] = nil
			} else {
				edit(w.enc)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if got, err := play(t, open(t, file.Bytes())); err == nil {
				t.Errorf("%d steps and no error", len(got.steps))
			}
		})
	}
}

// TestRosterLabels begins in the middle of waits: the labels of those that go on are there, of others not.
func TestRosterLabels(t *testing.T) {
	var r Roster
	change := func(at int64, goid uint64, from, to goruntime.Status) {
		r.Apply(&event.Event{Time: at, PID: 77, GoID: goid, From: from, To: to})
	}
	for goid := uint64(1); goid <= 3; goid++ {
		change(1, goid, goruntime.Running, goruntime.Waiting)
		if goid != 3 {
			r.Apply(labelsOf(2, goid, "a", "b"))
		}
	}
	change(3, 2, goruntime.Waiting, goruntime.Runnable)
	change(4, 2, goruntime.Runnable, goruntime.Running)
	change(5, 2, goruntime.Running, goruntime.Waiting)
	r.Apply(labelsOf(6, 99, "of", "nobody"))
	var got []string
	if err := r.Snapshots(10, func(e *event.Event) error {
		got = append(got, string(event.AppendText(nil, e)))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"snapshot mono_ns=10 pid=77 goid=1 to=waiting since_ns=1",
		"labels mono_ns=10 pid=77 goid=1 labels=1,a,b",
		"snapshot mono_ns=10 pid=77 goid=2 to=waiting since_ns=5",
		"snapshot mono_ns=10 pid=77 goid=3 to=waiting since_ns=1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
