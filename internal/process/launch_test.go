package process

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gopherscope/internal/testenv"
)

// launched launches a program and kills it at the end of the test.
func launched(t *testing.T, opts *LaunchOptions, argv ...string) *Launched {
	t.Helper()
	l, err := Launch(argv, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Kill(); l.Close() })
	return l
}

// end waits for the end of a launched program.
func end(t *testing.T, l *Launched) *os.ProcessState {
	t.Helper()
	select {
	case <-l.Ended():
	case <-time.After(patience):
		t.Fatalf("process %d still runs", l.PID())
	}
	return l.State()
}

// A launched program stands at its very first instruction, and its runtime has
// not made a goroutine, until it is resumed.
func TestLaunchBeforeFirstInstruction(t *testing.T) {
	for _, b := range []testenv.Build{{}, {PIE: true}, {Cgo: true}, {Cgo: true, PIE: true}} {
		t.Run(b.String(), func(t *testing.T) {
			bin := testenv.BuildTarget(t, "spawn", b)
			out := filepath.Join(t.TempDir(), "out")
			f, err := os.Create(out)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			l := launched(t, &LaunchOptions{Stdout: f}, bin, "10")
			time.Sleep(50 * time.Millisecond) // to do what it should not
			if err := l.Check(); err != nil {
				t.Fatal(err)
			}
			if got, want := counter(t, l.PID()), entryPoint(t, l.Process, bin); got != want {
				t.Errorf("stands at %#x, want its entry point %#x", got, want)
			}
			if n := goroutines(t, l.Process, bin); n != 0 {
				t.Errorf("%d goroutines before Resume", n)
			}
			if used, err := l.CPUTime(); used > 20*time.Millisecond || err != nil {
				t.Errorf("has used %v, %v", used, err)
			}
			if text, err := os.ReadFile(out); len(text) != 0 || err != nil {
				t.Errorf("printed %q, %v before Resume", text, err)
			}
			if err := l.Resume(); err != nil {
				t.Fatal(err)
			}
			if state := end(t, l); !state.Success() {
				t.Errorf("ended with %v", state)
			}
			if text, err := os.ReadFile(out); len(text) == 0 || err != nil {
				t.Errorf("printed %q, %v after Resume", text, err)
			}
		})
	}
}

// counter is the program counter of a stopped process: the last word of
// /proc/PID/syscall.
func counter(t *testing.T, pid int) uint64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid))
	if err != nil {
		t.Fatal(err)
	}
	words := bytes.Fields(b)
	pc, err := strconv.ParseUint(string(words[len(words)-1]), 0, 64)
	if err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return pc
}

// entryPoint is where a process begins: in its dynamic linker if it has one.
func entryPoint(t *testing.T, p *Process, bin string) uint64 {
	t.Helper()
	f, err := elf.Open(bin)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	first := bin
	for _, prog := range f.Progs {
		if prog.Type == elf.PT_INTERP {
			first = interpreter(t, bin)
		}
	}
	images, err := p.Images()
	if err != nil {
		t.Fatal(err)
	}
	id, err := filepath.EvalSymlinks(first)
	if err != nil {
		t.Fatal(err)
	}
	for _, im := range images {
		if im.Path != id {
			continue
		}
		linker, err := elf.Open(first)
		if err != nil {
			t.Fatal(err)
		}
		defer linker.Close()
		bias, err := im.LoadBias(segmentsOf(t, first))
		if err != nil {
			t.Fatal(err)
		}
		return linker.Entry + bias
	}
	t.Fatalf("%s is not among %v", first, images)
	return 0
}

// goroutines is the length of runtime.allgs.
func goroutines(t *testing.T, p *Process, bin string) uint64 {
	t.Helper()
	f, err := elf.Open(bin)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	syms, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	bias, err := p.LoadBias(segmentsOf(t, bin))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range syms {
		if s.Name == "runtime.allgs" {
			b := make([]byte, 8)
			if err := p.ReadMem(s.Value+bias+8, b); err != nil {
				t.Fatal(err)
			}
			return binary.NativeEndian.Uint64(b)
		}
	}
	t.Fatal("no symbol runtime.allgs")
	return 0
}

