package perfetto

import (
	"hash/fnv"
	"io"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gstate"
	"gopherscope/internal/stream"
)

// snapshotEvery is how often the wall clock is told, in ns: it drifts against
// CLOCK_MONOTONIC, and is set.
const snapshotEvery = 10_000_000_000

// Writer writes the trace.
type Writer struct {
	info  *stream.Info
	frame func(uint32) []event.Location
	wall  func(int64) int64
	seq   *sequence

	uuid      uint64 // of the last track
	flow      uint64 // the last
	processes map[uint32]*process
	current   *process
	trace     track  // the trace itself
	lost      track  // how many events are lost
	lostCount uint64 // as written
	totals    *stream.Totals
	events    uint64
	end       int64 // the latest time of the stream
	clock     int64 // when the wall clock was told
	closed    bool

	body, note, inner message // scratch
}

// New begins a trace. stack resolves the numbers of stacks and may be nil; wall is the Unix
// time of a moment by CLOCK_MONOTONIC, both in ns. They are called from Event and
// Close. An error of w is returned by the next call of Event, Flush or Close.
func New(w io.Writer, info *stream.Info, stack func(uint32) []event.Location, wall func(int64) int64) *Writer {
	p := &Writer{
		info: info, frame: stack, wall: wall, processes: map[uint32]*process{},
		end: info.Begin, clock: info.Begin,
	}
	// Several traces can be put into one file, which is how Perfetto merges them: so
	// the numbers that must not clash depend on what was traced.
	h := fnv.New32a()
	h.Write([]byte(info.Exe + " " + strconv.Itoa(info.PID) + " " + strconv.FormatInt(info.Wall, 10)))
	sum := uint64(h.Sum32())
	p.uuid = (sum&0x3fff | 0x4000) << 28 // 15 bits; 28 bits for the tracks
	p.flow = sum << 32
	p.seq = newSequence(w, 1<<13|sum>>14&0x1fff) // two bytes, far from those that Perfetto's service assigns
	p.seq.begin(true, p.clocks(info.Begin))
	p.facts()
	return p
}

// clocks is a ClockSnapshot.
func (w *Writer) clocks(mono int64) message {
	m := &w.body
	m.reset()
	for _, c := range [...]struct{ id, time int64 }{{clockMonotonic, mono}, {clockRealtime, w.wall(mono)}} {
		w.inner.reset()
		w.inner.int(clockID, c.id)
		w.inner.int(clockTimestamp, c.time)
		m.sub(snapshotClocks, w.inner)
	}
	m.uint(snapshotPrimaryClock, clockMonotonic)
	return *m
}

// Event writes the next event of the stream; c is what a [gstate.Tracker] made of it.
func (w *Writer) Event(e *event.Event, c *gstate.Change) error {
	w.pass(e.Time)
	switch e.Kind {
	case event.Transition:
		w.events++
		w.transition(e, c)
	case event.Snapshot:
		w.snapshot(e)
	case event.Gap:
		w.gap(e)
	case event.Census: // the slices of the others have ended with the gap
		w.process(e.PID).live.Retain(func(_ uint64, g *goroutine) bool { return g.gaps == 0 })
	case event.Labels: // which the format has no place for
	default:
		if p := w.processes[e.PID]; p != nil {
			w.endSlices(p, e.Time, false)
			delete(w.processes, e.PID)
			w.current = nil
		}
	}
	return w.seq.err
}

// pass tells the clocks, and begins the tables anew, when it is time.
func (w *Writer) pass(time int64) {
	w.end = max(w.end, time)
	switch {
	case w.seq.full():
		w.seq.forget()
		w.seq.begin(false, w.clocks(w.end))
	case w.end-w.clock >= snapshotEvery:
		w.seq.emit(-1, packetClockSnapshot, w.clocks(w.end))
	default:
		return
	}
	w.clock = w.end
}

// Totals says what the trace came to so far: the lost events become a counter, and the last
// totals before Close, with the cost, are with the facts of the trace.
func (w *Writer) Totals(t *stream.Totals) {
	totals := *t
	w.totals = &totals
	w.end = max(w.end, t.Now)
	lost := t.Lost.Total()
	if lost == w.lostCount {
		return
	}
	if w.lost.uuid == 0 {
		w.lost.uuid = w.describe(descriptor{parent: w.trace.uuid, name: "lost events", counter: true})
	}
	w.lostCount = lost
	w.counter(w.lost.uuid, w.lost.at(t.Now), int64(lost))
}

