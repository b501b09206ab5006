package summary_test

import (
	"reflect"
	"testing"
	"time"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gstate"
	"gopherscope/internal/summary"
)

// times are those of the states, in the order of the constants.
func times(p *summary.Page) (out [summary.NumStates]int64) {
	for i, st := range p.States {
		out[i] = int64(st.Time)
	}
	return out
}

// A whole life, with each state for a time that no other state has.
func TestStates(t *testing.T) {
	sc := newScript(t, summary.Options{})
	sc.born(100, 1, birthAt("main.main", 7))
	sc.run(101, 1)                                                                       // runnable 1
	sc.change(103, 1, running, syscalled, event.ViaSyscall)                              // running 2
	sc.change(107, 1, syscalled, running, event.ViaSyscall)                              // syscall 4
	sc.park(115, 1, "select")                                                            // running 8
	sc.ready(131, 1, 0)                                                                  // waiting 16
	sc.run(163, 1)                                                                       // runnable 32
	sc.change(227, 1, running, goruntime.Preempted, event.ViaSuspend)                    // running 64
	sc.change(355, 1, goruntime.Preempted, running, event.ViaSchedule)                   // preempted 128
	sc.change(611, 1, running, waiting, event.ViaPark)                                   // running 256
	if p, want := sc.page(1123), [...]int64{330, 33, 4, 528, 128, 0}; times(p) != want { // waiting 512
		t.Errorf("%v, want %v", times(p), want)
	}
	if got := sc.s.States(); got != [...]int{summary.Waiting: 1, summary.Unknown: 0} || sc.s.Alive() != 1 {
		t.Errorf("now %v", got)
	}
	sc.ready(1200, 1, 0)
	sc.run(1200, 1)
	sc.change(1201, 1, running, dead, event.ViaExit)
	p := sc.page(9999)
	if p.Alive != 0 || p.Created != 1 || p.Ended != 1 || p.Lived != 1101 || p.Events != 13 {
		t.Errorf("%+v", p)
	}
	if l := p.Sites[0].Lifetime; l.Count != 1 || l.Total != 1101 || p.Sites[0].CreatedBy.Line != 7 {
		t.Errorf("lifetime %+v", l)
	}
}

// A fake wait is running, and does not end a stretch of running.
func TestFakeWaits(t *testing.T) {
	sc := newScript(t, summary.Options{})
	sc.born(0, 1, birthAt("main.main", 7))
	sc.run(10, 1)
	fake := func(at int64, reason string) {
		sc.feed(event.Event{Time: at, GoID: 1, From: running, To: waiting, Via: event.ViaSTW, Reason: reason, Fake: true})
	}
	fake(20, "stopping the world")
	if got := sc.s.States(); got[summary.Running] != 1 || got[summary.Waiting] != 0 {
		t.Errorf("in a fake wait: %v", got)
	}
	sc.change(25, 1, waiting, running, event.ViaSTW)
	fake(30, "GC assist marking")
	sc.change(70, 1, waiting, running, event.ViaGC)
	fake(70, "stopping the world")
	sc.change(71, 1, waiting, running, event.ViaSTW)
	sc.change(110, 1, running, runnable, event.ViaPreempt)
	p := sc.page(200)
	if got := times(p); got != [...]int64{summary.Running: 100, summary.Runnable: 100, summary.Unknown: 0} {
		t.Errorf("times %v", got)
	}
	if p.Slices.Count != 1 || p.Slices.Max != 100 || !reflect.DeepEqual(p.SliceEnds, []summary.SliceEnd{{Via: event.ViaPreempt, Count: 1}}) {
		t.Errorf("slices %+v %+v", p.Slices, p.SliceEnds)
	}
	if len(p.FakeWaits) != 2 || p.FakeWaits[0].Reason != "GC assist marking" || p.FakeWaits[0].Total != 40 ||
		p.FakeWaits[1].Count != 2 || p.FakeWaits[1].Total != 6 || p.FakeWaits[1].Max != 5 {
		t.Errorf("%+v", p.FakeWaits)
	}
}

