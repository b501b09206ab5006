package recording

import (
	"encoding/binary"

	"gopherscope/internal/event"
)

// Events of kind Labels are no rows of the columns: a reader of format 1.1 would refuse a
// kind that it does not know, but skips sections. So they are in sections of their own
// and say where in the block they belong, as ticks do; and they do not count as
// events in headers and in the index.

// labelEncoder collects the labels of a block.
type labelEncoder struct {
	sets   map[*event.LabelSet]uint32
	pairs  int // in the sets
	events int

	at, ticks int    // events and ticks before the last
	time      int64  // of the last
	goid      uint64 // of the last
}

func (l *labelEncoder) reset() {
	clear(l.sets)
	*l = labelEncoder{sets: l.sets}
}

// full says whether what follows belongs in another block.
func (l *labelEncoder) full() bool { return l.events >= maxEvents || l.pairs > maxTexts/2 }

// labels adds an event of kind Labels: the events and the ticks since the one before, the
// difference to its time, the process, the difference to its goroutine, and the number of the set.
func (e *encoder) labels(ev *event.Event) {
	e.spans(ev.Time)
	l := &e.label
	set := e.labelSet(ev.Labels)
	e.uvarint(colLabels, uint64(e.events-l.at))
	e.uvarint(colLabels, uint64(e.ticks-l.ticks))
	e.varint(colLabels, ev.Time-l.time)
	e.uvarint(colLabels, uint64(ev.PID))
	e.varint(colLabels, int64(ev.GoID-l.goid))
	e.uvarint(colLabels, uint64(set))
	l.at, l.ticks, l.time, l.goid = e.events, e.ticks, ev.Time, ev.GoID
	l.events++
}

func (e *encoder) labelSet(s *event.LabelSet) uint32 {
	l := &e.label
	n, ok := l.sets[s]
	if ok {
		return n
	}
	if l.sets == nil {
		l.sets = map[*event.LabelSet]uint32{}
	}
	n = uint32(len(l.sets))
	l.sets[s] = n
	l.pairs += len(s.Labels)
	e.sections[secLabels] = binary.AppendUvarint(e.sections[secLabels], uint64(len(s.Labels)))
	for _, one := range s.Labels {
		key, value := e.text(one.Key), e.text(one.Value)
		e.uvarint(secLabels, uint64(key))
		e.uvarint(secLabels, uint64(value))
	}
	return n
}

// labelDecoder reads the labels of a block.
type labelDecoder struct {
	sets []*event.LabelSet

	more      bool
	at, ticks int         // events and ticks before the next
	next      event.Event // the next, if there is one
}

func (d *decoder) readLabels() {
	d.label = labelDecoder{sets: d.label.sets[:0]}
	pairs := 0
	d.each(secLabels, maxEvents, func(c *cursor) {
		n := c.uvarint()
		if pairs += int(min(n, maxTexts+1)); pairs > maxTexts || n > uint64(len(c.b))/2 {
			c.fail()
			return
		}
		s := &event.LabelSet{}
		for range n {
			key, value := c.index(len(d.texts)), c.index(len(d.texts))
			if c.bad {
				return
			}
			s.Labels = append(s.Labels, event.Label{Key: d.texts[key], Value: d.texts[value]})
		}
		d.label.sets = append(d.label.sets, s)
	})
	d.nextLabels()
}

// nextLabels reads the next event of kind Labels, if there is one.
func (d *decoder) nextLabels() {
	c, l := &d.sections[colLabels], &d.label
	if l.more = len(c.b) > 0; !l.more {
		return
	}
	l.at += c.index(maxEvents + 1)
	l.ticks += c.index(maxEvents + 1)
	l.next.Kind = event.Labels
	l.next.Time += c.varint()
	l.next.PID = c.uint32()
	l.next.GoID += uint64(c.varint())
	set := c.index(len(l.sets))
	if l.more = !c.bad; l.more {
		l.next.Labels = l.sets[set]
	}
}

// labels passes on the labels that come after so many events and ticks of the block.
func (r *Reader) labels(at, ticks int, emit func(*event.Event) error) error {
	for l := &r.dec.label; l.more && l.at == at && l.ticks == ticks; r.dec.nextLabels() {
		r.last = max(r.last, l.next.Time)
		e := l.next
		if err := emit(&e); err != nil {
			return err
		}
	}
	return nil
}
