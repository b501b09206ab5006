package tui

import (
	"fmt"
	"strconv"
	"time"

	"gopherscope/internal/dump"
	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
)

// one is what a Sample has of a single goroutine, as lines.
type one struct {
	when  time.Time // of the Sample
	lines []string
}

// oneLines are the lines about a goroutine: what it is, its stack, what it did. One
// that has ended keeps what was last known of it.
func (m *Model) oneLines(l *level) []string {
	if m.sample == nil {
		return nil
	}
	var lines []string
	if i := find(m.sample.Dump, l.goid); i >= 0 {
		if l.seen == nil || l.seen.when != m.sample.Dump.Time {
			l.seen = &one{when: m.sample.Dump.Time, lines: m.goroutine(i)}
		}
	} else if l.seen != nil {
		gone := "it has ended"
		if m.tape != nil {
			gone = "it is not there at this time"
		}
		lines = append(lines, gone+"; this was seen at "+m.clock(l.seen.when))
	}
	if l.seen != nil {
		lines = append(lines, l.seen.lines...)
	}
	lines = append(lines, "")
	switch r := m.rates(); {
	case r != nil && r.Watched == l.goid:
		return append(lines, m.transitions(r)...)
	case m.tape != nil:
		return append(lines, "reading its transitions "+m.glyphs.ellipsis)
	}
	return append(lines, m.stays(l.goid)...)
}

func (m *Model) clock(t time.Time) string { return t.In(m.opts.Location).Format(time.TimeOnly) }

// goroutine are the lines about a goroutine of the Sample: its state and its stack.
func (m *Model) goroutine(i int) []string {
	d := m.sample.Dump
	g := &d.Goroutines[i]
	gr := newGrouper(m.sample, byGoroutine, m.ran, m.rates(), m.opts.All, m.glyphs)
	state := g.Status.Name()
	if reason := d.ReasonOf(g); reason != "" {
		state += " (" + m.glyphs.safe(reason) + ")"
	}
	if w := d.WaitedFor(g); w > 0 {
		state += " for about " + duration(w)
	}
	if g.Has(dump.Locked) {
		state += ", locked to thread"
	}
	if g.TID != 0 {
		state += ", thread " + strconv.Itoa(int(g.TID))
	}
	lines := []string{state}
	if site := d.Creator(g, m.opts.All); site != nil {
		line := "created by " + gr.place(site.Func, site.File, int(site.Line))
		if g.Parent != 0 {
			line += " in goroutine " + strconv.FormatUint(g.Parent, 10)
		}
		lines = append(lines, line)
	}
	lines = append(lines, "starts at "+m.glyphs.safe(d.Sites[g.Start].Func))
	if g.Labels != 0 {
		lines = append(lines, "labels "+gr.labels(g))
	}
	lines = append(lines, "")
	return append(lines, m.stack(gr, i)...)
}

// stack are the lines of a goroutine's stack, innermost function first.
func (m *Model) stack(gr *grouper, i int) []string {
	s := m.sample
	id := gr.stacks[i]
	if id == 0 {
		return []string{"stack: " + gr.noStack(&s.Dump.Goroutines[i])}
	}
	head := "stack"
	switch {
	case s.Stacks == s.Dump:
	case gr.current[i]:
		head += ", the same since " + m.clock(s.Stacks.Time)
	default:
		head += ", as it was " + duration(m.stackAge()) + " before this; it may have run since"
	}
	lines := []string{head}
	for _, f := range s.Stacks.Frames(id, m.opts.All) {
		lines = append(lines, "  "+gr.place(f.Func, f.File, int(f.Line)))
	}
	if s.Stacks.Stacks[id].Cut {
		lines = append(lines, "  ... it goes on")
	}
	return lines
}

// stays are the lines about what a goroutine was seen doing, the newest first.
func (m *Model) stays(id uint64) []string {
	lines := []string{fmt.Sprintf("seen in the last %s", plural(len(m.history.samples), "sample"))}
	for _, s := range m.history.of(id) {
		line := "  " + m.clock(s.from)
		if s.samples > 1 {
			line += " to " + m.clock(s.to)
		} else {
			line += "            "
		}
		line += fmt.Sprintf("  %4d  ", s.samples)
		switch {
		case s.absent:
			line += "not there"
		case s.reason != "":
			line += s.status.Name() + " (" + m.glyphs.safe(s.reason) + ")"
		default:
			line += s.status.Name()
		}
		if s.ran {
			line += ", with runs in between"
		}
		lines = append(lines, line)
	}
	return lines
}

// transitions are the lines about the changes of the goroutine that is watched, the
// newest first.
func (m *Model) transitions(r *Rates) []string {
	lines := []string{fmt.Sprintf("its last transitions, by %s", m.glyphs.safe(r.Engine))}
	switch {
	case len(r.History) == 0 && m.tape != nil:
		return append(lines, "  none up to here")
	case len(r.History) == 0:
		return append(lines, "  none since it is watched")
	}
	for i := len(r.History) - 1; i >= 0; i-- {
		t := &r.History[i]
		line := "  " + t.Wall.In(m.opts.Location).Format("15:04:05.000000") + "  " + left(t.From.Name(), 8)
		spent := "-"
		if t.For > 0 {
			spent = duration(t.For)
			if t.AtLeast {
				spent = ">" + spent
			}
		}
		line += " for " + left(spent, 7) + " -> " + left(t.To.Name(), 8)
		if t.P != event.NoP {
			line += " P" + strconv.Itoa(int(t.P))
		}
		if t.To == goruntime.Waiting && t.Reason != "" {
			line += " (" + m.glyphs.safe(t.Reason) + ")"
		}
		line += " " + t.Via.String()
		if t.Waker != 0 {
			line += " by goroutine " + strconv.FormatUint(t.Waker, 10)
		}
		lines = append(lines, line)
	}
	return lines
}
