package inline

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"gopherscope/internal/process"
	"gopherscope/internal/target"
)

// leftovers is this process with the mappings that a tracer which was killed would have
// left in it. Nothing leads to them.
type leftovers struct {
	tgt   *target.Target
	rings []byte
	code  []byte
}

func newLeftovers(t *testing.T) *leftovers {
	t.Helper()
	if info, ok := debug.ReadBuildInfo(); ok && strings.Contains(info.GoVersion, "devel") {
		t.Skip("this test's own toolchain is not one that is supported")
	}
	proc, err := process.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proc.Close() })
	l := &leftovers{}
	if l.tgt, err = target.OpenBinary(proc.ExePath()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.tgt.Close() })
	if l.tgt.Bias, err = proc.LoadBias(target.Segments(l.tgt.Bin)); err != nil {
		t.Fatal(err)
	}
	l.tgt.Proc = proc
	fd, err := unix.MemfdCreate(mapName, unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, pageSize); err != nil {
		t.Fatal(err)
	}
	if l.rings, err = unix.Mmap(fd, 0, pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(l.rings) })
	// A page before and one behind, so that the kernel merges it with no other mapping.
	around, err := unix.Mmap(-1, 0, codeBytes+2*pageSize, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(around) })
	l.code = around[pageSize:][:codeBytes]
	return l
}

func address(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(&b[0]))) }

// read is what is made of the pages of a manifest.
func (l *leftovers) read(t *testing.T, pages []byte) (*manifest, error) {
	t.Helper()
	l.protect(t, l.code, unix.PROT_READ|unix.PROT_WRITE)
	clear(l.code)
	copy(l.code, pages)
	l.protect(t, l.code[:controlOffset], unix.PROT_READ|unix.PROT_EXEC)
	return l.readAt(t, header(address(l.code)))
}

func (l *leftovers) protect(t *testing.T, b []byte, prot int) {
	t.Helper()
	if err := unix.Mprotect(b, prot); err != nil {
		t.Fatal(err)
	}
}

func (l *leftovers) readAt(t *testing.T, head []byte) (*manifest, error) {
	t.Helper()
	clear(l.rings)
	copy(l.rings, head)
	maps, err := l.tgt.Proc.Mappings()
	if err != nil {
		t.Fatal(err)
	}
	rings, ok := leftover(maps)
	if !ok || rings.Start != address(l.rings) {
		t.Fatalf("the rings were found at %#x, %v", rings.Start, ok)
	}
	return readManifest(l.tgt, maps, rings)
}

// honest is a manifest that is true, of two changes that nobody made.
func (l *leftovers) honest(t *testing.T) *manifest {
	t.Helper()
	lo, hi := l.tgt.Bin.Text()
	orig, err := l.tgt.Bin.CodeAt(lo+64, 8)
	if err != nil {
		t.Fatal(err)
	}
	last, err := l.tgt.Bin.CodeAt(hi-4, 4)
	if err != nil {
		t.Fatal(err)
	}
	bias, code := l.tgt.Bias, address(l.code)
	return &manifest{
		Code: 1, Rings: 2, RingsLen: 1 << 40, // not believed
		Hooks: []entry{{lo + bias + 64, bytes.Clone(orig), make([]byte, 8)}, {hi + bias - 4, bytes.Clone(last), make([]byte, 4)}},
		Spans: []place{{code + codeOffset, code + codeOffset + 8, lo + bias, 1}, {code + codeOffset + 8, code + codeOffset + 16, hi + bias - 1, 0},
			{code + codeOffset + 16, code + codeOffset + 17, code + codeBytes - 1, 0}},
	}
}

// TestHonestManifest: what is true is believed, but for where the mappings are, which the
// kernel says.
func TestHonestManifest(t *testing.T) {
	l := newLeftovers(t)
	m, err := l.read(t, pages(t, l.honest(t)))
	if err != nil {
		t.Fatal(err)
	}
	if m.Code != address(l.code) || m.Rings != address(l.rings) || m.RingsLen != pageSize || len(m.Hooks) != 2 || len(m.Spans) != 3 {
		t.Errorf("%+v", m)
	}
	if m, err := l.read(t, nil); err != nil || m.Code != address(l.code) || len(m.Hooks) != 0 {
		t.Errorf("an empty one: %+v, %v", m, err)
	}
}

