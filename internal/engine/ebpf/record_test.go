package ebpf

import (
	"encoding/binary"
	"testing"

	"github.com/cilium/ebpf/btf"

	"gopherscope/internal/engine/probes"
)

// The record is decoded by hand; this holds the decoder to the C struct, field
// by field, as the compiler laid it out. Each field is set to a value of its
// own at the offset that the object's BTF gives, and must come out in the Go
// field of that name.
func TestRecordLayout(t *testing.T) {
	spec, err := loadGtrace()
	if err != nil {
		t.Fatal(err)
	}
	var rec *btf.Struct
	if err := spec.Types.TypeByName("record", &rec); err != nil {
		t.Fatal(err)
	}
	if rec.Size != recordSize {
		t.Fatalf("struct record has %d bytes in C, %d in Go", rec.Size, recordSize)
	}
	fields := map[string]func(r *record) uint64{
		"kind":    func(r *record) uint64 { return uint64(r.kind) },
		"site":    func(r *record) uint64 { return uint64(r.site) },
		"p":       func(r *record) uint64 { return uint64(uint16(r.p)) },
		"tid":     func(r *record) uint64 { return uint64(r.tid) },
		"time":    func(r *record) uint64 { return r.time },
		"goid":    func(r *record) uint64 { return r.goid },
		"other":   func(r *record) uint64 { return r.other },
		"tgid":    func(r *record) uint64 { return uint64(r.tgid) },
		"m":       func(r *record) uint64 { return uint64(r.m) },
		"from":    func(r *record) uint64 { return uint64(r.from) },
		"to":      func(r *record) uint64 { return uint64(r.to) },
		"reason":  func(r *record) uint64 { return uint64(r.reason) },
		"pad":     nil,
		"gopc":    func(r *record) uint64 { return uint64(uint32(r.gopc)) },
		"startpc": func(r *record) uint64 { return uint64(uint32(r.startpc)) },
		"sp":      func(r *record) uint64 { return uint64(r.sp) },
	}
	seen := map[string]bool{}
	var walk func(members []btf.Member, base uint32)
	walk = func(members []btf.Member, base uint32) {
		for _, m := range members {
			off := base + m.Offset.Bytes()
			switch typ := btf.UnderlyingType(m.Type).(type) {
			case *btf.Union:
				walk(typ.Members, off)
			case *btf.Struct:
				walk(typ.Members, off)
			default:
				get, ok := fields[m.Name]
				if !ok {
					t.Errorf("field %s of the C struct is not decoded", m.Name)
					continue
				}
				seen[m.Name] = true
				if get == nil {
					continue
				}
				size, err := btf.Sizeof(typ)
				if err != nil {
					t.Fatal(err)
				}
				checkField(t, m.Name, int(off), size, get)
			}
		}
	}
	walk(rec.Members, 0)
	for name := range fields {
		if !seen[name] {
			t.Errorf("field %s is decoded but not in the C struct", name)
		}
	}
}

func checkField(t *testing.T, name string, off, size int, get func(*record) uint64) {
	t.Helper()
	const pattern = 0x8877665544332211
	var b [recordSize + 8]byte
	binary.LittleEndian.PutUint64(b[off:], pattern)
	clear(b[off+size:])
	want := uint64(pattern) & (1<<(8*size) - 1)
	if size == 8 {
		want = pattern
	}
	var r record
	if !r.decode(b[:recordSize]) {
		t.Fatal("decode refuses a whole record")
	}
	if got := get(&r); got != want {
		t.Errorf("field %s at %d: decoded %#x, want %#x", name, off, got, want)
	}
}

func TestRecordSize(t *testing.T) {
	var r record
	for _, n := range []int{0, recordSize - 1, recordSize + 1, stackRecordSize - 1, stackRecordSize + 1} {
		if r.decode(make([]byte, n)) {
			t.Errorf("decode accepts %d bytes", n)
		}
	}
}

// A record with a stack is the same with the stack's key behind it; one without has none,
// whatever was decoded before.
func TestStackRecord(t *testing.T) {
	spec, err := loadGtrace()
	if err != nil {
		t.Fatal(err)
	}
	var with *btf.Struct
	if err := spec.Types.TypeByName("stack_record", &with); err != nil {
		t.Fatal(err)
	}
	if key := with.Members[1]; with.Size != stackRecordSize || with.Members[0].Offset != 0 || key.Name != "stack" || key.Offset.Bytes() != recordSize {
		t.Errorf("struct stack_record has %d bytes, %v", with.Size, with.Members)
	}
	b := make([]byte, stackRecordSize)
	binary.LittleEndian.PutUint64(b[recordSize:], 0x1122334455667788)
	binary.LittleEndian.PutUint64(b[16:], 7)
	var r record
	if !r.decode(b) || r.stack != 0x1122334455667788 || r.goid != 7 {
		t.Errorf("decoded %+v", r)
	}
	if !r.decode(b[:recordSize]) || r.stack != 0 {
		t.Errorf("decoded %+v", r)
	}
}

// The kinds and flags have the same numbers in C and in package probes.
func TestKinds(t *testing.T) {
	for c, general := range map[gtraceKind]probes.Kind{
		gtraceKindKIND_CHANGE:       probes.Change,
		gtraceKindKIND_ATTEMPT:      probes.Attempted,
		gtraceKindKIND_SYSCALL:      probes.Syscall,
		gtraceKindKIND_BIRTH:        probes.Birth,
		gtraceKindKIND_BIRTH_PARKED: probes.BirthParked,
		gtraceKindKIND_EXEC:         probes.Exec,
		gtraceKindKIND_RETURN:       probes.Return,
	} {
		if uint8(c) != uint8(general) {
			t.Errorf("%v is %d in C, %d in Go", c, c, general)
		}
	}
}
