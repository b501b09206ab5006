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

// condList reads the list of a condition: the sudogs that wait on it by their
// goroutines' addresses. It is bounded by the number of waiters.
func (f *finder) condList(ctx context.Context, cond uint64) (map[uint64]uint64, error) {
	list := map[uint64]uint64{}
	buf := make([]byte, f.t.Layout.Sudog.Size)
	ok, err := f.one(cond+condHead, buf[:8])
	if err != nil || !ok {
		return list, err
	}
	addr := word(buf, 0)
	for n := 0; addr != 0 && n <= 2*len(f.waiters)+chunkSize; n++ {
		if n%chunkSize == 0 {
			if err := ctx.Err(); err != nil {
				return list, err
			}
		}
		if ok, err = f.one(addr, buf); err != nil || !ok {
			return list, err
		}
		s, _ := f.sudog(addr, buf)
		if _, again := list[s.g]; again {
			break
		}
		list[s.g] = addr
		addr = s.next
	}
	return list, nil
}
