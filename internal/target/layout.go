package target

import (
	"errors"
	"fmt"

	"gopherscope/internal/gobinary"
	"gopherscope/internal/goruntime"
)

// NoField is the offset of a field that this Go version does not have.
const NoField = ^uint32(0)

// Layout has the offsets, in bytes, of the runtime's fields in one binary.
type Layout struct {
	G     GLayout
	M     MLayout
	P     PLayout
	Sudog SudogLayout
	Chan  ChanLayout
	Coro  CoroLayout
}

// GLayout is the layout of runtime.g.
type GLayout struct {
	Size                              uint32
	StackLo, StackHi, M, Status, GoID uint32
	WaitReason, GoPC, StartPC         uint32
	ParentGoID, CoroArg, CoroExit     uint32 // NoField before Go 1.21, 1.22, 1.22

	SchedSP, SchedPC, SchedLR, SchedBP uint32 // where it goes on when it is scheduled
	SyscallSP, SyscallPC               uint32 // where it entered a system call; 0 there when it is in none
	SyscallBP                          uint32 // NoField before Go 1.23
	WaitSince, TrackingSeq, LockedM    uint32
	Waiting, Labels                    uint32
}

// MLayout is the layout of runtime.m.
type MLayout struct {
	G0, CurG, P, OldP, ID, Blocked, SyscallTick, ProcID uint32
}

// SudogLayout is the layout of runtime.sudog, a goroutine in a queue of waiters.
// Elem and Chan are offsets of words that hold addresses.
type SudogLayout struct {
	Size                                    uint32
	G, Next, Elem, WaitLink, IsSelect, Chan uint32
}

// ChanLayout is the layout of runtime.hchan.
type ChanLayout struct {
	Size                                       uint32
	Count, Cap, Closed, ElemType, RecvQ, SendQ uint32
	Timer                                      uint32 // NoField before Go 1.23
}

// PLayout is the layout of runtime.p.
type PLayout struct {
	ID uint32
}

// CoroLayout is the layout of runtime.coro.
type CoroLayout struct {
	G uint32 // NoField when the program has no coroutines
}

// slots maps each needed field to its place in the Layout.
func (l *Layout) slots() map[string]*uint32 {
	return map[string]*uint32{
		"runtime.g.stack.lo":                   &l.G.StackLo,
		"runtime.g.stack.hi":                   &l.G.StackHi,
		"runtime.g.m":                          &l.G.M,
		"runtime.g.atomicstatus":               &l.G.Status,
		"runtime.g.goid":                       &l.G.GoID,
		"runtime.g.waitreason":                 &l.G.WaitReason,
		"runtime.g.parentGoid":                 &l.G.ParentGoID,
		"runtime.g.gopc":                       &l.G.GoPC,
		"runtime.g.startpc":                    &l.G.StartPC,
		"runtime.g.coroarg":                    &l.G.CoroArg,
		"runtime.g.coroexit":                   &l.G.CoroExit,
		"runtime.g.sched.sp":                   &l.G.SchedSP,
		"runtime.g.sched.pc":                   &l.G.SchedPC,
		"runtime.g.sched.lr":                   &l.G.SchedLR,
		"runtime.g.sched.bp":                   &l.G.SchedBP,
		"runtime.g.syscallsp":                  &l.G.SyscallSP,
		"runtime.g.syscallpc":                  &l.G.SyscallPC,
		"runtime.g.syscallbp":                  &l.G.SyscallBP,
		"runtime.g.waitsince":                  &l.G.WaitSince,
		"runtime.g.trackingSeq":                &l.G.TrackingSeq,
		"runtime.g.lockedm":                    &l.G.LockedM,
		"runtime.g.waiting":                    &l.G.Waiting,
		"runtime.g.labels":                     &l.G.Labels,
		"runtime.m.g0":                         &l.M.G0,
		"runtime.m.procid":                     &l.M.ProcID,
		"runtime.sudog.g":                      &l.Sudog.G,
		"runtime.sudog.next":                   &l.Sudog.Next,
		"runtime.sudog.elem":                   &l.Sudog.Elem,
		"runtime.sudog.elem.vu":                &l.Sudog.Elem,
		"runtime.sudog.waitlink":               &l.Sudog.WaitLink,
		"runtime.sudog.isSelect":               &l.Sudog.IsSelect,
		"runtime.sudog.c":                      &l.Sudog.Chan,
		"runtime.sudog.c.maybeTraceablePtr.vu": &l.Sudog.Chan,
		"runtime.hchan.qcount":                 &l.Chan.Count,
		"runtime.hchan.dataqsiz":               &l.Chan.Cap,
		"runtime.hchan.closed":                 &l.Chan.Closed,
		"runtime.hchan.elemtype":               &l.Chan.ElemType,
		"runtime.hchan.timer":                  &l.Chan.Timer,
		"runtime.hchan.recvq.first":            &l.Chan.RecvQ,
		"runtime.hchan.sendq.first":            &l.Chan.SendQ,
		"runtime.m.curg":                       &l.M.CurG,
		"runtime.m.p":                          &l.M.P,
		"runtime.m.oldp":                       &l.M.OldP,
		"runtime.m.id":                         &l.M.ID,
		"runtime.m.syscalltick":                &l.M.SyscallTick,
		"runtime.m.blocked":                    &l.M.Blocked,
		"runtime.p.id":                         &l.P.ID,
	}
}

