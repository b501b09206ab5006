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
	Cgo      bool // it is linked with package runtime/cgo
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
		b.Trimpath = f.trimmed()
		if info, err := buildinfo.Read(f.reader); err == nil {
			b.Main = info.Path
		}
	})
	return f.build
}

// callsC looks for the function through which C calls Go, which package
// runtime/cgo brings into every program that has C code (runtime/cgo/asm_*.s).
func (f *File) callsC() bool {
	for range f.nameOffsets("crosscall2\x00") {
		return true
	}
	return false
}

// trimmed says whether source files are recorded without the directories that
// they were in.
func (f *File) trimmed() bool {
	fn, ok := f.Func("runtime.schedinit")
	if !ok {
		return false
	}
	file, _ := f.fileLine(fn, fn.Entry)
	return file != "" && !strings.HasPrefix(file, "/")
}

// readVersion takes the version from the build information. It stays unknown
// when there is none, or an obfuscator's: see readBuildVersion.
func (f *File) readVersion() error {
	info, err := buildinfo.Read(f.reader)
	if err != nil {
		return nil
	}
	if v, err := goruntime.ParseVersion(info.GoVersion); err == nil {
		return f.setVersion(v)
	}
	return nil
}

func (f *File) setVersion(v goruntime.Version) error {
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
			if v, err := goruntime.ParseVersion(f.goString(addr, maxVersion)); err == nil {
				return f.setVersion(v)
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
