package goruntime

// Field is a field of a runtime struct that the other packages read.
type Field struct {
	Struct string // "runtime.g"
	Path   string // "stack.lo"; nested structs by dots
	Since  int    // first Go minor that has it; 0 for all from MinMinor on
}

// fields lists every field needed, by struct, in the order of the runtime's
// own declarations (runtime/runtime2.go, runtime/coro.go).
var fields = []Field{
	{Struct: "runtime.g", Path: "stack.lo"},
	{Struct: "runtime.g", Path: "stack.hi"},
	{Struct: "runtime.g", Path: "m"},
	{Struct: "runtime.g", Path: "atomicstatus"},
	{Struct: "runtime.g", Path: "goid"},
	{Struct: "runtime.g", Path: "waitreason"},
	{Struct: "runtime.g", Path: "parentGoid", Since: 21},
	{Struct: "runtime.g", Path: "gopc"},
	{Struct: "runtime.g", Path: "startpc"},
	{Struct: "runtime.g", Path: "coroarg", Since: 22},
	{Struct: "runtime.g", Path: "coroexit", Since: 22},
	{Struct: "runtime.m", Path: "curg"},
	{Struct: "runtime.m", Path: "p"},
	{Struct: "runtime.m", Path: "oldp"},
	{Struct: "runtime.m", Path: "id"},
	{Struct: "runtime.m", Path: "blocked"},
	{Struct: "runtime.p", Path: "id"},
}

// Fields lists the fields that a runtime of the given version must have. The
// caller may keep and change the slice.
func Fields(v Version) []Field {
	out := make([]Field, 0, len(fields))
	for _, f := range fields {
		if v.Minor >= f.Since {
			out = append(out, f)
		}
	}
	return out
}
