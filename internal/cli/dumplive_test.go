package cli_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gopherscope/internal/cli"
	"gopherscope/internal/testenv"
)

// dumpLine is a line of dump --json, as far as the tests look at it.
type dumpLine struct {
	Type        string          `json:"type"`
	GoID        uint64          `json:"goid"`
	State       string          `json:"state"`
	Reason      string          `json:"reason"`
	TID         int             `json:"tid"`
	System      bool            `json:"system"`
	Count       int             `json:"count"`
	StackSource string          `json:"stack_source"`
	Stack       []dumpFrame     `json:"stack"`
	States      json.RawMessage `json:"states"`
	Goroutines  int             `json:"goroutines"`
	Shown       int             `json:"shown"`
	Groups      int             `json:"groups"`
	NoSample    string          `json:"no_sample"`
}

type dumpFrame struct {
	Func string `json:"func"`
	Line int    `json:"line"`
}

// dumpJSON runs dump --json, and returns its lines, the summary apart.
func dumpJSON(t *testing.T, pid int, flags ...string) (lines []dumpLine, summary dumpLine) {
	t.Helper()
	text, _ := dumpOf(t, pid, append(flags, "--json")...)
	for line := range strings.Lines(text) {
		var l dumpLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if summary.Type != "" {
			t.Fatalf("after the summary: %s", line)
		}
		if l.Type == "summary" {
			summary = l
			continue
		}
		lines = append(lines, l)
	}
	if summary.Type == "" {
		t.Fatal("no summary")
	}
	return lines, summary
}

// TestDumpFilters wants of each filter what the program is known to have.
func TestDumpFilters(t *testing.T) {
	p := startStill(t, testenv.Build{})
	all, _ := dumpJSON(t, p.PID())
	for _, tt := range []struct {
		flags []string
		want  int
	}{
		{[]string{"--goid", "1"}, 1},
		{[]string{"--goid", "1,999999"}, 1},
		{[]string{"--reason", "select"}, 1},
		{[]string{"--reason", "select", "--reason", "select (no cases)"}, 2},
		{[]string{"--state", "waiting,syscall"}, len(all)},
		{[]string{"--state", "runnable"}, 0},
		{[]string{"--stack", `main\.deep`}, 2},
		{[]string{"--stack", `main\.deep`, "--reason", "select"}, 0},
		{[]string{"--stack", `runtime\.gopark`}, 0},
		{[]string{"--created-by", `main\.withLabels`}, 3},
	} {
		for _, form := range []string{"", "--group", "--json", "--pprof"} {
			flags := tt.flags
			if form != "" {
				flags = append(slices.Clone(flags), form)
			}
			if _, said := dumpOf(t, p.PID(), flags...); !strings.Contains(said, fmt.Sprintf("; %d shown", tt.want)) {
				t.Errorf("%v: %s", flags, said)
			}
		}
	}
	own, sum := dumpJSON(t, p.PID(), "--all")
	system := 0
	for _, l := range own {
		if l.System {
			system++
		}
	}
	if system == 0 || len(own) != len(all)+system || sum.Goroutines != len(own) || sum.Shown != len(own) {
		t.Errorf("--all: %d goroutines, %d of the runtime's own, without it %d; summary %+v", len(own), system, len(all), sum)
	}
}

func TestDumpGroups(t *testing.T) {
	p := startStill(t, testenv.Build{})
	groups, sum := dumpJSON(t, p.PID(), "--group")
	total := 0
	for i, g := range groups {
		total += g.Count
		if g.Type != "group" || i > 0 && g.Count > groups[i-1].Count || len(g.Stack) == 0 {
			t.Errorf("group %d: %+v", i, g)
		}
	}
	if total != sum.Shown || len(groups) != sum.Groups {
		t.Errorf("%d goroutines in %d groups, summary %+v", total, len(groups), sum)
	}
	if g := groups[0]; g.Count != 5 || g.Stack[0].Func != "main.park" || string(g.States) != `[{"state":"waiting","reason":"chan receive","count":5}]` {
		t.Errorf("the biggest group is %+v", g)
	}
	text, _ := dumpOf(t, p.PID(), "--group")
	if !strings.HasPrefix(text, "5 goroutines [chan receive], ") {
		t.Errorf("the text begins %.80q", text)
	}
}

// TestDumpRunning wants stacks of goroutines that never stop running.
func TestDumpRunning(t *testing.T) {
	p := testenv.Start(t, testenv.BuildTarget(t, "spin", testenv.Build{}))
	p.WaitLine("ready")
	for range 50 {
		lines, sum := dumpJSON(t, p.PID(), "--state", "running")
		if strings.Contains(sum.NoSample, "perf events") { // else they only were not seen this time
			testenv.Missing(t, sum.NoSample)
		}
		for _, l := range lines {
			if l.StackSource == "perf sample" && l.TID != 0 && slices.ContainsFunc(l.Stack, func(f dumpFrame) bool { return f.Func == "main.spinC" }) {
				return
			}
		}
	}
	t.Error("no stack of a running goroutine in 50 dumps")
}

