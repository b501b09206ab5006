package cli_test

import (
	"bytes"
	"strings"
	"testing"

	"gopherscope/internal/cli"
	"gopherscope/internal/testenv"
)

// TestProfileScreen wants no profile on a terminal, unless it is text.
func TestProfileScreen(t *testing.T) {
	_, screen := testenv.Terminal(t, 80)
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
