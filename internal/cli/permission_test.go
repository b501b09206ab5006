package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gopherscope/internal/process"
	"gopherscope/internal/testenv"
)

func TestMemoryHint(t *testing.T) {
	for _, tt := range []struct {
		a    access
		want string
	}{
		{access{own: 0, theirs: 0, yama: "0"}, "root has no CAP_SYS_PTRACE here"},
		{access{own: 0, theirs: 5, yama: "3", sysPtrace: true}, "kernel.yama.ptrace_scope is 3: nobody"},
		{access{own: 0, theirs: 5, sysPtrace: true}, "not in the user namespace of the other one"},
		{access{own: 5, theirs: -1}, "hidepid"},
		{access{own: 5, theirs: 6, yama: "1"}, "user with id 6, not 5"},
		{access{own: 5, theirs: 5, undumpable: true, yama: "1"}, "PR_SET_DUMPABLE"},
		{access{own: 5, theirs: 5, yama: "1"}, "sysctl kernel.yama.ptrace_scope=0"},
		{access{own: 5, theirs: 5, yama: "2"}, "kernel.yama.ptrace_scope is 2: only root"},
		{access{own: 5, theirs: 5, yama: "0"}, "run as root"},
		{access{own: 5, theirs: 5}, "run as root"},
	} {
		if got := memoryHint(tt.a); !strings.Contains(got, tt.want) {
			t.Errorf("%+v: %q, want %q", tt.a, got, tt.want)
		}
	}
}

func TestExplainMemory(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{process.ErrKernelThread, "gopherscope ps"},
		{fmt.Errorf("process 5: %w", process.ErrExited), "nothing is left"},
		{process.ErrExec, "again"},
		{process.ErrNoProcess, "gopherscope ps"}, // by the general rules
		{errors.New("something else"), ""},
	} {
		err := explainMemory(1, tt.err)
		if got := hint(err); !strings.Contains(got, tt.want) || tt.want == "" && got != "" || !errors.Is(err, tt.err) {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.want)
		}
	}
	if explainMemory(1, nil) != nil {
		t.Error("an error of nothing")
	}
}

// TestReadAccess looks at real processes: one of another user, and one that is not
// dumpable, as its executable cannot be read by the user that it runs as.
func TestReadAccess(t *testing.T) {
	testenv.RequireRoot(t)
	own := readAccess(os.Getpid())
	if own.own != 0 || own.theirs != 0 || !own.sysPtrace || own.undumpable {
		t.Errorf("this process: %+v", own)
	}
	if yama, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); err == nil && own.yama != strings.TrimSpace(string(yama)) {
		t.Errorf("yama %q, want %q", own.yama, yama)
	}
	if gone := readAccess(999999999); gone.theirs != -1 {
		t.Errorf("no process: %+v", gone)
	}
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "gopherscope")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	hidden := dir + "/sleep"
	if err := errors.Join(os.WriteFile(hidden, data, 0o711), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	for path, undumpable := range map[string]bool{sleep: false, hidden: true} {
		cmd := exec.Command(path, "60")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		got := readAccess(cmd.Process.Pid)
		if got.theirs != 65534 || got.undumpable != undumpable {
			t.Errorf("%s: %+v, undumpable %v", path, got, undumpable)
		}
		_ = cmd.Process.Signal(unix.SIGKILL)
		_ = cmd.Wait()
	}
}

// TestPermissionHint: who may not load programs is told of what needs none, where there is
// such a thing.
func TestPermissionHint(t *testing.T) {
	for _, tt := range []struct {
		root bool
		arch string
		want string
		none string
	}{
		{true, "amd64", "a container or a security policy", "--engine inline"},
		{false, "amd64", "or trace a process of your own with --engine inline", "container"},
		{false, "arm64", "run as root, or grant the binary CAP_BPF", "--engine inline"},
	} {
		if got := permissionHint(tt.root, tt.arch); !strings.Contains(got, tt.want) || strings.Contains(got, tt.none) {
			t.Errorf("root %v on %s: %q, want %q and no %q", tt.root, tt.arch, got, tt.want, tt.none)
		}
	}
}