// Bounds on the size of a runtime struct. The largest, runtime.p, is under 16 KiB
// in Go 1.27. Those of which there are many, and which are read whole, are smaller:
// g, sudog and hchan have 456, 104 and 112 bytes there.
const (
	maxStruct = 1 << 20
	maxSmall  = 4 << 10 // of g, sudog and hchan
)

// maxSize is the bound for a struct.
func maxSize(name string) uint64 {
	switch name {
	case "runtime.g", "runtime.sudog", "runtime.hchan":
		return maxSmall
	}
	return maxStruct
}

// width is how many bytes of a field are read (runtime/runtime2.go, runtime/chan.go).
func width(structPath string) uint64 {
	switch structPath {
	case "runtime.g.atomicstatus", "runtime.m.syscalltick", "runtime.p.id", "runtime.hchan.closed":
		return 4
	case "runtime.g.waitreason", "runtime.g.trackingSeq", "runtime.g.coroexit", "runtime.m.blocked", "runtime.sudog.isSelect":
		return 1
	}
	return 8
}

// fits says whether a field at off, aligned to its width, is within a struct of
// that size.
func fits(off, width, size uint64) bool {
	return off < size && size-off >= width && off%width == 0
}

// readLayout takes the offsets from the binary's type descriptors.
func readLayout(bin *gobinary.File) (Layout, error) {
	var l Layout
	slots := l.slots()
	for _, s := range slots {
		*s = NoField
	}
	l.Coro.G = NoField
	structs := map[string]*gobinary.Struct{}
	for _, f := range goruntime.Fields(bin.Version()) {
		s := structs[f.Struct]
		if s == nil {
			var err error
			if s, err = bin.Struct(f.Struct); err != nil {
				return l, fmt.Errorf("layout of %s: %w", f.Struct, err)
			}
			if s.Size > maxSize(f.Struct) {
				return l, fmt.Errorf("%w: %s has %d bytes", ErrLayout, f.Struct, s.Size)
			}
			structs[f.Struct] = s
		}
		off, ok := s.Offset(f.Path)
		if !ok {
			return l, fmt.Errorf("%w: %s of %s has no field %s", ErrLayout, f.Struct, bin.Version(), f.Path)
		}
		if !fits(off, width(f.Struct+"."+f.Path), s.Size) {
			return l, fmt.Errorf("%w: %s.%s is at %d of %d bytes", ErrLayout, f.Struct, f.Path, off, s.Size)
		}
		*slots[f.Struct+"."+f.Path] = uint32(off)
	}
	if l.G.StackHi != l.G.StackLo+8 {
		return l, fmt.Errorf("%w: g.stack.hi does not follow g.stack.lo", ErrLayout)
	}
	l.G.Size = uint32(structs["runtime.g"].Size)
	l.Sudog.Size = uint32(structs["runtime.sudog"].Size)
	l.Chan.Size = uint32(structs["runtime.hchan"].Size)
	if _, ok := bin.Func("runtime.coroswitch_m"); ok {
		s, err := bin.Struct("runtime.coro")
		if err != nil {
			return l, fmt.Errorf("layout of runtime.coro: %w", err)
		}
		off, ok := s.Offset("gp")
		if !ok || s.Size > maxStruct || !fits(off, 8, s.Size) {
			return l, fmt.Errorf("%w: runtime.coro has no field gp", ErrLayout)
		}
		l.Coro.G = uint32(off)
	}
	return l, nil
}

// checkStatusOffset compares the descriptor's offset of g.atomicstatus with the
// one that the machine code of casgstatus uses.
func (l *Layout) checkStatusOffset(bin *gobinary.File) error {
	off, ok, err := bin.StatusOffset()
	if err != nil {
		return fmt.Errorf("disassemble casgstatus: %w", err)
	}
	if ok && off != uint64(l.G.Status) {
		return fmt.Errorf("%w: g.atomicstatus is at %d by its type descriptor, at %d by the code of casgstatus", ErrLayout, l.G.Status, off)
	}
	return nil
}

// checkDWARF compares every offset with the binary's DWARF, when it has any
// that can be read cheaply.
func (l *Layout) checkDWARF(bin *gobinary.File) error {
	want := map[string][]string{}
	for _, f := range goruntime.Fields(bin.Version()) {
		want[f.Struct] = append(want[f.Struct], f.Path)
	}
	got, err := bin.DWARFOffsets(want)
	if errors.Is(err, gobinary.ErrNoDWARF) || errors.Is(err, gobinary.ErrDWARFTooBig) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read DWARF: %w", err)
	}
	slots := l.slots()
	for typ, fields := range got {
		for path, off := range fields {
			if have := *slots[typ+"."+path]; uint64(have) != off {
				return fmt.Errorf("%w: %s.%s is at %d by its type descriptor, at %d by DWARF", ErrLayout, typ, path, have, off)
			}
		}
	}
	return nil
}
