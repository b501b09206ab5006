package leaks

import (
	"cmp"
	"slices"
	"time"

	"gopherscope/internal/dump"
	"gopherscope/internal/goruntime"
)

// view is a site as the last snapshot shows it.
type view struct {
	count           int
	unmoved         int // since the first snapshot
	leaked, forever int
	unreferenced    int
	oldest, waiting time.Duration // at least
	states          []dump.StateCount
	top             group // with the stack that most have
	stack           dump.Stack
	start           dump.Site
}

// group is the goroutines of a site with the same stack.
type group struct {
	stack dump.StackID
	start dump.SiteID
	count int
	stuck int // have been in the same wait for StuckTime
	goids []uint64
}

// viewer makes the views of one snapshot.
type viewer struct {
	w      *Watch
	d      *dump.Dump
	number uint16
	groups map[groupKey]*group
	sites  map[siteKey]uint32
	stacks []stackInfo // by StackID
	notes  dump.Notes
}

type groupKey struct {
	site  uint32
	stack dump.StackID
}

// siteKey is what a site's number depends on, in one Dump.
type siteKey struct{ created, start dump.SiteID }

// stackInfo is what matters of a stack.
type stackInfo struct {
	hash  uint64 // the same in all snapshots
	rests bool   // goroutines that are well can be here for very long
}

// restful are functions of the standard library in which goroutines of a healthy
// program block on channels for as long as others do nothing: one that writes to
// a connection that is kept for the next request.
var restful = map[string]bool{
	"net/http.(*persistConn).writeLoop": true,
}

// stalling are the reasons of waits that only another goroutine ends, so that
// many in one are worth a look. A peer, a timer or the runtime ends the others.
var stalling = map[string]bool{
	"chan receive": true, "chan send": true, "select": true, "semacquire": true,
	"sync.Mutex.Lock": true, "sync.RWMutex.Lock": true, "sync.RWMutex.RLock": true,
	"sync.Cond.Wait": true, "sync.WaitGroup.Wait": true,
}

// endless are the reasons of waits that nothing ends.
var endless = map[string]bool{
	"chan receive (nil chan)": true, "chan send (nil chan)": true, "select (no cases)": true,
}

func newViewer(w *Watch, d *dump.Dump) *viewer {
	v := &viewer{
		w: w, d: d, number: uint16(len(w.monos) - 1),
		groups: map[groupKey]*group{}, sites: map[siteKey]uint32{},
		stacks: make([]stackInfo, len(d.Stacks)),
		notes:  d.Notes(),
	}
	for id := range d.Stacks {
		v.stacks[id] = inspect(&d.Stacks[id])
	}
	return v
}

func inspect(s *dump.Stack) stackInfo {
	info := stackInfo{hash: 14695981039346656037} // FNV-1a, a word at a time
	for i := range s.Frames {
		info.hash = mix(info.hash, s.Frames[i].PC)
		info.rests = info.rests || restful[s.Frames[i].Func]
	}
	return info
}

func mix(hash, word uint64) uint64 {
	hash = (hash ^ word) * 1099511628211
	return hash ^ hash>>32
}

// track is what is kept of g.
func (v *viewer) track(g *dump.Goroutine) tracked {
	key := siteKey{g.Created, g.Start}
	site, ok := v.sites[key]
	if !ok {
		site = v.w.site(v.d, g)
		v.sites[key] = site
	}
	return tracked{
		id: g.ID, wait: v.wait(g), waitSince: g.WaitSince, site: site,
		seen: v.number, unmoved: v.number, seq: g.Seq, leaked: g.Status == goruntime.Leaked,
	}
}

// wait identifies the wait of g by its state, reason and stack; 0 if it does not
// wait or its stack is not known. A leak profile marks a goroutine as leaked and
// the next garbage collection takes the mark away (Go 1.26 on, runtime/proc.go,
// allGsSnapshotSortedForGC): that is the same wait.
func (v *viewer) wait(g *dump.Goroutine) uint64 {
	status := g.Status
	switch status {
	case goruntime.Leaked:
		status = goruntime.Waiting
	case goruntime.Waiting, goruntime.Syscall:
	default:
		return 0
	}
	if g.Stack == 0 || g.Has(dump.Fake) {
		return 0
	}
	hash := mix(v.stacks[g.Stack].hash, uint64(status))
	if status == goruntime.Waiting {
		hash = mix(hash, uint64(g.Reason))
	}
	return max(hash, 1)
}

// see adds g to the view of its site; t is what is known of it by now.
func (v *viewer) see(g *dump.Goroutine, t *tracked) {
	s := v.w.sites[t.site]
	grow(&s.counts, int(v.number))
	s.counts[v.number]++
	n := &s.now
	n.count++
	reason := v.d.ReasonOf(g)
	waited := v.waited(t)
	switch {
	case v.d.Sites[g.Start].Func == "runtime.main": // may wait for ever: the program ends with it
	case t.leaked:
		n.leaked++
	case endless[reason]:
		n.forever++
	}
	if t.wait != 0 && t.unmoved == 0 {
		n.unmoved++
	}
	n.waiting = max(n.waiting, waited)
	n.oldest = max(n.oldest, waited, v.since(v.w.monos[t.seen]))
	n.states = count(n.states, g.Status, reason)

	key := groupKey{t.site, g.Stack}
	gr := v.groups[key]
	if gr == nil {
		gr = &group{stack: g.Stack, start: g.Start}
		v.groups[key] = gr
	}
	gr.count++
	if waited >= StuckTime && stalling[reason] && !v.stacks[g.Stack].rests {
		gr.stuck++
	}
	if len(gr.goids) < MaxGoIDs {
		gr.goids = append(gr.goids, g.ID)
	}
}

// since is the time from mono to the snapshot; 0 if mono is not known, negative if
// it makes no sense.
func (v *viewer) since(mono int64) time.Duration {
	if mono <= 0 {
		return 0
	}
	return time.Duration(v.d.Mono - mono)
}

// waited is for how long a goroutine has been in its wait at least.
func (v *viewer) waited(t *tracked) time.Duration {
	if t.wait == 0 {
		return 0
	}
	return max(v.since(v.w.monos[t.unmoved]), v.since(v.notes.After(t.waitSince)))
}

func count(states []dump.StateCount, status goruntime.Status, reason string) []dump.StateCount {
	for i := range states {
		if s := &states[i]; s.Status == status && s.Reason == reason {
			s.Count++
			return states
		}
	}
	return append(states, dump.StateCount{Status: status, Reason: reason, Count: 1})
}

// finish finds what is most frequent at each site.
func (v *viewer) finish() {
	for key, gr := range v.groups {
		top := &v.w.sites[key.site].now.top
		if gr.count > top.count || gr.count == top.count && gr.goids[0] < top.goids[0] {
			*top = *gr
		}
	}
	for _, s := range v.w.sites {
		n := &s.now
		if n.count == 0 {
			continue
		}
		n.stack, n.start = v.d.Stacks[n.top.stack], v.d.Sites[n.top.start]
		slices.SortStableFunc(n.states, func(a, b dump.StateCount) int { return cmp.Compare(b.Count, a.Count) })
	}
}
