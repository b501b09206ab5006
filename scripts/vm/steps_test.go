package vm_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gopherscope/internal/testenv"
	"gopherscope/scripts/vm/console"
)

// program is a target program that a step uses. A command finds it in its path.
type program struct {
	name  string
	build testenv.Build
}

// step is one thing to run in the machine: tests of a package, or a command.
type step struct {
	name     string
	pkg      string    // of the tests; "" for a command
	tests    string    // which: a regular expression for -test.run
	least    int       // tests and subtests that must pass
	programs []program // that they use
	args     []string  // the command
	judge    func(*testing.T, *console.Result)
}

// stepLife is how long one step may take.
const stepLife = 15 * time.Minute

// guest is the step as the machine gets it.
func (s *step) guest() console.Step {
	g := console.Step{
		Name: s.name, Args: s.args, Timeout: stepLife,
		// What the tests need was put there. So nothing may be skipped for want of it.
		Env: []string{"CI=true", "GOPHERSCOPE_TESTPROG=" + progsDir, "GOPHERSCOPE_TOOL=" + toolPath},
	}
	if s.pkg != "" {
		g.Dir = srcDir + "/" + s.pkg
		g.Args = []string{testPath(s.pkg), "-test.v", "-test.run", s.tests, "-test.timeout", (stepLife - time.Minute).String()}
	}
	return g
}

// The builds that are traced: on both sides of the runtime's largest changes.
var (
	plain126 = testenv.Build{Go: "1.26"}
	race121  = testenv.Build{Go: "1.21", Race: true}
	plain122 = testenv.Build{Go: "1.22"} // where there is no C library for the race detector
)

// steps are what is run on the kernel.
func (k *kernel) steps() []step {
	steps := []step{
		{name: "doctor", args: []string{toolPath, "doctor", "--json"}, judge: k.judgeDoctor},
		{name: "ps", args: []string{toolPath, "ps", "--json"}, judge: judgePs},
		k.dump(),
		leaks,
	}
	if k.old {
		steps = append(steps, refused("ebpf-refused", "ebpf", "the kernel is too old: Linux 5.10.", "use --engine inline"))
	} else {
		steps = append(steps, k.live("ebpf"), k.attachments(), k.stacks(), k.scripts())
	}
	switch {
	case k.invariant:
		steps = append(steps, k.live("inline"), k.restarts())
	case k.arch == "amd64":
		steps = append(steps, refused("inline-refused", "inline", "time stamp counter cannot order events", "use --engine ebpf"))
	default:
		steps = append(steps, refused("inline-refused", "inline", "not for "+k.arch+" yet", "use --engine ebpf"))
	}
	if k.sleeps {
		steps = append(steps, swap, pagedOut)
	}
	return steps
}

// live is the tests that hold every line of a trace to what the program says that it did:
// nothing lost, no violation, every count exact.
func (k *kernel) live(engine string) step {
	builds := []testenv.Build{race121, plain126}
	if k.arch != "amd64" {
		builds[0] = plain122
	}
	var programs []program
	var names []string
	for _, b := range builds {
		programs = append(programs, program{"all", b})
		names = append(names, regexp.QuoteMeta(b.String()))
	}
	return tests("live-"+engine, "test/live",
		"^(TestLaunched|TestAttached)$/^"+engine+"$/^("+strings.Join(names, "|")+")$", 2+2*len(builds), programs...)
}

// attachments are the eBPF engine's own tests: every way to attach, one process of two,
// all of a binary, what is lost is counted, and with which rights. Both ways to see system calls
// are compared where neither loses any.
func (k *kernel) attachments() step {
	names, least := "TestAttachments|TestOneProcessOnly|TestWholeBinary|TestStop|TestLostAreCounted|TestTracepointsClose|TestTracepointsOfNobody", 12
	programs := []program{{"pingpong", testenv.Build{}}, {"pingpong", testenv.Build{PIE: true}}}
	if !k.preempts {
		names, least = names+"|TestTracepoints|TestTracepointsExec", least+2
		programs = append(programs, program{"stacks", testenv.Build{}}, program{"hard", testenv.Build{}})
	}
	return tests("ebpf", "internal/engine/ebpf", "^("+names+")$", least, programs...)
}

