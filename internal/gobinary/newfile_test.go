package gobinary

import (
	"bytes"
	"encoding/binary"
	"os"
	"runtime"
	"testing"

	"gopherscope/internal/testenv"
)

// maxFuzzAlloc bounds what may be allocated for one file of some 1.5 MB, in
// bytes: all that [use] does, most of it buffers of tables gone through.
const maxFuzzAlloc = 256 << 20

// FuzzNewFile changes real executables where they are read: no content of a file
// may make the reader panic, hang or allocate without bound.
func FuzzNewFile(f *testing.F) {
	var seeds []fuzzSeed
	for _, b := range []testenv.Build{
		{Go: "1.18", Stripped: true},
		{Go: "1.25", PIE: true, Stripped: true},
		{Go: "1.27", Stripped: true},
		{Go: "1.27", GOARCH: "arm64", Stripped: true},
	} {
		seeds = append(seeds, newFuzzSeed(f, testenv.BuildTarget(f, "idle", b)))
	}
	f.Add([]byte{}, uint8(0), uint32(0))
	f.Add([]byte{}, uint8(2), uint32(1_000_000))
	for i := range seeds[0].places { // one changed word in each place
		f.Add(append([]byte{byte(i) | 2<<6, 16, 0, 0}, bytes.Repeat([]byte{0xff}, 8)...), uint8(i), uint32(0))
		f.Add(append([]byte{byte(i) | 3<<6, 8, 0, 0}, 0, 0, 0, 1, 0, 0, 0, 0), uint8(i), uint32(0))
	}
	f.Fuzz(func(t *testing.T, changes []byte, which uint8, cut uint32) {
		data := seeds[int(which)%len(seeds)].changed(changes)
		if cut != 0 {
			data = data[:int(cut)%len(data)]
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if bin, err := NewFile(bytes.NewReader(data), int64(len(data))); err == nil {
			use(bin)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > maxFuzzAlloc {
			t.Errorf("allocated %d bytes for a file of %d", n, len(data))
		}
	})
}

// A fuzzSeed is an executable, and the places in it that the reader looks at.
type fuzzSeed struct {
	data   []byte
	places []place
}

// A place is so many bytes of a file.
type place struct{ off, size uint64 }

func newFuzzSeed(tb testing.TB, path string) fuzzSeed {
	tb.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	f := mustNew(tb, data)
	g, err := f.Struct("runtime.g")
	if err != nil || len(g.Fields) == 0 {
		tb.Fatal(err)
	}
	execute := mustFunc(tb, f, "runtime.execute")
	lo, hi := f.typeRange()
	seed := fuzzSeed{data: data, places: []place{{0, 64}, {64, 56 * 16}, {0, uint64(len(data))}}}
	for _, r := range []region{
		{f.table.addr, pclnSize},
		{f.module.addr, 600},
		f.table.names, f.table.cus, f.table.files, f.table.pcs, f.table.funcs,
		{f.table.funcs.addr, uint64(f.table.nfunc) * 8},
		{execute.record, 128},
		{execute.Entry, execute.End - execute.Entry},
		{f.module.gofunc, 4096},
		{lo, hi - lo},
	} {
		off, ok := f.FileOffset(r.addr)
		if !ok {
			tb.Fatalf("%s: %#x is not in the file", path, r.addr)
		}
		seed.places = append(seed.places, place{off, r.size})
	}
	return seed
}

// changed is the executable with changes, of 12 bytes each: the place, with the
// width as a power of two in the upper two bits; the offset there, in 3 bytes;
// the new value.
func (s fuzzSeed) changed(changes []byte) []byte {
	data := bytes.Clone(s.data)
	for ; len(changes) >= 12; changes = changes[12:] {
		p := s.places[int(changes[0]&63)%len(s.places)]
		off := uint64(binary.LittleEndian.Uint32(changes)>>8)%p.size + p.off
		if off < uint64(len(data)) {
			copy(data[off:], changes[4:4+1<<(changes[0]>>6)])
		}
	}
	return data
}
