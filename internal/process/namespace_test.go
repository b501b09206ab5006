package process

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gopherscope/internal/testenv"
)

func TestNamespaces(t *testing.T) {
	testenv.RequireRoot(t)
	tests := []struct {
		name       string
		flags      uintptr
		pid, mount bool
	}{
		{"same", 0, false, false},
		{"pid", unix.CLONE_NEWPID, true, false},
		{"mount", unix.CLONE_NEWNS, false, true},
		{"both", unix.CLONE_NEWPID | unix.CLONE_NEWNS, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cmd := role("idle")
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: tt.flags}
			c := start(t, cmd)
			inner, err := strconv.Atoi(c.line(t))
			if err != nil {
				t.Fatal(err)
			}
			p := c.open(t)
			if got, err := p.InOtherPIDNS(); got != tt.pid || err != nil {
				t.Errorf("InOtherPIDNS = %v, %v", got, err)
			}
			if got, err := p.InOtherMountNS(); got != tt.mount || err != nil {
				t.Errorf("InOtherMountNS = %v, %v", got, err)
			}
			if got, err := p.NSTID(p.PID()); got != inner || err != nil {
				t.Errorf("NSTID = %d, %v, want %d", got, err, inner)
			}
			if tt.pid && inner != 1 {
				t.Errorf("the process calls itself %d in a new namespace", inner)
			}
			threads(t, p, tt.pid)
		})
	}
}

// threads compares Threads with NSTID of each: the same numbers, unless the
// process has a namespace of its own, where they are small.
func threads(t *testing.T, p *Process, own bool) {
	t.Helper()
	tids, err := p.Threads()
	if err != nil {
		t.Fatal(err)
	}
	if len(tids) < 2 || !slices.Contains(tids, p.PID()) || !slices.IsSorted(tids) {
		t.Errorf("Threads of a Go program: %v", tids)
	}
	for _, tid := range tids {
		inner, err := p.NSTID(tid)
		if err != nil {
			t.Errorf("NSTID(%d): %v", tid, err)
		}
		if own && inner > 100 || !own && inner != tid {
			t.Errorf("NSTID(%d) = %d", tid, inner)
		}
	}
}

func TestSelfPIDNS(t *testing.T) {
	testenv.RequireRoot(t)
	ns, err := SelfPIDNS()
	if err != nil {
		t.Fatal(err)
	}
	link, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("pid:[%d]", ns.Inode); link != want {
		t.Errorf("inode of %s is %d", link, ns.Inode)
	}
	if ns.Initial != (link == "pid:[4026531836]") {
		t.Errorf("Initial = %v for %s", ns.Initial, link)
	}
	cmd := role("selfns")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	if got := output(t, cmd); strings.HasPrefix(got, "true") || strings.Contains(got, strconv.FormatUint(ns.Inode, 10)) {
		t.Errorf("in a new namespace: %q", got)
	}
}

// In a new PID namespace with the old /proc, the numbers of one mean nothing
// in the other.
func TestForeignProc(t *testing.T) {
	testenv.RequireRoot(t)
	cmd := role("look")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	if got := output(t, cmd); !strings.Contains(got, "/proc is of another PID namespace") {
		t.Errorf("Open with another namespace's /proc:\n%s", got)
	}
}