func TestSchedulingLatency(t *testing.T) {
	sc := newScript(t, summary.Options{})
	quick, slow := birthAt("main.quick", 1), birthAt("main.slow", 2)
	at := int64(0)
	for i := range uint64(1000) {
		b, latency := quick, int64(1000)
		if i%100 == 0 {
			b, latency = slow, 1_000_000
		}
		sc.born(at, i+1, b)
		sc.run(at+latency, i+1)
		sc.change(at+latency, i+1, running, dead, event.ViaExit)
		at += latency
	}
	p := sc.page(at)
	if p.Sched.Count != 1000 || p.Sched.Total != 990*1000+10*1_000_000 || p.Sched.Max != 1_000_000 {
		t.Errorf("%+v", p.Sched)
	}
	for _, q := range []struct{ got, want time.Duration }{{p.Sched.P50, 1000}, {p.Sched.P90, 1000}, {p.Sched.P99, 1000}, {p.Sched.P999, 1_000_000}} {
		if q.got < q.want || float64(q.got) > 1.01*float64(q.want) {
			t.Errorf("a quantile is %d, want %d", q.got, q.want)
		}
	}
	if got := sc.s.Sched().Quantile(0.999); got != p.Sched.P999 {
		t.Errorf("at once %v, on the page %v", got, p.Sched.P999)
	}
	if len(p.Latency) != 2 || p.Latency[0].CreatedBy.Func != "main.slow" || p.Latency[0].Sched.Count != 10 || p.Latency[0].Sched.P50 != 1_000_000 {
		t.Errorf("by site %+v", p.Latency)
	}
	var count uint64
	for _, b := range p.SchedHist {
		count += b.Count
		if b.Count > 0 && b.UpTo != time.Microsecond && b.UpTo != time.Millisecond {
			t.Errorf("%d in the bucket up to %v", b.Count, b.UpTo)
		}
	}
	if count != 1000 {
		t.Errorf("%d in the histogram", count)
	}
}

// The rows of blocked time: by reason, function and site; from the trace's start on.
func TestBlocked(t *testing.T) {
	stack := map[uint32][]event.Location{
		3: {{Func: "runtime.gopark"}, {Func: "sync.(*Mutex).Lock"}, {Func: "example.com/app.(*cache).get"}, {Func: "main.main"}},
		4: {{Func: "runtime.chanrecv1"}},
	}
	sc := newScript(t, summary.Options{Stack: func(id uint32) []event.Location { return stack[id] }})
	b := birthAt("main.serve", 9)
	sc.there(100, 1, waiting, "chan receive", b)
	sc.there(100, 2, waiting, "chan receive", b)
	sc.ready(150, 1, 0)
	sc.run(150, 1)
	sc.feed(event.Event{Time: 160, GoID: 1, From: running, To: waiting, Via: event.ViaPark, Reason: "sync.Mutex.Lock", Stack: 3})
	sc.ready(190, 1, 2)
	sc.run(190, 1)
	sc.feed(event.Event{Time: 191, GoID: 1, From: running, To: waiting, Via: event.ViaPark, Reason: "chan receive", Stack: 4})
	sc.ready(192, 1, 2)
	p := sc.page(300)
	if len(p.Blocked) != 2 {
		t.Fatalf("%+v", p.Blocked)
	}
	recv, lock := p.Blocked[0], p.Blocked[1]
	if recv.Reason != "chan receive" || recv.Func != "main.serve.func1" || recv.CreatedBy.Line != 9 ||
		recv.Time != 50+200+1 || recv.Count != 2 || recv.Total != 51 || recv.AtLeast != 1 || !recv.MaxAtLeast || recv.Now != 1 || !recv.OpenAtLeast {
		t.Errorf("%+v", recv)
	}
	if d, atLeast := recv.Longest(); d != 200 || !atLeast {
		t.Errorf("longest %v %v", d, atLeast)
	}
	if lock.Func != "example.com/app.(*cache).get" || lock.Time != 30 || lock.Count != 1 || lock.Max != 30 || lock.MaxAtLeast || lock.Now != 0 {
		t.Errorf("%+v", lock)
	}
	if d, atLeast := lock.Longest(); d != 30 || atLeast {
		t.Errorf("longest %v %v", d, atLeast)
	}
	if d := sc.s.Blocked("chan receive"); d.Count() != 2 || d.Quantile(0.99) != 50 || sc.s.Blocked("no such reason") != nil {
		t.Errorf("of the reason: %+v", d)
	}
}

