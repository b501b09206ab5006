package gotrace

import (
	"gopherscope/internal/event"
	"gopherscope/internal/gstate"
)

// untraced is the reason of a wait that is none: a gap in the trace. The format has no
// word for not knowing.
const untraced = "not traced"

// gap lets every goroutine that did something when the trace paused wait for the end of the
// pause. Each is brought on by its first event after that. A goroutine that waited still
// does.
func (w *Writer) gap(e *event.Event) {
	w.gapped = true
	begin := w.clock(e.Since)
	group, all := uint64(0), e.PID == 0
	if !all {
		group = w.group(e.PID)
	}
	for _, m := range w.sortedThreads() {
		w.settle(m, nil)
	}
	list := w.sortedGoroutines()
	for _, g := range list {
		if g.status == goRunning && (all || g.group == group) {
			w.endMarking(g.m, begin) // or it ends in the gap
			break
		}
	}
	for _, g := range list {
		if all || g.group == group {
			w.pause(g, begin)
		}
	}
	w.clock(e.Time)
}

// pause is the gap of one goroutine.
func (w *Writer) pause(g *goroutine, t int64) {
	if g.status == 0 {
		w.tellLate(g)
	}
	if g.gaps++; g.gaps >= gstate.MaxGaps {
		w.vanish(g, t)
		return
	}
	if g.status == goWaiting {
		return
	}
	m := g.m
	if g.status != goRunning {
		m = w.spare(g.group, t)
		w.run(g, m, nil, g.group, t)
	}
	w.block(m, w.str(untraced), w.startOf(g), t)
	w.rest(m)
}

// census ends the goroutines that ended in a gap.
func (w *Writer) census(e *event.Event) {
	group, t := w.group(e.PID), w.clock(e.Time)
	for _, g := range w.sortedGoroutines() {
		if g.group == group && g.gaps > 0 {
			w.vanish(g, t)
		}
	}
}

// vanish ends a goroutine that waits and ended when nothing was traced.
func (w *Writer) vanish(g *goroutine, t int64) {
	m := w.spare(g.group, t)
	w.run(g, m, nil, g.group, t)
	w.destroy(m, t)
	w.rest(m)
}
