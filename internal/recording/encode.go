package recording

import (
	"encoding/binary"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/stream"
)

// The sections of a block of events. The first ones are tables, which the columns refer
// to by number.
const (
	secClock      = 1  // wall clock minus CLOCK_MONOTONIC when the block begins, ns
	secTotals     = 2  // when it ends
	secTexts      = 3  // length and bytes
	secPlaces     = 4  // event.Location: text, text, line
	secSites      = 5  // two places of an event.Birth: number plus 1, 0 is unknown
	secStacks     = 6  // the engine's number, length, places
	secShapes     = 7  // what many events have in common: see shape
	secThreads    = 8  // PID, TID, M
	secGoroutines = 9  // goids, each as the difference to the one before
	secTicks      = 10 // see tick

	// The columns. An event has a value in those that its shape says.
	colShape     = 11
	colTime      = 12 // difference to the event before; of the first, the time
	colThread    = 13
	colP         = 14 // difference to the last P of the thread
	colGoroutine = 15 // see goroutineCode
	colWaker     = 16
	colSite      = 17
	colParent    = 18
	colStack     = 19 // the engine's number, as the index in secStacks
	colSince     = 20 // difference to the event's time

	secLabels = 21 // since format 1.2: sets of labels, each as a number and so many pairs of texts
	colLabels = 22 // since format 1.2: see encoder.labels

	sectionCount = 23
)

// What a shape says of the columns.
const (
	hasFake = 1 << iota
	hasNoP
	hasWaker
	hasBirth
	hasStack
	hasSince
)

// shape is what many events have in common. A program has some dozens, so that an
// event's shape is a byte that compresses well.
type shape struct {
	kind     event.Kind
	from, to goruntime.Status
	via      event.Via
	flags    uint8
	reason   uint32 // number of a text, plus 1; 0 is ""
}

// key has all of a shape. There are fewer than 1<<24 texts.
func (s *shape) key() uint64 {
	return uint64(s.kind) | uint64(s.from)<<8 | uint64(s.to)<<16 | uint64(s.via)<<24 | uint64(s.flags)<<32 | uint64(s.reason)<<40
}

// thread is who made a change. The encoder and the decoder keep, for each, what is likely
// to come next.
type thread struct {
	pid, tid uint32
	m        int64
	p        int32  // that it held last
	runs     uint32 // number of the goroutine that it ran last, plus 1; 0 is none
}

type threadKey struct {
	pid, tid uint32
	m        int64
}

// A goroutine in a column is 0 when it is the one that the thread ran last, 1 when it
// comes for the first time and is the next in secGoroutines, and otherwise its number
// there plus 2.
const (
	goroutineRuns = 0
	goroutineNew  = 1
	goroutineKnow = 2
)

// runsNow says whether the thread that made a change ran the goroutine before or runs it after it.
func runsNow(kind event.Kind, from, to goruntime.Status) bool {
	return kind == event.Transition && (from == goruntime.Running || to == goruntime.Running)
}

// birthPlaces are the two places of an event.Birth.
type birthPlaces struct{ createdBy, start event.Location }

// encoder makes the payload of one block of events after another.
type encoder struct {
	stackOf func(id uint32) []event.Location

	events, ticks int
	first, last   int64 // range of the times of events and ticks
	sections      [sectionCount][]byte

	texts      map[string]uint32
	places     map[event.Location]uint32
	sites      map[birthPlaces]uint32
	stacks     memo[uint32]
	shapes     memo[uint64]
	threads    memo[threadKey]
	goroutines memo[uint64]
	thread     []thread
	label      labelEncoder

	current  uint32 // thread of the last event
	time     int64  // of the last event
	goid     uint64 // the last in secGoroutines
	tickAt   int    // events before the last tick
	tickTime int64
	offset   int64 // wall minus monotonic at the last tick
}

