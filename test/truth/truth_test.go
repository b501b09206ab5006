// Package truth_test compares what gopherscope stat says of a program with what the
// program measured itself, by the clock around each of its waits. Where a wait can also
// contain something else, as the time until its goroutine is scheduled, the two bounds
// that must hold on the busiest machine are tested, and not a closeness that holds on
// most days.
package truth_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

func TestMain(m *testing.M) {
	code := m.Run()
	traced.Cleanup()
	os.Exit(code)
}

// TestWhole launches the program and compares one page of all.
func TestWhole(t *testing.T) {
	bin := testenv.BuildTarget(t, "truth", testenv.Build{})
	for _, e := range traced.Engines() {
		t.Run(string(e), func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "stat.json")
			args := []string{"stat", "--json", "--top", "1000", "-o", out, "--engine", string(e), "--stacks", "--", bin}
			scope := testenv.Start(t, traced.Tool(t), args...)
			if err := scope.Wait(); err != nil {
				t.Fatalf("gopherscope stat: %v\n%s", err, scope.Stderr())
			}
			pages := readPages(t, out)
			if len(pages) != 1 {
				t.Fatalf("%d pages, want one", len(pages))
			}
			r := newRun(t, pages, strings.Split(scope.Stderr(), "\n"))
			r.check()
			r.checkQueue()
			if p := pages[0]; p.Procs < 1 || p.Engine != string(e) || !p.Stacks {
				t.Errorf("GOMAXPROCS %d, engine %s, stacks %v", p.Procs, p.Engine, p.Stacks)
			}
			for _, b := range r.blocked(waitsOf["mutex"], "mutex") {
				if b.Func != "main.mutexes.func2" && b.Func != "main.(*truth).wait" {
					t.Errorf("waits for the mutex in %s", b.Func)
				}
			}
		})
	}
}

// TestIntervals attaches to the program, and compares the sum of the pages.
func TestIntervals(t *testing.T) {
	bin := testenv.BuildTarget(t, "truth", testenv.Build{})
	engines := traced.Engines()
	e := engines[len(engines)-1]
	p := testenv.StartWaiting(t, bin)
	out := filepath.Join(t.TempDir(), "stat.json")
	scope := testenv.Start(t, traced.Tool(t), "stat", "--json", "--top", "1000", "-i", "200ms", "-o", out, "--engine", string(e), "--max-overhead", "off", strconv.Itoa(p.PID()))
	for begin := time.Now(); fileSize(out) == 0; time.Sleep(20 * time.Millisecond) {
		if time.Since(begin) > testenv.Deadline {
			t.Fatalf("no page after %v; stderr:\n%s", testenv.Deadline, scope.Stderr())
		}
	}
	p.Go()
	lines := p.Lines()
	if err := p.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, p.Stderr())
	}
	if err := scope.Wait(); err != nil {
		t.Fatalf("gopherscope stat: %v\n%s", err, scope.Stderr())
	}
	pages := readPages(t, out)
	for i := 1; i < len(pages); i++ {
		last := i == len(pages)-1
		if got := pages[i].EndNs - pages[i].BeginNs; pages[i].BeginNs != pages[i-1].EndNs || !last && got != int64(200*time.Millisecond) || got <= 0 {
			t.Errorf("page %d is from %d to %d, the one before ends at %d", i, pages[i].BeginNs, pages[i].EndNs, pages[i-1].EndNs)
		}
	}
	if len(pages) < 10 {
		t.Errorf("%d pages only", len(pages))
	}
	if pages[0].Goroutines.Before == 0 {
		t.Error("no goroutine was there before")
	}
	newRun(t, pages, lines).check()
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// slack is how much of one wait the two clocks may be apart, with the rounding of both.
const slack = 20 * time.Microsecond

// waitsOf are the ways to wait that are parks, with the runtime's reason.
var waitsOf = map[string]string{"mutex": "sync.Mutex.Lock", "chan": "chan receive", "select": "select", "sleep": "sleep"}

