package testenv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
)

// Missing skips the test because the machine lacks something, or fails it
// where nothing may be lacking (CI=true).
func Missing(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("needed in CI: %s", reason)
	}
	t.Skip(reason)
}

// RequireRoot skips the test unless it runs as root.
func RequireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, fmt.Sprintf("needs root, runs as uid %d", os.Geteuid()))
	}
}

// RequireBPF skips the test unless this process may attach BPF programs to
// user space functions: it creates a ring buffer (Linux 5.8) and looks for the
// uprobe event source.
func RequireBPF(t testing.TB) {
	t.Helper()
	if err := tryBPF(); err != nil {
		Missing(t, err.Error())
	}
}

func tryBPF() error {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: uint32(os.Getpagesize())})
	if err != nil {
		return fmt.Errorf("create a BPF ring buffer: %w", err)
	}
	if err := m.Close(); err != nil {
		return fmt.Errorf("close a BPF ring buffer: %w", err)
	}
	if _, err := os.Stat("/sys/bus/event_source/devices/uprobe/type"); err != nil {
		return fmt.Errorf("uprobes: %w", err)
	}
	return nil
}

// ModuleRoot is the directory of the project's go.mod.
func ModuleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		_, err := os.Stat(filepath.Join(dir, "go.mod"))
		if err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if !errors.Is(err, os.ErrNotExist) || parent == dir {
			t.Fatalf("no go.mod above the working directory: %v", err)
		}
		dir = parent
	}
}

// Testprog is the directory of the target programs.
func Testprog(t testing.TB) string {
	t.Helper()
	return filepath.Join(ModuleRoot(t), "testdata", "testprog")
}
