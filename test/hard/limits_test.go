//go:build amd64

package hard_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

// TestSeccomp: a filter that kills the process for the system calls that we would make in
// it. With CAP_SYS_ADMIN it is suspended for their time; without, the process is refused
// before it is touched.
func TestSeccomp(t *testing.T) {
	s := start(t, nil)
	s.do("forbid")
	sc := s.attachedTo(traced.Inline)
	s.do("work 1000")
	_, sum := sc.end()
	whole(t, sum)
	s.untouched()
	s.do("work 1000")

	if _, err := exec.LookPath("setpriv"); err != nil {
		testenv.Missing(t, "setpriv: "+err.Error())
	}
	out := filepath.Join(t.TempDir(), "out")
	less := testenv.Start(t, "setpriv", "--bounding-set", "-sys_admin", traced.Tool(t), "trace", "--engine", "inline", "-o", out, s.operand())
	text := (&scope{less, t, out}).refused()
	if !strings.Contains(text, "seccomp") {
		t.Errorf("not refused for the filter: %s", text)
	}
	s.untouched()
	s.finish()
}

// TestSeccompKills is the control: the filter does kill for an executable mapping.
func TestSeccompKills(t *testing.T) {
	s := start(t, nil)
	s.do("forbid")
	s.WriteLine("forbidden")
	err := s.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGSYS {
		t.Errorf("the program: %v\n%s", err, s.Stderr())
	}
}

// group is a memory cgroup, of either version.
type group struct {
	t    *testing.T
	path string
	v2   bool
}

// newGroup makes a group with a limit.
func newGroup(t *testing.T, limit int64) *group {
	t.Helper()
	g := &group{t: t, path: "/sys/fs/cgroup/memory"}
	name := fmt.Sprintf("gopherscope-test-%d", os.Getpid())
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		g.v2, g.path = true, "/sys/fs/cgroup"
	}
	g.path = filepath.Join(g.path, name)
	if err := os.Mkdir(g.path, 0o755); err != nil {
		testenv.Missing(t, "no memory cgroup can be made: "+err.Error())
	}
	t.Cleanup(func() {
		for range 100 { // the program's end may not have been noticed yet
			if os.Remove(g.path) == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Errorf("%s cannot be removed", g.path)
	})
	if err := os.WriteFile(filepath.Join(g.path, g.name("memory.limit_in_bytes", "memory.max")), []byte(strconv.FormatInt(limit, 10)), 0o644); err != nil {
		testenv.Missing(t, "no limit of memory: "+err.Error())
	}
	return g
}

func (g *group) name(v1, v2 string) string {
	if g.v2 {
		return v2
	}
	return v1
}

// shared is how much shared memory is charged to the group, in bytes.
func (g *group) shared() int64 {
	g.t.Helper()
	text, err := os.ReadFile(filepath.Join(g.path, "memory.stat"))
	if err != nil {
		g.t.Fatal(err)
	}
	for stat := range strings.Lines(string(text)) {
		if f := strings.Fields(stat); len(f) == 2 && f[0] == "shmem" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				g.t.Fatal(err)
			}
			return n
		}
	}
	g.t.Fatalf("no shmem in %s", text)
	return 0
}

// nobody is a goroutine that there is not, to print nothing: the reader checks and counts all
// the same.
const nobody = "9223372036854775807"

// TestMemoryLimit: the process may have little memory, far less than its rings take. They are
// charged to us, but for what it writes at the beginning of a burst, before we see that it
// does: it lives.
func TestMemoryLimit(t *testing.T) {
	const limit = 24 << 20
	g := newGroup(t, limit)
	s := start(t, nil)
	if err := os.WriteFile(filepath.Join(g.path, "cgroup.procs"), []byte(s.operand()), 0o644); err != nil {
		t.Fatal(err)
	}
	sc := s.attachedTo(traced.Inline, "--ring-size", "64M", "--goid", nobody)
	for range 20 { // with pauses, in which the reader gets a CPU also on a machine that has none to spare
		s.do("work 20000")
		time.Sleep(50 * time.Millisecond)
	}
	n := g.shared()
	_, sum := sc.end()
	written := int64(sum.Events) * 32
	t.Logf("%d events, %d bytes of records, %d bytes of shared memory charged to the process", sum.Events, written, n)
	if n > limit/2 || written < 2*limit {
		t.Errorf("%d bytes of shared memory are charged to the process, of %d", n, written)
	}
	whole(t, sum)
	s.untouched()
	s.finish()
}

// TestReaderStopped: the reader does not run for two seconds. The rings fill up, which is
// counted; the process is no slower for it and lives.
func TestReaderStopped(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *subject, e traced.Engine) {
		sc := s.attachedTo(e, "--ring-size", "256K", "--goid", nobody)
		before := s.pace("1s")
		sc.Signal(syscall.SIGSTOP)
		stopped := s.pace("2s")
		sc.Signal(syscall.SIGCONT)
		s.do("work 100")
		_, sum := sc.end()
		t.Logf("traced %v, with the reader stopped %v; lost %v", before, stopped, sum.Lost)
		if sum.Lost["ring_full"] == 0 || sum.Lost["total"] != sum.Lost["ring_full"] {
			t.Errorf("lost %v", sum.Lost)
		}
		if made := stopped.trips * 6; sum.Lost["ring_full"] < made/2 {
			t.Errorf("%d lost, at least %d changes were made", sum.Lost["ring_full"], made)
		}
		// Not by the clock: other tests use the machine too.
		if stopped.cost() > 3*before.cost() {
			t.Errorf("a round trip takes %v of CPU time with the reader stopped, %v before", stopped.cost(), before.cost())
		}
		s.untouched()
	})
}

// paced is how many round trips the program made in a time, and the CPU time they took.
type paced struct {
	trips int64
	cpu   time.Duration
}

func (p paced) cost() time.Duration { return p.cpu / time.Duration(p.trips) }

// String has what a round trip takes.
func (p paced) String() string { return fmt.Sprintf("%d round trips of %v", p.trips, p.cost()) }

func (s *subject) pace(d string) paced {
	s.t.Helper()
	before := s.cpu()
	trips := s.do("pace " + d)
	return paced{trips, s.cpu() - before}
}

// cpu is the CPU time of the program: utime and stime in proc(5), in hundredths of a second.
func (s *subject) cpu() time.Duration {
	s.t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid))
	if err != nil {
		s.t.Fatal(err)
	}
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
	var ticks int64
	for _, text := range f[11:13] {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			s.t.Fatalf("%v: %s", err, stat)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
