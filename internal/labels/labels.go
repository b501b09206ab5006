// Package labels adds the pprof labels of goroutines that wait to the events of a live
// trace.
//
// # Why they are exact
//
// The labels of a goroutine change in two places only: runtime_setProfLabel, which the
// goroutine itself executes, and its birth and end (runtime/proflabel.go; newproc1 and gdestroy in
// runtime/proc.go; Go 1.18 to 1.27). So while it is parked, or in one system call, they are what
// they were when that began. A [Follower] therefore reads them from outside in the
// middle of a wait, and then looks at the events that were made until the reading was over:
//
//   - If the goroutine made none, it was in the same wait from before the reading to after it, and
//     the labels are those of the whole wait.
//   - If it made one, then whose labels were read is not certain, and they are dropped.
//
// No guess is ever made: of a wait that ends before it can be read, the labels are not known.
//
// # What it costs
//
// A wait is read once, and only when it lasts. Waits are read the longest first, for as much
// CPU time as [Share] allows. It is our time and not that of the target, which notices nothing.
package labels

import (
	"cmp"
	"container/heap"
	"slices"

	"gopherscope/internal/event"
	"gopherscope/internal/goid"
	"gopherscope/internal/goruntime"
)

// A Reader reads labels out of the memory of the traced process: see snapshot.LabelReader.
type Reader interface {
	// Read passes on the labels of those of the goroutines that it could read, with their
	// status. unknown says that it does not know where some are, which Search may tell. An error is that the
	// process is gone.
	Read(goids []uint64, found func(goid uint64, status goruntime.Status, set *event.LabelSet)) (unknown bool, err error)
	// Search makes a part of a search for all goroutines, and says whether that was the last one.
	Search() (done bool, err error)
}

// Clocks are what time a Follower goes by, both in ns.
type Clocks struct {
	Mono func() (int64, error) // CLOCK_MONOTONIC, by which events are made
	CPU  func() (int64, error) // CPU time of the calling thread
}

// Share is the part of one CPU that reading takes at most, on average.
const Share = 1.0 / 128

const (
	// minWait is how long a goroutine has waited, in ns, before it is worth a reading.
	minWait = 10e6
	// maxCredit is how much CPU time can be saved for later, in ns. It is there at the beginning.
	maxCredit = 20e6
	// batch is how many goroutines are read together.
	batch = 64
	// maxQueue bounds the goroutines that are looked at in a round; if more began to wait, the
	// longest waits are found by looking at all.
	maxQueue = 1 << 14
	// maxTries is how often one wait is read in vain.
	maxTries = 10
	// skew is by how much the time of an event can differ from the clock, in ns. The inline engine
	// reckons it from the CPU's counter.
	skew = 1e6
)

// Follower follows the goroutines of one process through the events of a trace, and reads the labels
// of those that wait. It is not safe for concurrent use.
type Follower struct {
	pid    uint32
	reader Reader
	clocks Clocks
	emit   func(*event.Event) error

	live  goid.Map[state]
	queue []uint64      // goroutines that began to wait
	swept bool          // more began than the queue holds
	due   []pendingWait // those that are to be read next, from the queue

	reads     []reading // since the last round; see Event and Settle
	searching bool
	credit    float64 // CPU time, ns; below 0 a debt
	last      int64   // when the last round was
	gone      bool    // the process, or the right to read it
}

// state is what is known of a goroutine.
type state struct {
	since  int64 // it is in this wait since then, or longer: CLOCK_MONOTONIC, ns
	kind   kind
	queued bool
	done   bool // its labels were emitted, or cannot be had
	tries  uint8
	read   int32 // number in reads, plus 1; 0 if there is none
}

// kind is what a goroutine does.
type kind uint8

const (
	runs    kind = iota // or may run any time, or is not known
	waits               // parked
	syscall             // in a system call or in C code
)

// reading is what was read of a goroutine and is to be proved.
type reading struct {
	goid uint64 // 0 when that is decided
	end  int64  // when it was over: CLOCK_MONOTONIC, ns
	set  *event.LabelSet
}

// NewFollower returns a Follower that passes the events of a process on to emit, with those of
// kind Labels in between.
func NewFollower(pid int, r Reader, c Clocks, emit func(*event.Event) error) *Follower {
	return &Follower{pid: uint32(pid), reader: r, clocks: c, emit: emit, credit: maxCredit}
}

