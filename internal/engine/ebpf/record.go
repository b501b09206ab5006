package ebpf

import (
	"encoding/binary"

	"gopherscope/internal/engine/probes"
	"gopherscope/internal/goruntime"
)

// recordSize is sizeof(struct record) in bpf/event.h.
const recordSize = 48

// stackRecordSize is sizeof(struct stack_record): a record with the key of a stack
// behind it.
const stackRecordSize = recordSize + 8

// record is struct record of bpf/event.h, decoded. The last eight bytes have
// two readings, told apart by kind.
type record struct {
	kind  gtraceKind
	site  uint8
	p     int16
	tid   uint32
	time  uint64
	goid  uint64
	other uint64
	tgid  uint32
	m     uint32

	from, to, reason uint8  // KIND_CHANGE, KIND_ATTEMPT, KIND_SYSCALL
	sp               uint32 // KIND_SYSCALL, KIND_RETURN
	gopc, startpc    int32  // KIND_BIRTH, KIND_BIRTH_PARKED

	stack uint64 // key of the stack; 0 if there is none
}

// decode reads b, which has recordSize or stackRecordSize bytes; anything else is
// an internal error that the caller reports.
func (r *record) decode(b []byte) bool {
	le := binary.LittleEndian
	switch len(b) {
	case recordSize:
		r.stack = 0
	case stackRecordSize:
		r.stack = le.Uint64(b[recordSize:])
	default:
		return false
	}
	r.kind = gtraceKind(b[0])
	r.site = b[1]
	r.p = int16(le.Uint16(b[2:]))
	r.tid = le.Uint32(b[4:])
	r.time = le.Uint64(b[8:])
	r.goid = le.Uint64(b[16:])
	r.other = le.Uint64(b[24:])
	r.tgid = le.Uint32(b[32:])
	r.m = le.Uint32(b[36:])
	r.from, r.to, r.reason = b[40], b[41], b[42]
	r.sp = le.Uint32(b[44:])
	r.gopc = int32(le.Uint32(b[40:]))
	r.startpc = int32(le.Uint32(b[44:]))
	return true
}

// general is the record as the sequencer takes it. sites is the plan by which the
// programs were attached.
func (r *record) general(sites []probes.Site) probes.Record {
	g := probes.Record{
		Kind: probes.Kind(r.kind), Site: r.site, P: int32(r.p), TID: r.tid, PID: r.tgid,
		Time: int64(r.time), GoID: r.goid, Other: r.other, M: int64(r.m),
	}
	if r.kind != gtraceKindKIND_BIRTH && r.kind != gtraceKindKIND_BIRTH_PARKED {
		g.From, g.To, g.Reason, g.SP = goruntime.Status(r.from), goruntime.Status(r.to), r.reason, r.sp
		return g
	}
	pc := sites[r.site].PC
	if r.gopc != 0 {
		g.GoPC = pc + uint64(int64(r.gopc))
	}
	if r.startpc != 0 {
		g.StartPC = pc + uint64(int64(r.startpc))
	}
	return g
}
