package gobinary

import (
	"debug/buildinfo"
	"debug/elf"
	"fmt"
	"strings"

	"gopherscope/internal/goruntime"
)

// Build says how an executable was built, as far as it shows.
type Build struct {
	Main     string // path of the main package; "" if it is not recorded
	Stripped bool   // it has no symbol table
	DWARF    bool
	PIE      bool
	Cgo      bool // it calls C
	Race     bool
	Trimpath bool
}

// String lists what sets the build apart from a plain one: "stripped,pie", or
// "-" if nothing does.
func (b Build) String() string {
	var words []string
	for _, w := range []struct {
		is   bool
		word string
	}{{b.Stripped, "stripped"}, {b.PIE, "pie"}, {b.Cgo, "cgo"}, {b.Race, "race"}} {
		if w.is {
			words = append(words, w.word)
		}
	}
	if len(words) == 0 {
		return "-"
	}
	return strings.Join(words, ",")
}

// Build is how the file was built.
func (f *File) Build() Build {
	f.describe.Do(func() {
		b := &f.build
		b.Stripped = f.header.Section(".symtab") == nil
		b.DWARF = f.header.Section(".debug_info") != nil || f.header.Section(".zdebug_info") != nil
		b.PIE = f.header.Type == elf.ET_DYN
		b.Cgo = f.callsC()
		_, b.Race = f.Func("runtime.racecall")
		f.readSettings(b)
	})
	return f.build
}

// callsC looks for the functions of package runtime/cgo, which every program
// that calls C is linked with.
func (f *File) callsC() bool {
	for range f.nameOffsets("runtime/cgo.") {
		return true
	}
	return false
}

// readSettings adds what the go command recorded.
func (f *File) readSettings(b *Build) {
	info, err := buildinfo.Read(f.reader)
	if err != nil {
		return
	}
	b.Main = info.Path
	for _, s := range info.Settings {
		on := s.Value == "true"
		switch s.Key {
		case "-race":
			b.Race = b.Race || on
		case "-trimpath":
			b.Trimpath = on
		}
	}
}

// readVersion takes the version from the build information. It stays unknown
// when there is none: see readBuildVersion.
func (f *File) readVersion() error {
	info, err := buildinfo.Read(f.reader)
	if err != nil || info.GoVersion == "" {
		return nil
	}
	return f.setVersion(info.GoVersion)
}

func (f *File) setVersion(text string) error {
	v, err := goruntime.ParseVersion(text)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnsupportedGo, err)
	}
	if v.TooOld() {
		return fmt.Errorf("%w: %s is older than go1.%d", ErrUnsupportedGo, v, goruntime.MinMinor)
	}
	f.version = v
	return nil
}

// maxVersion bounds the text of a version.
const maxVersion = 128

// readBuildVersion takes the version from the string runtime.buildVersion,
// which runtime.schedinit compares with "" (Go 1.18 to 1.27): for files whose
// build information cannot be found, as without section headers.
func (f *File) readBuildVersion() error {
	fn, ok := f.Func("runtime.schedinit")
	if !ok {
		return fmt.Errorf("version: runtime.schedinit: %w", ErrNoSymbol)
	}
	for _, r := range f.refs(fn) {
		if r.kind == refCall || !f.writable(r.addr) {
			continue
		}
		for _, addr := range []uint64{r.addr, r.addr - 8} { // the string, or its length
			if text := f.goString(addr, maxVersion); strings.HasPrefix(text, "go1.") || strings.HasPrefix(text, "devel ") {
				return f.setVersion(text)
			}
		}
	}
	return fmt.Errorf("%w: the file does not say which", ErrUnsupportedGo)
}

// goString is the Go string whose header is at addr, "" when it is longer than
// limit or not there.
func (f *File) goString(addr uint64, limit int) string {
	ptr, ok1 := f.u64(addr)
	n, ok2 := f.u64(addr + 8)
	if !ok1 || !ok2 || n > uint64(limit) {
		return ""
	}
	b, err := f.bytes(ptr, int(n))
	if err != nil {
		return ""
	}
	return string(b)
}
