package inline

import (
	"unsafe"

	"gopherscope/internal/event"
	"gopherscope/internal/gobinary"
	"gopherscope/internal/target"
)

// What the template park stores: DEPTH in asm/probe_amd64.S, and how many program
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
