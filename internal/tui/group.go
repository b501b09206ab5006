package tui

import (
	"path"
	"strconv"
	"strings"
	"time"

	"gopherscope/internal/dump"
	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
)

// grouping is what the goroutines of one row have in common.
type grouping uint8

const (
	byCreated grouping = iota
	byReason
	byFunction
	byState
	byLabel
	byGoroutine
	groupings // how many there are
)

var groupingTitles = [groupings]string{
	byCreated: "CREATED BY", byReason: "WAIT REASON", byFunction: "FUNCTION", byState: "STATE", byLabel: "LABELS", byGoroutine: "WHAT",
}

var groupingNames = [groupings]string{
	byCreated: "creation site", byReason: "wait reason", byFunction: "function", byState: "state", byLabel: "pprof labels", byGoroutine: "goroutine",
}

// row is one line of a table: the goroutines that have something in common, or one
// goroutine.
type row struct {
	key  string // what they have in common; of a single goroutine its number
	name string // for people; may be drawn. Of a goroutine "" until it is needed
	goid uint64 // 0 for a group
	at   int    // of a goroutine, its index in the Dump
	what string // of a single goroutine: its state

	count   int
	states  [stateKinds]int
	ran     int           // have run since the Sample before
	stale   int           // are here by a stack that they had before they ran
	longest time.Duration // one waits for about so long
	figures Figures       // zero without an engine
	sched   time.Duration // p99 of figures
}

// stateKind is a state as the tables tell them apart.
type stateKind uint8

const (
	stateRunning stateKind = iota
	stateRunnable
	stateSyscall
	stateWaiting
	stateOther // stopped for a stack scan
	stateKinds
)

var stateTitles = [stateKinds]string{
	stateRunning: "running", stateRunnable: "runnable", stateSyscall: "syscall", stateWaiting: "waiting", stateOther: "other",
}

func kindOf(s goruntime.Status) stateKind {
	switch s {
	case goruntime.Running, goruntime.CopyStack:
		return stateRunning
	case goruntime.Runnable:
		return stateRunnable
	case goruntime.Syscall:
		return stateSyscall
	case goruntime.Waiting, goruntime.Leaked:
		return stateWaiting
	}
	return stateOther
}

// endedName is the row of goroutines that ended, where what they had in common with
// others is not known.
const endedName = "[ended meanwhile]"

// grouper folds the goroutines of a Sample into rows.
type grouper struct {
	s       *Sample
	by      grouping
	ran     []bool
	rates   *Rates // nil without an engine
	all     bool
	glyphs  *glyphs
	stacks  []dump.StackID // see Sample.stackIDs
	current []bool

	rows  []row
	byKey map[string]int
	ids   map[uint32]int    // the row of what has this number in the Dump
	tops  map[uint32]string // the function on top of each stack
}

func newGrouper(s *Sample, by grouping, ran []bool, rates *Rates, all bool, gl *glyphs) *grouper {
	g := &grouper{
		s: s, by: by, ran: ran, rates: rates, all: all, glyphs: gl,
		byKey: map[string]int{}, ids: map[uint32]int{}, tops: map[uint32]string{},
	}
	g.stacks, g.current = s.stackIDs()
	return g
}

// wants says whether a goroutine is shown.
func (gr *grouper) wants(g *dump.Goroutine) bool { return gr.all || !g.Has(dump.System) }

// groups are the rows of all goroutines.
func (gr *grouper) groups() []row {
	for i := range gr.s.Dump.Goroutines {
		g := &gr.s.Dump.Goroutines[i]
		if gr.wants(g) {
			gr.add(&gr.rows[gr.rowOf(i)], i)
		}
	}
	gr.addEnded()
	for i := range gr.rows {
		gr.rows[i].sched = gr.rows[i].figures.SchedWait(0.99)
	}
	return gr.rows
}

