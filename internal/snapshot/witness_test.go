package snapshot_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gopherscope/internal/clock"
	"gopherscope/internal/dump"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/process"
	"gopherscope/internal/snapshot"
	"gopherscope/internal/target"
	"gopherscope/internal/testenv"
)

// witnessed is a goroutine as the program itself has it.
type witnessed struct {
	State   string // what the header has in brackets
	GP      string // address of the g struct, from Go 1.23 on
	Frames  []string
	Created string
}

var (
	headerLine = regexp.MustCompile(`^goroutine (\d+)(?: gp=(0x[0-9a-f]+) m=\S+(?: mp=\S+)?)? \[([^\]]*)\](?: \{.*\})?:$`)
	placeLine  = regexp.MustCompile(`^\t(.*:\d+)( \+0x[0-9a-f]+)?(?: fp=0x[0-9a-f]+ sp=0x[0-9a-f]+ pc=(0x[0-9a-f]+))?$`)
	elidedLine = regexp.MustCompile(`^\.\.\.(additional|\d+) frames elided\.\.\.$`)
)

// parseStacks reads what a program that is killed by SIGQUIT prints under
// GOTRACEBACK=system, which hides nothing: every goroutine, every frame, every pc.
func parseStacks(t *testing.T, lines []string) map[uint64]*witnessed {
	t.Helper()
	out := map[uint64]*witnessed{}
	var g *witnessed
	fn := ""
	for _, line := range lines {
		if m := headerLine.FindStringSubmatch(line); m != nil {
			id, err := strconv.ParseUint(m[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			if g = (&witnessed{State: m[3], GP: m[2]}); id != 0 { // 0 are the threads' own
				out[id] = g
			}
			continue
		}
		place := placeLine.FindStringSubmatch(line)
		switch {
		case line == "" || g == nil:
		case elidedLine.MatchString(line):
			g.Frames = append(g.Frames, "elided")
		case place != nil && strings.HasPrefix(fn, "created by "):
			name, _, _ := strings.Cut(strings.TrimPrefix(fn, "created by "), " in goroutine ")
			g.Created = strings.TrimSpace(fmt.Sprintf("%s %s%s", name, place[1], place[2]))
			if _, parent, ok := strings.Cut(fn, " in goroutine "); ok {
				g.Created += " in " + parent
			}
		case place != nil:
			g.Frames = append(g.Frames, strings.TrimSpace(fmt.Sprintf("%s %s%s %s", fn, place[1], place[2], place[3])))
		case strings.HasPrefix(line, "rax "), strings.HasPrefix(line, "r0 "):
			return out
		case strings.HasPrefix(line, "\t"):
			t.Fatalf("a line that the test does not know: %q", line)
		default:
			fn = line
			if i := strings.LastIndexByte(line, '('); i > 0 && !strings.HasPrefix(line, "created by ") {
				fn = line[:i]
				if strings.HasSuffix(line, "(...)") && !strings.Contains(line, "{...") {
					fn += " inlined"
				}
			}
		}
	}
	return out
}

// shown is a goroutine of a Dump in the same form.
func shown(d *dump.Dump, g *dump.Goroutine, bias uint64) *witnessed {
	w := &witnessed{State: g.Status.Name(), GP: fmt.Sprintf("%#x", g.Addr)}
	if r := d.ReasonOf(g); r != "" {
		w.State = r
	}
	if n := d.WaitedFor(g).Minutes(); n >= 1 {
		w.State += fmt.Sprintf(", %d minutes", int(n))
	}
	if g.Has(dump.Locked) {
		w.State += ", locked to thread"
	}
	for _, f := range d.Stacks[g.Stack].Frames {
		name := f.Func
		if name == "runtime.gopanic" {
			name = "panic"
		}
		line := fmt.Sprintf("%s inlined %s:%d", name, f.File, f.Line)
		if !f.Inlined {
			line = fmt.Sprintf("%s %s:%d%s %#x", name, f.File, f.Line, offset(f.Offset), f.PC+bias)
		}
		w.Frames = append(w.Frames, line)
	}
	if c := d.Sites[g.Created]; c.Outer != "" && g.ID != 1 {
		w.Created = fmt.Sprintf("%s %s:%d%s", c.Outer, c.File, c.Line, offset(c.Offset))
		if g.Parent != 0 {
			w.Created += fmt.Sprintf(" in %d", g.Parent)
		}
	}
	return w
}

func offset(n uint32) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" +%#x", n)
}

