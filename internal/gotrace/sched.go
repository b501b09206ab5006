package gotrace

// This file has the events of the format that change the state, each with what must be so
// before and what is so after it, and what makes it so.

// tellProc tells the status of a P: on its thread, if it has one.
func (w *Writer) tellProc(p *proc, on *thread, t int64) {
	w.emitP(on, p, t, evProcStatus, p.id, p.status)
	p.seq, p.told = 0, w.gen
}

// goStatus tells the status of a goroutine: on its thread, if it has one.
func (w *Writer) goStatus(g *goroutine, on *thread, t int64) {
	w.emitG(on, g, t, evGoStatusStack, g.id, on.id, g.status, w.startOf(g))
	g.seq = 0
}

// acquire makes p the P of a thread whose goroutine, if any, is not running; of a thread
// that has one that is as good as any other when p is nil.
func (w *Writer) acquire(m *thread, p *proc, group uint64, t int64) {
	if p == nil {
		if m.p != nil && m.p.group == group {
			return
		}
		p = w.freeProc(group)
	}
	if m.p == p {
		return
	}
	if m.p != nil {
		w.procStop(m, t)
	}
	if p.told == 0 {
		w.tellProc(p, m, t)
	}
	if p.m != nil {
		w.take(p, m, t)
	}
	p.seq++
	w.emitP(m, p, t, evProcStart, p.id, p.seq)
	p.m, p.status, m.p = m, procRunning, p
}

// take takes a P from the thread that holds it, for the thread m.
func (w *Writer) take(p *proc, m *thread, t int64) {
	from := p.m
	if from.parting.time != 0 {
		w.settle(from, nil)
	}
	switch {
	case from.g == nil:
		w.rest(from)
	case from.leaving != 0:
		// The system call was over: so the P was gone by then.
		w.procStop(from, from.leaving)
	case from.g.status == goSyscall:
		p.seq++
		w.emitP(m, p, t, evProcSteal, p.id, p.seq, from.id)
		from.last = max(from.last, p.last+1)
		from.p, p.m, p.status = nil, nil, procIdle
	default:
		w.evict(from, t)
		w.procStop(from, t)
	}
}

// procStop takes the P from its own thread.
func (w *Writer) procStop(m *thread, t int64) {
	w.emitP(m, m.p, t, evProcStop)
	m.p.m, m.p.status, m.p = nil, procIdle, nil
}

// rest gives up the P of a thread without a goroutine, at the time of its latest event.
func (w *Writer) rest(m *thread) {
	if m.g == nil && m.p != nil {
		w.procStop(m, m.last)
	}
}

// start runs a runnable goroutine on a thread with a P and no goroutine.
func (w *Writer) start(m *thread, g *goroutine, t int64) {
	g.seq++
	w.emitG(m, g, t, evGoStart, g.id, g.seq)
	w.bind(m, g, t)
}

func (w *Writer) bind(m *thread, g *goroutine, t int64) {
	g.status, g.m, m.g = goRunning, m, g
	w.tellRest(m, t)
}

// leave ends the stay of a running goroutine on its thread.
func (w *Writer) leave(m *thread, status uint64) {
	m.g.status, m.g.m, m.g = status, nil, nil
}

// stop makes a running goroutine runnable.
func (w *Writer) stop(m *thread, reason string, stack uint64, t int64) {
	w.endRanges(m.g, t)
	w.emitG(m, m.g, t, evGoStop, w.str(reason), stack)
	w.leave(m, goRunnable)
}

// block makes a running goroutine wait.
func (w *Writer) block(m *thread, reason, stack uint64, t int64) {
	w.endRanges(m.g, t)
	w.emitG(m, m.g, t, evGoBlock, reason, stack)
	w.leave(m, goWaiting)
}

// destroy ends a running goroutine.
func (w *Writer) destroy(m *thread, t int64) {
	w.endRanges(m.g, t)
	w.emitG(m, m.g, t, evGoDestroy)
	w.forget(m.g)
}

