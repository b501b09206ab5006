package live_test

import (
	"path/filepath"
	"strings"
	"testing"

	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

// work is the package of the target's behaviours.
const work = "testprog/internal/work."

// checkFacts compares a trace of the program all with what the program says it
// did. What each key means is told in testdata/testprog/internal/work.
func checkFacts(t *testing.T, tr *traced.Trace) findings {
	t.Helper()
	c := checker{t: t, tr: tr, sites: testenv.Sites(t)}
	c.pingPong()
	c.births()
	c.locks()
	c.syscalls()
	c.sleeps()
	c.network()
	c.collections()
	c.preemption()
	if tr.Build.Minor() >= 23 {
		c.coroutines()
	}
	if tr.Build.HasC() {
		c.cgo()
	}
	return c.found
}

type checker struct {
	t     *testing.T // for a target that did not say what it did
	tr    *traced.Trace
	sites map[string]testenv.Site
	found findings
}

// told is a count that the target printed; it fails the test if there is none.
func (c *checker) told(key string) int {
	c.t.Helper()
	n, ok := c.tr.Facts.Counts[key]
	if !ok || n <= 0 {
		c.t.Fatalf("the target did not print a count of %s: %v", key, c.tr.Facts)
	}
	return int(n)
}

// goid is a goroutine that the target named.
func (c *checker) goid(key string) int64 {
	c.t.Helper()
	id := c.tr.Facts.GoIDs[key]
	if id <= 0 {
		c.t.Fatalf("the target did not print the goid of %s: %v", key, c.tr.Facts)
	}
	return id
}

// equal compares how many transitions there are with how many there must be.
func (c *checker) equal(what string, got []traced.Transition, want int) {
	if len(got) != want {
		c.found.errorf("%s: traced %d, the target did %d", what, len(got), want)
	}
}

// atLeast is equal where other things can cause the same transitions.
func (c *checker) atLeast(what string, got []traced.Transition, least int) {
	if len(got) < least {
		c.found.errorf("%s: traced %d, the target did %d", what, len(got), least)
	}
}

// parks is a goroutine's transitions from running to waiting for one of the
// reasons, really parked.
func (c *checker) parks(key string, reasons ...string) []traced.Transition {
	c.t.Helper()
	id := c.goid(key)
	return c.tr.Where(func(l *traced.Transition) bool {
		return l.GoID == id && l.Is("running", "waiting") && !l.FakeWait && contains(reasons, l.Reason)
	})
}

func contains(list []string, s string) bool {
	for _, one := range list {
		if one == s {
			return true
		}
	}
	return false
}

// changes is a goroutine's transitions from one state to another.
func (c *checker) changes(key, from, to string) []traced.Transition {
	c.t.Helper()
	id := c.goid(key)
	return c.tr.Where(func(l *traced.Transition) bool { return l.GoID == id && l.Is(from, to) })
}

func (c *checker) pingPong() {
	ping, pong, handoffs := c.goid("ping"), c.goid("pong"), c.told("handoffs")
	reasons := []string{"chan receive", "chan send"}
	parks := append(c.parks("ping", reasons...), c.parks("pong", reasons...)...)
	c.equal("parks of ping and pong", parks, handoffs)
	woken := c.tr.Where(func(l *traced.Transition) bool {
		return l.Is("waiting", "runnable") && l.Via == "ready" &&
			(l.GoID == ping && *l.Waker == pong || l.GoID == pong && *l.Waker == ping)
	})
	c.equal("wakings of ping by pong and of pong by ping", woken, handoffs)
}

// born is the births by a marked go statement.
func (c *checker) born(function, site string) []traced.Transition {
	c.t.Helper()
	s, ok := c.sites[site]
	if !ok {
		c.t.Fatalf("no site %s in the target's source", site)
	}
	return c.tr.Where(func(l *traced.Transition) bool {
		return l.IsBirth() && l.CreatedBy != nil && l.CreatedBy.Func == work+function &&
			filepath.Base(l.CreatedBy.File) == s.File && l.CreatedBy.Line == s.Line
	})
}

func (c *checker) births() {
	for _, test := range []struct {
		function, site, start string
		want                  int
	}{
		{"PingPong", "ping", "pinger", 1},
		{"PingPong", "pong", "ponger", 1},
		{"Spawn", "spawn", "spawned", c.told("goroutines")},
		{"contend", "contend", "contend.func1", c.told("contenders")},
		{"Preempt", "spin", "spin", c.told("spinners")},
	} {
		born := c.born(test.function, test.site)
		c.equal("goroutines created at "+test.site, born, test.want)
		for _, l := range born {
			if l.Start == nil || l.Start.Func != work+test.start {
				c.found.errorf("start is not %s:\n\t%s", test.start, l.Text)
			}
			if *l.Parent != c.goid("spawner") {
				c.found.errorf("parent is not %d:\n\t%s", c.goid("spawner"), l.Text)
			}
			life := c.tr.Of(l.GoID)
			if end := life[len(life)-1]; end.To != "dead" {
				c.found.errorf("goroutine %d, created at %s, does not end:\n\t%s", l.GoID, test.site, end.Text)
			}
		}
	}
	timers := c.tr.Where(func(l *traced.Transition) bool {
		return l.IsBirth() && l.CreatedBy != nil && l.CreatedBy.Func == "time.goFunc"
	})
	c.equal("goroutines created by timers", timers, c.told("timers"))
	for _, l := range timers {
		if !strings.HasPrefix(l.Start.Func, work+"Timer.func") || *l.Parent != 0 {
			c.found.errorf("not a goroutine that a timer of Timer made:\n\t%s", l.Text)
		}
	}
}

func (c *checker) locks() {
	reason := "sync.Mutex.Lock"
	if c.tr.Build.Minor() < 20 {
		reason = "semacquire"
	}
	c.equal("waits for the lock", c.parks("locker", reason), c.told("lock_waits"))
	woken := c.tr.Where(func(l *traced.Transition) bool {
		return l.GoID == c.goid("locker") && l.Is("waiting", "runnable") && *l.Waker == c.goid("holder")
	})
	c.atLeast("wakings of locker by holder", woken, c.told("lock_waits"))

	var yields, preempts []traced.Transition
	for _, l := range c.changes("yielder", "running", "runnable") {
		switch l.Via {
		case "yield":
			yields = append(yields, l)
		case "preempt":
			preempts = append(preempts, l)
		}
	}
	c.atLeast("yields and preemptions", append(preempts, yields...), c.told("gosched"))
	if got, want := len(yields), c.told("gosched"); got > want {
		c.found.errorf("traced %d yields, the target did %d", got, want)
	}

	threads := map[int]bool{}
	for _, l := range c.tr.Of(c.goid("locked")) {
		if l.To == "running" {
			threads[l.TID] = true
		}
	}
	if len(threads) != 1 {
		c.found.errorf("a goroutine locked to its thread ran on threads %v", threads)
	}
}

func (c *checker) syscalls() {
	calls := c.told("syscalls")
	c.equal("system calls entered", c.changes("caller", "running", "syscall"), calls)
	left := append(c.changes("caller", "syscall", "running"), c.changes("caller", "syscall", "runnable")...)
	c.equal("system calls left", left, calls)

	long := c.tr.Where(func(l *traced.Transition) bool {
		return l.GoID == c.goid("blocked") && l.From == "syscall" && l.ForNs != nil && *l.ForNs >= 25e6
	})
	c.equal("reads that blocked", long, c.told("blocked_reads"))
	c.equal("reads", c.changes("blocked", "running", "syscall"), c.told("blocked_reads"))
}

// sleeps looks at the time from one end of a sleep to the next. How long one
// waits is no measure: the runtime notes when to wake the goroutine before it
// parks it (timeSleep, runtime/time.go), and the thread may be off its CPU in
// between.
func (c *checker) sleeps() {
	c.equal("sleeps", c.parks("sleeper", "sleep"), c.told("sleeps"))
	var woken int64
	for _, l := range c.changes("sleeper", "waiting", "runnable") {
		if l.Via != "timer" {
			continue
		}
		if l.MonoNs-woken < 1e6 {
			c.found.errorf("two sleeps of a millisecond end within less:\n\t%s", l.Text)
		}
		woken = l.MonoNs
	}
}

func (c *checker) network() {
	c.atLeast("waits for the network", c.parks("server", "IO wait"), c.told("io_waits"))
	polled := c.tr.Where(func(l *traced.Transition) bool {
		return l.GoID == c.goid("server") && l.Is("waiting", "runnable") && l.Via == "netpoll"
	})
	c.atLeast("wakings by the network poller", polled, c.told("io_waits"))
}

// collections looks for the waits in which the goroutine that ends a mark phase
// keeps its thread, one a collection.
func (c *checker) collections() {
	c.atLeast("fake waits of a collection", c.tr.Where(func(l *traced.Transition) bool {
		return l.FakeWait && (l.Reason == "garbage collection" || l.Reason == "GC mark termination")
	}), c.told("gc"))
}

func (c *checker) preemption() {
	spinners := map[int64]bool{}
	for _, l := range c.born("Preempt", "spin") {
		spinners[l.GoID] = true
	}
	c.atLeast("preemptions of goroutines that spin", c.tr.Where(func(l *traced.Transition) bool {
		return spinners[l.GoID] && l.Is("running", "runnable") && l.Via == "preempt"
	}), 1)
	if yields := c.tr.Where(func(l *traced.Transition) bool {
		return spinners[l.GoID] && l.Via == "yield"
	}); len(yields) > 0 {
		c.found.errorf("a goroutine that only spins yields:\n\t%s", yields[0].Text)
	}
}

func (c *checker) coroutines() {
	rounds := (c.told("coro_switches") - 2) / 2
	c.equal("switches into the coroutine", c.parks("coro_caller", "coroutine"), rounds+1)
	c.equal("switches out of the coroutine", c.parks("coro", "coroutine"), rounds)
	c.equal("entries of the caller", c.changes("coro_caller", "waiting", "running"), rounds+1)
	c.equal("entries of the coroutine", c.changes("coro", "waiting", "running"), rounds+1)
	c.equal("ends of the coroutine", c.changes("coro", "running", "dead"), 1)
}

func (c *checker) cgo() {
	calls := c.told("cgo_calls")
	c.equal("calls of C", c.changes("cgo_caller", "running", "syscall"), calls)
	back := append(c.changes("cgo_caller", "syscall", "running"), c.changes("cgo_caller", "syscall", "runnable")...)
	c.equal("returns from C", back, calls)
	thread := append(c.changes("cgo_thread", "syscall", "running"), c.changes("cgo_thread", "syscall", "runnable")...)
	c.equal("callbacks on a thread of C", thread, c.told("cgo_thread_callbacks"))
}
