package snapshot

import (
	"bytes"
	"context"
	"encoding/binary"
	"time"

	"gopherscope/internal/corefile"
	"gopherscope/internal/dump"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/process"
	"gopherscope/internal/target"
)

// TakeCore is [Take] for a target that target.OpenCore made of core. The stacks of
// the goroutines that were running come from the registers of their threads; the
// Sampler of opts is not used.
func TakeCore(ctx context.Context, t *target.Target, core *corefile.File, opts *Options) (*dump.Dump, error) {
	o := Options{}
	if opts != nil {
		o = *opts
	}
	o.Sampler = &coreSampler{t: t, core: core}
	d, err := Take(ctx, t, &o)
	if d != nil {
		d.PID, d.Time = core.PID(), time.Time{}
	}
	return d, err
}

// coreSampler finds out which goroutine each thread of a core file was running,
// and where that was.
type coreSampler struct {
	t    *target.Target
	core *corefile.File
}

var _ Sampler = (*coreSampler)(nil)

const (
	// maxNested bounds the signal handlers that interrupted each other.
	maxNested = 8
	// maxStacks bounds the memory for the stacks of all threads.
	maxStacks = 256 << 20
)

// Sample is Sampler's, with at most one sample of a thread. A thread's number is
// the one that the runtime has for it, which need not be the core file's: gcore
// writes those of its own PID namespace.
func (s *coreSampler) Sample(tids []int) ([]Sample, error) {
	wanted := map[int]bool{}
	for _, tid := range tids {
		wanted[tid] = true
	}
	var out []Sample
	left := uint64(maxStacks)
	for _, th := range s.core.Threads() {
		smp, g, ok := s.goroutine(Sample{PC: th.PC, SP: th.SP, BP: th.BP, LR: th.LR, G: th.G})
		if !ok {
			continue
		}
		tid, err := s.word(word(g, s.t.Layout.G.M) + uint64(s.t.Layout.M.ProcID))
		if err != nil || tid > maxTID || !wanted[int(tid)] {
			continue
		}
		smp.TID, smp.Core = int(tid), true
		smp.Stack = held(s.core, smp.SP, min(word(g, s.t.Layout.G.StackHi)-smp.SP, maxStack, left))
		if len(smp.Stack) > 0 {
			left -= uint64(len(smp.Stack))
			delete(wanted, smp.TID)
			out = append(out, smp)
		}
	}
	return out, nil
}

// pageSize is the unit in which memory is left out of core files.
const pageSize = 4096

// held reads the n bytes at addr, or as many pages of them as there are before the
// first that cannot be read: the innermost frames of a stack that is cut off.
func held(mem process.Memory, addr, n uint64) []byte {
	var first [pageSize]byte
	size := min(n, pageSize-addr%pageSize)
	if mem.ReadMem(addr, first[:size]) != nil {
		return nil
	}
	b := make([]byte, n)
	if mem.ReadMem(addr, b) == nil {
		return b
	}
	copy(b, first[:size])
	for size < n {
		next := min(n, size+pageSize)
		if mem.ReadMem(addr+size, b[size:next]) != nil {
			break
		}
		size = next
	}
	return bytes.Clone(b[:size])
}

// goroutine is where the goroutine of a thread was that had the registers smp, and
// its g struct. The thread can be elsewhere:
//
//   - in a signal handler, as nearly all are when the program crashes: then the
//     registers that were interrupted are on the handler's stack;
//   - on the thread's own stack, g0, which the runtime switches to in systemstack
//     and mcall (runtime/asm_*.s): then the goroutine's are in g.sched;
//   - in gogo, which switches from there to the goroutine's stack and then jumps to
//     where it left it: that is in g.sched.pc.
func (s *coreSampler) goroutine(smp Sample) (_ Sample, g []byte, ok bool) {
	for range maxNested {
		g, err := s.readG(smp.G)
		if err == nil && word(g, s.t.Layout.G.GoID) != 0 && s.onStack(g, smp.SP) {
			if fn, _ := s.t.Bin.FuncAt(smp.PC - s.t.Bias); fn.Name == "gogo" || fn.Name == "runtime.gogo" {
				smp.PC, smp.LR, smp.Saved = word(g, s.t.Layout.G.SchedPC), 0, true
			}
			return smp, g, true
		}
		before, interrupted := s.interrupted(smp)
		if !interrupted {
			if err != nil {
				return Sample{}, nil, false
			}
			return s.switched(smp.G, g)
		}
		smp = before
	}
	return Sample{}, nil, false
}

