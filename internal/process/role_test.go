package process

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// roleVar makes the test binary play a role instead of running tests: the
// processes that the tests look at, and those that look with fewer rights.
const roleVar = "GOPHERSCOPE_PROCESS_ROLE"

// patience is how long anything may take that must happen.
const patience = time.Minute

func TestMain(m *testing.M) {
	if name := os.Getenv(roleVar); name != "" {
		if err := roles[name](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var roles = map[string]func(args []string) error{
	"idle":     roleIdle,
	"exec":     roleExec,
	"look":     roleLook,
	"noreadv":  roleNoReadv,
	"pages":    rolePages,
	"burn":     roleBurn,
	"launch":   roleLaunch,
	"launches": roleLaunches,
	"hold":     roleHold,
	"selfns":   roleSelfNS,
}

// role is a command that runs the test binary in a role.
func role(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleVar+"="+name)
	return cmd
}

// child is a process that a test started.
type child struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// start starts cmd with pipes, and kills it at the end of the test.
func start(t *testing.T, cmd *exec.Cmd) *child {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return &child{Cmd: cmd, in: in, out: bufio.NewReader(out)}
}

// line is the child's next line of output.
func (c *child) line(t *testing.T) string {
	t.Helper()
	s, err := c.out.ReadString('\n')
	if err != nil {
		t.Fatalf("output of %s: %v", c, err)
	}
	return strings.TrimSuffix(s, "\n")
}

// open opens the child, and closes it at the end of the test.
func (c *child) open(t *testing.T) *Process {
	t.Helper()
	p, err := Open(c.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// kill ends the child, reaped.
func (c *child) kill() {
	c.Process.Kill()
	c.Wait()
}

// output runs cmd to its end and returns its output.
func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, stderr.String())
	}
	return string(out)
}

// eventually waits until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// copyFile copies an executable.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

// publicDir is a directory that other users can get at.
func publicDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// roleIdle prints its PID and waits for the end of its input.
func roleIdle([]string) error {
	fmt.Println(os.Getpid())
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// roleExec executes its arguments at the first byte of input.
func roleExec(args []string) error {
	fmt.Println("ready")
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		return err
	}
	return syscall.Exec(args[0], args, os.Environ())
}

// class names the sentinel that an error is.
func class(err error) string {
	for _, s := range []error{ErrNoProcess, ErrKernelThread, ErrExited, ErrExec, ErrBadAddress, ErrPermission} {
		if errors.Is(err, s) {
			return s.Error()
		}
	}
	return fmt.Sprint(err)
}

// roleLook prints what each kind of access to a process gives.
func roleLook(args []string) error {
	pid := os.Getpid()
	if len(args) > 0 {
		pid, _ = strconv.Atoi(args[0])
	}
	p, err := Open(pid)
	fmt.Println("open:", class(err))
	if err != nil {
		fmt.Println(err)
		return nil
	}
	defer p.Close()
	for _, kind := range accesses {
		fmt.Printf("%s: %s\n", kind.name, class(kind.access(p)))
	}
	_, denied, err := List()
	fmt.Printf("denied: %d %v\n", denied, err)
	return nil
}

// accesses are the ways to look at a process, and whether they need to be
// allowed to look into it.
var accesses = []struct {
	name   string
	inside bool
	access func(p *Process) error
}{
	{"readable", true, func(p *Process) error { return p.Readable() }},
	{"memory", true, func(p *Process) error { return p.ReadMem(4096, make([]byte, 1)) }},
	{"batch", true, func(p *Process) error {
		_, err := p.ReadMany([]MemRead{{Addr: 4096, Buf: make([]byte, 1)}})
		return err
	}},
	{"exe", true, func(p *Process) error { _, _, err := p.Exe(); return err }},
	{"exe id", true, func(p *Process) error { _, err := p.ExeID(); return err }},
	{"mappings", true, func(p *Process) error { _, err := p.Mappings(); return err }},
	{"images", true, func(p *Process) error { _, err := p.Images(); return err }},
	{"bias", true, func(p *Process) error { _, err := p.LoadBias(nil); return err }},
	{"pid namespace", true, func(p *Process) error { _, err := p.InOtherPIDNS(); return err }},
	{"mount namespace", true, func(p *Process) error { _, err := p.InOtherMountNS(); return err }},
	{"uid", false, func(p *Process) error { _, err := p.UID(); return err }},
	{"user", false, func(p *Process) error { _, err := p.User(); return err }},
	{"comm", false, func(p *Process) error { _, err := p.Comm(); return err }},
	{"args", false, func(p *Process) error { _, err := p.Args(); return err }},
	{"cmdline", false, func(p *Process) error { _, err := p.Cmdline(); return err }},
	{"cpu time", false, func(p *Process) error { _, err := p.CPUTime(); return err }},
	{"threads", false, func(p *Process) error { _, err := p.Threads(); return err }},
	{"thread id", false, func(p *Process) error { _, err := p.NSTID(p.PID()); return err }},
	{"check", false, func(p *Process) error { return p.Check() }},
}

// roleNoReadv forbids itself process_vm_readv with the given errno, and reads
// the 4 bytes at an address of a process with ReadMany.
func roleNoReadv(args []string) error {
	pid, _ := strconv.Atoi(args[0])
	addr, _ := strconv.ParseUint(args[1], 0, 64)
	errno, _ := strconv.Atoi(args[2])
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_PROCESS_VM_READV, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errno)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if _, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog))); e != 0 {
		return fmt.Errorf("seccomp: %w", e)
	}
	p, err := Open(pid)
	if err != nil {
		return err
	}
	defer p.Close()
	if _, err := unix.ProcessVMReadv(pid, []unix.Iovec{{}}, []unix.RemoteIovec{{}}, 0); !errors.Is(err, unix.Errno(errno)) {
		return fmt.Errorf("process_vm_readv in spite of the filter: %w", err)
	}
	a, b := make([]byte, 2), make([]byte, 2)
	n, err := p.ReadMany([]MemRead{{addr, a}, {addr + 2, b}, {8, make([]byte, 1)}})
	fmt.Printf("%d %s%s %s\n", n, a, b, class(err))
	return nil
}