// members are the goroutines of one row, a row each; of all if key is nil. They have
// no names yet: few of them are seen.
func (gr *grouper) members(key *string) []row {
	var out []row
	in := map[uint32]bool{}
	for i := range gr.s.Dump.Goroutines {
		g := &gr.s.Dump.Goroutines[i]
		if !gr.wants(g) {
			continue
		}
		if key != nil {
			id := gr.number(i)
			is, known := in[id]
			if !known {
				is = gr.keyOf(i) == *key
				in[id] = is
			}
			if !is {
				continue
			}
		}
		out = append(out, row{key: strconv.FormatUint(g.ID, 10), goid: g.ID, at: i, what: gr.doing(g)})
		r := &out[len(out)-1]
		gr.add(r, i)
		r.sched = r.figures.SchedWait(0.99)
	}
	return out
}

// nameAll gives the goroutines of rows their names.
func (gr *grouper) nameAll(rows []row) {
	for i := range rows {
		if r := &rows[i]; r.goid != 0 && r.name == "" {
			r.name = gr.about(r.at)
		}
	}
}

// add counts a goroutine in a row.
func (gr *grouper) add(r *row, i int) {
	g := &gr.s.Dump.Goroutines[i]
	r.count++
	r.states[kindOf(g.Status)]++
	if gr.ran[i] {
		r.ran++
	}
	if gr.by == byFunction && gr.stacks[i] != 0 && !gr.current[i] {
		r.stale++
	}
	r.longest = max(r.longest, gr.s.Dump.WaitedFor(g))
	if gr.rates == nil {
		return
	}
	f := gr.rates.Goroutines[g.ID]
	switch waited := g.Status == goruntime.Waiting && !g.Has(dump.Fake) && !gr.ran[i]; {
	case waited && (f == nil || f.Transitions == 0):
		// It has been waiting since before a gap, so that the engine does not know, or only
		// from some time after the gap on.
		r.figures.Blocked += gr.rates.For
	case f != nil:
		r.figures.add(f)
	}
}

// addEnded counts what those did that ended. Of them only the go statement is known.
func (gr *grouper) addEnded() {
	if gr.rates == nil {
		return
	}
	for site, f := range gr.rates.Ended {
		name := endedName
		if gr.by == byCreated {
			if name = gr.createdAt(site); site.Func == "" {
				name = endedName
			}
		}
		gr.rows[gr.named(name)].figures.add(f)
	}
}

// named is the row of that name, which is its key.
func (gr *grouper) named(name string) int {
	at, ok := gr.byKey[name]
	if !ok {
		at = len(gr.rows)
		gr.byKey[name] = at
		gr.rows = append(gr.rows, row{key: name, name: name})
	}
	return at
}

// rowOf is the row of a goroutine. The name is made once for each thing that the
// Dump has a number for, of which there are far fewer than goroutines.
func (gr *grouper) rowOf(i int) int {
	id := gr.number(i)
	at, ok := gr.ids[id]
	if !ok {
		at = gr.named(gr.keyOf(i))
		gr.ids[id] = at
	}
	return at
}

// number is the number of what a goroutine is grouped by.
func (gr *grouper) number(i int) uint32 {
	g := &gr.s.Dump.Goroutines[i]
	switch gr.by {
	case byCreated:
		n := uint32(g.Created)
		if gr.s.Dump.Creator(g, gr.all) == nil {
			n = uint32(g.Start) | 1<<31
		}
		return n
	case byReason:
		return uint32(g.Status)<<8 | uint32(g.Reason)
	case byFunction:
		n := uint32(gr.stacks[i])
		switch {
		case n == 0 && gr.s.Position != nil:
			n = uint32(g.Status) | 1<<31
		case n == 0:
			n = uint32(g.Source) | 1<<31
		}
		return n
	case byState:
		return uint32(g.Status)
	}
	return uint32(g.Labels)
}

