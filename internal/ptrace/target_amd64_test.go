package ptrace_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"gopherscope/internal/ptrace"
	"gopherscope/internal/testenv"
)

// patience is how long a target may take for what it does in milliseconds.
const patience = 30 * time.Second

// limit is what StopAll and Inject are allowed, more than a busy machine takes.
const limit = 5 * time.Second

// compiled is the C program, compiled once per run of the tests.
type compiled struct {
	once sync.Once
	bin  string
	err  error
}

var program compiled

// compile compiles the C program into dir. The test is skipped without a compiler.
func (c *compiled) compile(t *testing.T, dir string) string {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		testenv.Missing(t, "gcc: "+err.Error())
	}
	c.once.Do(func() {
		c.bin = filepath.Join(dir, "target")
		src := c.bin + ".c"
		c.err = errors.Join(
			os.WriteFile(src, []byte(commonSource+integritySource+blockSource+modesSource), 0o644),
			os.WriteFile(c.bin+".S", []byte(asmSource), 0o644))
		if c.err != nil {
			return
		}
		if out, err := exec.Command(gcc, "-O1", "-pthread", "-o", c.bin, src, c.bin+".S").CombinedOutput(); err != nil {
			c.err = fmt.Errorf("gcc: %w\n%s", err, out)
		}
	})
	if c.err != nil {
		t.Fatal(c.err)
	}
	return c.bin
}

// facts is what the C program says of itself: its struct of that name.
type facts struct {
	Loops, Bad, What, Other, Queued, Urgent, Ticks, EINTR, Rounds, Inside, Go uint64
}

// prog is a running C program.
type prog struct {
	*testenv.Process
	t       *testing.T
	at      uint64 // its facts
	via     int    // the thread whose memory is read
	gadgets ptrace.Gadgets
	rax     uint64 // the other form of the rt_sigreturn gadget
	spin    ptrace.Range
	other   uint64 // the second spin loop
}

// start runs the C program in a mode and waits until it has begun.
func start(t *testing.T, mode ...string) *prog {
	t.Helper()
	testenv.RequireRoot(t)
	p := &prog{Process: testenv.Start(t, program.compile(t, buildDir), mode...), t: t}
	line := p.WaitLine("target ")
	if _, err := fmt.Sscanf(line, "target 0x%x 0x%x 0x%x 0x%x 0x%x 0x%x 0x%x", &p.at, &p.gadgets.SyscallRet,
		&p.gadgets.Sigreturn, &p.rax, &p.spin.Lo, &p.spin.Hi, &p.other); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	p.via = p.PID()
	return p
}

// facts reads the program's facts, while it runs or is stopped. It must not be called
// in ptrace.Run, which a test cannot leave by Fatal.
func (p *prog) facts() facts {
	p.t.Helper()
	f, err := p.read()
	if err != nil {
		p.t.Fatalf("%v; state %s, stderr:\n%s", err, status(p.PID(), "State"), p.Stderr())
	}
	return f
}

// read is facts with an error.
func (p *prog) read() (facts, error) {
	b := make([]byte, unsafe.Sizeof(facts{}))
	local := []unix.Iovec{{Base: &b[0], Len: uint64(len(b))}}
	remote := []unix.RemoteIovec{{Base: uintptr(p.at), Len: len(b)}}
	n, err := unix.ProcessVMReadv(p.via, local, remote, 0)
	if err != nil || n != len(b) {
		return facts{}, fmt.Errorf("read facts: %d bytes, %w", n, err)
	}
	var f facts
	_, err = binary.Decode(b, binary.LittleEndian, &f)
	return f, err
}

// standsFor wants the program to do nothing for a while.
func (p *prog) standsFor(d time.Duration) error {
	before, err := p.read()
	if err != nil {
		return err
	}
	time.Sleep(d)
	after, err := p.read()
	if err == nil && after != before {
		err = fmt.Errorf("it runs: %+v, then %+v", before, after)
	}
	return err
}

// setGo lets the program's signal handlers return, or not.
func (p *prog) setGo(v uint64) {
	p.t.Helper()
	b := binary.LittleEndian.AppendUint64(nil, v)
	local := []unix.Iovec{{Base: &b[0], Len: 8}}
	remote := []unix.RemoteIovec{{Base: uintptr(p.at) + unsafe.Offsetof(facts{}.Go), Len: 8}}
	if _, err := unix.ProcessVMWritev(p.PID(), local, remote, 0); err != nil {
		p.t.Fatal(err)
	}
}

// await waits until the program's facts are as wanted.
func (p *prog) await(what string, ok func(f facts) bool) facts {
	p.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Microsecond) {
		f := p.facts()
		if ok(f) {
			return f
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s: not in %v; facts %+v, state %s", what, patience, f, status(p.PID(), "State"))
		}
	}
}

// lives wants the program to go on by itself, untraced, with nothing wrong.
func (p *prog) lives() facts {
	p.t.Helper()
	p.untraced()
	before := p.facts()
	f := p.await("two more rounds", func(f facts) bool { return f.Rounds >= before.Rounds+2 })
	if f.Bad != 0 {
		p.t.Fatalf("%d times the program was not as it must be: %+v", f.Bad, f)
	}
	return f
}

// untraced waits until no thread of the program is traced: the kernel lets go of a
// dead tracer's threads before it reports the death, so nearly at once.
func (p *prog) untraced() {
	p.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		traced := tracedThreads(p.t, p.PID())
		if len(traced) == 0 {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("threads are still traced: %v", traced)
		}
	}
}

// tracedThreads lists the threads of a process that have a tracer.
func tracedThreads(t *testing.T, pid int) []string {
	t.Helper()
	dirs, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no threads of process %d: %v", pid, err)
	}
	var traced []string
	for _, path := range dirs {
		if v := statusIn(path, "TracerPid"); v != "" && v != "0" {
			traced = append(traced, strings.Split(path, "/")[4])
		}
	}
	return traced
}

// thread is a thread of the process that is not the main thread.
func (p *prog) thread() int {
	p.t.Helper()
	dirs, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.PID()))
	if err != nil || len(dirs) < 2 {
		p.t.Fatalf("threads: %v, %v", dirs, err)
	}
	tid, err := strconv.Atoi(dirs[1].Name())
	if err != nil {
		p.t.Fatal(err)
	}
	return tid
}

// status is a field of a process's status file; "" when it is gone.
func status(pid int, name string) string { return statusIn(fmt.Sprintf("/proc/%d/status", pid), name) }

func statusIn(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// awaitState waits until the process's main thread is in a state: "T", "D" and so on.
func awaitState(t *testing.T, pid int, state string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !strings.HasPrefix(status(pid, "State"), state); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d is in state %s, not %s", pid, status(pid, "State"), state)
		}
	}
}

// maps is the process's mappings.
func maps(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// stopRelease stops all threads and lets them go.
func stopRelease(pid int) error {
	return ptrace.Run(func() error {
		s, err := ptrace.StopAll(pid, limit)
		if err != nil {
			return err
		}
		s.Release()
		return nil
	})
}

// injectPID makes the process say its number, which is what getpid(2) is for.
func injectPID(pid int, g ptrace.Gadgets) error {
	return ptrace.Run(func() error {
		return ptrace.Inject(pid, g, limit, func(r *ptrace.Remote) error { return saysPID(r, pid) })
	})
}

func saysPID(r *ptrace.Remote, pid int) error {
	got, err := r.Syscall(unix.SYS_GETPID)
	if err == nil && got != uint64(pid) {
		err = fmt.Errorf("getpid in process %d is %d", pid, got)
	}
	return err
}
