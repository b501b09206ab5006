package trigger

import (
	"testing"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
)

// pause lets time pass, in ms, in which nothing is traced: goroutines come to be in another state
// unseen. Those that are gone are not in l.status any more.
func (l *life) pause(d int64, status goruntime.Status, first, last uint64) {
	since := l.now
	for end := l.now + d*ms; l.now < end; l.now += 50 * ms {
		l.watch.Tick(since, l.lost)
	}
	for id := first; id <= last; id++ {
		if l.status[id] = status; status == goruntime.Dead {
			delete(l.status, id)
		}
	}
	l.apply(&event.Event{Kind: event.Gap, Since: since})
}

// census tells of all goroutines.
func (l *life) census() {
	for id, status := range l.status {
		l.apply(&event.Event{Kind: event.Snapshot, GoID: id, To: status, Reason: "chan receive"})
	}
	l.apply(&event.Event{Kind: event.Census})
}

// TestGap has conditions that would hold if goroutines that have not been heard of since a pause were
// gone, or were what they were before.
func TestGap(t *testing.T) {
	l := newLife(t, 40, "goroutines < 30", "goroutines < 0.5x", "goroutines > 1.5x", "waiting < 30", "waiting > 39", "runnable > 9 for 3s", "created < 1 for 3s", "created > 40", "runnable > 20")
	for range 3 { // something is created each second
		l.to(queues, "", 41, 42)
		l.to(runs, "", 41, 42)
		l.to(goruntime.Dead, "", 41, 42)
		l.tick(500)
	}
	l.want("100ms waiting > 39: waiting = 40")
	for range 30 {
		l.to(queues, "", 1, 10)
		l.pause(5000, waits, 1, 10)
		l.to(queues, "", 41, 42)
		l.to(runs, "", 41, 42)
		l.to(goruntime.Dead, "", 41, 42)
		l.tick(200)
		l.want()
		l.census()
		l.tick(200)
		l.want() // it is what it was before
		l.tick(100)
	}

	// What is surely so counts without a census, too.
	l.pause(1000, waits, 1, 0)
	l.to(queues, "", 1, 21)
	l.tick(100)
	l.want("2m47.6s waiting < 30: waiting = 19", "2m47.6s runnable > 20: runnable = 21")
	l.to(runs, "", 1, 21)
	l.to(waits, "chan receive", 1, 21)
	l.pause(1000, goruntime.Dead, 1, 25)
	l.tick(1000)
	l.want()
	l.census()
	l.tick(100)
	l.want("2m49.7s goroutines < 30: goroutines = 15", "2m49.7s goroutines < 0.5x: goroutines = 15, 0.375x the median 40")
}