// TestDumpCore compares a core file with the live process. For how long goroutines
// wait is not known of the dead.
func TestDumpCore(t *testing.T) {
	p := startStill(t, testenv.Build{Go: "1.26", PIE: true})
	bin := testenv.BuildTarget(t, "still", testenv.Build{Go: "1.26", PIE: true})
	core := testenv.Gcore(t, p)
	minutes := regexp.MustCompile(`, \d+ minutes`)
	live, _ := dumpOf(t, p.PID())
	live = minutes.ReplaceAllString(live, "")
	for _, flags := range [][]string{{}, {"--exe", bin}} {
		var out, errs bytes.Buffer
		if code := cli.Main(append([]string{"dump", core}, flags...), cli.Stdio{Out: &out, Err: &errs}); code != 0 {
			t.Fatalf("%v: exit code %d\n%s", flags, code, &errs)
		}
		if diff := cmp.Diff(live, out.String()); diff != "" {
			t.Errorf("%v (-live +core):\n%s", flags, diff)
		}
		if strings.Contains(errs.String(), "stopped") {
			t.Errorf("said of a core file: %s", &errs)
		}
	}
	fails(t, exec.Command("gopherscope", "dump", core, "--exe", testenv.BuildTarget(t, "idle", testenv.Build{})),
		"not the executable of the core file", "give the very file that was executed with --exe")
}

// fails runs a command line in a process of its own, which must fail with one line
// and a hint. The test binary is the program when it is called so.
func fails(t *testing.T, cmd *exec.Cmd, message, hint string) {
	t.Helper()
	cmd.Path, cmd.Err = "/proc/self/exe", nil
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || out.Len() > 0 {
		t.Errorf("%s: %v, output %q", cmd, err, &out)
	}
	want := regexp.MustCompile(`^gopherscope: error: .*` + message + `.*\ngopherscope: hint: .*` + hint + `.*\n$`)
	if !want.MatchString(errs.String()) {
		t.Errorf("%s said\n%s\nwant %s", cmd, &errs, want)
	}
}

// TestDumpRefused looks at processes that cannot be read.
func TestDumpRefused(t *testing.T) {
	testenv.RequireRoot(t)
	t.Run("another user", func(t *testing.T) {
		p := startStill(t, testenv.Build{})
		cmd := exec.Command("gopherscope", "dump", strconv.Itoa(p.PID()))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		fails(t, cmd, "permission denied", "the process is of the user with id 0, not 65534: run as that user, as root")
	})
	t.Run("zombie", func(t *testing.T) {
		child := exec.Command("true")
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		defer child.Wait()
		for deadline := time.Now().Add(testenv.Deadline); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child.Process.Pid))
			if err == nil && strings.Contains(string(stat), ") Z ") {
				break
			}
		}
		fails(t, exec.Command("gopherscope", "dump", strconv.Itoa(child.Process.Pid)), "has exited", "nothing is left of the goroutines")
	})
	t.Run("not Go", func(t *testing.T) {
		child := exec.Command("sleep", "60")
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		defer child.Wait()
		defer child.Process.Kill()
		fails(t, exec.Command("gopherscope", "dump", strconv.Itoa(child.Process.Pid)), "not a Go program", "only programs written in Go")
	})
	t.Run("kernel thread", func(t *testing.T) {
		if name, err := os.ReadFile("/proc/2/comm"); err != nil || string(name) != "kthreadd\n" {
			t.Skip("process 2 is not the kernel's")
		}
		fails(t, exec.Command("gopherscope", "dump", "2"), "kernel thread", "gopherscope ps")
	})
}

// TestDumpNamespace wants our own numbers of the threads of a process that lives in
// another PID namespace.
func TestDumpNamespace(t *testing.T) {
	testenv.RequireRoot(t)
	bin := testenv.BuildTarget(t, "still", testenv.Build{})
	cmd := exec.Command(bin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	held := make([]byte, 64)
	n, err := stdout.Read(held)
	if string(held[:n]) != "held 1\n" || err != nil {
		t.Fatalf("%q, %v", held[:n], err)
	}
	lines, _ := dumpJSON(t, cmd.Process.Pid, "--state", "syscall")
	if len(lines) == 0 {
		t.Fatal("no goroutine in a system call")
	}
	for _, l := range lines {
		if _, err := os.Stat(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "task", strconv.Itoa(l.TID))); err != nil {
			t.Errorf("goroutine %d: %v", l.GoID, err)
		}
	}
}
