package waiton

import (
	"context"
	"strings"

	"gopherscope/internal/dump"
	"gopherscope/internal/goruntime"
)

// waiter is a goroutine that waits on an object, or is about to turn out to.
type waiter struct {
	g        int32 // index in Dump.Goroutines
	object   int32 // what it waits on, when that is not up to its sudogs; else -1
	first, n int32 // its sudogs
	class    class
	how      dump.WaitHow
	moved    bool // it is not where it was any more
	state    gState
	top      []byte // of its stack; while it is being found only
	cond     uint64 // address of a condition that it seems to wait on
}

// gState is what of a g struct changes when the goroutine moves.
type gState struct {
	goid, sp, waiting uint64
	status            goruntime.Status
	reason, seq       uint8
}

func (f *finder) gState(g []byte) gState {
	l := &f.t.Layout.G
	return gState{
		goid: word(g, l.GoID), sp: word(g, l.SchedSP), waiting: word(g, l.Waiting),
		status: goruntime.Status(word32(g, l.Status) &^ goruntime.ScanBit),
		reason: g[l.WaitReason], seq: g[l.TrackingSeq],
	}
}

// class says how a goroutine waits.
type class uint8

const (
	classNone class = iota // on no object
	classChan
	classSema
	classCond
	classForever
)

// classOf is how a goroutine waits, and for what, by its wait reason
// (runtime/runtime2.go, waitReasonStrings). In a synctest bubble "(durable)"
// follows.
func classOf(reason string) (class, dump.WaitHow) {
	switch strings.TrimSuffix(reason, " (durable)") {
	case "chan receive":
		return classChan, dump.HowReceive
	case "chan send":
		return classChan, dump.HowSend
	case "select":
		return classChan, 0 // which, the queues tell
	case "chan receive (nil chan)":
		return classForever, dump.HowReceive
	case "chan send (nil chan)":
		return classForever, dump.HowSend
	case "select (no cases)":
		return classForever, dump.HowSelect
	case "semacquire", "sync.Mutex.Lock", "sync.RWMutex.RLock", "sync.RWMutex.Lock", "sync.WaitGroup.Wait":
		return classSema, dump.HowAcquire
	case "sync.Cond.Wait":
		return classCond, dump.HowWait
	}
	return classNone, 0
}

