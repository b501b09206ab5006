package inline

import (
	"unsafe"

	"gopherscope/internal/engine/probes"
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
	walkSys         // the same, in entersyscall itself
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
		if s.Func == "runtime.entersyscall" {
			return walkSys
		}
		return walkEnter
	case s.Prog == probes.OnCas && s.Func == "runtime.entersyscallblock":
		return walkBlock
	case s.Prog == probes.OnBirth, s.Prog == probes.OnCas && s.Func == "runtime.newproc1":
		return walkParent
	}
	return walkNone
}

// unpackParent takes apart what the template of a birth with a stack stores: see BORNAT in
// asm/probe_amd64.S.
func unpackParent(other uint64) (goid, depth uint64) { return other >> 8, other & 0xff }

// spared is the depth of a stack that was left out, to spare the process: what the word SPARE
// of asm/stack_amd64.h is then, spareOffset behind the word that turns the trace on.
const (
	spared      = 0x80
	spareOffset = 8
)

// spare makes the code leave out the stacks, or take them again.
func (in *injection) spare(on bool) error {
	b := make([]byte, 8)
	if on {
		putWord(b, spared)
	}
	return in.mem.Write(in.prog.base+controlOffset+spareOffset, b)
}

// depthOf is how many program counters are there, of what a template says of that.
func depthOf(said uint64) uint64 {
	if said == spared {
		return 0
	}
	return said
}

// recordsOf is in how many records so many program counters are.
func recordsOf(depth uint64) int { return int(min(depth, maxDepth)+pcsInRecord-1) / pcsInRecord }

// What WALK in asm/probe_amd64.S stores: DEPTH in asm/probe_amd64.S, and how many program
// counters fit a record.
const (
	maxDepth    = 32
	pcsInRecord = recordBytes / 8
)

// stacks numbers the stacks that follow records.
type stacks struct {
	table  *probes.Stacks
	bin    *gobinary.File
	bias   uint64
	leaves map[uint64]bool // return addresses, as linked, in functions without a frame
	unread uint64          // stacks that should have been there
	spared uint64          // stacks that were left out
	taken  uint64          // all others, and
	frames uint64          // their program counters
}

func newStacks(t *target.Target) *stacks {
	return &stacks{table: probes.NewStacks(t.Bin), bin: t.Bin, bias: t.Bias, leaves: map[uint64]bool{}}
}

// id is the number of a stack of depth program counters in records, from 1 on; 0 if it
// has none. It may change the records.
func (s *stacks) id(records []raw, depth uint64, walked walk) uint32 {
	if depth == spared {
		s.spared++
		return 0
	}
	depth = min(depth, uint64(len(records)*pcsInRecord))
	if depth == 0 {
		s.unread++
		return 0
	}
	s.taken++
	s.frames += depth
	pcs := unsafe.Slice(&records[0][0], depth)
	if walked == walkSys && depth > 1 && !s.frameless(pcs[0]-s.bias) {
		pcs[1] = pcs[0] // the second one is none: see entersys in asm/probe_amd64.S
		pcs = pcs[1:]
	}
	return s.table.ID(pcs, s.bias)
}

// frameless says whether the function to which a linked address returns has no frame of
// its own.
func (s *stacks) frameless(pc uint64) bool {
	leaf, ok := s.leaves[pc]
	if !ok {
		u, known := s.bin.UnwindAt(pc - 1)
		leaf = known && u.HasDelta && u.Delta == 0
		if len(s.leaves) < maxLeaves {
			s.leaves[pc] = leaf
		}
	}
	return leaf
}

// maxLeaves bounds what is remembered: programs call entersyscall in some ten places.
const maxLeaves = 1 << 12