// destroySyscall ends a goroutine that is in a system call. Readers would take the P for
// abandoned (internal/trace/order.go advanceGoDestroySyscall), so it is given up before.
func (w *Writer) destroySyscall(m *thread, t int64) {
	if m.p != nil {
		w.procStop(m, t)
	}
	w.emitG(m, m.g, t, evGoDestroySyscall)
	w.forget(m.g)
}

// forget drops a goroutine.
func (w *Writer) forget(g *goroutine) {
	w.ended = max(w.ended, g.last)
	if g.m != nil {
		g.m.g, g.m = nil, nil
	}
	delete(w.goroutines, g.id)
}

// unblock makes a waiting goroutine runnable. The thread's goroutine, if any, is who did it.
func (w *Writer) unblock(m *thread, g *goroutine, t int64) {
	g.seq++
	w.emitG(m, g, t, evGoUnblock, g.id, g.seq, 0)
	g.status = goRunnable
}

// syscallBegin brings a running goroutine into a system call; its thread keeps the P until
// it is taken.
func (w *Writer) syscallBegin(m *thread, stack uint64, t int64) {
	w.endRanges(m.g, t)
	m.p.seq++
	w.emitG(m, m.g, t, evGoSyscallBegin, m.p.seq, stack)
	m.p.last = m.last
	m.g.status, m.p.status = goSyscall, procSyscall
}

// syscallEnd ends a system call during which the P was not taken.
func (w *Writer) syscallEnd(m *thread, t int64) {
	w.emitG(m, m.g, t, evGoSyscallEnd)
	m.p.last = m.last
	m.g.status, m.p.status = goRunning, procRunning
	w.tellRest(m, t)
}

// syscallEndBlocked ends a system call during which the P was taken: the goroutine is
// runnable.
func (w *Writer) syscallEndBlocked(m *thread, t int64) {
	if m.p != nil {
		w.procStop(m, t)
	}
	w.emitG(m, m.g, t, evGoSyscallEndBlocked)
	w.leave(m, goRunnable)
	m.leaving = 0
}

// evict takes a thread's goroutine from it, for another that must be there by what an event
// says: the event by which it left was lost.
func (w *Writer) evict(m *thread, t int64) {
	w.settle(m, nil)
	switch {
	case m.g == nil:
	case m.g.status == goSyscall:
		w.syscallEndBlocked(m, t)
	default:
		w.stop(m, lost, 0, t)
	}
}

// run brings a goroutine, in whatever state it is, to run on a thread with the P p; with
// any P if that is nil.
func (w *Writer) run(g *goroutine, m *thread, p *proc, group uint64, t int64) {
	if g.m == m && g.status == goSyscall && m.p != nil && (p == nil || p == m.p) {
		w.syscallEnd(m, t)
	}
	if g.m == m && g.status == goRunning && (p == nil || p == m.p) {
		return
	}
	if g.m != nil {
		w.evict(g.m, t)
	}
	w.evict(m, t)
	if g.status == goWaiting {
		w.unblock(m, g, t)
	}
	if m.p != nil && (p == nil || m.p == p) && t-m.last > idleAfter {
		p = m.p
		w.rest(m)
	}
	w.acquire(m, p, group, t)
	w.start(m, g, t)
}

// idleAfter is how long a thread that has no goroutine may go on to hold its P: a little
// longer than the scheduler usually looks for another goroutine. When it was longer, the
// P was idle.
const idleAfter = 50e3 // nanoseconds

// spare is a thread that is no real one, with a P and without a goroutine, for what nobody
// can be said to have done. It must be given to rest after use.
func (w *Writer) spare(group uint64, t int64) *thread {
	m := w.thread(invented + group)
	w.evict(m, t)
	w.acquire(m, nil, group, t)
	return m
}
