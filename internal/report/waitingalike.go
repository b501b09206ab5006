package report

import (
	"cmp"
	"fmt"
	"slices"

	"gopherscope/internal/dump"
	"gopherscope/internal/goruntime"
)

// alikeFrom is from how many on objects that are alike are written as one entry: a
// server has a channel or two for each connection, and a thousand entries that say the
// same hide the one that does not.
const alikeFrom = 4

// waitEntry is an object, or some that are alike: of the same kind and in the same
// state, with the same that can be said of them, whose waiters wait at the same
// places.
type waitEntry struct {
	objects []*dump.WaitObject
	groups  []waitGroup
	waiters int // different goroutines
}

// entries are the objects to be written, those with most waiters first. Objects of a
// cycle stand alone: the cycle names each.
func (r *Waiting) entries() []waitEntry {
	alone := map[int32]bool{}
	for i := range r.Waiting.Cycles {
		for _, n := range r.Waiting.Cycles[i].Objects {
			alone[n] = true
		}
	}
	var entries []waitEntry
	index := map[string]int{}
	var key []byte
	for i := range r.Waiting.Objects {
		o := &r.Waiting.Objects[i]
		if !r.shows(o) {
			continue
		}
		if key = r.appendShape(key[:0], o); alone[int32(i)] {
			key = fmt.Appendf(key, "%d", i)
		}
		n, ok := index[string(key)]
		if !ok {
			n = len(entries)
			index[string(key)] = n
			entries = append(entries, waitEntry{})
		}
		entries[n].objects = append(entries[n].objects, o)
	}
	entries = split(entries)
	for i := range entries {
		r.fill(&entries[i])
	}
	slices.SortStableFunc(entries, func(a, b waitEntry) int { return cmp.Compare(b.waiters, a.waiters) })
	return entries
}

// split makes an entry of each object where only a few are alike. All stay in the order
// of their first objects.
func split(entries []waitEntry) []waitEntry {
	var out []waitEntry
	for _, e := range entries {
		if len(e.objects) >= alikeFrom {
			out = append(out, e)
			continue
		}
		for _, o := range e.objects {
			out = append(out, waitEntry{objects: []*dump.WaitObject{o}})
		}
	}
	return out
}

// appendShape appends what objects that are alike have in common.
func (r *Waiting) appendShape(b []byte, o *dump.WaitObject) []byte {
	like := *o
	like.Addr = 0
	b = fmt.Append(appendObject(b, &like), o.Verdict())
	groups := r.fold(o)
	slices.SortFunc(groups, func(a, b waitGroup) int {
		return cmp.Or(cmp.Compare(a.how, b.how), cmp.Compare(a.place.Func, b.place.Func), cmp.Compare(a.place.Line, b.place.Line))
	})
	for _, g := range groups {
		b = fmt.Appendf(b, "\n%d %v %s:%d", g.how, g.isCase, g.place.Func, g.place.Line)
	}
	return b
}

// fill finds the waiters of all of e's objects.
func (r *Waiting) fill(e *waitEntry) {
	type key struct {
		how    dump.WaitHow
		isCase bool
		place  dump.Frame
	}
	index := map[key]int{}
	var all []uint64
	for _, o := range e.objects {
		for _, g := range r.fold(o) {
			k := key{g.how, g.isCase, g.place}
			n, ok := index[k]
			if !ok {
				n = len(e.groups)
				index[k] = n
				e.groups = append(e.groups, waitGroup{how: g.how, isCase: g.isCase, place: g.place})
			}
			e.groups[n].ids = append(e.groups[n].ids, g.ids...)
			all = append(all, g.ids...)
		}
	}
	e.waiters = distinct(&all)
	if len(e.objects) == 1 {
		e.waiters = len(e.objects[0].Waiters)
		return
	}
	for i := range e.groups {
		distinct(&e.groups[i].ids)
	}
	slices.SortStableFunc(e.groups, func(a, b waitGroup) int { return len(b.ids) - len(a.ids) })
}

// distinct sorts ids, takes out what is there twice, and returns how many are left.
func distinct(ids *[]uint64) int {
	slices.Sort(*ids)
	*ids = slices.Compact(*ids)
	return len(*ids)
}

