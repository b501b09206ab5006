package gobinary

import (
	"bufio"
	"bytes"
	"errors"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"gopherscope/internal/testenv"
)

// A disassembly is what "go tool objdump" says about package runtime: the
// tests' witness, with symbols in place of the function table.
type disassembly map[string][]Site // direct calls by callee, by rising address

// objdumpTool is the command that "go tool objdump" runs; the go command is slow
// to find it.
var objdumpTool = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "tool", "-n", "objdump").Output()
	return strings.TrimSpace(string(out)), err
})

// objdump disassembles the functions whose names match a regular expression.
func objdump(t testing.TB, path, functions string) []byte {
	t.Helper()
	tool, err := objdumpTool()
	if err != nil {
		t.Fatalf("go tool -n objdump: %v", err)
	}
	out, err := exec.Command(tool, "-s", functions, path).Output()
	if err != nil {
		t.Fatalf("objdump %s: %v", path, err)
	}
	return out
}

func disassemble(t testing.TB, path string) disassembly {
	t.Helper()
	d, caller := disassembly{}, ""
	scanner := bufio.NewScanner(bytes.NewReader(objdump(t, path, `^runtime\.`)))
	for scanner.Scan() {
		fields := strings.Fields(scanner.Text())
		switch {
		case len(fields) >= 2 && fields[0] == "TEXT":
			caller = strings.TrimSuffix(strings.TrimSuffix(fields[1], "(SB)"), ".abi0")
		case len(fields) == 5 && fields[3] == "CALL" && strings.HasSuffix(fields[4], "(SB)"):
			pc, err := strconv.ParseUint(fields[1], 0, 64)
			if err != nil {
				t.Fatalf("objdump: %q", scanner.Text())
			}
			callee := strings.TrimSuffix(fields[4], "(SB)")
			d[callee] = append(d[callee], Site{caller, pc})
		}
	}
	if len(d) < 100 {
		t.Fatalf("objdump shows calls of %d functions only", len(d))
	}
	return d
}

// tracedCallees are the functions whose calls a tracer wants.
var tracedCallees = []string{
	"runtime.casgstatus", "runtime.casGToPreemptScan", "runtime.casGFromPreempted",
	"runtime.newproc1", "runtime.runqput", "runtime.reentersyscall", "runtime.exitsyscall",
	"runtime.ready", "runtime.execute",
}

func TestCallSitesAgainstObjdump(t *testing.T) {
	everyVersion(t, func(t *testing.T, b testenv.Build, path string, f *File) {
		if len(symbols(t, path)) == 0 {
			return // objdump needs them; see TestCallSitesOfStripped
		}
		want := disassemble(t, path)
		for _, callee := range tracedCallees {
			got, err := f.CallSites(callee, nil)
			if err != nil {
				t.Errorf("CallSites(%s): %v", callee, err)
			}
			if !slices.Equal(got, want[callee]) {
				t.Errorf("CallSites(%s) = %v\nobjdump: %v", callee, got, want[callee])
			}
			for _, s := range got {
				if !f.CallIsEmulated(s) {
					t.Errorf("%s: call at %#x in %s is no plain call", callee, s.PC, s.Caller)
				}
			}
		}
		// Assembly code calls Go functions by their wrappers: rt0_go calls newproc.
		for _, callee := range []string{"runtime.newproc", "runtime.exitsyscall", "runtime.casgstatus"} {
			got, err := f.ABI0CallSites(callee, nil)
			if err != nil || !slices.Equal(got, want[callee+".abi0"]) {
				t.Errorf("ABI0CallSites(%s) = %v, %v\nobjdump: %v", callee, got, err, want[callee+".abi0"])
			}
		}
		if len(want["runtime.newproc.abi0"]) == 0 {
			t.Error("no calls of a wrapper to compare")
		}
	})
}