// stacks is the test that holds the stacks of a trace to what the program finds out by
// itself, frame by frame. On arm64 a goroutine whose stack has grown has its innermost frames
// only before Go 1.21, which keeps frame pointers then (runtime/stack.go adjustframe).
func (k *kernel) stacks() step {
	builds := []testenv.Build{{Go: "1.21", Stripped: true}, {Go: "1.26", PIE: true, Stripped: true}, {Go: "1.27"}}
	if k.arch == "amd64" {
		builds = append(builds, testenv.Build{Go: "1.18"})
	}
	var programs []program
	var names []string
	for _, b := range builds {
		programs = append(programs, program{"stacks", b})
		names = append(names, regexp.QuoteMeta(b.String()))
	}
	return tests("stacks", "internal/engine/ebpf", "^TestStacks$/^("+strings.Join(names, "|")+")$", 1+len(programs), programs...)
}

// swap gives the machine swap space, on a disk in its memory.
var swap = step{
	name: "swap", args: []string{"/bin/sh", "-c", "insmod " + ramDiskPath + " rd_nr=1 rd_size=65536 && mkswap /dev/ram0 && swapon /dev/ram0"},
	judge: func(t *testing.T, r *console.Result) {
		if r.Code != 0 {
			t.Errorf("exit code %d:\n%s", r.Code, strings.Join(r.Output, "\n"))
		}
	},
}

// pagedOut are the tests that a program's changes are seen whose memory is swapped out: the
// programs of uprobes wait for it.
var pagedOut = tests("paged-out", "test/hard", "^(TestPagedOut|TestPagedOutMeanwhile)$/^(ebpf|)$", 3, program{"hard", testenv.Build{Go: "1.27"}})

// restarts are the tests of system calls that the inline engine interrupts, and of its room.
func (k *kernel) restarts() step {
	names := "TestRestart|TestNoRestart|TestFindSpace"
	if !k.cachestat {
		return tests("inline", "internal/engine/inline", "^("+names+")$", 3)
	}
	return tests("inline", "internal/engine/inline", "^("+names+"|TestTouchAhead)$", 4)
}

// scripts are the command line's own tests, of trace, stat, profile, record and convert.
func (k *kernel) scripts() step {
	return tests("commands", "internal/cli", "^TestLiveScript$/^(trace|stat|profile|record|convert)$", 6,
		program{"pingpong", testenv.Build{}}, program{"idle", testenv.Build{}}, program{"spawn", testenv.Build{}})
}

// dump is the tests of dumps, which read memory and sample what runs.
func (k *kernel) dump() step {
	return tests("dump", "internal/cli", "^(TestDumpFilters|TestDumpGroups|TestDumpRunning)$", 3,
		program{"still", testenv.Build{}}, program{"spin", testenv.Build{}})
}

// leaks is the test of goroutines that nothing refers to any more, on everything that the
// program has; not that of rates, which a machine that is translated cannot keep.
var leaks = tests("leaks", "internal/cli", "^TestLeaksAll$", 1, program{"leaky", testenv.Build{}})

func tests(name, pkg, run string, least int, programs ...program) step {
	s := step{name: name, pkg: pkg, tests: run, least: least, programs: programs}
	s.judge = s.judgeTests
	return s
}

// judgeTests wants all tests to have run and passed.
func (s *step) judgeTests(t *testing.T, r *console.Result) {
	passed := 0
	for _, line := range r.Output {
		switch line = strings.TrimSpace(line); {
		case strings.HasPrefix(line, "--- PASS"):
			passed++
		case strings.HasPrefix(line, "--- SKIP"):
			t.Error("skipped: " + line)
		}
	}
	if r.Code != 0 || passed < s.least {
		t.Errorf("exit code %d, %d passed, want 0 and at least %d:\n%s", r.Code, passed, s.least, strings.Join(r.Output, "\n"))
	}
	t.Logf("%d passed in %v", passed, r.Took.Round(time.Second))
}

