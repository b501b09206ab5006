package tui

import (
	"math/rand/v2"
	"testing"
	"time"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
)

// same is a clock for which CLOCK_MONOTONIC is Unix time.
func same(mono int64) int64 { return mono }

// TestBuckets wants each duration in a bucket whose end is at most 1/32 above.
func TestBuckets(t *testing.T) {
	for range 1_000_000 {
		ns := rand.Uint64() >> (2 + rand.IntN(62))
		end := bucketEnd(bucketOf(ns))
		if end < ns || end-ns > ns/32 {
			t.Fatalf("%d is in a bucket that ends at %d", ns, end)
		}
	}
}

// TestQuantile compares with the exact one.
func TestQuantile(t *testing.T) {
	var f, other Figures
	for i := range uint64(1000) {
		one := &f
		if i%2 == 0 {
			one = &other
		}
		one.sched.count(bucketOf((i+1)*1000), 1)
	}
	f.add(&other)
	for _, q := range []float64{0.5, 0.9, 0.99, 1} {
		exact := time.Duration(q * 1000 * 1000)
		if got := f.SchedWait(q); got < exact || got-exact > exact/32 {
			t.Errorf("quantile %v is %v, not %v", q, got, exact)
		}
	}
}

// walker is a goroutine that a test moves about, and what it knows of it.
type walker struct {
	status  goruntime.Status
	since   int64
	waiting []stretch
	queued  []int64
	moves   uint64
}

type stretch struct{ from, to int64 }

// TestRecorderAddsUp moves goroutines about at random, and wants the figures of all
// intervals to add up to what the test counted itself, to the nanosecond.
func TestRecorderAddsUp(t *testing.T) {
	const goroutines, steps = 20, 20000
	r := NewRecorder(1000, same)
	all := make([]walker, goroutines)
	for id := range all {
		all[id] = walker{status: goruntime.Waiting, since: 1000}
		r.Event(&event.Event{Kind: event.Snapshot, Time: 1000, PID: 1, GoID: uint64(id + 1), To: goruntime.Waiting, Reason: "sleep"})
	}
	next := map[goruntime.Status]goruntime.Status{
		goruntime.Waiting: goruntime.Runnable, goruntime.Runnable: goruntime.Running, goruntime.Running: goruntime.Waiting,
	}
	sum := make([]Figures, goroutines)
	var span time.Duration
	var transitions uint64
	take := func(now int64) {
		rates := r.Take(now)
		span += rates.For
		transitions += rates.Transitions
		for id, f := range rates.Goroutines {
			sum[id-1].add(f)
		}
	}
	now := int64(1000)
	for range steps {
		now += rand.Int64N(1e6)
		id := rand.IntN(goroutines)
		g := &all[id]
		to := next[g.status]
		r.Event(&event.Event{Time: now, PID: 1, GoID: uint64(id + 1), From: g.status, To: to})
		switch g.status {
		case goruntime.Waiting:
			g.waiting = append(g.waiting, stretch{g.since, now})
		case goruntime.Runnable:
			g.queued = append(g.queued, now-g.since)
		}
		g.status, g.since, g.moves = to, now, g.moves+1
		if rand.IntN(100) == 0 {
			take(now)
		}
	}
	now += 5e6
	take(now)
	if want := time.Duration(now - 1000); span != want || transitions != steps {
		t.Errorf("%v and %d transitions, not %v and %d", span, transitions, want, steps)
	}
	for id := range all {
		g := &all[id]
		var blocked time.Duration
		for _, s := range g.waiting {
			blocked += time.Duration(s.to - s.from)
		}
		if g.status == goruntime.Waiting {
			blocked += time.Duration(now - g.since)
		}
		var waits uint64
		for _, b := range sum[id].sched {
			waits += b.n
		}
		if sum[id].Blocked != blocked || sum[id].Transitions != g.moves || waits != uint64(len(g.queued)) {
			t.Errorf("goroutine %d: blocked %v, %d transitions, %d waits to run, not %v, %d, %d", id+1, sum[id].Blocked, sum[id].Transitions, waits, blocked, g.moves, len(g.queued))
		}
	}
}

