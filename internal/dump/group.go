package dump

import (
	"cmp"
	"encoding/binary"
	"iter"
	"slices"
	"time"

	"gopherscope/internal/goruntime"
)

// Group is the goroutines that have the same stack and were created by the same
// go statement.
type Group struct {
	First  *Goroutine    // the one with the lowest number, for what all have in common
	Count  int           // how many there are
	IDs    []uint64      // the lowest of their numbers, at most GroupIDs
	Parent uint64        // the goroutine that created them; 0 if unknown or not the same
	States []StateCount  // the most frequent first
	Wait   time.Duration // for how long one of them has waited at least; 0 if nothing is known
}

// StateCount is how many goroutines are in one state.
type StateCount struct {
	Status goruntime.Status
	Reason string // why they wait; "" if they do not
	Count  int
}

// GroupIDs is how many numbers of goroutines a Group has at most.
const GroupIDs = 10

// groupKey is what the goroutines of a Group have in common.
type groupKey struct {
	stack   StackID // the first of those that look the same
	created SiteID
	source  StackSource // why there is no stack, where there is none
}

// Groups folds goroutines that look the same, the biggest group first. Stacks
// that differ only in frames that are not shown are the same; with all, all
// frames are.
func (d *Dump) Groups(gs iter.Seq[*Goroutine], all bool) []Group {
	var groups []Group
	byKey := map[groupKey]int{}
	same := d.sameStacks(all)
	for g := range gs {
		key := groupKey{stack: same[g.Stack], created: g.Created}
		if key.stack == 0 {
			key.source = g.Source
		}
		i, ok := byKey[key]
		if !ok {
			i = len(groups)
			byKey[key] = i
			groups = append(groups, Group{First: g, Parent: g.Parent})
		}
		groups[i].add(d, g)
	}
	for i := range groups {
		slices.SortStableFunc(groups[i].States, func(a, b StateCount) int { return cmp.Compare(b.Count, a.Count) })
	}
	slices.SortStableFunc(groups, func(a, b Group) int { return cmp.Compare(b.Count, a.Count) })
	return groups
}

func (gr *Group) add(d *Dump, g *Goroutine) {
	gr.Count++
	if len(gr.IDs) < GroupIDs {
		gr.IDs = append(gr.IDs, g.ID)
	}
	if g.Parent != gr.Parent {
		gr.Parent = 0
	}
	gr.Wait = max(gr.Wait, d.WaitedFor(g))
	reason := d.ReasonOf(g)
	for i := range gr.States {
		if s := &gr.States[i]; s.Status == g.Status && s.Reason == reason {
			s.Count++
			return
		}
	}
	gr.States = append(gr.States, StateCount{Status: g.Status, Reason: reason, Count: 1})
}

// sameStacks has for each stack the first that has the same frames to show.
func (d *Dump) sameStacks(all bool) []StackID {
	same := make([]StackID, len(d.Stacks))
	first := map[string]StackID{}
	var key []byte
	for id := range d.Stacks {
		key = key[:0]
		for _, f := range d.Frames(StackID(id), all) {
			key = binary.LittleEndian.AppendUint64(key, f.PC)
			key = append(key, f.Func...) // tells apart what is inlined at one place
			key = append(key, 0)
		}
		if d.Stacks[id].Cut {
			key = append(key, 1)
		}
		known, ok := first[string(key)]
		if !ok {
			known = StackID(id)
			first[string(key)] = known
		}
		same[id] = known
	}
	return same
}