// Flush hands everything to the underlying writer.
func (w *Writer) Flush() error { return w.seq.flush() }

// Close ends all slices and writes the rest. It does not close the underlying writer.
func (w *Writer) Close() error {
	if w.closed {
		return w.seq.err
	}
	w.closed = true
	for _, p := range w.processes {
		w.endSlices(p, w.end, false)
	}
	w.endTrace()
	return w.seq.flush()
}

// snapshot begins the slice of a goroutine that was there.
func (w *Writer) snapshot(e *event.Event) {
	p := w.process(e.PID)
	g := p.live.Get(e.GoID)
	switch {
	case g == nil:
		g = w.goroutine(p, e.GoID, e.Birth)
	case g.gaps == 0:
		return // what its changes have told stays
	}
	g.gaps = 0
	w.begin(p, g, e, g.at(e.Time), false)
}

func (w *Writer) transition(e *event.Event, c *gstate.Change) {
	p := w.process(e.PID)
	g := p.live.Get(e.GoID)
	if g == nil {
		g = w.goroutine(p, e.GoID, c.Birth)
	}
	g.gaps = 0
	t := g.at(e.Time)
	w.endSlice(g, t)
	if e.To == goruntime.Runnable {
		w.wake(p, g, e, t)
	}
	switch {
	case e.Ends():
		w.occupy(p, g, e, t)
		w.count(p, g, notCounted, t)
		p.live.Delete(e.GoID)
	case e.To == goruntime.Dead || e.To == goruntime.DeadExtra:
		// It comes back to life under its goid when C code calls Go again.
		w.occupy(p, g, e, t)
		w.count(p, g, notCounted, t)
	default:
		w.begin(p, g, e, t, c.Violation)
	}
}

// gap ends what was known before.
func (w *Writer) gap(e *event.Event) {
	for pid, p := range w.processes {
		if e.PID == 0 || pid == e.PID {
			w.endSlices(p, e.Since, true)
		}
	}
	w.slice(typeBegin, w.trace.uuid, "not traced", "trace")
	w.emit(w.trace.at(e.Since))
	w.slice(typeEnd, w.trace.uuid, "", "")
	w.emit(w.trace.at(e.Time))
}

// endSlices ends all slices of a process. Those of Ps end with their goroutines'. After a
// gap the goroutines may be there still, but one that had no event over many gaps is taken
// for ended.
func (w *Writer) endSlices(p *process, time int64, gap bool) {
	p.live.Retain(func(_ uint64, g *goroutine) bool {
		t := g.at(time)
		w.endSlice(g, t)
		w.leave(g, t)
		w.count(p, g, notCounted, t)
		g.flow = 0
		g.gaps++
		return gap && g.gaps < gstate.MaxGaps
	})
	w.writeCounters(p)
}

// emit writes the TrackEvent that was begun with slice.
func (w *Writer) emit(time int64) { w.seq.emit(time, packetTrackEvent, w.body) }

// slice begins to make a TrackEvent; name and category may be empty.
func (w *Writer) slice(kind, uuid uint64, name, category string) {
	m := &w.body
	m.reset()
	m.uint(eventType, kind)
	m.uint(eventTrack, uuid)
	if category != "" {
		m.uint(eventCategoryIIDs, w.seq.intern(&w.seq.categories, category))
	}
	if name != "" {
		m.uint(eventNameIID, w.seq.intern(&w.seq.names, name))
	}
}

// beginNote begins an annotation of the TrackEvent, and endNote adds it.
func (w *Writer) beginNote(name string) *message {
	w.note.reset()
	w.note.uint(annotationNameIID, w.seq.intern(&w.seq.noteNames, name))
	return &w.note
}

func (w *Writer) endNote() { w.body.sub(eventAnnotations, w.note) }

func (w *Writer) noteUint(name string, v uint64) {
	w.beginNote(name).uint(annotationUint, v)
	w.endNote()
}

func (w *Writer) noteInt(name string, v int64) {
	w.beginNote(name).int(annotationInt, v)
	w.endNote()
}

func (w *Writer) noteTrue(name string) {
	w.beginNote(name).uint(annotationBool, protowire.EncodeBool(true))
	w.endNote()
}

func (w *Writer) noteText(name, text string) {
	if text == "" {
		return
	}
	iid := w.seq.intern(&w.seq.strings, text)
	w.beginNote(name).uint(annotationStringIID, iid)
	w.endNote()
}
