package recording

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"runtime"
	"testing"
	"time"

	"gopherscope/internal/event"
)

// fly keeps the steps of a trace from first up to end.
func fly(t *testing.T, f *Flight, tr *trace, first, end int) {
	t.Helper()
	for i := first; i < end; i++ {
		s := tr.steps[i]
		tr.offset = s.offset
		var err error
		if s.event != nil {
			err = f.Event(s.event)
		} else {
			err = f.Tick(s.now)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// landed reads a file of a Flight that was ended after the step before end. It must have all steps
// from some step on, which is returned, behind the goroutines that were there then.
func landed(t *testing.T, tr *trace, file []byte, end int) (first int, r *Reader) {
	t.Helper()
	r = open(t, file)
	got, err := play(t, r)
	if err != nil || !r.Complete() {
		t.Fatalf("%v, complete %v", err, r.Complete())
	}
	seeds := 0
	for first = end; ; seeds++ {
		// The steps of the trace are at the end; what is before them are goroutines.
		if n := end - (len(got.steps) - seeds); n >= 0 {
			if reflect.DeepEqual(got.steps[seeds].event, tr.steps[n].event) {
				first = n
				break
			}
		}
	}
	same(t, got.steps[seeds:], tr.steps[first:end])
	if first == 0 {
		return first, r
	}
	var roster Roster
	for _, s := range tr.steps[:first] {
		if s.event != nil {
			roster.Apply(s.event)
		}
	}
	i := 0
	_ = roster.Snapshots(r.Info().Begin, func(e *event.Event) error {
		if i >= seeds || !reflect.DeepEqual(got.steps[i].event, e) {
			t.Fatalf("goroutine %d of %d is not\n%s", i, seeds, event.AppendText(nil, e))
		}
		i++
		return nil
	})
	if i != seeds || i == 0 {
		t.Errorf("begins with %d goroutines, want %d", seeds, i)
	}
	return first, r
}

// TestFlight keeps two seconds of eight, and writes two files that overlap.
func TestFlight(t *testing.T) {
	tr := random(9, 100_000)
	tr.offset = tr.info.Wall - tr.info.Begin
	f, err := NewFlight(tr, FlightOptions{Last: 2 * time.Second, Memory: 64 << 20, Tool: "gopherscope devel"})
	if err != nil {
		t.Fatal(err)
	}
	n := len(tr.steps)
	var first, second bytes.Buffer
	notes := []Note{{tr.steps[n/2].at(), "runnable > 200", "runnable = 312"}, {tr.steps[n*6/10].at(), "SIGUSR1", ""}}
	fly(t, f, tr, 0, n/2)
	tr.totals.Lost.RingFull, tr.totals.Now = 7, tr.steps[n/2].at()
	if err := f.Begin(&first, &notes[0]); err != nil {
		t.Fatal(err)
	}
	fly(t, f, tr, n/2, n*6/10)
	if err := f.Note(&notes[1]); err != nil {
		t.Fatal(err)
	}
	fly(t, f, tr, n*6/10, n*7/10)
	tr.totals.Lost.RingFull, tr.totals.Now = 9, tr.steps[n*7/10].at()
	if err := f.End(); err != nil {
		t.Fatal(err)
	}
	fly(t, f, tr, n*7/10, n*8/10)
	if err := f.Begin(&second, &Note{Cause: "the process ended"}); err != nil {
		t.Fatal(err)
	}
	if err := f.End(); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := f.Writing(); ok {
		t.Error("a file is being written after the end of the last")
	}
	from, r := landed(t, tr, first.Bytes(), n*7/10)
	if !reflect.DeepEqual(r.Notes(), notes) || r.Tool() != "gopherscope devel" {
		t.Errorf("notes %+v of %q, want %+v", r.Notes(), r.Tool(), notes)
	}
	kept := time.Duration(tr.steps[n/2].at() - tr.steps[from].at())
	if kept < 2*time.Second || kept > 3500*time.Millisecond {
		t.Errorf("%v before the first file were kept, want two seconds and a block", kept)
	}
	if totals, _ := r.Totals(); totals.Lost.RingFull != 9 { // nothing was lost before
		t.Errorf("%d lost, want 9", totals.Lost.RingFull)
	}
	from, r = landed(t, tr, second.Bytes(), n*8/10)
	if totals, _ := r.Totals(); totals.Lost.RingFull != 9-f.base.Lost.RingFull {
		t.Errorf("%d lost, want those since %d", totals.Lost.RingFull, f.base.Lost.RingFull)
	}
	if at := tr.steps[from].at(); at > tr.steps[n*7/10].at() {
		t.Errorf("the second file begins at %d", at)
	}
}

// at is the time of a step.
func (s *step) at() int64 {
	if s.event != nil {
		return s.event.Time
	}
	return s.now
}

// TestFlightWhole keeps all there is: the file is a recording from the beginning on.
func TestFlightWhole(t *testing.T) {
	tr := random(4, 20_000)
	tr.offset = tr.info.Wall - tr.info.Begin
	f, err := NewFlight(tr, FlightOptions{Last: time.Hour, Memory: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	fly(t, f, tr, 0, len(tr.steps))
	var file bytes.Buffer
	if err := errors.Join(f.Begin(&file, &Note{Cause: "SIGUSR1"}), f.End()); err != nil {
		t.Fatal(err)
	}
	from, r := landed(t, tr, file.Bytes(), len(tr.steps))
	if from != 0 || !reflect.DeepEqual(*r.Info(), tr.info) || r.Events() != 20_000 {
		t.Errorf("%d events from step %d on, info %+v", r.Events(), from, r.Info())
	}
}

// TestFlightMemory has room for less than it should keep.
func TestFlightMemory(t *testing.T) {
	tr := random(5, 400_000)
	tr.offset = tr.info.Wall - tr.info.Begin
	const room = 2 << 20
	heap := heapSize()
	f, err := NewFlight(tr, FlightOptions{Last: time.Hour, Memory: room})
	if err != nil {
		t.Fatal(err)
	}
	n := len(tr.steps)
	for at := 0; at < n; at += n / 20 {
		fly(t, f, tr, at, min(n, at+n/20))
		if _, size, _ := f.Kept(); size > room {
			t.Fatalf("%d bytes are kept, there is room for %d", size, room)
		}
	}
	// The events themselves would take 50 MB.
	if grown := heapSize() - heap; grown > room+20<<20 {
		t.Errorf("%d bytes of memory are in use for %d that are kept", grown, room)
	}
	since, size, short := f.Kept()
	if !short || size < room/4 || since <= tr.info.Begin {
		t.Errorf("%d bytes since %d, short %v", size, since-tr.info.Begin, short)
	}
	var file bytes.Buffer
	if err := errors.Join(f.Begin(&file, &Note{}), f.End()); err != nil {
		t.Fatal(err)
	}
	since, _, _ = f.Kept() // the last block has taken an older one's place
	if from, r := landed(t, tr, file.Bytes(), n); from == 0 || r.Info().Begin != since {
		t.Errorf("begins at %d with step %d, want %d", r.Info().Begin, from, since)
	}
}

// heapSize is what is in use of the heap, bytes.
func heapSize() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestFlightFull writes to a disk that has no room, at every length.
func TestFlightFull(t *testing.T) {
	tr := random(6, 60_000)
	tr.offset = tr.info.Wall - tr.info.Begin
	n := len(tr.steps)
	for room := 0; room < 700_000; room += 90_001 {
		f, err := NewFlight(tr, FlightOptions{Last: time.Second, Memory: 64 << 20})
		if err != nil {
			t.Fatal(err)
		}
		fly(t, f, tr, 0, n)
		file := &failing{room: room}
		err = f.Begin(file, &Note{Cause: "SIGUSR1"})
		if err == nil {
			if err = f.End(); err == nil {
				return // there was room for all
			}
		}
		if !errors.Is(err, errFull) || f.Event(&event.Event{}) != err || f.Tick(0) != err || f.End() != err {
			t.Fatalf("room %d: %v, then %v", room, err, f.End())
		}
		r, err := NewReader(bytes.NewReader(file.Bytes()))
		if errors.Is(err, ErrEmpty) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := play(t, r); err != nil || r.Complete() {
			t.Errorf("room %d: %v, complete %v", room, err, r.Complete())
		}
	}
	t.Error("there was never room for a file")
}

// TestNotes has notes that were damaged, and too many of them.
func TestNotes(t *testing.T) {
	tr := random(1, 10)
	tr.offset = tr.info.Wall - tr.info.Begin
	var file bytes.Buffer
	w, err := NewWriter(&file, tr, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range maxNotes + 5 {
		if err := w.note(&Note{Time: -1, Cause: "a", Detail: string(make([]byte, 2*maxNoteText))}); err != nil {
			t.Fatal(err)
		}
	}
	w.payload = appendSection(w.payload[:0], noteTime, nil)
	w.buf = w.buf[:0]
	if err := w.block(blockHeader{kind: blockNote}); err != nil {
		t.Fatal(err)
	}
	r := open(t, file.Bytes())
	var damage *DamageError
	if _, err := play(t, r); !errors.As(err, &damage) {
		t.Errorf("a note without a time: %v", err)
	}
	if n := r.Notes(); len(n) != maxNotes || n[0].Time != -1 || n[0].Cause != "a" || len(n[0].Detail) != maxNoteText {
		t.Errorf("%d notes, the first of %q", len(n), n[0].Cause)
	}
}

// BenchmarkFlight keeps events that go again: what a recorder costs that waits.
func BenchmarkFlight(b *testing.B) {
	tr := random(7, 300_000)
	tr.offset = tr.info.Wall - tr.info.Begin
	f, err := NewFlight(tr, FlightOptions{Last: time.Second, Memory: 64 << 20})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s := tr.steps[i%len(tr.steps)]
		if s.event != nil {
			err = f.Event(s.event)
		} else {
			err = f.Tick(s.now)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	_ = f.Begin(io.Discard, &Note{})
}