// TestUnusualBuilds looks at code that is compiled or linked in other ways:
// without optimisation the compare-and-swap in casgstatus is a call.
func TestUnusualBuilds(t *testing.T) {
	for _, b := range []testenv.Build{
		{Go: "1.20", NoOpt: true},
		{Go: "1.26", NoOpt: true},
		{Go: "1.21", Race: true},
		{Go: "1.25", ExternalLink: true, PIE: true},
	} {
		t.Run(b.String(), func(t *testing.T) {
			path := testenv.BuildTarget(t, "frames", b)
			f := mustOpen(t, path)
			want := disassemble(t, path)
			for _, callee := range tracedCallees {
				if got, err := f.CallSites(callee, nil); err != nil || !slices.Equal(got, want[callee]) {
					t.Errorf("CallSites(%s) = %v, %v\nobjdump: %v", callee, got, err, want[callee])
				}
			}
			g, err := f.Struct("runtime.g")
			if err != nil {
				t.Fatal(err)
			}
			status, _ := g.Offset("atomicstatus")
			if off, ok, err := f.StatusOffset(); err != nil || ok == b.NoOpt || ok && off != status {
				t.Errorf("StatusOffset = %d, %v, %v; the descriptor says %d", off, ok, err, status)
			}
			for _, s := range symbols(t, path) {
				find := map[string]func() (uint64, error){"runtime.allgs": f.Allgs, "runtime.allp": f.Allp}[s.Name]
				if find == nil {
					continue
				}
				if got, err := find(); err != nil || got != s.Value {
					t.Errorf("%s found at %#x, %v, its symbol is at %#x", s.Name, got, err, s.Value)
				}
			}
			if reasons, err := f.WaitReasons(); err != nil || len(reasons) < 30 {
				t.Errorf("wait reasons: %q, %v", reasons, err)
			}
		})
	}
}

// callers counts sites by the functions that they are in.
func callers(sites []Site) map[string]int {
	n := map[string]int{}
	for _, s := range sites {
		n[s.Caller]++
	}
	return n
}

// TestCallSitesOfStripped compares the calls in a stripped executable with
// those in one of another kind by the same compiler.
func TestCallSitesOfStripped(t *testing.T) {
	for _, v := range testenv.Versions() {
		t.Run(v, func(t *testing.T) {
			stripped := mustOpen(t, testenv.BuildTarget(t, "coro", testenv.Build{Go: v, Stripped: true}))
			whole := mustOpen(t, testenv.BuildTarget(t, "coro", testenv.Build{Go: v, PIE: true}))
			for _, callee := range tracedCallees {
				got, err1 := stripped.CallSites(callee, nil)
				want, err2 := whole.CallSites(callee, nil)
				if err1 != nil || err2 != nil {
					t.Fatalf("CallSites(%s): %v, %v", callee, err1, err2)
				}
				// Order and number by function; addresses differ.
				if !slices.EqualFunc(got, want, func(a, b Site) bool { return a.Caller == b.Caller }) {
					t.Errorf("CallSites(%s) = %v, want %v", callee, callers(got), callers(want))
				}
			}
		})
	}
}

// statusChanges are the functions of the runtime that change a goroutine's
// status by casgstatus, closures counted with the function they are in, with
// the first and the last Go minor that has them. Source: runtime/proc.go,
// mgc.go, mgcmark.go, mgcpacer.go, stack.go, coro.go, debugcall.go, trace.go.
var statusChanges = map[string][2]int{
	"newproc1": {18, 27}, "oneNewExtraM": {18, 27}, "needm": {18, 27}, "dropm": {18, 27},
	"execute": {18, 27}, "park_m": {18, 27}, "ready": {18, 27}, "injectglist": {18, 27},
	"findrunnable": {18, 18}, "schedule": {18, 18}, "findRunnable": {19, 27},
	"findRunnableGCWorker": {18, 27}, "goschedImpl": {18, 27}, "goyield_m": {18, 27},
	"goexit0": {18, 21}, "gdestroy": {22, 27},
	"reentersyscall": {18, 27}, "entersyscallblock": {18, 27}, "exitsyscall": {18, 27},
	"exitsyscall0": {18, 25}, "exitsyscallNoP": {26, 27},
	"coroswitch_m": {23, 27}, // the program has coroutines from then on
	"newstack":     {18, 27},
	"stopTheWorld": {18, 22}, "stopTheWorldWithSema": {23, 27}, "traceAdvance": {23, 27},
	"casGToWaiting": {22, 22}, "casGToWaitingForSuspendG": {23, 27}, "forEachP": {27, 27},
	"gcMarkDone": {18, 26}, "gcMarkTermination": {18, 27}, "gcBgMarkWorker": {18, 27},
	"markroot": {18, 27}, "gcAssistAlloc1": {18, 27}, "findGoroutineLeaks": {26, 27},
	"debugCallWrap": {18, 27}, "debugCallWrap1": {18, 27},
}

