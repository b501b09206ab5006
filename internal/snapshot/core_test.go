package snapshot_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/arch/x86/x86asm"

	"gopherscope/internal/corefile"
	"gopherscope/internal/dump"
	"gopherscope/internal/gobinary"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/snapshot"
	"gopherscope/internal/target"
	"gopherscope/internal/testenv"
)

// takeCore is the Dump of a core file, and by what its program was moved.
func takeCore(t *testing.T, path, exe string) (*dump.Dump, uint64) {
	t.Helper()
	core, err := corefile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer core.Close()
	tgt, err := target.OpenCore(core, exe)
	if err != nil {
		t.Fatal(err)
	}
	defer tgt.Close()
	d, err := snapshot.TakeCore(context.Background(), tgt, core, &snapshot.Options{Stacks: true})
	if err != nil {
		t.Fatal(err)
	}
	return d, tgt.Bias
}

// coreBuilds are builds on both sides of what changes in core files: how the
// program is linked and loaded, and the Go version.
func coreBuilds() []testenv.Build {
	var builds []testenv.Build
	for _, v := range []string{"1.18", "1.21", "1.24", "1.27"} {
		builds = append(builds,
			testenv.Build{Go: v}, testenv.Build{Go: v, PIE: true, Stripped: true}, testenv.Build{Go: v, Cgo: true})
	}
	return builds
}

// gcoreBuilds are some of the coreBuilds: gcore writes the gigabyte that the
// runtime has reserved.
func gcoreBuilds() []testenv.Build {
	if os.Getenv("GOPHERSCOPE_MATRIX") != "" {
		return coreBuilds()
	}
	return []testenv.Build{{Go: "1.18"}, {Go: "1.21", PIE: true, Stripped: true}, {Go: "1.24", Cgo: true}, {Go: "1.27"}}
}

// TestCoreAgainstLive compares a core file that gcore makes of a program that
// holds still with a snapshot of the live program.
func TestCoreAgainstLive(t *testing.T) {
	for _, b := range gcoreBuilds() {
		t.Run(b.String(), func(t *testing.T) {
			prog := testenv.Start(t, testenv.BuildTarget(t, "still", b))
			prog.WaitLine("held")
			tgt := opened(t, prog.PID())
			live := take(t, tgt)
			d, bias := takeCore(t, testenv.Gcore(t, prog), "")
			if d.PID != prog.PID() || bias != tgt.Bias || !d.Time.IsZero() || d.Torn != 0 || d.FPMismatches != 0 {
				t.Errorf("PID %d, bias %#x, time %v, %d torn, %d frame pointers disagree; the process is %d at %#x",
					d.PID, bias, d.Time, d.Torn, d.FPMismatches, prog.PID(), tgt.Bias)
			}
			if len(d.Goroutines) != len(live.Goroutines) || len(live.Goroutines) < 30 {
				t.Fatalf("%d goroutines, %d in the live process", len(d.Goroutines), len(live.Goroutines))
			}
			checkLabels(t, d, prog.Ask("labels"))
			for i := range d.Goroutines {
				g, was := &d.Goroutines[i], &live.Goroutines[i]
				if g.Has(dump.System) && d.Sites[g.Start].Func == "runtime.bgscavenge" {
					continue // wakes now and then
				}
				if diff := cmp.Diff(shown(live, was, bias), shown(d, g, bias)); diff != "" || g.ID != was.ID {
					t.Errorf("goroutine %d, live %d (-live +core):\n%s", g.ID, was.ID, diff)
				}
				if g.TID != was.TID || g.Flags != was.Flags || g.Source != was.Source {
					t.Errorf("goroutine %d: thread %d, flags %b, stack of %s; live %d, %b, %s",
						g.ID, g.TID, g.Flags, g.Source, was.TID, was.Flags, was.Source)
				}
			}
		})
	}
}

// TestKernelCore compares the core file of a program that crashed with what it
// printed about itself while it crashed.
func TestKernelCore(t *testing.T) {
	for _, b := range coreBuilds() {
		t.Run(b.String(), func(t *testing.T) {
			bin := testenv.BuildTarget(t, "still", b)
			prog, dir := testenv.StartDumping(t, []string{"GOTRACEBACK=crash"}, bin)
			prog.WaitLine("held")
			prog.Signal(syscall.SIGQUIT)
			d, bias := takeCore(t, prog.KernelCore(dir), "")
			if d.PID != prog.PID() {
				t.Errorf("PID %d, want %d", d.PID, prog.PID())
			}
			compareWithCrash(t, d, bias, prog.Stderr())
		})
	}
}

// TestCoreRunning wants the stacks of all goroutines that run when gcore makes a
// core file.
func TestCoreRunning(t *testing.T) {
	for _, b := range gcoreBuilds() {
		t.Run(b.String(), func(t *testing.T) {
			prog := testenv.Start(t, testenv.BuildTarget(t, "preempt", b), "600000")
			untilSpinning(t, func() *dump.Dump {
				d, _ := takeCore(t, testenv.Gcore(t, prog), "")
				return d
			})
		})
	}
}

