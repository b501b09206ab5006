package perfettotest

import (
	"fmt"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// intern takes the entries of an InternedData.
func (s *sequence) intern(m protoreflect.Message) (err error) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		table := s.interned[string(f.Name())]
		if table == nil {
			table = map[uint64]protoreflect.Message{}
			s.interned[string(f.Name())] = table
		}
		for i := range v.List().Len() {
			entry := v.List().Get(i).Message()
			iid := number(entry, "iid")
			if iid == 0 || table[iid] != nil {
				err = fmt.Errorf("%s: entry %d is there twice or 0", f.Name(), iid)
				return false
			}
			table[iid] = entry
		}
		return true
	})
	return err
}

// text is an interned text; "" if there is none.
func (s *sequence) text(table string, iid uint64) string {
	entry := s.interned[table][iid]
	if entry == nil {
		return ""
	}
	if has(entry, "str") {
		return string(value(entry, "str").Bytes())
	}
	return text(entry, "name")
}

// args adds annotations to a map.
func (s *sequence) args(notes protoreflect.List, prefix string, to map[string]any) error {
	for i := range notes.Len() {
		n := notes.Get(i).Message()
		name := s.text("debug_annotation_names", number(n, "name_iid"))
		if name == "" {
			return fmt.Errorf("an annotation with no name")
		}
		name = prefix + name
		if _, twice := to[name]; twice {
			return fmt.Errorf("annotation %q is there twice", name)
		}
		switch {
		case has(n, "bool_value"):
			to[name] = value(n, "bool_value").Bool()
		case has(n, "uint_value"):
			to[name] = int64(number(n, "uint_value"))
		case has(n, "int_value"):
			to[name] = value(n, "int_value").Int()
		case has(n, "double_value"):
			to[name] = value(n, "double_value").Float()
		case has(n, "string_value_iid"):
			text := s.text("debug_annotation_string_values", number(n, "string_value_iid"))
			if text == "" {
				return fmt.Errorf("annotation %q: its text is not interned", name)
			}
			to[name] = text
		default:
			if err := s.args(list(n, "dict_entries"), name+".", to); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *sequence) stack(iid uint64) ([]Frame, error) {
	cs := s.interned["callstacks"][iid]
	if cs == nil {
		return nil, fmt.Errorf("callstack %d is not interned", iid)
	}
	var frames []Frame
	for _, id := range numbers(cs, "frame_ids") {
		f := s.interned["frames"][id]
		if f == nil {
			return nil, fmt.Errorf("frame %d is not interned", id)
		}
		frames = append(frames, Frame{
			Func: s.text("function_names", number(f, "function_name_id")),
			File: s.text("source_paths", number(f, "source_path_iid")),
			Line: int(number(f, "line_number")),
		})
	}
	return frames, nil
}

func field(m protoreflect.Message, name protoreflect.Name) protoreflect.FieldDescriptor {
	return m.Descriptor().Fields().ByName(name)
}

func has(m protoreflect.Message, name protoreflect.Name) bool {
	f := field(m, name)
	return f != nil && m.Has(f)
}

func value(m protoreflect.Message, name protoreflect.Name) protoreflect.Value {
	return m.Get(field(m, name))
}

func sub(m protoreflect.Message, name protoreflect.Name) protoreflect.Message {
	return value(m, name).Message()
}

func list(m protoreflect.Message, name protoreflect.Name) protoreflect.List {
	return value(m, name).List()
}

func text(m protoreflect.Message, name protoreflect.Name) string { return value(m, name).String() }

// number is an unsigned or signed field; 0 if it is not set.
func number(m protoreflect.Message, name protoreflect.Name) uint64 {
	v := value(m, name)
	switch v.Interface().(type) {
	case int32, int64:
		return uint64(v.Int())
	}
	return v.Uint()
}
