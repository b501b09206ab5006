package waiton_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gopherscope/internal/dump"
	"gopherscope/internal/process"
	"gopherscope/internal/snapshot"
	"gopherscope/internal/target"
	"gopherscope/internal/testenv"
	"gopherscope/internal/waiton"
)

// truth is what the program waiton prints.
type truth struct {
	kind    map[string]string   // by key
	addr    map[string]uint64   // by key
	waiters map[string][]string // by key: "GOID HOW"
	holders map[string][]uint64 // by key
}

func start(t *testing.T, b testenv.Build) (*target.Target, truth) {
	t.Helper()
	testenv.RequireRoot(t)
	// The program's go.mod names an old release, whose timers it would have.
	prog := testenv.StartEnv(t, []string{"GODEBUG=asynctimerchan=0"}, testenv.BuildTarget(t, "waiton", b))
	tr := truth{map[string]string{}, map[string]uint64{}, map[string][]string{}, map[string][]uint64{}}
	for {
		line, ok := prog.ReadLine()
		if !ok {
			t.Fatalf("the program ended: %s", prog.Stderr())
		}
		words := strings.Fields(line)
		switch words[0] {
		case "object":
			n := len(words)
			addr, err := strconv.ParseUint(words[n-1], 0, 64)
			if err != nil {
				t.Fatal(err)
			}
			tr.kind[words[n-2]], tr.addr[words[n-2]] = strings.Join(words[1:n-2], " "), addr
		case "waiter":
			tr.waiters[words[1]] = append(tr.waiters[words[1]], words[2]+" "+words[3])
		case "holder":
			id, err := strconv.ParseUint(words[2], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			tr.holders[words[1]] = append(tr.holders[words[1]], id)
		case "held":
			p, err := process.Open(prog.PID())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { p.Close() })
			tgt, err := target.Open(p)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { tgt.Close() })
			return tgt, tr
		}
	}
}

func find(t *testing.T, tgt *target.Target) (*dump.Dump, *dump.Waiting) {
	t.Helper()
	d, err := snapshot.Take(context.Background(), tgt, &snapshot.Options{Stacks: true})
	if err != nil {
		t.Fatal(err)
	}
	w, err := waiton.Find(context.Background(), tgt, d)
	if err != nil {
		t.Fatal(err)
	}
	return d, w
}

// how are the waiters of o as the program prints them.
func how(d *dump.Dump, o *dump.WaitObject) []string {
	var out []string
	for _, w := range o.Waiters {
		out = append(out, fmt.Sprintf("%d %s", d.Goroutines[w.G].ID, w.How))
	}
	return out
}

func builds() []testenv.Build {
	var out []testenv.Build
	for _, v := range testenv.Versions() {
		out = append(out, testenv.Build{Go: v})
	}
	return append(out,
		testenv.Build{Go: "1.18", PIE: true, Stripped: true}, testenv.Build{Go: "1.21", Cgo: true},
		testenv.Build{Go: "1.23", NoOpt: true}, testenv.Build{Go: "1.25", Race: true},
		testenv.Build{Go: "1.26", PIE: true, Stripped: true}, testenv.Build{Go: "1.27", Cgo: true})
}

// Every object that the program says its goroutines wait on is found, with its
// kind, its address, all who wait and what for.
func TestFind(t *testing.T) {
	for _, b := range builds() {
		t.Run(b.String(), func(t *testing.T) {
			t.Parallel() // it is mostly the program's own waiting
			tgt, tr := start(t, b)
			d, w := find(t, tgt)
			if w.Moved != 0 || w.Unknown != 0 || w.Unsearched != 0 {
				t.Errorf("%d moved, %d unknown, %d unsearched in a program that holds still", w.Moved, w.Unknown, w.Unsearched)
			}
			found := map[string]*dump.WaitObject{} // by key
			for i := range w.Objects {
				o := &w.Objects[i]
				for key := range tr.addr {
					if o.Addr == tr.addr[key] && o.Kind.String() == tr.kind[key] {
						found[key] = o
					}
				}
			}
			checkWaiters(t, d, tr, found)
			checkStates(t, found, b.Minor())
			checkVerdicts(t, d, tr, found)
			checkCycles(t, d, w, tr)
		})
	}
}

func checkWaiters(t *testing.T, d *dump.Dump, tr truth, found map[string]*dump.WaitObject) {
	t.Helper()
	for key, want := range tr.waiters {
		o := found[key]
		if o == nil {
			t.Errorf("%s %s at %#x: not found", tr.kind[key], key, tr.addr[key])
			continue
		}
		got := how(d, o)
		if tr.addr[key] == 0 { // all nil channels are one object
			for _, one := range want {
				if !slices.Contains(got, one) {
					t.Errorf("%s: waiters %q without %q", key, got, one)
				}
			}
			continue
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: waiters %q, want %q", key, got, want)
		}
	}
}