// TestHostileManifest: a manifest that would have anything but the file's own bytes written
// to the program's code, or a thread sent anywhere else, is refused.
func TestHostileManifest(t *testing.T) {
	l := newLeftovers(t)
	lo, hi := l.tgt.Bin.Text()
	lo, hi = lo+l.tgt.Bias, hi+l.tgt.Bias
	code := address(l.code)
	for name, spoil := range map[string]func(m *manifest){
		"other bytes":           func(m *manifest) { m.Hooks[0].Orig[3] ^= 1 },
		"the last byte differs": func(m *manifest) { m.Hooks[1].Orig[3] ^= 0x80 },
		"one byte on":           func(m *manifest) { m.Hooks[0].At++ },
		"before the text":       func(m *manifest) { m.Hooks[0].At = lo - 4 },
		"far after the text":    func(m *manifest) { m.Hooks[1].At = hi + 1<<30 },
		"at 0":                  func(m *manifest) { m.Hooks[0].At = 0 },
		"at the very end":       func(m *manifest) { m.Hooks[0].At = ^uint64(0) },
		"in the code":           func(m *manifest) { m.Hooks[0].At = code },
		"in data": func(m *manifest) {
			m.Hooks[0].At, m.Hooks[0].Orig = address(l.rings), bytes.Clone(l.rings[:8])
		},
		"nothing":             func(m *manifest) { m.Hooks[0].Orig, m.Hooks[0].Patch = nil, nil },
		"less than a patch":   func(m *manifest) { m.Hooks[0].Orig = m.Hooks[0].Orig[:7] },
		"a patch too short":   func(m *manifest) { m.Hooks[0].Patch = m.Hooks[0].Patch[:7] },
		"a thread to 0":       func(m *manifest) { m.Spans[0][2] = 0 },
		"a thread before":     func(m *manifest) { m.Spans[0][2] = lo - 1 },
		"a thread behind":     func(m *manifest) { m.Spans[1][2] = hi },
		"a thread far away":   func(m *manifest) { m.Spans[1][2] = ^uint64(0) },
		"a thread to data":    func(m *manifest) { m.Spans[1][2] = address(l.rings) },
		"a thread below code": func(m *manifest) { m.Spans[2][2] = code - 1 },
		"a thread above code": func(m *manifest) { m.Spans[2][2] = code + codeBytes },
	} {
		t.Run(name, func(t *testing.T) {
			m := l.honest(t)
			spoil(m)
			if got, err := l.read(t, pages(t, m)); !errors.Is(err, errManifest) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	for _, length := range []uint64{3, manifestPages*pageSize - lengthBytes + 1, ^uint64(0)} {
		b := pages(t, l.honest(t))
		binary.LittleEndian.PutUint64(b, length)
		if got, err := l.read(t, b); !errors.Is(err, errManifest) {
			t.Errorf("length %d: %+v, %v", length, got, err)
		}
	}
}

// TestHostileHeader: an address of the code that is something else is refused; where nothing
// is, or nothing is said, there are only the rings.
func TestHostileHeader(t *testing.T) {
	l := newLeftovers(t)
	if _, err := l.read(t, pages(t, l.honest(t))); err != nil {
		t.Fatal(err)
	}
	lo, _ := l.tgt.Bin.Text()
	for name, at := range map[string]uint64{
		"the program": lo + l.tgt.Bias, "the rings": address(l.rings), "a page on": address(l.code) + pageSize, "not a page": address(l.code) + 1,
	} {
		if m, err := l.readAt(t, header(at)); !errors.Is(err, errManifest) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	for name, head := range map[string][]byte{"no header": nil, "nothing there": header(1 << 30), "0": header(0), "another magic": append([]byte("gopher"), make([]byte, 30)...)} {
		m, err := l.readAt(t, head)
		if err != nil || m.Code != 0 || m.Rings != address(l.rings) || m.RingsLen != pageSize || len(m.Hooks)+len(m.Spans) > 0 {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	for name, prot := range map[string]int{"writable": unix.PROT_READ | unix.PROT_WRITE | unix.PROT_EXEC, "not executable": unix.PROT_READ} {
		l.protect(t, l.code[:controlOffset], prot)
		if m, err := l.readAt(t, header(address(l.code))); !errors.Is(err, errManifest) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}
