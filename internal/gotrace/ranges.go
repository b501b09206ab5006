package gotrace

// This file has the ranges of the format: what a goroutine does while it runs.

// beginRange begins what a fake wait tells of. The goroutine runs.
func (w *Writer) beginRange(a *at) {
	w.endRanges(a.g, a.t)
	switch a.Reason {
	case markWorker:
		if !w.gc {
			w.emitGC(a.m, a.t, evGCBegin, w.gcSeq, 0)
			w.gcSeq++
			w.gc, w.gcTold = true, true
		}
	case markAssist:
		w.emit(a.m, a.t, evGCMarkAssistBegin, w.stackOf(a.g, a.Stack))
		a.g.assist = true
	case markTermination:
		w.endMarking(a.m, a.t)
	}
	if kind, ok := stwKinds[a.Reason]; ok {
		w.emit(a.m, a.t, evSTWBegin, w.str(kind), w.stackOf(a.g, a.Stack))
		a.g.stw = true
		w.stw++
	}
}

// endMarking ends the garbage collector's mark phase, if it is in one.
func (w *Writer) endMarking(m *thread, t int64) {
	if w.gc {
		w.emitGC(m, t, evGCEnd, w.gcSeq)
		w.gcSeq++
		w.gc = false
	}
}

// endRanges ends the ranges of a goroutine that runs.
func (w *Writer) endRanges(g *goroutine, t int64) {
	if g.assist {
		w.emit(g.m, t, evGCMarkAssistEnd)
		g.assist = false
	}
	if g.stw {
		w.emit(g.m, t, evSTWEnd)
		g.stw = false
		w.stw--
	}
}
