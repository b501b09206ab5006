package perfetto

import (
	"io"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"gopherscope/internal/event"
)

const (
	// bufferSize is how much is collected before it is written.
	bufferSize = 256 << 10
	// maxInterned is how many texts and stacks are kept before the tables begin anew,
	// here and in the reader, which is told to forget them.
	maxInterned = 1 << 17
)

// sequence writes packets that may refer to texts of earlier ones (interned data). It is
// what Perfetto calls a packet sequence.
type sequence struct {
	w  io.Writer
	id uint64 // trusted_packet_sequence_id

	out      message // whole packets, not yet written
	packet   message // scratch, as are the next four
	interned message // what the packet being made is the first to refer to
	entry    message
	part     message
	list     message
	err      error // of the writer: nothing is written after it

	categories, names, noteNames, strings, functions, paths table

	frames   map[event.Location]uint64
	stacks   map[uint32]stack
	frameIID uint64
	stackIID uint64
	used     int // how many texts, frames and stacks are in the tables
	limit    int // maxInterned, but in tests
}

// table has the numbers of interned texts, which begin with 1.
type table struct {
	field protowire.Number // in InternedData
	ids   map[string]uint64
	last  uint64
}

// stack is an interned callstack; the zero stack is none.
type stack struct {
	iid uint64
	at  string // its first frame outside of the runtime
}

func newSequence(w io.Writer, id uint64) *sequence {
	s := &sequence{w: w, id: id, limit: maxInterned}
	s.categories.field, s.names.field, s.noteNames.field = internedCategories, internedNames, internedAnnotationNames
	s.strings.field, s.functions.field, s.paths.field = internedStrings, internedFunctions, internedPaths
	s.forget()
	return s
}

// forget empties the tables. Numbers go on: the schema forbids to use one again.
func (s *sequence) forget() {
	for _, t := range []*table{&s.categories, &s.names, &s.noteNames, &s.strings, &s.functions, &s.paths} {
		t.ids = map[string]uint64{}
	}
	s.frames, s.stacks, s.used = map[event.Location]uint64{}, map[uint32]stack{}, 0
}

// full says that it is time to begin anew.
func (s *sequence) full() bool { return s.used >= s.limit }

// emit writes a packet of that time (CLOCK_MONOTONIC, ns; below 0: without one) with one
// field and with all that was interned since the one before.
func (s *sequence) emit(time int64, field protowire.Number, body message) {
	p := &s.packet
	p.reset()
	if time >= 0 {
		p.uint(packetTimestamp, uint64(time))
	}
	p.uint(packetSequenceID, s.id)
	p.uint(packetSequenceFlags, flagNeeds)
	if len(s.interned) > 0 {
		p.sub(packetInternedData, s.interned)
		s.interned.reset()
	}
	p.sub(field, body)
	s.write()
}

// begin writes the first packet of the sequence, or the first after forget: the times of
// all packets are by CLOCK_MONOTONIC.
func (s *sequence) begin(first bool, clocks message) {
	p := &s.packet
	p.reset()
	p.uint(packetSequenceID, s.id)
	p.uint(packetSequenceFlags, flagCleared)
	if first {
		p.uint(packetFirstOnSequence, 1)
	}
	s.part.reset()
	s.part.uint(defaultsClockID, clockMonotonic)
	p.sub(packetDefaults, s.part)
	p.sub(packetClockSnapshot, clocks)
	s.write()
}

func (s *sequence) write() {
	s.out.sub(tracePacket, s.packet)
	if len(s.out) >= bufferSize {
		_ = s.flush() // the error stays
	}
}

func (s *sequence) flush() error {
	if len(s.out) > 0 && s.err == nil {
		_, s.err = s.w.Write(s.out)
	}
	s.out.reset()
	return s.err
}

// intern is the number of a text.
func (s *sequence) intern(t *table, text string) uint64 {
	if id, ok := t.ids[text]; ok {
		return id
	}
	t.last++
	t.ids[strings.Clone(text)] = t.last
	s.used++
	s.entry.reset()
	s.entry.uint(entryIID, t.last)
	s.entry.text(entryText, text)
	s.interned.sub(t.field, s.entry)
	return t.last
}

// stack is the callstack with that number of the stream.
func (s *sequence) stack(id uint32, frames func(uint32) []event.Location) stack {
	if id == 0 || frames == nil {
		return stack{}
	}
	if st, ok := s.stacks[id]; ok {
		return st
	}
	st := s.newStack(frames(id))
	s.stacks[id] = st
	s.used++
	return st
}

// newStack interns a stack. Perfetto has the outermost frame first.
func (s *sequence) newStack(frames []event.Location) stack {
	if len(frames) == 0 {
		return stack{}
	}
	s.list.reset()
	for i := len(frames) - 1; i >= 0; i-- {
		s.list.uint(callstackFrames, s.frame(frames[i]))
	}
	s.stackIID++
	s.entry.reset()
	s.entry.uint(entryIID, s.stackIID)
	s.entry = append(s.entry, s.list...)
	s.interned.sub(internedCallstacks, s.entry)
	at := frames[0]
	for _, f := range frames {
		if !inRuntime(f.Func) {
			at = f
			break
		}
	}
	return stack{iid: s.stackIID, at: place(at)}
}

func (s *sequence) frame(l event.Location) uint64 {
	if id, ok := s.frames[l]; ok {
		return id
	}
	function := s.intern(&s.functions, l.Func)
	var path uint64
	if l.File != "" {
		path = s.intern(&s.paths, l.File)
	}
	s.frameIID++
	s.frames[l] = s.frameIID
	s.used++
	s.entry.reset()
	s.entry.uint(entryIID, s.frameIID)
	s.entry.uint(frameFunction, function)
	if path != 0 {
		s.entry.uint(framePath, path)
	}
	if l.Line > 0 {
		s.entry.uint(frameLine, uint64(l.Line))
	}
	s.interned.sub(internedFrames, s.entry)
	return s.frameIID
}

func inRuntime(name string) bool {
	return strings.HasPrefix(name, "runtime.") || strings.HasPrefix(name, "internal/runtime/")
}

// place is a location in one line, with its file's whole path.
func place(l event.Location) string {
	if l.File == "" {
		return l.Func
	}
	return l.Func + " " + l.File + ":" + strconv.Itoa(l.Line)
}
