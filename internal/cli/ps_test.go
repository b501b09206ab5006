package cli_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"gopherscope/internal/cli"
	"gopherscope/internal/testenv"
)

// psRow is an object of ps --json.
type psRow struct {
	PID        int    `json:"pid"`
	User       string `json:"user"`
	Go         string `json:"go_version"`
	Build      string `json:"build"`
	Goroutines *int   `json:"goroutines"`
	Command    string `json:"command"`
}

// ps runs ps --json and returns its rows by PID and what it said besides.
func ps(t *testing.T) (map[int]psRow, string) {
	t.Helper()
	var out, errs bytes.Buffer
	if code := cli.Main([]string{"ps", "--json"}, cli.Stdio{Out: &out, Err: &errs}); code != 0 {
		t.Fatalf("exit code %d\n%s", code, &errs)
	}
	return psRows(t, out.String()), errs.String()
}

func psRows(t *testing.T, text string) map[int]psRow {
	t.Helper()
	rows := map[int]psRow{}
	last := 0
	for line := range strings.Lines(text) {
		var r psRow
		dec := json.NewDecoder(strings.NewReader(line))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if r.PID <= last {
			t.Errorf("PID %d after %d", r.PID, last)
		}
		last, rows[r.PID] = r.PID, r
	}
	return rows
}

func TestPSBuilds(t *testing.T) {
	tests := []struct {
		build testenv.Build
		want  string
	}{
		{testenv.Build{}, "-"},
		{testenv.Build{Stripped: true}, "stripped"},
		{testenv.Build{PIE: true}, "pie"},
		{testenv.Build{PIE: true, Stripped: true}, "stripped,pie"},
		{testenv.Build{Cgo: true}, "cgo"},
		{testenv.Build{Cgo: true, PIE: true, Stripped: true}, "stripped,pie,cgo"},
		{testenv.Build{Race: true}, "cgo,race"},
		{testenv.Build{Go: "1.18", Stripped: true}, "stripped"},
		{testenv.Build{Go: "1.22", Cgo: true, PIE: true}, "pie,cgo"},
	}
	started := make([]*testenv.Process, len(tests))
	held := make([]int, len(tests)) // goroutines that a program said it has
	for i, tt := range tests {
		started[i] = testenv.Start(t, testenv.BuildTarget(t, "idle", tt.build))
		for line := ""; line != "held"; {
			var ok bool
			if line, ok = started[i].ReadLine(); !ok {
				t.Fatalf("idle ended: %s", started[i].Stderr())
			}
			if strings.HasPrefix(line, "goid ") {
				held[i]++
			}
		}
	}
	rows, _ := ps(t)
	for i, tt := range tests {
		t.Run(tt.build.String(), func(t *testing.T) {
			r, ok := rows[started[i].PID()]
			if !ok {
				t.Fatal("not listed")
			}
			version, _, _ := strings.Cut(tt.build.String(), "-")
			if r.Build != tt.want || r.Go != version || r.User != username(t) {
				t.Errorf("row %+v, want %s, %s", r, tt.want, version)
			}
			if !strings.HasSuffix(strings.TrimSpace(r.Command), filepath.Base(testenv.BuildTarget(t, "idle", tt.build))) {
				t.Errorf("command %q", r.Command)
			}
			// Besides those that were counted there are the main one and the
			// runtime's own, about 5 and one for each processor.
			if least := held[i] + 1; r.Goroutines == nil || *r.Goroutines < least || *r.Goroutines > least+12+runtime.NumCPU() {
				t.Errorf("%v goroutines, want a few more than %d", r.Goroutines, least)
			}
		})
	}
	if _, ok := rows[os.Getpid()]; ok {
		t.Error("ps lists itself")
	}
}

func username(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("id", "-un").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// A Go program that cannot be traced is listed as such: here one for another
// architecture, which this kernel may run all the same.
func TestPSUnsupported(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("a 386 program needs an amd64 kernel")
	}
	bin := testenv.BuildTarget(t, "idle", testenv.Build{GOARCH: "386"})
	if err := exec.Command(bin, "none").Run(); err != nil && strings.Contains(err.Error(), "exec format error") {
		t.Skipf("this kernel runs no 386 programs: %v", err)
	}
	p := testenv.StartWaiting(t, bin)
	rows, _ := ps(t)
	r := rows[p.PID()]
	if r.Build != "unsupported" || r.Goroutines != nil || r.Go != runtime.Version() {
		t.Errorf("row %+v", r)
	}
}

// Nothing in a command line can drive the terminal; programs in other languages
// are not listed.
func TestPSTable(t *testing.T) {
	bin := testenv.BuildTarget(t, "idle", testenv.Build{})
	cmd := exec.Command(bin)
	cmd.Args[0] = "evil\x1b]0;x\x07\nname\u202e"
	cmd.Env = append(os.Environ(), "WAIT=1")
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	startPS(t, cmd)
	other := exec.Command("sleep", "1000")
	startPS(t, other)

	var out, errs bytes.Buffer
	if code := cli.Main([]string{"ps"}, cli.Stdio{Out: &out, Err: &errs}); code != 0 {
		t.Fatalf("exit code %d\n%s", code, &errs)
	}
	lines := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
	if got, want := strings.Join(strings.Fields(lines[0]), " "), "PID USER GO BUILD GOROUTINES COMMAND"; got != want {
		t.Errorf("header %q, want %q", got, want)
	}
	found := false
	for _, line := range lines[1:] {
		f := strings.Fields(line)
		switch f[0] {
		case strconv.Itoa(cmd.Process.Pid):
			found = true
			if want := `evil\x1b]0;x\a\nname\u202e`; !strings.HasSuffix(line, "  "+want) {
				t.Errorf("row %q, want it to end in %q", line, want)
			}
			if strings.Index(line, f[5]) != strings.Index(lines[0], "COMMAND") {
				t.Errorf("columns are not aligned:\n%s\n%s", lines[0], line)
			}
		case strconv.Itoa(other.Process.Pid):
			t.Errorf("sleep is listed: %q", line)
		}
	}
	if !found {
		t.Errorf("process %d is not listed:\n%s", cmd.Process.Pid, &out)
	}
}

