// Package seed makes the beginning of a trace: the goroutines that were there
// before, as events of kind [event.Snapshot], out of a snapshot of the process's
// memory and the changes that were made while it was taken.
//
// # Why this is exact
//
// The engine is attached first, at some moment called begin; then the snapshot is
// taken; then every event up to its end is read. An engine's event is made before
// the runtime changes the status (docs/HACKING.md). So whatever change the
// snapshot can have seen that was made after begin has its event among those:
//
//   - A goroutine with an event was, at begin, in the state that its first event
//     leaves, whatever the snapshot says. If that event is its birth, it was not
//     there.
//   - A goroutine without an event has not changed from begin until the snapshot
//     read it: it was in the state that was read.
//
// What no event tells is a change that was under way at begin: the thread was
// past the probe and was put off its CPU before it made the change. The snapshot
// then may have the state before. There can be one for each thread; package
// gstate takes the goroutine's first event for right then.
//
// What is not a state never changes (who created a goroutine, where it starts)
// and comes from the snapshot in both cases. Before Go 1.24 the goid of a newborn
// is set a moment after its status: for that moment a g struct that is used again
// shows the goid of a goroutine that has ended.
package seed

import (
	"slices"

	"gopherscope/internal/dump"
	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
)

// MaxEvents bounds the events that a Buffer keeps, to some 120 MB.
const MaxEvents = 1 << 20

// chunkEvents is how many events are allocated at once.
const chunkEvents = 4096

// Buffer keeps events while a snapshot is taken. It is not safe for concurrent
// use. The zero Buffer is empty and ready.
type Buffer struct {
	Waits *Waits // what was read before of the only process there is; nil to do without

	chunks [][]event.Event
	n      int
	first  map[key]*event.Event // of each goroutine
	ended  map[uint32]bool      // processes whose goroutines are gone meanwhile
}

type key struct {
	pid  uint32
	goid uint64
}

// Add keeps a copy of the event. It returns false when the Buffer is full.
func (b *Buffer) Add(e *event.Event) bool {
	if b.n == MaxEvents {
		return false
	}
	if b.first == nil {
		b.first, b.ended = map[key]*event.Event{}, map[uint32]bool{}
	}
	if b.n%chunkEvents == 0 {
		b.chunks = append(b.chunks, make([]event.Event, 0, chunkEvents))
	}
	last := &b.chunks[len(b.chunks)-1]
	*last = append(*last, *e)
	b.n++
	if e.Kind != event.Transition {
		b.ended[e.PID] = true
		return true
	}
	k := key{e.PID, e.GoID}
	if _, ok := b.first[k]; !ok {
		b.first[k] = &(*last)[len(*last)-1]
	}
	return true
}

// Ended says whether the Buffer has the end of all goroutines of a process, or a gap.
func (b *Buffer) Ended(pid uint32) bool { return b.ended[pid] }

