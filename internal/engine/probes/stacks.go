package probes

import (
	"strings"
	"sync/atomic"
	"unsafe"

	"gopherscope/internal/event"
	"gopherscope/internal/gobinary"
)

// maxStacks bounds the stacks that are told apart: real programs park in some hundred
// places. Those beyond have no number.
const maxStacks = 1 << 16

// Stacks numbers the stacks of a trace, each once, and names their frames when it is
// asked for them. It is for one goroutine, but for Full.
//
// A stack is what an engine found by following saved frame pointers: one return address
// for each frame. That misses a caller in two cases, which only the function table tells:
// the caller of a function that has no frame of its own and yet calls another, and the
// caller of a function that a signal interrupted before it had made its frame. There the
// stack is cut, so that it is shorter and never wrong (gobinary.UnwindAt has the facts;
// the rule by which the assembler leaves out frame pointers is in
// cmd/internal/obj/x86/obj6.go, preprocess).
type Stacks struct {
	bin    *gobinary.File
	ids    map[string]uint32 // by the addresses' bytes
	stacks [][]uint64        // by number, less 1; innermost first, as linked
	names  map[uint32][]event.Location
	full   atomic.Uint64
}

// NewStacks makes an empty table of stacks in bin's code.
func NewStacks(bin *gobinary.File) *Stacks {
	return &Stacks{bin: bin, ids: map[string]uint32{}, names: map[uint32][]event.Location{}}
}

// ID is the number of a stack, from 1 on; 0 if it is empty or there are too many. pcs
// are its return addresses, innermost first; bias is what they are above those of the
// binary, the same in all calls. pcs is not kept.
func (s *Stacks) ID(pcs []uint64, bias uint64) uint32 {
	if len(pcs) == 0 {
		return 0
	}
	key := unsafe.Slice((*byte)(unsafe.Pointer(&pcs[0])), 8*len(pcs))
	if id, ok := s.ids[string(key)]; ok {
		return id
	}
	if len(s.stacks) == maxStacks {
		s.full.Add(1)
		return 0
	}
	stack := make([]uint64, len(pcs))
	for i, pc := range pcs {
		stack[i] = pc - bias
	}
	s.stacks = append(s.stacks, stack)
	id := uint32(len(s.stacks))
	s.ids[string(key)] = id
	return id
}

// Full is how often a stack got no number because there are too many. Any
// goroutine may call it.
func (s *Stacks) Full() uint64 { return s.full.Load() }

// Frames is the stack with this number as places in the source, inlined calls included,
// wrappers that the compiler made left out as in runtime.Callers, innermost first; nil
// if there is none. The slice must not be changed.
//
// The stack of a system call begins with the function that called entersyscall, as
// those that the runtime itself prints: what lies below depends on the engine.
func (s *Stacks) Frames(id uint32) []event.Location {
	if id == 0 || int(id) > len(s.stacks) {
		return nil
	}
	places, ok := s.names[id]
	if !ok {
		places = s.resolve(s.stacks[id-1])
		s.names[id] = places
	}
	return places
}

func (s *Stacks) resolve(pcs []uint64) []event.Location {
	var places []event.Location
	callee := ""
	back := uint64(1) // a return address is looked up one byte before, within the call
	for i, pc := range pcs {
		at := pc - back
		u, ok := s.bin.UnwindAt(at)
		if !ok {
			break // code of a plugin, or C code
		}
		for _, f := range s.bin.Frames(at) {
			hidden := f.Wrapper && hidesWrapper(callee) || len(places) == 0 && belowSyscall(f.Func)
			if !hidden {
				places = append(places, event.Location{Func: f.Func, File: f.File, Line: f.Line})
			}
			callee = f.Func
		}
		// The first address is where the walk began: how the next one was found is the
		// engine's business. Of all others it is the frame that says.
		if u.Top || i > 0 && u.HasDelta && u.Delta == 0 {
			break
		}
		back = 1
		if u.Injected {
			back = 0
		}
	}
	return places
}

// hidesWrapper says whether the runtime leaves out a wrapper that called this function:
// not where a panic began in it (runtime/traceback.go, elideWrapperCalling).
func hidesWrapper(callee string) bool {
	return callee != "runtime.gopanic" && callee != "runtime.sigpanic" && callee != "runtime.panicwrap"
}

// belowSyscall says whether a function is one of those that lie below the caller of
// entersyscall when the engines see a system call: the runtime's part and the stubs of
// the instruction itself (internal/runtime/syscall, before Go 1.24
// runtime/internal/syscall; syscall.RawSyscall6).
func belowSyscall(fn string) bool {
	switch fn {
	case "runtime.entersyscall", "runtime.reentersyscall", "runtime.entersyscallblock", "syscall.RawSyscall6":
		return true
	}
	return strings.HasPrefix(fn, "internal/runtime/syscall") || strings.HasPrefix(fn, "runtime/internal/syscall")
}