func kindOf(s goruntime.Status, fake bool) kind {
	switch s {
	case goruntime.Waiting, goruntime.Leaked, goruntime.Preempted:
		if !fake { // a goroutine in a fake wait goes on running without being told
			return waits
		}
	case goruntime.Syscall:
		return syscall
	}
	return runs
}

// Event takes the next event of the trace and passes it on. An error is one of emit.
func (f *Follower) Event(e *event.Event) error {
	if e.PID != f.pid && e.PID != 0 {
		return f.emit(e)
	}
	switch e.Kind {
	case event.Transition:
		if err := f.transition(e); err != nil {
			return err
		}
	case event.Snapshot:
		if f.live.Get(e.GoID) == nil {
			since := e.Time
			if e.Since > 0 {
				since = min(since, e.Since)
			}
			f.enter(e.GoID, f.live.Put(e.GoID), kindOf(e.To, e.Fake), since)
		}
	case event.Labels:
		if g := f.live.Get(e.GoID); g != nil {
			g.done = true
		}
	case event.Gap, event.Exec, event.Exit:
		f.forget()
	}
	return f.emit(e)
}

// forget forgets all goroutines: in which state they are is not known any more.
func (f *Follower) forget() {
	f.live = goid.Map[state]{}
	f.queue, f.due, f.reads, f.swept = f.queue[:0], nil, f.reads[:0], false
}

// transition takes a change of a goroutine. A reading that was over before it is proved by it.
func (f *Follower) transition(e *event.Event) error {
	g := f.live.Put(e.GoID)
	to := kindOf(e.To, e.Fake)
	continues := kindOf(e.From, false) == g.kind // else a change was missed
	if g.read != 0 {
		r := &f.reads[g.read-1]
		g.read = 0
		if continues && e.Time > r.end+skew {
			if err := f.prove(r, g); err != nil {
				return err
			}
		}
		r.goid = 0
	}
	if e.Ends() {
		f.live.Delete(e.GoID)
		return nil
	}
	if continues && to == waits && g.kind == waits {
		return nil // one wait that changes its name, as of a goroutine that is stopped for a scan
	}
	f.enter(e.GoID, g, to, e.Time)
	return nil
}

// enter begins the stay of a goroutine in a state.
func (f *Follower) enter(goid uint64, g *state, to kind, since int64) {
	g.kind, g.since, g.done, g.tries = to, since, false, 0
	if to == runs || g.queued {
		return
	}
	if len(f.queue) >= maxQueue {
		f.swept = true
		return
	}
	g.queued = true
	f.queue = append(f.queue, goid)
}

// prove emits the labels of a reading.
func (f *Follower) prove(r *reading, g *state) error {
	g.done = true
	e := event.Event{Kind: event.Labels, Time: max(r.end, g.since), PID: f.pid, GoID: r.goid, Labels: r.set}
	r.goid = 0
	return f.emit(&e)
}

// Settle says that every event made before upTo (CLOCK_MONOTONIC, ns) was passed to Event. What was
// read before and not contradicted is emitted. An error is one of emit.
func (f *Follower) Settle(upTo int64) error {
	for i := range f.reads {
		r := &f.reads[i]
		if r.goid == 0 {
			continue
		}
		g := f.live.Get(r.goid)
		if g == nil {
			continue // forgotten
		}
		g.read = 0
		if r.end <= upTo {
			if err := f.prove(r, g); err != nil {
				return err
			}
		}
	}
	f.reads = f.reads[:0]
	return nil
}

// Round reads labels for which it is time now. It is to be called after Settle, as often as events are asked
// for, and not while the trace is paused.
func (f *Follower) Round() error {
	now, err := f.clocks.Mono()
	if err != nil {
		return err
	}
	if f.last != 0 {
		f.credit = min(maxCredit, f.credit+float64(now-f.last)*Share)
	}
	f.last = now
	if f.gone || f.credit <= 0 || len(f.queue)+len(f.due) == 0 && !f.swept {
		return nil
	}
	begin, err := f.clocks.CPU()
	if err != nil {
		return err
	}
	spent := begin
	charge := func() error {
		cpu, err := f.clocks.CPU()
		f.credit -= float64(cpu - spent)
		spent = cpu
		return err
	}
	// To find and sort the waits can cost more than there is for one round: they last for several.
	if len(f.due) == 0 {
		f.due = f.longest(now)
		if err := charge(); err != nil {
			return err
		}
	}
	return f.readAll(charge)
}

