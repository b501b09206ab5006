package gobinary

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gopherscope/internal/testenv"
)

// windowBuilds are the builds in which the windows and gadgets are looked for: a
// cross-section and, with GOPHERSCOPE_MATRIX=1 in the environment, all. Code that
// is compiled without optimisation is laid out in another way.
func windowBuilds() []testenv.Build {
	builds := testenv.CrossSection()
	if os.Getenv("GOPHERSCOPE_MATRIX") == "1" {
		builds = testenv.Matrix()
	}
	for _, v := range []string{"1.18", "1.20", "1.23", "1.27"} {
		builds = append(builds, testenv.Build{Go: v, NoOpt: true})
	}
	return append(builds, testenv.Build{Go: "1.25", PIE: true, ExternalLink: true})
}

// A foundWindow is a window and the function that it lies in.
type foundWindow struct {
	Window
	fn Func
}

// mustWindows are the windows that the runtime must have: in exitsyscall, in
// coroswitch_m where it is linked, and after those calls of newproc1 that make a
// goroutine which newproc does not start.
func mustWindows(t *testing.T, f *File, minor int) (bodies, returns []foundWindow) {
	t.Helper()
	for _, name := range []string{"runtime.exitsyscall", "runtime.coroswitch_m"} {
		fn, ok := f.Func(name)
		if !ok && name == "runtime.coroswitch_m" && minor < 23 {
			continue // the test program has coroutines from Go 1.23 on
		}
		w, err := f.BodyWindow(name)
		if !ok || err != nil {
			t.Errorf("BodyWindow(%s): %v", name, err)
			continue
		}
		bodies = append(bodies, foundWindow{w, fn})
	}
	if minor >= 24 {
		return bodies, nil // goroutines have their number from casgstatus' caller on
	}
	calls, err := f.CallSites("runtime.newproc1", func(caller string) bool { return !strings.HasPrefix(caller, "runtime.newproc.") })
	if err != nil || len(calls) == 0 {
		t.Fatalf("calls of newproc1: %v, %v", calls, err)
	}
	for _, c := range calls {
		w, err := f.WindowAt(f.AfterCall(c))
		if err != nil || w.PC != f.AfterCall(c) {
			t.Errorf("after the call at %#x in %s: window at %#x, %v", c.PC, c.Caller, w.PC, err)
			continue
		}
		fn, _ := f.FuncAt(c.PC)
		returns = append(returns, foundWindow{w, fn})
	}
	if minor == 23 && !slices.ContainsFunc(returns, func(w foundWindow) bool { return strings.HasPrefix(w.fn.Name, "runtime.newcoro") }) {
		t.Error("no window in newcoro")
	}
	return bodies, returns
}

// TestWindows looks for the windows that the runtime must have, and compares each
// with what objdump shows of its function.
func TestWindows(t *testing.T) {
	for _, b := range windowBuilds() {
		t.Run(b.String(), func(t *testing.T) {
			path := testenv.BuildTarget(t, "all", b)
			checkMustWindows(t, path, b.Minor())
		})
	}
}

func checkMustWindows(t *testing.T, path string, minor int) {
	f := mustOpen(t, path)
	bodies, returns := mustWindows(t, f, minor)
	for _, w := range bodies {
		if text := gnuList(t, path, w.fn.Entry, w.fn.End).before(w.fn, w.PC); !wholePrologue.MatchString(text) {
			t.Errorf("%s: before the window is no whole prologue:\n%s", w.fn.Name, text)
		}
	}
	for _, w := range append(bodies, returns...) {
		if err := gnuList(t, path, w.fn.Entry, w.fn.End).check(w.Window, w.fn); err != nil {
			t.Errorf("%s: %v", w.fn.Name, err)
		}
		file, err := f.CodeAt(w.PC, len(w.Orig))
		if err != nil || !bytes.Equal(file, w.Orig) {
			t.Errorf("%s: the file has % x (%v), the window % x", w.fn.Name, file, err, w.Orig)
		}
		clear(w.Orig) // they are the caller's own
		if again, err := f.WindowAt(w.PC); err != nil || !bytes.Equal(again.Orig, file) {
			t.Errorf("%s: again % x, %v", w.fn.Name, again.Orig, err)
		}
	}
}

// TestWindowCoro122 is about coroutines in Go 1.22, which had them as an experiment.
func TestWindowCoro122(t *testing.T) {
	if os.Getenv("GOPHERSCOPE_MATRIX") != "1" {
		t.Skip("builds a standard library; GOPHERSCOPE_MATRIX=1 to run")
	}
	testenv.RequireToolchain(t, "1.22")
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module coro\n\ngo 1.22\n",
		"main.go": "package main\n\nimport \"iter\"\n\nfunc main() {\n\tnext, stop := iter.Pull(func(yield func(int) bool) { yield(1) })\n" +
			"\tnext()\n\tstop()\n}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "build", "-o", "coro", ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOTOOLCHAIN=go1.22.12", "GOEXPERIMENT=rangefunc", "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	checkMustWindows(t, filepath.Join(dir, "coro"), 23)
}

