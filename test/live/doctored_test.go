package live_test

import (
	"maps"
	"slices"
	"testing"

	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

// TestDoctored wants the checks to find each fault that is put into a trace that
// had none.
func TestDoctored(t *testing.T) {
	tr := traced.EBPF.Launch(t, "all", testenv.Build{Go: "1.26"}, "20")
	if found := append(checkStream(tr), checkFacts(t, tr)...); len(found) > 0 {
		t.Fatal(found)
	}
	ping, caller := tr.Facts.GoIDs["ping"], tr.Facts.GoIDs["caller"]
	index := func(match func(l *traced.Transition) bool) int {
		i := slices.IndexFunc(tr.Transitions, func(l traced.Transition) bool { return match(&l) })
		if i < 0 {
			t.Fatal("the trace lacks a line to doctor")
		}
		return i
	}
	park := index(func(l *traced.Transition) bool { return l.GoID == ping && l.Via == "park" })
	wake := index(func(l *traced.Transition) bool { return l.GoID == ping && l.Via == "ready" })
	leave := index(func(l *traced.Transition) bool { return l.GoID == caller && l.From == "syscall" })
	birth := index(func(l *traced.Transition) bool {
		return l.IsBirth() && l.CreatedBy != nil && l.CreatedBy.Func == work+"Spawn"
	})
	other := int64(1 << 40)
	edit := func(i int, change func(l *traced.Transition)) func(*traced.Trace) {
		return func(tr *traced.Trace) { change(&tr.Transitions[i]) }
	}
	for name, doctor := range map[string]func(*traced.Trace){
		"missing": func(tr *traced.Trace) { tr.Transitions = slices.Delete(tr.Transitions, park, park+1) },
		"twice": func(tr *traced.Trace) {
			tr.Transitions = slices.Insert(tr.Transitions, park, tr.Transitions[park])
		},
		"a call missing": func(tr *traced.Trace) { tr.Transitions = slices.Delete(tr.Transitions, leave-1, leave+1) },
		"goid 0":         edit(park, func(l *traced.Transition) { l.GoID = 0 }),
		"reason":         edit(park, func(l *traced.Transition) { l.Reason = "select" }),
		"no reason":      edit(park, func(l *traced.Transition) { l.Reason = "" }),
		"for_ns":         edit(park, func(l *traced.Transition) { l.ForNs = &other }),
		"time":           edit(park, func(l *traced.Transition) { l.MonoNs = 1 }),
		"violation":      edit(park, func(l *traced.Transition) { l.Violation = true }),
		"process":        edit(park, func(l *traced.Transition) { l.PID++ }),
		"waker":          edit(wake, func(l *traced.Transition) { l.Waker = &other }),
		"self-woken":     edit(wake, func(l *traced.Transition) { l.Waker = &l.GoID }),
		"thread":         edit(leave, func(l *traced.Transition) { l.TID++ }),
		"parent":         edit(birth, func(l *traced.Transition) { l.Parent = &other }),
		"start":          edit(birth, func(l *traced.Transition) { l.Start = &traced.Place{Func: "main.main"} }),
		"creator": edit(birth, func(l *traced.Transition) {
			l.CreatedBy = &traced.Place{Func: l.CreatedBy.Func, File: l.CreatedBy.File, Line: l.CreatedBy.Line + 1}
		}),
		"at least": edit(park, func(l *traced.Transition) { l.AtLeast = true }),
		"there before the program": func(tr *traced.Trace) {
			tr.Snapshots = []traced.Snapshot{{GoID: 1 << 40, State: "running", PID: tr.PID, MonoNs: 1}}
			tr.Summary.Goroutines++
			tr.Summary.Seeded++
		},
		"lost":       func(tr *traced.Trace) { tr.Summary.Lost["total"] = 1 },
		"violations": func(tr *traced.Trace) { tr.Summary.Violations = 1 },
		"goroutines": func(tr *traced.Trace) { tr.Summary.Goroutines++ },
		"version":    func(tr *traced.Trace) { tr.Summary.GoVersion = "go1.25" },
	} {
		doctored := *tr
		doctored.Transitions = slices.Clone(tr.Transitions)
		doctored.Summary.Lost = maps.Clone(tr.Summary.Lost)
		doctor(&doctored)
		doctored.Summary.Events = len(doctored.Transitions) // the easiest to find
		if found := append(checkStream(&doctored), checkFacts(t, &doctored)...); len(found) == 0 {
			t.Errorf("%s: not found", name)
		}
	}
}

// TestDoctoredThere does so with the goroutines that were there before.
func TestDoctoredThere(t *testing.T) {
	tr := traced.EBPF.AttachHeld(t, "release", testenv.Build{Go: "1.26"})
	if found := checkStream(tr); len(found) > 0 {
		t.Fatal(found)
	}
	id := tr.Facts.GoIDs["chan_receive"]
	there := slices.IndexFunc(tr.Snapshots, func(s traced.Snapshot) bool { return s.GoID == id })
	first := slices.IndexFunc(tr.Transitions, func(l traced.Transition) bool { return l.GoID == id })
	if there < 0 || first < 0 {
		t.Fatal("the trace lacks a line to doctor")
	}
	one := int64(1)
	for name, doctor := range map[string]func(s []traced.Snapshot, l []traced.Transition, sum *traced.Summary){
		"goid 0":       func(s []traced.Snapshot, _ []traced.Transition, _ *traced.Summary) { s[there].GoID = 0 },
		"process":      func(s []traced.Snapshot, _ []traced.Transition, _ *traced.Summary) { s[there].PID++ },
		"dead":         func(s []traced.Snapshot, _ []traced.Transition, _ *traced.Summary) { s[there].State = "dead" },
		"runs":         func(s []traced.Snapshot, _ []traced.Transition, _ *traced.Summary) { s[there].State = "running" },
		"twice":        func(s []traced.Snapshot, _ []traced.Transition, _ *traced.Summary) { s[0].GoID = s[1].GoID },
		"waits longer": func(s []traced.Snapshot, _ []traced.Transition, _ *traced.Summary) { s[there].WaitNs = &one },
		"no creator":   func(s []traced.Snapshot, _ []traced.Transition, _ *traced.Summary) { s[there].CreatedBy = nil },
		"exact":        func(_ []traced.Snapshot, l []traced.Transition, _ *traced.Summary) { l[first].AtLeast = false },
		"no for_ns":    func(_ []traced.Snapshot, l []traced.Transition, _ *traced.Summary) { l[first].ForNs = nil },
		"counted":      func(_ []traced.Snapshot, _ []traced.Transition, sum *traced.Summary) { sum.Seeded-- },
	} {
		doctored := *tr
		doctored.Snapshots, doctored.Transitions = slices.Clone(tr.Snapshots), slices.Clone(tr.Transitions)
		doctor(doctored.Snapshots, doctored.Transitions, &doctored.Summary)
		if found := checkStream(&doctored); len(found) == 0 {
			t.Errorf("%s: not found", name)
		}
	}
}
