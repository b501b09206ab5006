package ebpf

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"gopherscope/internal/clock"
	"gopherscope/internal/event"
	"gopherscope/internal/testenv"
)

// both traces a process in both ways at once.
func both(t *testing.T, p *testenv.Process) [2]*Engine {
	t.Helper()
	if major, _, release := kernelVersion(); major >= perfSince {
		t.Skipf("raw tracepoints lose events on Linux %s", release)
	}
	tgt := openTarget(t, p.PID())
	return [2]*Engine{
		start(t, tgt, &Options{Stacks: true, tracepointsBy: byRaw}),
		start(t, tgt, &Options{Stacks: true, tracepointsBy: byPerfEvents}),
	}
}

// Programs that perf events call see each system call that raw tracepoints see, with the same
// goroutine, thread and stack, and in the same order.
func TestTracepoints(t *testing.T) {
	testenv.RequireBPF(t)
	p := testenv.StartWaiting(t, testenv.BuildTarget(t, "stacks", testenv.Build{}), "120")
	engines := both(t, p)
	begin, err := clock.Mono()
	if err != nil {
		t.Fatal(err)
	}
	p.Go()
	done := wait(t, p)
	var calls [2]map[uint64][]string // by goroutine
	for i, e := range engines {
		calls[i] = map[uint64][]string{}
		collect(t, e, done, func(ev *event.Event) {
			if ev.Kind == event.Transition && ev.Via == event.ViaSyscall && ev.Time >= begin {
				calls[i][ev.GoID] = append(calls[i][ev.GoID], fmt.Sprint(ev.TID, ev.M, ev.From, ev.To, e.Stack(ev.Stack)))
			}
		})
		checkLossless(t, e)
	}
	total := 0
	for goid, raw := range calls[0] {
		total += len(raw)
		if perf := calls[1][goid]; !slices.Equal(raw, perf) {
			t.Errorf("goroutine %d, by raw tracepoints:\n%s\nby perf events:\n%s", goid, strings.Join(raw, "\n"), strings.Join(perf, "\n"))
		}
	}
	if len(calls[0]) != len(calls[1]) || total < 200 {
		t.Errorf("goroutines with system calls: %d by raw tracepoints, %d by perf events; %d events, want 200 and more", len(calls[0]), len(calls[1]), total)
	}
}

// Both see that the process executes another program.
func TestTracepointsExec(t *testing.T) {
	testenv.RequireBPF(t)
	p := testenv.Start(t, testenv.BuildTarget(t, "hard", testenv.Build{}))
	p.WaitLine("ready")
	engines := both(t, p)
	p.WriteLine("exec")
	p.WaitLine("ready")
	for i, e := range engines {
		execs := 0
		collect(t, e, closed(), func(ev *event.Event) {
			if ev.Kind == event.Exec && int(ev.PID) == p.PID() {
				execs++
			}
		})
		if execs != 1 {
			t.Errorf("engine %d: %d events of exec, want 1", i, execs)
		}
	}
}

// After Close no program is left: a perf event goes with the link that its program has.
func TestTracepointsClose(t *testing.T) {
	testenv.RequireBPF(t)
	p := testenv.StartWaiting(t, testenv.BuildTarget(t, "pingpong", testenv.Build{}), "10")
	e, err := Start(openTarget(t, p.PID()), &Options{tracepointsBy: byPerfEvents})
	if err != nil {
		t.Fatal(err)
	}
	var ids []ebpf.ProgramID
	for _, prog := range e.objs.atTracepoints() {
		info, err := prog.Info()
		if err != nil {
			t.Fatal(err)
		}
		id, _ := info.ID()
		if info.Type != ebpf.TracePoint || id == 0 {
			t.Fatalf("program %d is a %v, want a %v", id, info.Type, ebpf.TracePoint)
		}
		ids = append(ids, id)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(testenv.Deadline) // the kernel frees them a little later
	for _, id := range ids {
		for {
			prog, err := ebpf.NewProgramFromID(id)
			if errors.Is(err, os.ErrNotExist) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			prog.Close()
			if time.Now().After(deadline) {
				t.Fatalf("program %d is still there", id)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// nobodysCheck makes TestTracepointsOfNobody the child that has few rights.
const nobodysCheck = "GOPHERSCOPE_TEST_NOBODYS_CHECK"

// Who may trace but not read tracefs has raw tracepoints, on every kernel, and is told of it
// where they lose events. The right to read is enough for perf events, but where the
// distribution has added that they are for root only.
func TestTracepointsOfNobody(t *testing.T) {
	if os.Getenv(nobodysCheck) != "" {
		for _, by := range []tracepointsBy{byKernel, byPerfEvents} {
			c := checkTracepoints(by)
			fmt.Printf("%v: %s\n", c.Status, c.Detail)
		}
		return
	}
	testenv.RequireBPF(t)
	const names = "sys_enter, sys_exit, sched_process_exec"
	raw, perf := "ok: "+names, "ok: "+names
	if major, _, _ := kernelVersion(); major >= perfSince {
		raw, perf = "warn: "+names+": without perf events: *", perf+": perf events"
	}
	cases := map[string]struct {
		caps []uintptr
		want []string
	}{
		"without tracefs": {[]uintptr{unix.CAP_BPF, unix.CAP_PERFMON}, []string{raw, "fail: *"}},
	}
	if _, err := os.Stat("/sys/kernel/tracing/events"); err == nil {
		with := cases["without tracefs"]
		with.caps, with.want = append(with.caps[:2:2], unix.CAP_DAC_READ_SEARCH), []string{perf, "ok: " + names + ": perf events"}
		if paranoid(t) > 2 {
			with.caps = append(with.caps, unix.CAP_SYS_ADMIN)
		}
		cases["with tracefs"] = with
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			const nobody = 65534
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestTracepointsOfNobody$")
			cmd.Dir, cmd.Env = "/", append(os.Environ(), nobodysCheck+"=1")
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, AmbientCaps: c.caps}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			got := strings.Split(string(out), "\n")
			for i, want := range c.want {
				if begin, more := strings.CutSuffix(want, "*"); got[i] != want && !(more && strings.HasPrefix(got[i], begin)) {
					t.Errorf("printed %q, want %q", got[i], want)
				}
			}
		})
	}
}

// paranoid is kernel.perf_event_paranoid. Linux itself knows no more than 2; with more, Debian and
// Ubuntu ask for CAP_SYS_ADMIN.
func paranoid(t *testing.T) (n int) {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/kernel/perf_event_paranoid")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(text), &n); err != nil {
		t.Fatal(err)
	}
	return n
}
