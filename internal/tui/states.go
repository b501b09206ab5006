package tui

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopherscope/internal/dump"
	"gopherscope/internal/event"
	"gopherscope/internal/goid"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gstate"
)

// states are what a stream of events tells of the goroutines of a process, as much of it as
// a Dump has. What many goroutines share has a number, which it keeps: so a Dump that was
// made stays right.
type states struct {
	stackOf func(id uint32) []event.Location
	version goruntime.Version
	stacks  bool // the events name stacks
	live    goid.Map[present]

	reasons   []string // by number; the first is empty
	reasonIDs map[string]uint8
	sites     []dump.Site // the first is empty
	siteIDs   map[event.Location]dump.SiteID
	kept      []dump.Stack // the first is empty
	stackIDs  map[uint32]dump.StackID
	labels    [][]dump.Label // the first is of those whose labels are not known
	labelIDs  map[string]dump.LabelsID
}

// present is a goroutine that is there.
type present struct {
	birth   *event.Birth // nil if unknown
	since   int64        // it is in its state since then: CLOCK_MONOTONIC, ns; of a seed, that or earlier
	stopped int64        // when it last stopped running, or was born; 0 if it was not seen to
	stack   uint32       // by the number of the stream; 0 if unknown
	labels  dump.LabelsID
	tid     uint32 // the thread while it has one; 0 if unknown
	pid     uint32 // the process
	status  goruntime.Status
	reason  uint8
	gaps    uint8 // since its last event; if there are any, its state is not known
	fake    bool
	seed    bool // from a Snapshot; no change was seen yet
}

func newStates(version string, stacks bool, stackOf func(uint32) []event.Location) *states {
	s := &states{
		stackOf: stackOf, stacks: stacks, reasons: []string{""}, reasonIDs: map[string]uint8{},
		sites: []dump.Site{{}}, siteIDs: map[event.Location]dump.SiteID{}, kept: []dump.Stack{{}}, stackIDs: map[uint32]dump.StackID{},
		labels: [][]dump.Label{nil}, labelIDs: map[string]dump.LabelsID{},
	}
	// Of a version that is none, all frames of the runtime's exported functions are shown.
	if v, err := goruntime.ParseVersion(version); err == nil {
		s.version = v
	}
	return s
}

// apply takes the next event.
func (s *states) apply(e *event.Event) {
	switch e.Kind {
	case event.Transition:
		s.transition(e)
	case event.Snapshot:
		s.seed(e)
	case event.Labels:
		if g := s.live.Get(e.GoID); g != nil {
			g.labels = s.labelSet(e.Labels)
		}
	case event.Gap:
		s.live.Retain(func(_ uint64, g *present) bool {
			g.gaps++
			return g.gaps < gstate.MaxGaps
		})
	case event.Census:
		s.live.Retain(func(_ uint64, g *present) bool { return g.gaps == 0 })
	case event.Exec, event.Exit: // the goroutines are gone with the program
		s.live = goid.Map[present]{}
	}
}

// seed takes a goroutine that was there before the trace or the end of a gap. What changes have
// told of it since stays.
func (s *states) seed(e *event.Event) {
	if g := s.live.Get(e.GoID); g != nil && g.gaps == 0 {
		return
	}
	g := s.live.Put(e.GoID)
	birth := g.birth
	if birth == nil {
		birth = e.Birth
	}
	*g = present{pid: e.PID, birth: birth, since: e.Time, stopped: g.stopped, stack: e.Stack, status: e.To, reason: s.reason(e), fake: e.Fake, seed: true}
	if e.Since > 0 && e.Since < e.Time {
		g.since = e.Since
	}
}

func (s *states) transition(e *event.Event) {
	if e.Ends() {
		s.live.Delete(e.GoID)
		return
	}
	g := s.live.Put(e.GoID)
	if e.From == goruntime.Running || e.IsNew() {
		g.stopped = e.Time
	}
	if !stands(e) {
		g.stack, g.labels = 0, 0
	}
	if e.Stack != 0 && (e.To == goruntime.Waiting || e.To == goruntime.Syscall) { // of a birth it is the parent's
		g.stack = e.Stack
	}
	g.pid, g.tid, g.since = e.PID, 0, e.Time
	if e.To == goruntime.Running || e.To == goruntime.Syscall || e.To == goruntime.Waiting && e.Fake {
		g.tid = e.TID
	}
	g.status, g.reason, g.fake, g.seed, g.gaps = e.To, s.reason(e), e.Fake, false, 0
	if e.Birth != nil {
		g.birth = e.Birth
	}
}

// stands says whether a goroutine is still where it parked or entered a system call after a
// change: it has not run.
func stands(e *event.Event) bool {
	switch e.From {
	case goruntime.Waiting, goruntime.Syscall:
		return e.To == goruntime.Runnable || e.To == goruntime.Leaked
	case goruntime.Leaked: // a mark on a goroutine that waits on, which can be taken back
		return e.To == goruntime.Runnable || e.To == goruntime.Waiting
	}
	return false
}