// The rows of the runtime's own goroutines come last, and add up all the same.
func TestRuntimesOwn(t *testing.T) {
	sc := newScript(t, summary.Options{})
	own := &event.Birth{CreatedBy: event.Location{Func: "runtime.gcenable"}, Start: event.Location{Func: "runtime.bgsweep"}}
	first := &event.Birth{Start: event.Location{Func: "runtime.main"}}
	sc.there(0, 2, waiting, "GC sweep wait", own)
	sc.there(50, 1, waiting, "chan receive", first)
	p := sc.page(100)
	if len(p.Blocked) != 2 || p.Blocked[0].Reason != "chan receive" || p.Blocked[0].Runtime() || !p.Blocked[1].Runtime() || p.Blocked[1].Time != 100 {
		t.Errorf("%+v", p.Blocked)
	}
	if len(p.LongWaits) != 1 || p.LongWaits[0].GoID != 1 {
		t.Errorf("%+v", p.LongWaits)
	}
}

func TestWakes(t *testing.T) {
	sc := newScript(t, summary.Options{})
	server, client := birthAt("main.server", 1), birthAt("main.client", 2)
	sc.there(0, 1, waiting, "chan receive", server)
	sc.there(0, 2, running, "", client)
	for at := int64(10); at < 40; at += 10 {
		sc.ready(at, 1, 2)
		sc.run(at+1, 1)
		sc.park(at+2, 1, "chan receive")
	}
	sc.ready(50, 1, 99) // of which nothing is known
	sc.run(51, 1)
	sc.change(52, 1, running, runnable, event.ViaYield) // nobody wakes it
	sc.run(53, 1)
	sc.park(54, 1, "IO wait")
	sc.change(55, 1, waiting, runnable, event.ViaNetpoll)
	p := sc.page(60)
	if len(p.Wakes) != 3 || p.WakeRows != 3 {
		t.Fatalf("%+v", p.Wakes)
	}
	first := p.Wakes[0]
	if first.Count != 3 || first.From.CreatedBy != client.CreatedBy || first.To.CreatedBy != server.CreatedBy || first.Via != event.ViaReady {
		t.Errorf("%+v", first)
	}
	if w := p.Wakes[1]; w.From == nil || *w.From != (summary.Site{}) || w.Count != 1 {
		t.Errorf("of an unknown waker: %+v", w)
	}
	if w := p.Wakes[2]; w.From != nil || w.Via != event.ViaNetpoll {
		t.Errorf("of no goroutine: %+v", w)
	}
}

// The time without a P begins when somebody else is seen with it.
func TestSyscalls(t *testing.T) {
	sc := newScript(t, summary.Options{})
	b := birthAt("main.main", 1)
	sc.there(0, 1, running, "", b)
	sc.there(0, 2, runnable, "", b)
	on := func(at int64, goid uint64, from, to goruntime.Status, via event.Via, p int32) {
		sc.feed(event.Event{Time: at, GoID: goid, TID: uint32(goid), From: from, To: to, Via: via, P: p})
	}
	on(10, 1, running, syscalled, event.ViaSyscall, 3)
	on(30, 2, runnable, running, event.ViaSchedule, 3) // takes the P
	on(31, 2, running, waiting, event.ViaPark, 3)
	on(50, 1, syscalled, running, event.ViaSyscall, event.NoP)
	on(51, 1, running, runnable, event.ViaNoP, event.NoP) // the same loss
	on(60, 1, runnable, running, event.ViaSchedule, 3)
	on(61, 1, running, syscalled, event.ViaSyscall, 3) // keeps it
	on(64, 1, syscalled, running, event.ViaSyscall, 3)
	on(70, 1, running, syscalled, event.ViaSyscall, 3) // loses it and nobody takes it
	on(75, 1, syscalled, running, event.ViaSyscall, event.NoP)
	on(76, 1, running, runnable, event.ViaNoP, event.NoP)
	on(80, 1, runnable, running, event.ViaSchedule, 3)
	on(81, 1, running, syscalled, event.ViaCgo, 3)
	on(91, 1, syscalled, running, event.ViaCgo, 3)
	p := sc.page(100)
	if p.Syscalls.Count != 3 || p.Syscalls.Total != 40+3+5 || p.Cgo.Count != 1 || p.Cgo.Total != 10 || p.LostP != 2 || p.LostPTime != 20 {
		t.Errorf("syscalls %+v, cgo %+v, lost %d, %d ns", p.Syscalls, p.Cgo, p.LostP, p.LostPTime)
	}
	if p.Sched.Count != 3 || p.Sched.Total != 30+9+4 {
		t.Errorf("%+v", p.Sched)
	}
}

