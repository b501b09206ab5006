package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"gopherscope/internal/cli"
	"gopherscope/internal/testenv"
)

// TestDumpWaitingOn finds the two deadlocks and the abandoned channel of a program,
// live and in its core file, and only some of it with a filter.
func TestDumpWaitingOn(t *testing.T) {
	testenv.RequireRoot(t)
	p := testenv.Start(t, testenv.BuildTarget(t, "waiton", testenv.Build{Go: "1.25", PIE: true}))
	goids := map[string]string{} // of one that waits, by object
	for line, ok := p.ReadLine(); ok && !strings.HasPrefix(line, "held"); line, ok = p.ReadLine() {
		if words := strings.Fields(line); words[0] == "waiter" {
			goids[words[1]] = words[2]
		}
	}
	core := testenv.Gcore(t, p)
	if code := cli.Main([]string{"dump", "-o", core, core}, cli.Stdio{Out: io.Discard, Err: io.Discard}); code != 2 {
		t.Errorf("a core file as its own output: exit code %d", code)
	}
	for _, operand := range []string{fmt.Sprint(p.PID()), core} { // and it is still whole
		text, messages := waitingOn(t, operand)
		if n := strings.Count(text, "\nlikely deadlock of "); n != 2 || !strings.Contains(messages, "; 2 likely deadlocks\n") {
			t.Errorf("%s: %d deadlocks in\n%s%s", operand, n, text, messages)
		}
		if !strings.Contains(text, fmt.Sprintf(": goid %s\n    perhaps abandoned", goids["abandoned"])) {
			t.Errorf("%s: nothing is abandoned in\n%s", operand, text)
		}
	}
	out, _ := waitingOn(t, fmt.Sprint(p.PID()), "--json", "--goid", goids["ring-1"])
	var types []string
	for line := range strings.Lines(out) {
		var v struct {
			Type, Kind, Verdict string
		}
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		types = append(types, v.Type+" "+v.Kind+" "+v.Verdict)
	}
	if got := strings.Join(types, "; "); got != "object chan reachable; cycle  ; summary  " {
		t.Errorf("of one goroutine in the ring: %s\n%s", got, out)
	}
}

// waitingOn runs gopherscope dump --waiting-on.
func waitingOn(t *testing.T, args ...string) (out, messages string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := cli.Main(append([]string{"dump", "--waiting-on"}, args...), cli.Stdio{Out: &stdout, Err: &stderr}); code != 0 {
		t.Fatalf("%v: exit code %d\n%s", args, code, &stderr)
	}
	return stdout.String(), stderr.String()
}