// reason is the number of why a goroutine waits. There are 40 to 60 reasons in a runtime;
// of a stream with more than there are numbers, those that come late are left out.
func (s *states) reason(e *event.Event) uint8 {
	if e.Reason == "" {
		return 0
	}
	n, ok := s.reasonIDs[e.Reason]
	if !ok && len(s.reasons) <= math.MaxUint8 {
		n = uint8(len(s.reasons))
		s.reasons = append(s.reasons, e.Reason)
		s.reasonIDs[e.Reason] = n
	}
	return n
}

// labelSet is the number of labels.
func (s *states) labelSet(set *event.LabelSet) dump.LabelsID {
	if set == nil {
		return 0
	}
	key := ""
	for _, l := range set.Labels {
		key += strconv.Quote(l.Key) + strconv.Quote(l.Value)
	}
	n, ok := s.labelIDs[key]
	if !ok {
		labels := make([]dump.Label, len(set.Labels))
		for i, l := range set.Labels {
			labels[i] = dump.Label{Key: l.Key, Value: l.Value}
		}
		n = dump.LabelsID(len(s.labels))
		s.labelIDs[key] = n
		s.labels = append(s.labels, labels)
	}
	return n
}

// site is the number of a place.
func (s *states) site(l event.Location) dump.SiteID {
	if l == (event.Location{}) {
		return 0
	}
	n, ok := s.siteIDs[l]
	if !ok {
		n = dump.SiteID(len(s.sites))
		s.siteIDs[l] = n
		s.sites = append(s.sites, dump.Site{Func: l.Func, Outer: l.Func, File: l.File, Line: int32(l.Line)})
	}
	return n
}

// stack is the number of a stack; 0 if it is not known.
func (s *states) stack(id uint32) dump.StackID {
	if id == 0 {
		return 0
	}
	n, ok := s.stackIDs[id]
	if !ok {
		if places := s.stackOf(id); len(places) > 0 {
			frames := make([]dump.Frame, len(places))
			for i, l := range places {
				frames[i] = dump.Frame{Func: l.Func, File: l.File, Line: int32(l.Line)}
			}
			n = dump.StackID(len(s.kept))
			s.kept = append(s.kept, dump.Stack{Frames: frames})
		}
		s.stackIDs[id] = n
	}
	return n
}

// at makes the Dump of a moment, and says which of its goroutines have run since another one
// or are new since, and of how many the state is not known since a gap: they are
// left out.
func (s *states) at(now, since int64, wall time.Time) (d *dump.Dump, ran []bool, unknown int) {
	d = &dump.Dump{Version: s.version, Time: wall, Mono: now, HasStacks: s.stacks}
	type one struct {
		dump.Goroutine
		ran bool
	}
	var all []one
	s.live.Retain(func(id uint64, g *present) bool {
		switch {
		case g.status == goruntime.Dead || g.status == goruntime.DeadExtra:
		case g.gaps > 0:
			unknown++
		default:
			all = append(all, one{s.goroutine(id, g), g.status == goruntime.Running || g.stopped >= since && g.stopped > 0})
		}
		return true
	})
	slices.SortFunc(all, func(a, b one) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	d.Goroutines, ran = make([]dump.Goroutine, len(all)), make([]bool, len(all))
	for i := range all {
		d.Goroutines[i], ran[i] = all[i].Goroutine, all[i].ran
	}
	d.Reasons, d.Sites, d.Stacks, d.Labels = s.reasons, s.sites, s.kept, s.labels
	return d, ran, unknown
}

func (s *states) goroutine(id uint64, g *present) dump.Goroutine {
	out := dump.Goroutine{ID: id, Stack: s.stack(g.stack), Labels: g.labels, TID: int32(g.tid), Status: g.status, Reason: g.reason}
	switch g.status {
	case goruntime.Waiting, goruntime.Leaked, goruntime.Syscall:
		out.WaitSince = g.since
	}
	if g.fake {
		out.Flags |= dump.Fake
	}
	if g.birth == nil {
		return out
	}
	out.Parent, out.Created, out.Start = g.birth.Parent, s.site(g.birth.CreatedBy), s.site(g.birth.Start)
	if s.system(&out) {
		out.Flags |= dump.System
	}
	return out
}

// system says whether a goroutine is the runtime's own (runtime/traceback.go,
// isSystemGoroutine, Go 1.18 to 1.27). One that runs finalizers is the program's while it
// is in its code.
func (s *states) system(g *dump.Goroutine) bool {
	switch start := s.sites[g.Start].Func; start {
	case "runtime.main", "runtime.corostart", "runtime.handleAsyncEvent":
		return false
	case "runtime.runfinq", "runtime.runFinalizers", "runtime.runCleanups":
		return !slices.ContainsFunc(s.kept[g.Stack].Frames, func(f dump.Frame) bool { return !strings.HasPrefix(f.Func, "runtime.") })
	default:
		return strings.HasPrefix(start, "runtime.")
	}
}