// TestCoreBetween wants the same of core files that are made at moments when a thread is
// neither in its goroutine nor quite elsewhere: as a signal handler begins and ends, and in
// the functions that switch stacks.
func TestCoreBetween(t *testing.T) {
	builds := gcoreBuilds()
	for _, b := range builds[len(builds)/2:] {
		bin := testenv.BuildTarget(t, "preempt", b)
		for _, name := range append([]string{
			"runtime.cgoSigtramp", "runtime.sigtramp", "runtime.sigtrampgo", "runtime.sigreturn", "runtime.sigreturn__sigaction",
		}, switchStacks...) {
			t.Run(b.String()+"/"+name, func(t *testing.T) {
				prog := testenv.Start(t, bin, "600000")
				tgt := opened(t, prog.PID())
				fn, ok := tgt.Bin.Func(name)
				if !ok || !b.Cgo && name == "runtime.cgoSigtramp" || b.Cgo && strings.HasPrefix(name, "runtime.sigreturn") {
					t.Skip("no thread of this program comes there")
				}
				addrs := []uint64{fn.Entry}
				if slices.Contains(switchStacks, name) && os.Getenv("GOPHERSCOPE_MATRIX") != "" {
					addrs = instructions(t, tgt, fn)
				}
				prog.Kill()
				for _, addr := range addrs {
					prog := testenv.Start(t, bin, "600000")
					patience := 2 * time.Minute // on a busy machine
					if addr > fn.Entry {
						patience = 15 * time.Second
					}
					core, reached := testenv.CoreAt(t, prog, opened(t, prog.PID()).Bias+addr, patience)
					prog.Kill()
					switch {
					case !reached && addr > fn.Entry:
						continue // it handles an error
					case !reached:
						t.Fatalf("no thread came to %s", name)
					}
					d, _ := takeCore(t, core, "")
					if checkRunning(t, d); t.Failed() {
						t.Fatalf("at %s+%#x", name, addr-fn.Entry)
					}
				}
			})
		}
	}
}

// switchStacks are functions that switch between the stacks of a goroutine and of its thread.
var switchStacks = []string{"gogo", "runtime.mcall", "runtime.systemstack"}

// instructions are the addresses of those of a function, as linked.
func instructions(t *testing.T, tgt *target.Target, fn gobinary.Func) []uint64 {
	t.Helper()
	var addrs []uint64
	code := make([]byte, fn.End-fn.Entry)
	if err := tgt.Mem.ReadMem(tgt.Bias+fn.Entry, code); err != nil {
		t.Fatal(err)
	}
	for off := 0; off < len(code); {
		in, err := x86asm.Decode(code[off:], 64)
		if err != nil {
			break
		}
		addrs = append(addrs, fn.Entry+uint64(off))
		off += in.Len
	}
	return addrs
}

// TestKernelCoreRunning is TestCoreRunning for a crash, which reaches each thread
// by a signal: the registers are on the stack of a signal handler.
func TestKernelCoreRunning(t *testing.T) {
	for _, b := range coreBuilds() {
		t.Run(b.String(), func(t *testing.T) {
			bin := testenv.BuildTarget(t, "preempt", b)
			untilSpinning(t, func() *dump.Dump {
				prog, dir := testenv.StartDumping(t, []string{"GOTRACEBACK=crash", "WAIT=1"}, bin, "600000")
				prog.WaitLine("ready")
				prog.Go()
				time.Sleep(50 * time.Millisecond)
				prog.Signal(syscall.SIGQUIT)
				d, _ := takeCore(t, prog.KernelCore(dir), "")
				return d
			})
		})
	}
}

// TestKernelCoreFatal has a goroutine that ran into a fatal error of the runtime.
// Its thread is on g0 then, where the error is printed.
func TestKernelCoreFatal(t *testing.T) {
	for _, b := range coreBuilds() {
		t.Run(b.String(), func(t *testing.T) {
			prog, dir := testenv.StartDumping(t, []string{"GOTRACEBACK=crash"}, testenv.BuildTarget(t, "fatal", b))
			d, _ := takeCore(t, prog.KernelCore(dir), "")
			found := false
			for i := range d.Goroutines {
				g := &d.Goroutines[i]
				if d.Sites[g.Start].Func != "main.unlock" {
					continue
				}
				found = true
				funcs := funcsOf(d, g)
				if g.Source != dump.SourceCore || !slices.Contains(funcs, "main.unlock") || !slices.Contains(funcs, "runtime.systemstack_switch") {
					t.Errorf("goroutine %d is %s, stack of %s:\n%s", g.ID, g.Status.Name(), g.Source, strings.Join(funcs, "\n"))
				}
			}
			if !found {
				t.Errorf("the goroutine is not among %d", len(d.Goroutines))
			}
		})
	}
}

// funcsOf are the functions of a goroutine's stack, innermost first.
func funcsOf(d *dump.Dump, g *dump.Goroutine) []string {
	var funcs []string
	for _, f := range d.Stacks[g.Stack].Frames {
		funcs = append(funcs, f.Func)
	}
	return funcs
}

// untilSpinning makes core files of the program preempt and checks them, until
// one has a goroutine that spins: between two of its collections all stand still.
func untilSpinning(t *testing.T, dumped func() *dump.Dump) {
	t.Helper()
	for range 10 {
		if checkRunning(t, dumped()) > 0 {
			return
		}
	}
	t.Error("no core file has a goroutine that spins")
}

// checkRunning checks the stacks of the running goroutines, and returns how many
// of them spin.
func checkRunning(t *testing.T, d *dump.Dump) (spinning int) {
	t.Helper()
	for i := range d.Goroutines {
		g := &d.Goroutines[i]
		if g.Status != goruntime.Running {
			continue
		}
		funcs := funcsOf(d, g)
		if g.Source != dump.SourceCore || d.Stacks[g.Stack].Cut || !slices.Contains(funcs, "runtime.goexit") {
			t.Errorf("goroutine %d runs on thread %d: stack of %s, cut %v:\n%s",
				g.ID, g.TID, g.Source, d.Stacks[g.Stack].Cut, strings.Join(funcs, "\n"))
		}
		if slices.Contains(funcs, "testprog/internal/work.spin") {
			spinning++
		}
	}
	return spinning
}
