package waiton

import "encoding/binary"

// searchSemas finds the sudogs of those goroutines that wait on a semaphore and
// have none in g.waiting: all of them before Go 1.26.
func (f *finder) searchSemas(ws []waiter) error {
	size := int(f.t.Layout.Sudog.Size)
	want := func(w *waiter) bool {
		return w.class == classSema && w.n == 0 && !f.place(f.d.Goroutines[w.g].Stack).blind
	}
	return f.searchTops(ws, size, want, func(w *waiter, addr uint64, b []byte) bool {
		s, _ := f.sudog(addr, b)
		if s.g != f.d.Goroutines[w.g].Addr || !classSema.has(&s) {
			return false
		}
		w.first, w.n = int32(len(f.sudogs)), 1
		f.sudogs = append(f.sudogs, s)
		return true
	})
}

// searchConds finds the conditions of those goroutines that wait on one and have
// no sudog in g.waiting: all of them before Go 1.26. A Cond that was used has its
// own address in its checker (sync/cond.go, copyChecker).
func (f *finder) searchConds(ws []waiter) error {
	want := func(w *waiter) bool { return w.class == classCond && w.n == 0 }
	return f.searchTops(ws, condSize, want, func(w *waiter, addr uint64, b []byte) bool {
		checker := addr + condChecker
		if word(b, condChecker) != checker || word(b, condHead) == 0 {
			return false
		}
		w.cond = addr
		return true
	})
}

// Bounds on the goroutines that have all of the top of their stacks searched.
const (
	maxFull   = 256 // at once
	maxMisses = 8   // rounds in vain, with the same frames; then such stacks are given up
)

// candidate is a word on a goroutine's stack whose target is looked at.
type candidate struct {
	w    int // index of the waiter
	slot int // of the word, bytes from the stack pointer
	addr uint64
}

// searchTops goes through the words on the tops of the stacks of those waiters
// that want it, from the innermost on, until accept takes the size bytes that one
// points to. Where it is on one stack, it is on all with the same frames, so
// usually one word is enough.
func (f *finder) searchTops(ws []waiter, size int, want func(*waiter) bool, accept func(w *waiter, addr uint64, b []byte) bool) error {
	var todo []int
	for i := range ws {
		if !ws[i].moved && want(&ws[i]) {
			todo = append(todo, i)
		}
	}
	failed, searched := map[int]bool{}, map[int]bool{} // not in the known slot; nowhere
	for len(todo) > 0 {
		var later []int
		var cands []candidate
		asked, full := map[*place]bool{}, 0
		for _, i := range todo {
			w := &ws[i]
			p := f.place(f.d.Goroutines[w.g].Stack)
			switch {
			case p.slot >= 0 && p.slot+8 <= len(w.top) && !failed[i]:
				cands = append(cands, candidate{i, p.slot, binary.LittleEndian.Uint64(w.top[p.slot:])})
			case p.misses >= maxMisses && !asked[p]: // what it waits on stays unknown
			case full < maxFull && (failed[i] || !asked[p]):
				if !asked[p] {
					asked[p] = true
					p.misses++ // unless one is found
				}
				searched[i] = true
				full++
				cands = w.candidates(i, cands)
			default:
				later = append(later, i)
			}
		}
		missed, err := f.tryCandidates(ws, cands, size, accept)
		if err != nil {
			return err
		}
		for _, i := range missed {
			if !searched[i] {
				failed[i] = true
				later = append(later, i)
			}
		}
		todo = later
	}
	return nil
}

// candidates adds the words on the top of w's stack that may be pointers to
// memory elsewhere.
func (w *waiter) candidates(i int, out []candidate) []candidate {
	for at := 0; at+8 <= len(w.top); at += 8 {
		addr := binary.LittleEndian.Uint64(w.top[at:])
		onStack := addr-w.state.sp < uint64(len(w.top))
		if addr >= 1<<12 && addr < 1<<47 && addr%8 == 0 && !onStack {
			out = append(out, candidate{i, at, addr})
		}
	}
	return out
}

// tryCandidates reads what candidates point to, and returns the waiters of which
// none was accepted.
func (f *finder) tryCandidates(ws []waiter, cands []candidate, size int, accept func(w *waiter, addr uint64, b []byte) bool) (missed []int, err error) {
	f.begin(len(cands), len(cands)*size)
	for _, c := range cands {
		f.want(c.addr, size)
	}
	if err := f.run(); err != nil {
		return nil, err
	}
	for first := 0; first < len(cands); {
		i := cands[first].w
		last, ok, p := first, false, f.place(f.d.Goroutines[ws[i].g].Stack)
		for ; last < len(cands) && cands[last].w == i; last++ {
			if b := f.piece(last); !ok && b != nil && accept(&ws[i], cands[last].addr, b) {
				ok = true
				p.slot, p.misses = cands[last].slot, 0
			}
		}
		if !ok {
			missed = append(missed, i)
		}
		first = last
	}
	return missed, nil
}
