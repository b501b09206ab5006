// Package perfettotest reads Perfetto traces for tests, by Perfetto's own rules and with
// none of the code that writes them: protobuf's reflection decodes by a schema that is
// written down here by names and types, and an importer does what trace_processor does
// with the packets, but is strict where that is lenient.
//
// It is imported by tests only.
package perfettotest

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// schema is the part of Perfetto's schema (protos/perfetto/trace, v54) that gopherscope
// writes: for each message its fields as "name = number: type", with [] before the type of
// repeated ones. What is not listed is an error.
var schema = map[string]string{
	"Trace": `packet = 1: []TracePacket`,
	"TracePacket": `clock_snapshot = 6: ClockSnapshot; timestamp = 8: uint64; trusted_packet_sequence_id = 10: uint32;
		track_event = 11: TrackEvent; interned_data = 12: InternedData; sequence_flags = 13: uint32;
		timestamp_clock_id = 58: uint32; trace_packet_defaults = 59: TracePacketDefaults; track_descriptor = 60: TrackDescriptor;
		first_packet_on_sequence = 87: bool`,
	"TracePacketDefaults": `timestamp_clock_id = 58: uint32`,
	"ClockSnapshot":       `clocks = 1: []Clock; primary_trace_clock = 2: int32`,
	"Clock":               `clock_id = 1: uint32; timestamp = 2: uint64`,
	"TrackDescriptor": `uuid = 1: uint64; name = 2: string; process = 3: ProcessDescriptor; parent_uuid = 5: uint64; counter = 8: CounterDescriptor;
		child_ordering = 11: int32; sibling_order_rank = 12: int32; description = 14: string; sibling_merge_behavior = 15: int32`,
	"ProcessDescriptor": `pid = 1: int32; cmdline = 2: []string; process_name = 6: string`,
	"CounterDescriptor": `unit = 3: int32`,
	"TrackEvent": `category_iids = 3: []uint64; debug_annotations = 4: []DebugAnnotation; type = 9: int32; name_iid = 10: uint64;
		track_uuid = 11: uint64; name = 23: string; counter_value = 30: int64; flow_ids = 47: []fixed64;
		terminating_flow_ids = 48: []fixed64; callstack_iid = 56: uint64`,
	"DebugAnnotation": `name_iid = 1: uint64; bool_value = 2: bool; uint_value = 3: uint64; int_value = 4: int64; double_value = 5: double;
		dict_entries = 11: []DebugAnnotation; string_value_iid = 17: uint64`,
	"InternedData": `event_categories = 1: []EventCategory; event_names = 2: []EventName; debug_annotation_names = 3: []DebugAnnotationName;
		function_names = 5: []InternedString; frames = 6: []Frame; callstacks = 7: []Callstack; source_paths = 18: []InternedString;
		debug_annotation_string_values = 29: []InternedString`,
	"EventCategory":       `iid = 1: uint64; name = 2: string`,
	"EventName":           `iid = 1: uint64; name = 2: string`,
	"DebugAnnotationName": `iid = 1: uint64; name = 2: string`,
	"InternedString":      `iid = 1: uint64; str = 2: bytes`,
	"Frame":               `iid = 1: uint64; function_name_id = 2: uint64; source_path_iid = 5: uint64; line_number = 6: uint32`,
	"Callstack":           `iid = 1: uint64; frame_ids = 2: []uint64`,
}

var kinds = map[string]descriptorpb.FieldDescriptorProto_Type{
	"uint32": descriptorpb.FieldDescriptorProto_TYPE_UINT32, "uint64": descriptorpb.FieldDescriptorProto_TYPE_UINT64,
	"int32": descriptorpb.FieldDescriptorProto_TYPE_INT32, "int64": descriptorpb.FieldDescriptorProto_TYPE_INT64,
	"fixed64": descriptorpb.FieldDescriptorProto_TYPE_FIXED64, "double": descriptorpb.FieldDescriptorProto_TYPE_DOUBLE,
	"bool": descriptorpb.FieldDescriptorProto_TYPE_BOOL, "string": descriptorpb.FieldDescriptorProto_TYPE_STRING,
	"bytes": descriptorpb.FieldDescriptorProto_TYPE_BYTES,
}

// messages compiles the schema.
func messages() (protoreflect.MessageDescriptors, error) {
	const pkg = "perfetto.protos"
	file := &descriptorpb.FileDescriptorProto{
		Name: proto.String("perfetto.proto"), Package: proto.String(pkg), Syntax: proto.String("proto2"),
	}
	for name, fields := range schema {
		m := &descriptorpb.DescriptorProto{Name: proto.String(name)}
		for _, field := range strings.Split(fields, ";") {
			f := &descriptorpb.FieldDescriptorProto{Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
			var id, typ string
			var number int32
			if _, err := fmt.Sscanf(strings.TrimSpace(strings.ReplaceAll(field, ":", " :")), "%s = %d : %s", &id, &number, &typ); err != nil {
				return nil, fmt.Errorf("schema of %s: %q: %w", name, field, err)
			}
			f.Name, f.Number = proto.String(id), proto.Int32(number)
			if one, ok := strings.CutPrefix(typ, "[]"); ok {
				f.Label, typ = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum(), one
			}
			if kind, ok := kinds[typ]; ok {
				f.Type = kind.Enum()
			} else {
				f.Type, f.TypeName = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), proto.String("."+pkg+"."+typ)
			}
			m.Field = append(m.Field, f)
		}
		file.MessageType = append(file.MessageType, m)
	}
	fd, err := protodesc.NewFile(file, nil)
	if err != nil {
		return nil, err
	}
	return fd.Messages(), nil
}
