package report

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"

	"gopherscope/internal/dump"
)

// Waiting is what goroutines wait on, to be written.
type Waiting struct {
	Dump    *dump.Dump
	Waiting *dump.Waiting // nil: nothing is known, as Err says
	// Shown chooses goroutines: an object is written if one of those waits on it, a
	// cycle if one of those is in it. nil chooses all.
	Shown func(g *dump.Goroutine) bool
	// Err is what ended the reading or the search before its end; nil if nothing did.
	Err error
}

// How many goroutines are named in a text.
const (
	namedWaiters = 8
	namedRefs    = 4
)

// Text writes the objects and then the cycles for people. Many objects that are alike
// are one entry.
func (r *Waiting) Text(w io.Writer) error {
	b := buffer{w: w}
	if r.Waiting == nil {
		return nil
	}
	if err := r.writeEntries(&b); err != nil {
		return err
	}
	for i := range r.Waiting.Cycles {
		if c := &r.Waiting.Cycles[i]; r.showsCycle(c) {
			if err := b.line(r.appendCycle(b.b, c)); err != nil {
				return err
			}
		}
	}
	return b.Flush()
}

// Summary is what was found in one line, with no newline.
func (r *Waiting) Summary() string {
	w := r.Waiting
	if w == nil {
		return fmt.Sprintf("incomplete: %s read; what they wait on is not known", plural(len(r.Dump.Goroutines), "goroutine"))
	}
	s := fmt.Sprintf("%s on %s; %s", plural(w.Waiters, "goroutine"), plural(len(w.Objects), "object"), plural(len(w.Cycles), "likely deadlock"))
	if w.Moved > 0 {
		s += fmt.Sprintf("; %s went on meanwhile, not shown", plural(w.Moved, "other"))
	}
	if w.Unknown > 0 {
		s += fmt.Sprintf("; of %d the object was not found", w.Unknown)
	}
	if w.Unsearched > 0 {
		s += fmt.Sprintf("; %s could not be searched for references", plural(w.Unsearched, "stack"))
	}
	return s
}

func (r *Waiting) shows(o *dump.WaitObject) bool {
	return r.Shown == nil || slices.ContainsFunc(o.Waiters, func(w dump.Waiter) bool {
		return r.Shown(&r.Dump.Goroutines[w.G])
	})
}

func (r *Waiting) showsCycle(c *dump.WaitCycle) bool {
	return r.Shown == nil || slices.ContainsFunc(c.Goroutines, func(g int32) bool {
		return r.Shown(&r.Dump.Goroutines[g])
	})
}

// waitGroup are waiters of an object that wait at the same place for the same.
type waitGroup struct {
	how    dump.WaitHow
	isCase bool // of a select
	place  dump.Frame
	ids    []uint64
}

// fold groups the waiters of o, most first.
func (r *Waiting) fold(o *dump.WaitObject) []waitGroup {
	type key struct {
		how    dump.WaitHow
		isCase bool
		stack  dump.StackID
	}
	index := map[key]int{}
	var groups []waitGroup
	for _, w := range o.Waiters {
		g := &r.Dump.Goroutines[w.G]
		k := key{w.How, w.Select, g.Stack}
		n, ok := index[k]
		if !ok {
			place := r.place(g)
			n = slices.IndexFunc(groups, func(old waitGroup) bool {
				return old.how == w.How && old.isCase == w.Select && old.place == place
			})
			if n < 0 {
				n = len(groups)
				groups = append(groups, waitGroup{how: w.How, isCase: w.Select, place: place})
			}
			index[k] = n
		}
		groups[n].ids = append(groups[n].ids, g.ID)
	}
	slices.SortStableFunc(groups, func(a, b waitGroup) int { return len(b.ids) - len(a.ids) })
	return groups
}

// place is the innermost frame of the program itself on the stack of g.
func (r *Waiting) place(g *dump.Goroutine) dump.Frame {
	for _, f := range r.Dump.Frames(g.Stack, false) {
		if !isPlumbing(f.Func) {
			return dump.Frame{Func: f.Func, File: f.File, Line: f.Line}
		}
	}
	return dump.Frame{}
}

// isPlumbing says whether a function is one that goroutines wait in wherever they
// come from.
func isPlumbing(name string) bool {
	for _, prefix := range []string{"runtime.", "sync.", "internal/sync.", "internal/poll."} {
		if len(name) > len(prefix) && name[:len(prefix)] == prefix {
			return true
		}
	}
	return false
}

func (r *Waiting) appendGroup(b []byte, g *waitGroup) []byte {
	b = append(append(b, "    "...), g.how.String()...)
	if g.isCase {
		b = append(b, " (a case of a select)"...)
	}
	b = appendFrameAt(b, g.place)
	return append(appendIDs(append(b, ": goid"...), g.ids), '\n')
}

// appendIDs appends the numbers of goroutines, of many only the first.
func appendIDs(b []byte, ids []uint64) []byte {
	for i, id := range ids {
		if i == namedWaiters && len(ids) > namedWaiters+1 {
			return fmt.Appendf(b, " and %d more", len(ids)-i)
		}
		b = strconv.AppendUint(append(b, ' '), id, 10)
	}
	return b
}

// appendFrameAt appends a place in the code, if it is known.
func appendFrameAt(b []byte, f dump.Frame) []byte {
	if f.Func == "" {
		return b
	}
	b = append(append(b, " at "...), printable(f.Func)...)
	b = append(append(b, " ("...), printable(path.Base(f.File))...)
	b = strconv.AppendInt(append(b, ':'), int64(f.Line), 10)
	return append(b, ')')
}