// What was missed is no state's time.
func TestUnknown(t *testing.T) {
	sc := newScript(t, summary.Options{})
	b := birthAt("main.main", 1)
	sc.there(0, 1, running, "", b)
	sc.there(0, 2, running, "", b)
	sc.there(0, 3, waiting, "select", b)
	sc.ready(30, 2, 0)                                     // it was about to park when the snapshot was taken
	sc.change(50, 1, runnable, waiting, event.ViaOther)    // known to be about to: a change under way
	sc.change(60, 1, syscalled, running, event.ViaSyscall) // a change is missing
	p := sc.page(100)
	if got, want := times(p), [...]int64{summary.Running: 40, summary.Runnable: 50 + 70, summary.Waiting: 30 + 100, summary.Unknown: 10}; got != want {
		t.Errorf("%v, want %v", got, want)
	}
	if p.Violations != 1 || p.Seeded != 3 {
		t.Errorf("%+v", p)
	}
	sc.feed(event.Event{Kind: event.Gap, Since: 110, Time: 200})
	sc.s.Advance(210)
	if got := sc.s.States(); got[summary.Unknown] != 3 {
		t.Errorf("after a gap: %v", got)
	}
	sc.ready(230, 3, 0)
	p = sc.page(240)
	if got, want := times(p), [...]int64{summary.Running: 50, summary.Runnable: 120 + 10 + 10, summary.Waiting: 140 + 30, summary.Unknown: 10 + 120 + 130 + 100}; got != want {
		t.Errorf("%v, want %v", got, want)
	}
	if p.Untraced != 90 {
		t.Errorf("%v untraced", p.Untraced)
	}
	for _, row := range p.Blocked {
		if row.Reason == "select" && row.Count != 0 {
			t.Errorf("a wait over a gap has a length: %+v", row)
		}
	}
}

// A goroutine that is read again some time after a gap, or makes a change, is known from its end on, and every moment of
// every goroutine is in one state still.
func TestSeedAfterGap(t *testing.T) {
	sc := newScript(t, summary.Options{})
	b := birthAt("main.main", 1)
	for goid := uint64(1); goid <= 4; goid++ {
		sc.there(0, goid, waiting, "select", b)
	}
	sc.feed(event.Event{Kind: event.Gap, Since: 100, Time: 200})
	sc.ready(210, 4, 0)
	for goid, to := range map[uint64]goruntime.Status{1: waiting, 2: running, 4: waiting, 5: syscalled} { // 3 has ended, 5 is new
		sc.feed(event.Event{Kind: event.Snapshot, Time: 220, GoID: goid, To: to, Reason: "sleep", Birth: b})
	}
	if got := sc.s.States(); got[summary.Waiting] != 1 || got[summary.Running] != 1 || got[summary.Runnable] != 1 || got[summary.Syscall] != 1 || got[summary.Unknown] != 1 {
		t.Errorf("%v", got)
	}
	sc.ready(250, 1, 0)
	p := sc.page(300)
	want := [...]int64{summary.Waiting: 4*100 + 50 + 10, summary.Running: 100, summary.Runnable: 90 + 50, summary.Syscall: 100, summary.Unknown: 100 + 100 + 200 + 100}
	if got := times(p); got != want {
		t.Errorf("%v, want %v", got, want)
	}
	var sum int64
	for _, ns := range times(p) {
		sum += ns
	}
	if p.Alive != 4 || p.Unsure != 1 || sc.s.Alive() != 4 || sum != 4*300+100 || p.Seeded != 4 || p.Found != 1 || p.Violations != 0 {
		t.Errorf("%d alive, %d ns in all, %+v", p.Alive, sum, p)
	}
	for _, row := range p.Blocked {
		if row.Reason == "sleep" && (row.Count != 1 || row.Total != 50) {
			t.Errorf("a wait that was read after the gap: %+v", row)
		}
	}
}

