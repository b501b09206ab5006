package perfettotest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Trace is what an importer makes of a file.
type Trace struct {
	Tracks   map[uint64]*Track
	Slices   []*Slice  // instants too, in the order of their begin in the file
	Counters []Counter // in the order of the file
	Clocks   []Clock
	Packets  int
}

// Track is a track descriptor.
type Track struct {
	UUID, Parent uint64
	Name         string
	Description  string
	PID          int64 // of a process; 0 otherwise
	Process      string
	Cmdline      []string
	Counter      bool
	open         []*Slice
	last         uint64
}

// Slice is a slice or an instant.
type Slice struct {
	Track      *Track
	Name       string
	Category   string
	Begin, End int64 // ns
	Instant    bool
	Args       map[string]any // annotations by name; members of dicts as "dict.member"
	Stack      []Frame        // outermost first
	Flows      []uint64       // that begin here
	Ends       []uint64       // flows that end here
	Parent     *Slice         // around it on its track
}

// Frame is a frame of a callstack.
type Frame struct {
	Func, File string
	Line       int
}

// Counter is a value of a counter track.
type Counter struct {
	Track *Track
	Time  int64
	Value int64
}

// Clock is a clock snapshot.
type Clock struct{ Mono, Real int64 }

// The numbers of the enums, as Perfetto has them.
const (
	typeBegin, typeEnd, typeInstant, typeCounter = 1, 2, 3, 4
	cleared, needed                              = 1, 2
	realtime, monotonic                          = 1, 3
)

// Read imports a trace. It is an error when anything in it would be dropped, or understood
// otherwise than it was meant, by trace_processor.
func Read(data []byte) (*Trace, error) {
	ms, err := messages()
	if err != nil {
		return nil, err
	}
	root := dynamicpb.NewMessage(ms.ByName("Trace"))
	if err := proto.Unmarshal(data, root); err != nil {
		return nil, err
	}
	im := &importer{trace: &Trace{Tracks: map[uint64]*Track{}}, sequences: map[uint64]*sequence{}, flows: map[uint64]int64{}}
	packets := list(root, "packet")
	im.trace.Packets = packets.Len()
	for i := range packets.Len() {
		if err := im.packet(packets.Get(i).Message()); err != nil {
			return im.trace, fmt.Errorf("packet %d: %w", i, err)
		}
	}
	return im.trace, im.finish()
}

type importer struct {
	trace     *Trace
	sequences map[uint64]*sequence
	flows     map[uint64]int64 // when each began
	ends      []*Slice
}

// sequence is the state of a packet sequence.
type sequence struct {
	valid    bool
	clock    uint64
	interned map[string]map[uint64]protoreflect.Message
}

func (im *importer) packet(m protoreflect.Message) error {
	if err := whole(m); err != nil {
		return err
	}
	id, flags := number(m, "trusted_packet_sequence_id"), number(m, "sequence_flags")
	if id == 0 {
		return errors.New("no sequence")
	}
	s := im.sequences[id]
	if s == nil {
		if !has(m, "first_packet_on_sequence") {
			return errors.New("not marked as first")
		}
		s = &sequence{}
		im.sequences[id] = s
	}
	if flags&cleared != 0 {
		*s = sequence{valid: true, interned: map[string]map[uint64]protoreflect.Message{}}
	}
	if !s.valid || flags&(cleared|needed) == 0 {
		return errors.New("incremental state is not valid")
	}
	if has(m, "trace_packet_defaults") {
		s.clock = number(sub(m, "trace_packet_defaults"), "timestamp_clock_id")
	}
	if has(m, "interned_data") {
		if err := s.intern(sub(m, "interned_data")); err != nil {
			return err
		}
	}
	switch {
	case has(m, "clock_snapshot"):
		return im.clock(sub(m, "clock_snapshot"))
	case has(m, "track_descriptor"):
		return im.describe(sub(m, "track_descriptor"))
	case has(m, "track_event"):
		if len(im.trace.Clocks) == 0 || s.clock != monotonic || !has(m, "timestamp") {
			return errors.New("an event whose time is not known")
		}
		return im.event(s, number(m, "timestamp"), sub(m, "track_event"))
	}
	return errors.New("no data")
}

func (im *importer) clock(m protoreflect.Message) error {
	if number(m, "primary_trace_clock") != monotonic {
		return errors.New("the trace's clock is not CLOCK_MONOTONIC")
	}
	var c Clock
	clocks := list(m, "clocks")
	for i := range clocks.Len() {
		switch one := clocks.Get(i).Message(); number(one, "clock_id") {
		case realtime:
			c.Real = int64(number(one, "timestamp"))
		case monotonic:
			c.Mono = int64(number(one, "timestamp"))
		}
	}
	if c.Mono == 0 || c.Real == 0 {
		return errors.New("a clock snapshot without both clocks")
	}
	if n := len(im.trace.Clocks); n > 0 && im.trace.Clocks[n-1].Mono > c.Mono {
		return errors.New("clock snapshots go back")
	}
	im.trace.Clocks = append(im.trace.Clocks, c)
	return nil
}

