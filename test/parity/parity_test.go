// Package parity_test traces one program with each engine and compares what they say of
// it. No two runs of a program are the same, so what is compared is what the program
// itself determines, and which kinds of changes there are at all; test/live holds each
// engine to what is true of one trace. The environment's GOPHERSCOPE_MATRIX=1 selects
// all builds; otherwise a cross-section is run.
package parity_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

func TestMain(m *testing.M) {
	code := m.Run()
	traced.Cleanup()
	os.Exit(code)
}

func builds() []testenv.Build {
	if os.Getenv("GOPHERSCOPE_MATRIX") == "1" {
		return testenv.Matrix()
	}
	return testenv.CrossSection()
}

// rounds is how often the program repeats each of its behaviours.
const rounds = 60

// TestParity compares the engines on the program that behaves in every way.
func TestParity(t *testing.T) {
	if len(traced.Engines()) < 2 {
		t.Skip("there is one engine only on this architecture")
	}
	for _, b := range builds() {
		t.Run(b.String(), func(t *testing.T) {
			ebpf, inline := whole(t, traced.EBPF, b), whole(t, traced.Inline, b)
			for _, text := range compare(ebpf, inline) {
				t.Error(text)
			}
		})
	}
}

// whole traces the program, again if events were lost for want of room, which on a busy
// machine happens to either engine: see test/live.
func whole(t *testing.T, e traced.Engine, b testenv.Build) *traced.Trace {
	t.Helper()
	const tries = 3
	for range tries {
		tr := e.Launch(t, "all", b, strconv.Itoa(rounds))
		if tr.Summary.Lost["total"] == 0 {
			return tr
		}
		t.Logf("%s: %v of %d events lost, tried again", e, tr.Summary.Lost, tr.Summary.Events)
	}
	t.Fatalf("%s: %d times events were lost", e, tries)
	return nil
}

// TestDoctored: each comparison notices what it is for, in a trace of which a copy was
// changed.
func TestDoctored(t *testing.T) {
	b := testenv.Build{Go: "1.26"}
	if len(traced.Engines()) < 2 {
		t.Skip("there is one engine only on this architecture")
	}
	tr := whole(t, traced.Inline, b)
	if found := compare(tr, tr); len(found) > 0 {
		t.Fatalf("a trace is not like itself: %v", found)
	}
	id := func(role string) int64 { return tr.Facts.GoIDs[role] }
	type line = traced.Transition
	spawned := func(l *line) bool {
		return l.IsBirth() && *l.Parent == id("spawner") && strings.Contains(l.CreatedBy.Func, "/work.")
	}
	every := func(*line) bool { return true }
	nobody := new(int64)
	for name, test := range map[string]struct {
		all  bool             // or the first one only
		is   func(*line) bool // which lines
		edit func(*line)      // nil: they are left out
	}{
		"a system call is missing": {false, func(l *line) bool { return l.GoID == id("caller") && l.To == "syscall" }, nil},
		"a sleep is missing":       {false, func(l *line) bool { return l.GoID == id("sleeper") && l.Reason == "sleep" }, nil},
		"a switch is missing":      {false, func(l *line) bool { return l.GoID == id("coro") && l.Via == "coroutine" }, nil},
		"a birth is missing":       {false, spawned, nil},
		"a kind is missing":        {true, func(l *line) bool { return l.Via == "yield" }, nil},
		"another waker":            {true, func(l *line) bool { return l.GoID == id("locker") && l.Waker != nil }, func(l *line) { l.Waker = nobody }},
		"wakers are missing":       {true, func(l *line) bool { return l.Via == "ready" }, func(l *line) { l.Waker = nobody }},
		"another parent":           {false, spawned, func(l *line) { l.Parent = nobody }},
		"another start":            {false, spawned, func(l *line) { l.Start = &traced.Place{Func: "elsewhere"} }},
		"another place":            {false, spawned, func(l *line) { l.CreatedBy = &traced.Place{Func: "elsewhere"} }},
		"another M":                {false, every, func(l *line) { l.M += 1000 }},
		"another thread":           {false, every, func(l *line) { l.TID = 1 }},
		"wakings without a P":      {true, func(l *line) bool { return l.Via == "ready" }, func(l *line) { l.P = -1 }},
		"a P too many":             {false, every, func(l *line) { l.P = int64(runtime.NumCPU()) }},
	} {
		t.Run(name, func(t *testing.T) {
			other, edited := *tr, 0
			other.Transitions = nil
			for _, l := range tr.Transitions {
				if (test.all || edited == 0) && test.is(&l) {
					if edited++; test.edit == nil {
						continue
					}
					test.edit(&l)
				}
				other.Transitions = append(other.Transitions, l)
			}
			if edited == 0 || len(compare(tr, &other)) == 0 {
				t.Errorf("not noticed, of %d lines", edited)
			}
		})
	}
}

