package leaks

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gopherscope/internal/dump"
	"gopherscope/internal/goruntime"
)

// one is a goroutine of a hand-made Dump.
type one struct {
	id     uint64
	site   string // "main": the main goroutine; "": nothing is known
	state  goruntime.Status
	reason string
	stack  string // "": none is known
	seq    uint8
	since  time.Duration // g.waitsince
	flags  dump.Flags
}

// waiter is a goroutine that blocks on a channel.
func waiter(id uint64) one {
	return one{id: id, site: "main.serve", state: goruntime.Waiting, reason: "chan receive", stack: "main.f"}
}

// table has the number of a thing that a Dump names by number.
func table[T comparable](all *[]T, v T) int {
	if i := slices.Index(*all, v); i >= 0 {
		return i
	}
	*all = append(*all, v)
	return len(*all) - 1
}

// noted gives all goroutines but the first an earlier note than that one: they surely waited then.
func noted(then time.Duration) func(*one, int) {
	first := uint64(0)
	return func(o *one, _ int) {
		if first == 0 {
			first = o.id
		}
		if o.since = then - 1; o.id == first {
			o.since = then
		}
	}
}

// dumpOf is a Dump of goroutines, taken at a time after the system's start.
func dumpOf(at time.Duration, gs []one) *dump.Dump {
	d := &dump.Dump{PID: 7, Mono: int64(at), Time: time.Unix(0, int64(at)), HasStacks: true, Reasons: []string{""}, Sites: make([]dump.Site, 1), Stacks: make([]dump.Stack, 1)}
	stacks := []string{""}
	for _, o := range gs {
		g := dump.Goroutine{ID: o.id, Status: o.state, Seq: o.seq, WaitSince: int64(o.since), Flags: o.flags}
		g.Reason = uint8(table(&d.Reasons, o.reason))
		g.Stack = dump.StackID(table(&stacks, o.stack))
		switch o.site {
		case "main":
			g.Start = dump.SiteID(table(&d.Sites, dump.Site{Func: "runtime.main", File: "proc.go", Line: 1}))
		case "":
		default:
			g.Created = dump.SiteID(table(&d.Sites, dump.Site{Func: o.site, File: "main.go", Line: 5}))
			g.Start = dump.SiteID(table(&d.Sites, dump.Site{Func: o.site + ".func1", File: "main.go", Line: 5}))
		}
		d.Goroutines = append(d.Goroutines, g)
	}
	for _, name := range stacks[1:] {
		pc := uint64(0)
		for _, c := range name {
			pc = pc*131 + uint64(c)
		}
		d.Stacks = append(d.Stacks, dump.Stack{Frames: []dump.Frame{{PC: pc, Func: name}}})
	}
	slices.SortFunc(d.Goroutines, func(a, b dump.Goroutine) int { return int(a.ID) - int(b.ID) })
	return d
}

const (
	boot     = time.Hour // of the first Dump, by CLOCK_MONOTONIC
	interval = 5 * time.Second
)

// watch is the Report of n snapshots, interval apart, of the goroutines that at
// gives for each.
func watch(n int, at func(k int) []one) *Report {
	var w Watch
	for k := range n {
		w.Add(dumpOf(boot+time.Duration(k)*interval, at(k)))
	}
	return w.Report()
}

// several are n goroutines from id first on, made by f.
func several(first, n int, f func(id uint64) one) []one {
	var gs []one
	for i := range n {
		gs = append(gs, f(uint64(first+i)))
	}
	return gs
}

// arriving has goroutines that arrive in each interval as rates says, and stay for
// stay snapshots, 0 for ever. Those of the first snapshot are rates[0].
func arriving(stay int, rates ...int) func(k int) []one {
	return func(k int) []one {
		var gs []one
		for i := 0; i <= k; i++ {
			if stay == 0 || k < i+stay {
				gs = append(gs, several(1000*(i+1), rates[i], waiter)...)
			}
		}
		return gs
	}
}

func steady(f func(id uint64) one, n int) func(int) []one {
	return func(int) []one { return several(1, n, f) }
}

func with(f func(o *one, k int), at func(k int) []one) func(k int) []one {
	return func(k int) []one {
		gs := at(k)
		for i := range gs {
			f(&gs[i], k)
		}
		return gs
	}
}

func state(s goruntime.Status, reason string) func(o *one, k int) {
	return func(o *one, _ int) { o.state, o.reason = s, reason }
}