// refused is a trace that must end with a clear error and a hint, without a trace of the
// program that it would have started.
func refused(name, engine, because, hint string) step {
	s := step{name: name, programs: []program{{"pingpong", plain126}}, args: []string{toolPath, "trace", "--engine", engine, "--", "pingpong", "10"}}
	s.judge = func(t *testing.T, r *console.Result) {
		text := strings.Join(r.Output, "\n")
		if r.Code != 1 || len(r.Output) != 2 || !strings.HasPrefix(r.Output[0], "gopherscope: error: ") || !strings.HasPrefix(r.Output[1], "gopherscope: hint: ") ||
			!strings.Contains(r.Output[0], because) || !strings.Contains(r.Output[1], hint) {
			t.Errorf("exit code %d, want 1, an error line with %q and a hint with %q; printed:\n%s", r.Code, because, hint, text)
		}
		t.Log(text)
	}
	return s
}

// judgePs wants the Go programs that run then, besides gopherscope itself: the guest, as the
// first process and as its child.
func judgePs(t *testing.T, r *console.Result) {
	found := map[string]bool{}
	for _, line := range r.Output {
		var p struct {
			Go         string `json:"go_version"`
			Goroutines int
			Command    string
		}
		if json.Unmarshal([]byte(line), &p) == nil && strings.HasPrefix(p.Go, "go1.") && p.Goroutines >= 5 {
			found[p.Command] = true
		}
	}
	if r.Code != 0 || !found["/init"] || !found["guest steps"] {
		t.Errorf("exit code %d, found %v:\n%s", r.Code, found, strings.Join(r.Output, "\n"))
	}
}

// judgeDoctor holds what doctor says of the machine to what is known of it.
func (k *kernel) judgeDoctor(t *testing.T, r *console.Result) {
	want := map[string]string{"kernel": "ok", "BPF programs": "ok", "tracepoints": "ok", "uprobes": "ok", "perf samples": "ok"}
	if k.old {
		want["kernel"], want["BPF programs"], want["tracepoints"] = "warn", "fail", "fail"
	}
	if !k.invariant && k.arch == "amd64" {
		want["inline: time stamps"] = "fail"
	} else if k.arch == "amd64" {
		want["inline: time stamps"] = "ok"
	} else {
		want["inline: architecture"] = "fail"
	}
	for _, line := range r.Output {
		var c struct{ Check, Status, Detail, Hint string }
		if json.Unmarshal([]byte(line), &c) != nil {
			continue
		}
		t.Logf("%s: %s: %s", c.Check, c.Status, c.Detail)
		if status, known := want[c.Check]; known && c.Status != status {
			t.Errorf("%s is %s, want %s: %s", c.Check, c.Status, status, c.Hint)
		}
		delete(want, c.Check)
		if how := "uprobe_multi links"; c.Check == "uprobes" && strings.HasPrefix(c.Detail, how) != k.multi {
			t.Errorf("uprobes are attached by %q; %s: %v", c.Detail, how, k.multi)
		}
		if how := ": perf events"; c.Check == "tracepoints" && c.Status == "ok" && strings.HasSuffix(c.Detail, how) != k.preempts {
			t.Errorf("tracepoints are attached by %q; %s: %v", c.Detail, how, k.preempts)
		}
	}
	if len(want) > 0 {
		t.Errorf("doctor does not say anything of %v:\n%s", want, strings.Join(r.Output, "\n"))
	}
	if fails := r.Code != 0; fails != k.old {
		t.Errorf("exit code %d", r.Code)
	}
}

// broken is what a kernel logs of its own mistakes and of uprobes that stay behind. What
// it says of time (stalls, lockups) is the host's load.
var broken = regexp.MustCompile(`BUG: (?:unable|kernel|KASAN|sleeping|scheduling|Bad)|WARNING: |Oops|[Kk]ernel panic|protection fault|leaking uprobe`)

// judgeKernel wants no complaint of the kernel.
func judgeKernel(t *testing.T, results []console.Result, outside []string) {
	i := slices.IndexFunc(results, func(r console.Result) bool { return r.Name == console.KernelLog })
	if i < 0 {
		t.Fatal("the guest did not get to the kernel's log")
	}
	for _, line := range slices.Concat(outside, results[i].Output) {
		if broken.MatchString(line) {
			t.Error(line)
		}
	}
}