// view is one engine's trace, in names that are the same in both: the goroutines' numbers
// are not.
type view struct {
	*traced.Trace
	names map[int64]string
}

// role is the part that a goroutine plays, as the program told; "g" for others, "" for
// none.
func (v *view) role(id int64) string {
	if v.names == nil {
		v.names = map[int64]string{0: ""}
		for _, name := range slices.Sorted(maps.Keys(v.Facts.GoIDs)) {
			v.names[v.Facts.GoIDs[name]] += name + " " // a goroutine can play several
		}
	}
	if name, ok := v.names[id]; ok {
		return name
	}
	return "g"
}

// comparison is of two traces of one program.
type comparison struct {
	side  [2]view
	found []string // what is not the same
}

func (c *comparison) errorf(format string, args ...any) {
	c.found = append(c.found, fmt.Sprintf(format, args...))
}

// compare looks at two traces from every side.
func compare(ebpf, inline *traced.Trace) []string {
	c := comparison{side: [2]view{{Trace: ebpf}, {Trace: inline}}}
	c.roles()
	c.births()
	c.kinds()
	for i := range c.side {
		c.threads(&c.side[i])
	}
	return c.found
}

// steps is what a role's goroutine did, one line a step, without what is left out.
func (v *view) steps(role string, step func(before, l *traced.Transition) string) []string {
	var list []string
	before := &traced.Transition{}
	all := v.Of(v.Facts.GoIDs[role])
	for i := range all {
		if s := step(before, &all[i]); s != "" {
			list = append(list, s)
		}
		before = &all[i]
	}
	return list
}

// roles compares, change for change, what a goroutine does that no scheduling can alter.
// Left out is what depends on when things happen: being preempted, stopped for a garbage
// collection and scheduled again, and on which side of a channel somebody has to wait.
func (c *comparison) roles() {
	for role, steps := range map[string]struct {
		step  func(v *view, before, l *traced.Transition) string
		least int // how many steps there must be
		has   func() bool
	}{
		"caller":      {systemCalls, 4 * rounds, always},
		"blocked":     {systemCalls, 2 * 3, always},
		"sleeper":     {sleeps, 2 * (rounds/10 + 1), always},
		"locker":      {locks, 2 * (rounds/10 + 1), always},
		"coro":        {switches, 2*rounds + 2, c.hasCoro},
		"coro_caller": {switches, 2*rounds + 2, c.hasCoro},
		"cgo_caller":  {systemCalls, 2 * (3*rounds + 1), c.hasC},
		"cgo_thread":  {systemCalls, 2 * rounds, c.hasC},
	} {
		if !steps.has() {
			continue
		}
		var list [2][]string
		for i := range c.side {
			v := &c.side[i]
			list[i] = v.steps(role, func(before, l *traced.Transition) string { return steps.step(v, before, l) })
		}
		if len(list[0]) < steps.least {
			c.errorf("%s: %d steps, at least %d were expected", role, len(list[0]), steps.least)
		}
		c.same("what "+role+" does", list[0], list[1])
	}
}

func always() bool                  { return true }
func (c *comparison) hasCoro() bool { return c.side[0].Build.Minor() >= 23 }
func (c *comparison) hasC() bool    { return c.side[0].Build.HasC() }

