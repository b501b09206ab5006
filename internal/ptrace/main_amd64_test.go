package ptrace_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gopherscope/internal/ptrace"
	"gopherscope/internal/testenv"
)

// helperEnv makes this test binary a tracer: "MODE PID SYSCALLRET SIGRETURN". It is
// there to be killed.
const helperEnv = "GOPHERSCOPE_PTRACE_HELPER"

// buildDir has the compiled C program.
var buildDir string

func TestMain(m *testing.M) {
	if how := os.Getenv(helperEnv); how != "" {
		fmt.Fprintln(os.Stderr, helper(how))
		os.Exit(1)
	}
	dir, err := os.MkdirTemp("", "ptrace-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	buildDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// startHelper runs this test binary as a tracer of p.
func startHelper(t *testing.T, p *prog, mode string) *testenv.Process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	how := fmt.Sprintf("%s=%s %d %d %d", helperEnv, mode, p.PID(), p.gadgets.SyscallRet, p.gadgets.Sigreturn)
	return testenv.StartEnv(t, []string{how}, self)
}

// helper is the tracer. It returns only with an error.
func helper(how string) error {
	var mode string
	var pid int
	var g ptrace.Gadgets
	if _, err := fmt.Sscan(how, &mode, &pid, &g.SyscallRet, &g.Sigreturn); err != nil {
		return err
	}
	die := func() error { return unix.Kill(os.Getpid(), unix.SIGKILL) }
	inject := func(f func(r *ptrace.Remote) error) error {
		return ptrace.Run(func() error { return ptrace.Inject(pid, g, limit, f) })
	}
	if strings.HasPrefix(mode, "die") {
		defer time.Sleep(time.Minute) // to be killed meanwhile
	}
	switch mode {
	case "loop":
		return helperLoop(pid, g)
	case "hold": // until killed: holds all threads
		return ptrace.Run(func() error {
			s, err := ptrace.StopAll(pid, limit)
			if err == nil {
				fmt.Println("go", len(s.Threads))
				time.Sleep(time.Minute)
			}
			return err
		})
	case "die-stopped":
		return ptrace.Run(func() error {
			if _, err := ptrace.StopAll(pid, limit); err != nil {
				return err
			}
			return die()
		})
	case "die-before":
		return inject(func(*ptrace.Remote) error { return die() })
	case "die-after":
		return inject(func(r *ptrace.Remote) error { return errors.Join(saysPID(r, pid), die()) })
	case "die-later":
		return inject(func(r *ptrace.Remote) error {
			return errors.Join(saysPID(r, pid), saysPID(r, pid), saysPID(r, pid), die())
		})
	}
	return fmt.Errorf("mode %q", mode)
}

// helperLoop does both, for ever, with as little in between as there can be.
func helperLoop(pid int, g ptrace.Gadgets) error {
	fmt.Println("go")
	for {
		err := injectPID(pid, g)
		if err == nil {
			err = stopRelease(pid)
		}
		if err != nil {
			fmt.Println("error", err)
			return err
		}
	}
}