// findWaiters finds the goroutines that wait on objects, with their sudogs.
func (f *finder) findWaiters(ctx context.Context) error {
	chunk := make([]int32, 0, chunkSize)
	for i := range f.d.Goroutines {
		if g := &f.d.Goroutines[i]; waits(g) {
			if c, _ := classOf(f.d.ReasonOf(g)); c != classNone {
				chunk = append(chunk, int32(i))
			}
		}
		if len(chunk) == chunkSize || i == len(f.d.Goroutines)-1 {
			if err := f.findChunk(chunk); err != nil {
				return err
			}
			chunk = chunk[:0]
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	return nil
}

// topOfStack is how much of a stack is read: the frames of the runtime and of
// package sync, and some of the program's.
const topOfStack = 2 << 10

// findChunk is findWaiters for some goroutines.
func (f *finder) findChunk(chunk []int32) error {
	begin := len(f.waiters)
	size := int(f.t.Layout.G.Size)
	f.begin(len(chunk), len(chunk)*size)
	for _, i := range chunk {
		f.want(f.d.Goroutines[i].Addr, size)
	}
	if err := f.run(); err != nil {
		return err
	}
	limits := make([]uint64, 0, len(chunk)) // where the stacks end
	for k, i := range chunk {
		g, mem := &f.d.Goroutines[i], f.piece(k)
		if mem == nil {
			f.out.Moved++
			continue
		}
		w := waiter{g: i, object: -1, state: f.gState(mem)}
		end := word(mem, f.t.Layout.G.StackHi)
		if w.state.goid != g.ID || w.state.status != g.Status || w.state.reason != g.Reason || w.state.seq != g.Seq || w.state.sp >= end {
			f.out.Moved++
			continue
		}
		w.class, w.how = classOf(f.d.ReasonOf(g))
		f.waiters = append(f.waiters, w)
		limits = append(limits, end)
	}
	ws := f.waiters[begin:]
	if err := f.readTops(ws, limits); err != nil {
		return err
	}
	if err := f.followWaiting(ws); err != nil {
		return err
	}
	if err := f.searchSemas(ws); err != nil {
		return err
	}
	if err := f.searchConds(ws); err != nil {
		return err
	}
	f.nameObjects(ws)
	return nil
}

// readTops reads the tops of the stacks, and marks the goroutines that are not
// where the Dump has them.
func (f *finder) readTops(ws []waiter, limits []uint64) error {
	f.begin(len(ws), len(ws)*topOfStack)
	for i := range ws {
		f.want(ws[i].state.sp, int(min(topOfStack, limits[i]-ws[i].state.sp))&^7)
	}
	if err := f.run(); err != nil {
		return err
	}
	if f.tops == nil {
		f.tops = make([]byte, 0, chunkSize*topOfStack)
	}
	memory := f.tops[:0]
	for i := range ws {
		w, top := &ws[i], f.piece(i)
		if top == nil || !f.place(f.d.Goroutines[w.g].Stack).isOn(top, f.t.Bias) {
			w.moved = true
			continue
		}
		memory = append(memory, top...)
		w.top = memory[len(memory)-len(top):]
	}
	return nil
}

// sudog is a goroutine's entry in a queue of waiters.
type sudog struct {
	addr, g, elem, c, next uint64
	object                 int32 // what queue it is in; -1 for none
	how                    dump.WaitHow
	isSelect               bool
}

func (f *finder) sudog(addr uint64, b []byte) (s sudog, waitlink uint64) {
	l := &f.t.Layout.Sudog
	s = sudog{
		addr: addr, g: word(b, l.G), elem: word(b, l.Elem), c: word(b, l.Chan), next: word(b, l.Next),
		object: -1, isSelect: b[l.IsSelect] != 0,
	}
	return s, word(b, l.WaitLink)
}

// Bounds on what a goroutine can wait on: a select has a case for each number of
// 16 bits (runtime/select.go, selectgo).
const (
	maxCases  = 1 << 16
	maxSudogs = 1 << 24 // of all goroutines
)

// followWaiting reads the sudogs in g.waiting. Those of a select are chained; the
// chains of all goroutines are followed together, a link at a time.
func (f *finder) followWaiting(ws []waiter) error {
	type chain struct {
		w      int
		next   uint64
		sudogs []sudog
	}
	var all []chain
	for i := range ws {
		if w := &ws[i]; !w.moved && w.class != classForever && w.state.waiting != 0 {
			all = append(all, chain{w: i, next: w.state.waiting})
		}
	}
	size := int(f.t.Layout.Sudog.Size)
	active := make([]int, len(all))
	for i := range active {
		active[i] = i
	}
	total := len(f.sudogs)
	for len(active) > 0 {
		f.begin(len(active), len(active)*size)
		for _, i := range active {
			f.want(all[i].next, size)
		}
		if err := f.run(); err != nil {
			return err
		}
		var more []int
		for k, i := range active {
			c, b := &all[i], f.piece(k)
			w := &ws[c.w]
			if b == nil {
				w.moved = true
				continue
			}
			s, link := f.sudog(c.next, b)
			if s.g != f.d.Goroutines[w.g].Addr || !w.class.has(&s) {
				w.moved = true
				continue
			}
			c.sudogs, c.next = append(c.sudogs, s), link
			if total++; link != 0 && w.class == classChan && len(c.sudogs) < maxCases && total < maxSudogs {
				more = append(more, i)
			}
		}
		active = more
	}
	for i := range all {
		ws[all[i].w].first, ws[all[i].w].n = int32(len(f.sudogs)), int32(len(all[i].sudogs))
		f.sudogs = append(f.sudogs, all[i].sudogs...)
	}
	return nil
}

// has says whether s may be a sudog of a goroutine that waits so.
func (c class) has(s *sudog) bool {
	if c == classChan {
		return s.c != 0
	}
	return s.c == 0 && s.elem != 0 && s.elem%4 == 0 && !s.isSelect
}

// nameObjects says which objects the sudogs of ws are for.
func (f *finder) nameObjects(ws []waiter) {
	for i := range ws {
		w := &ws[i]
		w.top = nil
		if w.moved {
			continue
		}
		if w.class == classForever {
			kind := dump.KindNilChan
			if w.how == dump.HowSelect {
				kind = dump.KindNoCases
			}
			w.object = f.objectAt(kind, 0)
		}
		for k := w.first; k < w.first+w.n; k++ {
			s := &f.sudogs[k]
			s.how = w.how
			switch w.class {
			case classChan:
				s.object = f.objectAt(dump.KindChan, s.c)
				f.byAddr[s.addr] = k
			case classSema:
				p := f.place(f.d.Goroutines[w.g].Stack)
				if p.blind {
					continue // rather unknown than a semaphore that is a Mutex's
				}
				s.how = p.how
				s.object = f.objectAt(p.kind, s.elem-p.offset)
			case classCond:
				s.object = f.objectAt(dump.KindCond, s.elem-condNotify)
			}
		}
	}
}
