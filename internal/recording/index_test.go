package recording

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gstate"
)

// TestSeekTo wants every event from a moment on, and few before, with the index and without.
func TestSeekTo(t *testing.T) {
	want := slow()
	file := want.record(t, nil)
	events := onlyEvents(want)
	offsets, headers := blocks(t, file)
	withoutIndex := file[:offsets[len(headers)-1]]
	for name, file := range map[string][]byte{"index": file, "no index": withoutIndex, "cut": file[:offsets[4]+20]} {
		for at := begin - 1e9; at < begin+5e9; at += 137_000_000 {
			r := open(t, file)
			if err := r.SeekTo(at); err != nil {
				t.Fatal(err)
			}
			got, err := play(t, r)
			if err != nil || r.Complete() != (name == "index") {
				t.Fatalf("%s at %d: %v, complete %v", name, at, err, r.Complete())
			}
			rest := events
			if name == "cut" {
				n := 0
				for _, h := range headers[:4] {
					if h.kind == blockEvents {
						n += int(h.events)
					}
				}
				rest = events[:n]
			}
			from := 0
			for from < len(rest) && rest[from].event.Time < at {
				from++
			}
			played := onlyEvents(got)
			if len(played) < len(rest)-from || len(played) > 0 && played[0].event.Time < at-3e9 {
				t.Fatalf("%s at %d: %d events, want %d or a few more", name, at, len(played), len(rest)-from)
			}
			for i := range played {
				if *played[i].event != *rest[len(rest)-len(played)+i].event && played[i].event.Birth == nil {
					t.Fatalf("%s at %d: event %d is\n%s", name, at, i, played[i].text())
				}
			}
		}
	}
	r, err := NewReader(io.MultiReader(bytes.NewReader(file)))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.SeekTo(begin); err != ErrNotSeekable {
		t.Errorf("of a pipe: %v", err)
	}
}

// TestIndexBounded wants an index that covers all blocks and never grows beyond its limit.
func TestIndexBounded(t *testing.T) {
	for _, n := range []int{0, 1, maxEntries, maxEntries + 1, 5*maxEntries + 3} {
		var x index
		for i := range n {
			x.add(entry{offset: int64(i) * 100, first: int64(i) * 10, last: int64(i)*10 + 12, events: 7})
		}
		list, err := parseIndex(x.payload(nil))
		if err != nil || len(list) > maxEntries || n > 0 && len(list) < min(n, maxEntries/2) {
			t.Fatalf("%d blocks: %d entries, %v", n, len(list), err)
		}
		at, events := int64(0), uint64(0)
		for i, e := range list {
			if i > 0 && (e.offset <= at || e.first != e.offset/10 || list[i-1].last != e.first+2) {
				t.Fatalf("%d blocks: entry %d is %+v after %+v", n, i, e, list[i-1])
			}
			at, events = e.offset, events+e.events
		}
		if events != uint64(n)*7 {
			t.Errorf("%d blocks: %d events in the index", n, events)
		}
	}
}

// busy is what a server with many connections does, without end: requests on goroutines
// that park, and a goroutine that is born and ends for each.
type busy struct {
	trace
	now  int64
	goid uint64
	n    uint64
}

func newBusy() *busy {
	b := &busy{now: begin, goid: 1000}
	b.info.Begin, b.info.Wall = begin, begin
	b.stacks = map[uint32][]event.Location{}
	for i := range uint32(200) {
		for j := range 12 {
			b.stacks[i+1] = append(b.stacks[i+1], event.Location{Func: "net/http.(*conn).serve", File: "/usr/lib/go/src/net/http/server.go", Line: int(i) * j})
		}
	}
	return b
}

var birthSite = event.Birth{
	CreatedBy: event.Location{Func: "net/http.(*connReader).startBackgroundRead", File: "/usr/lib/go/src/net/http/server.go", Line: 679},
	Start:     event.Location{Func: "net/http.(*connReader).backgroundRead", File: "/usr/lib/go/src/net/http/server.go", Line: 683},
}

// next is the next event.
func (b *busy) next(rng *rand.Rand, e *event.Event) {
	tid := uint32(100 + rng.IntN(4))
	b.now += int64(rng.ExpFloat64() * 4000)
	*e = event.Event{Time: b.now, PID: 99, TID: tid, M: int64(tid), P: int32(tid) - 100}
	conn := uint64(10 + b.n/7%64)
	switch b.n++; b.n % 7 {
	case 0:
		e.GoID, e.To, e.From, e.Via = conn, goruntime.Running, goruntime.Runnable, event.ViaSchedule
	case 1:
		b.goid++
		e.GoID, e.To, e.From, e.Via = b.goid, goruntime.Runnable, goruntime.Dead, event.ViaCreate
		e.Birth = &event.Birth{Parent: conn, CreatedBy: birthSite.CreatedBy, Start: birthSite.Start}
	case 2, 3:
		e.GoID, e.To, e.From, e.Via = conn, goruntime.Syscall, goruntime.Running, event.ViaSyscall
	case 4:
		e.GoID, e.To, e.From, e.Via, e.P = conn, goruntime.Running, goruntime.Syscall, event.ViaSyscall, event.NoP
	case 5:
		e.GoID, e.To, e.From, e.Via = conn, goruntime.Waiting, goruntime.Running, event.ViaPark
		e.Reason, e.Stack = "IO wait", 1+uint32(rng.IntN(200))
	case 6:
		e.GoID, e.To, e.From, e.Via, e.Waker = b.goid, goruntime.Dead, goruntime.Running, event.ViaExit, 0
	}
}

