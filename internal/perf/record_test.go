package perf

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"gopherscope/internal/snapshot"
)

// ringBytes is a ring that was written to by hand, as the kernel does it.
type ringBytes struct {
	data       []byte
	tail, head uint64
}

func newRing(size int, at uint64) *ringBytes {
	return &ringBytes{data: bytes.Repeat([]byte{0xee}, size), tail: at, head: at}
}

// put writes a record, round the end if need be.
func (r *ringBytes) put(kind uint32, body []byte) {
	rec := binary.LittleEndian.AppendUint32(nil, kind)
	rec = binary.LittleEndian.AppendUint16(rec, 2) // PERF_RECORD_MISC_USER
	rec = binary.LittleEndian.AppendUint16(rec, uint16(headerSize+len(body)))
	for _, b := range append(rec, body...) {
		r.data[r.head%uint64(len(r.data))] = b
		r.head++
	}
}

func words(ws ...uint64) []byte {
	var out []byte
	for _, w := range ws {
		out = binary.LittleEndian.AppendUint64(out, w)
	}
	return out
}

// sampleBody is the body of a sample of thread 7 of process 5, with register i
// being 100+i and a stack of size bytes of which copied are good.
func sampleBody(abi uint64, size, copied int) []byte {
	out := words(7<<32|5, abi)
	if abi != 0 {
		for i := range uint64(nUserRegs) {
			out = append(out, words(100+i)...)
		}
	}
	out = append(out, words(uint64(size))...)
	for i := range size {
		out = append(out, byte(i))
	}
	if size > 0 {
		out = append(out, words(uint64(copied))...)
	}
	return out
}

func TestRing(t *testing.T) {
	for at := uint64(0); at < 512; at += 8 { // so that each word of them is at the end once
		r := newRing(512, 1<<32+at)
		r.put(unix.PERF_RECORD_LOST, words(1, 12))
		r.put(unix.PERF_RECORD_SAMPLE, sampleBody(abi64, 64, 40))
		r.put(unix.PERF_RECORD_THROTTLE, words(1, 2, 3))
		r.put(unix.PERF_RECORD_SAMPLE, sampleBody(abi64, 8, 8))
		var kinds []uint32
		var stacks []int
		for r.tail != r.head {
			rec, next, err := nextRecord(r.data, r.tail, r.head)
			if err != nil {
				t.Fatal(err)
			}
			r.tail = next
			kinds = append(kinds, rec.kind)
			if rec.kind != unix.PERF_RECORD_SAMPLE {
				continue
			}
			s, ok := decodeSample(rec.body)
			if !ok {
				t.Fatalf("at %d: the sample is not read", at)
			}
			stacks = append(stacks, len(s.Stack))
			for i, b := range s.Stack {
				if b != byte(i) {
					t.Fatalf("at %d: byte %d of the stack is %d", at, i, b)
				}
			}
			var want snapshot.Sample
			var regs [nUserRegs]uint64
			for i := range regs {
				regs[i] = 100 + uint64(i)
			}
			setRegs(&want, regs)
			want.TID, want.Stack = 7, s.Stack
			if s.TID != 7 || s.PC != want.PC || s.SP != want.SP || s.BP != want.BP || s.G != want.G || s.PC == 0 || s.G == s.BP {
				t.Fatalf("at %d: got %+v, want %+v", at, s, want)
			}
		}
		if len(kinds) != 4 || len(stacks) != 2 || stacks[0] != 40 || stacks[1] != 8 {
			t.Fatalf("at %d: records %v, stacks of %v bytes", at, kinds, stacks)
		}
	}
}

func TestBrokenRing(t *testing.T) {
	whole := newRing(512, 0)
	whole.put(unix.PERF_RECORD_SAMPLE, sampleBody(abi64, 64, 64))
	short := newRing(512, 0)
	short.put(unix.PERF_RECORD_LOST, nil)
	binary.LittleEndian.PutUint16(short.data[6:], 7)
	for name, r := range map[string]*ringBytes{
		"a head before the tail":   {data: whole.data, tail: 8, head: 0},
		"more than the ring":       {data: whole.data, tail: 0, head: 513},
		"no whole header":          {data: whole.data, tail: 0, head: 7},
		"a record beyond the head": {data: whole.data, tail: 0, head: whole.head - 8},
		"a record of no length":    short,
	} {
		if rec, next, err := nextRecord(r.data, r.tail, r.head); err == nil {
			t.Errorf("%s: record %+v, then %d", name, rec, next)
		}
	}
}

func TestBrokenSample(t *testing.T) {
	if s, ok := decodeSample(sampleBody(abi64, 0, 0)); !ok || len(s.Stack) != 0 {
		t.Errorf("no stack: %+v, %v", s, ok)
	}
	if s, ok := decodeSample(sampleBody(abi64, 16, 0)); !ok || len(s.Stack) != 0 {
		t.Errorf("nothing copied: %+v, %v", s, ok)
	}
	if s, ok := decodeSample(sampleBody(0, 16, 16)); ok {
		t.Errorf("no registers: %+v", s)
	}
	if s, ok := decodeSample(sampleBody(1, 16, 16)); ok {
		t.Errorf("registers of a 32-bit program: %+v", s)
	}
	if s, ok := decodeSample(sampleBody(abi64, 16, 24)); ok {
		t.Errorf("more copied than there is: %+v", s)
	}
	whole := sampleBody(abi64, 64, 64)
	for n := range whole {
		if s, ok := decodeSample(whole[:n]); ok {
			t.Errorf("cut after %d bytes: %+v", n, s)
		}
	}
}

func TestRingSize(t *testing.T) {
	for _, test := range []struct{ stack, page, want int }{
		{8, 4096, 4096}, {4096, 4096, 8192}, {4096 - fixedSize - 1, 4096, 4096}, {4096 - fixedSize, 4096, 8192},
		{MaxStack, 4096, 1 << 16}, {MaxStack, 1 << 16, 1 << 16}, {8, 1 << 16, 1 << 16},
	} {
		if got := ringSize(test.stack, test.page); got != test.want {
			t.Errorf("%d bytes of stack, pages of %d: a ring of %d, want %d", test.stack, test.page, got, test.want)
		}
	}
}

// FuzzRing reads any bytes as a ring: each record must lie within the ring, and a
// stack within its record, and the reading must end.
func FuzzRing(f *testing.F) {
	r := newRing(512, 400)
	r.put(unix.PERF_RECORD_LOST, words(1, 12))
	r.put(unix.PERF_RECORD_SAMPLE, sampleBody(abi64, 64, 40))
	f.Add(r.data, r.tail, r.head)
	f.Fuzz(func(t *testing.T, data []byte, tail, head uint64) {
		size := 1
		for size*2 <= len(data) {
			size *= 2
		}
		if len(data) == 0 {
			return
		}
		data = data[:size]
		read := uint64(0)
		for tail != head {
			rec, next, err := nextRecord(data, tail, head)
			if err != nil {
				return
			}
			if next-tail != uint64(len(rec.body)+headerSize) {
				t.Fatalf("a body of %d bytes from %d to %d", len(rec.body), tail, next)
			}
			if read += next - tail; read > uint64(len(data)) {
				t.Fatalf("%d bytes read of a ring of %d", read, len(data))
			}
			if s, ok := decodeSample(rec.body); ok && len(s.Stack)+fixedSize-headerSize-8 > len(rec.body) {
				t.Fatalf("a stack of %d bytes in a body of %d", len(s.Stack), len(rec.body))
			}
			tail = next
		}
	})
}
