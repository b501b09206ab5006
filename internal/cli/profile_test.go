package cli_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gopherscope/internal/cli"
)

// newTerminal is a terminal of 80 columns.
func newTerminal(t *testing.T) *os.File {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { slave.Close() })
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 25, Col: 80}); err != nil {
		t.Fatal(err)
	}
	return slave
}

// TestProfileScreen wants no profile on a terminal, unless it is text.
func TestProfileScreen(t *testing.T) {
	screen := newTerminal(t)
	for _, tt := range []struct {
		flags []string
		code  int
		text  string
	}{
		{nil, 2, "gopherscope: error: a profile is no text for a terminal\ngopherscope: hint: write it to a file with --output, or look at it with --http localhost:0\n"},
		{[]string{"--format", "speedscope"}, 2, "gopherscope: error: a profile is no text for a terminal"},
		{[]string{"--format", "folded"}, 1, "no such process"}, // gets further
		{[]string{"--http", "localhost:0"}, 1, "no such process"},
	} {
		var errs bytes.Buffer
		args := append([]string{"profile", "999999999"}, tt.flags...)
		code := cli.Main(args, cli.Stdio{Out: screen, Err: &errs})
		if code != tt.code || !strings.Contains(errs.String(), tt.text) {
			t.Errorf("%v: exit code %d\n%s", tt.flags, code, &errs)
		}
	}
}
