package recording

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"reflect"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"

	"gopherscope/internal/event"
)

// blocks lists where the blocks of a recording begin, and the end of the last one.
func blocks(tb testing.TB, file []byte) (offsets []int, headers []blockHeader) {
	tb.Helper()
	for at := headerLen; at < len(file)-trailerLen; {
		var h blockHeader
		if err := h.parse(file[at:]); err != nil {
			tb.Fatal(err)
		}
		offsets, headers = append(offsets, at), append(headers, h)
		at += blockHeaderLen + int(h.stored)
	}
	return append(offsets, len(file)-trailerLen), headers
}

// slow is a trace with a block each second.
func slow() *trace {
	tr := random(8, 130)
	offset := tr.steps[0].offset
	for i := range tr.steps {
		s := &tr.steps[i]
		s.offset = offset
		if s.event == nil {
			continue
		}
		s.event.Time = begin + int64(i)*25e6
	}
	var steps []step
	for i, s := range tr.steps {
		if s.event != nil {
			steps = append(steps, s)
		}
		if i%2 == 1 {
			steps = append(steps, step{now: begin + int64(i)*25e6 + 1, offset: offset})
		}
	}
	tr.steps = steps
	return tr
}

// TestCut cuts a recording at every length. What opens is what was written up to the last
// whole block, and it is known to be cut.
func TestCut(t *testing.T) {
	want := slow()
	file := want.record(t, nil)
	offsets, headers := blocks(t, file)
	if len(headers) < 5 {
		t.Fatalf("%d blocks", len(headers))
	}
	for n := range file {
		whole := 0
		for i, h := range headers {
			if h.kind == blockEvents && offsets[i+1] <= n {
				whole += int(h.events)
			}
		}
		r, err := NewReader(bytes.NewReader(file[:n]))
		if n < offsets[1] {
			if !errors.Is(err, ErrEmpty) {
				t.Fatalf("the first %d bytes: %v", n, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("the first %d bytes: %v", n, err)
		}
		got, err := play(t, r)
		if err != nil || r.Events() != uint64(whole) || got.events() != whole || r.Complete() != (n >= offsets[len(offsets)-1]) {
			t.Fatalf("the first %d bytes: %v, %d events, want %d, complete %v", n, err, r.Events(), whole, r.Complete())
		}
		prefix(t, got, want)
		if whole > 0 && got.steps[len(got.steps)-1].event != nil {
			t.Fatalf("the first %d bytes: no tick comes last", n)
		}
	}
}

// prefix wants the events to be the first ones that were recorded.
func prefix(tb testing.TB, got, want *trace) {
	tb.Helper()
	recorded := emitted(want)
	for i, s := range emitted(got) {
		if i == len(recorded) || !reflect.DeepEqual(s.event, recorded[i].event) {
			tb.Fatalf("event %d is\n%s\nwant that of %d recorded", i, s.text(), len(recorded))
		}
	}
}

// emitted are the events of every kind.
func emitted(t *trace) []step {
	return slices.DeleteFunc(slices.Clone(t.steps), func(s step) bool { return s.event == nil })
}

// onlyEvents are the steps that the headers of blocks count.
func onlyEvents(t *trace) []step {
	return slices.DeleteFunc(slices.Clone(t.steps), func(s step) bool { return s.event == nil || s.event.Kind == event.Labels })
}

// TestDamage changes each byte of a recording. No event comes out that was not recorded,
// and what is missing is told.
func TestDamage(t *testing.T) {
	want := slow()
	file := want.record(t, nil)
	last := len(file) - trailerLen
	for at := range file {
		bad := bytes.Clone(file)
		bad[at] ^= 1 << (at % 8)
		r, err := NewReader(bytes.NewReader(bad))
		var damage *DamageError
		if err == nil {
			var got *trace
			got, err = play(t, r)
			prefix(t, got, want)
			if at < last && err == nil || at >= last && (err != nil || !r.Complete()) {
				t.Fatalf("byte %d of %d changed: %v, %d events", at, len(file), err, got.events())
			}
			if err != nil && (!errors.As(err, &damage) || damage.Offset > int64(at) || damage.Events != uint64(got.events())) {
				t.Fatalf("byte %d changed: %v after %d events", at, err, got.events())
			}
			continue
		}
		if !errors.Is(err, ErrNotRecording) && !errors.As(err, &damage) {
			t.Fatalf("byte %d changed: %v", at, err)
		}
	}
}

// version makes the header say another version.
func version(file []byte, major, minor uint16) []byte {
	file = bytes.Clone(file)
	b := file[len(magic):]
	binary.LittleEndian.PutUint16(b, major)
	binary.LittleEndian.PutUint16(b[2:], minor)
	binary.LittleEndian.PutUint32(b[4:], checksum(file[:headerLen-4]))
	return file
}

func TestVersions(t *testing.T) {
	want := slow()
	file := want.record(t, nil)
	var newer *VersionError
	if _, err := NewReader(bytes.NewReader(version(file, major+1, 3))); !errors.As(err, &newer) || newer.Major != major+1 || newer.Minor != 3 {
		t.Errorf("a newer major version: %v", err)
	}
	// A newer minor version has blocks and sections that this one does not know.
	offsets, headers := blocks(t, file)
	next := version(file[:headerLen], major, minor+1)
	w := Writer{dst: io.Discard, zstd: newCompressor(t)}
	for i, h := range headers {
		payload, err := newDecompressor(t).DecodeAll(file[offsets[i]+blockHeaderLen:offsets[i+1]], nil)
		if err != nil {
			t.Fatal(err)
		}
		w.payload = appendSection(payload, 100, []byte("what comes later"))
		w.buf = w.buf[:0]
		if err := w.block(h); err != nil {
			t.Fatal(err)
		}
		next = append(next, w.buf...)
		unknown := blockHeader{kind: 77, stored: 5, raw: 1 << 31, events: 1 << 30}
		b := make([]byte, blockHeaderLen+5)
		unknown.put(b)
		next = append(next, b...)
	}
	r := open(t, next)
	got, err := play(t, r)
	if err != nil || !r.Complete() {
		t.Fatalf("a newer minor version: %v, complete %v", err, r.Complete())
	}
	same(t, got.steps, want.steps)
	for _, text := range []string{"", "\x89", "\x89gsco"} {
		if _, err := NewReader(bytes.NewReader([]byte(text))); !errors.Is(err, ErrEmpty) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"{}", "\x89gscope\r\nmore", "\x7fELF and so on, and so on"} {
		if _, err := NewReader(bytes.NewReader([]byte(text))); !errors.Is(err, ErrNotRecording) || Looks([]byte(text)) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestHostile has blocks whose checksum is right and whose content is not.
func TestHostile(t *testing.T) {
	tr := random(9, 300)
	file := tr.record(t, nil)
	offsets, headers := blocks(t, file)
	payload, err := newDecompressor(t).DecodeAll(file[offsets[1]+blockHeaderLen:offsets[2]], nil)
	if err != nil {
		t.Fatal(err)
	}
	refused, compressor := 0, newCompressor(t)
	for at := 0; at < len(payload); at += 7 {
		bad := bytes.Clone(payload)
		bad[at] ^= 0x41
		w := Writer{dst: io.Discard, zstd: compressor, payload: bad}
		if err := w.block(headers[1]); err != nil {
			t.Fatal(err)
		}
		r := open(t, append(bytes.Clone(file[:offsets[1]]), w.buf...))
		var damage *DamageError
		if _, err := play(t, r); errors.As(err, &damage) {
			refused++
		} else if err != nil {
			t.Fatalf("byte %d: %v", at, err)
		}
		// The rest is another trace, which nobody can know to be wrong.
	}
	if refused < len(payload)/140 {
		t.Errorf("%d of %d changed bytes were noticed", refused, len(payload))
	}
	for name, h := range map[string]blockHeader{
		"a length that is not there": {kind: blockEvents, stored: maxStored, raw: 1},
		"a length beyond the limit":  {kind: blockEvents, stored: maxStored + 1, raw: 1},
		"too large when unpacked":    {kind: blockEvents, raw: maxRaw + 1},
		"too many events":            {kind: blockEvents, events: maxEvents + 1},
	} {
		b := make([]byte, blockHeaderLen)
		h.put(b)
		r := open(t, append(bytes.Clone(file[:offsets[1]]), b...))
		if got, _ := play(t, r); got.events() != 0 || r.Complete() {
			t.Errorf("%s: %d events", name, got.events())
		}
	}
}

// TestBomb has a block that says that it is small and unpacks to far more.
func TestBomb(t *testing.T) {
	w := Writer{dst: io.Discard, zstd: newCompressor(t)}
	w.buf = w.zstd.EncodeAll(make([]byte, 1<<26), make([]byte, blockHeaderLen))
	stored := w.buf[blockHeaderLen:]
	h := blockHeader{kind: blockEvents, raw: 1000, stored: uint32(len(stored)), sum: checksum(stored)}
	h.put(w.buf)
	file := random(1, 10).record(t, nil)
	offsets, _ := blocks(t, file)
	r := open(t, append(file[:offsets[1]:offsets[1]], w.buf...))
	var damage *DamageError
	if _, err := play(t, r); !errors.As(err, &damage) {
		t.Errorf("%v", err)
	}
	if cap(r.content) > maxRaw+1<<20 {
		t.Errorf("%d bytes were unpacked", cap(r.content))
	}
}

// FuzzReader gives the reader files with arbitrary bytes, whose checksums are made
// right first.
func FuzzReader(f *testing.F) {
	f.Add(random(1, 50).record(f, nil))
	f.Add(slow().record(f, nil))
	golden, err := os.ReadFile("testdata/v1.0.gscope")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := NewReader(bytes.NewReader(repair(file)))
		if err != nil {
			return
		}
		defer r.Close()
		play(t, r)
	})
}

// repair makes the checksums of a file right.
func repair(file []byte) []byte {
	file = bytes.Clone(file)
	if len(file) < headerLen {
		return file
	}
	binary.LittleEndian.PutUint32(file[headerLen-4:], checksum(file[:headerLen-4]))
	for rest := file[headerLen:]; len(rest) >= blockHeaderLen; {
		n := blockHeaderLen + uint64(binary.LittleEndian.Uint32(rest[8:]))
		if n <= uint64(len(rest)) {
			binary.LittleEndian.PutUint32(rest[20:], checksum(rest[blockHeaderLen:n]))
		}
		binary.LittleEndian.PutUint32(rest[44:], checksum(rest[:44]))
		rest = rest[min(n, uint64(len(rest))):]
	}
	return file
}

// FuzzBlock gives the decoder the content of a block. What it takes must come out the same
// after it was recorded again.
func FuzzBlock(f *testing.F) {
	for _, tr := range []*trace{random(1, 30), slow()} {
		file := tr.record(f, nil)
		offsets, headers := blocks(f, file)
		payload, err := newDecompressor(f).DecodeAll(file[offsets[1]+blockHeaderLen:offsets[2]], nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(headers[1].events, payload)
	}
	head := (&trace{}).record(f, nil)
	offsets, _ := blocks(f, head)
	head = head[:offsets[1]]
	compressor := newCompressor(f)
	f.Fuzz(func(t *testing.T, events uint32, payload []byte) {
		w := Writer{dst: io.Discard, zstd: compressor, payload: payload}
		if len(payload) > maxRaw || w.block(blockHeader{kind: blockEvents, events: events}) != nil {
			return
		}
		r := open(t, append(bytes.Clone(head), w.buf...))
		got, err := play(t, r)
		if err != nil || got.events() > 1000 {
			return
		}
		got.info.Wall = r.dec.offset // as the block begins
		again, err := play(t, open(t, got.record(t, nil)))
		if err != nil {
			t.Fatal(err)
		}
		same(t, again.steps, got.steps)
		if !reflect.DeepEqual(again.stacks, got.stacks) || again.totals != got.totals {
			t.Fatalf("%v, %+v\nwant %v, %+v", again.stacks, again.totals, got.stacks, got.totals)
		}
	})
}

func newCompressor(tb testing.TB) *zstd.Encoder {
	tb.Helper()
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { z.Close() })
	return z
}

func newDecompressor(tb testing.TB) *zstd.Decoder {
	tb.Helper()
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(z.Close)
	return z
}