// TestEveryWindow asks for a window in the body of each function of the runtime and
// after each of its calls. What is given is compared with objdump's listing of the
// whole program: so no branch of another function goes into a window either.
func TestEveryWindow(t *testing.T) {
	builds := []testenv.Build{{Go: "1.18"}, {Go: "1.25", PIE: true}, {Go: "1.27", Stripped: true}}
	if os.Getenv("GOPHERSCOPE_MATRIX") == "1" {
		for _, v := range testenv.Versions() {
			builds = append(builds, testenv.Build{Go: v, Race: true})
		}
		builds = append(builds, testenv.Build{Go: "1.21"}, testenv.Build{Go: "1.23", Cgo: true}, testenv.Build{Go: "1.27", NoOpt: true})
	}
	for _, b := range builds {
		t.Run(b.String(), func(t *testing.T) {
			path := testenv.BuildTarget(t, "all", b)
			f := mustOpen(t, path)
			all := gnuList(t, path, 0, 1<<62)
			wins := everyWindow(t, f, all)
			relocated := wins[:min(len(wins), 1000)]
			for _, distance := range []int64{0, 0x10, -0x100000, 0x70000000} {
				checkRelocated(t, all, relocated, distance)
			}
		})
	}
}

// everyWindow are the windows of the runtime, each compared with the listing.
func everyWindow(t *testing.T, f *File, all *listing) []foundWindow {
	var wins []foundWindow
	bodies, returns, refused := 0, 0, 0
	for fn := range f.runtimeFuncs() {
		if g, ok := f.Func(fn.Name); ok && g == fn {
			if w, err := f.BodyWindow(fn.Name); err == nil {
				bodies++
				wins = append(wins, foundWindow{w, fn})
				if text := all.before(fn, w.PC); !wholePrologue.MatchString(text) {
					t.Errorf("%s: before the window is no whole prologue:\n%s", fn.Name, text)
				}
			} else if !errors.Is(err, ErrWindow) {
				t.Errorf("%s: %v", fn.Name, err)
			}
		}
		for i := all.at[fn.Entry]; i+1 < len(all.insns) && all.insns[i+1].pc < fn.End; i++ {
			if all.insns[i].code[0] != 0xe8 {
				continue
			}
			w, err := f.WindowAt(all.insns[i+1].pc)
			if err != nil {
				refused++
				continue
			}
			returns++
			wins = append(wins, foundWindow{w, fn})
		}
	}
	for _, w := range wins {
		if err := all.check(w.Window, w.fn); err != nil {
			t.Errorf("%s: window at %#x: %v", w.fn.Name, w.PC, err)
		}
	}
	t.Logf("%d bodies, %d returns, %d returns refused", bodies, returns, refused)
	if bodies < 700 || returns < 3000 || refused < 1000 {
		t.Error("so few are not compared with much")
	}
	return wins
}

// checkRelocated moves windows by a distance and has objdump read the copies: each
// must be the same instructions that refer to the same addresses.
func checkRelocated(t *testing.T, all *listing, wins []foundWindow, distance int64) {
	const slot = 32
	base := wins[0].PC + uint64(distance)
	code := bytes.Repeat([]byte{0x90}, slot*len(wins))
	relative := 0
	for i, w := range wins {
		before := bytes.Clone(w.Orig)
		moved, err := w.Relocate(base + uint64(slot*i))
		if err != nil || len(moved) != len(w.Orig) || len(moved) > slot {
			t.Fatalf("%s: %d bytes to %#x: %d bytes, %v", w.fn.Name, len(w.Orig), base+uint64(slot*i), len(moved), err)
		}
		copy(code[slot*i:], moved)
		if !bytes.Equal(w.Orig, before) {
			t.Fatalf("%s: Relocate has changed the window", w.fn.Name)
		}
	}
	copies := gnuListBytes(t, code, base)
	for i, w := range wins {
		for _, in := range w.Insns {
			was, at := all.insns[all.at[w.PC+uint64(in.Off)]], base+uint64(slot*i+in.Off)
			k, ok := copies.at[at]
			if !ok || copies.insns[k].text != was.text || len(copies.insns[k].code) != in.Len {
				t.Errorf("%s: %s is %+v at %#x", w.fn.Name, was.text, copies.insns[k], at)
			}
			if in.RIPDisp >= 0 {
				relative++
			}
		}
	}
	if relative < 10 {
		t.Errorf("%d operands at a distance", relative)
	}
}

