package snapshot

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"gopherscope/internal/dump"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/process"
	"gopherscope/internal/target"
)

// reader takes one snapshot.
type reader struct {
	t      *target.Target
	l      *target.GLayout
	opts   *Options
	began  time.Time
	d      *dump.Dump
	sym    *symbols
	walk   walker
	labels labels
	keys   []field // of g: what must not change while its stack is read

	allgsAt uint64 // where runtime.allgs is; 0 as long as nobody asked

	gs    [2][]byte // memory for the g structs of a chunk, and for their second reading
	batch batch

	onM     []threaded       // of the chunk, those that are on a thread
	onCPU   map[uint64]onCPU // those that run on a known thread, by the address of their g struct
	nsKnown bool             // ns is right
	ns      map[int32]int32  // our numbers of the program's threads; nil where they are the same
}

func newReader(t *target.Target, opts *Options) (*reader, error) {
	r := &reader{t: t, l: &t.Layout.G, opts: opts, began: time.Now(), onCPU: map[uint64]onCPU{}}
	r.d = &dump.Dump{
		Version: t.Bin.Version(), Time: r.began, HasStacks: opts.Stacks, Reasons: t.Reasons,
	}
	if t.Proc != nil {
		r.d.PID = t.Proc.PID()
	}
	if opts.Clock != nil {
		var err error
		if r.d.Mono, err = opts.Clock(); err != nil {
			return nil, err
		}
	}
	r.sym = newSymbols(t.Bin, t.Bias)
	r.walk = newWalker(t.Bin, t.Bias)
	r.labels = newLabels(t)
	r.keys = keyFields(r.l)
	if m := opts.Memory; m != nil {
		r.gs, r.batch.mem = m.gs, m.batch
	}
	return r, nil
}

// Bounds on the array of goroutines.
const (
	maxGoroutines = 1 << 28 // more are not believed
	allgsAttempts = 5
	allgsPiece    = 1 << 20 // how many pointers are read at once
)

// errMoved is an array of goroutines that was given up while it was read.
var errMoved = errors.New("the list of goroutines keeps moving")

// allgs reads runtime.allgs: the addresses of all g structs that there ever
// were. The array is only appended to, but to grow it the runtime moves it and
// leaves the old one to the garbage collector (runtime/proc.go, allgadd), so what
// was read counts only if the array is still in use afterwards. The g structs
// themselves are never freed.
func (r *reader) allgs() ([]uint64, error) {
	if r.allgsAt == 0 {
		addr, err := r.t.Bin.Allgs()
		if err != nil {
			return nil, err
		}
		r.allgsAt = addr + r.t.Bias
	}
	for range allgsAttempts {
		gs, err := r.readAllgs(r.allgsAt)
		if !errors.Is(err, errMoved) {
			return gs, err
		}
	}
	return nil, errMoved
}

func (r *reader) readAllgs(addr uint64) ([]uint64, error) {
	var head, again [16]byte
	if err := r.t.Mem.ReadMem(addr, head[:]); err != nil {
		return nil, fmt.Errorf("read allgs: %w", err)
	}
	ptr, n := binary.LittleEndian.Uint64(head[:]), binary.LittleEndian.Uint64(head[8:])
	if n > maxGoroutines {
		return nil, fmt.Errorf("%w: allgs has %d entries", target.ErrLayout, n)
	}
	if n > r.most() {
		return nil, fmt.Errorf("%w: allgs has %d entries, for which the process has no memory", target.ErrLayout, n)
	}
	// The array is read in pieces that are allocated one by one, so that an
	// absurd length ends at the first page that is not there.
	var gs []uint64
	piece := make([]byte, 8*min(n, allgsPiece))
	for done := uint64(0); done < n; {
		b := piece[:8*min(n-done, allgsPiece)]
		if err := r.t.Mem.ReadMem(ptr+8*done, b); err != nil {
			if errors.Is(err, process.ErrBadAddress) && r.allgsMoved(addr, ptr) {
				return nil, errMoved
			}
			return nil, fmt.Errorf("read allgs: %w", err)
		}
		for i := 0; i < len(b); i += 8 {
			if g := binary.LittleEndian.Uint64(b[i:]); g != 0 {
				gs = append(gs, g)
			}
		}
		done += uint64(len(b) / 8)
	}
	if err := r.t.Mem.ReadMem(addr, again[:]); err != nil {
		return nil, fmt.Errorf("read allgs: %w", err)
	}
	if binary.LittleEndian.Uint64(again[:]) != ptr {
		return nil, errMoved
	}
	return gs, nil
}

// plausible is how much memory a process may have that does not count as its own.
const plausible = 256 << 20

// most is how many goroutines the process can have: each has a g struct, which is never
// freed. Without this bound a process without memory could have us fill
// ours, with a list that has the same entries again and again.
func (r *reader) most() uint64 {
	if r.t.Proc == nil {
		return maxGoroutines // of a core file, which is as large as it is
	}
	n, err := r.t.Proc.Resident()
	if err != nil {
		return maxGoroutines // what is wrong with the process, the next reading says
	}
	return (n + plausible) / uint64(r.l.Size)
}