// A wait that is known to have lasted over a gap is time spent waiting; any other is not known.
func TestWaitOverGap(t *testing.T) {
	sc := newScript(t, summary.Options{})
	b := birthAt("main.main", 1)
	for goid := uint64(1); goid <= 3; goid++ {
		sc.there(0, goid, running, "", b)
		sc.feed(event.Event{Kind: event.Transition, Time: 30, GoID: goid, From: running, To: waiting, Reason: "select"})
	}
	sc.feed(event.Event{Kind: event.Gap, Since: 100, Time: 200})
	for goid, since := range map[uint64]int64{1: 90, 2: 150, 3: 0} {
		sc.feed(event.Event{Kind: event.Snapshot, Time: 220, GoID: goid, To: waiting, Reason: "select", Since: since})
	}
	for goid := uint64(1); goid <= 3; goid++ {
		sc.ready(250, goid, 0)
	}
	p := sc.page(300)
	want := [...]int64{summary.Running: 3 * 30, summary.Runnable: 3 * 50, summary.Unknown: 2 * 100, summary.Waiting: 220 + 2*(70+50)}
	if got := times(p); got != want {
		t.Errorf("%v, want %v", got, want)
	}
	for _, row := range p.Blocked {
		if row.Reason == "select" && (row.Count != 3 || row.Total != 220+2*50 || row.Max != 220) {
			t.Errorf("%+v", row)
		}
	}
}

// A gap that is told of in many pieces is one: a goroutine that says nothing in it is not taken for
// one that has ended.
func TestGapInPieces(t *testing.T) {
	sc := newScript(t, summary.Options{})
	sc.there(0, 1, waiting, "select", birthAt("main.main", 1))
	var untraced time.Duration
	for at := int64(100); at < 100+10*3*gstate.MaxGaps; at += 10 {
		sc.feed(event.Event{Kind: event.Gap, Since: at, Time: at + 10})
		if at%100 == 90 {
			untraced += sc.page(at + 10).Untraced
			sc.s.Reset()
		}
	}
	if untraced != 10*3*gstate.MaxGaps || sc.s.Unsure() != 1 {
		t.Errorf("%d ns were not traced, %d goroutines may have ended", untraced, sc.s.Unsure())
	}
}

// A goroutine that ended in a gap lives no longer than up to the first one that it was not heard
// of after; one that was only not heard of lives on.
func TestCensus(t *testing.T) {
	sc := newScript(t, summary.Options{})
	b := birthAt("main.main", 1)
	for goid := uint64(1); goid <= 3; goid++ {
		sc.there(0, goid, waiting, "select", b)
	}
	sc.ready(50, 3, 0)
	sc.change(60, 3, runnable, running, event.ViaSchedule)
	for at := int64(100); at < 900; at += 100 {
		sc.feed(event.Event{Kind: event.Gap, Since: at, Time: at + 50})
		if got := sc.s.Alive() + 3 - sc.s.Unsure(); got != 0 {
			t.Fatalf("%d are known to be alive after a gap", got)
		}
	}
	sc.feed(event.Event{Kind: event.Snapshot, Time: 850, GoID: 1, To: waiting, Reason: "select"})
	sc.ready(900, 2, 0)
	sc.feed(event.Event{Kind: event.Census, Time: 850})
	p := sc.page(1000)
	want := [...]int64{summary.Running: 40, summary.Runnable: 10 + 100, summary.Waiting: 100 + 100 + 50 + 150 + 50, summary.Unknown: 750 + 750}
	if got := times(p); got != want || p.Lived != 2*1000+100 {
		t.Errorf("%v, want %v; lived %d", got, want, p.Lived)
	}
	if p.Missed != 1 {
		t.Errorf("%d of one have ended in a gap", p.Missed)
	}
	if p.Alive != 2 || p.Unsure != 0 || p.Violations != 0 || len(p.Busiest) == 0 || p.Busiest[0].GoID != 3 || !p.Busiest[0].Ended {
		t.Errorf("%+v", p)
	}
}

