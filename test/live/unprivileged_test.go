package live_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

// nobody is a user who owns nothing.
const nobody = 65534

// asNobody runs gopherscope as an ordinary user with some capabilities.
func asNobody(t *testing.T, caps []uintptr, args ...string) (string, error) {
	t.Helper()
	data, err := os.ReadFile(traced.Tool(t))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "gopherscope-nobody") // t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	tool := filepath.Join(dir, "gopherscope")
	if err := os.WriteFile(tool, data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(tool, args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: nobody, Gid: nobody},
		AmbientCaps: caps,
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// An ordinary user with four capabilities traces a process of root; one
// without them is told which are missing.
func TestCapabilities(t *testing.T) {
	testenv.RequireBPF(t)
	p := testenv.StartWaiting(t, testenv.BuildTarget(t, "idle", testenv.Build{}))
	pid := strconv.Itoa(p.PID())

	out, err := asNobody(t, []uintptr{unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH}, "trace", "-d", "200ms", "--json", pid)
	if err != nil || !strings.Contains(out, `"type":"summary"`) {
		t.Errorf("with capabilities: %v\n%s", err, out)
	}
	out, err = asNobody(t, []uintptr{unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH}, "trace", "-d", "200ms", pid)
	if err == nil || !strings.Contains(out, "CAP_BPF and CAP_PERFMON") {
		t.Errorf("without capabilities: %v\n%s", err, out)
	}
	out, err = asNobody(t, nil, "trace", "-d", "200ms", pid)
	if err == nil || !strings.Contains(out, "permission denied") || !strings.Contains(out, "CAP_SYS_PTRACE") {
		t.Errorf("a process of another user: %v\n%s", err, out)
	}
}
