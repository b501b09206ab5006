// Package security_test runs the gopherscope command on programs that want to harm it or
// whoever uses it, and as users with few rights. docs/security.md says what is held here.
package security_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

func TestMain(m *testing.M) {
	code := m.Run()
	traced.Cleanup()
	os.Exit(code)
}

// outcome is how a run of the command ended.
type outcome struct {
	out, err string // what it printed
	code     int
	maxRSS   int64 // bytes
	took     time.Duration
}

// all is everything that it printed.
func (o *outcome) all() string { return o.out + o.err }

// patience is for how long a command may run.
const patience = 2 * time.Minute

// finish waits for a command that was not started yet.
func finish(t *testing.T, cmd *exec.Cmd) *outcome {
	t.Helper()
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	err := cmd.Wait()
	if !timer.Stop() {
		t.Errorf("%s: still running after %v", strings.Join(cmd.Args, " "), patience)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return &outcome{
		out: out.String(), err: stderr.String(), code: cmd.ProcessState.ExitCode(),
		maxRSS: usage.Maxrss << 10, took: time.Since(began),
	}
}

// run runs the command as root.
func run(t *testing.T, args ...string) *outcome {
	t.Helper()
	return finish(t, exec.Command(traced.Tool(t), args...))
}

// must is run for what has to work.
func must(t *testing.T, args ...string) *outcome {
	t.Helper()
	o := run(t, args...)
	if o.code != 0 {
		t.Fatalf("gopherscope %s: exit code %d\n%s", strings.Join(args, " "), o.code, o.err)
	}
	return o
}

// build compiles a program of testdata by the running toolchain.
func build(t *testing.T, name string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), name)
	cmd := exec.Command("go", "build", "-buildvcs=false", "-ldflags=-checklinkname=0", "-o", bin, "./test/security/testdata/"+name)
	cmd.Dir = testenv.ModuleRoot(t)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return bin
}

// openDir makes a directory that other users can reach, which t.TempDir is not.
func openDir(t *testing.T, mode os.FileMode) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gopherscope-security")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, mode); err != nil {
		t.Fatal(err)
	}
	return dir
}
