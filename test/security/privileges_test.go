package security_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
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

	"golang.org/x/sys/unix"

	"gopherscope/internal/privilege"
	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

// capable is a copy of the command that everybody may execute, with file capabilities: as
// setcap(8) writes them, permitted and effective.
func capable(t *testing.T, caps privilege.Set) string {
	t.Helper()
	data, err := os.ReadFile(traced.Tool(t))
	if err != nil {
		t.Fatal(err)
	}
	tool := filepath.Join(openDir(t, 0o755), "gopherscope")
	if err := writeProgram(tool, data); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(tool, 0o755); err != nil { // whatever the umask
		t.Fatal(err)
	}
	if caps == 0 {
		return tool
	}
	// include/uapi/linux/capability.h, struct vfs_cap_data: VFS_CAP_REVISION_2 with the
	// effective flag, then permitted and inheritable, low words before high ones.
	const revision2, effective = 0x02000000, 1
	var attr []byte
	for _, word := range []uint32{revision2 | effective, uint32(caps), 0, uint32(caps >> 32), 0} {
		attr = binary.LittleEndian.AppendUint32(attr, word)
	}
	if err := unix.Setxattr(tool, "security.capability", attr, 0); err != nil {
		testenv.Missing(t, fmt.Sprintf("file capabilities: %v", err))
	}
	return tool
}

// ordinary is a command of a user without any right.
func ordinary(tool string, args ...string) *exec.Cmd {
	cmd := exec.Command(tool, args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return cmd
}

// The sets of the table in docs/security.md.
var (
	toTrace     = privilege.Of(unix.CAP_BPF, unix.CAP_PERFMON)
	toRead      = privilege.Of(unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH)
	toWrite     = privilege.Of(unix.CAP_SYS_PTRACE, unix.CAP_DAC_OVERRIDE)
	onlyPtrace  = privilege.Of(unix.CAP_SYS_PTRACE)
	everyAttach = toTrace | toRead | toWrite
)

// writeProgram writes an executable. No child may be forked meanwhile: until it executes
// something itself it has the file open for writing, and then the program cannot be executed.
func writeProgram(path string, data []byte) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, data, 0o755)
}

// TestFileCapabilities runs the command as an ordinary user with the file capabilities of
// docs/security.md, on a process of root and on one of that user's own: with
// the set of its row each command works, and with a smaller one it says what is missing.
func TestFileCapabilities(t *testing.T) {
	traced.Tool(t)
	t.Parallel() // most of the time it waits for the tool
	prog := testenv.BuildTarget(t, "still", testenv.Build{})
	roots := testenv.Start(t, prog)
	roots.WaitLine("held")
	own := startAs(t, prog)
	theirs, mine := strconv.Itoa(roots.PID()), strconv.Itoa(own)

	dump := []string{"dump"}
	ebpf := []string{"trace", "--json", "-d", "50ms"}
	inline := []string{"trace", "--json", "-d", "50ms", "--engine", "inline"}
	for _, test := range []struct {
		caps privilege.Set
		args []string
		pid  string
		want string // an error; "" if it works
	}{
		{0, dump, mine, ""},
		{0, dump, theirs, "permission denied"},
		{onlyPtrace, dump, theirs, "permission denied"}, // the files in /proc are closed
		{toRead, dump, theirs, ""},
		{0, ebpf, mine, "CAP_BPF and CAP_PERFMON"},
		{toTrace, ebpf, mine, ""},
		{toTrace, ebpf, theirs, "permission denied"},
		{toTrace | toRead, ebpf, theirs, ""},
		{0, inline, mine, ""},
		{toRead, inline, theirs, "no permission"},
		{toWrite, inline, theirs, ""},
	} {
		o := finish(t, ordinary(capable(t, test.caps), append(test.args, test.pid)...))
		what := fmt.Sprintf("capabilities %#x, %s, its own: %v", uint64(test.caps), strings.Join(test.args, " "), test.pid == mine)
		switch {
		case test.want == "" && (o.code != 0 || o.out == ""):
			t.Errorf("%s: exit code %d\n%s", what, o.code, o.err)
		case test.want != "" && (o.code != 1 || !strings.Contains(o.err, test.want) || !strings.Contains(o.err, "hint: ")):
			t.Errorf("%s: exit code %d, want %q\n%s", what, o.code, test.want, o.err)
		}
	}
}