// baseName is a function's name without package, receiver, and closures.
func baseName(name string) string {
	name = strings.TrimPrefix(name, "runtime.")
	if _, method, ok := strings.Cut(name, ")."); ok {
		name = method
	}
	name, _, _ = strings.Cut(name, ".")
	return name
}

func TestCallSitesByVersion(t *testing.T) {
	everyVersion(t, func(t *testing.T, b testenv.Build, path string, f *File) {
		sites, err := f.CallSites("runtime.casgstatus", nil)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int{}
		for caller, n := range callers(sites) {
			got[baseName(caller)] += n
		}
		for caller := range got {
			if in, ok := statusChanges[caller]; !ok || b.Minor() < in[0] || b.Minor() > in[1] {
				t.Errorf("%s calls casgstatus in Go 1.%d", caller, b.Minor())
			}
		}
		for caller, in := range statusChanges {
			if b.Minor() >= in[0] && b.Minor() <= in[1] && got[caller] == 0 {
				t.Errorf("%s does not call casgstatus in Go 1.%d", caller, b.Minor())
			}
		}
		for caller, want := range map[string]int{"newproc1": 2, "park_m": 2, "newstack": 2, "execute": 1, "ready": 1} {
			if got[caller] != want {
				t.Errorf("%s calls casgstatus %d times, want %d", caller, got[caller], want)
			}
		}
	})
}

func TestCallSitesFilter(t *testing.T) {
	f := mustOpen(t, testenv.BuildTarget(t, "coro", testenv.Build{Go: "1.27", Stripped: true}))
	got, err := f.CallSites("runtime.casgstatus", func(caller string) bool { return caller == "runtime.park_m" })
	if err != nil || len(got) != 2 || got[0].Caller != "runtime.park_m" || got[1].PC <= got[0].PC {
		t.Errorf("calls in park_m: %v, %v", got, err)
	}
	for _, s := range got {
		if fn, ok := f.FuncAt(s.PC); !ok || fn.Name != "runtime.park_m" || f.AfterCall(s) != s.PC+5 {
			t.Errorf("site %+v lies in %+v and returns to %#x", s, fn, f.AfterCall(s))
		}
	}
	if _, err := f.CallSites("runtime.nothing", nil); !errors.Is(err, ErrNoSymbol) {
		t.Errorf("calls of a function that is not there: %v", err)
	}
	for _, pc := range []uint64{0, mustFunc(t, f, "runtime.park_m").Entry} {
		if f.CallIsEmulated(Site{"runtime.park_m", pc}) {
			t.Errorf("CallIsEmulated at %#x, where no call is", pc)
		}
	}
}

// TestNextCallIn looks for the call that publishes a new goroutine: runqput
// after newproc1, in the function that newproc runs on the system stack.
func TestNextCallIn(t *testing.T) {
	everyVersion(t, func(t *testing.T, b testenv.Build, path string, f *File) {
		const caller = "runtime.newproc.func1"
		births, err := f.CallSites("runtime.newproc1", func(name string) bool { return name == caller })
		if err != nil || len(births) != 1 {
			t.Fatalf("calls of newproc1 in newproc: %v, %v", births, err)
		}
		puts, err := f.CallSites("runtime.runqput", func(name string) bool { return name == caller })
		if err != nil || len(puts) != 1 {
			t.Fatalf("calls of runqput in newproc: %v, %v", puts, err)
		}
		size := map[Arch]uint64{AMD64: 5, ARM64: 4}[f.Arch()]
		if got := f.AfterCall(births[0]); got != births[0].PC+size {
			t.Errorf("AfterCall(%#x) = %#x", births[0].PC, got)
		}
		if got, ok := f.NextCallIn(caller, births[0].PC, "runtime.runqput"); !ok || got != puts[0] || got.PC <= births[0].PC {
			t.Errorf("NextCallIn = %+v, %v, want %+v", got, ok, puts[0])
		}
		for _, no := range []struct {
			caller string
			after  uint64
			callee string
		}{
			{caller, puts[0].PC, "runtime.runqput"}, // it is not after itself
			{caller, births[0].PC, "runtime.newproc1"},
			{caller, births[0].PC, "runtime.nothing"},
			{"runtime.newproc", births[0].PC, "runtime.runqput"}, // another function
			{caller, 0, "runtime.runqput"},
		} {
			if got, ok := f.NextCallIn(no.caller, no.after, no.callee); ok {
				t.Errorf("NextCallIn(%s, %#x, %s) = %+v, want none", no.caller, no.after, no.callee, got)
			}
		}
	})
}

