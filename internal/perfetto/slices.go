package perfetto

import (
	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
)

// begin begins the slice of the state that a goroutine enters. An open slice was ended.
func (w *Writer) begin(p *process, g *goroutine, e *event.Event, time int64, violation bool) {
	w.occupy(p, g, e, time)
	w.count(p, g, countedAs(e), time)
	name := e.To.Name()
	if e.To == goruntime.Waiting && e.Reason != "" {
		name = e.Reason
	}
	w.slice(typeBegin, g.uuid, name, e.To.Name())
	if e.To == goruntime.Running && g.flow != 0 {
		if g.flowed <= time { // a flow leads forward
			w.body.fixed64(eventTerminatingFlows, g.flow)
		}
		g.flow = 0
	}
	if st := w.seq.stack(e.Stack, w.frame); st.iid != 0 {
		w.body.uint(eventCallstackIID, st.iid)
		w.noteText("at", st.at)
	}
	if e.Kind == event.Snapshot {
		w.noteTrue("snapshot")
		if e.Since > 0 && e.Since < e.Time {
			w.noteInt("wait_at_least_ns", e.Time-e.Since)
		}
	} else {
		w.notePath(e)
	}
	if e.Fake {
		w.noteTrue("fake_wait")
	}
	if violation {
		w.noteTrue("violation")
	}
	w.emit(time)
	g.open = true
}

// notePath says through what and by whom a change was made, and where a goroutine is then.
// One that is off its thread left that of the slice before.
func (w *Writer) notePath(e *event.Event) {
	w.noteText("via", e.Via.String())
	switch e.To {
	case goruntime.Runnable:
		if e.Waker != 0 {
			w.noteUint("waker", e.Waker)
		}
	case goruntime.Running, goruntime.Syscall:
		w.noteUint("tid", uint64(e.TID))
		w.noteInt("m", e.M)
		if e.P != event.NoP {
			w.noteInt("p", int64(e.P))
		}
	}
}

// endSlice ends the open slice of a goroutine.
func (w *Writer) endSlice(g *goroutine, time int64) {
	if !g.open {
		return
	}
	g.open = false
	w.slice(typeEnd, g.uuid, "", "")
	w.emit(time)
}

// wake writes an instant on the track of the goroutine that made another runnable, or
// created it, and returns the flow that leads from there to where the other runs: the
// arrow of a flow leaves a slice at its end, and that of the waker ends later.
func (w *Writer) wake(p *process, g *goroutine, e *event.Event, time int64) {
	g.flow = 0
	id, birth := e.Waker, e.IsNew()
	if id == 0 && birth {
		id = e.Birth.Parent
	}
	if id == 0 || id == e.GoID {
		return
	}
	waker := p.live.Get(id)
	if waker == nil {
		return // not in what is converted
	}
	w.flow++
	w.slice(typeInstant, waker.uuid, e.Via.String(), "wake")
	w.body.fixed64(eventFlows, w.flow)
	w.noteUint("goid", e.GoID)
	g.flow, g.flowed = w.flow, waker.at(time)
	w.emit(g.flowed)
}

// occupy puts a goroutine on the track of its P, or takes it from there. It is on it while
// it runs, fake waits included, and not in a system call.
func (w *Writer) occupy(p *process, g *goroutine, e *event.Event, time int64) {
	runs := e.To == goruntime.Running || e.To == goruntime.Waiting && e.Fake
	if !runs {
		w.leave(g, time)
		return
	}
	if e.Kind == event.Snapshot || e.P < 0 {
		return // on which one is not known, or it keeps the one that it had
	}
	pr := w.processor(p, e.P)
	if pr == nil || pr.owner == g {
		return
	}
	w.leave(g, time)
	if pr.owner != nil {
		w.endRun(pr, time)
	}
	pr.owner, g.p = g, pr
	m := &w.body
	w.slice(typeBegin, pr.uuid, "", "running")
	m.text(eventName, goroutineName(e.GoID, g.start))
	w.noteUint("goid", e.GoID)
	w.emit(pr.at(time))
}

// leave ends the slice of a goroutine on its P, if it has one.
func (w *Writer) leave(g *goroutine, time int64) {
	pr := g.p
	g.p = nil
	if pr != nil && pr.owner == g {
		w.endRun(pr, time)
	}
}

func (w *Writer) endRun(pr *processor, time int64) {
	pr.owner = nil
	w.slice(typeEnd, pr.uuid, "", "")
	w.emit(pr.at(time))
}