// allgsMoved says whether the array is elsewhere now than at ptr.
func (r *reader) allgsMoved(addr, ptr uint64) bool {
	var now [8]byte
	return r.t.Mem.ReadMem(addr, now[:]) == nil && binary.LittleEndian.Uint64(now[:]) != ptr
}

// Bounds on the ranges of memory in which the g structs of a chunk are read.
const (
	maxGap   = 1 << 10 // between two g structs that are read in one piece
	maxRange = 64 << 10
)

// chunk reads the goroutines at addrs, which ascend, and adds them to the Dump.
// First all g structs are read in as few pieces as possible: the runtime
// allocates them side by side. That tells which are alive and where their stacks
// are; settle then reads those properly.
func (r *reader) chunk(ctx context.Context, addrs []uint64) error {
	gs, err := r.readGs(addrs, &r.gs[0])
	if err != nil {
		return err
	}
	todo := make([]pending, 0, len(addrs))
	for i, addr := range addrs {
		if gs[i] == nil {
			r.d.Torn++
			r.d.Unread++
			continue
		}
		if alive(r.status(gs[i])) {
			todo = append(todo, pending{addr: addr, g: gs[i]})
		}
	}
	if !r.opts.Stacks {
		if todo, err = r.unmovedGs(todo); err != nil {
			return err
		}
	}
	if err := r.settle(ctx, todo); err != nil {
		return err
	}
	return r.threads()
}

// unmovedGs adds those goroutines to the Dump whose g structs are the same when
// they are read a second time, and returns the others. It is settle for states
// alone, at a third of the cost.
func (r *reader) unmovedGs(ps []pending) (moved []pending, err error) {
	if err := r.labels.read(r.labelPointers(ps)); err != nil {
		return nil, err
	}
	addrs := make([]uint64, len(ps))
	for i := range ps {
		addrs[i] = ps[i].addr
	}
	gs, err := r.readGs(addrs, &r.gs[1])
	if err != nil {
		return nil, err
	}
	for i := range ps {
		if gs[i] == nil || !r.unmoved(ps[i].g, gs[i]) || !r.labels.have(word(gs[i], r.l.Labels)) {
			moved = append(moved, ps[i])
			continue
		}
		r.add(ps[i].addr, gs[i], dump.SourceNone, 0)
	}
	return moved, nil
}

// readGs reads the g structs at addrs into memory; nil for one that cannot be
// read. The slices are valid until the next call with the same memory.
func (r *reader) readGs(addrs []uint64, memory *[]byte) ([][]byte, error) {
	size := uint64(r.l.Size)
	type span struct{ first, last int }
	var spans []span
	total := 0
	for i, addr := range addrs {
		if n := len(spans); n > 0 {
			s := &spans[n-1]
			start, end := addrs[s.first], addrs[s.last]+size
			if addr-end <= maxGap && addr >= end && addr+size-start <= maxRange {
				total += int(addr + size - end)
				s.last = i
				continue
			}
		}
		spans = append(spans, span{i, i})
		total += int(size)
	}
	if cap(*memory) < total {
		*memory = make([]byte, total)
	}
	buf := (*memory)[:total]
	reads := make([]process.MemRead, len(spans))
	gs := make([][]byte, len(addrs))
	for k, s := range spans {
		start := addrs[s.first]
		n := addrs[s.last] + size - start
		reads[k] = process.MemRead{Addr: start, Buf: buf[:n]}
		for i := s.first; i <= s.last; i++ {
			gs[i] = buf[addrs[i]-start:][:size]
		}
		buf = buf[n:]
	}
	for done := 0; done < len(reads); {
		n, err := r.t.Mem.ReadMany(reads[done:])
		if err == nil {
			break
		}
		if ends(err) {
			return nil, err
		}
		done += n // the span that could not be read whole
		for i := spans[done].first; i <= spans[done].last; i++ {
			if err := r.t.Mem.ReadMem(addrs[i], gs[i]); ends(err) {
				return nil, err
			} else if err != nil {
				gs[i] = nil
			}
		}
		done++
	}
	return gs, nil
}

// status is the status in a g struct, without the scan bit.
func (r *reader) status(g []byte) goruntime.Status {
	return goruntime.Status(binary.LittleEndian.Uint32(g[r.l.Status:]) &^ goruntime.ScanBit)
}

// word is the 8-byte field of a g struct at off; 0 for a field that this Go
// version does not have.
func word(g []byte, off uint32) uint64 {
	if off == target.NoField {
		return 0
	}
	return binary.LittleEndian.Uint64(g[off:])
}

// alive says whether a status is that of a goroutine that exists.
func alive(s goruntime.Status) bool {
	switch s {
	case goruntime.Idle, goruntime.Dead, goruntime.DeadExtra:
		return false
	}
	return s.Valid()
}

// hasStack says whether a goroutine in that status is off its CPU, its stack and
// the registers to walk it with in memory.
func hasStack(s goruntime.Status) bool {
	switch s {
	case goruntime.Runnable, goruntime.Syscall, goruntime.Waiting, goruntime.Preempted, goruntime.Leaked:
		return true
	}
	return false
}
