package gotrace

import (
	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gstate"
)

// status is how a reader calls a status of the runtime; 0 if it does not exist there. A
// fake wait is none.
func status(s goruntime.Status, fake bool) uint64 {
	switch s {
	case goruntime.Runnable:
		return goRunnable
	case goruntime.Running, goruntime.CopyStack:
		return goRunning
	case goruntime.Syscall:
		return goSyscall
	case goruntime.Waiting:
		if fake {
			return goRunning
		}
		return goWaiting
	case goruntime.Preempted, goruntime.Leaked:
		return goWaiting
	}
	return 0
}

// at is an event being translated.
type at struct {
	*event.Event
	t     int64 // its time in the trace
	m     *thread
	g     *goroutine
	p     *proc // nil if none
	group uint64
}

// transition translates a change of status.
func (w *Writer) transition(e *event.Event, c *gstate.Change) {
	group := w.group(e.PID)
	id := goid(group, e.GoID)
	a := at{Event: e, t: w.clock(e.Time), m: w.thread(uint64(e.TID)), g: w.goroutines[id], p: w.proc(e), group: group}
	if w.settle(a.m, &a) {
		return
	}
	if a.g != nil && a.g.m != nil {
		w.settle(a.g.m, nil)
	}
	a.g = w.goroutines[id] // what was settled can be its end
	if a.g == nil || a.g.status == 0 {
		if !w.meet(&a, id, c.Birth) {
			return
		}
	}
	if a.g.birth == nil && c.Birth != nil {
		a.g.birth = c.Birth
		a.g.startGen = 0
	}
	a.g.gaps = 0
	switch to := status(e.To, e.Fake); to {
	case goRunnable:
		w.toRunnable(&a)
	case goRunning:
		w.toRunning(&a)
	case goSyscall:
		w.toSyscall(&a)
	case goWaiting:
		w.toWaiting(&a)
	default:
		w.toDead(&a)
	}
}

// settle writes what has happened to a thread's goroutine, now that the thread's next event
// is there; a is nil if it is the end of a generation or another thread's event. It
// returns true if a is thereby written too.
func (w *Writer) settle(m *thread, a *at) bool {
	switch {
	case m.leaving != 0:
		return w.settleSyscall(m, a)
	case m.parting.time != 0:
		return w.settleParting(m, a)
	case m.coming.g != nil:
		return w.settleComing(m, a)
	}
	return false
}

// settleSyscall writes the end of a system call. Only the thread's next event tells whether
// it still had its P, or which other.
func (w *Writer) settleSyscall(m *thread, a *at) bool {
	g, t := m.g, m.leaving
	var p *proc
	var group uint64
	if a != nil {
		p, group = a.p, a.group
		if a.g == g && a.Via == event.ViaNoP && a.To == goruntime.Runnable {
			w.syscallEndBlocked(m, t)
			return true
		}
	} else {
		group = g.group
	}
	m.leaving = 0
	if m.p != nil && (p == nil || p == m.p) {
		w.syscallEnd(m, t)
		return false
	}
	w.syscallEndBlocked(m, t)
	w.acquire(m, p, group, t)
	w.start(m, g, t)
	return false
}

// settleParting writes the end of a goroutine's stay on a thread: a switch if another one
// comes there next by a switch.
func (w *Writer) settleParting(m *thread, a *at) bool {
	leaves := m.parting
	m.parting = parting{}
	if a != nil && a.Via == event.ViaCoroutine && a.To == goruntime.Running &&
		a.g != nil && a.g != m.g && a.g.status == goWaiting && (a.p == nil || a.p == m.p) {
		w.switchTo(m, a.g, a.t, leaves.destroy)
		return true
	}
	if leaves.destroy {
		w.destroy(m, leaves.time)
	} else {
		w.block(m, leaves.reason, leaves.stack, leaves.time)
	}
	return false
}

