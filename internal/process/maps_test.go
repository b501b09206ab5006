package process

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"gopherscope/internal/testenv"
)

// segmentsOf are the loadable segments of an ELF file.
func segmentsOf(t *testing.T, path string) []Segment {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var segs []Segment
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			segs = append(segs, Segment{Vaddr: p.Vaddr, Memsz: p.Memsz, Off: p.Off, Filesz: p.Filesz, Flags: p.Flags})
		}
	}
	return segs
}

// checkBias compares the code in the process's memory, where bias says it is,
// with that in the file.
func checkBias(t *testing.T, p *Process, path string, segs []Segment, bias uint64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	compared := 0
	for _, s := range segs {
		if s.Flags&elf.PF_X == 0 {
			continue
		}
		want := make([]byte, s.Filesz)
		if _, err := f.ReadAt(want, int64(s.Off)); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, s.Filesz)
		if err := p.ReadMem(s.Vaddr+bias, got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("code at %#x + %#x differs from the file's", s.Vaddr, bias)
		}
		compared += len(want)
	}
	if compared == 0 {
		t.Error("no code was compared")
	}
}

var builds = []testenv.Build{
	{},
	{Stripped: true},
	{PIE: true},
	{PIE: true, Stripped: true},
	{Cgo: true},
	{Cgo: true, PIE: true},
	{Go: "1.18", PIE: true},
}

func TestLoadBias(t *testing.T) {
	for _, b := range builds {
		t.Run(b.String(), func(t *testing.T) {
			bin := testenv.BuildTarget(t, "idle", b)
			p := openTarget(t, bin)
			segs := segmentsOf(t, p.ExePath())
			bias, err := p.LoadBias(segs)
			if err != nil {
				t.Fatal(err)
			}
			if (bias != 0) != b.PIE {
				t.Errorf("bias %#x", bias)
			}
			checkBias(t, p, bin, segs, bias)
			for i := range segs {
				segs[i].Off += 1 << 30
			}
			if bias, err := p.LoadBias(segs); err == nil {
				t.Errorf("bias %#x of segments that are not the file's", bias)
			}
		})
	}
}

// openTarget starts a target program and opens it.
func openTarget(t *testing.T, bin string, args ...string) *Process {
	t.Helper()
	target := testenv.StartWaiting(t, bin, args...)
	p, err := Open(target.PID())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// The executable is found by what is mapped, not by its name.
func TestLoadBiasNames(t *testing.T) {
	testenv.RequireRoot(t)
	orig := testenv.BuildTarget(t, "idle", testenv.Build{PIE: true})
	check := func(t *testing.T, p *Process) {
		t.Helper()
		segs := segmentsOf(t, p.ExePath())
		bias, err := p.LoadBias(segs)
		if err != nil {
			t.Fatal(err)
		}
		checkBias(t, p, orig, segs, bias)
	}
	t.Run("deleted", func(t *testing.T) {
		bin := filepath.Join(t.TempDir(), "idle")
		copyFile(t, orig, bin)
		p := openTarget(t, bin)
		remove(t, bin)
		check(t, p)
	})
	t.Run("replaced", func(t *testing.T) {
		bin := filepath.Join(t.TempDir(), "idle")
		copyFile(t, orig, bin)
		p := openTarget(t, bin)
		remove(t, bin)
		copyFile(t, "/bin/sleep", bin)
		check(t, p)
	})
	t.Run("new line in the name", func(t *testing.T) {
		bin := filepath.Join(t.TempDir(), "id\nle 00400000-00500000 r-xp")
		copyFile(t, orig, bin)
		check(t, openTarget(t, bin))
	})
	t.Run("other namespaces", func(t *testing.T) {
		cmd := exec.Command("sh", "-c", `mount -t tmpfs none /mnt && cp "$0" /mnt/idle && exec /mnt/idle`, orig)
		cmd.Env = append(os.Environ(), "WAIT=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID, Unshareflags: unix.CLONE_NEWNS}
		c := start(t, cmd)
		if got := c.line(t); !strings.HasPrefix(got, "ready") {
			t.Fatalf("got %q", got)
		}
		if _, err := os.Stat("/mnt/idle"); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("/mnt/idle is here, too: %v", err)
		}
		p := c.open(t)
		check(t, p)
		if path, deleted, err := p.Exe(); path != "/mnt/idle" && path != "/idle" || deleted || err != nil {
			t.Errorf("Exe = %q, %v, %v", path, deleted, err)
		}
	})
}

// A program that was started as an argument of the dynamic linker is one of
// the images, and can be opened even when it was deleted.
func TestImages(t *testing.T) {
	testenv.RequireRoot(t)
	orig := testenv.BuildTarget(t, "idle", testenv.Build{Cgo: true, PIE: true})
	linker := interpreter(t, orig)
	bin := filepath.Join(t.TempDir(), "idle")
	copyFile(t, orig, bin)
	p := openTarget(t, linker, bin)
	remove(t, bin)

	images, err := p.Images()
	if err != nil {
		t.Fatal(err)
	}
	first, err := filepath.EvalSymlinks(linker)
	if err != nil {
		t.Fatal(err)
	}
	if images[0].Path != first || images[0].OpenPath != p.ExePath() {
		t.Errorf("first image is %q at %s, want the dynamic linker", images[0].Path, images[0].OpenPath)
	}
	i := slices.IndexFunc(images, func(im Image) bool { return im.Path == bin+" (deleted)" })
	if i < 1 {
		t.Fatalf("no image of the program among %v", images)
	}
	segs := segmentsOf(t, images[i].OpenPath)
	bias, err := images[i].LoadBias(segs)
	if err != nil {
		t.Fatal(err)
	}
	checkBias(t, p, orig, segs, bias)
	if !slices.ContainsFunc(images[1:], func(im Image) bool { return strings.Contains(im.Path, "libc") }) {
		t.Errorf("no C library among %v", images)
	}
}

// interpreter is the dynamic linker that an executable asks for.
func interpreter(t *testing.T, path string) string {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			b := make([]byte, p.Filesz-1)
			if _, err := p.ReadAt(b, 0); err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
	}
	t.Fatalf("%s has no interpreter", path)
	return ""
}