// keyOf is the name of what a goroutine is grouped by.
func (gr *grouper) keyOf(i int) string {
	d := gr.s.Dump
	g := &d.Goroutines[i]
	switch gr.by {
	case byCreated:
		if site := d.Creator(g, gr.all); site != nil {
			return gr.place(site.Func, site.File, int(site.Line))
		}
		return gr.glyphs.safe("starts at " + d.Sites[g.Start].Func)
	case byReason:
		if reason := d.ReasonOf(g); reason != "" {
			return gr.glyphs.safe(reason)
		}
		return "[" + g.Status.Name() + "]"
	case byFunction:
		if top := gr.top(i); top != "" {
			return top
		}
		return gr.noStack(g)
	case byState:
		return g.Status.Name()
	case byLabel:
		return gr.labels(g)
	}
	return strconv.FormatUint(g.ID, 10)
}

// noStack says why no function is known.
func (gr *grouper) noStack(g *dump.Goroutine) string {
	if gr.s.Position != nil {
		if !gr.s.Dump.HasStacks {
			return "[recorded without --stacks]"
		}
		return "[" + g.Status.Name() + ", no stack recorded]" // only where it parks and enters system calls one is
	}
	if s := gr.s.Stacks; s != gr.s.Dump { // as it was then
		i := -1
		if s != nil {
			i = find(s, g.ID)
		}
		if i < 0 {
			return "[stack not read yet]"
		}
		g = &s.Goroutines[i]
	}
	if g.Source == dump.SourceNone {
		return "[runs on a CPU; no sample]"
	}
	return "[stack " + g.Source.String() + "]"
}

// labels are the pprof labels of a goroutine.
func (gr *grouper) labels(g *dump.Goroutine) string {
	if g.Labels == 0 && gr.s.Position != nil {
		return "[labels not known]"
	}
	set := gr.s.Dump.Labels[g.Labels]
	if len(set) == 0 {
		return "[no labels]"
	}
	parts := make([]string, len(set))
	for i, l := range set {
		parts[i] = gr.glyphs.safe(l.Key) + "=" + gr.glyphs.safe(l.Value)
	}
	return strings.Join(parts, " ")
}

// place is a place in the source: "main.serve server.go:42".
func (gr *grouper) place(fn, file string, line int) string {
	return gr.glyphs.safe(fn) + " " + gr.glyphs.safe(path.Base(file)) + ":" + strconv.Itoa(line)
}

func (gr *grouper) createdAt(l event.Location) string { return gr.place(l.Func, l.File, l.Line) }

// top is the first function of a goroutine's stack that is the program's own; ""
// without a stack.
func (gr *grouper) top(i int) string {
	id := gr.stacks[i]
	if id == 0 {
		return ""
	}
	top, ok := gr.tops[uint32(id)]
	if !ok {
		top = gr.glyphs.safe(userFunc(gr.s.Stacks.Frames(id, false)))
		gr.tops[uint32(id)] = top
	}
	return top
}

// doing is the state of a goroutine, with the reason.
func (gr *grouper) doing(g *dump.Goroutine) string {
	if reason := gr.s.Dump.ReasonOf(g); reason != "" {
		if g.Status == goruntime.Leaked {
			reason += " (leaked)"
		}
		return gr.glyphs.safe(reason)
	}
	return g.Status.Name()
}

// about is where a goroutine is, if that is known, and who created it.
func (gr *grouper) about(i int) string {
	d := gr.s.Dump
	g := &d.Goroutines[i]
	created := "starts at " + gr.glyphs.safe(d.Sites[g.Start].Func)
	if site := d.Creator(g, gr.all); site != nil {
		created = "created by " + gr.place(site.Func, site.File, int(site.Line))
	}
	if top := gr.top(i); top != "" {
		return top + ", " + created
	}
	return created
}

// userFunc is the innermost function that does not only hand on a wait; the innermost of
// all if they all do.
func userFunc(frames []dump.Frame) string {
	for i := range frames {
		if !goruntime.Passing(frames[i].Func) {
			return frames[i].Func
		}
	}
	if len(frames) == 0 {
		return ""
	}
	return frames[0].Func
}