// inFlight are connections that stay for some snapshots, steady since long ago.
func inFlight(each, stay int) func(k int) []one {
	return func(k int) []one {
		var gs []one
		for i := k - stay + 1; i <= k; i++ {
			gs = append(gs, several(1000*(i+stay+1), each, waiter)...)
		}
		return gs
	}
}

func join(ats ...func(k int) []one) func(k int) []one {
	return func(k int) []one {
		var gs []one
		for i, at := range ats {
			for _, o := range at(k) {
				o.id += uint64(i) * 1_000_000
				gs = append(gs, o)
			}
		}
		return gs
	}
}

func TestGrade(t *testing.T) {
	waiting := goruntime.Waiting
	moving := func(o *one, k int) { o.seq = uint8(k) }
	tests := []struct {
		name string
		n    int // snapshots
		at   func(k int) []one
		want Grade
	}{
		// Growth.
		{"abandoned on a channel", 7, arriving(0, 10, 4, 4, 4, 4, 4, 4), Growing},
		{"sleeping loops", 7, with(moving, with(state(waiting, "sleep"), arriving(0, 10, 4, 4, 4, 4, 4, 4))), Growing},
		{"that run", 7, with(state(goruntime.Running, ""), arriving(0, 10, 4, 4, 4, 4, 4, 4)), Growing},
		{"slowly and irregularly", 7, arriving(0, 0, 2, 0, 1, 1, 1, 0), Growing},
		{"too few to tell", 7, arriving(0, 50, 1, 0, 1, 0, 1, 0), None},
		{"one in five leaks", 7, join(arriving(0, 10, 5, 5, 5, 5, 5, 5), arriving(1, 20, 20, 20, 20, 20, 20, 20)), Growing},
		{"a few of those that last go away", 7, join(arriving(0, 10, 8, 8, 8, 8, 8, 8), inFlight(1, 3)), Growing},
		{"four snapshots", 4, arriving(0, 10, 4, 4, 4), Growing},
		{"three snapshots are too few", 3, arriving(0, 10, 40, 40), None},
		{"interrupted rise that goes on", 7, arriving(0, 10, 9, 0, 9, 0, 9, 0), Growing},

		// What only looks like it.
		{"brief ones", 7, arriving(1, 50, 50, 50, 50, 50, 50, 50), None},
		{"ever more brief ones", 7, arriving(1, 10, 20, 30, 40, 50, 60, 70), None},
		{"connections that last", 7, inFlight(20, 4), None},
		{"connections with a little more load", 7, join(inFlight(20, 4), arriving(0, 0, 1, 1, 1, 1, 1, 1)), None},
		{"twice as many connections come as go", 7, join(inFlight(10, 4), arriving(0, 10, 10, 10, 10, 10, 10, 10)), None},
		{"few, and one goes away", 7, join(arriving(0, 0, 1, 1, 1, 1, 1, 1), func(k int) []one { return several(1, 1-k/6, waiter) }), None},
		{"a rise that ends", 7, arriving(0, 10, 30, 30, 30, 0, 0, 0), None},
		{"a rise that ends, six snapshots", 6, arriving(0, 10, 30, 30, 0, 0, 0), None},
		{"fewer and fewer", 7, func(k int) []one { return several(1, 100-10*k, waiter) }, None},

		// Large, and not one moves.
		{"stuck", 7, steady(waiter, 100), Stuck},
		{"99", 7, steady(waiter, 99), None},
		{"on a mutex", 7, with(state(waiting, "sync.Mutex.Lock"), steady(waiter, 100)), Stuck},
		{"not for long", 4, steady(waiter, 100), None},
		{"asleep", 7, with(state(waiting, "sleep"), steady(waiter, 100)), None},
		{"idle connections", 7, with(state(waiting, "IO wait"), steady(waiter, 100)), None},
		{"in a system call", 7, with(state(goruntime.Syscall, ""), steady(waiter, 100)), None},
		{"ready to write to idle connections", 7, with(func(o *one, _ int) { o.stack = "net/http.(*persistConn).writeLoop" }, steady(waiter, 100)), None},
		{"no stacks are known", 7, with(func(o *one, _ int) { o.stack = "" }, steady(waiter, 100)), None},
		{"with different stacks", 7, with(func(o *one, _ int) { o.stack = string(rune('a' + o.id%2)) }, steady(waiter, 150)), None},
		{"one has run", 7, with(func(o *one, k int) {
			if o.id == 7 && k > 2 {
				o.seq++
			}
		}, steady(waiter, 200)), None},
		{"one runs all the time", 7, with(func(o *one, _ int) {
			if o.id == 200 {
				o.state = goruntime.Running
			}
		}, steady(waiter, 200)), None},
		{"all have run", 7, with(moving, steady(waiter, 200)), None},
		{"one waits anew, says the collector", 7, with(func(o *one, k int) {
			o.since = boot
			if o.id == 7 && k == 6 {
				o.since = boot + time.Second
			}
		}, steady(waiter, 200)), None},
		{"the collector came by meanwhile", 7, with(func(o *one, k int) {
			if k > 2 {
				o.since = boot + 11*time.Second
			}
		}, steady(waiter, 200)), Stuck},
		{"one has ended", 7, func(k int) []one { return several(1, 200-k/6, waiter) }, None},

		// One snapshot.
		{"for long, say the collector's notes", 1, with(noted(boot-StuckTime), steady(waiter, 101)), Stuck},
		{"for a while, say the collector's notes", 1, with(noted(boot-StuckTime+1), steady(waiter, 101)), None},
		{"one note says nothing", 1, with(func(o *one, _ int) { o.since = boot - StuckTime }, steady(waiter, 101)), None},
		{"nothing is known", 1, steady(waiter, 100), None},
		{"a time to come is not believed", 1, with(func(o *one, _ int) { o.since = boot + 1 }, steady(waiter, 100)), None},

		// By definition.
		{"nil channel, receive", 1, with(state(waiting, "chan receive (nil chan)"), steady(waiter, 1)), Forever},
		{"nil channel, send", 1, with(state(waiting, "chan send (nil chan)"), steady(waiter, 1)), Forever},
		{"select without cases", 1, with(state(waiting, "select (no cases)"), steady(waiter, 1)), Forever},
		{"the main goroutine may", 7, with(func(o *one, _ int) { o.site, o.reason = "main", "select (no cases)" }, steady(waiter, 1)), None},
		{"the runtime says so", 1, with(state(goruntime.Leaked, "chan receive"), steady(waiter, 1)), Leaked},
		{"the runtime said so before", 3, with(func(o *one, k int) {
			if k == 1 {
				o.state = goruntime.Leaked
			}
		}, steady(waiter, 1)), Leaked},
		{"the runtime erred", 3, with(func(o *one, k int) {
			if k == 1 {
				o.state = goruntime.Leaked
			}
			o.seq = uint8(k / 2)
		}, steady(waiter, 1)), None},
		{"creator unknown", 1, with(func(o *one, _ int) { o.site, o.state = "", goruntime.Leaked }, steady(waiter, 1)), Leaked},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := watch(tt.n, tt.at)
			if len(r.Sites) != 1 {
				t.Fatalf("%d sites", len(r.Sites))
			}
			s := &r.Sites[0]
			if s.Grade != tt.want || (len(s.Evidence) > 0) != (tt.want != None) {
				t.Errorf("%s %q, want %s; in %v", s.Grade, s.Evidence, tt.want, s.Counts)
			}
		})
	}
}