// TestX86Calls has code in which the bytes of a call to 0x2000 are not all
// calls. The code is linked at 0x1000.
func TestX86Calls(t *testing.T) {
	call := func(at int) []byte { // CALL 0x2000 at an offset
		rel := uint32(0x2000 - 0x1000 - at - 5)
		return []byte{0xe8, byte(rel), byte(rel >> 8), byte(rel >> 16), byte(rel >> 24)}
	}
	nops := bytes.Repeat([]byte{0x90}, 20)
	code := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	tests := []struct {
		name string
		code []byte
		want []int
		err  string
	}{
		{name: "none", code: nops},
		{name: "first", code: call(0), want: []int{0}},
		{name: "two", code: code(nops, call(20), nops, call(45)), want: []int{20, 45}},
		{name: "elsewhere", code: code(nops, call(21)), want: nil},
		{name: "cut off", code: call(0)[:4]},
		// MOV RAX, imm64 whose constant looks like a call.
		{name: "constant", code: code([]byte{0x48, 0xb8}, call(2), nops[:3], call(10)), want: []int{10}},
		// 06 is no instruction in 64-bit mode; what follows it can be anything,
		// until all ways to read it agree again.
		{name: "unknown", code: code([]byte{0x06}, nops, call(21)), want: []int{21}},
		{name: "next to unknown", code: code([]byte{0x06}, call(1), nops), err: "0x1001"},
		{name: "prefixed", code: code([]byte{0x2e}, call(1)), err: "prefix"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := x86Calls(tt.code, 0x1000, map[uint64]bool{0x2000: true})
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			if err == nil && !slices.Equal(got, tt.want) {
				t.Errorf("calls at %v, want %v", got, tt.want)
			}
		})
	}
}

// TestARMCalls has a constant that looks like a call, after the code that
// loads it.
func TestARMCalls(t *testing.T) {
	const entry = 0x1000
	target := map[uint64]bool{0x2000: true}
	bl := func(at uint32) uint32 { return 0x94000000 | (0x2000-entry-at)/4 }
	tests := []struct {
		name string
		code []uint32
		want []int
	}{
		{"call", []uint32{0xd503201f, bl(4), 0xd65f03c0}, []int{4}},
		{"branch", []uint32{0x14000000 | 0x1000/4}, nil},
		{"literal W", []uint32{0x18000000 | 2<<5, 0xd65f03c0, bl(8), bl(12)}, []int{12}},
		{"literal X", []uint32{0x58000000 | 2<<5, 0xd65f03c0, bl(8), bl(12), bl(16)}, []int{16}},
		{"literal Q", []uint32{0x9c000000 | 1<<5, bl(4), bl(8), bl(12), bl(16), bl(20)}, []int{20}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := armCalls(words(tt.code...), entry, target)
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("calls at %v, %v, want %v", got, err, tt.want)
			}
		})
	}
}

// TestCallTarget compares with the calls that the disassembly finds, and asks for
// the places between them, too.
func TestCallTarget(t *testing.T) {
	eachBuild(t, "frames", func(t *testing.T, b testenv.Build, path string, f *File) {
		calls, size := 0, uint64(5)
		if f.Arch() == ARM64 {
			size = 4
		}
		for fn := range f.runtimeFuncs() {
			ends := map[uint64]uint64{} // of the calls, and what they call
			for _, r := range f.refs(fn) {
				if to, ok := f.FuncAt(r.addr); ok && r.kind == refCall && to.Entry == r.addr {
					ends[r.pc+size] = r.addr
				}
			}
			for ra := fn.Entry + size; ra <= fn.End; ra++ {
				got, ok := f.CallTarget(ra)
				if want := ends[ra]; want != 0 && (!ok || got.Entry != want) {
					t.Errorf("%s: the call before %#x is of %#x, want %#x", fn.Name, ra, got.Entry, want)
				}
				if ok {
					calls++
				}
			}
		}
		if calls < 1000 {
			t.Errorf("%d calls", calls)
		}
	})
}
