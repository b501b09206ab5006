package ptrace_test

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"gopherscope/internal/ptrace"
)

// everything is a range of text in which every thread is.
var everything = ptrace.Range{Hi: ^uint64(0)}

// returns asks which threads return into a range.
func returns(t *testing.T, p *prog, r, text ptrace.Range) []int {
	t.Helper()
	var tids []int
	err := ptrace.Run(func() error {
		s, err := ptrace.StopAll(p.PID(), limit)
		if err != nil {
			return err
		}
		defer s.Release()
		tids = s.ReturnsInto(p.PID(), r, text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tids
}

// A thread in a signal handler that will return to a place is found, on every kind
// of stack and through a handler in a handler; and none is before and after.
func TestReturnsInto(t *testing.T) {
	for _, test := range []struct {
		stack  string
		blocks bool // the handler blocks SIGURG, as Go's do
	}{{"normal", true}, {"altstack", true}, {"nested", false}} {
		t.Run(test.stack, func(t *testing.T) {
			p := start(t, "handler", test.stack)
			p.await("the loop", func(f facts) bool { return f.Loops > 1000 })
			elsewhere := ptrace.Range{Lo: p.spin.Hi, Hi: p.spin.Hi + 1}
			for round := range uint64(20) {
				if got := returns(t, p, p.spin, ptrace.Range{}); len(got) != 0 {
					t.Fatalf("round %d, before: %v return into the loop", round, got)
				}
				p.setGo(0)
				inside := p.facts().Inside
				p.Signal(unix.SIGUSR1)
				p.await("the handler", func(f facts) bool { return f.Inside == inside+1 })
				if test.stack == "nested" {
					p.Signal(unix.SIGUSR2)
					p.await("the handler in it", func(f facts) bool { return f.Inside == inside+2 })
				}
				want := []int{p.PID()}
				if got := returns(t, p, p.spin, ptrace.Range{}); !slices.Equal(got, want) {
					t.Fatalf("round %d: %v return into the loop, want %v", round, got, want)
				}
				// In Go code only a thread that blocks SIGURG can be in a handler.
				if got := returns(t, p, p.spin, everything); slices.Equal(got, want) != test.blocks {
					t.Fatalf("round %d: %v return into the loop, the handler blocks SIGURG: %v", round, got, test.blocks)
				}
				if got := returns(t, p, elsewhere, ptrace.Range{}); len(got) != 0 {
					t.Fatalf("round %d: %v return behind the loop", round, got)
				}
				p.setGo(1)
				loops := p.facts().Loops
				p.await("the loop", func(f facts) bool { return f.Loops > loops+1000 })
			}
		})
	}
}
