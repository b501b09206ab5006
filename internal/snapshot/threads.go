package snapshot

import (
	"encoding/binary"
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
			r.onCPU[int(g.TID)] = th.index
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

// running takes the stacks of the goroutines that run. A sample tells which g its
// thread had, and has its own copy of the stack; it is a goroutine's of this
// snapshot if that g struct has the same goid before, in the Dump, and after:
// goids are never used again.
func (r *reader) running() error {
	if r.opts.Sampler == nil || len(r.onCPU) == 0 {
		return nil
	}
	tids := make([]int, 0, len(r.onCPU))
	for tid := range r.onCPU {
		tids = append(tids, tid)
	}
	samples, err := r.opts.Sampler.Sample(tids)
	if err != nil {
		r.d.NoSample = err.Error()
		return nil
	}
	buf := make([]byte, r.l.Size)
	for i := range samples {
		s := &samples[i]
		index, ok := r.onCPU[s.TID]
		if !ok {
			continue
		}
		g := &r.d.Goroutines[index]
		if err := r.t.Mem.ReadMem(g.Addr, buf); ends(err) {
			return err
		} else if err != nil || word(buf, r.l.GoID) != g.ID {
			continue
		}
		r.sampled(g, buf, s)
	}
	return nil
}

// sampled gives g the stack of a sample, if the thread was on g's own stack. A
// thread that was in the scheduler, in a signal handler or in C code was not.
func (r *reader) sampled(g *dump.Goroutine, now []byte, s *Sample) {
	lo, hi := word(now, r.l.StackLo), word(now, r.l.StackHi)
	if s.SP < lo || s.SP >= hi || s.G != g.Addr {
		return
	}
	stack := s.Stack[:min(uint64(len(s.Stack)), hi-s.SP)]
	w := r.walk.stack(start{pc: s.PC, sp: s.SP, lr: s.LR, bp: s.BP, exact: !s.Saved}, stack)
	if w.end == walkInvalid || w.end == walkUnknown || w.end == walkShort && len(w.pcs) < 2 {
		return
	}
	g.Stack = r.sym.stack(w)
	g.Source = dump.SourceSample
	if s.Core {
		g.Source = dump.SourceCore
	}
}

// String says what a walk's end means, for tests and messages.
func (e walkEnd) String() string {
	names := [...]string{"top", "short", "unknown code", "too deep", "invalid"}
	if int(e) < len(names) {
		return names[e]
	}
	return strconv.Itoa(int(e))
}