// A process that ends or executes another program has no goroutines; others go on.
func TestEndOfProcess(t *testing.T) {
	for _, kind := range []event.Kind{event.Exec, event.Exit} {
		sc := newScript(t, summary.Options{})
		for pid := uint32(5); pid < 7; pid++ {
			for goid := uint64(1); goid < 4; goid++ {
				sc.feed(event.Event{Time: 10, PID: pid, GoID: goid, From: dead, To: runnable, Via: event.ViaCreate, Birth: birthAt("main.main", 1)})
			}
		}
		sc.feed(event.Event{Kind: kind, PID: 5, Time: 30})
		p := sc.page(100)
		if p.Alive != 3 || p.Ended != 3 || p.Lived != 3*20+3*90 || p.Sites[0].Lifetime.Total != 60 {
			t.Errorf("%+v", p)
		}
		sc.born(120, 1, birthAt("main.other", 2))
		if p := sc.page(130); p.Alive != 4 || p.Violations != 0 {
			t.Errorf("%+v", p)
		}
	}
}

// The goroutine of an extra M does not live while no C thread has it.
func TestExtraM(t *testing.T) {
	for _, idle := range []goruntime.Status{dead, goruntime.DeadExtra} {
		sc := newScript(t, summary.Options{})
		for at := int64(0); at < 300; at += 100 {
			sc.change(at, 17, idle, syscalled, event.ViaExtraM)
			sc.change(at+7, 17, syscalled, running, event.ViaCgo)
			sc.change(at+10, 17, running, syscalled, event.ViaCgo)
			sc.change(at+20, 17, syscalled, idle, event.ViaExtraM)
		}
		p := sc.page(1000)
		if p.Alive != 0 || p.Created != 0 || p.Ended != 0 || p.Lived != 60 || p.States[summary.Running].Time != 9 || p.Cgo.Count != 6 {
			t.Errorf("%+v", p)
		}
	}
}

func TestGoroutines(t *testing.T) {
	sc := newScript(t, summary.Options{Top: 2})
	b := birthAt("main.main", 1)
	for goid := uint64(1); goid < 5; goid++ {
		sc.born(0, goid, b)
		sc.run(0, goid)
	}
	sc.change(50, 1, running, dead, event.ViaExit)
	sc.park(40, 2, "select")
	sc.park(30, 3, "sleep")
	sc.ready(70, 3, 0)
	sc.run(70, 3)
	sc.park(75, 3, "select")
	sc.change(20, 4, running, dead, event.ViaExit)
	sc.feed(event.Event{Kind: event.Snapshot, Time: 60, Since: 1, GoID: 9, To: waiting, Reason: "select", Birth: b})
	p := sc.page(100)
	if len(p.Busiest) != 2 || p.Busiest[0].GoID != 1 || p.Busiest[0].Time[summary.Running] != 50 || !p.Busiest[0].Ended || p.Busiest[1].GoID != 2 || p.Busiest[1].Ended {
		t.Errorf("busiest %+v", p.Busiest)
	}
	if len(p.LongWaits) != 2 || p.LongWaits[0].GoID != 9 || p.LongWaits[0].Longest != 99 || !p.LongWaits[0].LongestAtLeast ||
		p.LongWaits[1].GoID != 2 || p.LongWaits[1].Longest != 60 || p.LongWaits[1].Reason != "select" {
		t.Errorf("long waits %+v", p.LongWaits)
	}
	if again := sc.page(100); !reflect.DeepEqual(again, p) {
		t.Errorf("asking changes the answer:\n%+v\n%+v", p, again)
	}
}