// A goroutine that lets the garbage collector at its stack does not wait.
func TestFakeWait(t *testing.T) {
	at := with(func(o *one, _ int) {
		o.reason = "GC assist marking"
		if o.id <= 2 {
			o.flags = dump.Fake
		}
	}, steady(waiter, 3))
	if s := watch(2, at).Sites[0]; s.Unmoved != 1 {
		t.Errorf("%d goroutines did not move, want 1", s.Unmoved)
	}
}

// A pool that grows at any moment but only once is no leak.
func TestGrowsOnce(t *testing.T) {
	for n := 2; n <= 9; n++ {
		for when := range n {
			rates := make([]int, n)
			rates[0], rates[when] = 10, 50
			if r := watch(n, arriving(0, rates...)); r.Sites[0].Grade != None {
				t.Errorf("%d snapshots, grows before number %d: %s", n, when, r.Sites[0].Evidence)
			}
		}
	}
}

func TestSite(t *testing.T) {
	r := watch(7, join(
		with(func(o *one, k int) {
			switch o.id % 1000 {
			case 0: // of each cohort, one that the collector saw
				o.since = boot - time.Minute - 1
			case 1:
				o.since = boot - time.Minute
			}
		}, arriving(0, 10, 4, 4, 4, 4, 4, 4)),
		arriving(1, 3, 3, 3, 3, 3, 3, 3),
		with(func(o *one, _ int) { o.stack = "main.g" }, steady(waiter, 2)),
	))
	want := Site{
		Grade:    Growing,
		Evidence: []string{"the number of those that last rose in 5 of 5 intervals: 20 came, none went away"},
		Created:  dump.Site{Func: "main.serve", File: "main.go", Line: 5},
		Start:    dump.Site{Func: "main.serve.func1", File: "main.go", Line: 5},
		Count:    39, Counts: []int{15, 19, 23, 27, 31, 35, 39}, New: 24 + 18, Gone: 18, PerMinute: 48,
		Unmoved: 12, Stuck: 10 + 4 + 4 + 4, // those of the first three snapshots, and four that the collector saw
		Oldest: 90 * time.Second, Waiting: 90 * time.Second,
		States:     []dump.StateCount{{Status: goruntime.Waiting, Reason: "chan receive", Count: 39}},
		StackCount: 37, GoIDs: []uint64{1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009},
	}
	got := r.Sites[0]
	if name := got.Stack.Frames[0].Func; name != "main.f" {
		t.Errorf("stack %s", name)
	}
	got.Stack = dump.Stack{}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if net := got.Net(); net != 24 {
		t.Errorf("net %d", net)
	}
}

