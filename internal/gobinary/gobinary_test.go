package gobinary

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"testing"

	"gopherscope/internal/testenv"
)

// builds are the builds of test programs that the tests look into: every place
// where a function table may be, both layouts of its records, all three of
// moduledata, both architectures.
var builds = []testenv.Build{
	{Go: "1.18"},
	{Go: "1.18", Stripped: true},
	{Go: "1.20", PIE: true},
	{Go: "1.21", Race: true},
	{Go: "1.23", Cgo: true, Stripped: true},
	{Go: "1.25", ExternalLink: true, PIE: true},
	{Go: "1.25", ExternalLink: true, PIE: true, Stripped: true},
	{Go: "1.26", Stripped: true},
	{Go: "1.26", NoOpt: true},
	{Go: "1.27"},
	{Go: "1.27", PIE: true},
	{Go: "1.27", GOARCH: "arm64"},
	{Go: "1.27", GOARCH: "arm64", Stripped: true},
}

// eachBuild runs a test on each build of a test program: on the file as it is,
// and on the file without all that follows its segments, among it the section
// headers.
func eachBuild(t *testing.T, prog string, test func(t *testing.T, b testenv.Build, path string, f *File)) {
	for _, b := range builds {
		t.Run(b.String(), func(t *testing.T) {
			path := testenv.BuildTarget(t, prog, b)
			t.Run("whole", func(t *testing.T) { test(t, b, path, mustOpen(t, path)) })
			t.Run("cut", func(t *testing.T) { test(t, b, path, mustNew(t, cutSections(t, path))) })
		})
	}
}

func mustOpen(t testing.TB, path string) *File {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func mustNew(t testing.TB, data []byte) *File {
	t.Helper()
	f, err := NewFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func mustFunc(t testing.TB, f *File, name string) Func {
	t.Helper()
	fn, ok := f.Func(name)
	if !ok {
		t.Fatalf("Func(%q) not found", name)
	}
	return fn
}

// cutSections is the part of a file that the kernel loads, with a header that
// says that section headers follow it.
func cutSections(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	end := uint64(0)
	for _, p := range mustELF(t, path).Progs {
		if p.Type == elf.PT_LOAD {
			end = max(end, p.Off+p.Filesz)
		}
	}
	data = data[:end]
	binary.LittleEndian.PutUint64(data[ehdrShoff:], end)
	if _, err := elf.NewFile(bytes.NewReader(data)); err == nil {
		t.Fatalf("%s: debug/elf reads it without section headers", path)
	}
	return data
}

// mustELF opens a file with debug/elf, which is the tests' witness.
func mustELF(t testing.TB, path string) *elf.File {
	t.Helper()
	ef, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ef.Close() })
	return ef
}

// symbols are the file's symbols; none if it is stripped.
func symbols(t testing.TB, path string) []elf.Symbol {
	t.Helper()
	syms, err := mustELF(t, path).Symbols()
	if err != nil && len(syms) > 0 {
		t.Fatal(err)
	}
	return syms
}
