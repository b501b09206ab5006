package trigger

import (
	"reflect"
	"testing"
	"time"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gstate"
)

const ms = int64(time.Millisecond)

// life makes a stream of events and watches it.
type life struct {
	t      *testing.T
	watch  *Watch
	states *gstate.Tracker
	now    int64
	zero   int64 // when all goroutines were known
	status map[uint64]goruntime.Status
	lost   uint64
	fired  []string // conditions, with the time in ms and the values
}

// begin is when a life begins.
const begin = int64(1_000_000_000_033)

// newLife begins a stream with so many goroutines that wait for a channel.
func newLife(t *testing.T, goroutines int, conditions ...string) *life {
	t.Helper()
	var list []*Condition
	for _, text := range conditions {
		c, err := Parse(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		list = append(list, c)
	}
	l := &life{t: t, watch: NewWatch(begin, list), states: gstate.NewTracker(), now: begin, status: map[uint64]goruntime.Status{}}
	for id := range goroutines {
		l.apply(&event.Event{Kind: event.Snapshot, GoID: uint64(id) + 1, To: goruntime.Waiting, Reason: "chan receive"})
		l.status[uint64(id)+1] = goruntime.Waiting
		l.now += 500 * ms / int64(goroutines) // it takes longer than a look
	}
	l.tick(0)
	l.zero = l.now
	return l
}

func (l *life) apply(e *event.Event) {
	e.Time, e.PID = l.now, 7
	l.watch.Event(e, l.states.Apply(e))
}

// to makes the goroutines from first to last enter a state.
func (l *life) to(status goruntime.Status, reason string, first, last uint64) {
	for id := first; id <= last; id++ {
		e := &event.Event{GoID: id, From: l.status[id], To: status, Reason: reason, P: event.NoP, Via: event.ViaOther}
		if l.status[id] == 0 && status == goruntime.Runnable {
			e.From, e.Birth = goruntime.Dead, &event.Birth{}
		}
		l.status[id] = status
		if status == goruntime.Dead {
			delete(l.status, id)
		}
		l.apply(e)
	}
}

// tick lets time pass, in ms, with a tick every 50.
func (l *life) tick(d int64) {
	for {
		step := min(d, 50)
		l.now += step * ms
		d -= step
		for _, f := range l.watch.Tick(l.now, l.lost) {
			l.fired = append(l.fired, time.Duration(f.Time-l.zero).Truncate(time.Millisecond).String()+" "+f.Condition.Text+": "+f.Values)
		}
		if d == 0 {
			return
		}
	}
}

// want compares what fired since the last call.
func (l *life) want(fired ...string) {
	l.t.Helper()
	if !reflect.DeepEqual(l.fired, fired) {
		l.t.Errorf("fired %q\nwant %q", l.fired, fired)
	}
	l.fired = nil
}

const (
	waits  = goruntime.Waiting
	queues = goruntime.Runnable
	runs   = goruntime.Running
)

// TestSeeding has goroutines that are found one by one. Until all are, there are not few of them.
func TestSeeding(t *testing.T) {
	l := newLife(t, 20, "goroutines < 20", "waiting < 20", "goroutines >= 20", "lost > 0")
	l.tick(200)
	l.want("100ms goroutines >= 20: goroutines = 20")
}

// TestCounts has a peak that is over before the next look, and one that is not.
func TestCounts(t *testing.T) {
	l := newLife(t, 20, "runnable > 7", "runnable > 7 for 1ms", "waiting < 13", "waiting['chan receive'] < 13", "goroutines > 20 and runnable > 7", "waiting['select'] > 2", "running > 0")
	l.tick(120)
	l.to(queues, "", 1, 8)
	l.now += 5 * ms
	l.to(runs, "", 1, 8)
	l.to(waits, "select", 1, 2)
	l.to(waits, "chan receive", 3, 8)
	l.tick(200)
	l.want("200ms runnable > 7: runnable = 8", "200ms waiting < 13: waiting = 12",
		"200ms waiting['chan receive'] < 13: waiting['chan receive'] = 12", "200ms running > 0: running = 8")
	l.to(queues, "", 1, 8)
	l.to(queues, "", 21, 21)
	l.tick(200)
	l.want("400ms runnable > 7: runnable = 9", "400ms waiting < 13: waiting = 12",
		"400ms waiting['chan receive'] < 13: waiting['chan receive'] = 12",
		"400ms goroutines > 20 and runnable > 7: goroutines = 21, runnable = 9", "500ms runnable > 7 for 1ms: runnable = 9")
}

// TestFor has a condition that must hold for two seconds.
func TestFor(t *testing.T) {
	l := newLife(t, 20, "runnable >= 5 for 2s")
	l.tick(50)
	l.to(queues, "", 1, 5)
	l.tick(1900)
	l.to(runs, "", 1, 1)
	l.tick(200) // it did not hold at a look
	l.to(queues, "", 1, 1)
	l.tick(2000)
	l.want()
	l.tick(300)
	l.want("4.2s runnable >= 5 for 2s: runnable = 5")
	l.tick(9000)
	l.want()
}

// TestRearm has a condition that fires again only after it was clearly false.
func TestRearm(t *testing.T) {
	l := newLife(t, 40, "runnable > 20", "waiting < 20")
	l.to(queues, "", 1, 21)
	l.tick(100)
	l.want("100ms runnable > 20: runnable = 21", "100ms waiting < 20: waiting = 19")
	for range 3 {
		l.to(runs, "", 1, 2) // 19 are not clearly fewer than 20
		l.to(waits, "select", 1, 2)
		l.tick(300)
		l.to(queues, "", 1, 2)
		l.tick(300)
	}
	l.want()
	l.to(runs, "", 1, 3)
	l.to(waits, "select", 1, 3)
	l.tick(300)
	l.to(queues, "", 1, 3)
	l.tick(100)
	l.want("2.3s runnable > 20: runnable = 21", "2.3s waiting < 20: waiting = 19")
}

// TestLatency has goroutines that queue for 10 ms, and the second in which that counts.
func TestLatency(t *testing.T) {
	l := newLife(t, 20, "sched.p50 >= 10ms", "sched.p99 < 1h for 800ms", "sched.total > 99ms", "sched.max > 10ms")
	l.tick(2000)
	l.want() // there are no latencies
	for range 10 {
		l.to(queues, "", 1, 1)
		l.now += 10 * ms
		l.to(runs, "", 1, 1)
		l.to(waits, "select", 1, 1)
	}
	l.tick(900)
	l.want("2.1s sched.p50 >= 10ms: sched.p50 = 10ms", "2.2s sched.total > 99ms: sched.total = 100ms", "2.9s sched.p99 < 1h for 800ms: sched.p99 = 10ms")
	l.tick(1500) // they are out of the second: it is armed again
	l.to(queues, "", 1, 1)
	l.tick(20)
	l.to(runs, "", 1, 1)
	l.tick(100)
	l.want("4.6s sched.p50 >= 10ms: sched.p50 = 20ms", "4.6s sched.max > 10ms: sched.max = 20ms")
}

// TestManyLatencies has so many that they are kept in histograms.
func TestManyLatencies(t *testing.T) {
	l := newLife(t, 1, "sched.p50 > 1ms", "sched.p999 > 1ms", "sched.p90 > 100µs")
	l.tick(1000)
	for i := range 2000 {
		l.to(queues, "", 1, 1)
		if l.now += ms / 100; i%100 == 0 {
			l.now += 4 * ms
		}
		l.to(runs, "", 1, 1)
		l.to(waits, "select", 1, 1)
	}
	l.tick(100)
	l.want("1.1s sched.p999 > 1ms: sched.p999 = 4.01ms")
}

// TestBlocked has waits by reason.
func TestBlocked(t *testing.T) {
	l := newLife(t, 3, "block['IO wait'].max > 300ms", "block['select'].max > 300ms", "block.p99 > 300ms", "block.total > 700ms", "block['never'].p50 < 1h")
	l.tick(1000)
	l.to(queues, "", 1, 2)
	l.tick(2000)
	l.to(runs, "", 1, 2)
	l.to(waits, "IO wait", 1, 1)
	l.to(waits, "select", 2, 2)
	l.tick(250)
	l.to(queues, "", 2, 2)
	l.tick(150)
	l.to(queues, "", 1, 1)
	l.tick(150)
	// Those of a channel receive were of a second that is over.
	l.want("1.1s block.p99 > 300ms: block.p99 = 1.5s", "1.1s block.total > 700ms: block.total = 2.83s",
		"3.5s block['IO wait'].max > 300ms: block['IO wait'].max = 400ms", "3.5s block.p99 > 300ms: block.p99 = 400ms")
}

// TestRates has births and losses.
func TestRates(t *testing.T) {
	l := newLife(t, 5, "created > 9", "lost > 0", "created < 1 for 400ms")
	l.tick(1500)
	l.want("1.4s created < 1 for 400ms: created = 0")
	for id := range uint64(10) {
		l.to(queues, "", 100+id, 100+id)
		l.tick(50)
	}
	l.want("2s created > 9: created = 10")
	l.lost = 3
	l.tick(50)
	l.want()
	l.tick(950)
	l.want("2.1s lost > 0: lost = 3")
	l.tick(100)
	l.lost = 4
	l.tick(100)
	l.want("3.2s lost > 0: lost = 1")
}

// TestFactor has counts and latencies that grow, against what they were in a minute.
func TestFactor(t *testing.T) {
	l := newLife(t, 10, "goroutines > 2x", "goroutines < 0.5x", "sched.p99 > 3x", "created > 2x")
	l.to(queues, "", 1, 1)
	l.tick(5000)
	l.to(queues, "", 11, 40) // too early
	l.tick(100)
	l.to(runs, "", 11, 40)
	l.to(goruntime.Dead, "", 11, 40)
	l.tick(5000)
	l.want()
	l.to(queues, "", 11, 21)
	l.tick(100)
	// Of births the median is 0.
	l.want("10.2s goroutines > 2x: goroutines = 21, 2.1x the median 10")
	l.tick(61_000) // now 21 are what is usual
	l.to(runs, "", 11, 21)
	l.to(goruntime.Dead, "", 11, 21)
	l.tick(100)
	l.want("1m11.3s goroutines < 0.5x: goroutines = 10, 0.476x the median 21")
}