// TestRecorderGap wants the time of a gap to count for nothing, and a wait that lasts
// over it to count before and after.
func TestRecorderGap(t *testing.T) {
	r := NewRecorder(0, same)
	r.Event(&event.Event{Kind: event.Snapshot, Time: 0, PID: 1, GoID: 1, To: goruntime.Waiting})
	r.Event(&event.Event{Kind: event.Snapshot, Time: 0, PID: 1, GoID: 2, To: goruntime.Waiting})
	r.Event(&event.Event{Kind: event.Gap, PID: 1, Since: 100, Time: 700})
	r.Event(&event.Event{Time: 750, PID: 1, GoID: 1, From: goruntime.Waiting, To: goruntime.Runnable})
	rates := r.Take(1000)
	if rates.For != 400 || rates.Over != 1000 {
		t.Errorf("for %d of %d ns, not 400 of 1000", rates.For, rates.Over)
	}
	if got := rates.Goroutines[1].Blocked; got != 150 {
		t.Errorf("blocked for %d ns of the 400, not 150", got)
	}
	if got := rates.Goroutines[2].Blocked; got != 100 {
		t.Errorf("blocked for %d ns as far as is known, not 100", got)
	}
	// A goroutine that is read after a gap is known from its end on; one that a change told of stays.
	r.Event(&event.Event{Kind: event.Gap, PID: 1, Since: 1000, Time: 1100})
	r.Event(&event.Event{Time: 1150, PID: 1, GoID: 1, From: goruntime.Running, To: goruntime.Runnable})
	for goid := uint64(1); goid <= 2; goid++ {
		r.Event(&event.Event{Kind: event.Snapshot, Time: 1100, PID: 1, GoID: goid, To: goruntime.Waiting})
	}
	if rates = r.Take(1200); rates.Goroutines[1].Blocked != 0 || rates.Goroutines[2].Blocked != 100 {
		t.Errorf("blocked for %d and %d ns of the 100, not 0 and 100", rates.Goroutines[1].Blocked, rates.Goroutines[2].Blocked)
	}
	// A gap that ends after all events before now have come belongs to no interval.
	r.Event(&event.Event{Kind: event.Gap, PID: 1, Since: 1300, Time: 2000})
	if rates = r.Take(1990); rates.For != 100 || rates.Over != 800 {
		t.Errorf("for %d of %d ns, not 100 of 800", rates.For, rates.Over)
	}
	r.Event(&event.Event{Kind: event.Snapshot, Time: 2000, PID: 1, GoID: 1, To: goruntime.Waiting})
	r.Event(&event.Event{Kind: event.Census, Time: 2000, PID: 1})
	if r.live.Get(1) == nil || r.live.Get(2) != nil {
		t.Error("a census that named 1 and not 2 has left what it should not")
	}
	r.Event(&event.Event{Time: 2000, PID: 1, GoID: 2, From: goruntime.Waiting, To: goruntime.Runnable})
	r.Take(2000)
	for gap := range int64(200) { // of what is never heard of again nothing is kept
		r.Event(&event.Event{Kind: event.Gap, PID: 1, Since: 2000 + gap*10, Time: 2005 + gap*10})
	}
	if r.live.Get(2) != nil {
		t.Error("a goroutine that may have ended is kept for ever")
	}
}

