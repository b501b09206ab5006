package snapshot

import (
	"context"
	"encoding/binary"
	"slices"

	"gopherscope/internal/dump"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/process"
)

// onCPU is a goroutine that runs, or is in a system call.
type onCPU struct {
	index  int    // in Dump.Goroutines
	lo, hi uint64 // where its stack was
	seq    byte   // its g.trackingSeq: how often it has stopped running
}

// threaded is a goroutine that is on a thread.
type threaded struct {
	onCPU
	m uint64 // address of its m struct
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
			r.onCPU[g.Addr] = th.onCPU
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
		if other, err := p.InOtherPIDNS(); err != nil {
			r.ns = map[int32]int32{} // no thread is known
		} else if other {
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
// The thread need not be the one of the Dump: goroutines move on.
//
// Assembly code may use the register of the current g for something else. Then
// the sample is of the goroutine that the thread had in the Dump if that one has
// not stopped running since, which includes that its stack has not moved
// (runtime/proc.go, casgstatus, increments g.trackingSeq for both), and the stack
// pointer is on its stack. The counter has 8 bits and could be back at the same
// value, so the stack must end in the function that the goroutine starts with.
func (r *reader) running(ctx context.Context) error {
	if r.opts.Sampler == nil || len(r.onCPU) == 0 {
		return nil
	}
	tids := make([]int, 0, len(r.onCPU))
	for _, on := range r.onCPU {
		tids = append(tids, int(r.d.Goroutines[on.index].TID))
	}
	slices.Sort(tids)
	tids = slices.Compact(tids)
	for try := 0; try < samplings && len(tids) > 0 && len(r.onCPU) > 0; try++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		samples, failed := r.opts.Sampler.Sample(tids)
		var err error
		if tids, err = r.match(samples); err != nil {
			return err
		}
		if failed != nil && try == 0 {
			r.d.NoSample = failed.Error()
		}
		if failed != nil {
			return nil
		}
	}
	return nil
}

// match gives samples to their goroutines, and returns the threads of those that
// are no goroutine's, to be sampled again.
func (r *reader) match(samples []Sample) (again []int, err error) {
	for i := range samples {
		s := &samples[i]
		ok, err := r.matchOne(s)
		if err != nil {
			return nil, err
		}
		if !ok && !s.Core { // that of a core file will not change
			again = append(again, s.TID)
		}
	}
	return again, nil
}

// matchOne gives the sample to its goroutine, if it has one.
func (r *reader) matchOne(s *Sample) (ok bool, err error) {
	if p := r.t.Proc; p != nil && s.PID != p.PID() {
		return false, nil // of a thread of another process, which has the number by now
	}
	addr, sure := s.G, true
	on, known := r.onCPU[addr]
	if !known {
		addr, sure = r.onThread(s), false
		if on, known = r.onCPU[addr]; !known {
			return false, nil
		}
	}
	g, now := &r.d.Goroutines[on.index], make([]byte, r.l.Size)
	if err := r.t.Mem.ReadMem(g.Addr, now); ends(err) {
		return false, err
	} else if err != nil || word(now, r.l.GoID) != g.ID {
		return false, nil
	}
	lo, hi := word(now, r.l.StackLo), word(now, r.l.StackHi)
	if s.SP < lo || s.SP >= hi || !sure && (lo != on.lo || hi != on.hi || now[r.l.TrackingSeq] != on.seq) {
		return false, nil // in the scheduler, in a signal handler, in C code
	}
	stack := s.Stack[:min(uint64(len(s.Stack)), hi-s.SP)]
	w := r.walk.stack(start{pc: s.PC, sp: s.SP, lr: s.LR, bp: s.BP, exact: !s.Saved}, stack)
	if w.end == walkInvalid || w.end == walkUnknown || w.end == walkShort && len(w.pcs) < 2 {
		return false, nil
	}
	if !sure && !r.startsAt(w, word(now, r.l.StartPC)) {
		return false, nil
	}
	delete(r.onCPU, addr)
	r.addSample(g, s, r.sym.stack(w))
	return true, nil
}

// onThread is the g struct of the goroutine that the sample's thread had in the
// Dump, if the sample is on its stack; 0 if there is none.
func (r *reader) onThread(s *Sample) uint64 {
	for addr, on := range r.onCPU {
		if int(r.d.Goroutines[on.index].TID) == s.TID && s.SP >= on.lo && s.SP < on.hi {
			return addr
		}
	}
	return 0
}

// startsAt says whether a whole stack is one of a goroutine that starts at pc.
func (r *reader) startsAt(w walked, pc uint64) bool {
	n := len(w.pcs)
	if w.end != walkTop || n < 2 {
		return false
	}
	first, ok := r.t.Bin.FuncAt(pc - r.t.Bias)
	return ok && w.pcs[n-2] >= first.Entry && w.pcs[n-2] < first.End
}

// addSample gives g the stack of its sample.
func (r *reader) addSample(g *dump.Goroutine, s *Sample, stack dump.StackID) {
	g.Stack, g.TID, g.Source = stack, int32(s.TID), dump.SourceSample
	if s.Core {
		g.Source = dump.SourceCore
	}
	if !r.sym.isSystem(g.Start, g.Stack) { // a finalizer, if it is the user's
		g.Flags &^= dump.System
	}
}
