package inline

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
)

// someProgram is one with every kind of hook and span.
func someProgram() *program {
	return &program{
		base: 0x7f00_0000_0000,
		hooks: []hook{
			{at: 0x40_1001, orig: []byte{1, 2, 3, 4}, patch: []byte{5, 6, 7, 8}},
			{at: math.MaxUint64, orig: bytes.Repeat([]byte{0xcc}, 19), patch: bytes.Repeat([]byte{0}, 19)},
		},
		spans: []span{{lo: 0x7f00_0000_4000, hi: 0x7f00_0000_4100, to: 0x40_2000, saved: true}, {lo: 0x7f00_0000_4100, hi: 0x7f00_0000_4105, to: 1}},
	}
}

// pages is a manifest as it lies in the process.
func pages(t testing.TB, m *manifest) []byte {
	t.Helper()
	text, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	return append(text, make([]byte, manifestPages*pageSize-len(text))...)
}

// TestManifest: what is written is what is read.
func TestManifest(t *testing.T) {
	p := someProgram()
	m := manifestOf(p, 0x7fff_ffff_f000, 1<<40)
	got, err := decodeManifest(pages(t, m))
	if err != nil || !reflect.DeepEqual(got, m) {
		t.Fatalf("%+v, %v; want %+v", got, err, m)
	}
	if len(got.Hooks) != 2 || got.Hooks[0].At != 0x40_1001 || !bytes.Equal(got.Hooks[1].Orig, p.hooks[1].orig) || !bytes.Equal(got.Hooks[0].Patch, p.hooks[0].patch) {
		t.Errorf("hooks %+v", got.Hooks)
	}
	for pc, want := range map[uint64]place{
		0x7f00_0000_3fff: {}, 0x7f00_0000_4105: {}, 0: {},
		0x7f00_0000_4000: {0x7f00_0000_4000, 0x7f00_0000_4100, 0x40_2000, 1},
		0x7f00_0000_40ff: {0x7f00_0000_4000, 0x7f00_0000_4100, 0x40_2000, 1},
		0x7f00_0000_4100: {0x7f00_0000_4100, 0x7f00_0000_4105, 1, 0},
		0x7f00_0000_4104: {0x7f00_0000_4100, 0x7f00_0000_4105, 1, 0},
	} {
		if at, ok := got.spanAt(pc); at != want || ok != (want != place{}) {
			t.Errorf("%#x is in %#x, %v", pc, at, ok)
		}
	}
}

// TestManifestRoom: the last one that has room is whole, and one more byte is refused.
func TestManifestRoom(t *testing.T) {
	m := &manifest{Hooks: []entry{{Orig: []byte{}, Patch: []byte{}}}}
	empty, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	room := manifestPages*pageSize - len(empty)
	m.Code = uint64(math.Pow10(room % 4)) // as base64 grows by four
	m.Hooks[0].Orig = make([]byte, room/4*3)
	text, err := m.encode()
	if err != nil || len(text) != manifestPages*pageSize {
		t.Fatalf("%d bytes, %v", len(text), err)
	}
	if got, err := decodeManifest(text); err != nil || !reflect.DeepEqual(got.Hooks[0].Orig, m.Hooks[0].Orig) {
		t.Errorf("a full one: %v", err)
	}
	m.Code *= 10
	if _, err := m.encode(); err == nil {
		t.Error("one byte too many is written")
	}
}

// TestManifestLength: no length leads outside, and without one there is nothing.
func TestManifestLength(t *testing.T) {
	good := pages(t, manifestOf(someProgram(), 1, 2))
	n := binary.LittleEndian.Uint64(good)
	for _, length := range []uint64{1, n - 1, n + 1, uint64(len(good)) - lengthBytes, uint64(len(good)) - lengthBytes + 1,
		uint64(len(good)), 1 << 31, 1 << 32, 1 << 63, math.MaxUint64, math.MaxUint64 - lengthBytes + 1} {
		b := bytes.Clone(good)
		binary.LittleEndian.PutUint64(b, length)
		if m, err := decodeManifest(b); !errors.Is(err, errManifest) {
			t.Errorf("length %d of %d: %+v, %v", length, n, m, err)
		}
	}
	for cut := range len(good) {
		if uint64(cut) >= n+lengthBytes {
			break
		}
		if m, err := decodeManifest(good[:cut]); !errors.Is(err, errManifest) {
			t.Fatalf("the first %d bytes: %+v, %v", cut, m, err)
		}
	}
	binary.LittleEndian.PutUint64(good, 0)
	if m, err := decodeManifest(good); err != nil || !reflect.DeepEqual(m, &manifest{}) {
		t.Errorf("without a length: %+v, %v", m, err)
	}
}

// TestManifestText: a text that is no manifest is refused.
func TestManifestText(t *testing.T) {
	for _, text := range []string{
		"null garbage", "{", "[]", `"code"`, `{"code":-1}`, `{"code":1.5}`, `{"code":"1"}`, `{"code":18446744073709551616}`,
		`{"hooks":[{"at":1,"orig":"!","patch":""}]}`, `{"hooks":{}}`, `{"spans":[["1"]]}`, `{"spans":[[-1,0,0,0]]}`,
		strings.Repeat("[", 12000), "\xff\xfe", "{}{}",
	} {
		b := append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
		if m, err := decodeManifest(b); !errors.Is(err, errManifest) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.40q: %+v, %v", text, m, err)
		}
	}
}

// TestHeader: only the very magic, whole, gives an address.
func TestHeader(t *testing.T) {
	good := header(0x1122334455667788)
	if at, err := parseHeader(good); err != nil || at != 0x1122334455667788 {
		t.Errorf("%#x, %v", at, err)
	}
	for i := range magic {
		b := bytes.Clone(good)
		b[i] ^= 1
		if _, err := parseHeader(b); !errors.Is(err, errManifest) {
			t.Errorf("byte %d differs: %v", i, err)
		}
	}
	for n := range len(good) {
		if _, err := parseHeader(good[:n]); !errors.Is(err, errManifest) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if magic[15] != manifestVersion || noRingOffset < len(good) {
		t.Error("the first page of the rings overlaps, or has no version")
	}
}

// FuzzManifest: whatever lies in the pages is refused, or is a manifest that can be written
// again to the same effect.
func FuzzManifest(f *testing.F) {
	good := pages(f, manifestOf(someProgram(), 1, 2))
	f.Add(good[:binary.LittleEndian.Uint64(good)+lengthBytes])
	f.Add([]byte("\x02\x00\x00\x00\x00\x00\x00\x00{}"))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff{}"))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeManifest(b)
		if err != nil {
			if !errors.Is(err, errManifest) || m != nil {
				t.Fatalf("%+v, %v", m, err)
			}
			return
		}
		for _, pc := range []uint64{0, m.Code, math.MaxUint64} {
			if s, ok := m.spanAt(pc); ok && (pc < s[0] || pc >= s[1]) {
				t.Fatalf("%#x is not in %#x", pc, s)
			}
		}
		text, err := m.encode()
		if err != nil {
			return // longer than what was read, as bytes may be spelt in fewer ways
		}
		again, err := decodeManifest(text)
		if err != nil {
			t.Fatal(err)
		}
		was, _ := json.Marshal(m)
		is, _ := json.Marshal(again)
		if !bytes.Equal(was, is) {
			t.Fatalf("%s became %s", was, is)
		}
	})
}
