package gobinary

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gopherscope/internal/goruntime"
	"gopherscope/internal/testenv"
)

// everyVersion are unstripped builds by every toolchain, whose DWARF and symbols
// are the witnesses, each with a stripped twin.
func everyVersion(t *testing.T, test func(t *testing.T, b testenv.Build, path string, f *File)) {
	for _, v := range testenv.Versions() {
		for _, b := range []testenv.Build{{Go: v}, {Go: v, Stripped: true}, {Go: v, PIE: true}, {Go: v, GOARCH: "arm64"}} {
			t.Run(b.String(), func(t *testing.T) {
				path := testenv.BuildTarget(t, "coro", b)
				test(t, b, path, mustOpen(t, path))
			})
		}
	}
}

// TestStructsAgainstDWARF compares every offset that the tracer uses with DWARF.
func TestStructsAgainstDWARF(t *testing.T) {
	everyVersion(t, func(t *testing.T, b testenv.Build, path string, f *File) {
		want := map[string][]string{}
		for _, fld := range goruntime.Fields(f.Version()) {
			want[fld.Struct] = append(want[fld.Struct], fld.Path)
		}
		got := map[string]map[string]uint64{}
		for name, paths := range want {
			s, err := f.Struct(name)
			if err != nil {
				t.Fatal(err)
			}
			got[name] = map[string]uint64{}
			for _, path := range paths {
				off, ok := s.Offset(path)
				if !ok {
					t.Errorf("%s has no field %s", name, path)
				}
				got[name][path] = off
			}
		}
		if off, ok, err := f.StatusOffset(); err != nil || !ok || off != got["runtime.g"]["atomicstatus"] {
			t.Errorf("StatusOffset = %d, %v, %v; the descriptor says %d", off, ok, err, got["runtime.g"]["atomicstatus"])
		}
		witness, err := f.DWARFOffsets(want)
		if b.Stripped {
			if !errors.Is(err, ErrNoDWARF) {
				t.Errorf("DWARFOffsets: %v, want ErrNoDWARF", err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(witness, got); diff != "" {
			t.Errorf("-DWARF +descriptors:\n%s", diff)
		}
	})
}

// TestVariables compares addresses found by disassembly with the symbol table.
func TestVariables(t *testing.T) {
	everyVersion(t, func(t *testing.T, b testenv.Build, path string, f *File) {
		at := map[string]uint64{}
		for _, s := range symbols(t, path) {
			at[s.Name] = s.Value
		}
		for name, find := range map[string]func() (uint64, error){"runtime.allgs": f.Allgs, "runtime.allp": f.Allp} {
			got, err := find()
			if err != nil {
				t.Error(err)
			}
			if want, ok := at[name]; ok && got != want {
				t.Errorf("%s found at %#x, its symbol is at %#x", name, got, want)
			}
		}
	})
}

// reasonNumbers has some wait reasons whose numbers moved, by Go minor.
var reasonNumbers = map[int]map[string]int{
	18: {"GC assist marking": 1, "chan receive": 14, "sleep": 19, "timer goroutine (idle)": 21, "debug call": 26},
	19: {"GC assist marking": 1, "chan receive": 14, "sleep": 19, "debug call": 26},
	20: {"chan receive": 14, "sync.Mutex.Lock": 21, "preempted": 28, "stopping the world": 31},
	21: {"chan receive": 14, "sync.Mutex.Lock": 21, "preempted": 28, "stopping the world": 31},
	22: {"chan receive": 14, "preempted": 28, "coroutine": 36},
	23: {"chan receive": 14, "coroutine": 36, "GC weak to strong wait": 37},
	24: {"chan receive": 14, "sync.WaitGroup.Wait": 24, "coroutine": 37},
	25: {"chan receive": 14, "semacquire": 19, "sleep": 20, "cleanup wait": 46},
	26: {"chan receive": 19, "select": 18, "sleep": 14, "semacquire": 13, "cleanup wait": 46},
	27: {"chan receive": 19, "select": 18, "sleep": 14, "semacquire": 13, "cleanup wait": 46},
}

func TestWaitReasons(t *testing.T) {
	everyVersion(t, func(t *testing.T, b testenv.Build, path string, f *File) {
		got, err := f.WaitReasons()
		if err != nil {
			t.Fatal(err)
		}
		for reason, n := range reasonNumbers[f.Version().Minor] {
			if n >= len(got) || got[n] != reason {
				t.Errorf("%d reasons, number %d is not %q: %q", len(got), n, reason, got)
			}
		}
	})
}

// FuzzNewFile changes real executables: no content of a file may make the reader
// panic, hang or allocate without bound.
func FuzzNewFile(f *testing.F) {
	// A change is five bytes: where to write, and what.
	f.Add([]byte{}, uint8(0))
	f.Add([]byte{0x28, 0, 0, 0, 0xff}, uint8(1))
	f.Add([]byte{0x20, 0, 0, 0, 1, 0x40, 0, 0, 0, 1}, uint8(2))
	var seeds [][]byte
	for _, b := range []testenv.Build{{Go: "1.18", Stripped: true}, {Go: "1.27", Stripped: true}, {Go: "1.25", PIE: true, Stripped: true}} {
		data, err := os.ReadFile(testenv.BuildTarget(f, "spawn", b))
		if err != nil {
			f.Fatal(err)
		}
		seeds = append(seeds, data)
	}
	f.Fuzz(func(t *testing.T, changes []byte, which uint8) {
		data := append([]byte(nil), seeds[int(which)%len(seeds)]...)
		for ; len(changes) >= 5; changes = changes[5:] {
			at := uint64(changes[0]) | uint64(changes[1])<<8 | uint64(changes[2])<<16 | uint64(changes[3])<<24
			data[at%uint64(len(data))] = changes[4]
		}
		readAll(data)
	})
}

// readAll uses everything that a tracer uses of a file. Errors are fine.
func readAll(data []byte) {
	f, err := NewFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return
	}
	for _, fld := range goruntime.Fields(f.Version()) {
		if s, err := f.Struct(fld.Struct); err == nil {
			s.Offset(fld.Path)
		}
	}
	f.Build()
	f.WaitReasons()
	f.Allgs()
	f.StatusOffset()
	f.ProbePoint("runtime.execute")
	sites, _ := f.CallSites("runtime.casgstatus", nil)
	for _, s := range sites {
		f.Frames(s.PC)
		f.SPDelta(s.PC)
		f.StartFunc(s.PC)
		f.FileOffset(s.PC)
	}
}