func TestLaunchResumed(t *testing.T) {
	bin := testenv.BuildTarget(t, "idle", testenv.Build{})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	l := launched(t, &LaunchOptions{Stdin: r}, bin)
	if err := l.Resume(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the program has goroutines", func() bool { return goroutines(t, l.Process, bin) > 5 })
	if err := l.Resume(); err != nil {
		t.Errorf("second Resume: %v", err)
	}
	if l.State() != nil {
		t.Errorf("State of a process that runs: %v", l.State())
	}
	l.Terminate(patience)
	if got := l.State().Sys().(syscall.WaitStatus).Signal(); got != syscall.SIGTERM {
		t.Errorf("ended with %v, want SIGTERM", l.State())
	}
	if !l.Exited() {
		t.Error("has not exited")
	}
}

// While it is held, a child has all signals blocked that can be, but for
// SIGTRAP: it was born so, see start.
func TestLaunchBlocksSignals(t *testing.T) {
	l := launched(t, nil, "sleep", "1000")
	status, err := l.read("status")
	if err != nil {
		t.Fatal(err)
	}
	got, _ := statusField(status, "SigBlk")
	want := ^uint64(1<<(unix.SIGKILL-1) | 1<<(unix.SIGSTOP-1) | 1<<(unix.SIGTRAP-1))
	if got != fmt.Sprintf("%016x", want) {
		t.Errorf("blocked signals %s, want %x", got, want)
	}
}

// A launched program finds itself in the state of one that a shell starts.
func TestLaunchState(t *testing.T) {
	plain := start(t, exec.Command("sleep", "1000"))
	l := launched(t, nil, "sleep", "1000")
	if err := l.Resume(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "sleep sleeps", func() bool {
		st, err := l.stat()
		return err == nil && st.state == 'S'
	})
	want, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", plain.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	got, err := l.read("status")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"TracerPid", "PPid", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "CapEff", "NoNewPrivs", "Seccomp", "Cpus_allowed"} {
		g, ok := statusField(got, name)
		if w, _ := statusField(want, name); g != w || !ok {
			t.Errorf("%s is %q, want %q", name, g, w)
		}
	}
	if got, want := openFiles(t, l.PID()), openFiles(t, plain.Process.Pid); got != want {
		t.Errorf("open files %s, want %s", got, want)
	}
}

// openFiles lists the numbers of a process's open files.
func openFiles(t *testing.T, pid int) string {
	t.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(fds)
}

// A launched program's stdout is the launcher's stderr, the rest is inherited.
func TestLaunchStreams(t *testing.T) {
	cmd := role("launch", "sh", "-c", `cat; echo "out $KEY"; echo err >&2; pwd >&2; exit 3`)
	cmd.Env = append(cmd.Env, "KEY=value")
	cmd.Dir = "/"
	cmd.Stdin = strings.NewReader("in\n")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("ended with %v, want status 3", err)
	}
	if got, want := stderr.String(), "in\nout value\nerr\n/\n"; got != want {
		t.Errorf("stderr is %q, want %q", got, want)
	}
	if stdout.Len() != 0 {
		t.Errorf("stdout is %q, want none", &stdout)
	}
}

