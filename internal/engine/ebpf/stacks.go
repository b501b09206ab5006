package ebpf

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"gopherscope/internal/engine/probes"
	"gopherscope/internal/event"
	"gopherscope/internal/gobinary"
)

// maxStacks is how many stacks the kernel keeps, 330 bytes each, all allocated at
// the start: an allocation at a probe could fail. Programs park, make system calls
// and create goroutines in some hundred places.
const maxStacks = 1 << 14

// stackReader turns the keys of stacks in records into numbers.
type stackReader struct {
	kernel *ebpf.Program // read_stack in bpf/gtrace.bpf.c
	bin    *gobinary.File
	table  *probes.Stacks
	ids    map[uint64]uint32 // by key
	lost   atomic.Uint64     // records with keys of which the kernel has no stack
}

func newStackReader(kernel *ebpf.Program, bin *gobinary.File) *stackReader {
	return &stackReader{kernel: kernel, bin: bin, table: probes.NewStacks(bin), ids: map[uint64]uint32{}}
}

// id is the number of the stack with this key, 0 if it has none. The kernel is asked
// once for each.
func (s *stackReader) id(key uint64) uint32 {
	if id, ok := s.ids[key]; ok {
		return id
	}
	read := gtraceStackRead{Key: key}
	if none, err := s.kernel.Run(&ebpf.RunOptions{Context: &read, ContextOut: &read}); err != nil || none != 0 {
		s.lost.Add(1)
		return 0
	}
	id := s.table.ID(s.returns(&read.Stack), 0)
	s.ids[key] = id
	return id
}

// returns are the return addresses of a stack as the kernel kept it. At a system
// call, the second one is none if the function of the first has a frame.
func (s *stackReader) returns(kept *gtraceStack) []uint64 {
	pcs := kept.Pcs[:min(int(kept.Depth), len(kept.Pcs))]
	if kept.Leaf == 0 || len(pcs) < 2 {
		return pcs
	}
	// The first address is that after the instruction of the system call.
	if u, ok := s.bin.UnwindAt(pcs[0] - 1); ok && u.HasDelta && u.Delta == 0 {
		return pcs
	}
	return append(pcs[:1:1], pcs[2:]...)
}

// frames are the frames of a stack, innermost first; nil if there is none. Without
// stacks s is nil.
func (s *stackReader) frames(id uint32) []event.Location {
	if s == nil {
		return nil
	}
	return s.table.Frames(id)
}

// setStacks makes the programs take stacks.
func setStacks(spec *ebpf.CollectionSpec, sites []probes.Site, opts *Options) error {
	for i := range sites {
		if pc := sites[i].PC; pc>>32 != 0 {
			return fmt.Errorf("stacks: code at %#x, and addresses above 4 GiB are not supported", pc)
		}
	}
	spec.Maps["stacks"].MaxEntries = cmp.Or(opts.stackRoom, maxStacks)
	if err := spec.Variables["stacks_on"].Set(uint8(1)); err != nil {
		return fmt.Errorf("internal error: set stacks_on: %w", err)
	}
	if err := spec.Variables["stack_seed"].Set(rand.Uint64()); err != nil {
		return fmt.Errorf("internal error: set stack_seed: %w", err)
	}
	return nil
}
