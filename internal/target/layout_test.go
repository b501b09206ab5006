package target_test

import (
	"encoding/binary"
	"errors"
	"os"
	"testing"

	"gopherscope/internal/target"
	"gopherscope/internal/testenv"
)

// TestForgedOffset moves g.labels in the type descriptor of a binary to where a
// word of the runtime.g that is read would not be in it, or not be aligned. It has
// the type of g.waitreason, one byte, which would fit.
func TestForgedOffset(t *testing.T) {
	path := copied(t, testenv.BuildTarget(t, "idle", testenv.Build{Go: "1.27", Stripped: true}))
	honest, err := target.OpenBinary(path)
	if err != nil {
		t.Fatal(err)
	}
	defer honest.Close()
	g := honest.Layout.G
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at, small := fieldOffset(t, data, uint64(g.Labels)), fieldOffset(t, data, uint64(g.WaitReason))
	copy(data[at-8:at], data[small-8:small])
	for _, tt := range []struct {
		off uint32
		ok  bool
	}{
		{g.Labels, true}, {g.Size - 8, true}, {g.Size - 7, false}, {g.Size - 4, false}, {g.Size - 1, false},
		{g.Labels + 4, false},
	} {
		binary.LittleEndian.PutUint64(data[at:], uint64(tt.off))
		if err := os.WriteFile(path, data, 0o700); err != nil {
			t.Fatal(err)
		}
		forged, err := target.OpenBinary(path)
		switch {
		case tt.ok && err != nil, !tt.ok && !errors.Is(err, target.ErrLayout):
			t.Errorf("g.labels at %d of %d bytes: %v", tt.off, g.Size, err)
		}
		if err == nil {
			forged.Close()
		}
	}
}

// fieldOffset is where in a binary the type descriptor of runtime.g has the offset
// of the field at off: the third word of three of each field (internal/abi/type.go,
// StructField). g begins with stack, two stack guards, _panic, _defer, m.
func fieldOffset(t *testing.T, data []byte, off uint64) int {
	t.Helper()
	word := func(at int) uint64 { return binary.LittleEndian.Uint64(data[at:]) }
	begins := []uint64{0, 16, 24, 32, 40, 48, 56}
	for at := 0; at+24*64 < len(data); at += 8 {
		i := 0
		for i < len(begins) && word(at+24*i) == begins[i] {
			i++
		}
		for k := i; i == len(begins) && k < 64 && word(at+24*k) > word(at+24*(k-1)); k++ {
			if word(at+24*k) == off {
				return at + 24*k
			}
		}
	}
	t.Fatal("the type descriptor of runtime.g was not found")
	return 0
}