// rolePages prints the address of three pages, of which the first holds text,
// the second holds text and must not be read, and the third is not mapped.
func rolePages([]string) error {
	size := os.Getpagesize()
	b, err := unix.Mmap(-1, 0, 3*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	copy(b, "goph")
	copy(b[size:], "secret")
	if err := unix.Mprotect(b[size:2*size], unix.PROT_NONE); err != nil {
		return err
	}
	addr := uintptr(unsafe.Pointer(&b[0]))
	if _, _, e := unix.Syscall(unix.SYS_MUNMAP, addr+2*uintptr(size), uintptr(size), 0); e != 0 {
		return e
	}
	fmt.Printf("%#x\n", addr)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// roleBurn uses at least 200 ms of processor time, prints how much it has used
// and waits for the end of its input.
func roleBurn([]string) error {
	var ts unix.Timespec
	for ts.Nano() < int64(200*time.Millisecond) {
		if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
			return err
		}
	}
	fmt.Println(ts.Nano())
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// roleLaunch launches its arguments and ends as they do.
func roleLaunch(args []string) error {
	l, err := Launch(args, nil)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.Resume(); err != nil {
		return err
	}
	<-l.Ended()
	os.Exit(l.State().ExitCode())
	return nil
}

// roleLaunches launches its arguments again and again, as often as the first
// says.
func roleLaunches(args []string) error {
	n, _ := strconv.Atoi(args[0])
	fmt.Println("ready")
	for range n {
		l, err := Launch(args[1:], nil)
		if err != nil {
			return err
		}
		if err := l.Resume(); err != nil {
			return err
		}
		<-l.Ended()
		if !l.State().Success() {
			return fmt.Errorf("child: %v", l.State())
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	return nil
}

// roleHold launches its arguments, prints the PID, and never resumes them.
func roleHold(args []string) error {
	l, err := Launch(args, nil)
	if err != nil {
		return err
	}
	fmt.Println(l.PID())
	select {}
}

// roleSelfNS prints its own PID namespace.
func roleSelfNS([]string) error {
	ns, err := SelfPIDNS()
	fmt.Println(ns.Initial, ns.Inode)
	return err
}