// switched is where a goroutine left its stack for g0. The thread's g, at addr, is that or,
// just before the stack is switched back, the goroutine's.
func (s *coreSampler) switched(addr uint64, own []byte) (_ Sample, g []byte, ok bool) {
	l, m := &s.t.Layout, word(own, s.t.Layout.G.M)
	g0, err := s.word(m + uint64(l.M.G0))
	if err != nil {
		return Sample{}, nil, false
	}
	curg, err := s.word(m + uint64(l.M.CurG))
	if err != nil || curg == 0 || addr != g0 && addr != curg {
		return Sample{}, nil, false
	}
	g, err = s.readG(curg)
	if err != nil || word(g, l.G.GoID) == 0 || word(g, l.G.M) != m {
		return Sample{}, nil, false
	}
	status := goruntime.Status(binary.LittleEndian.Uint32(g[l.G.Status:]) &^ goruntime.ScanBit)
	smp := Sample{
		PC: word(g, l.G.SchedPC), SP: word(g, l.G.SchedSP), LR: word(g, l.G.SchedLR), BP: word(g, l.G.SchedBP),
		G: curg, Saved: true,
	}
	return smp, g, status == goruntime.Running && s.onStack(g, smp.SP)
}

// onStack says whether a stack pointer is on the stack of a goroutine.
func (s *coreSampler) onStack(g []byte, sp uint64) bool {
	return word(g, s.t.Layout.G.StackLo) <= sp && sp < word(g, s.t.Layout.G.StackHi)
}

// signalFrame is what the kernel pushes for a signal handler, as offsets from the
// stack pointer at the handler's caller: struct rt_sigframe with struct ucontext
// and struct sigcontext in it (arch/x86/include/asm/sigframe.h and
// uapi/asm/sigcontext.h; arch/arm64/kernel/signal.c and uapi/asm/sigcontext.h).
type signalFrame struct{ pc, sp, bp, lr, g, size uint64 }

// contextFrames are the architectures' signal frames. On amd64 struct ucontext
// comes first, after the return address, and its registers at 40. On arm64 it comes
// at 128, after siginfo, and its registers X0 to X30 at 184 in it.
var contextFrames = map[corefile.Arch]signalFrame{
	corefile.AMD64: {g: 40 + 6*8, bp: 40 + 10*8, sp: 40 + 15*8, pc: 40 + 16*8, size: 40 + 17*8},
	corefile.ARM64: {
		g: 312 + 28*8, bp: 312 + 29*8, lr: 312 + 30*8, sp: 312 + 31*8, pc: 312 + 32*8, size: 312 + 33*8,
	},
}

// interrupted are the registers that a signal handler interrupted, if smp is in
// one: the stack is walked up to the function that the kernel calls.
func (s *coreSampler) interrupted(smp Sample) (Sample, bool) {
	sp, ok := s.handlerCaller(smp)
	if !ok {
		return Sample{}, false
	}
	l := contextFrames[s.core.Arch()]
	frame := make([]byte, l.size)
	if s.core.ReadMem(sp, frame) != nil {
		return Sample{}, false
	}
	at := func(off uint64) uint64 { return binary.LittleEndian.Uint64(frame[off:]) }
	before := Sample{PC: at(l.pc), SP: at(l.sp), BP: at(l.bp), G: at(l.g)}
	if l.lr != 0 {
		before.LR = at(l.lr)
	}
	return before, true
}

// maxHandlerFrames bounds the frames of a signal handler.
const maxHandlerFrames = 100

// handlerCaller walks from smp to the signal handler, runtime.sigtramp, or cgoSigtramp, which
// jumps there (on all architectures, Go 1.18 to 1.27), and is the stack pointer before it was
// called. It is that again in sigreturn, which the handler returns to.
func (s *coreSampler) handlerCaller(smp Sample) (sp uint64, ok bool) {
	bin, arm := s.t.Bin, s.core.Arch() == corefile.ARM64
	pc, sp, lr := smp.PC-s.t.Bias, smp.SP, smp.LR
	for range maxHandlerFrames {
		fn, known := bin.FuncAt(pc)
		u, found := bin.UnwindAt(pc)
		if !known || !found || !u.HasDelta || u.Delta < 0 {
			return 0, false
		}
		slot, next := sp+uint64(u.Delta), sp+uint64(u.Delta)+8
		if arm {
			slot, next = sp, sp+uint64(u.Delta)
		}
		switch fn.Name {
		case "runtime.sigtramp", "runtime.cgoSigtramp":
			return next, true
		case "runtime.sigreturn", "runtime.sigreturn__sigaction":
			return sp, true
		}
		if u.Top {
			return 0, false
		}
		ra := lr
		if !arm || u.Delta > 0 || lr == 0 {
			var err error
			if ra, err = s.word(slot); err != nil {
				return 0, false
			}
		}
		pc, sp, lr = ra-s.t.Bias, next, 0
	}
	return 0, false
}

// readG reads the g struct at addr.
func (s *coreSampler) readG(addr uint64) ([]byte, error) {
	g := make([]byte, s.t.Layout.G.Size)
	return g, s.core.ReadMem(addr, g)
}

// word reads the 8 bytes at addr.
func (s *coreSampler) word(addr uint64) (uint64, error) {
	var b [8]byte
	err := s.core.ReadMem(addr, b[:])
	return binary.LittleEndian.Uint64(b[:]), err
}
