package waiton

import (
	"context"
	"debug/elf"
	"encoding/binary"
	"slices"

	"gopherscope/internal/dump"
	"gopherscope/internal/goruntime"
)

// Bounds on the search for references.
const (
	// near is how far in front of an object a pointer to the struct around it may
	// be. A channel is an allocation of its own.
	near = 512
	// maxRefs bounds the references to one object that are told apart.
	maxRefs = 1000
	// pieceSize is how much memory is searched at once.
	pieceSize = 1 << 20
	// maxStack bounds what is searched of one stack.
	maxStack = 64 << 20
	// maxGlobals bounds what is searched of the program's variables.
	maxGlobals = 1 << 30
)

// references finds the objects that words refer to.
type references struct {
	lo, hi  uint64
	sorted  []int32 // objects by address
	addrs   []uint64
	pages   []uint64 // a bit for each hash of a page that a reference points to
	maxSize uint64
}

// pageBits is the size of a page for references.pages, pageHash that of the hash.
const (
	pageBits = 9
	pageHash = 20
)

func (f *finder) indexObjects() {
	r := &f.refs
	r.pages = make([]uint64, 1<<pageHash/64)
	r.lo = ^uint64(0)
	for i := range f.objects {
		o := &f.objects[i]
		if o.bad || o.Addr < near || o.size == 0 {
			continue
		}
		r.sorted = append(r.sorted, int32(i))
		first, last := o.from(), o.Addr+o.size-1
		r.lo, r.hi, r.maxSize = min(r.lo, first), max(r.hi, last), max(r.maxSize, o.size)
		for page := first >> pageBits; page <= last>>pageBits; page++ {
			h := page & (1<<pageHash - 1)
			r.pages[h/64] |= 1 << (h % 64)
		}
	}
	slices.SortFunc(r.sorted, func(a, b int32) int {
		if f.objects[a].Addr < f.objects[b].Addr {
			return -1
		}
		return 1
	})
	for _, i := range r.sorted {
		r.addrs = append(r.addrs, f.objects[i].Addr)
	}
}

// from is the lowest address that refers to o.
func (o *object) from() uint64 {
	if o.inner {
		return o.Addr - near
	}
	return o.Addr
}

// each calls found for each object that a word in mem refers to.
func (f *finder) each(mem []byte, found func(o *object, exact bool)) {
	r := &f.refs
	for ; len(mem) >= 8; mem = mem[8:] {
		w := binary.LittleEndian.Uint64(mem)
		if w < r.lo || w > r.hi {
			continue
		}
		if h := w >> pageBits & (1<<pageHash - 1); r.pages[h/64]>>(h%64)&1 == 0 {
			continue
		}
		// The objects that begin after w-maxSize and up to near after w.
		k, _ := slices.BinarySearch(r.addrs, w-min(w, r.maxSize)+1)
		for ; k < len(r.addrs) && r.addrs[k] <= w+near; k++ {
			o := &f.objects[r.sorted[k]]
			if w >= o.from() && w < o.Addr+o.size {
				found(o, w >= o.Addr)
			}
		}
	}
}

// searchStacks looks for references on the stacks of all goroutines.
func (f *finder) searchStacks(ctx context.Context) error {
	f.indexObjects()
	if len(f.refs.sorted) == 0 {
		return nil
	}
	size := int(f.t.Layout.G.Size)
	next := 0 // in f.waiters, which are in the order of the goroutines
	var stacks []span
	for first := 0; first < len(f.d.Goroutines); first += chunkSize {
		if err := ctx.Err(); err != nil {
			return err
		}
		gs := f.d.Goroutines[first:min(first+chunkSize, len(f.d.Goroutines))]
		f.begin(len(gs), len(gs)*size)
		for i := range gs {
			f.want(gs[i].Addr, size)
		}
		if err := f.run(); err != nil {
			return err
		}
		stacks = stacks[:0]
		for i := range gs {
			if s, ok := f.stackOf(&gs[i], f.piece(i)); ok {
				s.g = int32(first + i)
				stacks = append(stacks, s)
			}
		}
		for rest := stacks; len(rest) > 0; {
			n, err := f.searchSome(rest, &next)
			if err != nil {
				return err
			}
			rest = rest[n:]
		}
	}
	return nil
}

// span is the used part of a goroutine's stack.
type span struct {
	g       int32
	addr, n uint64
}