// On a terminal each process has one line.
func TestPSTerminal(t *testing.T) {
	cmd := exec.Command(testenv.BuildTarget(t, "idle", testenv.Build{}))
	cmd.Args[0] = strings.Repeat("é", 200)
	cmd.Env = append(os.Environ(), "WAIT=1")
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	startPS(t, cmd)
	ptm, pts := testenv.Terminal(t, 60)
	read := make(chan string)
	go func() {
		b, _ := io.ReadAll(ptm) // the end is an EIO
		read <- string(b)
	}()
	if code := cli.Main([]string{"ps"}, cli.Stdio{Out: pts, Err: io.Discard}); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	pts.Close()
	text := <-read
	found := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if width := utf8.RuneCountInString(line); width > 60 {
			t.Errorf("%d columns: %q", width, line)
		}
		if strings.HasPrefix(line, strconv.Itoa(cmd.Process.Pid)+" ") {
			found = strings.HasSuffix(line, "é")
		}
	}
	if !found {
		t.Errorf("process %d is not listed with its command:\n%s", cmd.Process.Pid, text)
	}
}

// TestColumns: a terminal that does not know its width is one all the same, and is not sent
// a binary.
func TestColumns(t *testing.T) {
	for _, tt := range []struct {
		width uint16
		table int // columns of the widest line that ps may write
	}{{60, 60}, {0, 80}} {
		ptm, pts := testenv.Terminal(t, tt.width)
		read := make(chan string)
		go func() {
			b, _ := io.ReadAll(ptm) // the end is an EIO
			read <- string(b)
		}()
		cmd := exec.Command(testenv.BuildTarget(t, "idle", testenv.Build{}), strings.Repeat("x", 200))
		cmd.Env = append(os.Environ(), "WAIT=1")
		if _, err := cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		startPS(t, cmd)
		if code := cli.Main([]string{"ps"}, cli.Stdio{Out: pts, Err: io.Discard}); code != 0 {
			t.Fatalf("exit code %d", code)
		}
		pid := strconv.Itoa(cmd.Process.Pid)
		for _, args := range [][]string{{"dump", "--pprof", pid}, {"profile", pid}, {"record", "-o", "-", pid}, {"convert", "--to", "perfetto", pid}} {
			var stderr strings.Builder
			if code := cli.Main(args, cli.Stdio{Out: pts, Err: &stderr}); code != 2 || !strings.Contains(stderr.String(), " is no text for a terminal\ngopherscope: hint: ") {
				t.Errorf("%d columns: %v: exit code %d, %s", tt.width, args, code, &stderr)
			}
		}
		pts.Close()
		widest := 0
		for line := range strings.Lines(<-read) {
			widest = max(widest, utf8.RuneCountInString(strings.TrimRight(line, "\r\n")))
		}
		if widest != tt.table {
			t.Errorf("a terminal of %d columns: lines of up to %d", tt.width, widest)
		}
	}
}

// startPS starts a process and kills it at the end of the test.
func startPS(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
}

// Who is not root sees its own processes, and one line says how many others
// there are.
func TestPSUnprivileged(t *testing.T) {
	testenv.RequireRoot(t)
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	bin := filepath.Join(dir, "idle")
	data, err := os.ReadFile(testenv.BuildTarget(t, "idle", testenv.Build{}))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bin, data, 0o755); err != nil {
		t.Fatal(err)
	}
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	own := exec.Command(bin)
	own.SysProcAttr = nobody
	own.Env = append(os.Environ(), "WAIT=1")
	if _, err := own.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := own.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	startPS(t, own)
	if _, err := io.ReadAtLeast(stdout, make([]byte, 64), len("ready")); err != nil {
		t.Fatal(err)
	}
	roots := testenv.StartWaiting(t, bin)

	// The test binary is the program when it is called so.
	cmd := exec.Command("/proc/self/exe", "ps", "--json")
	cmd.Args[0] = "gopherscope"
	cmd.SysProcAttr = nobody
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, &errs)
	}
	rows := psRows(t, out.String())
	if r, ok := rows[own.Process.Pid]; !ok || r.User != "nobody" || r.Goroutines == nil || *r.Goroutines < 2 {
		t.Errorf("own process: %+v", r)
	}
	if r, ok := rows[roots.PID()]; ok {
		t.Errorf("root's process: %+v", r)
	}
	var n int
	if _, err := fmt.Sscanf(errs.String(), "gopherscope: %d processes could not be looked at: permission denied; run as root to see all\n", &n); err != nil || n < 2 {
		t.Errorf("said %q", errs.String())
	}
	// Kernel threads are none of them; others start programs meanwhile.
	if most := programs(t) + 20; n > most {
		t.Errorf("%d processes not seen, of at most %d programs", n, most)
	}
}

// programs counts the processes that have an executable.
func programs(t *testing.T) int {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	return len(slices.DeleteFunc(dirs, func(d string) bool {
		_, err := os.Stat(d + "/exe")
		return errors.Is(err, os.ErrNotExist)
	}))
}
