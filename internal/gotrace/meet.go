package gotrace

import (
	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
)

// This file has how goroutines come into the trace and how processes go.

// add makes a goroutine that readers are about to be told of.
func (w *Writer) add(id, group uint64) *goroutine {
	g := &goroutine{id: id, group: group}
	w.goroutines[id] = g
	return g
}

// snapshot takes a goroutine that was there when the trace began. On which thread one is
// that runs or is in a system call, only its first change tells: it is told then. Readers
// take a first status of the first generation for one since the beginning. So of what is read after a gap
// those who wait are created then, as they may do so for ever, and others come in with their
// first change.
func (w *Writer) snapshot(e *event.Event) {
	group := w.group(e.PID)
	id := goid(group, e.GoID)
	s := status(e.To, e.Fake)
	if g := w.goroutines[id]; g != nil {
		g.gaps = 0
		return
	}
	late := w.gen > 1 || w.gapped
	if s == 0 || late && s != goWaiting {
		return
	}
	g := w.add(id, group)
	g.birth = e.Birth
	g.last = w.ended // another of this number can have ended
	if late {
		w.find(&at{Event: e, g: g, t: w.clock(e.Time), group: group}, s)
		return
	}
	w.size += statusShare * statusSize
	if s == goRunning || s == goSyscall {
		g.there = s
		w.untold++
		return
	}
	g.status = s
	w.goStatus(g, w.thread(noThread), w.genStart)
}

// tellLate tells of a goroutine that has run or has been in a system call since the
// beginning of the trace, and had no change by the end of the first generation: on a thread
// of its own, for nothing is known of the real one.
func (w *Writer) tellLate(g *goroutine) {
	if g.status != 0 {
		return
	}
	w.untold--
	w.unplaced++
	w.tellThere(g, w.thread(2*invented+w.unplaced), nil, g.there, g.group, w.now)
}

// tellThere tells of a goroutine for the first time, in the first generation, that it is in
// a state in which it has a thread.
func (w *Writer) tellThere(g *goroutine, m *thread, p *proc, s, group uint64, t int64) {
	w.evict(m, t)
	if m.last == 0 {
		t = w.genStart
	}
	g.status = s
	if s == goSyscall {
		if m.p != nil {
			w.procStop(m, t)
		}
		w.goStatus(g, m, t)
		g.m, m.g = m, g
		return
	}
	if p == nil {
		p = w.freeProc(group)
	}
	if p.told == 0 && m.p == nil {
		p.status, p.m, m.p = procRunning, m, p
		w.tellProc(p, m, t)
	} else {
		w.acquire(m, p, group, t)
	}
	w.goStatus(g, m, t)
	w.bind(m, g, t)
}

// meet brings the goroutine of an event, which readers were not told of, into the trace:
// by its creation, or in the state that the event leaves. It returns false if there is
// nothing to tell.
func (w *Writer) meet(a *at, id uint64, birth *event.Birth) bool {
	from, to := status(a.From, false), status(a.To, a.Fake)
	if a.g != nil {
		w.untold--
		if a.g.there == goRunning && a.From == goruntime.Waiting && a.To == goruntime.Running {
			from = goRunning // a fake wait ends
		}
	}
	if from == 0 && to == 0 {
		delete(w.goroutines, id)
		return false // an extra M gets its goroutine
	}
	if a.g == nil {
		a.g = w.add(id, a.group)
		a.g.last = w.ended // another of this number can have ended
	}
	if birth != nil {
		a.g.birth = birth
	}
	switch {
	case a.Birth != nil:
		w.create(a, to == goWaiting)
	case from == 0 && to == goSyscall:
		w.evict(a.m, a.t)
		w.rest(a.m) // its thread has no P
		w.emitG(a.m, a.g, a.t, evGoCreateSyscall, id)
		a.g.status, a.g.m, a.m.g = goSyscall, a.m, a.g
	case w.gen > 1 || from == 0:
		w.find(a, to)
	case from == goRunning || from == goSyscall:
		w.tellThere(a.g, a.m, a.p, from, a.group, a.t)
	default:
		a.g.status = from
		w.goStatus(a.g, w.thread(noThread), a.t)
	}
	return true
}

// create creates a goroutine by the one that runs on the event's thread.
func (w *Writer) create(a *at, blocked bool) {
	w.waker(a)
	m := a.m
	if m.g != nil && m.g.status != goRunning {
		w.evict(m, a.t)
	}
	if m.g == nil {
		w.acquire(m, a.p, a.group, a.t)
	}
	number := byte(evGoCreate)
	a.g.status = goRunnable
	if blocked {
		number, a.g.status = evGoCreateBlocked, goWaiting
	}
	stack := w.taken(a.Stack)
	if stack == 0 {
		stack = w.place(a.Birth.CreatedBy)
	}
	w.emitG(m, a.g, a.t, number, a.g.id, w.startOf(a.g), stack)
}

// find lets a goroutine appear of which nothing was heard before, after the first
// generation: it is created, by nobody.
func (w *Writer) find(a *at, to uint64) {
	m := w.spare(a.group, a.t)
	number := byte(evGoCreate)
	a.g.status = goRunnable
	if to == goWaiting || status(a.From, false) == goWaiting {
		number, a.g.status = evGoCreateBlocked, goWaiting
	}
	w.emitG(m, a.g, a.t, number, a.g.id, w.startOf(a.g), 0)
	w.rest(m)
}

// endProcess ends all goroutines of a process that ends or executes another program: those
// that have a thread. Of the others readers do not hear again.
func (w *Writer) endProcess(e *event.Event) {
	t := w.clock(e.Time)
	group := w.group(e.PID)
	for _, g := range w.sortedGoroutines() {
		if g.group != group {
			continue
		}
		if m := g.m; m != nil {
			w.settle(m, nil)
		}
		switch {
		case w.goroutines[g.id] != g:
		case g.status == 0:
			w.untold--
			delete(w.goroutines, g.id)
		case g.status == goRunning:
			w.destroy(g.m, t)
		case g.status == goSyscall:
			w.destroySyscall(g.m, t)
		default:
			delete(w.goroutines, g.id)
		}
	}
	for _, p := range w.procs {
		if p.group == group && p.m != nil {
			w.rest(p.m)
		}
	}
	delete(w.groups, e.PID)
}