func TestImageLoadBias(t *testing.T) {
	page := uint64(os.Getpagesize())
	code := func(vaddr, off, size uint64) Segment {
		return Segment{Vaddr: vaddr, Memsz: size, Off: off, Filesz: size, Flags: elf.PF_R | elf.PF_X}
	}
	data := func(vaddr, off, size uint64) Segment {
		s := code(vaddr, off, size)
		s.Flags = elf.PF_R | elf.PF_W
		return s
	}
	at := func(start, pages, off uint64) Mapping {
		return Mapping{Start: start, End: start + pages*page, Offset: off, Read: true, Exec: true}
	}
	tests := []struct {
		name string
		maps []Mapping
		segs []Segment
		want uint64
		err  string
	}{
		{"fixed", []Mapping{at(100*page, 4, 0)}, []Segment{code(100*page, 0, 4*page)}, 0, ""},
		{"moved", []Mapping{at(500*page, 4, 0)}, []Segment{code(0, 0, 4*page)}, 500 * page, ""},
		{"moved down", []Mapping{at(500*page, 4, 0)}, []Segment{code(700*page, 0, 4*page)}, 500*page - 700*page, ""},
		{"odd start", []Mapping{at(500*page, 4, page)}, []Segment{code(3*page+64, page+64, 3*page)}, 497 * page, ""},
		{"last page shared with data", []Mapping{at(500*page, 2, 0), at(502*page, 1, 2*page)},
			[]Segment{code(0, 0, 2*page+64), data(10*page+64, 2*page+64, page)}, 500 * page, ""},
		{"split", []Mapping{at(500*page, 1, 0), at(502*page, 1, 2*page)}, []Segment{code(0, 0, 4*page)}, 500 * page, ""},
		{"two segments", []Mapping{at(500*page, 1, 0), at(600*page, 1, 8*page)},
			[]Segment{code(0, 0, page), code(100*page, 8*page, page)}, 500 * page, ""},
		{"mapped twice", []Mapping{at(500*page, 1, 0), at(700*page, 1, 0)}, []Segment{code(0, 0, page)}, 0, "contradictory"},
		{"between pages", []Mapping{at(500*page, 1, 0)}, []Segment{code(64, 0, page)}, 0, "contradictory"},
		{"another file", []Mapping{at(500*page, 1, 9*page)}, []Segment{code(0, 0, page)}, 0, "no code"},
		{"no code", []Mapping{at(500*page, 1, 0)}, []Segment{data(0, 0, page)}, 0, "no code"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			im := &Image{Path: "a\x1bfile", maps: tt.maps}
			got, err := im.LoadBias(tt.segs)
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("LoadBias = %#x, %v, want %#x, %s", got, err, tt.want, tt.err)
			}
			if err != nil && strings.ContainsRune(err.Error(), '\x1b') {
				t.Errorf("%q could drive a terminal", err)
			}
		})
	}
}

func TestParseMaps(t *testing.T) {
	const text = `55d0c8a5e000-55d0c8a60000 r--p 00000000 fd:01 1234                       /usr/bin/a b (deleted)
7f12e4000000-7f12e4021000 rw-s 00021000 00:00 0 
7ffd1c5f5000-7ffd1c616000 --xp 00000000 00:00 0                          [stack]
`
	want := []Mapping{
		{Start: 0x55d0c8a5e000, End: 0x55d0c8a60000, Read: true, File: FileID{0xfd<<32 | 1, 1234}, Path: "/usr/bin/a b (deleted)"},
		{Start: 0x7f12e4000000, End: 0x7f12e4021000, Offset: 0x21000, Read: true, Write: true, Shared: true},
		{Start: 0x7ffd1c5f5000, End: 0x7ffd1c616000, Exec: true, Path: "[stack]"},
	}
	got, err := parseMaps([]byte(text))
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("parseMaps: %v\n%s", err, diff)
	}
	for _, bad := range []string{
		"x", "1-2 r--p 0 0:0", "1-2 r-p 0 0:0 0 ", "12 r--p 0 0:0 0", "1-g r--p 0 0:0 0", "1-2 r--p 0 00 0", "1-2 r--p 0 0:0 -1",
		"10000000000000000-2 r--p 0 0:0 0",
	} {
		if got, err := parseMaps([]byte(bad)); err == nil {
			t.Errorf("parseMaps(%q) = %+v", bad, got)
		}
	}
}

func TestAuxValue(t *testing.T) {
	var auxv []byte
	for _, v := range []uint64{6, 4096, 9, 0x401000, 0, 0} {
		auxv = binary.NativeEndian.AppendUint64(auxv, v)
	}
	if v, ok := AuxValue(auxv, AtEntry); v != 0x401000 || !ok {
		t.Errorf("entry = %#x, %v", v, ok)
	}
	if v, ok := AuxValue(auxv[:20], AtEntry); ok {
		t.Errorf("entry of a cut vector = %#x", v)
	}
}
