package snapshot

import (
	"bytes"
	"context"

	"gopherscope/internal/dump"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/process"
	"gopherscope/internal/target"
)

// field is a part of a g struct.
type field struct{ off, size uint32 }

// keyFields are the fields of g that tell whether a goroutine has moved.
func keyFields(l *target.GLayout) []field {
	words := []uint32{
		l.StackLo, l.StackHi, l.SchedSP, l.SchedPC, l.SchedLR, l.SchedBP, l.SyscallSP, l.SyscallPC,
		l.GoID, l.Waiting, l.Labels,
	}
	if l.SyscallBP != target.NoField {
		words = append(words, l.SyscallBP)
	}
	fields := []field{{l.WaitReason, 1}, {l.TrackingSeq, 1}}
	for _, off := range words {
		fields = append(fields, field{off, 8})
	}
	return fields
}

// pending is a goroutine that is to be read.
type pending struct {
	addr   uint64
	g      []byte // its g struct as last read
	want   int    // how many bytes of its stack to read at least; 0 for as many as usual
	rounds int    // how often it was read
}

const (
	// maxRounds is how often a goroutine is read before it is given up as torn.
	maxRounds = 40
	// longStack is a stack whose reading takes so long that a goroutine can come
	// back to the same place meanwhile, and maxLongRounds how often one is read:
	// each time is a chance that it looks as if it had not moved.
	longStack     = 128 << 10
	maxLongRounds = 6
	// usualStack is how much of a stack is read at first. Of most, it is all.
	usualStack = 2 << 10
	// maxStack bounds what is read of one stack; a deeper one is cut.
	maxStack = 4 << 20
	// maxBatchBytes bounds the memory of a batch.
	maxBatchBytes = 4 << 20
	// batchPieces is how many pieces one system call reads. The pieces of one
	// goroutine must not be spread over two.
	batchPieces = 1024
)

// settle reads each goroutine until it has been read whole, and adds it to the
// Dump. Goroutines that die meanwhile are left out.
func (r *reader) settle(ctx context.Context, todo []pending) error {
	for len(todo) > 0 {
		if err := r.labels.read(r.labelPointers(todo)); err != nil {
			return err
		}
		var again []pending
		for rest := todo; len(rest) > 0; {
			if err := ctx.Err(); err != nil {
				return err
			}
			n, err := r.readBatch(rest)
			if err != nil {
				return err
			}
			for i := range rest[:n] {
				if p, retry := r.judge(&rest[i], &r.batch.groups[i]); retry {
					again = append(again, p)
				}
			}
			rest = rest[n:]
		}
		todo = again
	}
	return nil
}

// group is what was read of one goroutine: before, tick, stack, stack2, tick2,
// after, in this order. The stacks are empty for a goroutine without, the ticks
// for one that is in no system call.
type group struct {
	before, stack, stack2, after []byte
	tick, tick2                  []byte
	sp, m                        uint64 // where the stacks and the ticks were read from
	ok                           bool
}

// tickSize is that of m.syscalltick.
const tickSize = 4

// pieces is in how many pieces a goroutine is read.
func pieces(stack, tick bool) int {
	n := 2
	if stack {
		n += 2
	}
	if tick {
		n += 2
	}
	return n
}

// batch is the memory that the goroutines of one system call are read to.
type batch struct {
	mem    []byte
	groups []group
	reads  []process.MemRead
}

// readBatch reads the first of the goroutines in ps, and returns how many.
func (r *reader) readBatch(ps []pending) (int, error) {
	b := &r.batch
	b.groups, b.reads = b.groups[:0], b.reads[:0]
	used := 0
	var sizes [batchPieces / 2]int
	for i := range ps {
		n := r.stackWanted(&ps[i])
		pieces := pieces(n > 0, n > 0 && r.ticks(ps[i].g))
		if i > 0 && (len(b.reads)+pieces > batchPieces || used+2*n > maxBatchBytes) || i == len(sizes) {
			break
		}
		sizes[i] = n
		used += 2*n + 2*int(r.l.Size) + 2*tickSize
		b.groups = append(b.groups, group{})
		b.reads = append(b.reads, make([]process.MemRead, pieces)...)
	}
	if cap(b.mem) < used {
		b.mem = make([]byte, used)
	}
	mem, reads := b.mem[:used], b.reads[:0]
	take := func(addr uint64, n int) []byte {
		buf := mem[:n:n]
		mem = mem[n:]
		reads = append(reads, process.MemRead{Addr: addr, Buf: buf})
		return buf
	}
	for i := range b.groups {
		p, gr := &ps[i], &b.groups[i]
		gr.before = take(p.addr, int(r.l.Size))
		if n := sizes[i]; n > 0 {
			gr.sp, gr.m = r.start(p.g).sp, word(p.g, r.l.M)
			tick := gr.m + uint64(r.t.Layout.M.SyscallTick)
			ticks := r.ticks(p.g)
			if ticks {
				gr.tick = take(tick, tickSize)
			}
			gr.stack = take(gr.sp, n)
			gr.stack2 = take(gr.sp, n)
			if ticks {
				gr.tick2 = take(tick, tickSize)
			}
		}
		gr.after = take(p.addr, int(r.l.Size))
	}
	return len(b.groups), r.readGroups(reads)
}

