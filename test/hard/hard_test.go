// Package hard_test holds the tool to what it says where processes, kernels and users are
// not kind: forks, namespaces, filters, limits, stops, and other tracers. Every target is a
// program that checks itself.
package hard_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

func TestMain(m *testing.M) {
	code := m.Run()
	traced.Cleanup()
	os.Exit(code)
}

// line is what the tests read of a line of gopherscope trace --json.
type line struct {
	traced.Transition
	Stack []traced.Place `json:"stack"`
}

// scope is gopherscope, which traces with --json into a file.
type scope struct {
	*testenv.Process
	t    testing.TB
	path string
}

// trace starts gopherscope trace with flags and an operand.
func trace(t testing.TB, e traced.Engine, args ...string) *scope {
	t.Helper()
	out := filepath.Join(t.TempDir(), "trace.jsonl")
	args = slices.Concat([]string{"trace", "--json", "--max-overhead", "off", "-o", out, "--engine", string(e)}, args)
	return &scope{testenv.Start(t, traced.Tool(t), args...), t, out}
}

// attached waits until it has attached, and seen which goroutines are there.
func (s *scope) attached() {
	s.t.Helper()
	waitFor(s.t, "gopherscope to attach", func() bool { return strings.Contains(s.Stderr(), "goroutines that were there") })
}

// end interrupts it, as Ctrl-C does, and reads what it saw.
func (s *scope) end() ([]line, traced.Summary) {
	s.t.Helper()
	s.Signal(os.Interrupt)
	return s.read()
}

// read waits for its end and reads what it saw: changes, and where a process executed another
// program.
func (s *scope) read() (lines []line, sum traced.Summary) {
	s.t.Helper()
	if err := s.Wait(); err != nil {
		s.t.Fatalf("gopherscope: %v\n%s", err, s.Stderr())
	}
	f, err := os.Open(s.path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var l line
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			s.t.Fatalf("%v: %s", err, in.Text())
		}
		switch l.Type {
		case "transition", "exec":
			l.Text = in.Text()
			lines = append(lines, l)
		case "summary":
			if err := json.Unmarshal(in.Bytes(), &sum); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	if err := in.Err(); err != nil {
		s.t.Fatal(err)
	}
	if sum.Type == "" {
		s.t.Fatalf("no summary; stderr:\n%s", s.Stderr())
	}
	return lines, sum
}

// refused waits for gopherscope to end with an error of one line and a hint, and returns the
// error.
func (s *scope) refused() string {
	s.t.Helper()
	err := s.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		s.t.Fatalf("gopherscope ended with %v, want exit code 1\n%s", err, s.Stderr())
	}
	var found []string
	for text := range strings.Lines(s.Stderr()) {
		if strings.Contains(text, "error: ") {
			found = append(found, strings.TrimSpace(text))
		}
	}
	if len(found) != 1 || !strings.Contains(s.Stderr(), "hint: ") {
		s.t.Errorf("not one error with a hint:\n%s", s.Stderr())
	}
	return strings.Join(found, "\n")
}

// whole fails the test unless nothing was missed.
func whole(t testing.TB, sum traced.Summary) {
	t.Helper()
	if sum.Violations != 0 || sum.Lost["total"] != 0 || sum.Events == 0 {
		t.Errorf("%d events, %d violations, lost %v", sum.Events, sum.Violations, sum.Lost)
	}
}

// waitFor waits until something is true.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(testenv.Deadline); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", testenv.Deadline, what)
		}
	}
}
