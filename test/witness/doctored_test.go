package witness_test

import (
	"slices"
	"testing"

	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

// TestDoctored wants the comparison to find each fault that is put into a trace
// that had none.
func TestDoctored(t *testing.T) {
	ours, theirs := run(t, traced.EBPF, testenv.Build{Go: "1.26"})
	if found := compareAll(ours, theirs).found; len(found) > 0 {
		t.Fatal(found)
	}
	// A park and its end in the midst of Go's trace.
	middle := (theirs.begin + theirs.end) / 2
	park := slices.IndexFunc(ours.Transitions, func(l traced.Transition) bool {
		return l.MonoNs > middle && l.Via == "park" && l.Is("running", "waiting")
	})
	wake := slices.IndexFunc(ours.Transitions, func(l traced.Transition) bool {
		return l.MonoNs > middle && l.Via == "ready" && l.Is("waiting", "runnable") && *l.Waker != 0
	})
	birth := slices.IndexFunc(ours.Transitions, func(l traced.Transition) bool {
		return l.IsBirth() && l.MonoNs > theirs.begin && *l.Parent != 0
	})
	if park < 0 || wake < 0 || birth < 0 {
		t.Fatalf("park %d, wake %d, birth %d", park, wake, birth)
	}
	one := int64(1 << 40)
	for _, test := range []struct {
		name   string
		doctor func(ls []traced.Transition) []traced.Transition
	}{
		{"missing", func(ls []traced.Transition) []traced.Transition { return slices.Delete(ls, park, park+1) }},
		{"twice", func(ls []traced.Transition) []traced.Transition { return slices.Insert(ls, park, ls[park]) }},
		{"wrong state", func(ls []traced.Transition) []traced.Transition { ls[park].To = "syscall"; return ls }},
		{"wrong thread", func(ls []traced.Transition) []traced.Transition { ls[park].TID++; return ls }},
		{"wrong waker", func(ls []traced.Transition) []traced.Transition { ls[wake].Waker = &one; return ls }},
		{"wrong parent", func(ls []traced.Transition) []traced.Transition { ls[birth].Parent = &one; return ls }},
		{"wrong creator", func(ls []traced.Transition) []traced.Transition {
			place := *ls[birth].CreatedBy
			place.Line++
			ls[birth].CreatedBy = &place
			return ls
		}},
		{"unknown goroutine", func(ls []traced.Transition) []traced.Transition {
			l := ls[park]
			l.GoID = one
			return slices.Insert(ls, park, l)
		}},
		{"not a known difference", func(ls []traced.Transition) []traced.Transition {
			l := ls[park]
			l.From, l.To = "dead", "idle"
			return slices.Insert(ls, park, l)
		}},
	} {
		doctored := *ours
		doctored.Transitions = test.doctor(slices.Clone(ours.Transitions))
		if found := compareAll(&doctored, theirs).found; len(found) == 0 {
			t.Errorf("%s: not found", test.name)
		}
	}
}
