package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gopherscope/internal/testenv"
)

func TestOpenNoProcess(t *testing.T) {
	limit, err := os.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		t.Fatal(err)
	}
	unused, err := strconv.Atoi(strings.TrimSpace(string(limit)))
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{0, -1, unused, 1 << 30} {
		p, err := Open(pid)
		if !errors.Is(err, ErrNoProcess) {
			t.Errorf("Open(%d) = %v, %v, want ErrNoProcess", pid, p, err)
		}
	}
}

func TestOpenThread(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tid := unix.Gettid()
	if tid == os.Getpid() { // keep the first thread and ask for another
		tids := make(chan int)
		go func() { tids <- unix.Gettid() }()
		tid = <-tids
	}
	_, err := Open(tid)
	want := fmt.Sprintf("it is a thread of process %d", os.Getpid())
	if !errors.Is(err, ErrNoProcess) || !strings.Contains(fmt.Sprint(err), want) {
		t.Errorf("Open of a thread: %v, want ErrNoProcess and %q", err, want)
	}
}

func TestOpenKernelThread(t *testing.T) {
	comm, err := os.ReadFile("/proc/2/comm")
	if err != nil || string(comm) != "kthreadd\n" {
		t.Skip("kernel threads are not visible in this PID namespace")
	}
	if _, err := Open(2); !errors.Is(err, ErrKernelThread) {
		t.Errorf("Open(kthreadd): %v, want ErrKernelThread", err)
	}
}

func TestOpenZombie(t *testing.T) {
	c := start(t, exec.Command("true"))
	eventually(t, "true is a zombie", func() bool {
		st, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.Process.Pid))
		return err == nil && strings.Contains(string(st), ") Z ")
	})
	if p, err := Open(c.Process.Pid); !errors.Is(err, ErrExited) {
		t.Errorf("Open of a zombie = %v, %v, want ErrExited", p, err)
	}
}

func TestSelf(t *testing.T) {
	p, err := Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, kind := range accesses {
		err := kind.access(p)
		switch kind.name {
		case "memory", "batch":
			if !errors.Is(err, ErrBadAddress) {
				t.Errorf("%s: %v, want ErrBadAddress", kind.name, err)
			}
		case "bias": // of no segments
			if err == nil {
				t.Error("LoadBias(nil) is known")
			}
		default:
			if err != nil {
				t.Errorf("%s: %v", kind.name, err)
			}
		}
	}
	if p.Exited() {
		t.Error("this process has exited")
	}
}

// An exit is seen by whoever waits, and ends every access with ErrExited,
// before the process is reaped and after.
func TestExit(t *testing.T) {
	c := start(t, role("idle"))
	c.line(t)
	p := c.open(t)
	if p.Exited() {
		t.Fatal("has exited at once")
	}
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := p.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait for a process that runs: %v", err)
	}
	c.in.Close()
	long, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p.Wait(long); err != nil {
		t.Fatalf("Wait: %v", err)
	}
	select {
	case <-p.Done():
	default:
		t.Error("Done is open after Wait")
	}
	if used, err := p.CPUTime(); err != nil || used <= 0 {
		t.Errorf("processor time of a zombie: %v, %v", used, err)
	}
	wantAll(t, p, ErrExited, "cpu time")
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	wantAll(t, p, ErrExited)
}

// wantAll tries all accesses but some, and wants the error from each.
func wantAll(t *testing.T, p *Process, want error, but ...string) {
	t.Helper()
	for _, kind := range accesses {
		if err := kind.access(p); !errors.Is(err, want) && (len(but) == 0 || kind.name != but[0]) {
			t.Errorf("%s: %v, want %v", kind.name, err, want)
		}
	}
}

func TestClose(t *testing.T) {
	c := start(t, role("idle"))
	p := c.open(t)
	waited := make(chan error)
	go func() { waited <- p.Wait(context.Background()) }()
	done := p.Done()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Wait at Close: %v, want ErrClosed", err)
	}
	select {
	case <-done:
		t.Error("Done is closed, but the process runs")
	default:
	}
	if err := p.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// While a process exits, its memory goes before the pidfd tells. That must not
