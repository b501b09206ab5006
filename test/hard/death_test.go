//go:build amd64

package hard_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
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
	"gopherscope/test/traced"
)

// again fails the test unless the program is alive and right, a new gopherscope sees all
// that it does, and nothing is left in it then.
func (s *subject) again(e traced.Engine) {
	s.t.Helper()
	s.do("work 1000")
	sc := s.attachedTo(e)
	s.do("work 1000")
	lines, sum := sc.end()
	whole(s.t, sum)
	if n := chain(s.t, lines, s.pid, s.ping); n < worked(1000) {
		s.t.Errorf("a new gopherscope saw %d changes", n)
	}
	s.untouched()
}

// eachEngine runs a test with each, on a program of its own.
func eachEngine(t *testing.T, test func(t *testing.T, s *subject, e traced.Engine)) {
	for _, e := range traced.Engines() {
		t.Run(string(e), func(t *testing.T) {
			s := start(t, nil)
			test(t, s, e)
			s.again(e)
			s.finish()
		})
	}
}

// join has a shell go into the group and execute a command there.
func (g *group) join(command ...string) []string {
	script := `echo $$ > "$0" && exec "$@"`
	return append([]string{"sh", "-c", script, filepath.Join(g.path, "cgroup.procs")}, command...)
}

// TestNoMemory: gopherscope is attached when the kernel kills it for want of memory.
func TestNoMemory(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *subject, e traced.Engine) {
		const limit = 128 << 20
		g := newGroup(t, limit)
		out := filepath.Join(t.TempDir(), "trace.jsonl")
		command := g.join(traced.Tool(t), "trace", "--json", "--max-overhead", "off", "-o", out, "--engine", string(e), s.operand())
		sc := &scope{testenv.Start(t, command[0], command[1:]...), t, out}
		sc.attached()
		s.do("work 100")
		// It is to be killed, and not who takes the memory.
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", sc.PID()), []byte("1000"), 0o644); err != nil {
			t.Fatal(err)
		}
		// A file in memory is charged to who writes it.
		full := filepath.Join("/dev/shm", fmt.Sprintf("gopherscope-test-%d", os.Getpid()))
		t.Cleanup(func() { os.Remove(full) })
		hog := g.join("sh", "-c", `exec head -c "$0" /dev/zero > "$1"`, strconv.Itoa(2*limit), full)
		writer := testenv.Start(t, hog[0], hog[1:]...)
		defer writer.Kill()
		killedBy(t, sc.Wait(), syscall.SIGKILL)
		if e == traced.EBPF {
			s.untouched() // the kernel has taken all away
		}
	})
}

// TestDetach: gopherscope is killed while it traces, and gopherscope detach removes what is
// left. It leaves a trace that goes on alone.
func TestDetach(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *subject, e traced.Engine) {
		sc := s.attachedTo(e)
		s.do("work 100")
		sc.Kill()
		text := "nothing of gopherscope"
		if e == traced.Inline {
			text = "removed what was left"
		}
		s.detach(text)
		s.untouched()
		s.detach("nothing of gopherscope")
		if e == traced.Inline {
			return // it is refused: TestTwo
		}
		sc = s.attachedTo(e)
		s.detach("somebody else probes it")
		s.do("work 1000")
		lines, sum := sc.end()
		whole(t, sum)
		if n := chain(t, lines, s.pid, s.ping); n < worked(1000) {
			t.Errorf("%d changes", n)
		}
	})
}

// detach runs gopherscope detach, which has to say something.
func (s *subject) detach(want string) {
	s.t.Helper()
	out, err := exec.Command(traced.Tool(s.t), "detach", s.operand()).CombinedOutput()
	if err != nil || !strings.Contains(string(out), want) {
		s.t.Errorf("gopherscope detach: %v, %q, want %q", err, out, want)
	}
}

// killedBy fails the test unless a process was ended by the signal.
func killedBy(t *testing.T, err error, sig syscall.Signal) {
	t.Helper()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != sig {
		t.Errorf("it ended with %v, not by %v", err, sig)
	}
}

// TestLittleMemory: gopherscope has too little memory to begin. It is killed at whatever it
// does then, or says why it cannot go on.
func TestLittleMemory(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *subject, e traced.Engine) {
		for _, limit := range []int64{6 << 20, 12 << 20, 20 << 20} {
			t.Run(fmt.Sprint(limit>>20, "M"), func(t *testing.T) {
				g := newGroup(t, limit)
				out := filepath.Join(t.TempDir(), "trace.jsonl")
				command := g.join(traced.Tool(t), "trace", "--json", "--ring-size", "64M", "-d", "300ms", "-o", out, "--engine", string(e), s.operand())
				sc := &scope{testenv.Start(t, command[0], command[1:]...), t, out}
				s.do("work 1000")
				err := sc.Wait()
				var exit *exec.ExitError
				switch {
				case err == nil:
					t.Log("it was enough")
				case errors.As(err, &exit) && exit.ExitCode() == 1 && strings.Count(sc.Stderr(), "error: ") == 1 && strings.Contains(sc.Stderr(), "hint: "):
					t.Logf("refused: %s", sc.Stderr())
				default:
					killedBy(t, err, syscall.SIGKILL)
				}
				s.do("work 1000")
			})
		}
	})
}

