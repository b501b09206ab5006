package snapshot

import (
	"encoding/binary"

	"gopherscope/internal/gobinary"
)

// start is where the walk of a stack begins. Addresses are the process's.
type start struct {
	pc, sp, lr, bp uint64
	hasBP          bool // bp is known
	exact          bool // pc is an instruction that was interrupted, no return address
}

// walkEnd says how a walk ended.
type walkEnd uint8

const (
	walkTop     walkEnd = iota // at a function that stacks begin with: the stack is whole
	walkShort                  // at the end of the memory that was read
	walkUnknown                // at code that is not of the program: C, a plugin, the vDSO
	walkDeep                   // after maxFrames
	walkInvalid                // at something that no stack has
)

// maxFrames bounds the frames of one stack.
const maxFrames = 20000

// walked is a stack as a list of code addresses, as linked, innermost first.
type walked struct {
	pcs        []uint64 // valid until the next walk
	exact      bool     // of pcs[0]: see start
	end        walkEnd
	fpMismatch bool
}

// unwindInfo is what the walker keeps of a gobinary.Unwind.
type unwindInfo struct {
	delta int32
	kind  uint8
}

// The bits of unwindInfo.kind.
const (
	isCode uint8 = 1 << iota
	isTop
	isInjected
	writesSP
)

// A walker walks stacks. It remembers what it has looked up: the goroutines of a
// program are at few different places.
type walker struct {
	bin   *gobinary.File
	bias  uint64
	arm   bool // return addresses are passed in a register
	infos map[uint64]unwindInfo
	fits  map[call]bool // whether the call before the return address is of that function
	pcs   []uint64
}

func newWalker(bin *gobinary.File, bias uint64) walker {
	return walker{bin: bin, bias: bias, arm: bin.Arch() == gobinary.ARM64, infos: map[uint64]unwindInfo{}, fits: map[call]bool{}}
}

// info is how to unwind the frame of the function at a linked pc.
func (w *walker) info(pc uint64) unwindInfo {
	in, ok := w.infos[pc]
	if ok {
		return in
	}
	if u, found := w.bin.UnwindAt(pc); found && u.HasDelta && u.Delta >= 0 {
		in = unwindInfo{delta: u.Delta, kind: isCode}
		for bit, on := range map[uint8]bool{isTop: u.Top, isInjected: u.Injected, writesSP: u.WritesSP} {
			if on {
				in.kind |= bit
			}
		}
	}
	w.infos[pc] = in
	return in
}

// stack walks the stack whose memory from st.sp up is mem, by the deltas of the
// stack pointer, as the runtime does (runtime/traceback.go, (*unwinder).next;
// gentraceback before Go 1.21). On amd64 a frame ends in the return address; on
// arm64 it begins with it, and a function without a frame has it in a register.
//
// The chain of frame pointers runs along: each is the address of the word below
// a return address (on both architectures), so every link must meet one of the
// walk's return addresses. Functions without a frame are not in the chain.
//
// A function that switches stacks knows its frame until it has done so. A stack that was
// interrupted in one counts only if it is whole and its calls fit; the runtime gives such
// stacks up.
func (w *walker) stack(st start, mem []byte) walked {
	out := walked{exact: st.exact, end: walkDeep}
	w.pcs = w.pcs[:0]
	f := frame{start: st, mem: mem, low: st.sp}
	f.pc -= w.bias
	for len(w.pcs) < maxFrames {
		in := w.info(f.pc)
		if in.kind&isCode == 0 {
			out.end = walkUnknown
			break
		}
		w.pcs = append(w.pcs, f.pc)
		if in.kind&isTop != 0 {
			out.end = walkTop
			break
		}
		if in.kind&writesSP != 0 && len(w.pcs) > 1 {
			out.end = walkInvalid
			break
		}
		if end, ok := w.caller(&f, in); !ok {
			out.end = end
			break
		}
	}
	if len(w.pcs) == 0 {
		out.end = walkInvalid
	}
	out.pcs, out.fpMismatch = w.pcs, f.mismatch
	if st.exact && len(w.pcs) > 0 && w.info(w.pcs[0]).kind&writesSP != 0 && (out.end != walkTop || !w.calls(out)) {
		out.end = walkInvalid
	}
	return out
}

// frame is a frame of a stack while it is walked: its registers, with pc as linked.
type frame struct {
	start
	mem      []byte
	low      uint64 // the address of mem
	mismatch bool   // a frame pointer met no return address
}

// at is the word at an address; ok is false if it was not read.
func (f *frame) at(addr uint64) (word uint64, ok bool) {
	off := addr - f.low
	if off > uint64(len(f.mem)) || uint64(len(f.mem))-off < 8 {
		return 0, false
	}
	return binary.LittleEndian.Uint64(f.mem[off:]), true
}

// caller goes on to the frame that has called this one. Without one ok is false, and end
// says why.
func (w *walker) caller(f *frame, in unwindInfo) (end walkEnd, ok bool) {
	slot, next := f.sp+uint64(in.delta), f.sp+uint64(in.delta)+8
	if w.arm {
		slot, next = f.sp, f.sp+uint64(in.delta)
	}
	ra := f.lr
	if !w.arm || in.delta > 0 || f.lr == 0 {
		if ra, ok = f.at(slot); !ok {
			return walkShort, false
		}
		if f.hasBP && f.bp != 0 && f.bp+8 <= slot {
			if f.bp+8 < slot {
				f.mismatch = true
			}
			f.bp, _ = f.at(f.bp)
		}
	}
	f.lr = 0
	if f.pc == ra-w.bias && f.sp == next || next < f.sp {
		return walkInvalid, false
	}
	f.pc, f.sp = ra-w.bias, next
	if w.arm && in.kind&isInjected != 0 {
		// The signal handler has pushed the link register, and made the
		// interrupted instruction the return address.
		pushed, ok := f.at(f.sp)
		if !ok {
			return walkShort, false
		}
		f.sp += 16
		if w.info(f.pc).delta == 0 {
			f.lr = pushed
		}
	}
	return 0, true
}

// call is a return address, and the function that was called.
type call struct{ ra, entry uint64 }

// calls says whether each frame of a stack was called from where it returns to,
// as far as that can be told: it cannot of calls through a register. A stack that
// was put together of two may have the frames of one and the return addresses of
// the other.
func (w *walker) calls(s walked) bool {
	for i := 1; i < len(s.pcs); i++ {
		inner, ok := w.bin.UnwindAt(s.pcs[i-1])
		if !ok || inner.Injected {
			continue
		}
		c := call{s.pcs[i], inner.Entry}
		fits, known := w.fits[c]
		if !known {
			target, direct := w.bin.CallTarget(c.ra)
			fits = !direct || target.Entry == c.entry || w.isWrapper(target)
			w.fits[c] = fits
		}
		if !fits {
			return false
		}
	}
	return true
}

// isWrapper says whether the compiler made fn, which may go on in another
// function by a jump.
func (w *walker) isWrapper(fn gobinary.Func) bool {
	frames := w.bin.Frames(fn.Entry)
	return len(frames) > 0 && frames[len(frames)-1].Wrapper
}