// be taken for an execve.
func TestExitIsNotExec(t *testing.T) {
	for i := range 300 {
		c := exec.Command("true")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		p, err := Open(c.Process.Pid)
		for err == nil {
			err = p.Check()
		}
		if !errors.Is(err, ErrExited) {
			t.Errorf("run %d: %v, want ErrExited", i, err)
		}
		if p != nil {
			p.Close()
		}
		c.Wait()
	}
}

// A process that executes a program, even the same one once more, keeps its
// PID and its pidfd, but the answers would be those of another image.
func TestExec(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"/bin/sleep", self} {
		t.Run(filepath.Base(target), func(t *testing.T) {
			c := start(t, role("exec", target, "1000"))
			c.line(t)
			p := c.open(t)
			if err := p.Check(); err != nil {
				t.Fatalf("Check before: %v", err)
			}
			c.in.Write([]byte{'\n'})
			eventually(t, "execve is noticed", func() bool { return p.Check() != nil })
			for _, name := range []string{"check", "readable", "memory", "batch", "mappings", "images", "bias"} {
				for _, kind := range accesses {
					if err := kind.access(p); kind.name == name && !errors.Is(err, ErrExec) {
						t.Errorf("%s: %v, want ErrExec", name, err)
					}
				}
			}
			if p.Exited() {
				t.Error("has exited")
			}
			if q := c.open(t); q.Check() != nil {
				t.Errorf("Check after another Open: %v", q.Check())
			}
		})
	}
}

// The kernel hands the PID of a process that has gone to a new one. No access
// through the old Process may be answered by the new one.
func TestPIDReuse(t *testing.T) {
	testenv.RequireRoot(t)
	c := start(t, role("idle"))
	c.line(t)
	old := c.open(t)
	pid := old.PID()
	c.kill()
	var again *child
	for range 200 {
		// Other processes and threads take numbers meanwhile.
		err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0)
		if errors.Is(err, os.ErrNotExist) {
			t.Skip("kernel without CONFIG_CHECKPOINT_RESTORE cannot choose a PID")
		}
		if err != nil {
			t.Fatal(err)
		}
		if again = start(t, exec.Command("sleep", "1000")); again.Process.Pid == pid {
			break
		}
		again.kill()
	}
	if again.Process.Pid != pid {
		t.Fatalf("PID %d did not come again", pid)
	}
	wantAll(t, old, ErrExited)
	if !old.Exited() {
		t.Error("the old process has not exited")
	}
	if comm, err := again.open(t).Comm(); comm != "sleep" || err != nil {
		t.Errorf("the new process is %q, %v", comm, err)
	}
}

// Another user's process can be described but not looked into.
func TestPermission(t *testing.T) {
	testenv.RequireRoot(t)
	c := start(t, role("idle"))
	c.line(t)
	cmd := role("look", strconv.Itoa(c.Process.Pid))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	got := strings.Split(strings.TrimSpace(output(t, cmd)), "\n")
	want := []string{"open: <nil>"}
	for _, kind := range accesses {
		if kind.inside {
			want = append(want, kind.name+": "+ErrPermission.Error())
		} else {
			want = append(want, kind.name+": <nil>")
		}
	}
	if len(got) != len(want)+1 {
		t.Fatalf("output:\n%s", strings.Join(got, "\n"))
	}
	for i, w := range want {
		if got[i] != w {
			t.Errorf("got %q, want %q", got[i], w)
		}
	}
	var denied int
	if _, err := fmt.Sscanf(got[len(want)], "denied: %d <nil>", &denied); err != nil || denied == 0 {
		t.Errorf("List as nobody: %q, want some denied", got[len(want)])
	}
}

// A /proc that is mounted with hidepid does not show other users' processes,
// while pidfd_open finds them.
func TestHidden(t *testing.T) {
	testenv.RequireRoot(t)
	bin := filepath.Join(publicDir(t), "look")
	copyFile(t, "/proc/self/exe", bin)
	c := start(t, role("idle"))
	c.line(t)
	cmd := exec.Command("sh", "-c", `mount -t proc -o hidepid=2 proc /proc &&
exec setpriv --reuid=65534 --regid=65534 --clear-groups "$0" "$1"`, bin, strconv.Itoa(c.Process.Pid))
	cmd.Env = append(os.Environ(), roleVar+"=look")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Unshareflags: unix.CLONE_NEWNS}
	if got, want := output(t, cmd), "open: "+ErrPermission.Error()+"\n"; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