// check compares everything but quantiles, which pages of intervals do not have.
func (r *run) check() {
	r.t.Helper()
	r.addsUp()
	for key, reason := range waitsOf {
		r.checkWaits(key, reason)
	}
	r.checkSyscalls()
	r.checkBrief()
	r.checkWakes()
	r.checkStops()
}

// addsUp holds the sums that are exact.
func (r *run) addsUp() {
	r.t.Helper()
	for i, p := range r.pages {
		var states, waits int64
		now := 0
		for _, st := range p.States {
			states += st.TimeNs
			now += st.Now
		}
		for _, b := range p.Blocked {
			waits += b.TimeNs
		}
		if states != p.Goroutines.LifetimeNs || now != p.Goroutines.Alive {
			r.t.Errorf("page %d: %d ns in states, %d of lifetimes; %d goroutines in states, %d alive", i, states, p.Goroutines.LifetimeNs, now, p.Goroutines.Alive)
		}
		if waits != p.States["waiting"].TimeNs {
			r.t.Errorf("page %d: %d ns in rows, %d waiting", i, waits, p.States["waiting"].TimeNs)
		}
		if p.Lost["total"] != 0 || p.Violations != 0 {
			r.t.Errorf("page %d: %v lost, %d violations", i, p.Lost, p.Violations)
		}
	}
}

// checkWaits compares a way to wait. The goroutine parks after the program looked at its
// clock and is woken before it looks again, so the time parked is within what the program
// measured; what it measured beyond that the goroutine was runnable or running.
func (r *run) checkWaits(key, reason string) {
	r.t.Helper()
	want := r.truth[key]
	var count, parked, longest int64
	for _, b := range r.blocked(reason, key) {
		count += b.Count
		parked += b.TimeNs
		longest = max(longest, b.MaxNs)
	}
	st := r.states(key)
	all := parked + st["runnable"] + st["running"] + st["preempted"]
	r.t.Logf("%s: %d waits, %v; the program measured %d, %v; with all else %v", key, count, time.Duration(parked), want.count, want.total, time.Duration(all))
	// A wait is none when what is waited for came while the thread was off its CPU.
	if count > want.count || count < want.count*8/10 {
		r.t.Errorf("%s: %d waits of %d", key, count, want.count)
	}
	room := time.Duration(want.count) * slack
	if got := time.Duration(parked); got > want.total+room {
		r.t.Errorf("%s: parked for %v, the program measured %v only", key, got, want.total)
	}
	if got := time.Duration(all); got < want.total-room {
		r.t.Errorf("%s: parked, runnable and running for %v, the program measured %v", key, got, want.total)
	}
	if got := time.Duration(longest); got > want.max+slack {
		r.t.Errorf("%s: a wait of %v, the program's longest is %v", key, got, want.max)
	}
	if parked < int64(want.total)/2 {
		r.t.Errorf("%s: parked for %v of %v: the rest cannot all be queueing", key, time.Duration(parked), want.total)
	}
}

// checkSyscalls does the same for calls that block, of which the P is lost: there is one
// only, and the goroutine that ends the call needs it.
func (r *run) checkSyscalls() {
	r.t.Helper()
	want, st := r.truth["syscall"], r.states("syscall")
	room := time.Duration(want.count) * slack
	in := time.Duration(st["syscall"])
	if in > want.total+room || in+time.Duration(st["runnable"]+st["running"]) < want.total-room || in < want.total/2 {
		r.t.Errorf("in system calls for %v, %v; the program measured %v", in, st, want.total)
	}
	var calls, lost, lostNs, total int64
	for _, p := range r.pages {
		calls += p.Syscalls.Count
		total += p.Syscalls.TotalNs
		lost += p.Syscalls.LostP
		lostNs += p.Syscalls.LostPNs
	}
	r.t.Logf("%d system calls, %v; %d lost their P, for %v", calls, time.Duration(total), lost, time.Duration(lostNs))
	if calls < 2*want.count || lost < want.count*8/10 || lost > calls || lostNs <= 0 || lostNs > total {
		r.t.Errorf("%d system calls, %v; %d lost their P, for %v", calls, time.Duration(total), lost, time.Duration(lostNs))
	}
}

