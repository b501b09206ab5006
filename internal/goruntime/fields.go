package goruntime

// Field is a field of a runtime struct that the other packages read.
type Field struct {
	Struct string // "runtime.g"
	Path   string // "stack.lo"; nested structs by dots
	Since  int    // first Go minor that has it; 0 for all from MinMinor on
	Until  int    // last Go minor that has it; 0 for all since
}

// fields lists every field needed, by struct, in the order of the runtime's
// own declarations (runtime/runtime2.go, runtime/coro.go).
var fields = []Field{
	{Struct: "runtime.g", Path: "stack.lo"},
	{Struct: "runtime.g", Path: "stack.hi"},
	{Struct: "runtime.g", Path: "m"},
	{Struct: "runtime.g", Path: "sched.sp"},
	{Struct: "runtime.g", Path: "sched.pc"},
	{Struct: "runtime.g", Path: "sched.lr"},
	{Struct: "runtime.g", Path: "sched.bp"},
	{Struct: "runtime.g", Path: "syscallsp"},
	{Struct: "runtime.g", Path: "syscallpc"},
	{Struct: "runtime.g", Path: "syscallbp", Since: 23},
	{Struct: "runtime.g", Path: "atomicstatus"},
	{Struct: "runtime.g", Path: "goid"},
	{Struct: "runtime.g", Path: "waitsince"},
	{Struct: "runtime.g", Path: "waitreason"},
	{Struct: "runtime.g", Path: "trackingSeq"},
	{Struct: "runtime.g", Path: "lockedm"},
	{Struct: "runtime.g", Path: "parentGoid", Since: 21},
	{Struct: "runtime.g", Path: "gopc"},
	{Struct: "runtime.g", Path: "startpc"},
	{Struct: "runtime.g", Path: "waiting"},
	{Struct: "runtime.g", Path: "labels"},
	{Struct: "runtime.g", Path: "coroarg", Since: 22},
	{Struct: "runtime.g", Path: "coroexit", Since: 22},
	{Struct: "runtime.m", Path: "g0"},
	{Struct: "runtime.m", Path: "procid"},
	{Struct: "runtime.m", Path: "curg"},
	{Struct: "runtime.m", Path: "p"},
	{Struct: "runtime.m", Path: "oldp"},
	{Struct: "runtime.m", Path: "id"},
	{Struct: "runtime.m", Path: "blocked"},
	{Struct: "runtime.m", Path: "syscalltick"},
	{Struct: "runtime.p", Path: "id"},
	{Struct: "runtime.sudog", Path: "g"},
	{Struct: "runtime.sudog", Path: "next"},
	{Struct: "runtime.sudog", Path: "elem", Until: 25},
	{Struct: "runtime.sudog", Path: "elem.vu", Since: 26}, // the integer half of a pointer and its copy
	{Struct: "runtime.sudog", Path: "waitlink"},
	{Struct: "runtime.sudog", Path: "isSelect"},
	{Struct: "runtime.sudog", Path: "c", Until: 25},
	{Struct: "runtime.sudog", Path: "c.maybeTraceablePtr.vu", Since: 26},
	{Struct: "runtime.hchan", Path: "qcount"},
	{Struct: "runtime.hchan", Path: "dataqsiz"},
	{Struct: "runtime.hchan", Path: "closed"},
	{Struct: "runtime.hchan", Path: "elemtype"},
	{Struct: "runtime.hchan", Path: "timer", Since: 23},
	{Struct: "runtime.hchan", Path: "recvq.first"},
	{Struct: "runtime.hchan", Path: "sendq.first"},
}

// Fields lists the fields that a runtime of the given version must have. The
// caller may keep and change the slice.
func Fields(v Version) []Field {
	out := make([]Field, 0, len(fields))
	for _, f := range fields {
		if v.Minor >= f.Since && (f.Until == 0 || v.Minor <= f.Until) {
			out = append(out, f)
		}
	}
	return out
}
