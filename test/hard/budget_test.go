//go:build amd64

package hard_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

// second is what the tests read of a line of gopherscope stat --json --interval 1s.
type second struct {
	Cost struct {
		Ns  int64 `json:"total_ns"`
		CPU int64 `json:"target_cpu_ns"`
	} `json:"cost"`
	Violations int `json:"violations"`
}

// TestBudgetHolds: a program that does nothing but change states would spend nearly all of its
// time in probes. The trace keeps to its share: in any two seconds, a debt of some moments and what was
// saved included, and over all. The first second is left out: it has the snapshot, which is
// taken without a pause.
func TestBudgetHolds(t *testing.T) {
	const budget = 0.10
	tool := traced.Tool(t)
	p := testenv.Start(t, testenv.BuildTarget(t, "pingpong", testenv.Build{}), "1000000000")
	out := filepath.Join(t.TempDir(), "stat.jsonl")
	if err := testenv.Start(t, tool, "stat", "--json", "--interval", "1s", "-d", "6s", "--engine", "ebpf",
		"--max-overhead", "10%", "-o", out, strconv.Itoa(p.PID())).Wait(); err != nil {
		t.Fatal(err)
	}
	seconds := readSeconds(t, out)
	if len(seconds) < 4 {
		t.Fatalf("%d seconds", len(seconds))
	}
	var cost, cpu int64
	for i, s := range seconds[1:] {
		cost, cpu = cost+s.Cost.Ns, cpu+s.Cost.CPU
		before := seconds[i]
		if i == 0 || s.Cost.CPU < int64(200*time.Millisecond) {
			continue // the last one is no whole second
		}
		if share := float64(s.Cost.Ns+before.Cost.Ns) / float64(s.Cost.CPU+before.Cost.CPU); share > 2*budget {
			t.Errorf("%.4f of the CPU time of seconds %d and %d, the budget is %v", share, i, i+1, budget)
		}
	}
	share := float64(cost) / float64(cpu)
	t.Logf("%.4f of %v", share, time.Duration(cpu))
	if share > 1.4*budget || share < budget/10 {
		t.Errorf("%.4f of the CPU time, the budget is %v", share, budget)
	}
}

func readSeconds(t *testing.T, path string) (list []second) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var s second
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		list = append(list, s)
	}
	return list
}

// TestBudgetStacks: where stacks are much of what a trace costs, it goes on without them. The
// events that have none are counted, and all others have theirs.
func TestBudgetStacks(t *testing.T) {
	p := testenv.Start(t, testenv.BuildTarget(t, "syscall", testenv.Build{}), "1000000000")
	lines, sum, messages := traceAll(t, p, "--stacks", "--max-overhead", "4%", "-d", "2s")
	var with, without, spared int
	for i := range lines {
		switch l := &lines[i]; {
		case l.Type != "transition" || l.To != "syscall":
		case len(l.Stack) > 0:
			with++
		default:
			without++
		}
	}
	spared = sum.NoStack.Budget
	if spared == 0 || with == 0 || without != spared+sum.NoStack.Full+sum.NoStack.Unread {
		t.Errorf("%d system calls with a stack, %d without, %+v in the summary", with, without, sum.NoStack)
	}
	if !strings.Contains(messages, "doing without stacks") {
		t.Errorf("nothing is said of it:\n%s", messages)
	}
	if sum.Violations != 0 {
		t.Errorf("%d violations", sum.Violations)
	}
}

// TestReadAfterPause: a goroutine that stays parked over a pause is known after it.
func TestReadAfterPause(t *testing.T) {
	p := testenv.Start(t, testenv.BuildTarget(t, "pingpong", testenv.Build{}), "1000000000")
	lines, sum, messages := traceAll(t, p, "--max-overhead", "20%", "-d", "5s")
	gaps, parked := 0, 0
	for i := range lines {
		switch l := &lines[i]; {
		case l.Type == "gap":
			gaps++
		case l.Type == "snapshot" && gaps > 0 && l.State == "waiting":
			parked++
		}
	}
	if gaps == 0 || parked < 3 || sum.Violations != 0 {
		t.Errorf("%d gaps, %d parked goroutines read after them, %d violations\n%s", gaps, parked, sum.Violations, messages)
	}
}

// budgetLine and budgetSummary are what these tests read of a trace.
type budgetLine struct {
	Type, To, State string
	Stack           []json.RawMessage
}

type budgetSummary struct {
	Violations int
	NoStack    struct{ Full, Unread, Budget int } `json:"no_stack"`
}

// traceAll traces a process with the ebpf engine to the end.
func traceAll(t *testing.T, p *testenv.Process, args ...string) (lines []budgetLine, sum budgetSummary, messages string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "trace.jsonl")
	args = append([]string{"trace", "--json", "--engine", "ebpf", "-o", out}, append(args, strconv.Itoa(p.PID()))...)
	tool := testenv.Start(t, traced.Tool(t), args...)
	if err := tool.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, tool.Stderr())
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for text := range strings.Lines(string(data)) {
		var l budgetLine
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if l.Type == "summary" {
			if err := json.Unmarshal([]byte(text), &sum); err != nil {
				t.Fatal(err)
			}
			continue
		}
		lines = append(lines, l)
	}
	return lines, sum, tool.Stderr()
}
