package testenv

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// Deadline is how long a started process may take for anything, chosen for a
// noisy two-core virtual machine and a race build under trace.
const Deadline = 2 * time.Minute

// Process is a program that [Start] runs. Its methods are for the goroutine of
// the test; they fail the test on errors that the test does not ask about.
type Process struct {
	t      testing.TB
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	lines  chan string
	done   chan struct{} // closed when the process was waited for
	err    error         // its end; read after done
	stderr Buffer
}

// Start runs a program with pipes as its stdin and stdout. The test's cleanup
// kills it when it still runs.
func Start(t testing.TB, bin string, args ...string) *Process {
	t.Helper()
	return StartEnv(t, nil, bin, args...)
}

// StartWaiting is [Start] for a target program with WAIT=1: it returns when the
// program waits for the newline that [Process.Go] sends, its runtime running
// and its behaviour not begun.
func StartWaiting(t testing.TB, bin string, args ...string) *Process {
	t.Helper()
	p := StartEnv(t, []string{"WAIT=1"}, bin, args...)
	p.WaitLine("ready")
	return p
}

// StartEnv is [Start] with settings ("KEY=value") added to the environment.
func StartEnv(t testing.TB, env []string, bin string, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, cmd: exec.Command(bin, args...), lines: make(chan string, 1<<16), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = &p.stderr
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin = stdin
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", bin, err)
	}
	go p.follow(stdout)
	t.Cleanup(p.Kill)
	return p
}

// follow delivers the process's lines and then its end.
func (p *Process) follow(stdout io.Reader) {
	scanner := bufio.NewScanner(stdout)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		p.lines <- scanner.Text()
	}
	_, err := io.Copy(io.Discard, stdout)
	close(p.lines)
	p.err = p.cmd.Wait()
	if p.err == nil {
		p.err = scanner.Err()
	}
	if p.err == nil {
		p.err = err
	}
	close(p.done)
}

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Stderr is what the process wrote to stderr so far.
func (p *Process) Stderr() string { return p.stderr.String() }

// Go sends the newline that a program started by [StartWaiting] waits for, and
// that ends the program idle.
func (p *Process) Go() { p.t.Helper(); p.WriteLine("") }

// WriteLine writes a line to the process's stdin.
func (p *Process) WriteLine(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.stdin, line+"\n"); err != nil {
		p.t.Fatalf("write to %s: %v", p.cmd.Path, err)
	}
}

// ReadLine is the next line of the process's stdout; ok is false at its end.
func (p *Process) ReadLine() (line string, ok bool) {
	p.t.Helper()
	select {
	case line, ok = <-p.lines:
		return line, ok
	case <-time.After(Deadline):
		p.t.Fatalf("%s: no line in %v; stderr:\n%s", p.cmd.Path, Deadline, p.Stderr())
		return "", false
	}
}

// WaitLine reads lines up to the first that begins with prefix, and returns
// that line.
func (p *Process) WaitLine(prefix string) string {
	p.t.Helper()
	for {
		line, ok := p.ReadLine()
		if !ok {
			p.t.Fatalf("%s ended before it printed %q; stderr:\n%s", p.cmd.Path, prefix, p.Stderr())
		}
		if strings.HasPrefix(line, prefix) {
			return line
		}
	}
}

// Ask has the program obey a command, and returns the lines that it answers with, up to "end".
func (p *Process) Ask(command string) []string {
	p.WriteLine(command)
	var lines []string
	for {
		line, ok := p.ReadLine()
		if !ok || line == "end" {
			return lines
		}
		lines = append(lines, line)
	}
}

// Lines reads the process's stdout to its end.
func (p *Process) Lines() []string {
	p.t.Helper()
	var lines []string
	for {
		line, ok := p.ReadLine()
		if !ok {
			return lines
		}
		lines = append(lines, line)
	}
}

// Wait closes the process's stdin and returns its end as [exec.Cmd.Wait] does.
// Lines that were not read are dropped.
func (p *Process) Wait() error {
	p.t.Helper()
	p.stdin.Close() // the process may have closed its end, which is no error here
	p.Lines()
	select {
	case <-p.done:
		return p.err
	case <-time.After(Deadline):
		return fmt.Errorf("%s still runs after %v", p.cmd.Path, Deadline)
	}
}

// Signal sends a signal to the process.
func (p *Process) Signal(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatalf("signal %s: %v", p.cmd.Path, err)
	}
}

// Kill ends the process at once and waits for its end. It may be called again,
// and is called by the test's cleanup.
func (p *Process) Kill() {
	p.cmd.Process.Kill() // an error says that it has ended
	for range p.lines {
	}
	<-p.done
}

// Buffer is a bytes.Buffer that may be read while a process or a goroutine writes it. The
// zero Buffer is empty.
type Buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

// Write implements io.Writer.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String is what was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