func newEncoder(stackOf func(id uint32) []event.Location, offset int64) *encoder {
	e := &encoder{stackOf: stackOf, texts: map[string]uint32{}, places: map[event.Location]uint32{}, sites: map[birthPlaces]uint32{}}
	e.reset(offset)
	return e
}

// reset begins a new block, at a wall clock that is so much later than CLOCK_MONOTONIC.
func (e *encoder) reset(offset int64) {
	for i := range e.sections {
		e.sections[i] = e.sections[i][:0]
	}
	e.sections[secClock] = binary.AppendVarint(e.sections[secClock], offset)
	clear(e.texts)
	clear(e.places)
	clear(e.sites)
	e.stacks.reset()
	e.shapes.reset()
	e.threads.reset()
	e.goroutines.reset()
	e.thread = e.thread[:0]
	e.label.reset()
	e.events, e.ticks, e.first, e.last = 0, 0, 0, 0
	e.time, e.goid, e.tickAt, e.tickTime, e.offset = 0, 0, 0, 0, offset
}

func (e *encoder) empty() bool { return e.events == 0 && e.ticks == 0 && e.label.events == 0 }

// full says whether the next event or tick belongs in another block.
func (e *encoder) full() bool {
	return e.events >= maxEvents || e.ticks >= maxEvents || len(e.texts) > maxTexts/2 || len(e.places) > maxTexts/2 ||
		len(e.sections[secTexts])+len(e.sections[secStacks]) > maxRaw/4 || e.label.full()
}

// spans widens the time range of the block.
func (e *encoder) spans(t int64) {
	if e.empty() {
		e.first, e.last = t, t
	}
	e.first, e.last = min(e.first, t), max(e.last, t)
}

func (e *encoder) uvarint(section int, v uint64) {
	if v < 0x80 {
		e.sections[section] = append(e.sections[section], byte(v))
		return
	}
	e.sections[section] = binary.AppendUvarint(e.sections[section], v)
}

func (e *encoder) varint(section int, v int64) { e.uvarint(section, uint64(v)<<1^uint64(v>>63)) }

// event adds an event of any kind but Labels.
func (e *encoder) event(ev *event.Event) {
	e.spans(ev.Time)
	number := e.threadOf(ev)
	th := &e.thread[number]
	s := shape{kind: ev.Kind, from: ev.From, to: ev.To, via: ev.Via}
	if ev.Fake {
		s.flags |= hasFake
	}
	if ev.P == event.NoP {
		s.flags |= hasNoP
	} else {
		e.varint(colP, int64(ev.P)-int64(th.p))
		th.p = ev.P
	}
	e.varint(colTime, ev.Time-e.time)
	e.uvarint(colThread, uint64(number))
	e.time = ev.Time
	g := e.goroutine(colGoroutine, ev.GoID, th)
	if ev.Waker != 0 {
		s.flags |= hasWaker
		e.goroutine(colWaker, ev.Waker, th)
	}
	if ev.Birth != nil {
		s.flags |= hasBirth
		e.uvarint(colSite, uint64(e.site(birthPlaces{ev.Birth.CreatedBy, ev.Birth.Start})))
		e.goroutine(colParent, ev.Birth.Parent, th)
	}
	if ev.Stack != 0 {
		s.flags |= hasStack
		e.uvarint(colStack, uint64(e.stack(ev.Stack)))
	}
	if ev.Since != 0 {
		s.flags |= hasSince
		e.varint(colSince, ev.Since-ev.Time)
	}
	if ev.Reason != "" {
		s.reason = e.text(ev.Reason) + 1
	}
	e.uvarint(colShape, uint64(e.shape(&s)))
	if runsNow(ev.Kind, ev.From, ev.To) {
		th.runs = g + 1
	}
	e.events++
}

