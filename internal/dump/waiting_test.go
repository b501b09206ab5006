package dump_test

import (
	"fmt"
	"slices"
	"testing"

	"gopherscope/internal/dump"
)

// channel is a channel that goroutines wait on and others refer to.
func channel(addr uint64, waiters, refs []int32) dump.WaitObject {
	o := dump.WaitObject{Kind: dump.KindChan, Addr: addr}
	for _, g := range waiters {
		o.Waiters = append(o.Waiters, dump.Waiter{G: g, How: dump.HowReceive})
	}
	for _, g := range refs {
		o.Refs = append(o.Refs, dump.ObjectRef{G: g})
	}
	return o
}

func mutex(addr uint64, global dump.GlobalRef, waiters, refs []int32) dump.WaitObject {
	o := channel(addr, waiters, refs)
	o.Kind, o.Global = dump.KindMutex, global
	return o
}

func with(o dump.WaitObject, change func(*dump.WaitObject)) dump.WaitObject {
	change(&o)
	return o
}

func TestCycles(t *testing.T) {
	type ids = []int32
	for name, c := range map[string]struct {
		objects []dump.WaitObject
		want    []string // goroutines, addresses, global
	}{
		"two mutexes": {
			[]dump.WaitObject{mutex(1, 0, ids{1}, ids{2}), mutex(2, 0, ids{2}, ids{1})},
			[]string{"[1 2] [1 2] false"},
		},
		"two mutexes, one global": {
			[]dump.WaitObject{mutex(1, dump.GlobalExact, ids{1}, ids{2}), mutex(2, 0, ids{2}, ids{1})},
			[]string{"[1 2] [1 2] true"},
		},
		"one more refers to a mutex and does not wait": {
			[]dump.WaitObject{mutex(1, 0, ids{1}, ids{2, 9}), mutex(2, 0, ids{2}, ids{1})}, nil,
		},
		"the others wait behind the two": {
			[]dump.WaitObject{mutex(1, 0, ids{1, 3, 4}, ids{2}), mutex(2, 0, ids{2}, ids{1}), channel(3, ids{5}, ids{3})},
			[]string{"[1 2] [1 2] false"},
		},
		"one waits for who can go on": {
			[]dump.WaitObject{mutex(1, 0, ids{1}, ids{2}), mutex(2, 0, ids{2}, ids{1, 3}), channel(3, ids{3}, ids{9})}, nil,
		},
		"a ring": {
			[]dump.WaitObject{channel(1, ids{1}, ids{3}), channel(2, ids{2}, ids{1}), channel(3, ids{3}, ids{2})},
			[]string{"[1 2 3] [1 2 3] false"},
		},
		"a global channel in the ring": {
			[]dump.WaitObject{channel(1, ids{1}, ids{2}), with(channel(2, ids{2}, ids{1}), func(o *dump.WaitObject) { o.Global = dump.GlobalExact })}, nil,
		},
		"a timer in the ring": {
			[]dump.WaitObject{channel(1, ids{1}, ids{2}), with(channel(2, ids{2}, ids{1}), func(o *dump.WaitObject) { o.Chan.Timer = true })}, nil,
		},
		"perhaps a timer": {
			[]dump.WaitObject{channel(1, ids{1}, ids{2}), with(channel(2, ids{2}, ids{1}), func(o *dump.WaitObject) {
				o.Chan.Elem, o.Chan.Cap = "time.Time", 1
			})}, nil,
		},
		"references that are left out": {
			[]dump.WaitObject{channel(1, ids{1}, ids{2}), with(channel(2, ids{2}, ids{1}), func(o *dump.WaitObject) { o.RefsMore = 1 })}, nil,
		},
		"a select with a way out": {
			[]dump.WaitObject{channel(1, ids{1}, ids{2}), channel(2, ids{2}, ids{1}), channel(3, ids{2}, ids{9})}, nil,
		},
		"a select with a case that nobody can fire": {
			[]dump.WaitObject{channel(1, ids{1}, ids{2}), channel(2, ids{2}, ids{1}), channel(3, ids{2}, nil)},
			[]string{"[1 2] [1 2] false"},
		},
		"a chain that ends at an abandoned one": {
			[]dump.WaitObject{channel(1, ids{1}, ids{2}), channel(2, ids{2}, nil)}, nil,
		},
		"two rings, and one that waits for both": {
			[]dump.WaitObject{
				channel(1, ids{1}, ids{2}), channel(2, ids{2}, ids{1}), channel(3, ids{3}, ids{4}), channel(4, ids{4}, ids{3}),
				channel(5, ids{5}, ids{1, 3}),
			},
			[]string{"[1 2] [1 2] false", "[3 4] [3 4] false"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := dump.NewWaiting(&dump.Waiting{Objects: c.objects})
			var got []string
			for _, c := range w.Cycles {
				var addrs []uint64
				for _, o := range c.Objects {
					addrs = append(addrs, w.Objects[o].Addr)
				}
				slices.Sort(addrs)
				got = append(got, fmt.Sprint(c.Goroutines, addrs, c.Global))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("cycles %q, want %q", got, c.want)
			}
		})
	}
}

// A million goroutines in one ring: no recursion, no quadratic time.
func TestCycleLarge(t *testing.T) {
	const n = 1 << 20
	objects := make([]dump.WaitObject, n)
	for i := range objects {
		objects[i] = channel(uint64(i+1), []int32{int32(i)}, []int32{int32((i + 1) % n)})
	}
	w := dump.NewWaiting(&dump.Waiting{Objects: objects})
	if len(w.Cycles) != 1 || len(w.Cycles[0].Goroutines) != n {
		t.Errorf("%d cycles", len(w.Cycles))
	}
}