// appendAlike appends the entry of objects that are alike.
func (r *Waiting) appendAlike(b []byte, e *waitEntry) []byte {
	like := *e.objects[0]
	like.Addr = 0
	b = appendObject(fmt.Appendf(b, "%d alike: ", len(e.objects)), &like)
	b = fmt.Appendf(b, ": %s\n", plural(e.waiters, "goroutine"))
	for i := range e.groups {
		b = r.appendGroup(b, &e.groups[i])
	}
	b = append(b, "    "...)
	switch like.Verdict() {
	case dump.VerdictUnreferenced:
		b = append(b, "perhaps abandoned: no other goroutine's stack and no global refers to any of them (the heap is not searched)"...)
	case dump.VerdictReachable:
		b = r.appendAlikeRefs(b, e.objects)
	default:
		b = r.appendVerdict(b, &like)
	}
	return append(b, '\n', '\n')
}

// refGroup are goroutines that refer to objects, and are in the same state at the same
// place.
type refGroup struct {
	status goruntime.Status
	reason string
	place  dump.Frame
	near   bool
	ids    []uint64
}

// appendAlikeRefs appends who refers to objects that are alike, most first.
func (r *Waiting) appendAlikeRefs(b []byte, objects []*dump.WaitObject) []byte {
	groups, more, globals := r.foldRefs(objects)
	b = append(b, "referred to by "...)
	for i, g := range groups {
		if i == namedRefs && len(groups) > namedRefs+1 {
			for _, g := range groups[i:] {
				more += len(g.ids)
			}
			break
		}
		b = append(append(b, plural(len(g.ids), "goroutine")...), " ["...)
		b = appendFrameAt(append(appendState(b, g.status, g.reason), ']'), g.place)
		if g.near {
			b = append(b, " (near them)"...)
		}
		b = append(b, ", "...)
	}
	if more > 0 {
		b = append(append(b, plural(more, "more goroutine")...), ", "...)
	}
	if globals > 0 {
		return fmt.Appendf(b, "globals (%d of the %d)", globals, len(objects))
	}
	return b[:len(b)-len(", ")]
}

// foldRefs groups the goroutines that refer to objects; more are those not known by
// number, and globals are the objects that global variables refer to.
func (r *Waiting) foldRefs(objects []*dump.WaitObject) (groups []refGroup, more, globals int) {
	type key struct {
		status goruntime.Status
		reason string
		place  dump.Frame
		near   bool
	}
	index := map[key]int{}
	for _, o := range objects {
		more += o.RefsMore
		if o.Global != dump.GlobalNone {
			globals++
		}
		for _, ref := range o.Refs {
			g := &r.Dump.Goroutines[ref.G]
			k := key{g.Status, r.Dump.ReasonOf(g), r.place(g), ref.Near}
			n, ok := index[k]
			if !ok {
				n = len(groups)
				index[k] = n
				groups = append(groups, refGroup{status: k.status, reason: k.reason, place: k.place, near: k.near})
			}
			groups[n].ids = append(groups[n].ids, g.ID)
		}
	}
	for i := range groups {
		distinct(&groups[i].ids)
	}
	slices.SortStableFunc(groups, func(a, b refGroup) int { return len(b.ids) - len(a.ids) })
	return groups, more, globals
}

// writeEntries writes the objects.
func (r *Waiting) writeEntries(b *buffer) error {
	for _, e := range r.entries() {
		if err := b.line(r.appendEntry(b.b, &e)); err != nil {
			return err
		}
	}
	return nil
}

func (r *Waiting) appendEntry(b []byte, e *waitEntry) []byte {
	if len(e.objects) > 1 {
		return r.appendAlike(b, e)
	}
	o := e.objects[0]
	b = fmt.Appendf(appendObject(b, o), ": %s\n", plural(e.waiters, "goroutine"))
	for i := range e.groups {
		b = r.appendGroup(b, &e.groups[i])
	}
	return append(r.appendVerdict(append(b, "    "...), o), '\n', '\n')
}
