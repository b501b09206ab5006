package recording

import (
	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/stream"
)

// maxInterned bounds the bytes of texts that are kept from block to block. A program has
// some hundred KB of them; a file that has more costs time instead of memory.
const maxInterned = 64 << 20

// decoder takes one block of events after another apart.
type decoder struct {
	interned map[string]string
	size     int                       // bytes in interned
	numbers  map[event.Location]uint32 // of the places in stacks
	known    []event.Location          // places by that number
	stacks   map[uint32]*stack
	frames   int // in stacks

	sections   [sectionCount]cursor
	texts      []string
	places     []event.Location
	sites      []birthPlaces
	ids        []uint32 // of the stacks
	shapes     []shape
	reasons    []string // of the shapes
	threads    []thread
	births     []*event.Birth // the last of each site
	goroutines []uint64
	label      labelDecoder

	offset  int64 // wall minus monotonic when the block begins
	totals  stream.Totals
	came    int // goroutines that came so far
	time    int64
	event   event.Event // for the callback
	tickAt  int
	tickNow int64
}

// stack is one that was read. Its places are kept as numbers, and made when they are asked
// for: of the stacks of a long trace only few may be.
type stack struct {
	numbers []uint32
	places  []event.Location // nil until they are asked for
}

func newDecoder() *decoder {
	return &decoder{interned: map[string]string{}, numbers: map[event.Location]uint32{}, stacks: map[uint32]*stack{}}
}

// stack is the stack with this number, innermost frame first; nil if there is none.
func (d *decoder) stack(id uint32) []event.Location {
	s := d.stacks[id]
	if s == nil {
		return nil
	}
	if s.places == nil && len(s.numbers) > 0 {
		s.places = make([]event.Location, len(s.numbers))
		for i, n := range s.numbers {
			s.places[i] = d.known[n]
		}
	}
	return s.places
}

// open reads a block's tables. After an error nothing must be read of it.
func (d *decoder) open(payload []byte) error {
	d.sections = [sectionCount]cursor{}
	err := sections(payload, func(kind uint64, content []byte) {
		if kind < sectionCount {
			d.sections[kind] = cursor{b: content}
		}
	})
	if err != nil {
		return err
	}
	d.offset = d.sections[secClock].varint()
	d.totals = parseTotals(&d.sections[secTotals])
	d.readTexts()
	d.readPlaces()
	d.readSites()
	d.readStacks()
	d.readShapes()
	d.readThreads()
	d.readGoroutines()
	d.readLabels()
	for i := range secTicks {
		if d.sections[i].bad {
			return errMalformed
		}
	}
	if d.sections[secLabels].bad {
		return errMalformed
	}
	d.came, d.time, d.tickAt, d.tickNow = 0, 0, 0, 0
	return nil
}

// each calls read until the section is at its end or bad, and not more often than limit.
func (d *decoder) each(section, limit int, read func(c *cursor)) {
	c := &d.sections[section]
	for n := 0; len(c.b) > 0; n++ {
		if n == limit {
			c.fail()
			return
		}
		read(c)
	}
}

func (d *decoder) readTexts() {
	d.texts = d.texts[:0]
	d.each(secTexts, maxTexts, func(c *cursor) { d.texts = append(d.texts, d.intern(c.text())) })
}

// intern makes one string of all texts that are equal.
func (d *decoder) intern(b []byte) string {
	if s, ok := d.interned[string(b)]; ok {
		return s
	}
	s := string(b)
	if d.size += len(s) + 32; d.size <= maxInterned {
		d.interned[s] = s
	}
	return s
}

func (d *decoder) readPlaces() {
	d.places = d.places[:0]
	d.each(secPlaces, maxTexts, func(c *cursor) {
		function, file, line := c.index(len(d.texts)), c.index(len(d.texts)), c.varint()
		if !c.bad {
			d.places = append(d.places, event.Location{Func: d.texts[function], File: d.texts[file], Line: int(line)})
		}
	})
}

func (d *decoder) readSites() {
	d.sites, d.births = d.sites[:0], d.births[:0]
	place := func(c *cursor) event.Location {
		if n := c.index(len(d.places) + 1); n > 0 {
			return d.places[n-1]
		}
		return event.Location{}
	}
	d.each(secSites, maxEvents, func(c *cursor) {
		d.sites = append(d.sites, birthPlaces{place(c), place(c)})
		d.births = append(d.births, nil)
	})
}

// readStacks reads the stacks, and keeps those that no block before had.
func (d *decoder) readStacks() {
	d.ids = d.ids[:0]
	d.each(secStacks, maxEvents, func(c *cursor) {
		id := c.uint32()
		n := c.uvarint()
		_, known := d.stacks[id]
		if n > uint64(len(c.b)) || !known && (d.frames+int(n) > maxFrames || len(d.stacks) == maxStacks) {
			c.fail()
			return
		}
		s := &stack{}
		if !known {
			s.numbers = make([]uint32, 0, n)
			d.stacks[id] = s
			d.frames += int(n)
		}
		for range n {
			place := c.index(len(d.places))
			if c.bad {
				return
			}
			if !known {
				s.numbers = append(s.numbers, d.number(d.places[place]))
			}
		}
		d.ids = append(d.ids, id)
	})
}

// number is that of a place in known.
func (d *decoder) number(l event.Location) uint32 {
	n, ok := d.numbers[l]
	if !ok {
		n = uint32(len(d.known))
		d.numbers[l] = n
		d.known = append(d.known, l)
	}
	return n
}

