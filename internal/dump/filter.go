package dump

import (
	"iter"
	"regexp"
	"slices"

	"gopherscope/internal/goruntime"
)

// Filter says which goroutines are wanted: those that pass all of its conditions.
// A condition that is empty lets all pass.
type Filter struct {
	GoIDs     []uint64
	States    []goruntime.Status
	Reasons   []string       // for these they wait
	CreatedBy *regexp.Regexp // the function that the go statement is in
	Stack     *regexp.Regexp // a function of the stack
	// All lets the runtime's own goroutines pass, and Stack look at the runtime's
	// own frames. Those that GoIDs names pass without it.
	All bool
}

// Select are the goroutines of d that pass, in the Dump's order.
func (f *Filter) Select(d *Dump) iter.Seq[*Goroutine] {
	return func(yield func(*Goroutine) bool) {
		created := memo{known: make([]int8, len(d.Sites))}
		stacks := memo{known: make([]int8, len(d.Stacks))}
		for i := range d.Goroutines {
			g := &d.Goroutines[i]
			if !f.cheap(d, g) {
				continue
			}
			if !created.of(uint32(g.Created), func() bool { return f.matchSite(&d.Sites[g.Created]) }) {
				continue
			}
			if !stacks.of(uint32(g.Stack), func() bool { return f.matchStack(d, g.Stack) }) {
				continue
			}
			if !yield(g) {
				return
			}
		}
	}
}

// cheap are the conditions on the goroutine itself.
func (f *Filter) cheap(d *Dump, g *Goroutine) bool {
	if len(f.GoIDs) > 0 && !slices.Contains(f.GoIDs, g.ID) {
		return false
	}
	if g.Has(System) && !f.All && len(f.GoIDs) == 0 {
		return false
	}
	if len(f.States) > 0 && !slices.Contains(f.States, g.Status) {
		return false
	}
	return len(f.Reasons) == 0 || slices.Contains(f.Reasons, d.ReasonOf(g)) && d.ReasonOf(g) != ""
}

func (f *Filter) matchSite(s *Site) bool {
	return f.CreatedBy == nil || f.CreatedBy.MatchString(s.Func) || f.CreatedBy.MatchString(s.Outer)
}

func (f *Filter) matchStack(d *Dump, id StackID) bool {
	if f.Stack == nil {
		return true
	}
	return slices.ContainsFunc(d.Frames(id, f.All), func(fr Frame) bool { return f.Stack.MatchString(fr.Func) })
}

// Frames are the frames of a stack, innermost first: all, or those that the
// runtime prints. They are not to be changed.
func (d *Dump) Frames(id StackID, all bool) []Frame {
	if all {
		return d.Stacks[id].Frames
	}
	return Visible(d.Stacks[id].Frames, d.Version.Minor)
}

// memo remembers, by number, what is true of the things that goroutines share.
type memo struct{ known []int8 } // 0: not known yet

func (m *memo) of(id uint32, find func() bool) bool {
	if m.known[id] == 0 {
		m.known[id] = -1
		if find() {
			m.known[id] = 1
		}
	}
	return m.known[id] > 0
}
