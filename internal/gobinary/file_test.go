package gobinary

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"gopherscope/internal/testenv"
)

// readTarget is the content of a build of the program idle.
func readTarget(t testing.TB, b testenv.Build) []byte {
	t.Helper()
	data, err := os.ReadFile(testenv.BuildTarget(t, "idle", b))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// replaceAll is data with each old replaced by a text of the same length.
func replaceAll(t testing.TB, data []byte, old, text string) []byte {
	t.Helper()
	if len(old) != len(text) || !bytes.Contains(data, []byte(old)) {
		t.Fatalf("cannot replace %q by %q", old, text)
	}
	return bytes.ReplaceAll(data, []byte(old), []byte(text))
}

// TestRefused has one file for each reason not to read a file.
func TestRefused(t *testing.T) {
	plain := testenv.Build{Go: "1.27", Stripped: true}
	patched := func(at int, b ...byte) []byte {
		data := readTarget(t, plain)
		copy(data[at:], b)
		return data
	}
	table := mustNew(t, readTarget(t, plain)).table.addr
	offset, ok := mustNew(t, readTarget(t, plain)).FileOffset(table)
	if !ok {
		t.Fatalf("no file offset for %#x", table)
	}
	packed := patched(0x200, []byte("UPX!")...)
	packed = replaceAll(t, packed, "\xff Go buildinf:", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	clear(packed[offset : offset+8])
	truth, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		data []byte
		want error
		text string
	}{
		{"empty", nil, ErrNotELF, ""},
		{"script", []byte("#!/bin/sh\n"), ErrNotELF, ""},
		{"header only", readTarget(t, plain)[:64], ErrNotELF, ""},
		{"32 bits", patched(4, 1), ErrUnsupportedArch, "64-bit"},
		{"big-endian", patched(5, 2), ErrUnsupportedArch, "little-endian"},
		{"RISC-V", patched(18, 243), ErrUnsupportedArch, "EM_RISCV"},
		{"C", truth, ErrNotGo, ""},
		{"old Go", replaceAll(t, readTarget(t, testenv.Build{Go: "1.18", Stripped: true}), "go1.18.10", "go1.17.10"), ErrUnsupportedGo, "go1.17.10"},
		{"old table", patched(int(offset), 0xfa), ErrUnsupportedGo, "older than go1.18"},
		{"obfuscated table", patched(int(offset), 1, 2, 3, 4), ErrNoPclntab, "obfuscated"},
		{"obfuscated names", replaceAll(t, readTarget(t, plain), "runtime.casgstatus\x00", "runtime.pFxkQ3bVeU\x00"), ErrNoPclntab, "obfuscated"},
		{"packed", packed, ErrNoPclntab, "UPX"},
		{"cut in the table", readTarget(t, plain)[:offset+1000], ErrNoPclntab, ""},
	} {
		f, err := NewFile(bytes.NewReader(test.data), int64(len(test.data)))
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v, %v, want %v with %q", test.name, f, err, test.want, test.text)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v, want ErrNotExist", err)
	}
	for _, path := range []string{t.TempDir(), "/dev/null"} {
		if _, err := Open(path); !errors.Is(err, ErrNotELF) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want ErrNotELF with the path", path, err)
		}
	}
}

