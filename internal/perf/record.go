package perf

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"gopherscope/internal/snapshot"
)

// sampleType is what each record has, in the order in which the fields follow
// (include/uapi/linux/perf_event.h, PERF_RECORD_SAMPLE):
//
//	u32 pid, tid
//	u64 abi, and unless that is NONE
//	u64 regs[nUserRegs]
//	u64 size, and unless that is 0
//	u8  stack[size]
//	u64 dyn_size: how much of stack was really copied
const sampleType = unix.PERF_SAMPLE_TID | unix.PERF_SAMPLE_REGS_USER | unix.PERF_SAMPLE_STACK_USER

const (
	headerSize = 8                                     // struct perf_event_header: u32 type, u16 misc, u16 size
	fixedSize  = headerSize + 8 + 8 + 8*nUserRegs + 16 // of a sample, all but its stack
	maxRecord  = 1<<16 - 1                             // the header's size has 16 bits
	abi64      = 2                                     // enum perf_sample_regs_abi, PERF_SAMPLE_REGS_ABI_64
)

// record is one record of a ring.
type record struct {
	kind uint32 // PERF_RECORD_SAMPLE and so on
	body []byte // without the header
}

// nextRecord is the record at tail in data, whose length is a power of two and
// which was filled up to head; positions count on and on (struct
// perf_event_mmap_page, data_head). next is where the one after it begins. The
// body is data's own memory, or a copy when the record goes round the ring's
// end.
func nextRecord(data []byte, tail, head uint64) (r record, next uint64, err error) {
	have := head - tail
	if have > uint64(len(data)) || have < headerSize {
		return record{}, 0, fmt.Errorf("perf ring: %d bytes from %d to %d", len(data), tail, head)
	}
	header := span(data, tail, headerSize)
	size := uint64(binary.LittleEndian.Uint16(header[6:]))
	if size < headerSize || size > have {
		return record{}, 0, fmt.Errorf("perf ring: a record of %d bytes where there are %d", size, have)
	}
	r.kind = binary.LittleEndian.Uint32(header)
	r.body = span(data, tail+headerSize, size-headerSize)
	return r, tail + size, nil
}

// span are the n bytes at a position of a ring, which has as many.
func span(data []byte, at, n uint64) []byte {
	i := at & uint64(len(data)-1)
	if i+n <= uint64(len(data)) {
		return data[i : i+n : i+n]
	}
	out := make([]byte, 0, n)
	out = append(out, data[i:]...)
	return append(out, data[:n-uint64(len(out))]...)
}

// decodeSample is what the body of a PERF_RECORD_SAMPLE says. ok is false if it
// has no registers of a 64-bit program, as for a thread that is ending, or is cut.
// Stack is a part of body.
func decodeSample(body []byte) (s snapshot.Sample, ok bool) {
	word := func() uint64 {
		if len(body) < 8 {
			body, ok = nil, false
			return 0
		}
		v := binary.LittleEndian.Uint64(body)
		body = body[8:]
		return v
	}
	ok = true
	ids := word()
	s.PID, s.TID = int(int32(ids)), int(int32(ids>>32))
	if abi := word(); abi != abi64 {
		return snapshot.Sample{}, false
	}
	var regs [nUserRegs]uint64
	for i := range regs {
		regs[i] = word()
	}
	setRegs(&s, regs)
	if size := word(); size > 0 {
		if size > uint64(len(body)) {
			return snapshot.Sample{}, false
		}
		stack := body[:size:size]
		body = body[size:]
		copied := word()
		if copied > size {
			return snapshot.Sample{}, false
		}
		s.Stack = stack[:copied:copied]
	}
	if !ok {
		return snapshot.Sample{}, false
	}
	return s, true
}
