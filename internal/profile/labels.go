package profile

import (
	"strconv"
	"time"

	"gopherscope/internal/event"
)

// Bounds on the sets of pprof labels that are told apart: a program can make a new one for each request.
const (
	maxLabelSets  = 1 << 16
	maxLabelBytes = 64 << 20
)

// labelSets numbers sets of labels from 1 on; 0 is one that is not known.
type labelSets struct {
	recent map[*event.LabelSet]uint32 // of those that come again and again
	ids    map[string]uint32          // by content
	sets   []*event.LabelSet
	size   int // bytes in ids
	full   bool
}

// maxRecent bounds what is remembered of pointers.
const maxRecent = 1 << 12

// id is the number of a set; 0 if there are too many.
func (l *labelSets) id(s *event.LabelSet) uint32 {
	if n, ok := l.recent[s]; ok {
		return n
	}
	var b []byte
	for _, one := range s.Labels {
		b = strconv.AppendQuote(b, one.Key)
		b = strconv.AppendQuote(b, one.Value)
	}
	n, ok := l.ids[string(b)]
	if !ok {
		if len(l.sets) >= maxLabelSets || l.size+len(b) > maxLabelBytes {
			l.full = true
			return 0
		}
		if l.ids == nil {
			l.ids = map[string]uint32{}
		}
		l.size += len(b)
		l.sets = append(l.sets, s)
		n = uint32(len(l.sets))
		l.ids[string(b)] = n
	}
	if l.recent == nil || len(l.recent) >= maxRecent {
		l.recent = map[*event.LabelSet]uint32{}
	}
	l.recent[s] = n
	return n
}

// of is the labels of a number.
func (l *labelSets) of(id uint32) []event.Label {
	if id == 0 {
		return nil
	}
	return l.sets[id-1].Labels
}

// label takes the labels of a goroutine that waits. They are those of the whole wait, which
// is so far in the sample of those that are not known.
func (c *Collector) label(e *event.Event) {
	g := c.process(e).live.Get(e.GoID)
	if g == nil || g.class != blocked && g.class != syscall {
		return
	}
	g.label = c.labels.id(e.Labels)
	if g.open != nil {
		k := g.open.key
		k.label = g.label
		g.open = c.sample(k)
	}
}

// add counts the time of a sample.
func (l *Labelled) add(k key, s *sample) {
	switch k.class {
	case blocked, syscall, runnable:
		l.Of += time.Duration(s.delay)
		if k.label != 0 {
			l.Known += time.Duration(s.delay)
		}
	}
}