// TestBlockedOverGap wants a goroutine that two readings say waits, and has not run, to have waited all the
// time that was traced, also if the engine knows of it from some time after a gap on only.
func TestBlockedOverGap(t *testing.T) {
	s := &Sample{Dump: processAt(5, false)}
	rates := &Rates{For: time.Second, Goroutines: map[uint64]*Figures{
		10: {Blocked: 400 * time.Millisecond},
		11: {Blocked: 500 * time.Millisecond, Transitions: 2}, // so it has run
	}}
	gr := newGrouper(s, byCreated, make([]bool, len(s.Dump.Goroutines)), rates, false, &glyphs{})
	for _, r := range gr.groups() {
		if want := 29*time.Second + 500*time.Millisecond; r.count == 30 && r.figures.Blocked != want {
			t.Errorf("%s: blocked for %v, not %v", r.name, r.figures.Blocked, want)
		} else if r.count == 30 {
			return
		}
	}
	t.Error("no row of 30 goroutines")
}

// TestRecorderEnded wants what goroutines did before their end to count for their
// go statement.
func TestRecorderEnded(t *testing.T) {
	r := NewRecorder(0, same)
	site := event.Location{Func: "main.serve", File: "main.go", Line: 7}
	birth := &event.Birth{CreatedBy: site}
	for id := uint64(1); id <= 10; id++ {
		r.Event(&event.Event{Time: 10, PID: 1, GoID: id, To: goruntime.Runnable, Birth: birth, Via: event.ViaCreate})
		r.Event(&event.Event{Time: 30, PID: 1, GoID: id, From: goruntime.Runnable, To: goruntime.Running})
		r.Event(&event.Event{Time: 40, PID: 1, GoID: id, From: goruntime.Running, To: goruntime.Dead, Via: event.ViaExit})
	}
	rates := r.Take(100)
	f := rates.Ended[site]
	if len(rates.Goroutines) != 0 || len(rates.Ended) != 1 || f == nil || f.Transitions != 30 || f.SchedWait(0.99) != 20 {
		t.Errorf("got %+v, of go statements %+v", rates.Goroutines, f)
	}
	if rates := r.Take(200); len(rates.Ended) != 0 || rates.Transitions != 0 {
		t.Errorf("an interval in which nothing happened has %+v", rates)
	}
}

// TestRecorderFake wants a wait on the goroutine's own M not to count as blocked.
func TestRecorderFake(t *testing.T) {
	r := NewRecorder(0, same)
	r.Event(&event.Event{Time: 10, PID: 1, GoID: 1, From: goruntime.Running, To: goruntime.Waiting, Fake: true})
	r.Event(&event.Event{Time: 50, PID: 1, GoID: 1, From: goruntime.Waiting, To: goruntime.Running})
	if f := r.Take(100).Goroutines[1]; f.Blocked != 0 || f.Transitions != 2 {
		t.Errorf("got %+v", f)
	}
}

// TestWatch wants the last transitions of the goroutine that is watched, and of no other.
func TestWatch(t *testing.T) {
	r := NewRecorder(0, same)
	r.Watch(2)
	for i := range int64(1000) {
		from, to := goruntime.Runnable, goruntime.Running
		if i%2 == 1 {
			from, to = to, from
		}
		r.Event(&event.Event{Time: i, PID: 1, GoID: 1, From: from, To: to})
		r.Event(&event.Event{Time: i, PID: 1, GoID: 2, From: from, To: to})
	}
	h := r.Take(1000).History
	if len(h) != historyLen || h[0].Mono != 1000-historyLen || h[historyLen-1].Mono != 999 {
		t.Fatalf("%d transitions, from %d to %d", len(h), h[0].Mono, h[len(h)-1].Mono)
	}
	r.Watch(1)
	if rates := r.Take(1001); rates.Watched != 1 || len(rates.History) != 0 {
		t.Errorf("after a change: %+v", rates)
	}
}

func BenchmarkRecorder(b *testing.B) {
	r := NewRecorder(0, same)
	e := event.Event{PID: 1}
	states := []goruntime.Status{goruntime.Waiting, goruntime.Runnable, goruntime.Running}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		e.GoID = uint64(i/3%10000 + 1)
		e.Time, e.From, e.To = int64(i)*100, states[i%3], states[(i+1)%3]
		r.Event(&e)
		if i%1_000_000 == 0 {
			r.Take(e.Time)
		}
	}
}
