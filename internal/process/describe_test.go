package process

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gopherscope/internal/testenv"
)

func TestExe(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name    string
		change  func(t *testing.T, path string)
		deleted bool
	}{
		{"plain", func(*testing.T, string) {}, false},
		{"called so (deleted)", func(*testing.T, string) {}, false},
		{"removed", func(t *testing.T, path string) { remove(t, path) }, true},
		{"removed and called so (deleted)", func(t *testing.T, path string) { remove(t, path) }, true},
		{"replaced", func(t *testing.T, path string) {
			remove(t, path)
			copyFile(t, "/bin/true", path)
		}, true},
		{"replaced by the marked name", func(t *testing.T, path string) {
			remove(t, path)
			copyFile(t, "/bin/true", path+" (deleted)")
		}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(dir, tt.name)
			copyFile(t, "/bin/sleep", path)
			want, err := fileID(path)
			if err != nil {
				t.Fatal(err)
			}
			p := start(t, exec.Command(path, "1000")).open(t)
			tt.change(t, path)
			if got, deleted, err := p.Exe(); got != path || deleted != tt.deleted || err != nil {
				t.Errorf("Exe = %q, %v, %v, want %q, %v", got, deleted, err, path, tt.deleted)
			}
			if got, err := p.ExeID(); got != want || err != nil {
				t.Errorf("ExeID = %v, %v, want %v", got, err, want)
			}
			if got, err := fileID(p.ExePath()); got != want || err != nil {
				t.Errorf("file at ExePath = %v, %v, want %v", got, err, want)
			}
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func TestUser(t *testing.T) {
	testenv.RequireRoot(t)
	for uid, name := range map[uint32]string{0: "root", 65534: "nobody", 54321: "54321"} {
		cmd := exec.Command("sleep", "1000")
		// The effective one counts, as in ps.
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		p := start(t, cmd).open(t)
		if got, err := p.UID(); got != uid || err != nil {
			t.Errorf("UID = %d, %v, want %d", got, err, uid)
		}
		if got, err := p.User(); got != name || err != nil {
			t.Errorf("User of %d = %q, %v, want %q", uid, got, err, name)
		}
	}
}

func TestCmdline(t *testing.T) {
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"server", "-port", "8080"}, "server -port 8080"},
		{[]string{"a\x1b]0;title\x07b", "two\nlines"}, `a\x1b]0;title\ab two\nlines`},
		{[]string{"säge", "日本", "x\u202ey"}, `säge 日本 x\u202ey`},
		{[]string{"bad\xff", "", "end"}, `bad\xff  end`},
	}
	for _, tt := range tests {
		cmd := role("idle")
		cmd.Args = tt.args
		c := start(t, cmd)
		c.line(t)
		p := c.open(t)
		if got, err := p.Args(); !slices.Equal(got, tt.args) || err != nil {
			t.Errorf("Args = %q, %v, want %q", got, err, tt.args)
		}
		if got, err := p.Cmdline(); got != tt.want || err != nil {
			t.Errorf("Cmdline = %q, %v, want %q", got, err, tt.want)
		}
	}
}

// A process without words in its command line is shown by its Comm, which may
// hold what would confuse a parser of /proc/PID/stat, and a terminal.
func TestComm(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a) R (\x1bb")
	copyFile(t, "/proc/self/exe", path)
	cmd := role("idle")
	cmd.Path, cmd.Args = path, []string{""}
	c := start(t, cmd)
	c.line(t)
	p := c.open(t)
	if got, err := p.Comm(); got != `a) R (\x1bb` || err != nil {
		t.Errorf("Comm = %q, %v", got, err)
	}
	if got, err := p.Args(); len(got) != 0 || err != nil {
		t.Errorf("Args = %q, %v, want none", got, err)
	}
	if got, err := p.Cmdline(); got != `[a) R (\x1bb]` || err != nil {
		t.Errorf("Cmdline = %q, %v", got, err)
	}
}

func TestPrintable(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", ""},
		{"plain text, <>&\\", "plain text, <>&\\"},
		{"\x00\x1b[31m\x7f\u009b", `\x00\x1b[31m\x7f\u009b`},
		{"\t\r\n", `\t\r\n`},
		{"\xc3\x28\xff", `\xc3(\xff`},
		{"\ufffd is a character", "\ufffd is a character"},
		{"zero\u200bwidth \u2066bidi\u2069 \ufeff", `zero\u200bwidth \u2066bidi\u2069 \ufeff`},
		{"\u00a0\u2028", `\u00a0\u2028`},
		{"\U000e0041", `\U000e0041`},
	}
	for _, tt := range tests {
		if got := Printable(tt.in); got != tt.want {
			t.Errorf("Printable(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestCPUTime(t *testing.T) {
	c := start(t, role("burn"))
	ns, err := strconv.ParseInt(c.line(t), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	p := c.open(t)
	used, err := p.CPUTime()
	if err != nil || used < time.Duration(ns) {
		t.Errorf("CPUTime = %v, %v, after %v", used, err, time.Duration(ns))
	}
	c.in.Close()
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	// The two differ by what the process did after the question.
	total := c.ProcessState.UserTime() + c.ProcessState.SystemTime()
	if used > total+10*time.Millisecond {
		t.Errorf("CPUTime = %v, but %v in all", used, total)
	}
}

func TestParseStat(t *testing.T) {
	fields := " S 1 2 3 4 5 2129984 7 8 9\n"
	tests := []struct {
		text string
		want stat
		err  string
	}{
		{"12 (sleep)" + fields, stat{"sleep", 'S', 2129984}, ""},
		{"12 (a) R (b c)" + fields, stat{"a) R (b c", 'S', 2129984}, ""},
		{"12 ())" + fields, stat{")", 'S', 2129984}, ""},
		{"12 ()" + fields, stat{"", 'S', 2129984}, ""},
		{"", stat{}, "no name"},
		{"12 )(" + fields, stat{}, "no name"},
		{"12 (sleep) S 1 2", stat{}, "3 fields"},
		{"12 (sleep)" + strings.Replace(fields, "2129984", "x", 1), stat{}, "flags"},
	}
	for _, tt := range tests {
		got, err := parseStat([]byte(tt.text))
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("parseStat(%q) = %+v, %v, want %+v, %s", tt.text, got, err, tt.want, tt.err)
		}
	}
}