// Replay passes the kept events on, in order, up to the first error of emit.
func (b *Buffer) Replay(emit func(*event.Event) error) error {
	for _, chunk := range b.chunks {
		for i := range chunk {
			if err := emit(&chunk[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// Seeds passes on the goroutines that were in the process of d at begin
// (CLOCK_MONOTONIC, ns): those of d in order of goid, then those that ended before
// they were read. The Buffer must have every event of the process that was made
// from begin to the end of the snapshot. Changed says that it has one of the
// goroutine. The event is valid during the call, but for its Birth. An error of
// emit ends Seeds and is returned.
//
// A goroutine that has not changed since has its stack of d, by its number there plus
// stacks, if d has stacks and stacks is not 0. A stack that was read while the goroutine
// ran is not where its state began, and is left out.
func (b *Buffer) Seeds(d *dump.Dump, begin int64, stacks uint32, emit func(e *event.Event, changed bool) error) error {
	pid := uint32(d.PID)
	if b.ended[pid] {
		return nil // and the numbers in d may be another program's
	}
	births, notes := births{d: d, known: map[birthKey]*event.Birth{}}, d.Notes()
	for i := range d.Goroutines {
		g := &d.Goroutines[i]
		first := b.first[key{pid, g.ID}]
		e := event.Event{Kind: event.Snapshot, Time: begin, PID: pid, GoID: g.ID}
		if first == nil {
			unchanged(&e, d, g, notes, b.Waits)
			if stacks != 0 && g.Stack != 0 && g.Source == dump.SourceMemory {
				e.Stack = stacks + uint32(g.Stack)
			}
		} else if !before(&e, first) {
			continue
		}
		e.Birth = births.of(g)
		if err := emit(&e, first != nil); err != nil {
			return err
		}
	}
	b.Waits.read()
	for _, goid := range b.unread(d) {
		e := event.Event{Kind: event.Snapshot, Time: begin, PID: pid, GoID: goid}
		if !before(&e, b.first[key{pid, goid}]) {
			continue
		}
		if err := emit(&e, true); err != nil {
			return err
		}
	}
	return nil
}

// unread are the goroutines of d's process that have events and are not in d, in
// ascending order.
func (b *Buffer) unread(d *dump.Dump) []uint64 {
	var ids []uint64
	for k := range b.first {
		if k.pid != uint32(d.PID) {
			continue
		}
		if _, ok := slices.BinarySearchFunc(d.Goroutines, k.goid, compareID); !ok {
			ids = append(ids, k.goid)
		}
	}
	slices.Sort(ids)
	return ids
}

func compareID(g dump.Goroutine, id uint64) int {
	switch {
	case g.ID < id:
		return -1
	case g.ID > id:
		return 1
	}
	return 0
}

// Waits remembers which waits a snapshot has found, for the next one of the same process: it
// knows a wait again by its note, as the runtime erases that when the goroutine runs, and each
// mark looks at a goroutine once and makes another note (see dump.Notes; runtime/proc.go, execute and
// exitsyscall). It is not safe for concurrent use. The zero Waits is empty and ready.
type Waits struct {
	last, next map[uint64]seen // by goid; next is of the snapshot that is being passed on
}

type seen struct{ note, at int64 }

// since is when the wait with this note was found for the first time; 0 if that is now.
func (w *Waits) since(goid uint64, note, now int64) int64 {
	if w == nil || note == 0 {
		return 0
	}
	if w.next == nil {
		w.next = make(map[uint64]seen, len(w.last))
	}
	if before := w.last[goid]; before.note == note {
		w.next[goid] = before
		return before.at
	}
	w.next[goid] = seen{note, now}
	return 0
}

// read says that all waits of a snapshot have been asked for.
func (w *Waits) read() {
	if w != nil {
		w.last, w.next = w.next, nil
	}
}

// unchanged fills in the state of a goroutine as it was read.
func unchanged(e *event.Event, d *dump.Dump, g *dump.Goroutine, n dump.Notes, w *Waits) {
	e.To = g.Status
	switch g.Status {
	case goruntime.CopyStack:
		e.To = goruntime.Running // no state of its own in a trace
	case goruntime.Waiting, goruntime.Leaked:
		e.Reason, e.Fake = d.ReasonOf(g), g.Has(dump.Fake)
	}
	// For a fake wait and for one in a coroutine the runtime's note may be of a
	// wait before: only execute and exitsyscall erase it (runtime/proc.go).
	waits := g.Status == goruntime.Waiting || g.Status == goruntime.Leaked || g.Status == goruntime.Syscall
	if !waits || e.Fake || e.Reason == coroutine {
		return
	}
	for _, since := range []int64{w.since(g.ID, g.WaitSince, e.Time), n.After(g.WaitSince)} {
		if since != 0 && since < e.Time && (e.Since == 0 || since < e.Since) {
			e.Since = since
		}
	}
}

// The wait reasons that follow from how the wait ends.
const (
	coroutine = "coroutine"
	sleep     = "sleep"
	ioWait    = "IO wait"
)

// before fills in the state of a goroutine before its first event. It returns
// false when there was no goroutine.
func before(e, first *event.Event) bool {
	if first.IsNew() || first.From == goruntime.Dead || first.From == goruntime.DeadExtra || first.From == goruntime.Idle {
		return false
	}
	e.To = first.From
	e.Time = min(e.Time, first.Time)
	if first.From != goruntime.Waiting {
		return true
	}
	switch {
	case first.Via == event.ViaCoroutine:
		e.Reason = coroutine
	case first.Via == event.ViaTimer:
		e.Reason = sleep
	case first.Via == event.ViaNetpoll:
		e.Reason = ioWait
	case first.To == goruntime.Running:
		e.Fake = true // of a real wait the end is to be runnable
	}
	return true
}

// births makes the Birth of each goroutine; goroutines that one goroutine created
// at one place share it.
type births struct {
	d     *dump.Dump
	known map[birthKey]*event.Birth
}

type birthKey struct {
	parent         uint64
	created, start dump.SiteID
}

func (b *births) of(g *dump.Goroutine) *event.Birth {
	k := birthKey{g.Parent, g.Created, g.Start}
	birth, ok := b.known[k]
	if !ok {
		birth = &event.Birth{Parent: g.Parent, CreatedBy: b.location(g.Created), Start: b.location(g.Start)}
		b.known[k] = birth
	}
	return birth
}

func (b *births) location(id dump.SiteID) event.Location {
	if int(id) >= len(b.d.Sites) {
		return event.Location{}
	}
	s := &b.d.Sites[id]
	return event.Location{Func: s.Func, File: s.File, Line: int(s.Line)}
}