func (d *decoder) readShapes() {
	d.shapes, d.reasons = d.shapes[:0], d.reasons[:0]
	d.each(secShapes, maxEvents, func(c *cursor) {
		s := shape{kind: event.Kind(c.byte()), from: goruntime.Status(c.byte()), to: goruntime.Status(c.byte()), via: event.Via(c.byte()), flags: c.byte()}
		reason := ""
		if n := c.index(len(d.texts) + 1); n > 0 {
			reason = d.texts[n-1]
		}
		if s.kind == event.Labels { // which have no shape
			c.fail()
		}
		d.shapes, d.reasons = append(d.shapes, s), append(d.reasons, reason)
	})
}

func (d *decoder) readThreads() {
	d.threads = d.threads[:0]
	d.each(secThreads, maxEvents, func(c *cursor) {
		d.threads = append(d.threads, thread{pid: c.uint32(), tid: c.uint32(), m: c.varint()})
	})
}

func (d *decoder) readGoroutines() {
	d.goroutines = d.goroutines[:0]
	goid := uint64(0)
	d.each(secGoroutines, 3*maxEvents, func(c *cursor) {
		goid += uint64(c.varint())
		d.goroutines = append(d.goroutines, goid)
	})
}

// next reads the next event; nil when the block is malformed. It is valid until the
// next call.
func (d *decoder) next() *event.Event {
	at := d.sections[colShape].index(len(d.shapes))
	number := d.sections[colThread].index(len(d.threads))
	if d.sections[colShape].bad || d.sections[colThread].bad {
		return nil
	}
	s, th, e := &d.shapes[at], &d.threads[number], &d.event
	d.time += d.sections[colTime].varint()
	e.Kind, e.Time, e.PID, e.TID, e.M = s.kind, d.time, th.pid, th.tid, th.m
	e.From, e.To, e.Via, e.Fake, e.Reason = s.from, s.to, s.via, s.flags&hasFake != 0, d.reasons[at]
	e.P, e.Waker, e.Since, e.Stack = event.NoP, 0, 0, 0
	if s.flags&hasNoP == 0 {
		th.p = int32(int64(th.p) + d.sections[colP].varint())
		e.P = th.p
	}
	g, ok := d.goroutine(colGoroutine, th)
	if !ok {
		return nil
	}
	e.GoID = d.goroutines[g]
	if s.flags&(hasWaker|hasBirth|hasStack|hasSince) != 0 {
		if !d.rare(e, s, th) {
			return nil
		}
	}
	if s.flags&hasBirth == 0 && e.Birth != nil {
		e.Birth = nil
	}
	if d.sections[colTime].bad || d.sections[colP].bad {
		return nil
	}
	if runsNow(e.Kind, e.From, e.To) {
		th.runs = uint32(g) + 1
	}
	return e
}

// rare reads the fields that few events have.
func (d *decoder) rare(e *event.Event, s *shape, th *thread) bool {
	if s.flags&hasWaker != 0 {
		n, ok := d.goroutine(colWaker, th)
		if !ok {
			return false
		}
		e.Waker = d.goroutines[n]
	}
	if s.flags&hasBirth != 0 {
		site := d.sections[colSite].index(len(d.sites))
		parent, ok := d.goroutine(colParent, th)
		if !ok || d.sections[colSite].bad {
			return false
		}
		e.Birth = d.birth(site, d.goroutines[parent])
	}
	if s.flags&hasStack != 0 {
		n := d.sections[colStack].index(len(d.ids))
		if d.sections[colStack].bad {
			return false
		}
		e.Stack = d.ids[n]
	}
	if s.flags&hasSince != 0 {
		e.Since = e.Time + d.sections[colSince].varint()
	}
	return !d.sections[colSince].bad
}

// birth makes a Birth, or returns the last one of the site when it is equal.
func (d *decoder) birth(site int, parent uint64) *event.Birth {
	if b := d.births[site]; b != nil && b.Parent == parent {
		return b
	}
	places := &d.sites[site]
	b := &event.Birth{Parent: parent, CreatedBy: places.createdBy, Start: places.start}
	d.births[site] = b
	return b
}

// goroutine reads a goroutine from a column: its number in the table.
func (d *decoder) goroutine(column int, th *thread) (int, bool) {
	c := &d.sections[column]
	code := c.uvarint()
	if c.bad {
		return 0, false
	}
	switch code {
	case goroutineRuns:
		return int(th.runs) - 1, th.runs > 0
	case goroutineNew:
		d.came++
		return d.came - 1, d.came <= len(d.goroutines)
	}
	return int(code - goroutineKnow), code-goroutineKnow < uint64(d.came)
}

// tick reads the next tick; ok is false when there is none. It comes after at events
// of the block; change is that of the wall clock's distance.
func (d *decoder) tick() (at int, now, change int64, ok bool) {
	c := &d.sections[secTicks]
	if len(c.b) == 0 {
		return 0, 0, 0, false
	}
	d.tickAt += c.index(maxEvents + 1)
	d.tickNow += c.varint()
	change = c.varint()
	return d.tickAt, d.tickNow, change, !c.bad
}

// whole says whether everything was read, and no column or list of ticks was too short.
func (d *decoder) whole() bool {
	for i := secTicks; i < sectionCount; i++ {
		if d.sections[i].bad || len(d.sections[i].b) > 0 {
			return false
		}
	}
	return true
}
