package gotrace

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"gopherscope/internal/event"
	"gopherscope/internal/gstate"
	"gopherscope/internal/stream"
)

// minGeneration is how many bytes a generation has at least. A reader holds one generation
// in memory, and the end of one is the only place where it can begin to read.
const minGeneration = 4 << 20

// statusShare bounds what the statuses at the beginning of a generation take: with many
// goroutines it is at least so many times longer.
const statusShare = 8

// statusSize is about what a status takes, in bytes.
const statusSize = 20

// latest is a time after which none is believed, 146 years of uptime: those that follow
// must have room.
const latest = 1 << 62

// Writer writes a Go execution trace. It is not safe for concurrent use.
type Writer struct {
	out   output
	file  *bufio.Writer
	info  stream.Info
	stack func(id uint32) []event.Location

	now      int64  // the latest time of an event written: CLOCK_MONOTONIC, ns
	ended    int64  // the latest time at which a goroutine ended
	gen      uint64 // from 1
	genStart int64  // when the generation began
	coded    int64  // bytes of events so far
	size     int64  // how many there are when the generation may end
	least    int64  // minGeneration
	opened   bool   // the first generation has begun

	goroutines map[uint64]*goroutine
	threads    map[uint64]*thread
	procs      []*proc // in order of id
	untold     int     // goroutines of status 0

	groups    map[uint32]uint64 // process numbers
	nextGroup uint64
	gapped    bool   // there was a gap
	unplaced  uint64 // threads that were made up for goroutines without one

	gc        bool   // marking
	gcSeq     uint64 // of the next change of gc
	gcLast    int64  // when it was last changed
	gcTold    bool   // in this generation
	procsTold bool   // in this generation
	stw       int    // goroutines whose range is a stop of the world

	remarks []remark // that wait for a goroutine that runs

	tables tables
	pcs    map[event.Location]uint64
}

// New begins a trace on w. info must not change until Close, nor may what stack returns,
// which is called with the numbers in [event.Event.Stack] and returns the frames, innermost
// first, or nil.
func New(w io.Writer, info *stream.Info, stack func(id uint32) []event.Location) *Writer {
	file := bufio.NewWriterSize(w, maxBatch)
	tw := &Writer{
		out: output{w: file}, file: file, info: *info, stack: stack, gen: 1, gcSeq: 1, least: minGeneration,
		goroutines: map[uint64]*goroutine{}, threads: map[uint64]*thread{}, groups: map[uint32]uint64{},
		tables: newTables(), pcs: map[event.Location]uint64{},
	}
	tw.out.write([]byte(header))
	return tw
}

// Event takes the next event of the stream, with what the [gstate.Tracker] of the stream
// says about it; neither is kept. An error is one of writing, and is returned again by each
// later call.
func (w *Writer) Event(e *event.Event, c *gstate.Change) error {
	w.begin(e.Time)
	switch e.Kind {
	case event.Transition:
		w.transition(e, c)
	case event.Snapshot:
		w.snapshot(e)
	case event.Gap:
		w.gap(e)
	case event.Census:
		w.census(e)
	case event.Exec, event.Exit:
		w.endProcess(e)
	}
	if w.coded >= w.size && (w.stw == 0 || w.coded >= w.size+w.least) {
		w.nextGeneration()
	}
	return w.failed()
}

// Close ends the trace. It does not close what the trace is written to.
func (w *Writer) Close() error {
	w.begin(w.info.Begin)
	w.endGeneration()
	if err := w.failed(); err != nil {
		return err
	}
	w.out.err = w.file.Flush()
	return w.failed()
}

func (w *Writer) failed() error {
	if w.out.err != nil {
		return fmt.Errorf("write Go execution trace: %w", w.out.err)
	}
	return nil
}

// begin begins the first generation, when the trace began or at its first event.
func (w *Writer) begin(first int64) {
	if w.opened {
		return
	}
	w.opened = true
	if w.info.Begin > 0 && w.info.Begin < latest {
		first = w.info.Begin
	}
	if first <= 0 || first >= latest {
		first = 1
	}
	w.now, w.genStart = first, first
	w.size = w.coded + w.least
}

// clock is the time of an event in the trace. It can be before that of another thread's event
// that came before, as streams are in order for each goroutine only: whatever has to be
// later than something else is made so where it is written (emitG).
func (w *Writer) clock(t int64) int64 {
	if t < w.genStart || t >= latest {
		t = w.now + 1
	}
	return t
}

// nextGeneration ends a generation and begins the next, which repeats the status of
// everything.
func (w *Writer) nextGeneration() {
	w.endGeneration()
	w.gen++
	w.now++
	w.genStart = w.now
	w.tables = newTables()
	w.gcTold, w.procsTold = false, false
	begin := w.coded
	for id, m := range w.threads {
		if m.g == nil && m.p == nil {
			delete(w.threads, id) // a reader knows nothing of it either
		}
	}
	none := w.thread(noThread)
	for _, p := range w.procs {
		on := p.m
		if on == nil {
			on = none
		}
		w.tellProc(p, on, w.genStart)
	}
	for _, g := range w.sortedGoroutines() {
		w.tellAgain(g, none)
	}
	w.size = w.coded + max(w.least, statusShare*(w.coded-begin))
}

// tellAgain repeats the status of a goroutine and its range.
func (w *Writer) tellAgain(g *goroutine, none *thread) {
	on := none
	if g.m != nil {
		on = g.m
	}
	w.goStatus(g, on, w.genStart)
	if g.assist {
		w.emitG(on, g, w.genStart, evGCMarkAssistActive, g.id)
	}
	if g.status == goRunning && on.p != nil {
		w.tellRest(on, w.genStart)
	}
}

// tellRest says, once a generation, what only the thread of a running goroutine can say.
func (w *Writer) tellRest(m *thread, t int64) {
	if !w.procsTold && w.info.Procs > 0 {
		w.emit(m, t, evProcsChange, uint64(w.info.Procs), 0)
	}
	w.procsTold = true
	if w.gc && !w.gcTold {
		w.emitGC(m, t, evGCActive, w.gcSeq)
		w.gcSeq++
	}
	w.gcTold = true
	if len(w.remarks) > 0 && m.p != nil {
		w.remark(m)
	}
}

// endGeneration writes all that is left of a generation.
func (w *Writer) endGeneration() {
	for _, m := range w.sortedThreads() {
		w.settle(m, nil)
		w.rest(m)
	}
	if w.untold > 0 || w.stw > 0 {
		for _, g := range w.sortedGoroutines() {
			w.tellLate(g)
			w.endRanges(g, w.now)
		}
	}
	for _, m := range w.sortedThreads() {
		w.flush(m)
	}
	w.writeTables()
	w.writeSync()
}

// writeSync writes the unit of the times, and the beginning of the generation by three
// clocks: the trace's, CLOCK_MONOTONIC and the wall clock.
func (w *Writer) writeSync() {
	at := w.genStart &^ (baseUnit - 1)
	wall := w.info.Wall + at - w.info.Begin
	if w.info.Wall <= 0 || wall < 0 {
		wall = 0
	}
	b := []byte{evSync, evFrequency}
	b = binary.AppendUvarint(b, frequency)
	b = append(b, evClockSnapshot)
	b = binary.AppendUvarint(b, 0)
	b = binary.AppendUvarint(b, uint64(at))
	b = binary.AppendUvarint(b, uint64(wall/1e9))
	b = binary.AppendUvarint(b, uint64(wall%1e9))
	w.out.batch(w.gen, noThread, at, b)
}