func TestLaunchOptions(t *testing.T) {
	dir := t.TempDir()
	in, out, errs := filepath.Join(dir, "in"), filepath.Join(dir, "out"), filepath.Join(dir, "err")
	if err := os.WriteFile(in, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	files := make([]*os.File, 3)
	for i, name := range []string{in, out, errs} {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	l := launched(t, &LaunchOptions{
		Stdin: files[0], Stdout: files[1], Stderr: files[2], Dir: dir, Env: []string{"KEY=v w"},
	}, "/bin/sh", "-c", `cat; echo " $KEY"; pwd >&2`)
	if err := l.Resume(); err != nil {
		t.Fatal(err)
	}
	end(t, l)
	for name, want := range map[string]string{out: "text v w\n", errs: dir + "\n"} {
		if got, err := os.ReadFile(name); string(got) != want || err != nil {
			t.Errorf("%s has %q, %v, want %q", name, got, err, want)
		}
	}
}

func TestLaunchErrors(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode fs.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tests := []struct {
		name string
		argv []string
		is   error
		text string
	}{
		{"nothing", nil, ErrNotFound, "launch: command not found"},
		{"empty", []string{""}, ErrNotFound, "launch: command not found"},
		{"not in PATH", []string{"no-such-command"}, ErrNotFound, "launch no-such-command: command not found"},
		{"no file", []string{dir + "/none"}, ErrNotFound, "/none: command not found"},
		{"not executable", []string{write("plain", "x", 0o644)}, ErrPermission, "permission denied"},
		{"directory", []string{dir}, syscall.EISDIR, "is a directory"},
		{"no program", []string{write("garbage", "\x01\x02", 0o755)}, syscall.ENOEXEC, "exec format error"},
		{"no interpreter", []string{write("script", "#!/no/such\n", 0o755)}, fs.ErrNotExist, "no such file"},
		{"escape", []string{"\x1bx"}, ErrNotFound, `launch \x1bx: command not found`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := Launch(tt.argv, nil)
			if !errors.Is(err, tt.is) || !strings.HasSuffix(fmt.Sprint(err), tt.text) && !strings.Contains(fmt.Sprint(err), tt.text) {
				t.Errorf("Launch = %v, %v, want %q", l, err, tt.text)
			}
		})
	}
}

func TestLaunchKill(t *testing.T) {
	l := launched(t, nil, "sleep", "1000")
	l.Kill()
	if got := l.State().Sys().(syscall.WaitStatus).Signal(); got != syscall.SIGKILL {
		t.Errorf("ended with %v, want SIGKILL", l.State())
	}
	if err := l.Resume(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Resume after Kill: %v, want ErrClosed", err)
	}
	l.Kill() // again, at no harm
}

// Somebody else kills the child before it is resumed.
func TestLaunchKilled(t *testing.T) {
	l := launched(t, nil, "sleep", "1000")
	if err := unix.Kill(l.PID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	end(t, l)
	if err := l.Resume(); !errors.Is(err, ErrExited) {
		t.Errorf("Resume: %v, want ErrExited", err)
	}
}

func TestLaunchTerminateStubborn(t *testing.T) {
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	l := launched(t, &LaunchOptions{Stdout: in}, "sh", "-c", `trap "" TERM; echo ready; while :; do sleep 1; done`)
	in.Close()
	if err := l.Resume(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	l.Terminate(50 * time.Millisecond)
	if got := l.State().Sys().(syscall.WaitStatus).Signal(); got != syscall.SIGKILL {
		t.Errorf("ended with %v, want SIGKILL", l.State())
	}
}

// Signals that come while the child is held reach it when it is resumed.
func TestLaunchPendingSignal(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1} {
		l := launched(t, nil, "sleep", "1000")
		if err := syscall.Kill(l.PID(), sig); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
		if l.Exited() {
			t.Fatalf("%v ended the child before Resume", sig)
		}
		if err := l.Resume(); err != nil {
			t.Fatal(err)
		}
		if got := end(t, l).Sys().(syscall.WaitStatus).Signal(); got != sig {
			t.Errorf("ended with %v, want %v", l.State(), sig)
		}
	}
}

// Signals to the whole process group, as a terminal sends them, meet children
// at every moment between fork and execve. A traced child with its signals not
// blocked would stop at one before its execve, some 1 in 1,000 here, and Launch
// would never return.
func TestLaunchUnderSignals(t *testing.T) {
	cmd := role("launches", "300", "true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c := start(t, cmd)
	c.line(t)
	done := make(chan error)
	go func() { done <- c.Wait() }()
	timeout := time.After(patience)
	for n := 0; ; n++ {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			t.Logf("%d signals", n)
			return
		case <-timeout:
			t.Fatal("hangs")
		default:
			unix.Kill(-c.Process.Pid, unix.SIGWINCH) // ESRCH at the end
		}
	}
}

// A child that was never resumed dies with its launcher.
func TestLaunchLauncherDies(t *testing.T) {
	c := start(t, role("hold", "sleep", "1000"))
	pid, err := strconv.Atoi(c.line(t))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if p.Exited() {
		t.Fatal("the child has exited")
	}
	c.kill()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p.Wait(ctx); err != nil {
		t.Errorf("the child outlives its launcher: %v", err)
	}
}

func TestLaunchCPUTime(t *testing.T) {
	cmd := role("burn")
	l := launched(t, &LaunchOptions{Env: cmd.Env}, cmd.Path)
	if err := l.Resume(); err != nil {
		t.Fatal(err)
	}
	state := end(t, l)
	if used := state.UserTime() + state.SystemTime(); used < 180*time.Millisecond {
		t.Errorf("%v after using %v", state, used)
	}
}
