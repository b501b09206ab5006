//go:build amd64

package hard_test

import (
	"os"
	"strings"
	"testing"

	"gopherscope/test/traced"
)

// TestTwo: a second gopherscope comes to a process that is traced already. It works or is
// refused by one line, and the process is as before.
func TestTwo(t *testing.T) {
	for name, test := range map[string]struct {
		first, second traced.Engine
		refused       string // what the error of the second one says; "" if it works
		ends          string // what the error of the first one says then; "" if it goes on
	}{
		"inline, inline": {traced.Inline, traced.Inline, "another gopherscope", ""},
		"ebpf, inline":   {traced.EBPF, traced.Inline, "changed by somebody else", ""},
		"ebpf, ebpf":     {traced.EBPF, traced.EBPF, "", ""},
		"inline, ebpf":   {traced.Inline, traced.EBPF, "", "changed by somebody else"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, nil)
			first := s.attachedTo(test.first)
			s.do("work 100")
			if test.refused != "" {
				if text := trace(t, test.second, s.operand()).refused(); !strings.Contains(text, test.refused) {
					t.Errorf("refused by %q, want %q", text, test.refused)
				}
			} else {
				second := s.attachedTo(test.second)
				if test.ends != "" {
					checkEnded(t, first, test.ends)
				}
				s.do("work 1000")
				lines, sum := second.end()
				whole(t, sum)
				if n := chain(t, lines, s.pid, s.ping); n < worked(1000) {
					t.Errorf("the second one saw %d changes", n)
				}
			}
			if test.ends == "" {
				s.do("work 1000")
				lines, sum := first.end()
				whole(t, sum)
				if n := chain(t, lines, s.pid, s.ping); n < worked(1100) {
					t.Errorf("the first one saw %d changes", n)
				}
			}
			s.untouched()
			s.do("work 1000")
			// Nothing of either is left: a third one works.
			third := s.attachedTo(traced.Inline)
			s.do("work 100")
			_, sum := third.end()
			whole(t, sum)
			s.finish()
		})
	}
}

// checkEnded waits for a trace that cannot go on to end with an error, and looks whether what
// it saw before is there.
func checkEnded(t *testing.T, sc *scope, want string) {
	t.Helper()
	if err := sc.Wait(); err == nil || !strings.Contains(sc.Stderr(), want) {
		t.Errorf("it ended with %v, want %q:\n%s", err, want, sc.Stderr())
	}
	text, err := os.ReadFile(sc.path)
	if err != nil || !strings.Contains(string(text), `"transition"`) {
		t.Errorf("nothing of what it saw is there: %v", err)
	}
}
