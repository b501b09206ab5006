package gotrace

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"gopherscope/internal/event"
)

// goroutine is one that a reader of the trace so far knows of, in the state that it holds
// of it; or one that it was not told of yet, of status 0.
type goroutine struct {
	id     uint64
	status uint64  // one of goRunnable to goWaiting; 0 before it is told
	m      *thread // when running or in a system call
	seq    uint64  // in this generation
	last   int64   // when it was last changed

	birth    *event.Birth // nil if unknown
	startGen uint64       // the generation of start
	start    uint64       // its startOf

	gaps int // since its last event

	stw    bool // a stop of the world is its range
	assist bool // a mark assist is its range

	// Of status 0: which it is in since the beginning of the trace.
	there uint64

	group uint64 // the number of the process
}

// thread is an M.
type thread struct {
	id uint64
	g  *goroutine // running or in a system call
	p  *proc      // the P that it holds

	buf   []byte // events not yet written, since base
	base  int64
	last  int64 // no event can be before: mostly, the time of the latest; CLOCK_MONOTONIC, ns
	coded int64 // the time of the latest event

	// What has happened to g and is written with the thread's next event only, because
	// that one tells how it went. Nothing else of the thread is between the two, so it
	// still gets its own time.
	leaving int64   // when the system call ended; 0 if it did not
	parting parting // how it left the thread; time 0 if it did not
	coming  coming  // who takes its place though it did not leave yet
}

// coming is a goroutine that another one switched to as its last act: what switched is
// recorded before the end of what did (runtime/coro.go coroswitch_m).
type coming struct {
	g    *goroutine // nil if none does
	time int64
}

// parting is the end of a goroutine's stay on a thread: the thread's next event can be that
// it switched to another goroutine.
type parting struct {
	time    int64
	destroy bool
	reason  uint64
	stack   uint64
}

// proc is a P.
type proc struct {
	id     uint64
	status uint64  // one of procRunning to procSyscall
	m      *thread // unless idle
	seq    uint64  // in this generation
	last   int64   // when it was last changed
	group  uint64  // the number of the process
	told   uint64  // the generation in which a reader was last told its status
}

// Numbers of one process are told from those of another, if there are several, by its
// number in the upper bits. Readers have goroutine numbers as int64.
const (
	goidBits  = 44
	procBits  = 10
	maxGroups = 1 << 18
)

// invented is the number of the first thread that is no real one: no thread id is as large.
const invented = 1 << 32

// group is the number of a process, from 0. A process that executes another program gets
// a new one.
func (w *Writer) group(pid uint32) uint64 {
	n, ok := w.groups[pid]
	if !ok {
		n = w.nextGroup
		if n == maxGroups-1 {
			w.out.fail(fmt.Errorf("more than %d processes", n))
		} else {
			w.nextGroup++
		}
		w.groups[pid] = n
	}
	return n
}

// goid is the number in the trace of a process's goroutine. The first process's keep
// theirs.
func goid(group, id uint64) uint64 { return group<<goidBits | id&(1<<goidBits-1) }

func (w *Writer) thread(id uint64) *thread {
	m := w.threads[id]
	if m == nil {
		m = &thread{id: id}
		w.threads[id] = m
	}
	return m
}

// proc is the P of an event, nil if it held none.
func (w *Writer) proc(e *event.Event) *proc {
	if e.P < 0 {
		return nil
	}
	group := w.group(e.PID)
	return w.procByID(group, group<<procBits+uint64(e.P))
}

func (w *Writer) procByID(group, id uint64) *proc {
	i, ok := slices.BinarySearchFunc(w.procs, id, func(p *proc, id uint64) int { return cmp.Compare(p.id, id) })
	if !ok {
		w.procs = slices.Insert(w.procs, i, &proc{id: id, status: procIdle, group: group})
	}
	return w.procs[i]
}

// freeProc is a P that nobody uses, for where it is not known which it was. It can be one
// that the process does not have.
func (w *Writer) freeProc(group uint64) *proc {
	next := group << procBits
	var idle *proc
	for _, p := range w.procs {
		if p.group != group {
			continue
		}
		if p.m == nil {
			return p
		}
		if p.m.g == nil && idle == nil {
			idle = p
		}
		next = p.id + 1
	}
	if idle != nil {
		return idle
	}
	return w.procByID(group, next)
}

// sortedThreads and sortedGoroutines are in the order of their numbers, so that the same
// events always give the same file.
func (w *Writer) sortedThreads() []*thread {
	return slices.SortedFunc(maps.Values(w.threads), func(a, b *thread) int { return cmp.Compare(a.id, b.id) })
}

func (w *Writer) sortedGoroutines() []*goroutine {
	return slices.SortedFunc(maps.Values(w.goroutines), func(a, b *goroutine) int { return cmp.Compare(a.id, b.id) })
}
