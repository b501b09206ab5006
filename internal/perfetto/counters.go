package perfetto

import (
	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
)

// The states that goroutines are counted by.
const (
	countRunnable = iota
	countRunning
	countSyscall
	countWaiting
	countPreempted
	countLeaked
	countStates
	notCounted = -1
)

// counterNames are the names of the tracks. What is runnable is on a run queue: the
// global one, that of a P, or its next slot.
var counterNames = [countStates]string{
	countRunnable: "goroutines runnable (run queue)", countRunning: "goroutines running", countSyscall: "goroutines in syscall",
	countWaiting: "goroutines waiting", countPreempted: "goroutines preempted", countLeaked: "goroutines leaked",
}

// counters are how many goroutines of a process are in each state. A value is written
// when time goes on, so that there is one for each moment.
type counters struct {
	tracks  [countStates]uint64 // 0 for a state that was not seen yet
	now     [countStates]int64
	written [countStates]int64
	time    int64 // of now; never goes back
	dirty   bool
}

// countedAs is the state in which a goroutine is counted. One in a fake wait keeps its M
// and P, and counts as running.
func countedAs(e *event.Event) int8 {
	switch e.To {
	case goruntime.Runnable:
		return countRunnable
	case goruntime.Running, goruntime.CopyStack:
		return countRunning
	case goruntime.Syscall:
		return countSyscall
	case goruntime.Waiting:
		if e.Fake {
			return countRunning
		}
		return countWaiting
	case goruntime.Preempted:
		return countPreempted
	case goruntime.Leaked:
		return countLeaked
	}
	return notCounted
}

// count moves a goroutine to another state at that time.
func (w *Writer) count(p *process, g *goroutine, to int8, time int64) {
	if g.count == to {
		return
	}
	c := &p.counters
	if time > c.time {
		w.writeCounters(p)
		c.time = time
	}
	if g.count >= 0 {
		c.now[g.count]--
	}
	if to >= 0 {
		c.now[to]++
	}
	g.count = to
	c.dirty = true
}

// writeCounters writes the values that have changed.
func (w *Writer) writeCounters(p *process) {
	c := &p.counters
	if !c.dirty {
		return
	}
	c.dirty = false
	for i, v := range c.now {
		if v == c.written[i] {
			continue
		}
		if c.tracks[i] == 0 {
			c.tracks[i] = w.describe(descriptor{parent: p.uuid, name: counterNames[i], rank: rankCounters, counter: true})
		}
		c.written[i] = v
		w.counter(c.tracks[i], c.time, v)
	}
}

// counter writes a value.
func (w *Writer) counter(uuid uint64, time, value int64) {
	m := &w.body
	m.reset()
	m.uint(eventType, typeCounter)
	m.uint(eventTrack, uuid)
	m.int(eventCounterValue, value)
	w.seq.emit(time, packetTrackEvent, *m)
}
