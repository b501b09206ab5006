package tui

import (
	"math"
	"slices"

	"gopherscope/internal/event"
	"gopherscope/internal/goid"
	"gopherscope/internal/goruntime"
)

// checkpoint is what was known of a recording at a moment, all events before and none later
// taken. The numbers in it are those of states, which are not forgotten.
type checkpoint struct {
	time       int64
	resumed    int64 // the end of the last gap; 0 if there was none
	violations uint64
	goroutines []kept
}

// kept is a goroutine in a checkpoint.
type kept struct {
	present
	goid uint64
}

// save makes the checkpoint of the position, unless it is there or all of them would take too
// much memory.
func (p *Replay) save(at int64) {
	if p.saved[at] != nil || p.err != nil {
		return
	}
	n := 0
	p.states.live.Retain(func(uint64, *present) bool { n++; return true })
	if p.entries+n > maxCheckpointed {
		return
	}
	c := &checkpoint{time: at, resumed: p.recorder.resumed, violations: p.recorder.broken(), goroutines: make([]kept, 0, n)}
	p.states.live.Retain(func(id uint64, g *present) bool {
		c.goroutines = append(c.goroutines, kept{*g, id})
		return true
	})
	p.saved[at] = c
	p.entries += n
}

// nearest is the last checkpoint that is not after a moment.
func (p *Replay) nearest(at int64) *checkpoint {
	for i := len(p.points) - 1; i >= 0; i-- {
		if c := p.saved[p.points[i]]; c != nil && c.time <= at {
			return c
		}
	}
	return p.first()
}

// first is the beginning, from which on everything is read. There can be events from before it,
// the goroutines that were there then.
func (p *Replay) first() *checkpoint { return &checkpoint{time: p.begin - 1} }

// restore goes to a checkpoint.
func (p *Replay) restore(c *checkpoint) error {
	p.Close()
	p.skip = c.time
	if c.goroutines == nil {
		p.skip = math.MinInt64
	}
	if err := p.reader.SeekTo(p.skip); err != nil {
		return err
	}
	was := p.pos
	p.limit, p.pos, p.ticked, p.over, p.last = p.skip, c.time, p.skip, false, nil
	p.early, p.ticks = p.early[:0], p.ticks[:0]
	p.states.live = goid.Map[present]{}
	for i := range c.goroutines {
		g := &c.goroutines[i]
		*p.states.live.Put(g.goid) = g.present
	}
	old := p.recorder
	p.recorder = NewRecorder(c.time, p.reader.Wall)
	p.recorder.restore(c, p.states.reasons)
	if old != nil {
		p.keepHistory(old, was)
	}
	p.run()
	return nil
}

// keepHistory keeps what an earlier Recorder has told, up to a position, of the goroutine that is
// watched, as far as it leads up to this position.
func (p *Replay) keepHistory(old *Recorder, was int64) {
	p.recorder.watched = old.watched
	if p.watchFrom > p.pos || p.pos > was || old.watched == 0 {
		p.watchFrom = p.pos
		return
	}
	list := old.history
	if len(list) == historyLen { // older ones were forgotten
		p.watchFrom = max(p.watchFrom, min(list[0].Mono, p.pos))
	}
	n := 0
	for n < len(list) && list[n].Mono < p.pos {
		n++
	}
	p.recorder.history = append(p.recorder.history, list[:n]...)
}

// restore gives a Recorder that is new what the events before a checkpoint have told, by
// events that tell the same: for each goroutine the change to its state, or the
// Snapshot, and the last gap.
func (r *Recorder) restore(c *checkpoint, reasons []string) {
	slices.SortFunc(c.goroutines, func(a, b kept) int { return int(b.gaps) - int(a.gaps) })
	for i := range c.goroutines {
		g := &c.goroutines[i]
		e := event.Event{Kind: event.Transition, Time: g.since, PID: g.pid, GoID: g.goid, To: g.status, Fake: g.fake, Reason: reasons[g.reason], Birth: g.birth}
		switch {
		case g.seed:
			e.Kind = event.Snapshot
		case g.status == goruntime.Dead:
			e.Via = event.ViaExtraM
		}
		r.Event(&e)
		after := uint8(0) // how many gaps it has in common with the next
		if i+1 < len(c.goroutines) {
			after = c.goroutines[i+1].gaps
		}
		for range g.gaps - after {
			r.Event(&event.Event{Kind: event.Gap, Time: c.resumed, Since: c.resumed})
		}
	}
	r.resumed, r.violations = c.resumed, c.violations
	r.Take(c.time)
}
