package target

import (
	"encoding/binary"
	"os"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"gopherscope/internal/goruntime"
	"gopherscope/internal/process"
)

// TestCountAbsurdLength counts in a list that claims as many entries as are
// believed and is a mapping of zeros, but for three goroutines: two live, one dead.
func TestCountAbsurdLength(t *testing.T) {
	p, err := process.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	list, page := mapped(t, 8*maxGoroutines), mapped(t, 4096)
	put := binary.LittleEndian.PutUint64
	put(page[0:], addrOf(list))
	put(page[8:], maxGoroutines)
	for i, g := range []struct {
		at     int
		status goruntime.Status
	}{{5, goruntime.Waiting}, {allgsPiece, goruntime.Dead}, {maxGoroutines - 1, goruntime.Running}} {
		put(page[64*(i+1):], uint64(g.status))
		put(list[8*g.at:], addrOf(page)+64*uint64(i+1))
	}
	tgt := Target{Mem: p}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n, err := tgt.countLive(addrOf(page), 0)
	runtime.ReadMemStats(&after)
	if n != 2 || err != nil {
		t.Errorf("counted %d, %v, want 2", n, err)
	}
	if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; mb > 8 {
		t.Errorf("allocated %d MB", mb)
	}
}

// TestFits has structs of sizes that end within a field.
func TestFits(t *testing.T) {
	for _, tt := range []struct {
		off, width, size uint64
		want             bool
	}{
		{0, 8, 8, true}, {448, 8, 456, true}, {448, 8, 455, false}, {456, 1, 456, false}, {455, 1, 456, true},
		{452, 4, 456, true}, {452, 4, 455, false}, {454, 4, 460, false}, {^uint64(0) - 7, 8, 456, false}, {0, 8, 0, false},
	} {
		if got := fits(tt.off, tt.width, tt.size); got != tt.want {
			t.Errorf("%d bytes at %d of %d: %v", tt.width, tt.off, tt.size, got)
		}
	}
}

// mapped are n bytes of zeros that take no memory before they are written.
func mapped(t *testing.T, n int) []byte {
	t.Helper()
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(b) })
	return b
}

func addrOf(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(&b[0]))) }
