package security_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

// hostileText is 24 bytes, as long as the markers in testdata/escapes: it would set the
// title, begin a line of its own, and has an eight-bit control, a character that
// turns the direction of text, and a byte that is no UTF-8.
const hostileText = "\x1b]0;own\x07\r\nFORGED\u009b\u202e\xffz\x7f"

// The runtime's name of a wait reason, and one that is as long.
const (
	plainReason   = "select (no cases)"
	hostileReason = "select\x1b[2J\u202ease)"
)

// patched makes a copy of the program escapes with other names in it, in a directory and
// under a name that are hostile as well.
func patched(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(build(t, "escapes"))
	if err != nil {
		t.Fatal(err)
	}
	for _, marker := range []string{
		"escapeMarkerType12345678", "escapeMarkerFunc12345678", "escapeMarkerStart1234567", "escapemarkerfile01234567",
	} {
		if len(marker) != len(hostileText) || !bytes.Contains(data, []byte(marker)) {
			t.Fatalf("marker %s: %d bytes for %d, or it is not in the program", marker, len(marker), len(hostileText))
		}
		text := hostileText
		if strings.HasPrefix(marker, "escapemarkerfile") {
			text = strings.Replace(text, "FORGED", "forged", 1)
		}
		data = bytes.ReplaceAll(data, []byte(marker), []byte(text))
	}
	data = bytes.ReplaceAll(data, []byte(plainReason), []byte(hostileReason))
	dir := filepath.Join(t.TempDir(), "a\x1b[31m\u202eb")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "escapes\n\x9bz")
	if err := writeProgram(bin, data); err != nil {
		t.Fatal(err)
	}
	return bin
}

// checkPrintable looks for what a terminal acts on, in everything that a command printed.
func checkPrintable(t *testing.T, what string, o *outcome) {
	t.Helper()
	for _, out := range []string{o.out, o.err} {
		for i, r := range out {
			bad := r == utf8.RuneError && !strings.HasPrefix(out[i:], string(utf8.RuneError))
			if bad || r != '\n' && r != '\t' && !unicode.IsPrint(r) {
				t.Errorf("%s: %U at %.60q", what, r, out[max(0, i-20):])
				break
			}
		}
		if strings.Contains(strings.ToLower(out), "\nforged") {
			t.Errorf("%s: the program begins a line of its own", what)
		}
	}
	if o.code < 0 || o.code > 2 {
		t.Errorf("%s: exit code %d\n%s", what, o.code, o.err)
	}
}

// TestTerminalEscapes runs every command that prints text on a program whose names are
// terminal escapes, on a recording of it, and on files with such names.
func TestTerminalEscapes(t *testing.T) {
	traced.Tool(t)
	t.Parallel() // most of the time it waits for the tool
	bin := patched(t)
	p := testenv.Start(t, bin, hostileText)
	p.WaitLine("held")
	pid := strconv.Itoa(p.PID())
	rec := filepath.Join(filepath.Dir(bin), "rec\x1b[2J")
	checkPrintable(t, "record", must(t, "record", "--stacks", "-d", "300ms", "-o", rec, pid))

	const shown = "FORGED" // escaped, and in its place
	for _, test := range []struct {
		want string
		args []string
	}{
		{shown, []string{"ps"}},
		{shown, []string{"ps", "--json"}},
		{shown, []string{"dump", "--labels", pid}},
		{shown, []string{"dump", "--group", "--labels", pid}},
		{shown, []string{"dump", "--json", pid}},
		{shown, []string{"dump", "--waiting-on", pid}},
		{shown, []string{"dump", "--waiting-on", "--json", pid}},
		{shown, []string{"leaks", "-d", "0", "--all", pid}},
		{shown, []string{"leaks", "-d", "0", "--all", "--json", pid}},
		{shown, []string{"trace", "--stacks", "-d", "200ms", pid}},
		{shown, []string{"trace", "--stacks", rec}},
		{shown, []string{"trace", "--stacks", "--json", rec}},
		{shown, []string{"stat", rec}},
		{shown, []string{"stat", "--json", rec}},
		{shown, []string{"profile", "--format", "folded", rec}},
		{shown, []string{"profile", "--format", "speedscope", rec}},
		{shown, []string{"convert", "--to", "text", rec}},
		{shown, []string{"convert", "--to", "json", rec}},
		{"work for this process", []string{"doctor", pid}},
		{`"check"`, []string{"doctor", "--json", pid}},

		{"error: ", []string{"trace", bin}},
		{"error: ", []string{"trace", "-d", "1s", "--", bin + "none"}},
		{"error: ", []string{"trace", "--exe", bin + "none"}},
		{"error: ", []string{"dump", bin}},
		{"error: ", []string{"dump", bin + "none"}},
		{"error: ", []string{"dump", "-o", bin + "/none", pid}},
		{"error: ", []string{"record", "-o", bin, pid}},
		{"error: ", []string{"stat", bin}},
		{"error: ", []string{"convert", "--to", hostileText, rec}},
		{"error: ", []string{"trace", "--state", hostileText, pid}},
		{"error: ", []string{"top", bin}},
		{"error: ", []string{hostileText}},
		{"error: ", []string{"--" + hostileText}},
	} {
		o := run(t, test.args...)
		what := fmt.Sprintf("%.60q", test.args)
		checkPrintable(t, what, o)
		if !strings.Contains(o.all(), test.want) {
			t.Errorf("%s does not print %q\n%.200q", what, test.want, o.all())
		}
	}
}

// TestHostileBuild has hostile text where a program says by which Go it was built. Whether it
// is traced or refused, its version is printed escaped.
func TestHostileBuild(t *testing.T) {
	traced.Tool(t)
	t.Parallel() // most of the time it waits for the tool
	version := runtime.Version()
	hostile := version[:len(version)-2] + "\x1b" + version[len(version)-1:] // go1.26.8 is go1.26ESC8
	data, err := os.ReadFile(build(t, "escapes"))
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(t.TempDir(), "built")
	if err := writeProgram(bin, bytes.ReplaceAll(data, []byte(version), []byte(hostile))); err != nil {
		t.Fatal(err)
	}
	p := testenv.Start(t, bin, "text")
	p.WaitLine("held")
	for _, args := range [][]string{{"ps"}, {"doctor", strconv.Itoa(p.PID())}, {"dump", "--json", strconv.Itoa(p.PID())}} {
		o := run(t, args...)
		checkPrintable(t, args[0], o)
		if !strings.Contains(o.all(), strings.ReplaceAll(hostile, "\x1b", `\x1b`)) && !strings.Contains(o.all(), strings.ReplaceAll(hostile, "\x1b", `\u001b`)) {
			t.Errorf("%s does not name the version\n%.1000s", args[0], o.all())
		}
	}
}
