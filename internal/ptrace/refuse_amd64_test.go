package ptrace_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gopherscope/internal/ptrace"
)

// refused wants both ways to fail with an error, and the program to go on.
func refused(t *testing.T, p *prog, want error, text string) {
	t.Helper()
	for what, err := range map[string]error{"stop": stopRelease(p.PID()), "inject": injectPID(p.PID(), p.gadgets)} {
		if !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: error %v, want %v with %q", what, err, want, text)
		}
	}
}

// A process that has a tracer is left to it, and the error says who that is.
func TestTracedAlready(t *testing.T) {
	p := start(t, "integrity")
	h := startHelper(t, p, "hold")
	h.WaitLine("go")
	comm := status(h.PID(), "Name")
	refused(t, p, ptrace.ErrTraced, "("+comm+")")
	if err := p.standsFor(5 * time.Millisecond); err != nil {
		t.Errorf("the other tracer has lost it: %v", err)
	}
	h.Kill()
	p.lives()
}

// A process that has ended, with or without somebody who has waited for it.
func TestEnded(t *testing.T) {
	p := start(t, "integrity")
	p.Kill()
	refused(t, p, ptrace.ErrExited, "")

	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitState(t, cmd.Process.Pid, "Z")
	err := stopRelease(cmd.Process.Pid)
	if e := cmd.Wait(); e != nil {
		t.Fatal(e)
	}
	if !errors.Is(err, ptrace.ErrExited) {
		t.Errorf("a zombie: error %v", err)
	}
}

// Without its main thread a process cannot be made to make calls.
func TestInjectWithoutALeader(t *testing.T) {
	p := start(t, "leader")
	awaitState(t, p.PID(), "Z")
	p.via = p.thread()
	if err := injectPID(p.PID(), p.gadgets); !errors.Is(err, ptrace.ErrExited) {
		t.Errorf("error %v", err)
	}
	was := p.facts().Other
	p.await("to go on", func(f facts) bool { return f.Other > was })
}

// Another user's process.
func TestNoPermission(t *testing.T) {
	p := start(t, "integrity")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "ptrace-test") // one that others may enter, unlike t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	bin := dir + "/tracer"
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(bin, self, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"hold", "loop"} {
		cmd := exec.Command(bin)
		cmd.Dir = "/"
		cmd.Env = []string{fmt.Sprintf("%s=%s %d %d %d", helperEnv, mode, p.PID(), p.gadgets.SyscallRet, p.gadgets.Sigreturn)}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), ptrace.ErrPermission.Error()) {
			t.Errorf("%s as nobody: %v\n%s", mode, err, out)
		}
	}
	p.lives()
}

// A gadget that is not there is seen before anything is changed.
func TestWrongGadgets(t *testing.T) {
	p := start(t, "integrity")
	for _, g := range []ptrace.Gadgets{
		{SyscallRet: p.gadgets.SyscallRet + 1, Sigreturn: p.gadgets.Sigreturn},
		{SyscallRet: p.gadgets.SyscallRet, Sigreturn: p.gadgets.Sigreturn - 1},
		{SyscallRet: p.gadgets.Sigreturn, Sigreturn: p.gadgets.SyscallRet},
		{SyscallRet: 8, Sigreturn: p.gadgets.Sigreturn},
		{},
	} {
		if err := injectPID(p.PID(), g); err == nil {
			t.Errorf("%+v is taken", g)
		}
		p.lives()
	}
	// Both forms of the second one are good.
	if err := injectPID(p.PID(), ptrace.Gadgets{SyscallRet: p.gadgets.SyscallRet, Sigreturn: p.rax}); err != nil {
		t.Error(err)
	}
	p.lives()
}

// A stack that is used down to its end has no room for a signal frame.
func TestNoRoom(t *testing.T) {
	p := start(t, "deep")
	before := maps(t, p.PID())
	if err := injectPID(p.PID(), p.gadgets); !errors.Is(err, ptrace.ErrScratch) {
		t.Errorf("error %v", err)
	}
	if after := maps(t, p.PID()); after != before {
		t.Errorf("mappings before:\n%s\nafter:\n%s", before, after)
	}
	if err := stopRelease(p.PID()); err != nil {
		t.Error(err)
	}
	p.WriteLine("")
	if err := p.Wait(); err != nil {
		t.Errorf("end: %v", err)
	}
}

// A seccomp filter does not see the calls that we make, and sees the process's own
// after that.
func TestSeccomp(t *testing.T) {
	p := start(t, "seccomp")
	name := p.at // any memory that reads as a string of no length
	for range 20 {
		if err := ptrace.Run(func() error {
			return ptrace.Inject(p.PID(), p.gadgets, limit, func(r *ptrace.Remote) error {
				fd, err := r.Syscall(unix.SYS_MEMFD_CREATE, name, 0)
				if err != nil {
					return err
				}
				_, err = r.Syscall(unix.SYS_CLOSE, fd)
				return err
			})
		}); err != nil {
			t.Fatal(err)
		}
		if err := stopRelease(p.PID()); err != nil {
			t.Fatal(err)
		}
	}
	p.WriteLine("")
	err := p.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != unix.SIGSYS {
		t.Errorf("end: %v, want that of its filter", err)
	}
}

// Errors of calls in the process are those calls' own.
func TestSyscallErrors(t *testing.T) {
	p := start(t, "integrity")
	before := maps(t, p.PID())
	err := ptrace.Run(func() error {
		return ptrace.Inject(p.PID(), p.gadgets, limit, func(r *ptrace.Remote) error {
			if _, err := r.Syscall(unix.SYS_CLOSE, ^uint64(0)); !errors.Is(err, unix.EBADF) {
				return fmt.Errorf("close(-1): %w", err)
			}
			if _, err := r.Syscall(unix.SYS_MUNMAP, 1, 1); !errors.Is(err, unix.EINVAL) {
				return fmt.Errorf("munmap(1): %w", err)
			}
			// All six arguments arrive, and the result is a whole word.
			at, err := r.Syscall(unix.SYS_MMAP, 0x7123_4567_8000, 8192, unix.PROT_READ,
				unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE, ^uint64(0), 0)
			if err != nil || at != 0x7123_4567_8000 {
				return fmt.Errorf("mmap: %#x, %w", at, err)
			}
			// What the process itself may not write, too.
			text, have := []byte("written from outside"), make([]byte, 20)
			if err := errors.Join(r.Write(at+4090, text), r.Read(at+4090, have)); err != nil || string(have) != string(text) {
				return fmt.Errorf("memory: %q, %w", have, err)
			}
			if err := r.Read(at+8190, have); err == nil {
				return errors.New("memory behind the mapping is read")
			}
			_, err = r.Syscall(unix.SYS_MUNMAP, at, 8192)
			return err
		})
	})
	if err != nil {
		t.Error(err)
	}
	p.lives()
	if after := maps(t, p.PID()); after != before {
		t.Errorf("mappings before:\n%s\nafter:\n%s", before, after)
	}
}

// An error of the caller's is returned, and the process is whole.
func TestInjectReturnsTheError(t *testing.T) {
	p := start(t, "integrity")
	own := errors.New("of the caller")
	for range 10 {
		err := ptrace.Run(func() error {
			return ptrace.Inject(p.PID(), p.gadgets, limit, func(r *ptrace.Remote) error {
				return errors.Join(saysPID(r, p.PID()), own)
			})
		})
		if !errors.Is(err, own) {
			t.Fatalf("error %v", err)
		}
		p.lives()
	}
}