// TestVersion reads the version from the build information, and where that is
// wiped out from the code.
func TestVersion(t *testing.T) {
	for _, b := range builds {
		t.Run(b.String(), func(t *testing.T) {
			path := testenv.BuildTarget(t, "frames", b)
			want := mustOpen(t, path).Version()
			if want.Minor != b.Minor() || !strings.HasPrefix(want.Text, "go"+b.Go) {
				t.Errorf("Version = %+v, built by %s", want, b.Go)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			wiped := replaceAll(t, data, "\xff Go buildinf:", "\xff No buildinf:")
			if got := mustNew(t, wiped).Version(); got != want {
				t.Errorf("without build information: %+v, want %+v", got, want)
			}
		})
	}
}

func TestBuild(t *testing.T) {
	for _, b := range builds {
		t.Run(b.String(), func(t *testing.T) {
			got := mustOpen(t, testenv.BuildTarget(t, "frames", b)).Build()
			want := Build{
				Main: "testprog/frames", Stripped: b.Stripped, DWARF: !b.Stripped, PIE: b.PIE,
				Cgo: got.Cgo, Race: b.Race, Trimpath: b.Stripped,
			}
			// The program frames has no C code: whether it is linked with
			// runtime/cgo is a matter of the linker. TestCgo has some.
			if got != want {
				t.Errorf("Build = %+v, want %+v", got, want)
			}
		})
	}
}

func TestCgo(t *testing.T) {
	for _, v := range testenv.Versions() {
		for _, cgo := range []bool{false, true} {
			if cgo && v != "1.18.10" && v != "1.24.13" && v != "1.27.4" {
				continue // each costs a build with the system linker
			}
			b := testenv.Build{Go: v, Cgo: cgo}
			if got := mustOpen(t, testenv.BuildTarget(t, "cgocall", b)).Build().Cgo; got != cgo {
				t.Errorf("%s: Cgo = %v", b, got)
			}
		}
	}
}

// TestSegments compares with the program headers, and FileOffset with what they
// mean.
func TestSegments(t *testing.T) {
	eachBuild(t, "frames", func(t *testing.T, b testenv.Build, path string, f *File) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range f.Segments() {
			if s.Filesz == 0 {
				continue
			}
			for _, d := range []uint64{0, s.Filesz - 1} {
				if off, ok := f.FileOffset(s.Vaddr + d); !ok || off != s.Off+d {
					t.Errorf("FileOffset(%#x) = %#x, %v, want %#x", s.Vaddr+d, off, ok, s.Off+d)
				}
			}
			if off, ok := f.FileOffset(s.Vaddr + s.Filesz); ok && s.Memsz > s.Filesz {
				t.Errorf("FileOffset(%#x) = %#x for memory beyond the file", s.Vaddr+s.Filesz, off)
			}
		}
		fn := mustFunc(t, f, "main.anchor")
		off, ok := f.FileOffset(fn.Entry)
		code, err := f.bytes(fn.Entry, int(fn.End-fn.Entry))
		if !ok || err != nil || !bytes.HasPrefix(data[off:], code) {
			t.Errorf("FileOffset(%#x) = %#x, %v, which is not its code (%v)", fn.Entry, off, ok, err)
		}
	})
}

// TestTruncatedWhileOpen cuts a file off under its reader.
func TestTruncatedWhileOpen(t *testing.T) {
	data := readTarget(t, testenv.Build{Go: "1.27"})
	path := filepath.Join(t.TempDir(), "prog")
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	f := mustOpen(t, path)
	fn := mustFunc(t, f, "runtime.main")
	if err := os.Truncate(path, 4096); err != nil {
		t.Fatal(err)
	}
	use(f)
	f.cache = cache{r: f.cache.r, size: f.cache.size} // all that was read is forgotten
	if _, err := f.bytes(fn.Entry, 16); !errors.Is(err, io.EOF) {
		t.Errorf("bytes of a truncated file: %v, want io.EOF", err)
	}
	if got := f.Frames(fn.Entry); got != nil {
		t.Errorf("Frames of a truncated file: %v", got)
	}
	use(f)
}

// TestConcurrentUse is for the race detector.
func TestConcurrentUse(t *testing.T) {
	f := mustOpen(t, testenv.BuildTarget(t, "idle", testenv.Build{Go: "1.27", PIE: true}))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { use(f) })
	}
	wg.Wait()
}

// TestCompressedSectionNames makes the table of section names claim to be
// compressed, which would have it unpacked to any size.
func TestCompressedSectionNames(t *testing.T) {
	data := readTarget(t, testenv.Build{Go: "1.27"})
	shoff := binary.LittleEndian.Uint64(data[ehdrShoff:])
	index := uint64(binary.LittleEndian.Uint16(data[ehdrShstrndx:]))
	data[shoff+index*shdrSize+shdrFlags+1] |= 8 // SHF_COMPRESSED
	if f := mustNew(t, data); len(f.elf().Sections) != 0 {
		t.Errorf("%d sections, want none", len(f.elf().Sections))
	}
}

// use uses all that a tracer uses of a file, whatever comes of it.
func use(f *File) {
	for _, name := range []string{"runtime.g", "runtime.m", "runtime.p", "runtime.sudog", "runtime.hchan"} {
		if s, err := f.Struct(name); err == nil {
			s.Offset("sched.pc")
		}
	}
	f.Build()
	f.WaitReasons()
	f.Allgs()
	f.Allp()
	f.StatusOffset()
	f.ProbePoint("runtime.execute")
	f.Func("main.main")
	sites, _ := f.CallSites("runtime.casgstatus", nil)
	for _, s := range sites {
		f.Frames(s.PC)
		f.UnwindAt(s.PC)
		f.StartFunc(s.PC)
		f.FileOffset(s.PC)
	}
	f.DWARFOffsets(map[string][]string{"runtime.g": {"goid"}})
}
