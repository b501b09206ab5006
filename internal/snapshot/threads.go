package snapshot

import (
	"encoding/binary"
	"slices"
	"strconv"

	"gopherscope/internal/dump"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/process"
)

// threaded is a goroutine that is on a thread.
type threaded struct {
	index int    // in Dump.Goroutines
	m     uint64 // address of its m struct
}

// threads finds out the threads of the goroutines in r.onM, which are in the
// Dump, running or in system calls. A thread that has another goroutine by now is
// not theirs.
func (r *reader) threads() error {
	l := &r.t.Layout.M
	const size = 16
	buf := make([]byte, size*len(r.onM))
	reads := make([]process.MemRead, 0, 2*len(r.onM))
	for i, th := range r.onM {
		b := buf[size*i:][:size]
		reads = append(reads,
			process.MemRead{Addr: th.m + uint64(l.ProcID), Buf: b[:8]},
			process.MemRead{Addr: th.m + uint64(l.CurG), Buf: b[8:]})
	}
	for done := 0; done < len(reads); {
		n, err := r.t.Mem.ReadMany(reads[done:])
		if ends(err) {
			return err
		}
		if done += n; err != nil {
			clear(reads[done].Buf)
			done++
		}
	}
	for i, th := range r.onM {
		g := &r.d.Goroutines[th.index]
		tid, curg := binary.LittleEndian.Uint64(buf[size*i:]), binary.LittleEndian.Uint64(buf[size*i+8:])
		if curg != g.Addr || tid > maxTID {
			continue
		}
		g.TID = r.hostTID(int32(tid))
		if g.Status == goruntime.Running && r.opts.Stacks && g.TID != 0 {
			r.onCPU[g.Addr] = th.index
		}
	}
	r.onM = r.onM[:0]
	return nil
}

// maxTID is the largest number of a thread (include/linux/threads.h,
// PID_MAX_LIMIT).
const maxTID = 1 << 22

// hostTID is our number of the thread that the program knows by tid: another one
// if it lives in another PID namespace; 0 if there is no such thread any more.
func (r *reader) hostTID(tid int32) int32 {
	p := r.t.Proc
	if p == nil {
		return tid
	}
	if !r.nsKnown {
		r.nsKnown = true
		if other, err := p.InOtherPIDNS(); err == nil && other {
			r.ns = map[int32]int32{}
			tids, _ := p.Threads() // none, if they cannot be listed: no thread is known then
			for _, host := range tids {
				if own, err := p.NSTID(host); err == nil {
					r.ns[int32(own)] = int32(host)
				}
			}
		}
	}
	if r.ns == nil {
		return tid
	}
	return r.ns[tid]
}

// samplings is how often a thread is sampled that was not on a goroutine's stack.
const samplings = 4

// running takes the stacks of the goroutines that run, from samples of the threads
// that they were on.
//
// A sample is a goroutine's if it had the goroutine's g struct as the current one,
// and its stack pointer on the stack that this g has. Then it is right:
//
//   - The struct has the goid of the Dump, which was read before the sample, and
//     still has it after. Goids are never used again, so it had it all the time.
//   - The bounds of the stack are those after the sample. If the stack moved in
//     between, the sample is not on it, for the old and the new one are both there
//     while one is copied to the other (runtime/stack.go, copystack). If it moved
//     there and back, the bounds only limit the walk: registers and memory are the
//     sample's own.
//
// The thread need not be the one of the Dump: goroutines move on. On a goroutine's
// own stack the register for the current g has that, except where assembly code
// uses it for something else: such a sample is no goroutine's.
func (r *reader) running() error {
	if r.opts.Sampler == nil || len(r.onCPU) == 0 {
		return nil
	}
	tids := make([]int, 0, len(r.onCPU))
	for _, index := range r.onCPU {
		tids = append(tids, int(r.d.Goroutines[index].TID))
	}
	slices.Sort(tids)
	tids = slices.Compact(tids)
	for try := 0; try < samplings && len(tids) > 0 && len(r.onCPU) > 0; try++ {
		samples, err := r.opts.Sampler.Sample(tids)
		if err != nil && try == 0 {
			r.d.NoSample = err.Error()
		}
		if err != nil {
			return nil
		}
		if tids, err = r.match(samples); err != nil {
			return err
		}
	}
	return nil
}

// match gives samples to their goroutines, and returns the threads of those that
// are no goroutine's, to be sampled again.
func (r *reader) match(samples []Sample) (again []int, err error) {
	buf := make([]byte, r.l.Size)
	for i := range samples {
		s := &samples[i]
		index, ok := r.onCPU[s.G]
		if ok {
			g := &r.d.Goroutines[index]
			err := r.t.Mem.ReadMem(g.Addr, buf)
			if ends(err) {
				return nil, err
			}
			ok = err == nil && word(buf, r.l.GoID) == g.ID && r.sampled(g, buf, s)
		}
		switch {
		case ok:
			delete(r.onCPU, s.G)
		case !s.Core: // which will not change
			again = append(again, s.TID)
		}
	}
	return again, nil
}

// sampled gives g the stack of a sample, if the thread was on g's own stack. A
// thread that was in the scheduler, in a signal handler or in C code was not.
func (r *reader) sampled(g *dump.Goroutine, now []byte, s *Sample) bool {
	lo, hi := word(now, r.l.StackLo), word(now, r.l.StackHi)
	if s.SP < lo || s.SP >= hi {
		return false
	}
	stack := s.Stack[:min(uint64(len(s.Stack)), hi-s.SP)]
	w := r.walk.stack(start{pc: s.PC, sp: s.SP, lr: s.LR, bp: s.BP, exact: !s.Saved}, stack)
	if w.end == walkInvalid || w.end == walkUnknown || w.end == walkShort && len(w.pcs) < 2 {
		return false
	}
	g.Stack = r.sym.stack(w)
	g.TID = int32(s.TID)
	g.Source = dump.SourceSample
	if s.Core {
		g.Source = dump.SourceCore
	}
	if !r.sym.isSystem(g.Start, g.Stack) { // a finalizer, if it is the user's
		g.Flags &^= dump.System
	}
	return true
}

// String says what a walk's end means, for tests and messages.
func (e walkEnd) String() string {
	names := [...]string{"top", "short", "unknown code", "too deep", "invalid"}
	if int(e) < len(names) {
		return names[e]
	}
	return strconv.Itoa(int(e))
}