// settleComing writes a switch that the next event of the thread says was the last act of
// its goroutine. If it does not, the event by which that one left was lost.
func (w *Writer) settleComing(m *thread, a *at) bool {
	next, t := m.coming.g, m.coming.time
	m.coming = coming{}
	if w.goroutines[next.id] != next {
		return false
	}
	if a != nil && a.g == m.g && status(a.To, false) == 0 && next.status == goWaiting {
		w.switchTo(m, next, t, true)
		return true
	}
	w.run(next, m, nil, next.group, t)
	return false
}

// switchTo lets a waiting goroutine take the place of the thread's, which then waits or is
// no more.
func (w *Writer) switchTo(m *thread, next *goroutine, t int64, destroy bool) {
	number := byte(evGoSwitch)
	if destroy {
		number = evGoSwitchDestroy
	}
	w.endRanges(m.g, t)
	next.seq++
	w.emitG(m, next, t, number, next.id, next.seq)
	m.g.last = m.last
	if destroy {
		w.forget(m.g)
	} else {
		w.leave(m, goWaiting)
	}
	w.bind(m, next, t)
}

func (w *Writer) toRunnable(a *at) {
	switch a.g.status {
	case goRunning:
		reason := lost
		switch a.Via {
		case event.ViaYield:
			reason = "runtime.Gosched"
		case event.ViaPreempt, event.ViaSuspend:
			reason = "preempted"
		default:
			if a.From == goruntime.Running && a.g.m == a.m {
				reason = "unspecified"
			}
		}
		w.stop(a.g.m, reason, w.stackOf(a.g, a.Stack), a.t)
	case goSyscall:
		w.syscallEndBlocked(a.g.m, a.t)
	case goWaiting:
		w.waker(a)
		w.unblock(a.m, a.g, a.t)
	}
}

// waker makes sure that who wakes or creates a goroutine runs on the thread that does it.
func (w *Writer) waker(a *at) {
	by := a.Waker
	if a.Birth != nil {
		by = a.Birth.Parent
	}
	g := w.goroutines[goid(a.group, by)]
	if by == 0 || g == nil || g == a.g || g.m == a.m {
		return
	}
	if g.m != nil {
		w.settle(g.m, nil) // which can be its end
	}
	if g.status != 0 && w.goroutines[g.id] == g {
		w.run(g, a.m, a.p, a.group, a.t)
	}
}

func (w *Writer) toRunning(a *at) {
	g := a.g
	if g.status == goSyscall && g.m == a.m && !a.Fake {
		a.m.leaving = a.t
		return
	}
	if by := a.m.g; a.Via == event.ViaCoroutine && g.status == goWaiting && by != nil && by.status == goRunning {
		a.m.coming = coming{g, a.t}
		return
	}
	w.run(g, a.m, a.p, a.group, a.t)
	if a.Fake {
		w.beginRange(a)
	} else {
		w.endRanges(g, a.t)
	}
}

func (w *Writer) toSyscall(a *at) {
	if a.g.status == goSyscall && a.g.m == a.m {
		return
	}
	w.run(a.g, a.m, a.p, a.group, a.t)
	w.syscallBegin(a.m, w.stackOf(a.g, a.Stack), a.t)
}

func (w *Writer) toWaiting(a *at) {
	if a.g.status == goWaiting {
		return
	}
	m := a.m
	if status(a.From, false) == goWaiting && a.g.m != m {
		// It is not this thread that the goroutine was on.
		m = w.spare(a.group, a.t)
		defer w.rest(m)
		w.run(a.g, m, nil, a.group, a.t)
	} else {
		w.run(a.g, m, a.p, a.group, a.t)
	}
	reason, stack := w.str(blockReason(a.Reason)), w.stackOf(a.g, a.Stack)
	if a.To == goruntime.Preempted {
		reason = w.str("preempted")
	}
	if a.Via == event.ViaCoroutine && m == a.m {
		m.parting = parting{time: a.t, reason: reason, stack: stack}
		return
	}
	w.block(m, reason, stack, a.t)
}

func (w *Writer) toDead(a *at) {
	g := a.g
	if g.status == goSyscall {
		// The goroutine of an extra M, given back.
		w.destroySyscall(g.m, a.t)
		return
	}
	w.run(g, a.m, a.p, a.group, a.t)
	a.m.parting = parting{time: a.t, destroy: true}
}
