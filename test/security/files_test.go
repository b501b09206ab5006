package security_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

// nobody is a user who owns nothing.
const nobody = 65534

// ended says whether a process is no more, or a zombie.
func ended(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return strings.HasPrefix(rest, "Z")
}

// TestOutputMode has every command that writes a file write one, under a umask that allows
// all, and over a file that all may read: nobody else can read what was written.
func TestOutputMode(t *testing.T) {
	traced.Tool(t)
	p := testenv.Start(t, testenv.BuildTarget(t, "still", testenv.Build{}))
	p.WaitLine("held")
	pid, dir := strconv.Itoa(p.PID()), t.TempDir()
	rec := filepath.Join(dir, "recording")
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	must(t, "record", "-d", "100ms", "-o", rec, pid)
	const here = "FILE"
	for i, args := range [][]string{
		{"record", "-d", "100ms", "-o", here, pid},
		{"trace", "-o", here, rec},
		{"trace", "--json", "-o", here, rec},
		{"stat", "-o", here, rec},
		{"profile", "-o", here, rec},
		{"profile", "--format", "folded", "-o", here, rec},
		{"convert", "--to", "perfetto", "-o", here, rec},
		{"dump", "-o", here, pid},
		{"dump", "--pprof", "-o", here, pid},
		{"dump", "--waiting-on", "-o", here, pid},
		{"leaks", "-d", "0", "-o", here, pid},
	} {
		path := filepath.Join(dir, "out"+strconv.Itoa(i))
		args[slices.Index(args, here)] = path
		for _, before := range []string{"none", "readable"} {
			if before == "readable" {
				if err := os.Chmod(path, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			must(t, args...)
			st, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if st.Mode().Perm() != 0o600 || st.Size() == 0 {
				t.Errorf("%s, before: %s: mode %v, %d bytes", strings.Join(args, " "), before, st.Mode().Perm(), st.Size())
			}
		}
	}
}

// TestForeignOutput has another user prepare the place for the output of root's command, in
// a directory that all may write to: nothing is written where that user wants it.
func TestForeignOutput(t *testing.T) {
	traced.Tool(t)
	p := testenv.Start(t, testenv.BuildTarget(t, "still", testenv.Build{}))
	p.WaitLine("held")
	shared, own := openDir(t, 0o777|os.ModeSticky), openDir(t, 0o700)
	victim := filepath.Join(own, "victim")
	path := filepath.Join(shared, "out")
	chown := func() error { return os.Lchown(path, nobody, nobody) }
	for _, test := range []struct {
		name    string
		prepare func() error
		chown   func() error
		refused bool
	}{
		{"another user's link", func() error { return os.Symlink(victim, path) }, chown, true},
		{"a link of one's own", func() error { return os.Symlink(victim, path) }, nil, false},
		{"another user's file", func() error { return os.WriteFile(path, []byte("theirs"), 0o666) }, chown, true},
		{"a file of one's own", func() error { return os.WriteFile(path, []byte("ours"), 0o666) }, nil, false},
		{"a second name", func() error { return os.Link(victim, path) }, nil, true},
		{"another user's FIFO", func() error { return syscall.Mkfifo(path, 0o666) }, chown, true},
		{"a circle of links", func() error { return os.Symlink(path, path) }, nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			const before = "of root"
			if err := os.WriteFile(victim, []byte(before), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			if err := test.prepare(); err != nil {
				t.Fatal(err)
			}
			if test.chown != nil {
				if err := test.chown(); err != nil {
					t.Fatal(err)
				}
			}
			o := run(t, "dump", "-o", path, strconv.Itoa(p.PID()))
			after, err := os.ReadFile(victim)
			if err != nil {
				t.Fatal(err)
			}
			if !test.refused {
				if o.code != 0 {
					t.Errorf("exit code %d\n%s", o.code, o.err)
				}
				return
			}
			if o.code != 1 || !strings.Contains(o.err, "gopherscope: error: create output: ") || !strings.Contains(o.err, "hint: ") {
				t.Errorf("exit code %d\n%s", o.code, o.err)
			}
			if string(after) != before {
				t.Errorf("root's file is %.20q now", after)
			}
		})
	}
}

// TestForeignRecording is TestForeignOutput for record, which opens its file in its own way
// and replaces recordings only.
func TestForeignRecording(t *testing.T) {
	traced.Tool(t)
	p := testenv.Start(t, testenv.BuildTarget(t, "still", testenv.Build{}))
	p.WaitLine("held")
	path := filepath.Join(openDir(t, 0o777|os.ModeSticky), "recording")
	args := []string{"record", "-d", "50ms", "-o", path, strconv.Itoa(p.PID())}
	must(t, args...)
	if err := os.Chown(path, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	o := run(t, args...)
	if o.code != 1 || !strings.Contains(o.err, "gopherscope: error: create recording: ") {
		t.Errorf("exit code %d\n%s", o.code, o.err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
		t.Errorf("another user's recording was changed; %v", err)
	}
}
