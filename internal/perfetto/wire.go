package perfetto

import (
	"math"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// The field numbers of the messages that are written, by message. They are from the
// schema that Perfetto publishes: github.com/google/perfetto, protos/perfetto/trace,
// as of v54; numbers are never used again there for another meaning. TestSchema has
// them a second time, with names and types, and decodes by those.
const (
	// Trace.
	tracePacket = 1

	// TracePacket (trace_packet.proto).
	packetClockSnapshot   = 6
	packetTimestamp       = 8
	packetSequenceID      = 10
	packetTrackEvent      = 11
	packetInternedData    = 12
	packetSequenceFlags   = 13
	packetDefaults        = 59
	packetTrackDescriptor = 60
	packetFirstOnSequence = 87

	// TracePacketDefaults (trace_packet_defaults.proto).
	defaultsClockID = 58

	// ClockSnapshot and ClockSnapshot.Clock (clock_snapshot.proto).
	snapshotClocks       = 1
	snapshotPrimaryClock = 2
	clockID              = 1
	clockTimestamp       = 2

	// TrackDescriptor (track_event/track_descriptor.proto).
	trackUUID          = 1
	trackName          = 2
	trackProcess       = 3
	trackParent        = 5
	trackCounter       = 8
	trackChildOrdering = 11
	trackOrderRank     = 12
	trackDescription   = 14
	trackMerge         = 15

	// ProcessDescriptor (track_event/process_descriptor.proto).
	processPID     = 1
	processCmdline = 2
	processName    = 6

	// CounterDescriptor (track_event/counter_descriptor.proto).
	counterUnit = 3

	// TrackEvent (track_event/track_event.proto).
	eventCategoryIIDs     = 3
	eventAnnotations      = 4
	eventType             = 9
	eventNameIID          = 10
	eventTrack            = 11
	eventName             = 23
	eventCounterValue     = 30
	eventFlows            = 47
	eventTerminatingFlows = 48
	eventCallstackIID     = 56

	// DebugAnnotation (track_event/debug_annotation.proto).
	annotationNameIID   = 1
	annotationBool      = 2
	annotationUint      = 3
	annotationInt       = 4
	annotationDouble    = 5
	annotationString    = 6
	annotationEntries   = 11
	annotationStringIID = 17

	// InternedData (interned_data/interned_data.proto).
	internedCategories      = 1
	internedNames           = 2
	internedAnnotationNames = 3
	internedFunctions       = 5
	internedFrames          = 6
	internedCallstacks      = 7
	internedPaths           = 18
	internedStrings         = 29

	// EventCategory, EventName, DebugAnnotationName (track_event/*.proto) and
	// InternedString (profiling/profile_common.proto) are all a number and a text.
	entryIID  = 1
	entryText = 2

	// Frame and Callstack (profiling/profile_common.proto).
	frameFunction   = 2
	framePath       = 5
	frameLine       = 6
	callstackFrames = 2
)

// The values of enums that are written.
const (
	clockRealtime  = 1 // BuiltinClock
	clockMonotonic = 3

	flagCleared = 1 // TracePacket.SequenceFlags: interned data begins anew
	flagNeeds   = 2 // interned data from before is needed

	typeBegin   = 1 // TrackEvent.Type
	typeEnd     = 2
	typeInstant = 3
	typeCounter = 4

	orderExplicit = 3 // TrackDescriptor.ChildTracksOrdering
	mergeNone     = 2 // TrackDescriptor.SiblingMergeBehavior

	unitCount = 2 // CounterDescriptor.Unit
)

// message is a protobuf message that is being made. Its memory is used again.
type message []byte

func (m *message) reset() { *m = (*m)[:0] }

func (m *message) uint(field protowire.Number, v uint64) {
	*m = protowire.AppendVarint(protowire.AppendTag(*m, field, protowire.VarintType), v)
}

// int is for int32 and int64, which are not zigzag-coded.
func (m *message) int(field protowire.Number, v int64) { m.uint(field, uint64(v)) }

func (m *message) fixed64(field protowire.Number, v uint64) {
	*m = protowire.AppendFixed64(protowire.AppendTag(*m, field, protowire.Fixed64Type), v)
}

func (m *message) double(field protowire.Number, v float64) { m.fixed64(field, math.Float64bits(v)) }

func (m *message) sub(field protowire.Number, v []byte) {
	*m = protowire.AppendBytes(protowire.AppendTag(*m, field, protowire.BytesType), v)
}

// text appends a string. Protobuf strings are UTF-8; names in a binary can be anything.
func (m *message) text(field protowire.Number, s string) {
	*m = protowire.AppendString(protowire.AppendTag(*m, field, protowire.BytesType), valid(s))
}

func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, string(utf8.RuneError))
}