// same compares two lists and shows where they part.
func (c *comparison) same(what string, ebpf, inline []string) {
	for i := 0; i < len(ebpf) || i < len(inline); i++ {
		at := func(list []string) string {
			if i < len(list) {
				return list[i]
			}
			return "nothing"
		}
		if at(ebpf) != at(inline) {
			c.errorf("%s: %d steps and %d; step %d is %q in %s's view and %q in %s's", what, len(ebpf), len(inline), i, at(ebpf), traced.EBPF, at(inline), traced.Inline)
			return
		}
	}
}

// systemCalls is the way into system calls and C, and out of them. Whether the P was lost
// meanwhile, and thus what a goroutine comes out as, is a question of time.
func systemCalls(_ *view, _, l *traced.Transition) string {
	switch {
	case l.From == "syscall" && (l.To == "running" || l.To == "runnable"):
		return "back"
	case l.From == "syscall" || l.To == "syscall":
		return fmt.Sprintf("%s to %s, %s", l.From, l.To, l.Via)
	}
	return ""
}

// sleeps is the parks of a sleeper, and what ends them.
func sleeps(v *view, before, l *traced.Transition) string {
	switch {
	case l.To == "waiting" && l.Reason == "sleep":
		return "sleeps, " + l.Via
	case before.To == "waiting" && before.Reason == "sleep":
		return v.woken(l)
	}
	return ""
}

// locks is the waits for a lock, and who ends them.
func locks(v *view, before, l *traced.Transition) string {
	lock := func(reason string) bool { return reason == "sync.Mutex.Lock" || reason == "semacquire" }
	switch {
	case l.To == "waiting" && lock(l.Reason) && !l.FakeWait:
		return "waits for " + l.Reason + ", " + l.Via
	case before.To == "waiting" && lock(before.Reason) && !before.FakeWait:
		return v.woken(l)
	}
	return ""
}

func (v *view) woken(l *traced.Transition) string {
	waker := "nobody"
	if l.Waker != nil {
		waker = v.role(*l.Waker)
	}
	return fmt.Sprintf("%s to %s, %s by %q", l.From, l.To, l.Via, waker)
}

// switches is what coroutines do, with their births and ends.
func switches(_ *view, _, l *traced.Transition) string {
	if l.Via == "coroutine" || l.To == "dead" || l.IsBirth() {
		return fmt.Sprintf("%s to %s, %s, %s", l.From, l.To, l.Via, l.Reason)
	}
	return ""
}

// births compares the goroutines that the program makes: how many at which statement, of
// which parent and start. Those of the runtime are compared by whether there are any, as
// it makes helpers when it needs them.
func (c *comparison) births() {
	var list [2][]string
	for i := range c.side {
		v := &c.side[i]
		count := map[string]int{}
		for _, l := range v.Where((*traced.Transition).IsBirth) {
			what := fmt.Sprintf("%s to %s, %s, of %q, at %s, starts %s", l.From, l.To, l.Via, v.role(*l.Parent), place(l.CreatedBy), place(l.Start))
			if l.CreatedBy == nil || strings.HasPrefix(l.CreatedBy.Func, "runtime.") || strings.HasPrefix(l.Start.Func, "runtime.") {
				count["runtime: "+place(l.Start)] = 1
				continue
			}
			count[what]++
		}
		for what, n := range count {
			list[i] = append(list[i], fmt.Sprintf("%s: %d", what, n))
		}
		slices.Sort(list[i])
	}
	c.same("births", list[0], list[1])
	if len(list[0]) < 10 {
		c.errorf("births at %d places only: %v", len(list[0]), list[0])
	}
}

func place(p *traced.Place) string {
	if p == nil {
		return "nowhere"
	}
	return fmt.Sprintf("%s %s:%d", p.Func, filepath.Base(p.File), p.Line)
}

// kind is a sort of change.
type kind struct{ from, to, via, reason string }