// heap is how many bytes are in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMemory wants neither the writer nor the reader to need more memory for a longer recording.
func TestMemory(t *testing.T) {
	b, rng := newBusy(), rand.New(rand.NewPCG(1, 1))
	read, write := io.Pipe()
	const part = 400_000
	var grown int64
	go func() {
		w, err := NewWriter(write, b, nil)
		var e event.Event
		var before int64
		for i := range 3 * part {
			if i == part {
				before = heap()
			}
			if b.next(rng, &e); err == nil {
				err = w.Event(&e)
			}
			if i%500 == 0 && err == nil {
				err = w.Tick(b.now)
			}
		}
		grown = heap() - before
		if err == nil {
			err = w.Close()
		}
		write.CloseWithError(err)
	}()
	r, err := NewReader(read)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := r.Run(t.Context(), func(*event.Event) error { n++; return nil }, func(int64) error { return nil }); err != nil || n != 3*part {
		t.Fatalf("%d events, %v", n, err)
	}
	if grown > 8<<20 {
		t.Errorf("writing and reading %d events more took %d bytes of memory more", 2*part, grown)
	}
}

// TestRoster begins a recording in the middle of a trace with the goroutines that are there then:
// what follows continues them, and nothing is said of them that was not so.
func TestRoster(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	for range 50 {
		var r Roster
		whole, part := gstate.NewTracker(), gstate.NewTracker()
		life := newLives(rng)
		n := rng.IntN(3000)
		for range n {
			e := life.next()
			r.Apply(e)
			whole.Apply(e)
		}
		told := 0
		if err := r.Snapshots(life.now, func(e *event.Event) error {
			told++
			if e.Kind != event.Snapshot || e.Time != life.now || e.To != life.state[e.GoID] || (e.Reason != "") != (e.To == goruntime.Waiting) || e.Since > life.now || e.Birth == nil {
				t.Errorf("%s", event.AppendText(nil, e))
			}
			part.Apply(e)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if told != len(life.state) {
			t.Errorf("%d goroutines, want %d", told, len(life.state))
		}
		for range 3000 {
			e := life.next()
			w, p := *whole.Apply(e), *part.Apply(e)
			if p.Birth != w.Birth || p.ForKnown != w.ForKnown || p.For > w.For || !p.ForAtLeast && p.For != w.For {
				t.Fatalf("%s: %+v, want %+v", event.AppendText(nil, e), p, w)
			}
		}
		if part.Violations() != 0 || whole.Violations() != 0 {
			t.Errorf("%d and %d violations", part.Violations(), whole.Violations())
		}
		r.Apply(&event.Event{Kind: event.Exit, PID: 1})
		if err := r.Snapshots(life.now, func(e *event.Event) error { t.Errorf("there after the exit: %d", e.GoID); return nil }); err != nil {
			t.Fatal(err)
		}
	}
}

// lives are goroutines that take any way through the states.
type lives struct {
	rng   *rand.Rand
	now   int64
	goid  uint64
	state map[uint64]goruntime.Status
	ids   []uint64
}

func newLives(rng *rand.Rand) *lives {
	return &lives{rng: rng, now: begin, state: map[uint64]goruntime.Status{}}
}

func (l *lives) next() *event.Event {
	l.now += int64(l.rng.IntN(1000))
	e := &event.Event{Time: l.now, PID: 1}
	if len(l.ids) == 0 || l.rng.IntN(20) == 0 && len(l.ids) < 50 {
		l.goid++
		e.GoID, e.From, e.To, e.Birth = l.goid, goruntime.Dead, goruntime.Runnable, &event.Birth{Parent: 1}
		l.ids = append(l.ids, l.goid)
		l.state[l.goid] = goruntime.Runnable
		return e
	}
	i := l.rng.IntN(len(l.ids))
	e.GoID = l.ids[i]
	e.From = l.state[e.GoID]
	for e.To = e.From; e.To == e.From; {
		e.To = []goruntime.Status{goruntime.Runnable, goruntime.Running, goruntime.Syscall, goruntime.Waiting, goruntime.Dead}[l.rng.IntN(5)]
	}
	if e.To == goruntime.Waiting {
		e.Reason = "select"
	}
	l.state[e.GoID] = e.To
	if e.To == goruntime.Dead {
		delete(l.state, e.GoID)
		l.ids = append(l.ids[:i], l.ids[i+1:]...)
	}
	return e
}

func BenchmarkWrite(b *testing.B) {
	src, rng := newBusy(), rand.New(rand.NewPCG(1, 1))
	events := make([]event.Event, 1<<16)
	for i := range events {
		src.next(rng, &events[i])
	}
	w, err := NewWriter(io.Discard, src, nil)
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		if err := w.Event(&events[i%len(events)]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(w.Size())/float64(max(1, w.Written())), "bytes/event")
}

func BenchmarkRead(b *testing.B) {
	src, rng := newBusy(), rand.New(rand.NewPCG(1, 1))
	var file bytes.Buffer
	w, err := NewWriter(&file, src, nil)
	if err != nil {
		b.Fatal(err)
	}
	var e event.Event
	for range 1 << 18 {
		src.next(rng, &e)
		if err := w.Event(&e); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	n := 0
	for b.Loop() {
		r, err := NewReader(bytes.NewReader(file.Bytes()))
		if err != nil {
			b.Fatal(err)
		}
		if err := r.Run(b.Context(), func(*event.Event) error { n++; return nil }, func(int64) error { return nil }); err != nil {
			b.Fatal(err)
		}
		r.Close()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
}

// TestSpans wants the parts of a recording with the index and without.
func TestSpans(t *testing.T) {
	want := slow()
	file := want.record(t, nil)
	offsets, headers := blocks(t, file)
	for name, file := range map[string][]byte{"index": file, "no index": file[:offsets[len(headers)-1]], "cut": file[:offsets[4]+20]} {
		r := open(t, file)
		spans, complete, err := r.Spans()
		if err != nil || complete != (name == "index") {
			t.Fatalf("%s: complete %v, %v", name, complete, err)
		}
		i := 0
		for at, h := range headers {
			if h.kind == blockEvents && offsets[at+1] <= len(file) {
				if i == len(spans) || spans[i] != (Span{h.first, h.last, uint64(h.events)}) {
					t.Fatalf("%s: span %d of %v, want %+v", name, i, spans, h)
				}
				i++
			}
		}
		if i != len(spans) {
			t.Errorf("%s: %d spans, want %d", name, len(spans), i)
		}
		if got, err := play(t, r); err != nil || len(onlyEvents(got)) == 0 {
			t.Errorf("%s: after Spans: %d events, %v", name, len(onlyEvents(got)), err)
		}
	}
	r, err := NewReader(io.MultiReader(bytes.NewReader(file)))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Spans(); err != ErrNotSeekable {
		t.Errorf("of a pipe: %v", err)
	}
}

// TestSeekAgain runs one Reader again and again from several moments, and wants what a new one reads
// from there, each note once, and what was spent in each block.
func TestSeekAgain(t *testing.T) {
	tr := slow()
	var out bytes.Buffer
	w, err := NewWriter(&out, tr, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range tr.steps {
		tr.totals.Cost.Total, tr.totals.TargetCPU = time.Duration(i*i), time.Duration(i*i*i)
		if s.event != nil {
			err = w.Event(s.event)
		} else {
			err = w.Tick(s.now)
		}
		if i%50 == 49 && err == nil {
			if err = w.flush(); err == nil {
				err = w.note(&Note{Time: begin + int64(i), Cause: "test"})
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, out.Bytes())
	type spent struct{ cost, cpu, over time.Duration }
	straight := map[int64]spent{}
	for _, at := range []int64{-1 << 63, begin + 2e9, begin - 1, begin + 3e9, begin + 2e9, begin + 1e18} {
		fresh := open(t, out.Bytes())
		if err := errors.Join(fresh.SeekTo(at), again.SeekTo(at)); err != nil {
			t.Fatal(err)
		}
		want, err := play(t, fresh)
		if err != nil {
			t.Fatal(err)
		}
		var got []event.Event
		if err := again.Run(t.Context(), func(e *event.Event) error {
			if e.Kind != event.Labels { // which Events counts
				got = append(got, *e)
			}
			return nil
		}, func(now int64) error {
			var s spent
			s.cost, s.cpu, s.over = again.Spent()
			switch had, ok := straight[now]; {
			case at < begin && s.over == 0:
				t.Errorf("what was spent at %d is not known", now)
			case !ok:
				straight[now] = s
			case s != had && s.over != 0: // of the first block it is not known
				t.Errorf("at %d %+v was spent, and %+v after a seek to %d", now, had, s, at)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if !again.Complete() || again.Events() != uint64(len(got)) || len(onlyEvents(want)) != len(got) {
			t.Errorf("from %d: %d events, want %d; complete %v", at, len(got), len(onlyEvents(want)), again.Complete())
		}
	}
	if n := len(again.Notes()); n != len(tr.steps)/50 {
		t.Errorf("%d notes, want %d", n, len(tr.steps)/50)
	}
}
