// Package waiton finds the objects that goroutines wait on: channels, mutexes,
// WaitGroups, conditions, semaphores, and who else refers to them. It reads the
// memory of a live process, which runs on, or of a core file.
//
// # How an object is found
//
// A goroutine that waits in a channel operation has its sudogs, its entries in
// the queues of channels, in g.waiting (runtime/chan.go, runtime/select.go). From
// Go 1.26 on the same holds for semaphores and conditions (runtime/sema.go,
// semaRoot.queue, notifyListWait). Before, the sudog is known to the frame of
// semacquire1 only, which needs it after the goroutine is woken and so has it on
// the stack: a word there that points to a sudog whose g is the goroutine itself
// and which has an address to wait for. A sudog that is not in use has none, so no
// other memory passes for it. A condition before Go 1.26 is on the stack of
// sync.(*Cond).Wait; that it is the right one is shown by the goroutine's sudog in
// its list.
//
// Semaphores are fields of the types in package sync. Which type, and which field
// of it, the functions on the goroutine's stack tell.
//
// # How a moving target is read
//
// First the g struct is read, and must be in the state of the Dump, with the
// frames of the Dump on its stack; then sudogs, objects, references; in the end
// the sudogs and the g struct once more. A goroutine of which anything is not the
// same (status, goid, wait reason, stack pointer, g.waiting, and g.trackingSeq,
// which counts how often it stopped running) has moved, and is only counted. So
// every goroutine that is shown waited on its object all the time that the state
// and the references of the object were read.
//
// # What is searched for references
//
// The used part of the stacks of all goroutines of the Dump, and the program's
// variables. A word that points to an object is a reference; it may be a leftover
// that is not used any more, so references are rather too many. The heap is not
// searched: a goroutine that gets at an object through another object has no
// reference here.
//
// Nothing in the memory is trusted: lengths are bounded, cycles end.
package waiton

import (
	"context"
	"fmt"
	"slices"

	"gopherscope/internal/dump"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/target"
)

// chunkSize is how many goroutines are read together.
const chunkSize = 4096

// Find finds what the goroutines of d wait on, which must have been read with
// their stacks from the memory of t. The errors are those of process.Memory that
// end the reading, and that of ctx. The result refers to d by numbers only.
func Find(ctx context.Context, t *target.Target, d *dump.Dump) (*dump.Waiting, error) {
	f := newFinder(t, d)
	steps := []struct {
		name string
		do   func(context.Context) error
	}{
		{"waiting goroutines", f.findWaiters},
		{"conditions", f.findConds},
		{"objects", f.readObjects},
		{"queues", f.walkQueues},
		{"references on stacks", f.searchStacks},
		{"references in variables", f.searchGlobals},
		{"waiting goroutines again", f.confirm},
	}
	for _, s := range steps {
		if err := s.do(ctx); err != nil {
			return nil, fmt.Errorf("read %s: %w", s.name, err)
		}
	}
	return f.result(), nil
}

// finder is one run of Find.
type finder struct {
	t *target.Target
	d *dump.Dump
	reader
	out dump.Waiting

	waiters []waiter
	sudogs  []sudog // each waiter has its own in a row
	byAddr  map[uint64]int32
	objects []object
	byKey   map[objectKey]int32

	places map[dump.StackID]*place
	tops   []byte // memory for the tops of the stacks of a chunk
	refs   references
}

func newFinder(t *target.Target, d *dump.Dump) *finder {
	return &finder{
		t: t, d: d, reader: reader{mem: t.Mem},
		byAddr: map[uint64]int32{}, byKey: map[objectKey]int32{}, places: map[dump.StackID]*place{},
	}
}

// objectKey tells objects apart.
type objectKey struct {
	kind dump.ObjectKind
	addr uint64
}

// object is an object with what is needed to find out about it.
type object struct {
	dump.WaitObject
	recvq, sendq uint64 // heads of a channel's queues
	size         uint64
	inner        bool  // it may be part of a struct
	bad          bool  // its memory cannot be read
	mark         int32 // the goroutine whose stack is searched waits on it
	seen         int32 // the last goroutine that refers to it
}

// objectAt is the number of an object.
func (f *finder) objectAt(kind dump.ObjectKind, addr uint64) int32 {
	key := objectKey{kind, addr}
	n, ok := f.byKey[key]
	if !ok {
		n = int32(len(f.objects))
		f.byKey[key] = n
		o := object{mark: -1, seen: -1, inner: kind != dump.KindChan}
		o.Kind, o.Addr = kind, addr
		f.objects = append(f.objects, o)
	}
	return n
}

// result gives the objects the waiters that stayed, and drops those without.
func (f *finder) result() *dump.Waiting {
	for i := range f.waiters {
		w := &f.waiters[i]
		if w.moved {
			f.out.Moved++
			continue
		}
		if !f.give(w) {
			f.out.Unknown++
			continue
		}
		f.out.Waiters++
	}
	for i := range f.objects {
		if o := &f.objects[i]; len(o.Waiters) > 0 {
			o.Waiters = slices.Clip(o.Waiters)
			f.out.Objects = append(f.out.Objects, o.WaitObject)
		}
	}
	return dump.NewWaiting(&f.out)
}

// give puts w into the lists of its objects; false if it has none.
func (f *finder) give(w *waiter) bool {
	if w.object >= 0 {
		o := &f.objects[w.object]
		o.Waiters = append(o.Waiters, dump.Waiter{G: w.g, How: w.how})
		return true
	}
	found := false
	for i := w.first; i < w.first+w.n; i++ {
		s := &f.sudogs[i]
		if s.object < 0 || f.objects[s.object].bad || s.how == 0 {
			continue
		}
		o := &f.objects[s.object]
		// A select may have several cases of one channel.
		one := dump.Waiter{G: w.g, How: s.how, Select: s.isSelect}
		if n := len(o.Waiters); n == 0 || o.Waiters[n-1] != one {
			o.Waiters = append(o.Waiters, one)
		}
		found = true
	}
	return found
}

// waits says whether a goroutine waits for something, not on its M.
func waits(g *dump.Goroutine) bool {
	return (g.Status == goruntime.Waiting || g.Status == goruntime.Leaked) && !g.Has(dump.Fake)
}
