package cli_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/maruel/panicparse/v2/stack"

	"gopherscope/internal/cli"
	"gopherscope/internal/testenv"
)

// startStill starts the program whose goroutines hold still.
func startStill(t *testing.T, b testenv.Build) *testenv.Process {
	t.Helper()
	p := testenv.Start(t, testenv.BuildTarget(t, "still", b))
	p.WaitLine("held")
	return p
}

// dumpOf runs gopherscope dump, and returns its output and its messages.
func dumpOf(t *testing.T, pid int, flags ...string) (string, string) {
	t.Helper()
	var out, errs bytes.Buffer
	args := append([]string{"dump", fmt.Sprint(pid)}, flags...)
	if code := cli.Main(args, cli.Stdio{Out: &out, Err: &errs}); code != 0 {
		t.Fatalf("exit code %d\n%s", code, &errs)
	}
	return out.String(), errs.String()
}

// traceback is a goroutine as a text has it, line by line.
type traceback struct {
	lines   []string // of frames, without their arguments
	created []string
}

// tracebacks reads a text in the form of the runtime's, by goroutine.
func tracebacks(t *testing.T, text string) map[string]*traceback {
	t.Helper()
	all := map[string]*traceback{}
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		lines := strings.Split(block, "\n")
		id, _, ok := strings.Cut(strings.TrimPrefix(lines[0], "goroutine "), " ")
		if !ok || !strings.HasPrefix(lines[0], "goroutine ") || all[id] != nil {
			t.Fatalf("header %q", lines[0])
		}
		tb := &traceback{}
		for i, line := range lines[1:] {
			switch {
			case strings.HasPrefix(line, "created by "):
				tb.created = lines[i+1:]
			case strings.HasPrefix(line, "..."): // frames are left out
			case tb.created == nil && strings.HasSuffix(line, ")"):
				tb.lines = append(tb.lines, line[:strings.LastIndexByte(line, '(')])
			case tb.created == nil:
				tb.lines = append(tb.lines, line)
			}
		}
		all[id] = tb
	}
	return all
}

// stillBuilds are the ways in which the program is built: each version once, each
// way at least once.
var stillBuilds = []testenv.Build{
	{Go: "1.18", Cgo: true},
	{Go: "1.20", PIE: true},
	{Go: "1.21", Stripped: true},
	{Go: "1.23", Cgo: true, PIE: true},
	{Go: "1.25"},
	{Go: "1.27", PIE: true, Stripped: true},
}

// TestDumpIsTraceback compares what dump prints with what the program prints of
// itself. Its main goroutine runs meanwhile, and is left out.
func TestDumpIsTraceback(t *testing.T) {
	for _, build := range stillBuilds {
		t.Run(build.String(), func(t *testing.T) {
			t.Parallel()
			p := startStill(t, build)
			want := tracebacks(t, strings.Join(p.Ask("stack"), "\n"))
			text, _ := dumpOf(t, p.PID())
			got := tracebacks(t, text)
			delete(want, "1")
			delete(got, "1")
			if len(want) < 30 {
				t.Fatalf("the program prints %d goroutines", len(want))
			}
			if build.Minor() < 21 {
				innermost(t, got, want)
			}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(traceback{})); diff != "" {
				t.Errorf("the runtime's and ours differ (-want +got):\n%s", diff)
			}
			if _, rest := dumpOf(t, p.PID(), "--goid", "1"); !strings.Contains(rest, "; 1 shown;") {
				t.Errorf("main goroutine: %s", rest)
			}
		})
	}
}

// innermost leaves of each deep stack only what all versions print. Before Go 1.21
// it was the 100 innermost frames, hidden ones counted, often without a word about
// the others (runtime/traceback.go, gentraceback, where n becomes nprint).
func innermost(t *testing.T, both ...map[string]*traceback) {
	t.Helper()
	cut := 0
	for _, all := range both {
		for _, tb := range all {
			if len(tb.lines) > 2*90 {
				tb.lines = tb.lines[:2*50]
				cut++
			}
		}
	}
	if cut != 2 {
		t.Errorf("%d stacks have frames left out, want one in each text", cut)
	}
}

// parse reads a text with a parser of tracebacks that others use.
func parse(t *testing.T, text string) []*stack.Goroutine {
	t.Helper()
	var rest bytes.Buffer
	in := strings.NewReader(text)
	s, suffix, err := stack.ScanSnapshot(in, &rest, &stack.Opts{})
	if err != nil && !errors.Is(err, io.EOF) || s == nil {
		t.Fatalf("panicparse: %v", err)
	}
	if rest.Len() > 0 || len(suffix) > 0 || in.Len() > 0 {
		t.Fatalf("panicparse leaves %q, %q and %d bytes", rest.String(), suffix, in.Len())
	}
	return s.Goroutines
}

// parsed is what panicparse makes of a goroutine, in a few words a line.
func parsed(gs []*stack.Goroutine) map[int][]string {
	all := map[int][]string{}
	for _, g := range gs {
		lines := []string{fmt.Sprintf("%s locked %v elided %v", g.State, g.Locked, g.Stack.Elided)}
		for _, c := range append(g.Stack.Calls, g.CreatedBy.Calls...) {
			lines = append(lines, fmt.Sprintf("%s %s:%d", c.Func.Complete, c.RemoteSrcPath, c.Line))
		}
		all[g.ID] = lines
	}
	return all
}

func TestDumpPanicparse(t *testing.T) {
	p := startStill(t, testenv.Build{Go: "1.27", Cgo: true})
	text, _ := dumpOf(t, p.PID())
	want := parsed(parse(t, strings.Join(p.Ask("stack"), "\n")+"\n"))
	got := parsed(parse(t, text))
	delete(want, 1)
	if got[1] == nil {
		t.Error("the main goroutine is missing")
	}
	delete(got, 1)
	if len(want) < 30 {
		t.Fatalf("%d goroutines", len(want))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the runtime's and ours differ (-want +got):\n%s", diff)
	}
	// With the runtime's own there is more to parse.
	text, _ = dumpOf(t, p.PID(), "--all")
	if all := parse(t, text); len(all) <= len(got)+1 {
		t.Errorf("--all shows %d goroutines, without it %d", len(all), len(got)+1)
	}
}