// opened is a target for the length of a test.
func opened(t *testing.T, pid int) *target.Target {
	t.Helper()
	p, err := process.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	tgt, err := target.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tgt.Close() })
	return tgt
}

func take(t *testing.T, tgt *target.Target) *dump.Dump {
	t.Helper()
	d, err := snapshot.Take(context.Background(), tgt, &snapshot.Options{Stacks: true, Clock: clock.Mono})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// takeStill is take for the program still: its main goroutine holds still only
// when it is back at reading its stdin.
func takeStill(t *testing.T, tgt *target.Target) *dump.Dump {
	t.Helper()
	for end := time.Now().Add(testenv.Deadline); time.Now().Before(end); {
		d := take(t, tgt)
		for i := range d.Goroutines {
			g := &d.Goroutines[i]
			reads := slices.ContainsFunc(d.Stacks[g.Stack].Frames, func(f dump.Frame) bool { return f.Func == "syscall.Read" })
			if g.ID == 1 && g.Status == goruntime.Syscall && reads {
				return d
			}
		}
	}
	t.Fatal("the main goroutine does not read its stdin")
	return nil
}

// witnessBuilds are the builds of which the stacks are compared.
func witnessBuilds() []testenv.Build {
	if os.Getenv("GOPHERSCOPE_MATRIX") == "" {
		return testenv.CrossSection()
	}
	var builds []testenv.Build
	for _, v := range testenv.Versions() {
		builds = append(builds,
			testenv.Build{Go: v}, testenv.Build{Go: v, Stripped: true}, testenv.Build{Go: v, PIE: true},
			testenv.Build{Go: v, PIE: true, Stripped: true}, testenv.Build{Go: v, Cgo: true},
			testenv.Build{Go: v, Cgo: true, PIE: true, Stripped: true}, testenv.Build{Go: v, NoOpt: true},
			testenv.Build{Go: v, Race: true})
	}
	return builds
}

// TestAgainstRuntime compares a snapshot with the dump that the program makes of
// itself when it is killed: state, g struct, creator, and every frame with its
// place and its pc, of the runtime's own goroutines too.
func TestAgainstRuntime(t *testing.T) {
	for _, b := range witnessBuilds() {
		t.Run(b.String(), func(t *testing.T) {
			t.Parallel()
			prog := testenv.StartEnv(t, []string{"GOTRACEBACK=system"}, testenv.BuildTarget(t, "still", b))
			prog.WaitLine("held")
			tgt := opened(t, prog.PID())
			labels := prog.Ask("labels")
			d := takeStill(t, tgt)
			checkLabels(t, d, labels)
			compareWithRuntime(t, d, tgt.Bias, prog)
		})
	}
}

func compareWithRuntime(t *testing.T, d *dump.Dump, bias uint64, prog *testenv.Process) {
	t.Helper()
	prog.Signal(syscall.SIGQUIT)
	prog.Lines()
	if err := prog.Wait(); err == nil {
		t.Error("SIGQUIT did no harm")
	}
	compareWithCrash(t, d, bias, prog.Stderr())
}

// compareWithCrash compares d with what the program printed when it crashed.
func compareWithCrash(t *testing.T, d *dump.Dump, bias uint64, stderr string) {
	t.Helper()
	want := parseStacks(t, strings.Split(stderr, "\n"))
	if len(d.Goroutines) != len(want) || len(want) < 30 {
		t.Errorf("%d goroutines, the program has %d", len(d.Goroutines), len(want))
	}
	if d.Torn != 0 || d.FPMismatches != 0 {
		t.Errorf("%d torn, %d stacks on which frame pointers disagree", d.Torn, d.FPMismatches)
	}
	for i := range d.Goroutines {
		g := &d.Goroutines[i]
		w := want[g.ID]
		if w == nil {
			t.Errorf("goroutine %d is not the program's", g.ID)
			continue
		}
		if g.Has(dump.System) && d.Sites[g.Start].Func == "runtime.bgscavenge" {
			continue // wakes now and then
		}
		got := shown(d, g, bias)
		if w.GP == "" {
			got.GP = ""
		}
		got.Frames = elided(got.Frames, w.Frames)
		if diff := cmp.Diff(w, got); diff != "" {
			t.Errorf("goroutine %d (-runtime +snapshot):\n%s", g.ID, diff)
		}
	}
}

// elided shortens a list of frames as the runtime shortened its own: after the
// first 50 or 100, and up to the last 50 from Go 1.21 on.
func elided(frames, as []string) []string {
	for i, f := range as {
		if f != "elided" {
			continue
		}
		tail := len(as) - i - 1
		if len(frames) < i+tail {
			return frames
		}
		return append(append(frames[:i:i], "elided"), frames[len(frames)-tail:]...)
	}
	return frames
}

// checkLabels compares the labels with those that the program set.
func checkLabels(t *testing.T, d *dump.Dump, lines []string) {
	t.Helper()
	want := map[string]bool{}
	for _, l := range lines {
		want[l] = true
	}
	n := 0
	for i := range d.Goroutines {
		g := &d.Goroutines[i]
		for _, l := range d.Labels[g.Labels] {
			n++
			if line := fmt.Sprintf("label %d %q %q", g.ID, l.Key, l.Value); !want[line] {
				t.Errorf("the program did not set %s", line)
			}
		}
	}
	if n != len(want) || n != 24 {
		t.Errorf("%d labels, the program set %d", n, len(want))
	}
}

// TestAgainstRuntimeARM64 is TestAgainstRuntime for programs that run under
// qemu's emulation of arm64: the emulator has the program's memory in its own.
func TestAgainstRuntimeARM64(t *testing.T) {
	qemu, err := exec.LookPath("qemu-aarch64-static")
	if err != nil {
		testenv.Missing(t, "qemu-user-static: "+err.Error())
	}
	for _, v := range testenv.Versions() {
		for _, b := range []testenv.Build{{Go: v, GOARCH: "arm64"}, {Go: v, GOARCH: "arm64", Stripped: true}} {
			if os.Getenv("GOPHERSCOPE_MATRIX") == "" && b.Stripped != (b.Minor()%2 == 0) {
				continue
			}
			t.Run(b.String(), func(t *testing.T) {
				bin := testenv.BuildTarget(t, "still", b)
				prog := testenv.StartEnv(t, []string{"GOTRACEBACK=system"}, qemu, "-B", "0", bin)
				prog.WaitLine("held")
				tgt := emulated(t, prog.PID(), bin)
				labels := prog.Ask("labels")
				d := takeStill(t, tgt)
				checkLabels(t, d, labels)
				compareWithRuntime(t, d, tgt.Bias, prog)
			})
		}
	}
}

// emulated is the target that the emulator with that PID runs.
func emulated(t *testing.T, pid int, bin string) *target.Target {
	t.Helper()
	p, err := process.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	tgt, err := target.OpenBinary(bin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tgt.Close() })
	maps, err := p.Mappings()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range maps {
		for _, s := range target.Segments(tgt.Bin) {
			if m.Path == bin && m.Offset == s.Off {
				if err := tgt.UseMemory(p, m.Start-s.Vaddr); err != nil {
					t.Fatal(err)
				}
				return tgt
			}
		}
	}
	t.Fatalf("%s is not mapped", bin)
	return nil
}