// checkStates compares the objects' state with what the program made of them.
func checkStates(t *testing.T, found map[string]*dump.WaitObject, minor int) {
	t.Helper()
	for key, want := range map[string]dump.ChanState{
		"recv":      {Elem: "int", Receivers: 3},
		"full":      {Elem: "int", Len: 2, Cap: 2, Senders: 1},
		"empty":     {Elem: "int", Cap: 3, Receivers: 1},
		"select-b":  {Elem: "int", Senders: 1},
		"select-c":  {Elem: "int", Receivers: 1},
		"abandoned": {Elem: "struct { a int; b int }", Receivers: 1},
		"global":    {Elem: "string", Receivers: 1},
		"timer":     {Elem: "time.Time", Cap: 1, Receivers: 1, Timer: minor >= 23},
	} {
		if o := found[key]; o == nil || o.Chan != want {
			t.Errorf("%s: %+v, want %+v", key, o, want)
		}
	}
	for key, want := range map[string]dump.LockState{
		"mutex":   {Locked: true, Queued: 3},
		"written": {Locked: true, Writer: true, Queued: 1, Readers: 2},
		"read":    {Writer: true, Readers: 2},
		"abba-a":  {Locked: true, Queued: 1},
	} {
		o := found[key]
		if o != nil {
			o.Lock.Starving = false // after the second attempt of a waiter
		}
		if o == nil || o.Lock != want {
			t.Errorf("%s: %+v, want %+v", key, o, want)
		}
	}
	if o := found["group"]; o == nil || o.Group != (dump.GroupState{Counter: 2, Waiting: 2}) {
		t.Errorf("group: %+v", o)
	}
}

// checkVerdicts compares who could wake the waiters with what the program says.
func checkVerdicts(t *testing.T, d *dump.Dump, tr truth, found map[string]*dump.WaitObject) {
	t.Helper()
	for key, want := range map[string]dump.Verdict{
		"recv": dump.VerdictReachable, "embedded": dump.VerdictReachable, "abba-a": dump.VerdictReachable,
		"ring-1": dump.VerdictReachable, "global": dump.VerdictReachable, "global-mutex": dump.VerdictReachable,
		"in-global": dump.VerdictReachable, "abandoned": dump.VerdictUnreferenced, "timer": dump.VerdictTimer,
		"nil-recv": dump.VerdictForever, "no-cases": dump.VerdictForever,
	} {
		if o := found[key]; o == nil || o.Verdict() != want {
			t.Errorf("%s: %+v, want the verdict %s", key, o, want)
		}
	}
	for key, want := range map[string]dump.GlobalRef{
		"recv": dump.GlobalNone, "abandoned": dump.GlobalNone, "global": dump.GlobalExact, "block": dump.GlobalExact,
		"global-mutex": dump.GlobalSelf, "in-global": dump.GlobalNear,
	} {
		if o := found[key]; o == nil || o.Global != want {
			t.Errorf("%s: %+v, want the reference %d by a global", key, o, want)
		}
	}
	for key, ids := range tr.holders {
		for _, id := range ids {
			o := found[key]
			if o == nil || !slices.ContainsFunc(o.Refs, func(r dump.ObjectRef) bool {
				return d.Goroutines[r.G].ID == id && r.Near == (key == "embedded")
			}) {
				t.Errorf("%s: %+v: goroutine %d is not among the references", key, o, id)
			}
		}
	}
}

// checkCycles wants the two deadlocks of the program and nothing else.
func checkCycles(t *testing.T, d *dump.Dump, w *dump.Waiting, tr truth) {
	t.Helper()
	var got []string
	for _, c := range w.Cycles {
		var ids, addrs []uint64
		for _, g := range c.Goroutines {
			ids = append(ids, d.Goroutines[g].ID)
		}
		for _, o := range c.Objects {
			addrs = append(addrs, w.Objects[o].Addr)
		}
		slices.Sort(ids)
		slices.Sort(addrs)
		got = append(got, fmt.Sprintf("%d %#x %v", ids, addrs, c.Global))
	}
	var want []string
	for _, keys := range [][]string{{"ring-0", "ring-1", "ring-2"}, {"abba-a", "abba-b"}} {
		var ids, addrs []uint64
		for _, key := range keys {
			id, _ := strconv.ParseUint(strings.Fields(tr.waiters[key][0])[0], 10, 64)
			ids, addrs = append(ids, id), append(addrs, tr.addr[key])
		}
		slices.Sort(ids)
		slices.Sort(addrs)
		want = append(want, fmt.Sprintf("%d %#x false", ids, addrs))
	}
	if !slices.Equal(got, want) {
		t.Errorf("cycles %q, want %q", got, want)
	}
}