func (im *importer) describe(m protoreflect.Message) error {
	t := &Track{
		UUID: number(m, "uuid"), Parent: number(m, "parent_uuid"), Name: text(m, "name"), Description: text(m, "description"),
		Counter: has(m, "counter"),
	}
	if t.UUID == 0 || t.Name == "" || im.trace.Tracks[t.UUID] != nil {
		return fmt.Errorf("track %d %q is not new or has no name", t.UUID, t.Name)
	}
	if t.Parent != 0 && im.trace.Tracks[t.Parent] == nil {
		return fmt.Errorf("the parent of track %q is not described", t.Name)
	}
	if has(m, "process") {
		p := sub(m, "process")
		t.PID, t.Process = int64(number(p, "pid")), text(p, "process_name")
		args := list(p, "cmdline")
		for i := range args.Len() {
			t.Cmdline = append(t.Cmdline, args.Get(i).String())
		}
	}
	im.trace.Tracks[t.UUID] = t
	return nil
}

func (im *importer) event(s *sequence, time uint64, m protoreflect.Message) error {
	t := im.trace.Tracks[number(m, "track_uuid")]
	if t == nil {
		return errors.New("an event on a track that is not described")
	}
	if time < t.last || time > math.MaxInt64 {
		return fmt.Errorf("track %q: time goes back from %d to %d", t.Name, t.last, time)
	}
	t.last = time
	kind := number(m, "type")
	if t.Counter != (kind == typeCounter) {
		return fmt.Errorf("track %q: event of type %d", t.Name, kind)
	}
	switch kind {
	case typeCounter:
		im.trace.Counters = append(im.trace.Counters, Counter{t, int64(time), int64(number(m, "counter_value"))})
		return nil
	case typeEnd:
		return im.end(s, t, time, m)
	case typeBegin, typeInstant:
		return im.begin(s, t, time, m, kind == typeInstant)
	}
	return fmt.Errorf("type %d", kind)
}

func (im *importer) begin(s *sequence, t *Track, time uint64, m protoreflect.Message, instant bool) error {
	sl := &Slice{Track: t, Begin: int64(time), End: int64(time), Instant: instant, Name: text(m, "name"), Args: map[string]any{}}
	if iid := number(m, "name_iid"); iid != 0 {
		sl.Name = s.text("event_names", iid)
	}
	categories := list(m, "category_iids")
	for i := range categories.Len() {
		sl.Category = s.text("event_categories", categories.Get(i).Uint())
	}
	if sl.Name == "" || sl.Category == "" {
		return errors.New("a slice with no name or category")
	}
	if err := s.args(list(m, "debug_annotations"), "", sl.Args); err != nil {
		return err
	}
	if iid := number(m, "callstack_iid"); iid != 0 {
		var err error
		if sl.Stack, err = s.stack(iid); err != nil {
			return err
		}
	}
	if n := len(t.open); n > 0 {
		sl.Parent = t.open[n-1]
	}
	sl.Flows, sl.Ends = numbers(m, "flow_ids"), numbers(m, "terminating_flow_ids")
	for _, id := range sl.Flows {
		if _, again := im.flows[id]; again {
			return fmt.Errorf("flow %d begins twice", id)
		}
		im.flows[id] = sl.Begin
	}
	if len(sl.Ends) > 0 {
		im.ends = append(im.ends, sl)
	}
	im.trace.Slices = append(im.trace.Slices, sl)
	if !instant {
		t.open = append(t.open, sl)
	}
	return nil
}

func (im *importer) end(s *sequence, t *Track, time uint64, m protoreflect.Message) error {
	n := len(t.open)
	if n == 0 {
		return fmt.Errorf("track %q: an end with no begin", t.Name)
	}
	sl := t.open[n-1]
	t.open = t.open[:n-1]
	sl.End = int64(time)
	return s.args(list(m, "debug_annotations"), "", sl.Args)
}

// finish checks what can be known only at the end.
func (im *importer) finish() error {
	for _, t := range im.trace.Tracks {
		if len(t.open) > 0 {
			return fmt.Errorf("track %q: a slice has no end", t.Name)
		}
	}
	ended := map[uint64]bool{}
	for _, sl := range im.ends {
		for _, id := range sl.Ends {
			began, ok := im.flows[id]
			if !ok || began > sl.Begin || ended[id] {
				return fmt.Errorf("a flow ends at %d on track %q that began at %d (there: %t, ended before: %t)", sl.Begin, sl.Track.Name, began, ok, ended[id])
			}
			ended[id] = true
		}
	}
	return nil
}

// Find is the only track with that name.
func (t *Trace) Find(name string) (*Track, error) {
	var found []*Track
	for _, tr := range t.Tracks {
		if tr.Name == name {
			found = append(found, tr)
		}
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("%d tracks %q", len(found), name)
	}
	return found[0], nil
}

// whole says whether a message has nothing that the schema does not know, and valid text.
func whole(m protoreflect.Message) (err error) {
	if len(m.GetUnknown()) > 0 {
		return fmt.Errorf("%s has unknown fields", m.Descriptor().Name())
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Kind() == protoreflect.MessageKind && f.IsList():
			for i := range v.List().Len() {
				err = errors.Join(err, whole(v.List().Get(i).Message()))
			}
		case f.Kind() == protoreflect.MessageKind:
			err = whole(v.Message())
		case f.Kind() == protoreflect.StringKind && !f.IsList() && !utf8.ValidString(v.String()):
			err = fmt.Errorf("%s is not UTF-8", f.FullName())
		}
		return err == nil
	})
	return err
}

func numbers(m protoreflect.Message, name protoreflect.Name) []uint64 {
	var ns []uint64
	l := list(m, name)
	for i := range l.Len() {
		ns = append(ns, l.Get(i).Uint())
	}
	return slices.Clip(ns)
}