func (e *encoder) threadOf(ev *event.Event) uint32 {
	if len(e.thread) > 0 {
		if t := &e.thread[e.current]; t.tid == ev.TID && t.pid == ev.PID && t.m == ev.M {
			return e.current
		}
	}
	key := threadKey{ev.PID, ev.TID, ev.M}
	n, ok := e.threads.find(key, uint64(ev.TID))
	if !ok {
		n = e.threads.add(key, uint64(ev.TID))
		e.thread = append(e.thread, thread{pid: ev.PID, tid: ev.TID, m: ev.M})
		e.uvarint(secThreads, uint64(ev.PID))
		e.uvarint(secThreads, uint64(ev.TID))
		e.varint(secThreads, ev.M)
	}
	e.current = n
	return n
}

// goroutine adds a goroutine to a column, and returns its number.
func (e *encoder) goroutine(column int, goid uint64, th *thread) uint32 {
	n, ok := e.goroutines.find(goid, goid)
	switch {
	case !ok:
		n = e.goroutines.add(goid, goid)
		e.varint(secGoroutines, int64(goid-e.goid))
		e.goid = goid
		e.uvarint(column, goroutineNew)
	case th.runs == n+1:
		e.uvarint(column, goroutineRuns)
	default:
		e.uvarint(column, uint64(n)+goroutineKnow)
	}
	return n
}

func (e *encoder) shape(s *shape) uint32 {
	key := s.key()
	slot := key * 0x9e3779b97f4a7c15 >> 56
	n, ok := e.shapes.find(key, slot)
	if !ok {
		n = e.shapes.add(key, slot)
		e.sections[secShapes] = append(e.sections[secShapes], byte(s.kind), byte(s.from), byte(s.to), byte(s.via), s.flags)
		e.uvarint(secShapes, uint64(s.reason))
	}
	return n
}

func (e *encoder) text(s string) uint32 {
	n, ok := e.texts[s]
	if !ok {
		n = uint32(len(e.texts))
		e.texts[s] = n
		e.sections[secTexts] = appendText(e.sections[secTexts], s)
	}
	return n
}

func (e *encoder) place(l event.Location) uint32 {
	n, ok := e.places[l]
	if !ok {
		function, file := e.text(l.Func), e.text(l.File)
		n = uint32(len(e.places))
		e.places[l] = n
		e.uvarint(secPlaces, uint64(function))
		e.uvarint(secPlaces, uint64(file))
		e.varint(secPlaces, int64(l.Line))
	}
	return n
}

func (e *encoder) site(b birthPlaces) uint32 {
	n, ok := e.sites[b]
	if !ok {
		var numbers [2]uint64
		for i, l := range []event.Location{b.createdBy, b.start} {
			if l != (event.Location{}) {
				numbers[i] = uint64(e.place(l)) + 1
			}
		}
		n = uint32(len(e.sites))
		e.sites[b] = n
		e.uvarint(secSites, numbers[0])
		e.uvarint(secSites, numbers[1])
	}
	return n
}

func (e *encoder) stack(id uint32) uint32 {
	n, ok := e.stacks.find(id, uint64(id))
	if !ok {
		frames := e.stackOf(id)
		n = e.stacks.add(id, uint64(id))
		e.uvarint(secStacks, uint64(id))
		e.uvarint(secStacks, uint64(len(frames)))
		for _, l := range frames {
			e.uvarint(secStacks, uint64(e.place(l)))
		}
	}
	return n
}

// tick adds a tick: how many events came since the one before, by how much its time and
// the wall clock's distance differ from those of the one before.
func (e *encoder) tick(now, offset int64) {
	e.spans(now)
	e.uvarint(secTicks, uint64(e.events-e.tickAt))
	e.varint(secTicks, now-e.tickTime)
	e.varint(secTicks, offset-e.offset)
	e.tickAt, e.tickTime, e.offset = e.events, now, offset
	e.ticks++
}

// payload appends the block.
func (e *encoder) payload(b []byte, totals *stream.Totals) []byte {
	e.sections[secTotals] = appendTotals(e.sections[secTotals][:0], totals)
	for kind, content := range e.sections {
		if len(content) > 0 {
			b = appendSection(b, uint64(kind), content)
		}
	}
	return b
}