// TestRelocateFar is about displacements at the end of what 32 bits hold.
func TestRelocateFar(t *testing.T) {
	const pc = 0x401000
	rip := Window{PC: pc, Orig: unhex(t, "833d10000000ff"), Insns: []WindowInsn{{0, 7, 2}}} // cmpl $-1, 0x10(%rip)
	for _, tt := range []struct {
		disp  int32
		delta int64 // of the address
		ok    bool
	}{
		{0x10, 0, true}, {0x10, 5, true}, {-0x10, -5, true},
		{0, 1 << 31, true}, {0, 1<<31 + 1, false}, {0, -(1<<31 - 1), true}, {0, -(1 << 31), false},
		{1, 1<<31 + 1, true}, {-1, 1 << 31, false}, {-1, -(1 << 31), true},
		{0x7fffffff, -1, false}, {-0x80000000, 1, false}, {0x7fffffff, 1<<32 - 1, true}, {0x7fffffff, 1 << 32, false},
		{0, 1 << 32, false}, {0, -(1 << 32), false}, {0, 1 << 62, false}, {-1, -1 << 63, false}, {1, -1 << 63, false},
	} {
		binary.LittleEndian.PutUint32(rip.Orig[2:], uint32(tt.disp))
		code, err := rip.Relocate(pc + uint64(tt.delta))
		if tt.ok != (err == nil) || err != nil && !errors.Is(err, ErrWindow) {
			t.Errorf("displacement %#x moved by %#x: % x, %v", tt.disp, tt.delta, code, err)
			continue
		}
		if err != nil {
			continue
		}
		got := int64(int32(binary.LittleEndian.Uint32(code[2:])))
		if got != int64(tt.disp)-tt.delta || !bytes.Equal(code[:2], rip.Orig[:2]) || code[6] != 0xff {
			t.Errorf("displacement %#x moved by %#x is %#x: % x", tt.disp, tt.delta, got, code)
		}
	}
	plain := Window{PC: pc, Orig: unhex(t, "4883c001 4883c002"), Insns: []WindowInsn{{0, 4, -1}, {4, 4, -1}}}
	for _, to := range []uint64{0, pc, 1 << 40, 1 << 63} {
		if code, err := plain.Relocate(to); err != nil || !bytes.Equal(code, plain.Orig) {
			t.Errorf("what refers to nothing, moved to %#x: % x, %v", to, code, err)
		}
	}
}

// TestNoWindow asks for windows where none can be.
func TestNoWindow(t *testing.T) {
	path := testenv.BuildTarget(t, "all", testenv.Build{Go: "1.27", Cgo: true})
	f := mustOpen(t, path)
	w, err := f.BodyWindow("runtime.exitsyscall")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.BodyWindow("runtime.nothing"); !errors.Is(err, ErrNoSymbol) {
		t.Errorf("in a function that is not there: %v", err)
	}
	// An assembly function without a frame.
	if _, err := f.BodyWindow("runtime.memmove"); !errors.Is(err, ErrWindow) {
		t.Errorf("in memmove: %v", err)
	}
	fn := mustFunc(t, f, "runtime.exitsyscall")
	for pc := fn.Entry; pc < w.PC+uint64(len(w.Orig)); pc++ {
		inside := slices.ContainsFunc(w.Insns, func(in WindowInsn) bool { return pc == w.PC+uint64(in.Off) }) || pc <= w.PC
		if _, err := f.WindowAt(pc); !inside && !errors.Is(err, ErrWindow) {
			t.Errorf("at %#x, the middle of an instruction: %v", pc, err)
		}
	}
	places := map[string]uint64{"nowhere": 0, "the end": ^uint64(0), "the last instruction": fn.End - 1}
	for _, s := range symbols(t, path) {
		if s.Name == "_start" || s.Name == "x_cgo_init" { // C code
			places[s.Name] = s.Value
		}
	}
	if len(places) != 5 {
		t.Errorf("no C functions: %v", places)
	}
	for name, pc := range places {
		if w, err := f.WindowAt(pc); !errors.Is(err, ErrWindow) {
			t.Errorf("at %s, %#x: %+v, %v", name, pc, w, err)
		}
	}
}

func TestNoWindowOnARM64(t *testing.T) {
	f := mustOpen(t, testenv.BuildTarget(t, "coro", testenv.Build{Go: "1.27", GOARCH: "arm64"}))
	if w, err := f.BodyWindow("runtime.exitsyscall"); !errors.Is(err, ErrNotYet) {
		t.Errorf("BodyWindow = %+v, %v", w, err)
	}
	if w, err := f.WindowAt(mustFunc(t, f, "runtime.exitsyscall").Entry); !errors.Is(err, ErrNotYet) {
		t.Errorf("WindowAt = %+v, %v", w, err)
	}
}