// manner is how the changes of a kind were.
type manner struct{ n, noP, wakers, zero, fake int }

func (v *view) manners() map[kind]*manner {
	found := map[kind]*manner{}
	for i := range v.Transitions {
		l := &v.Transitions[i]
		reason := l.Reason
		if reason == "chan send" || reason == "chan receive" {
			reason = "chan" // which side waits for the other is a question of time
		}
		k := kind{l.From, l.To, l.Via, reason}
		if found[k] == nil {
			found[k] = &manner{}
		}
		m := found[k]
		m.n++
		for count, is := range map[*int]bool{&m.noP: l.P < 0, &m.wakers: l.Waker != nil, &m.zero: l.Waker != nil && *l.Waker == 0, &m.fake: l.FakeWait} {
			if is {
				*count++
			}
		}
	}
	return found
}

// often is how many changes of a kind one engine sees if the other cannot have missed them
// all by chance.
const often = 20

// kinds: every kind of change that one engine reports often the other reports, and what
// is true of all of them in the one's view is not false of all in the other's: whether
// they are made with a P, by whom somebody is woken, whether a wait is a real one.
func (c *comparison) kinds() {
	all := [2]map[kind]*manner{c.side[0].manners(), c.side[1].manners()}
	seen := 0
	for i := range all {
		for k, m := range all[i] {
			if m.n < often || c.chance(k) {
				continue
			}
			other := all[1-i][k]
			if other == nil {
				c.errorf("%s sees %d changes %v, %s none", c.side[i].Engine, m.n, k, c.side[1-i].Engine)
				continue
			}
			seen++
			if other.n < often {
				continue
			}
			for what, n := range map[string][2]int{"without a P": {m.noP, other.noP}, "with a waker": {m.wakers, other.wakers}, "with the waker 0": {m.zero, other.zero}, "fake": {m.fake, other.fake}} {
				if n[0] == m.n && n[1] == 0 {
					c.errorf("%v: all %d are %s in %s's view, none of %d in %s's", k, m.n, what, c.side[i].Engine, other.n, c.side[1-i].Engine)
				}
			}
		}
	}
	if seen < 20 {
		c.errorf("%d kinds of changes were compared only", seen)
	}
}

// chance says whether it is a matter of luck how many changes of a kind there are, even
// whether there is one: losing the P in a system call depends on sysmon's clock, which
// runs beside a traced program that is slowed down more by one engine than by the other.
func (c *comparison) chance(k kind) bool {
	return k.via == "no-p" || k.from == "syscall" && k.to == "runnable"
}

// threads: an M is one thread and a thread is one M, but for the Ms that C threads borrow;
// no more Ps than CPUs; and what needs a P has one.
func (c *comparison) threads(v *view) {
	tids, ms := map[int64]int{}, map[int]int64{}
	borrowed := map[int64]bool{}
	for _, l := range v.Where(func(l *traced.Transition) bool { return l.Via == "extra-m" }) {
		borrowed[l.M] = true
	}
	for i := range v.Transitions {
		l := &v.Transitions[i]
		if l.P >= int64(runtime.NumCPU()) || l.P < -1 {
			c.errorf("%s: a P that there is not: %s", v.Engine, l.Text)
		}
		if (l.Via == "park" || l.Via == "exit" || l.Via == "schedule" || l.Via == "create" || l.Via == "coroutine") && l.P < 0 {
			c.errorf("%s: without a P: %s", v.Engine, l.Text)
		}
		if borrowed[l.M] {
			continue
		}
		if tid, ok := tids[l.M]; ok && tid != l.TID {
			c.errorf("%s: M %d was thread %d: %s", v.Engine, l.M, tid, l.Text)
		}
		if m, ok := ms[l.TID]; ok && m != l.M {
			c.errorf("%s: thread %d was M %d: %s", v.Engine, l.TID, m, l.Text)
		}
		tids[l.M], ms[l.TID] = l.TID, l.M
	}
	if len(tids) < 2 {
		c.errorf("%s: %d threads", v.Engine, len(tids))
	}
}
