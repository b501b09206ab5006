package leaks

import (
	"cmp"
	"slices"
	"time"

	"gopherscope/internal/dump"
)

// Watch compares snapshots of one process. The zero Watch is ready. It is not
// safe for concurrent use.
type Watch struct {
	report Report  // what needs no judgement
	monos  []int64 // CLOCK_MONOTONIC of each snapshot, ns

	sites  []*site
	bySite map[place]uint32
	live   []tracked // the goroutines of the last snapshot, in ascending order of id
	spare  []tracked // memory for those of the next
}

// tracked is a goroutine of the last snapshot.
type tracked struct {
	id        uint64
	wait      uint64 // the same for the same stack, state and reason; 0 if it is not known to wait
	waitSince int64  // as the runtime noted it, ns; 0 if it did not
	site      uint32
	seen      uint16 // number of the first snapshot that has it
	unmoved   uint16 // number of the first snapshot that has it in this wait
	seq       uint8
	leaked    bool // the runtime said so, in this wait
}

// place is what tells sites apart. A go statement that the compiler inlined into
// several functions is one.
type place struct {
	fn, file string
	line     int32
	start    bool // it is a function that goroutines start at
}

// site is what was seen of a creation site.
type site struct {
	created   dump.Site
	counts    []int // by snapshot; may end early
	new, gone int
	moves     int   // how often a goroutine was seen in another wait than before
	in, out   []int // by snapshot, lasting ones: became so, went away

	now view // of the last snapshot
}

// Add takes the next Dump of the process, with stacks. It keeps nothing of it but
// the frames of one stack a site. There may be at most 65535.
func (w *Watch) Add(d *dump.Dump) {
	number := len(w.monos)
	w.begin(d)
	v := newViewer(w, d)
	before, now := w.live, w.spare[:0]
	for i := range d.Goroutines {
		g := &d.Goroutines[i]
		if g.Has(dump.System) || i > 0 && g.ID == d.Goroutines[i-1].ID {
			continue
		}
		for len(before) > 0 && before[0].id < g.ID {
			w.sites[before[0].site].end(&before[0], number)
			before = before[1:]
		}
		t := v.track(g)
		s := w.sites[t.site]
		if len(before) > 0 && before[0].id == g.ID {
			s.stay(&before[0], &t, number)
			before = before[1:]
		} else if number > 0 {
			s.new++
		}
		v.see(g, &t)
		now = append(now, t)
	}
	for i := range before {
		w.sites[before[i].site].end(&before[i], number)
	}
	v.finish()
	w.spare, w.live = w.live, now
	w.report.Goroutines = len(now)
}

// begin notes what the Dump says of itself.
func (w *Watch) begin(d *dump.Dump) {
	if len(w.monos) == 0 {
		w.bySite = map[place]uint32{}
		w.report = Report{PID: d.PID, Version: d.Version, Start: d.Time}
	}
	w.monos = append(w.monos, d.Mono)
	w.report.Snapshots = len(w.monos)
	w.report.Growth = len(w.monos) >= minSnapshots
	w.report.Period = time.Duration(d.Mono - w.monos[0])
	w.report.Torn = d.Torn
	for _, s := range w.sites {
		s.now = view{}
	}
}

// AddWaiting adds what the goroutines of d, the last Dump that was added, wait on.
func (w *Watch) AddWaiting(d *dump.Dump, waiting *dump.Waiting) {
	unreferenced := map[int32]bool{}
	for i := range waiting.Objects {
		o := &waiting.Objects[i]
		for _, waiter := range o.Waiters {
			sofar, known := unreferenced[waiter.G]
			unreferenced[waiter.G] = o.Verdict() == dump.VerdictUnreferenced && (sofar || !known)
		}
	}
	for i, yes := range unreferenced {
		if !yes {
			continue
		}
		n, ok := slices.BinarySearchFunc(w.live, d.Goroutines[i].ID, func(t tracked, id uint64) int { return cmp.Compare(t.id, id) })
		if ok {
			w.sites[w.live[n].site].now.unreferenced++
		}
	}
}

// grow makes s long enough to have an element with index i.
func grow(s *[]int, i int) {
	for len(*s) <= i {
		*s = append(*s, 0)
	}
}

// stay is for a goroutine that the snapshot before has as well.
func (s *site) stay(before, now *tracked, number int) {
	now.seen = before.seen
	if now.wait != 0 && now.wait == before.wait && now.seq == before.seq &&
		(before.waitSince == 0 || before.waitSince == now.waitSince) {
		now.unmoved = before.unmoved
		now.leaked = now.leaked || before.leaked
	} else {
		s.moves++
	}
	if number > 1 && int(before.seen) == number-1 {
		grow(&s.in, number)
		s.in[number]++
	}
}

// end is for a goroutine that only the snapshot before has.
func (s *site) end(before *tracked, number int) {
	s.gone++
	if number > 1 && int(before.seen) < number-1 {
		grow(&s.out, number)
		s.out[number]++
	}
}

// site is the number of the creation site of g.
func (w *Watch) site(d *dump.Dump, g *dump.Goroutine) uint32 {
	created, start := d.Sites[g.Created], d.Sites[g.Start]
	p := place{created.Func, created.File, created.Line, false}
	if g.Created == 0 {
		p = place{start.Func, start.File, start.Line, true}
	}
	id, ok := w.bySite[p]
	if !ok {
		id = uint32(len(w.sites))
		w.sites = append(w.sites, &site{created: created})
		w.bySite[p] = id
	}
	return id
}

// Report is what was seen so far. The Watch may go on afterwards; the Report must
// not be changed.
func (w *Watch) Report() *Report {
	r := w.report
	for _, s := range w.sites {
		if s.now.count > 0 {
			r.Sites = append(r.Sites, w.judge(s))
		}
	}
	slices.SortStableFunc(r.Sites, func(a, b Site) int {
		return cmp.Or(cmp.Compare(b.Grade, a.Grade), cmp.Compare(b.Count, a.Count),
			cmp.Compare(a.Created.File, b.Created.File), cmp.Compare(a.Created.Line, b.Created.Line))
	})
	return &r
}