// checkBrief compares goroutines that begin and end.
func (r *run) checkBrief() {
	r.t.Helper()
	want := r.truth["brief"]
	var created, ended, lived int64
	for _, p := range r.pages {
		for _, s := range p.Sites {
			if r.at(s.CreatedBy, "brief") {
				created, ended, lived = created+s.Created, ended+s.Ended, lived+s.Lifetime.TotalNs
			}
		}
	}
	if created != want.count || ended != want.count || time.Duration(lived) < want.total {
		r.t.Errorf("%d created, %d ended, lived for %v; the program measured %d, %v", created, ended, time.Duration(lived), want.count, want.total)
	}
}

// checkWakes: who feeds the channel wakes who waits for it.
func (r *run) checkWakes() {
	r.t.Helper()
	var count int64
	for _, p := range r.pages {
		for _, w := range p.Wakes {
			if w.Waker != nil && w.Via == "ready" && r.at(w.Waker.CreatedBy, "chan_feeder") && r.at(w.Woken.CreatedBy, "chan") {
				count += w.Count
			}
		}
	}
	if n := r.truth["chan"].count; count > n || count < n*8/10 {
		r.t.Errorf("the feeder woke the receiver %d times of %d", count, n)
	}
}

// checkStops compares with the runtime's own account of its pauses, of which the stopping
// is a part. Besides the collector, two calls of the program stop the world.
func (r *run) checkStops() {
	r.t.Helper()
	var count, total int64
	for _, p := range r.pages {
		for _, f := range p.FakeWaits {
			if f.Kind != "stop_the_world" {
				continue
			}
			total += f.TotalNs
			if f.Reason == "stopping the world" {
				count += f.Count
			}
		}
	}
	cycles := r.facts.Counts["num_gc"]
	most := time.Duration(r.facts.Counts["pause_ns"]) + r.truth["gomaxprocs"].total + r.truth["memstats"].total
	others := r.truth["memstats"].count + r.truth["gomaxprocs"].count
	r.t.Logf("%d stops of %d cycles and %d others, %v of %v", count, cycles, others, time.Duration(total), most)
	if cycles < 5 || count < 2*cycles+others || count > 3*cycles+others { // a cycle may try to end more than once
		r.t.Errorf("the world was stopped %d times; %d cycles, and %d others", count, cycles, others)
	}
	if total <= 0 || time.Duration(total) > most+time.Duration(count)*slack {
		r.t.Errorf("stopping took %v, the pauses were %v by the runtime's account", time.Duration(total), most)
	}
}

// checkQueue compares the scheduling latency of goroutines that queue for the only P.
func (r *run) checkQueue() {
	r.t.Helper()
	want := r.truth["queue"]
	if want.p50 < 5*time.Millisecond {
		r.t.Fatalf("the program measured %v: there was no queue", want.p50)
	}
	i := slices.IndexFunc(r.pages[0].Sched.BySite, func(s schedSite) bool { return r.at(s.CreatedBy, "queue") })
	if i < 0 {
		r.t.Fatal("no latency of the goroutines that queue")
	}
	got := r.pages[0].Sched.BySite[i]
	r.t.Logf("queue: %d, p50 %v; the program measured %d, %v", got.Count, time.Duration(got.P50Ns), want.count, want.p50)
	if ratio := float64(got.P50Ns) / float64(want.p50); ratio < 0.85 || ratio > 1.15 {
		r.t.Errorf("half queued for %v or less; the program measured %v", time.Duration(got.P50Ns), want.p50)
	}
	st := r.states("queue")
	if got.Count < want.count || time.Duration(st["runnable"]+st["running"]+st["preempted"]) < want.total {
		r.t.Errorf("queued %d times, %v; the program measured %d, %v", got.Count, st, want.count, want.total)
	}
	if n := r.pages[0].Exec.EndedBy["yield"]; n < want.count {
		r.t.Errorf("%d yields; the program measured %d", n, want.count)
	}
}