// appendName appends what kind of object o is and where.
func appendName(b []byte, o *dump.WaitObject) []byte {
	b = append(b, o.Kind.String()...)
	if o.Kind == dump.KindChan {
		elem := o.Chan.Elem
		if elem == "" {
			elem = "of unknown type"
		}
		b = append(append(b, ' '), printable(elem)...)
	}
	if o.Addr != 0 {
		b = strconv.AppendUint(append(b, " 0x"...), o.Addr, 16)
	}
	return b
}

// appendObject appends what o is and its state.
func appendObject(b []byte, o *dump.WaitObject) []byte {
	b = appendName(b, o)
	switch o.Kind {
	case dump.KindChan:
		return appendChan(b, &o.Chan)
	case dump.KindMutex, dump.KindRWMutex:
		return appendLock(b, o)
	case dump.KindWaitGroup:
		return fmt.Appendf(b, ", counter %d, %s", o.Group.Counter, plural(o.Group.Waiting, "waiter"))
	}
	return b
}

func appendChan(b []byte, c *dump.ChanState) []byte {
	b = fmt.Appendf(b, ", len %d of %d", c.Len, c.Cap)
	if c.Closed {
		b = append(b, ", closed"...)
	}
	if c.Timer {
		b = append(b, ", of a timer"...)
	}
	atLeast := ""
	if c.QueueCut {
		atLeast = "at least "
	}
	return fmt.Appendf(b, ", %s%s and %s queued", atLeast, plural(c.Receivers, "receiver"), plural(c.Senders, "sender"))
}

func appendLock(b []byte, o *dump.WaitObject) []byte {
	l := &o.Lock
	if o.Kind == dump.KindMutex {
		b = append(b, ", "...)
		if !l.Locked {
			b = append(b, "not "...)
		}
		b = append(b, "locked"...)
	} else {
		switch {
		case l.Locked:
			b = fmt.Appendf(b, ", locked by a writer, %s waiting", plural(l.Readers, "reader"))
		case l.Writer:
			b = fmt.Appendf(b, ", a writer waits, %s holding it or waiting", plural(l.Readers, "reader"))
		default:
			b = fmt.Appendf(b, ", held by %s", plural(l.Readers, "reader"))
		}
	}
	if l.Starving {
		b = append(b, ", starving"...)
	}
	if o.Kind == dump.KindMutex {
		b = fmt.Appendf(b, ", %s", plural(l.Queued, "waiter"))
	}
	return b
}

// appendVerdict appends who could wake the waiters.
func (r *Waiting) appendVerdict(b []byte, o *dump.WaitObject) []byte {
	switch o.Verdict() {
	case dump.VerdictForever:
		return append(b, "nothing can wake them"...)
	case dump.VerdictUnreferenced:
		return append(b, "perhaps abandoned: no other goroutine's stack and no global refers to it (the heap is not searched)"...)
	case dump.VerdictTimer:
		if o.Chan.Timer {
			return append(b, "a timer wakes them"...)
		}
		return append(b, "a timer may wake them"...)
	}
	return r.appendRefs(append(b, "referred to by "...), o)
}

// appendRefs appends those that refer to o, first those that do so for sure.
func (r *Waiting) appendRefs(b []byte, o *dump.WaitObject) []byte {
	refs := slices.Clone(o.Refs)
	slices.SortStableFunc(refs, func(a, b dump.ObjectRef) int {
		switch {
		case a.Near == b.Near:
			return 0
		case b.Near:
			return -1
		}
		return 1
	})
	for i, ref := range refs {
		if i == namedRefs && len(refs)+o.RefsMore > namedRefs+1 {
			b = fmt.Appendf(b, "%d more goroutines, ", len(refs)+o.RefsMore-i)
			break
		}
		g := &r.Dump.Goroutines[ref.G]
		b = strconv.AppendUint(append(b, "goroutine "...), g.ID, 10)
		b = append(appendState(append(b, " ["...), g.Status, r.Dump.ReasonOf(g)), ']')
		b = appendFrameAt(b, r.place(g))
		if ref.Near {
			b = append(b, " (near it)"...)
		}
		b = append(b, ", "...)
	}
	b = append(b, globalText[o.Global]...)
	if o.Global == dump.GlobalNone {
		b = b[:len(b)-len(", ")]
	}
	return b
}

var globalText = [...]string{
	dump.GlobalNone:  "",
	dump.GlobalNear:  "a global (near it)",
	dump.GlobalExact: "a global",
	dump.GlobalSelf:  "all, as it is a global",
}

func (r *Waiting) appendCycle(b []byte, c *dump.WaitCycle) []byte {
	if c.Global {
		b = append(b, "possible deadlock"...)
	} else {
		b = append(b, "likely deadlock"...)
	}
	b = fmt.Appendf(b, " of %s: all that refer to these objects wait for each other\n", plural(len(c.Goroutines), "goroutine"))
	in := map[int32]bool{}
	for _, g := range c.Goroutines {
		in[g] = true
	}
	for _, n := range c.Objects {
		o := &r.Waiting.Objects[n]
		b = appendName(append(b, "    "...), o)
		var waiters, refs []uint64
		for _, w := range o.Waiters {
			if id := r.Dump.Goroutines[w.G].ID; in[w.G] && (len(waiters) == 0 || waiters[len(waiters)-1] != id) {
				waiters = append(waiters, id)
			}
		}
		for _, ref := range o.Refs {
			refs = append(refs, r.Dump.Goroutines[ref.G].ID)
		}
		b = appendIDs(append(b, ": awaited by goid"...), waiters)
		b = append(appendIDs(append(b, ", referred to by goid"...), refs), '\n')
	}
	if c.Global {
		b = append(b, "    a global refers to one of them, so another goroutine may hold it\n"...)
	}
	return append(b, "    no proof: Go does not record who holds a mutex, and the heap is not searched\n\n"...)
}