// readGroups reads the pieces of the batch, and marks the groups of which all
// were read.
func (r *reader) readGroups(reads []process.MemRead) error {
	b := &r.batch
	piece := func(g *group) int { return pieces(g.stack != nil, g.tick != nil) }
	for at, i := 0, 0; i < len(b.groups); {
		n, err := r.t.Mem.ReadMany(reads[at:])
		if ends(err) {
			return err
		}
		for i < len(b.groups) && n >= piece(&b.groups[i]) {
			n -= piece(&b.groups[i])
			at += piece(&b.groups[i])
			b.groups[i].ok = true
			i++
		}
		if err != nil && i < len(b.groups) { // leave this one out
			at += piece(&b.groups[i])
			i++
		}
	}
	return nil
}

// ticks says whether a goroutine is told by m.syscalltick not to have moved: in
// a system call, which it can leave and enter again past g.trackingSeq from Go
// 1.26 on. Each entry takes the tick of the P, which each end increments
// (runtime/proc.go, reentersyscall and exitsyscall).
func (r *reader) ticks(g []byte) bool {
	return r.status(g) == goruntime.Syscall && word(g, r.l.M) != 0
}

// stackWanted is how many bytes of a goroutine's stack to read; 0 for none.
func (r *reader) stackWanted(p *pending) int {
	if !r.opts.Stacks || !hasStack(r.status(p.g)) {
		return 0
	}
	used := r.stackUsed(p.g)
	want := uint64(usualStack)
	if p.want > 0 {
		want = uint64(p.want)
	}
	return int(min(used, want))
}

// maxGoStack is the largest stack that the runtime allows, runtime.maxstacksize
// on 64-bit machines (runtime/proc.go, main), with a factor for those who raise it.
const maxGoStack = 64 << 30

// stackUsed is the size of the part of the stack that is in use; 0 when it makes
// no sense.
func (r *reader) stackUsed(g []byte) uint64 {
	lo, hi, sp := word(g, r.l.StackLo), word(g, r.l.StackHi), r.start(g).sp
	if lo >= hi || hi-lo > maxGoStack || sp < lo || sp >= hi || sp%8 != 0 {
		return 0
	}
	return (hi - sp) &^ 7
}

// judge looks at what was read of a goroutine. It adds the goroutine to the Dump,
// drops it because it is dead, or returns what to read again.
func (r *reader) judge(p *pending, gr *group) (again pending, retry bool) {
	if !gr.ok {
		return r.tryAgain(p, p.g)
	}
	now := gr.after
	status := r.status(now)
	if !alive(status) {
		return pending{}, false
	}
	if !hasStack(status) {
		r.add(p.addr, now, dump.SourceNone, 0)
		return pending{}, false
	}
	if !r.labels.have(word(now, r.l.Labels)) || !r.unmoved(gr.before, now) {
		return r.tryAgain(p, now)
	}
	if !r.opts.Stacks {
		r.add(p.addr, now, dump.SourceNone, 0)
		return pending{}, false
	}
	if r.stackUsed(now) == 0 {
		r.add(p.addr, now, dump.SourceInvalid, 0)
		return pending{}, false
	}
	if gr.stack == nil || gr.sp != r.start(now).sp || !bytes.Equal(gr.stack, gr.stack2) {
		return r.tryAgain(p, now)
	}
	if r.ticks(now) && (gr.tick == nil || gr.m != word(now, r.l.M) || !bytes.Equal(gr.tick, gr.tick2)) {
		return r.tryAgain(p, now)
	}
	return r.unwind(p, gr)
}