// TestDiskFull: there is no more room for the output. What was written is whole lines, in
// order, and an error says so.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=256k"); err != nil {
		testenv.Missing(t, "mount a small tmpfs: "+err.Error())
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	eachEngine(t, func(t *testing.T, s *subject, e traced.Engine) {
		out := filepath.Join(dir, "trace.jsonl")
		sc := s.attachedTo(e, "-o", out)
		s.do("work 2000")
		if text := sc.refused(); !strings.Contains(text, "no space left") {
			t.Errorf("it does not say why: %s", text)
		}
		s.untouched()
		if n := wholeLines(t, out, s); n < 500 {
			t.Errorf("%d changes are in the file", n)
		}
		if err := os.Remove(out); err != nil {
			t.Fatal(err)
		}
	})
}

// wholeLines fails the test unless every line of the file but the last is whole, and the
// chains are. It returns how many changes of the two goroutines there are.
func wholeLines(t *testing.T, path string, s *subject) int {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	var lines []line
	in := bufio.NewScanner(bytes.NewReader(text))
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var l line
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			t.Fatalf("%v: %s", err, in.Text())
		}
		if l.Text = in.Text(); l.Type == "transition" {
			lines = append(lines, l)
		}
	}
	return chain(t, lines, s.pid, s.ping) + chain(t, lines, s.pid, s.pong)
}

// TestTerminated: SIGTERM at whatever it does. It ends by itself and cleans up.
func TestTerminated(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *subject, e traced.Engine) {
		began := time.Now()
		sc := s.attachedTo(e)
		took := time.Since(began)
		sc.end()
		for range 10 {
			sc := trace(t, e, s.operand())
			time.Sleep(rand.N(took + took/4))
			sc.Signal(syscall.SIGTERM)
			err := sc.Wait()
			var exit *exec.ExitError
			if errors.As(err, &exit) && !exit.Exited() {
				// Before it has begun, there is nothing that handles the signal.
				killedBy(t, err, syscall.SIGTERM)
				if sc.Stderr() != "" {
					t.Errorf("killed after it had begun:\n%s", sc.Stderr())
				}
			} else if err != nil {
				t.Errorf("it ended with %v:\n%s", err, sc.Stderr())
			}
			s.untouched()
			s.do("work 100")
		}
	})
}

// TestTerminal: the terminal goes away, with whoever looked at it.
func TestTerminal(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *subject, e traced.Engine) {
		master, slave := testenv.Terminal(t, 80)
		cmd := exec.Command(traced.Tool(t), "trace", "--max-overhead", "off", "--engine", string(e), s.operand())
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		defer cmd.Process.Kill()
		slave.Close()
		screen := bufio.NewReader(master)
		for {
			text, err := screen.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(text, "goroutines that were there") {
				break
			}
		}
		go func() { s.WriteLine("work 500") }()
		if _, err := io.CopyN(io.Discard, screen, 4000); err != nil {
			t.Fatal(err)
		}
		master.Close()
		select {
		case <-ended:
			if !cmd.ProcessState.Exited() {
				t.Errorf("it ended with %v", cmd.ProcessState)
			}
		case <-time.After(testenv.Deadline):
			t.Fatal("it goes on without a terminal")
		}
		s.answered("work 500")
		s.untouched()
	})
}

// TestTargetKilled: the process is killed while it is traced. The trace ends well, with all
// that it did.
func TestTargetKilled(t *testing.T) {
	for _, e := range traced.Engines() {
		t.Run(string(e), func(t *testing.T) {
			s := start(t, nil)
			sc := s.attachedTo(e)
			s.do("work 1000")
			s.Kill()
			lines, sum := sc.read()
			whole(t, sum)
			if n := chain(t, lines, s.pid, s.ping); n < worked(1000) {
				t.Errorf("%d changes", n)
			}
		})
	}
}

// TestReplaced: the executable's file is replaced by another while its process is traced,
// as a deployment does. The process still runs the old one.
func TestReplaced(t *testing.T) {
	original, err := os.ReadFile(testenv.BuildTarget(t, "hard", build))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range traced.Engines() {
		t.Run(string(e), func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "hard-copy")
			if err := os.WriteFile(path, original, 0o755); err != nil {
				t.Fatal(err)
			}
			s := &subject{Process: testenv.Start(t, path), t: t}
			s.pid = s.PID()
			s.ready()
			sc := s.attachedTo(e)
			s.do("work 500")
			other := filepath.Join(dir, "other")
			if err := os.WriteFile(other, []byte("#!/bin/sh\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(other, path); err != nil {
				t.Fatal(err)
			}
			s.do("work 500")
			lines, sum := sc.end()
			whole(t, sum)
			if n := chain(t, lines, s.pid, s.ping); n < worked(1000) {
				t.Errorf("%d changes", n)
			}
			s.again(e)
			s.finish()
		})
	}
}
