package gobinary

import (
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gopherscope/internal/goruntime"
	"gopherscope/internal/testenv"
)

// everyVersion runs a test on executables by every toolchain: for amd64 plain,
// stripped and position-independent; for arm64 plain, and again with a header
// that admits to no sections, which hides more than stripping does (and is
// Stripped to the test, but for path, which has the symbols). The program
// uses coroutines, where there are any.
func everyVersion(t *testing.T, test func(t *testing.T, b testenv.Build, path string, f *File)) {
	for _, v := range testenv.Versions() {
		for _, b := range []testenv.Build{{Go: v}, {Go: v, Stripped: true}, {Go: v, PIE: true}, {Go: v, GOARCH: "arm64"}} {
			path := testenv.BuildTarget(t, "coro", b)
			t.Run(b.String(), func(t *testing.T) { test(t, b, path, mustOpen(t, path)) })
			if b.GOARCH == "" {
				continue
			}
			t.Run(b.String()+"-headless", func(t *testing.T) {
				b.Stripped = true
				test(t, b, path, mustNew(t, headless(t, path)))
			})
		}
	}
}

// headless is an executable whose header admits to no sections.
func headless(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(data[ehdrShoff : ehdrShoff+8])
	clear(data[ehdrShnum : ehdrShstrndx+2])
	return data
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

// no marks a wait reason that a version does not have.
const no = -1

// reasonNumbers are the numbers of all wait reasons, by version: 1.18 and 1.19,
// 1.20 and 1.21, 1.22, 1.23, 1.24, 1.25, 1.26 and 1.27. Source: waitReasonStrings
// in runtime/runtime2.go.
var reasonNumbers = []struct {
	reason string
	number [7]int
}{
	{"", [7]int{0, 0, 0, 0, 0, 0, 0}},
	{"GC assist marking", [7]int{1, 1, 1, 1, 1, 1, 1}},
	{"IO wait", [7]int{2, 2, 2, 2, 2, 2, 2}},
	{"chan receive (nil chan)", [7]int{3, 3, 3, 3, 3, 3, 15}},
	{"chan send (nil chan)", [7]int{4, 4, 4, 4, 4, 4, 16}},
	{"dumping heap", [7]int{5, 5, 5, 5, 5, 5, 3}},
	{"garbage collection", [7]int{6, 6, 6, 6, 6, 6, 4}},
	{"garbage collection scan", [7]int{7, 7, 7, 7, 7, 7, 5}},
	{"panicwait", [7]int{8, 8, 8, 8, 8, 8, 6}},
	{"select", [7]int{9, 9, 9, 9, 9, 9, 18}},
	{"select (no cases)", [7]int{10, 10, 10, 10, 10, 10, 17}},
	{"GC assist wait", [7]int{11, 11, 11, 11, 11, 11, 7}},
	{"GC sweep wait", [7]int{12, 12, 12, 12, 12, 12, 8}},
	{"GC scavenge wait", [7]int{13, 13, 13, 13, 13, 13, 9}},
	{"chan receive", [7]int{14, 14, 14, 14, 14, 14, 19}},
	{"chan send", [7]int{15, 15, 15, 15, 15, 15, 20}},
	{"finalizer wait", [7]int{16, 16, 16, 16, 16, 16, 10}},
	{"force gc (idle)", [7]int{17, 17, 17, 17, 17, 17, 11}},
	{"semacquire", [7]int{18, 18, 18, 18, 18, 19, 13}},
	{"sleep", [7]int{19, 19, 19, 19, 19, 20, 14}},
	{"sync.Cond.Wait", [7]int{20, 20, 20, 20, 20, 21, 21}},
	{"timer goroutine (idle)", [7]int{21, no, no, no, no, no, no}},
	{"trace reader (blocked)", [7]int{22, 24, 24, 24, 25, 26, 26}},
	{"wait for GC cycle", [7]int{23, 25, 25, 25, 26, 27, 27}},
	{"GC worker (idle)", [7]int{24, 26, 26, 26, 27, 28, 28}},
	{"preempted", [7]int{25, 28, 28, 28, 29, 30, 30}},
	{"debug call", [7]int{26, 29, 29, 29, 30, 31, 31}},
	{"sync.Mutex.Lock", [7]int{no, 21, 21, 21, 21, 22, 22}},
	{"sync.RWMutex.RLock", [7]int{no, 22, 22, 22, 22, 23, 23}},
	{"sync.RWMutex.Lock", [7]int{no, 23, 23, 23, 23, 24, 24}},
	{"GC worker (active)", [7]int{no, 27, 27, 27, 28, 29, 29}},
	{"GC mark termination", [7]int{no, 30, 30, 30, 31, 32, 32}},
	{"stopping the world", [7]int{no, 31, 31, 31, 32, 33, 33}},
	{"flushing proc caches", [7]int{no, no, 32, 32, 33, 34, 34}},
	{"trace goroutine status", [7]int{no, no, 33, 33, 34, 35, 35}},
	{"trace proc status", [7]int{no, no, 34, 34, 35, 36, 36}},
	{"page trace flush", [7]int{no, no, 35, 35, 36, 37, 37}},
	{"coroutine", [7]int{no, no, 36, 36, 37, 38, 38}},
	{"GC weak to strong wait", [7]int{no, no, no, 37, 38, 39, 39}},
	{"sync.WaitGroup.Wait", [7]int{no, no, no, no, 24, 25, 25}},
	{"synctest.Run", [7]int{no, no, no, no, 39, 40, 40}},
	{"synctest.Wait", [7]int{no, no, no, no, 40, 41, 41}},
	{"chan receive (synctest)", [7]int{no, no, no, no, 41, no, no}},
	{"chan receive (durable)", [7]int{no, no, no, no, no, 42, 42}},
	{"chan send (synctest)", [7]int{no, no, no, no, 42, no, no}},
	{"chan send (durable)", [7]int{no, no, no, no, no, 43, 43}},
	{"select (synctest)", [7]int{no, no, no, no, 43, no, no}},
	{"select (durable)", [7]int{no, no, no, no, no, 44, 44}},
	{"GOMAXPROCS updater (idle)", [7]int{no, no, no, no, no, 18, 12}},
	{"sync.WaitGroup.Wait (durable)", [7]int{no, no, no, no, no, 45, 45}},
	{"cleanup wait", [7]int{no, no, no, no, no, 46, 46}},
}

func TestWaitReasons(t *testing.T) {
	column := map[int]int{18: 0, 19: 0, 20: 1, 21: 1, 22: 2, 23: 3, 24: 4, 25: 5, 26: 6, 27: 6}
	everyVersion(t, func(t *testing.T, b testenv.Build, path string, f *File) {
		var want [64]string
		last := 0
		for _, r := range reasonNumbers {
			if n := r.number[column[b.Minor()]]; n != no {
				want[n], last = r.reason, max(last, n)
			}
		}
		got, err := f.WaitReasons()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want[:last+1], got); diff != "" {
			t.Errorf("-source +binary:\n%s", diff)
		}
	})
}
