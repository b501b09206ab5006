package target_test

import (
	"debug/elf"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"gopherscope/internal/corefile"
	"gopherscope/internal/gobinary"
	"gopherscope/internal/target"
	"gopherscope/internal/testenv"
)

// crashed is the path of the core file of the program idle, executed as the words
// of the command, which is killed.
func crashed(t *testing.T, command ...string) string {
	t.Helper()
	prog, dir := testenv.StartDumping(t, []string{"GOTRACEBACK=crash"}, command[0], command[1:]...)
	prog.WaitLine("held")
	prog.Signal(syscall.SIGQUIT)
	return prog.KernelCore(dir)
}

// openCore is [target.OpenCore] for the length of a test.
func openCore(t *testing.T, path, exe string) (*target.Target, error) {
	t.Helper()
	core, err := corefile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { core.Close() })
	tgt, err := target.OpenCore(core, exe)
	if err == nil {
		t.Cleanup(func() { tgt.Close() })
	}
	return tgt, err
}

// copied is a copy of an executable.
func copied(t *testing.T, bin string) string {
	t.Helper()
	data, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "copy")
	if err := os.WriteFile(path, data, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpenCore(t *testing.T) {
	for _, b := range []testenv.Build{{Go: "1.18"}, {Go: "1.27", PIE: true, Stripped: true}, {Go: "1.24", Cgo: true}} {
		t.Run(b.String(), func(t *testing.T) {
			bin := testenv.BuildTarget(t, "idle", b)
			core := crashed(t, bin)
			tgt, err := openCore(t, core, "")
			if err != nil {
				t.Fatal(err)
			}
			if tgt.Proc != nil || tgt.Mem == nil || (tgt.Bias != 0) != b.PIE {
				t.Errorf("process %v, a memory: %v, bias %#x", tgt.Proc, tgt.Mem != nil, tgt.Bias)
			}
			moved, err := openCore(t, core, copied(t, bin))
			if err != nil || moved.Bias != tgt.Bias {
				t.Errorf("by a copy of the executable: %v", err)
			}
		})
	}
}

// TestOpenCoreByLinker has a program that was started as an argument of the
// dynamic linker: the kernel knows the linker only.
func TestOpenCoreByLinker(t *testing.T) {
	bin := testenv.BuildTarget(t, "idle", testenv.Build{Go: "1.27", Cgo: true})
	f, err := elf.Open(bin)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	linker, err := f.Section(".interp").Data()
	if err != nil {
		t.Fatal(err)
	}
	core := crashed(t, string(linker[:len(linker)-1]), bin)
	for _, exe := range []string{"", bin} {
		tgt, err := openCore(t, core, exe)
		if err != nil {
			t.Fatal(err)
		}
		if tgt.Bin.Path() != bin {
			t.Errorf("the executable is %s, want %s", tgt.Bin.Path(), bin)
		}
	}
}

// TestOpenCoreOtherBuild is given executables that did not die.
func TestOpenCoreOtherBuild(t *testing.T) {
	b := testenv.Build{Go: "1.27"}
	core := crashed(t, testenv.BuildTarget(t, "idle", b))
	for _, tt := range []struct {
		name string
		exe  string
		want error
	}{
		{"another program", testenv.BuildTarget(t, "sleep", b), corefile.ErrOtherBuild},
		{"another mode", testenv.BuildTarget(t, "idle", testenv.Build{Go: "1.27", Stripped: true}), corefile.ErrOtherBuild},
		{"another Go", testenv.BuildTarget(t, "idle", testenv.Build{Go: "1.26"}), corefile.ErrOtherBuild},
		{"position-independent", testenv.BuildTarget(t, "idle", testenv.Build{Go: "1.27", PIE: true}), corefile.ErrOtherBuild},
		{"another machine", testenv.BuildTarget(t, "idle", testenv.Build{Go: "1.27", GOARCH: "arm64"}), target.ErrArch},
		{"no Go program", "/bin/sh", gobinary.ErrNotGo},
	} {
		if _, err := openCore(t, core, tt.exe); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	// Without the first pages of files, runtime.moduledata tells.
	hideFirstPages(t, core)
	if _, err := openCore(t, core, ""); err != nil {
		t.Errorf("without first pages: %v", err)
	}
	for _, prog := range []string{"sleep", "timer"} {
		if _, err := openCore(t, core, testenv.BuildTarget(t, prog, b)); !errors.Is(err, corefile.ErrOtherBuild) {
			t.Errorf("%s, without first pages: %v", prog, err)
		}
	}
}

// hideFirstPages changes a core file so that it holds nothing of read-only memory,
// as the kernel writes it with bit 4 of coredump_filter unset.
func hideFirstPages(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	core, err := elf.NewFile(f)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range core.Progs {
		if p.Type != elf.PT_LOAD || p.Flags&elf.PF_W != 0 {
			continue
		}
		none := make([]byte, 8)
		if _, err := f.WriteAt(none, int64(64+56*i+32)); err != nil { // p_filesz
			t.Fatal(err)
		}
	}
}

// TestOpenCoreNoExecutable has core files whose executable is no longer there.
func TestOpenCoreNoExecutable(t *testing.T) {
	bin := testenv.BuildTarget(t, "idle", testenv.Build{Go: "1.27"})
	gone := copied(t, bin)
	core := crashed(t, gone)
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	if _, err := openCore(t, core, ""); !errors.Is(err, target.ErrNoExecutable) {
		t.Errorf("removed after the end: %v", err)
	}
	if _, err := openCore(t, core, bin); err != nil {
		t.Errorf("removed, but there is a copy: %v", err)
	}

	running := copied(t, bin)
	prog, dir := testenv.StartDumping(t, []string{"GOTRACEBACK=crash"}, running)
	prog.WaitLine("held")
	if err := os.Remove(running); err != nil {
		t.Fatal(err)
	}
	prog.Signal(syscall.SIGQUIT)
	core = prog.KernelCore(dir)
	if _, err := openCore(t, core, ""); !errors.Is(err, target.ErrNoExecutable) {
		t.Errorf("removed while it ran: %v", err)
	}
	if _, err := openCore(t, core, bin); err != nil {
		t.Errorf("removed while it ran, but there is a copy: %v", err)
	}
}
