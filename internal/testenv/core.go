package testenv

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Gcore makes a core file of a live process with gcore(1) and returns its path.
// The process runs on. The file may have a gigabyte; the test's cleanup removes
// it. The test is skipped when gcore, of Debian's package gdb, is missing.
func Gcore(t testing.TB, p *Process) string {
	t.Helper()
	gcore, err := exec.LookPath("gcore")
	if err != nil {
		Missing(t, "gcore (package gdb): "+err.Error())
	}
	prefix, pid := filepath.Join(t.TempDir(), "core"), strconv.Itoa(p.PID())
	if out, err := exec.Command(gcore, "-o", prefix, pid).CombinedOutput(); err != nil {
		t.Fatalf("gcore: %v\n%s", err, out)
	}
	return prefix + "." + pid
}

// CoreAt makes a core file of a process at the moment when one of its threads is about to
// execute the instruction at addr, and returns the file's path. With reached false none came
// there within patience, in which gdb has to begin, too. SIGURG, which preempts goroutines, is
// passed on.
func CoreAt(t testing.TB, p *Process, addr uint64, patience time.Duration) (path string, reached bool) {
	t.Helper()
	gdb, err := exec.LookPath("gdb")
	if err != nil {
		Missing(t, "gdb: "+err.Error())
	}
	core := filepath.Join(t.TempDir(), "core")
	const timedOut = 124 // timeout(1)
	out, err := exec.Command("timeout", strconv.FormatFloat(patience.Seconds(), 'f', -1, 64), gdb, "-p", strconv.Itoa(p.PID()), "-batch", "-nx",
		"-ex", "handle SIGURG nostop noprint pass", "-ex", fmt.Sprintf("break *%#x", addr), "-ex", "continue",
		"-ex", "generate-core-file "+core).CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == timedOut {
		return "", false
	}
	if err != nil || !bytes.Contains(out, []byte("Saved corefile")) {
		t.Fatalf("gdb: %v\n%s", err, out)
	}
	return core, true
}

// StartDumping is [StartEnv] for a program of which the kernel is to write a core
// file when a signal kills it; [Process.KernelCore] is that file. The test is
// skipped where the kernel writes core files elsewhere or not (core(5)).
func StartDumping(t testing.TB, env []string, bin string, args ...string) (p *Process, dir string) {
	t.Helper()
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.TrimSpace(string(pattern)); text != "core" {
		Missing(t, "core files in the working directory: /proc/sys/kernel/core_pattern is "+text)
	}
	if err := exec.Command("sh", "-c", "ulimit -c unlimited").Run(); err != nil {
		Missing(t, "core files of any size: "+err.Error())
	}
	dir = t.TempDir()
	script := `ulimit -c unlimited && cd "$0" && exec "$@"`
	return StartEnv(t, env, "sh", append([]string{"-c", script, dir, bin}, args...)...), dir
}

// KernelCore waits for the end of a program that was started by [StartDumping] in
// dir, and returns the path of its core file.
func (p *Process) KernelCore(dir string) string {
	p.t.Helper()
	p.Lines()
	end := p.Wait()
	found, err := filepath.Glob(filepath.Join(dir, "core*"))
	if err != nil || len(found) != 1 {
		p.t.Fatalf("%d core files in %s after %v; stderr:\n%s", len(found), dir, end, p.Stderr())
	}
	return found[0]
}