func TestReport(t *testing.T) {
	named := func(site string, at func(int) []one) func(int) []one {
		return with(func(o *one, _ int) { o.site = site }, at)
	}
	r := watch(7, join(
		named("quiet", steady(waiter, 300)),
		named("few", arriving(0, 1, 1, 1, 1, 1, 1, 1)),
		named("many", arriving(0, 5, 5, 5, 5, 5, 5, 5)),
		named("nil", with(state(goruntime.Waiting, "select (no cases)"), steady(waiter, 1))),
		named("leaked", with(state(goruntime.Leaked, "select"), steady(waiter, 1))),
		named("fine", steady(waiter, 5)),
		named("gone", func(k int) []one { return several(1, 6-k, waiter) }),
		named("runtime.bgsweep", with(func(o *one, _ int) { o.flags = dump.System }, steady(waiter, 500))),
	))
	var got []string
	for _, s := range r.Sites {
		got = append(got, s.Created.Func+": "+s.Grade.Key())
	}
	want := "leaked: leaked, nil: blocked_forever, many: growing, few: growing, quiet: stuck, fine: none"
	if strings.Join(got, ", ") != want {
		t.Errorf("%q, want %s", got, want)
	}
	if r.Goroutines != 349 || r.Snapshots != 7 || !r.Growth || r.Period != 30*time.Second || r.PID != 7 || !r.Start.Equal(time.Unix(3600, 0)) {
		t.Errorf("%+v", r)
	}
	if sites, n := r.Suspects(); sites != 5 || n != 344 {
		t.Errorf("%d suspect sites with %d goroutines", sites, n)
	}
}

func TestAddWaiting(t *testing.T) {
	d := dumpOf(boot, with(state(goruntime.Leaked, "select"), steady(waiter, 5))(0))
	waiters := func(gs ...int32) (ws []dump.Waiter) {
		for _, g := range gs {
			ws = append(ws, dump.Waiter{G: g})
		}
		return ws
	}
	objects := []dump.WaitObject{
		{Addr: 1, Waiters: waiters(0, 1, 2)},
		{Addr: 2, Waiters: waiters(1), Global: dump.GlobalExact},
		{Addr: 3, Waiters: waiters(2)},
		{Addr: 4, Waiters: waiters(3), Refs: []dump.ObjectRef{{G: 4}}},
	}
	for range 2 { // in any order of the objects
		var w Watch
		w.Add(d)
		w.AddWaiting(d, &dump.Waiting{Objects: objects})
		s := w.Report().Sites[0]
		if s.Unreferenced != 2 || !strings.Contains(s.Evidence[1], " what 2 of them wait on") {
			t.Errorf("%d unreferenced, want 0 and 2: %q", s.Unreferenced, s.Evidence)
		}
		slices.Reverse(objects)
	}
}

// Hardly anything that is true of a process is true of a Dump of hostile memory.
func TestHostile(t *testing.T) {
	r := watch(3, func(k int) []one {
		gs := several(1, 3, waiter)
		gs = append(gs, gs[1]) // twice the same goid
		gs[2].since = -5
		if k == 1 {
			gs = nil
		}
		return gs
	})
	if s := r.Sites[0]; s.Count != 3 || s.New != 3 || s.Gone != 3 || s.Oldest > 10*time.Second {
		t.Errorf("%+v", s)
	}
	if r := new(Watch).Report(); r.Snapshots != 0 || len(r.Sites) != 0 {
		t.Errorf("of nothing: %+v", r)
	}
}
