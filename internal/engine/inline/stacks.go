package inline

import (
	"unsafe"

	"gopherscope/internal/engine/probes"
	"gopherscope/internal/event"
	"gopherscope/internal/gobinary"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/target"
)

// walk is which stack a site's template stores, if the trace has stacks.
type walk uint8

const (
	walkNone   walk = iota
	walkPark        // of the goroutine that parks: park_m
	walkEnter       // of the one that begins a system call or a cgo call, by a function that is called
	walkBlock       // of the one in entersyscallblock, at its casgstatus
	walkParent      // of the one that executes a go statement, at a birth
)

// walkOf says which stack is safe to walk at a site. The functions of package runtime that
// are named here run on a goroutine's own stack (entersyscall and kin) or with the
// goroutine just saved (park_m, newproc1).
func walkOf(s *probes.Site) walk {
	switch {
	case s.Parks():
		return walkPark
	case s.Prog == probes.OnSelf && s.Callee != "" && s.Flags&probes.GInArg0 == 0 && s.From == goruntime.Running && s.To == goruntime.Syscall:
		return walkEnter
	case s.Prog == probes.OnCas && s.Func == "runtime.entersyscallblock":
		return walkBlock
	case s.Prog == probes.OnBirth, s.Prog == probes.OnCas && s.Func == "runtime.newproc1":
		return walkParent
	}
	return walkNone
}

// walksOf is walkOf for all sites; none has a walk without stacks.
func walksOf(sites []probes.Site, stacks bool) []walk {
	walks := make([]walk, len(sites))
	for i := range sites {
		if stacks {
			walks[i] = walkOf(&sites[i])
		}
	}
	return walks
}

// unpackParent takes apart what the template of a birth with a stack stores: see BORNAT in
// asm/probe_amd64.S.
func unpackParent(other uint64) (goid, depth uint64) { return other >> 8, other & 0xff }

// follow says how many records belong to one, after it: see ORIGIN, WALK and PUBLISH in
// asm/probe_amd64.S.
func follow(sites []probes.Site, walks []walk) func(*raw) int {
	return func(w *raw) int {
		index, from, to := w.what()
		if int(index) >= len(sites) {
			return 0
		}
		walked := walks[index]
		switch walked {
		case walkNone, walkParent:
		default:
			return recordsOf(w.other())
		}
		if goruntime.Status(from) != goruntime.Dead {
			return 0
		}
		switch sites[index].KindAt(goruntime.Status(from), goruntime.Status(to)) {
		case probes.Birth, probes.BirthParked:
		default:
			return 0
		}
		if walked == walkNone {
			return 1
		}
		_, depth := unpackParent(w.other())
		return 1 + recordsOf(depth)
	}
}

// recordsOf is in how many records so many program counters are.
func recordsOf(depth uint64) int { return int(min(depth, maxDepth)+pcsInRecord-1) / pcsInRecord }

// What WALK stores: DEPTH in asm/probe_amd64.S, and how many program
// counters fit a record.
const (
	maxDepth    = 32
	pcsInRecord = recordBytes / 8
)

// maxStacks bounds the stacks that are told apart: real programs park in some hundred
// places. Those beyond have no id.
const maxStacks = 1 << 16

// stackTable numbers the stacks, each once.
type stackTable struct {
	bin    *gobinary.File
	bias   uint64
	ids    map[string]uint32 // by the program counters' bytes
	stacks [][]uint64        // by id, less 1; innermost first, as linked
	names  map[uint32][]event.Location
}

func newStackTable(t *target.Target) *stackTable {
	return &stackTable{bin: t.Bin, bias: t.Bias, ids: map[string]uint32{}, names: map[uint32][]event.Location{}}
}

// id is the number of a stack of depth program counters in records, from 1 on; 0 if it
// has none.
func (t *stackTable) id(records []raw, depth uint64) uint32 {
	depth = min(depth, uint64(len(records)*pcsInRecord))
	if depth == 0 {
		return 0
	}
	pcs := unsafe.Slice(&records[0][0], depth)
	key := unsafe.Slice((*byte)(unsafe.Pointer(&pcs[0])), 8*depth)
	if id, ok := t.ids[string(key)]; ok {
		return id
	}
	if len(t.stacks) == maxStacks {
		return 0
	}
	stack := make([]uint64, depth)
	for i, pc := range pcs {
		stack[i] = pc - t.bias
	}
	t.stacks = append(t.stacks, stack)
	id := uint32(len(t.stacks))
	t.ids[string(key)] = id
	return id
}

// frames is the stack with this id as places in the source, inlined calls included,
// innermost first.
func (t *stackTable) frames(id uint32) []event.Location {
	if id == 0 || int(id) > len(t.stacks) {
		return nil
	}
	if places, ok := t.names[id]; ok {
		return places
	}
	var places []event.Location
	for _, pc := range t.stacks[id-1] {
		for _, f := range t.bin.Frames(pc - 1) { // a return address
			places = append(places, event.Location{Func: f.Func, File: f.File, Line: f.Line})
		}
	}
	t.names[id] = places
	return places
}