// startAs starts a program as nobody, which waits for the end of its stdin, and returns its
// PID.
func startAs(t *testing.T, prog string) int {
	t.Helper()
	data, err := os.ReadFile(prog)
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(openDir(t, 0o755), "prog")
	if err := writeProgram(bin, data); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := ordinary(bin)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	if _, err := io.ReadFull(stdout, make([]byte, len("held"))); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// TestCapabilitiesGivenUp looks at the capabilities of each thread of a trace that runs,
// as the kernel has them: no more than docs/security.md says.
func TestCapabilitiesGivenUp(t *testing.T) {
	traced.Tool(t)
	t.Parallel() // most of the time it waits for the tool
	p := testenv.Start(t, testenv.BuildTarget(t, "still", testenv.Build{}))
	p.WaitLine("held")
	files := privilege.Of(unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER)
	for _, test := range []struct {
		name   string
		cmd    func(args ...string) *exec.Cmd
		engine string
		want   privilege.Set
	}{
		{"file capabilities", func(args ...string) *exec.Cmd { return ordinary(capable(t, toTrace|toRead), args...) }, "ebpf", toTrace},
		{"root", func(args ...string) *exec.Cmd { return exec.Command(traced.Tool(t), args...) }, "ebpf", toTrace | files},
		{"file capabilities", func(args ...string) *exec.Cmd { return ordinary(capable(t, everyAttach), args...) }, "inline", toRead | toWrite},
	} {
		t.Run(test.engine+" "+test.name, func(t *testing.T) {
			cmd := test.cmd("trace", "--json", "--engine", test.engine, strconv.Itoa(p.PID()))
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var last string
			for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
				if last = threadsBut(t, cmd.Process.Pid, test.want); last == "" {
					break
				}
				if time.Since(begun) > testenv.Deadline || ended(cmd.Process.Pid) {
					t.Errorf("want %#x: %s", uint64(test.want), last)
					break
				}
			}
			cmd.Process.Signal(os.Interrupt)
			// The end of the trace needs what is left: to detach, and to count.
			if err := cmd.Wait(); err != nil || !strings.Contains(stderr.String(), " 0 lost") || strings.Contains(stderr.String(), "warning") {
				t.Errorf("%v\n%s", err, stderr.String())
			}
			if maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.PID())); err != nil || bytes.Contains(maps, []byte("memfd:gopherscope")) {
				t.Errorf("something is left in the process (%v)", err)
			}
		})
	}
}

// threadsBut describes the threads of a process that have other capabilities; "" for none.
func threadsBut(t *testing.T, pid int, want privilege.Set) string {
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(paths) == 0 {
		return "no threads"
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		for _, name := range []string{"CapEff", "CapPrm", "CapInh", "CapAmb"} {
			_, rest, _ := strings.Cut(string(text), "\n"+name+":\t")
			value, _, _ := strings.Cut(rest, "\n")
			got, err := strconv.ParseUint(value, 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			switch name {
			case "CapEff", "CapPrm":
				if got != uint64(want) {
					return fmt.Sprintf("%s: %s is %#x", path, name, got)
				}
			default:
				if got != 0 {
					return fmt.Sprintf("%s: %s is %#x", path, name, got)
				}
			}
		}
	}
	return ""
}

// TestPauseWithoutRights traces a busy process of another user with a small budget: the
// trace attaches again after each pause, when it may not look into the process any more.
func TestPauseWithoutRights(t *testing.T) {
	traced.Tool(t)
	t.Parallel() // most of the time it waits for the tool
	p := testenv.StartWaiting(t, testenv.BuildTarget(t, "pingpong", testenv.Build{}), "1000000000")
	p.Go()
	cmd := ordinary(capable(t, toTrace|toRead), "trace", "--json", "--max-overhead", "10%", strconv.Itoa(p.PID()))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(testenv.Deadline, func() { cmd.Process.Kill() })
	defer timer.Stop()
	paused, wentOn := false, false
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		switch line := lines.Text(); {
		case wentOn: // the rest is read, so that it can end
		case strings.Contains(line, `"type":"gap"`):
			paused = true
		case paused && strings.Contains(line, `"type":"transition"`):
			wentOn = true
			cmd.Process.Signal(os.Interrupt)
		}
	}
	if err := cmd.Wait(); err != nil || !wentOn {
		t.Errorf("%v, paused: %v, went on: %v\n%s", err, paused, wentOn, stderr.String())
	}
}