// unwind walks a stack that was read whole.
func (r *reader) unwind(p *pending, gr *group) (again pending, retry bool) {
	g := gr.after
	w := r.walk.stack(r.start(g), gr.stack)
	used := r.stackUsed(g)
	if w.end == walkShort && uint64(len(gr.stack)) < used && len(gr.stack) < maxStack {
		again, retry = r.tryAgain(p, g)
		again.want = min(8*len(gr.stack), maxStack)
		return again, retry
	}
	if r.switches(g) && !r.walk.calls(w) {
		return r.tryAgain(p, g)
	}
	source := dump.SourceMemory
	switch {
	case w.end == walkInvalid, w.end == walkShort && uint64(len(gr.stack)) == used:
		source = dump.SourceInvalid
	case w.fpMismatch:
		r.d.FPMismatches++
	}
	stack := dump.StackID(0)
	if source == dump.SourceMemory {
		stack = r.sym.stack(w)
	}
	r.add(p.addr, g, source, stack)
	return pending{}, false
}

// switches says whether a goroutine waits in a coroutine switch, which does not
// count in g.trackingSeq: nothing but its stack tells whether it has moved.
func (r *reader) switches(g []byte) bool {
	reason := int(g[r.l.WaitReason])
	return r.status(g) == goruntime.Waiting && reason < len(r.t.Reasons) && r.t.Reasons[reason] == "coroutine"
}

// tryAgain is what to read once more, or nothing: a goroutine that was read often
// enough is added as torn.
func (r *reader) tryAgain(p *pending, g []byte) (again pending, retry bool) {
	rounds := maxRounds
	if p.want > longStack {
		rounds = maxLongRounds
	}
	if p.rounds+1 >= rounds {
		if alive(r.status(g)) {
			r.d.Torn++
			r.add(p.addr, g, dump.SourceTorn, 0)
		}
		return pending{}, false
	}
	return pending{addr: p.addr, g: bytes.Clone(g), want: p.want, rounds: p.rounds + 1}, true
}

// unmoved says whether two readings of a g struct are of the same stay of the
// goroutine at the same place.
func (r *reader) unmoved(before, after []byte) bool {
	if r.status(before) != r.status(after) {
		return false
	}
	for _, f := range r.keys {
		if !bytes.Equal(before[f.off:f.off+f.size], after[f.off:f.off+f.size]) {
			return false
		}
	}
	return true
}

// start is where to begin to walk the stack of a goroutine that is not running:
// where it entered the system call if it is in one, else where it goes on
// (runtime/traceback.go, (*unwinder).initAt; gentraceback before Go 1.21).
func (r *reader) start(g []byte) start {
	if sp := word(g, r.l.SyscallSP); sp != 0 {
		return start{
			pc: word(g, r.l.SyscallPC), sp: sp,
			bp: word(g, r.l.SyscallBP), hasBP: r.l.SyscallBP != target.NoField,
		}
	}
	return start{
		pc: word(g, r.l.SchedPC), sp: word(g, r.l.SchedSP), lr: word(g, r.l.SchedLR),
		bp: word(g, r.l.SchedBP), hasBP: true,
	}
}

// add puts a goroutine into the Dump.
func (r *reader) add(addr uint64, g []byte, source dump.StackSource, stack dump.StackID) {
	l := r.l
	one := dump.Goroutine{
		ID: word(g, l.GoID), Parent: word(g, l.ParentGoID), Addr: addr, WaitSince: int64(word(g, l.WaitSince)),
		Stack: stack, Created: r.sym.site(word(g, l.GoPC), true), Start: r.sym.site(word(g, l.StartPC), false),
		Labels: r.labels.of(word(g, l.Labels)), Status: r.status(g), Reason: g[l.WaitReason], Source: source,
		Seq: g[l.TrackingSeq],
	}
	if one.ID == 0 { // being born: before Go 1.24 the goid comes after the status
		return
	}
	if word(g, l.LockedM) != 0 {
		one.Flags |= dump.Locked
	}
	if one.Status == goruntime.Waiting && goruntime.IsFakeWait(r.d.ReasonOf(&one)) {
		one.Flags |= dump.Fake
	}
	if r.sym.isSystem(one.Start, stack) {
		one.Flags |= dump.System
	}
	switch one.Status {
	case goruntime.Running, goruntime.Syscall, goruntime.CopyStack:
		r.onM = append(r.onM, threaded{onCPU{len(r.d.Goroutines), word(g, l.StackLo), word(g, l.StackHi), g[l.TrackingSeq]}, word(g, l.M)})
	}
	r.d.Goroutines = append(r.d.Goroutines, one)
}
