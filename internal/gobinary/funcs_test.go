package gobinary

import (
	"debug/elf"
	"slices"
	"strings"
	"testing"

	"gopherscope/internal/testenv"
)

// allFuncs reads the whole function table.
func allFuncs(t testing.TB, f *File) []Func {
	t.Helper()
	fns := make([]Func, f.table.nfunc)
	for i := range fns {
		fn, ok := f.funcByIndex(i)
		if !ok {
			t.Fatalf("function %d of %d cannot be read", i, f.table.nfunc)
		}
		fns[i] = fn
	}
	return fns
}

// TestFuncsAgainstSymbols compares the function table, which stripping leaves,
// with the symbol table, which is not used otherwise.
func TestFuncsAgainstSymbols(t *testing.T) {
	eachBuild(t, "frames", func(t *testing.T, b testenv.Build, path string, f *File) {
		lo, hi := f.Text()
		compared := 0
		for _, s := range symbols(t, path) {
			switch s.Name {
			case "runtime.text", "runtime.etext":
				if want := map[string]uint64{"runtime.text": lo, "runtime.etext": hi}[s.Name]; s.Value != want {
					t.Errorf("%s = %#x, Text says %#x", s.Name, s.Value, want)
				}
				continue
			}
			if elf.ST_TYPE(s.Info) != elf.STT_FUNC || s.Value < lo || s.Value >= hi || s.Size == 0 {
				continue
			}
			if strings.Contains(s.Name, "(.text") { // a section of the race detector's C++ code
				continue
			}
			if !ofGo(s.Name) {
				continue
			}
			compared++
			name := strings.TrimSuffix(strings.TrimSuffix(s.Name, ".abi0"), ".abiinternal")
			for _, pc := range []uint64{s.Value, s.Value + s.Size - 1} {
				fn, ok := f.FuncAt(pc)
				if !ok || printName(fn.Name) != printName(name) || fn.Entry != s.Value || fn.End < s.Value+s.Size {
					t.Errorf("FuncAt(%#x) = %+v, symbol %s %#x+%#x", pc, fn, s.Name, s.Value, s.Size)
				}
			}
		}
		if stripped := b.Stripped; stripped != (compared == 0) || !stripped && compared < 1000 {
			t.Errorf("compared %d functions of %d", compared, f.table.nfunc)
		}
	})
}

// ofGo says whether a symbol is that of a function written in Go, in a package
// that each program has. The C++ code of the race detector has several symbols
// at one address, and names of generated and generic functions are spelled differently.
func ofGo(name string) bool {
	if strings.Contains(name, "[") {
		return false
	}
	for _, pkg := range []string{"runtime.", "main.", "sync.", "internal/"} {
		if strings.HasPrefix(name, pkg) {
			return true
		}
	}
	return false
}

// TestFunc looks functions up by name. The one of two of a name that is not a
// wrapper is known from the symbol table, where calling conventions are marked,
// and from how the runtime's source has them.
func TestFunc(t *testing.T) {
	eachBuild(t, "frames", func(t *testing.T, b testenv.Build, path string, f *File) {
		at := map[string]uint64{} // functions of the Go calling convention
		for _, s := range symbols(t, path) {
			if elf.ST_TYPE(s.Info) == elf.STT_FUNC {
				at[s.Name] = s.Value
			}
		}
		for _, name := range []string{
			"runtime.casgstatus", "runtime.execute", "runtime.newproc", "runtime.newstack",
			"runtime.entersyscall", "runtime.exitsyscall", "runtime.(*mheap).alloc", "main.main", "main.measure",
		} {
			fn := mustFunc(t, f, name)
			if printName(fn.Name) != printName(name) || fn.End <= fn.Entry {
				t.Errorf("Func(%q) = %+v", name, fn)
			}
			if f.isWrapper(fn) {
				t.Errorf("Func(%q) is a wrapper", name)
			}
			if want, ok := at[name]; !b.Stripped && (!ok || want != fn.Entry) {
				t.Errorf("Func(%q) is at %#x, symbol at %#x", name, fn.Entry, want)
			}
		}
		for _, name := range []string{"", "runtime.", "runtime.casgstatu", "main.nothing", strings.Repeat("x", 1<<17)} {
			if fn, ok := f.Func(name); ok {
				t.Errorf("Func(%.20q) = %+v, want none", name, fn)
			}
		}
	})
}

func TestFuncAtEdges(t *testing.T) {
	f := mustOpen(t, testenv.BuildTarget(t, "frames", testenv.Build{Go: "1.27"}))
	lo, hi := f.Text()
	for _, pc := range []uint64{0, lo - 1, hi, hi + 1, ^uint64(0)} {
		if fn, ok := f.FuncAt(pc); ok {
			t.Errorf("FuncAt(%#x) = %+v, want none", pc, fn)
		}
		if got := f.Frames(pc); got != nil {
			t.Errorf("Frames(%#x) = %v, want none", pc, got)
		}
		if got := f.StartFunc(pc); got != pc {
			t.Errorf("StartFunc(%#x) = %#x", pc, got)
		}
		if u, ok := f.UnwindAt(pc); ok {
			t.Errorf("UnwindAt(%#x) = %+v, want none", pc, u)
		}
	}
}

// TestRuntimeFuncs checks the index against the whole table.
func TestRuntimeFuncs(t *testing.T) {
	f := mustOpen(t, testenv.BuildTarget(t, "frames", testenv.Build{Go: "1.27"}))
	var want []Func
	for _, fn := range allFuncs(t, f) {
		if strings.HasPrefix(fn.Name, "runtime.") {
			want = append(want, fn)
		}
	}
	if got := slices.Collect(f.runtimeFuncs()); len(want) < 1000 || !slices.Equal(got, want) {
		t.Errorf("runtimeFuncs has %d functions, the table %d", len(got), len(want))
	}
}

// TestStrippedTwin compares what is read from a stripped executable with what is
// read from the same program with symbols.
func TestStrippedTwin(t *testing.T) {
	for _, b := range builds {
		if !b.Stripped {
			continue
		}
		t.Run(b.String(), func(t *testing.T) {
			stripped := mustOpen(t, testenv.BuildTarget(t, "frames", b))
			b.Stripped = false
			twin := mustOpen(t, testenv.BuildTarget(t, "frames", b))
			names := func(f *File) (names []string) {
				for _, fn := range allFuncs(t, f) {
					names = append(names, fn.Name)
				}
				slices.Sort(names)
				return names
			}
			if got, want := names(stripped), names(twin); !slices.Equal(got, want) {
				t.Errorf("%d functions, the twin has %d", len(got), len(want))
			}
			if stripped.Version() != twin.Version() || stripped.Arch() != twin.Arch() {
				t.Errorf("%v %v, the twin is %v %v", stripped.Version(), stripped.Arch(), twin.Version(), twin.Arch())
			}
		})
	}
}
