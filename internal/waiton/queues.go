package waiton

import (
	"context"

	"gopherscope/internal/dump"
)

// maxUnknown bounds the entries of queues that are read one by one because they
// are of no goroutine that is known to wait.
const maxUnknown = 1 << 20

// walkQueues counts the goroutines in the queues of the channels. Which queue an
// entry is in tells what a case of a select is about.
func (f *finder) walkQueues(ctx context.Context) error {
	q := queueWalk{f: f, seen: make([]int32, len(f.sudogs)), buf: make([]byte, f.t.Layout.Sudog.Size)}
	for i := range f.objects {
		o := &f.objects[i]
		if o.Kind != dump.KindChan || o.bad {
			continue
		}
		if i%chunkSize == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		recv, all1, err := q.walk(o.recvq, int32(i), dump.HowReceive)
		if err != nil {
			return err
		}
		send, all2, err := q.walk(o.sendq, int32(i), dump.HowSend)
		if err != nil {
			return err
		}
		o.Chan.Receivers, o.Chan.Senders, o.Chan.QueueCut = recv, send, !all1 || !all2
	}
	return nil
}

type queueWalk struct {
	f       *finder
	seen    []int32 // by sudog, the last channel, from 1, in whose queues it was
	unknown int     // how many sudogs were read
	buf     []byte
}

// walk follows a queue of channel number c from its first entry. all is false if
// it does not end, or leads elsewhere because it changes.
func (q *queueWalk) walk(addr uint64, c int32, how dump.WaitHow) (n int, all bool, err error) {
	var others map[uint64]bool
	for addr != 0 {
		if k, ok := q.f.byAddr[addr]; ok {
			s := &q.f.sudogs[k]
			if s.object != c || q.seen[k] == c+1 {
				return n, false, nil
			}
			q.seen[k] = c + 1
			if s.isSelect {
				s.how = how
			}
			n++
			addr = s.next
			continue
		}
		if q.unknown++; q.unknown > maxUnknown || others[addr] {
			return n, false, nil
		}
		if others == nil {
			others = map[uint64]bool{}
		}
		others[addr] = true
		ok, err := q.f.one(addr, q.buf)
		if err != nil {
			return n, false, err
		}
		s, _ := q.f.sudog(addr, q.buf)
		if !ok || s.c != q.f.objects[c].Addr {
			return n, false, nil
		}
		n++
		addr = s.next
	}
	return n, true, nil
}

// condAt is the number of the condition at an address.
func (f *finder) condAt(addr uint64) int32 { return f.objectAt(dump.KindCond, addr) }

// findConds makes sure of the conditions that searchConds found: a goroutine that
// waits on one has its sudog in its list.
func (f *finder) findConds(ctx context.Context) error {
	waiters := map[uint64][]int32{} // by condition
	var conds []uint64              // in the order of their first waiters
	for i := range f.waiters {
		if w := &f.waiters[i]; !w.moved && w.cond != 0 {
			if waiters[w.cond] == nil {
				conds = append(conds, w.cond)
			}
			waiters[w.cond] = append(waiters[w.cond], int32(i))
		}
	}
	// A goroutine is in one list at most, but lists may change, or be no lists.
	q := condWalk{f: f, steps: 2*len(f.d.Goroutines) + chunkSize, buf: make([]byte, f.t.Layout.Sudog.Size)}
	for _, cond := range conds {
		if err := q.walk(ctx, cond, waiters[cond]); err != nil {
			return err
		}
	}
	return nil
}

// condWalk walks the lists of conditions.
type condWalk struct {
	f     *finder
	steps int // how many more sudogs are read, of all lists together
	buf   []byte
}

// walk looks for the waiters, by number, in the list of the condition that they
// seem to wait on. It ends when all are found, and at a cycle.
func (q *condWalk) walk(ctx context.Context, cond uint64, waiters []int32) error {
	f := q.f
	left := make(map[uint64]int32, len(waiters)) // by g, those that are not found yet
	for _, i := range waiters {
		w := &f.waiters[i]
		left[f.d.Goroutines[w.g].Addr] = i
		w.cond = 0
	}
	var head [8]byte
	ok, err := f.one(cond+condHead, head[:])
	if err != nil || !ok {
		return err
	}
	addr := word(head[:], 0)
	// The walk comes back to seen, which moves on ever more slowly, if and only if
	// it is in a cycle (Brent's algorithm).
	seen, lap, n := addr, 1, 0
	for addr != 0 && len(left) > 0 && q.steps > 0 {
		if q.steps--; q.steps%chunkSize == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		if ok, err = f.one(addr, q.buf); err != nil || !ok {
			return err
		}
		s, _ := f.sudog(addr, q.buf)
		if i, here := left[s.g]; here {
			delete(left, s.g)
			w := &f.waiters[i]
			w.first, w.n, w.cond = int32(len(f.sudogs)), 1, cond
			f.sudogs = append(f.sudogs, sudog{addr: addr, g: s.g, object: f.condAt(cond), how: w.how})
		}
		if addr = s.next; addr == seen {
			break
		}
		if n++; n == lap {
			seen, lap, n = addr, 2*lap, 0
		}
	}
	return nil
}