// readAll reads goroutines until the credit is used up.
func (f *Follower) readAll(charge func() error) error {
	missing := false
	for len(f.due) > 0 && f.credit > 0 && !f.gone {
		var ids []uint64
		for len(f.due) > 0 && len(ids) < batch {
			w := f.due[0]
			f.due = f.due[1:]
			if g := f.live.Get(w.goid); g != nil && g.since == w.since && g.kind != runs && !g.done {
				ids = append(ids, w.goid)
			}
		}
		unknown, err := f.read(ids)
		if err != nil {
			return err
		}
		missing = missing || unknown
		if err := charge(); err != nil {
			return err
		}
	}
	if f.gone || f.credit <= 0 || !missing && !f.searching {
		return nil
	}
	done, err := f.reader.Search()
	f.searching, f.gone = !done, err != nil
	return charge()
}

// pendingWait is a goroutine that waits for its labels to be read.
type pendingWait struct {
	goid  uint64
	since int64
}

// compare has the longest waits first.
func (a pendingWait) compare(b pendingWait) int {
	return cmp.Or(cmp.Compare(a.since, b.since), cmp.Compare(a.goid, b.goid))
}

// longest are the waits that are long enough, the longest first.
func (f *Follower) longest(now int64) []pendingWait {
	list := f.queued(now)
	if f.swept && len(list) < batch {
		f.sweep()
		list = f.queued(now)
	}
	slices.SortFunc(list, pendingWait.compare)
	return list
}

// queued are those in the queue that have waited long enough. The queue loses those that do not
// wait for it any more.
func (f *Follower) queued(now int64) []pendingWait {
	var list []pendingWait
	kept := f.queue[:0]
	for _, id := range f.queue {
		g := f.live.Get(id)
		if g == nil || !g.queued {
			continue
		}
		if g.kind == runs || g.done {
			g.queued = false
			continue
		}
		kept = append(kept, id)
		if now-g.since >= minWait {
			list = append(list, pendingWait{id, g.since})
		}
	}
	f.queue = kept
	return list
}

// sweep makes the queue anew out of the longest waits of all.
func (f *Follower) sweep() {
	var longest longestWaits
	f.swept = false
	f.live.Retain(func(id uint64, g *state) bool {
		g.queued = false
		w := pendingWait{id, g.since}
		switch {
		case g.kind == runs || g.done:
		case len(longest) < maxQueue:
			heap.Push(&longest, w)
		default:
			f.swept = true
			if w.compare(longest[0]) < 0 {
				longest[0] = w
				heap.Fix(&longest, 0)
			}
		}
		return true
	})
	f.queue = f.queue[:0]
	for _, w := range longest {
		f.live.Get(w.goid).queued = true
		f.queue = append(f.queue, w.goid)
	}
}

// longestWaits is a heap with the shortest wait on top.
type longestWaits []pendingWait

func (h longestWaits) Len() int           { return len(h) }
func (h longestWaits) Less(i, j int) bool { return h[i].compare(h[j]) > 0 }
func (h longestWaits) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *longestWaits) Push(w any) { *h = append(*h, w.(pendingWait)) }

// Pop implements heap.Interface.
func (h *longestWaits) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// read reads some goroutines.
func (f *Follower) read(ids []uint64) (unknown bool, err error) {
	first := len(f.reads)
	unknown, err = f.reader.Read(ids, func(id uint64, status goruntime.Status, set *event.LabelSet) {
		g := f.live.Get(id)
		if g == nil || g.read != 0 || kindOf(status, false) != g.kind {
			return // it has moved, and its event is still to come
		}
		f.reads = append(f.reads, reading{goid: id, set: set})
		g.read = int32(len(f.reads))
	})
	f.gone = err != nil // the engine will find out, and say so
	end, err := f.clocks.Mono()
	if err != nil {
		return false, err
	}
	for i := range f.reads[first:] {
		f.reads[first+i].end = end
	}
	for _, id := range ids {
		if g := f.live.Get(id); g != nil && g.read == 0 && !f.searching {
			if g.tries++; g.tries >= maxTries {
				g.done = true
			}
		}
	}
	return unknown, nil
}