// stackOf is the used part of the stack of g, whose struct is b; false if it has
// none any more. Of a goroutine that runs, all of the stack may be in use.
func (f *finder) stackOf(g *dump.Goroutine, b []byte) (span, bool) {
	if b == nil {
		f.out.Unsearched++
		return span{}, false
	}
	l := &f.t.Layout.G
	lo, hi, sp := word(b, l.StackLo), word(b, l.StackHi), word(b, l.SchedSP)
	switch goruntime.Status(word32(b, l.Status) &^ goruntime.ScanBit) {
	case goruntime.Idle, goruntime.Dead, goruntime.DeadExtra:
		return span{}, false
	case goruntime.Syscall:
		sp = word(b, l.SyscallSP)
	case goruntime.Running, goruntime.CopyStack:
		sp = lo
	}
	if sp < lo || sp >= hi {
		sp = lo
	}
	sp = (sp + 7) &^ 7
	if lo >= hi || hi-sp > maxStack || word(b, l.GoID) != g.ID {
		f.out.Unsearched++ // nonsense, or a goroutine that was born since
		return span{}, false
	}
	return span{addr: sp, n: (hi - sp) &^ 7}, true
}

// searchSome searches the first of the stacks, and returns how many.
func (f *finder) searchSome(stacks []span, next *int) (int, error) {
	n, total := 0, uint64(0)
	for n < len(stacks) && (n == 0 || total+stacks[n].n <= pieceSize) {
		total += stacks[n].n
		n++
	}
	if total > pieceSize { // one that is large
		return 1, f.searchLarge(stacks[0], next)
	}
	f.begin(n, int(total))
	for _, s := range stacks[:n] {
		f.want(s.addr, int(s.n))
	}
	if err := f.run(); err != nil {
		return 0, err
	}
	for i, s := range stacks[:n] {
		if mem := f.piece(i); mem == nil {
			f.out.Unsearched++
		} else {
			f.markOwn(s.g, next)
			f.searchStack(s.g, mem)
		}
	}
	return n, nil
}

// searchLarge searches a stack in pieces.
func (f *finder) searchLarge(s span, next *int) error {
	f.markOwn(s.g, next)
	buf := make([]byte, pieceSize)
	for s.n > 0 {
		b := buf[:min(s.n, pieceSize)]
		ok, err := f.one(s.addr, b)
		if err != nil {
			return err
		}
		if !ok {
			f.out.Unsearched++
			return nil
		}
		f.searchStack(s.g, b)
		s.addr, s.n = s.addr+uint64(len(b)), s.n-uint64(len(b))
	}
	return nil
}

// markOwn marks the objects that goroutine g waits on itself.
func (f *finder) markOwn(g int32, next *int) {
	for *next < len(f.waiters) && f.waiters[*next].g < g {
		*next++
	}
	if *next == len(f.waiters) || f.waiters[*next].g != g {
		return
	}
	w := &f.waiters[*next]
	for _, s := range f.sudogs[w.first : w.first+w.n] {
		if s.object >= 0 {
			f.objects[s.object].mark = g
		}
	}
}

// searchStack looks for references in a part of the stack of goroutine g.
func (f *finder) searchStack(g int32, mem []byte) {
	f.each(mem, func(o *object, exact bool) {
		if o.mark == g {
			return
		}
		if o.seen == g {
			if n := len(o.Refs); exact && n > 0 && o.Refs[n-1].G == g {
				o.Refs[n-1].Near = false
			}
			return
		}
		o.seen = g
		if len(o.Refs) == maxRefs {
			o.RefsMore++
			return
		}
		o.Refs = append(o.Refs, dump.ObjectRef{G: g, Near: !exact})
	})
}

// searchGlobals looks for references in the program's variables: the segments of
// the file that can be written.
func (f *finder) searchGlobals(ctx context.Context) error {
	if len(f.refs.sorted) == 0 {
		return nil
	}
	buf := make([]byte, pieceSize)
	total := uint64(0)
	for _, s := range f.t.Bin.Segments() {
		if s.Flags&elf.PF_W == 0 {
			continue
		}
		lo := (s.Vaddr + f.t.Bias + 7) &^ 7
		hi := s.Vaddr + f.t.Bias + s.Memsz
		f.markGlobals(lo, hi)
		for lo < hi && total < maxGlobals {
			if err := ctx.Err(); err != nil {
				return err
			}
			b := buf[:min(hi-lo, pieceSize)]
			ok, err := f.one(lo, b)
			if err != nil {
				return err
			}
			if ok {
				f.each(b, func(o *object, exact bool) {
					ref := dump.GlobalNear
					if exact {
						ref = dump.GlobalExact
					}
					o.Global = max(o.Global, ref)
				})
			}
			lo, total = lo+uint64(len(b)), total+uint64(len(b))
		}
	}
	return nil
}

// markGlobals marks the objects between lo and hi: they are variables.
func (f *finder) markGlobals(lo, hi uint64) {
	k, _ := slices.BinarySearch(f.refs.addrs, lo)
	for ; k < len(f.refs.addrs) && f.refs.addrs[k] < hi; k++ {
		f.objects[f.refs.sorted[k]].Global = dump.GlobalSelf
	}
}
