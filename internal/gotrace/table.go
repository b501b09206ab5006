package gotrace

import (
	"encoding/binary"

	"gopherscope/internal/event"
)

// tables are the strings and stacks of one generation, by the numbers that its events have
// for them. Number 0 is the empty one.
type tables struct {
	strings map[string]uint64
	texts   []string // by number less 1
	taken   map[uint32]uint64
	places  map[event.Location]uint64
	stacks  [][]event.Location // by number less 1
}

func newTables() tables {
	return tables{strings: map[string]uint64{}, taken: map[uint32]uint64{}, places: map[event.Location]uint64{}}
}

// str is the number of a string.
func (w *Writer) str(s string) uint64 {
	if s == "" {
		return 0
	}
	if len(s) > maxString {
		s = s[:maxString]
	}
	id, ok := w.tables.strings[s]
	if !ok {
		w.tables.texts = append(w.tables.texts, s)
		id = uint64(len(w.tables.texts))
		w.tables.strings[s] = id
	}
	return id
}

// place is the number of a stack of one frame.
func (w *Writer) place(loc event.Location) uint64 {
	if loc == (event.Location{}) {
		return 0
	}
	id, ok := w.tables.places[loc]
	if !ok {
		id = w.addStack([]event.Location{loc})
		w.tables.places[loc] = id
	}
	return id
}

// stackOf is the number of the stack that an event of a goroutine names. If none was taken
// it is what is known of it, its outermost frame: the function of the go statement.
func (w *Writer) stackOf(g *goroutine, taken uint32) uint64 {
	if id := w.taken(taken); id != 0 {
		return id
	}
	return w.startOf(g)
}

// taken is the number of a stack that was taken.
func (w *Writer) taken(stack uint32) uint64 {
	if stack == 0 {
		return 0
	}
	id, ok := w.tables.taken[stack]
	if !ok {
		if frames := trim(w.stack(stack)); len(frames) > 0 {
			id = w.addStack(frames)
		}
		w.tables.taken[stack] = id
	}
	return id
}

// machinery are the innermost frames that the runtime's tracer leaves out of its stacks, by
// the numbers of frames to skip in the calls of traceLocker.stack (runtime/traceruntime.go).
var machinery = map[string]bool{
	"runtime.gopark": true, "runtime.goparkunlock": true, "runtime.mcall": true,
	"runtime.entersyscall": true, "runtime.entersyscallblock": true, "runtime.reentersyscall": true,
}

// trim leaves out of a stack what the runtime's tracer does: how the goroutine came to
// park, and the frame below its first function (runtime/tracestack.go traceStack).
func trim(frames []event.Location) []event.Location {
	for len(frames) > 1 && machinery[frames[0].Func] {
		frames = frames[1:]
	}
	if n := len(frames) - 1; n > 0 && frames[n].Func == "runtime.goexit" {
		frames = frames[:n]
	}
	return frames
}

// startOf is the number of the stack that is a goroutine's outermost frame alone, by which
// readers name it.
func (w *Writer) startOf(g *goroutine) uint64 {
	if g.birth == nil {
		return 0
	}
	if g.startGen != w.gen {
		g.startGen, g.start = w.gen, w.place(g.birth.Start)
	}
	return g.start
}

func (w *Writer) addStack(frames []event.Location) uint64 {
	w.tables.stacks = append(w.tables.stacks, frames[:min(len(frames), maxFrames)])
	return uint64(len(w.tables.stacks))
}

// pc is the number that stands for a place instead of a program counter: readers tell
// frames apart by it, over the whole trace.
func (w *Writer) pc(loc event.Location) uint64 {
	pc, ok := w.pcs[loc]
	if !ok {
		pc = uint64(len(w.pcs) + 1)
		w.pcs[loc] = pc
	}
	return pc
}

// writeTables ends a generation with its stacks and strings.
func (w *Writer) writeTables() {
	b := section{w: w, number: evStacks}
	for i, frames := range w.tables.stacks {
		b.entry = append(b.entry[:0], evStack)
		b.entry = binary.AppendUvarint(b.entry, uint64(i+1))
		b.entry = binary.AppendUvarint(b.entry, uint64(len(frames)))
		for _, f := range frames {
			b.entry = binary.AppendUvarint(b.entry, w.pc(f))
			b.entry = binary.AppendUvarint(b.entry, w.str(f.Func))
			b.entry = binary.AppendUvarint(b.entry, w.str(f.File))
			b.entry = binary.AppendUvarint(b.entry, uint64(max(0, f.Line)))
		}
		b.add()
	}
	b.end()
	b = section{w: w, number: evStrings}
	for i, s := range w.tables.texts {
		b.entry = append(b.entry[:0], evString)
		b.entry = binary.AppendUvarint(b.entry, uint64(i+1))
		b.entry = binary.AppendUvarint(b.entry, uint64(len(s)))
		b.entry = append(b.entry, s...)
		b.add()
	}
	b.end()
}

// section is a table on its way out, in batches.
type section struct {
	w      *Writer
	number byte
	entry  []byte // to be added
	buf    []byte
}

// add adds the entry. The longest, a stack, takes 5 KB.
func (s *section) add() {
	if len(s.buf)+len(s.entry) > maxBatch {
		s.end()
	}
	if len(s.buf) == 0 {
		s.buf = append(s.buf, s.number)
	}
	s.buf = append(s.buf, s.entry...)
}

func (s *section) end() {
	if len(s.buf) > 0 {
		s.w.out.batch(s.w.gen, noThread, s.w.genStart, s.buf)
		s.buf = s.buf[:0]
	}
}
