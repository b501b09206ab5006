// Package traced runs the gopherscope command on target programs and reads its
// JSON output back, for tests that look at the whole tool from outside. It
// shares no code with the tool: what it knows of the output is the documented
// schema of gopherscope trace --json.
//
// It is imported by tests only, and needs root, BPF and the go command; tests
// are skipped without them (see package testenv).
package traced

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gopherscope/internal/testenv"
)

// Place is a place in the target's source.
type Place struct {
	Func string `json:"func"`
	File string `json:"file"`
	Line int    `json:"line"`
}

// Transition is one line of output with type "transition".
type Transition struct {
	Type      string `json:"type"`
	Time      string `json:"time"`
	MonoNs    int64  `json:"mono_ns"`
	GoID      int64  `json:"goid"`
	From      string `json:"from"`
	To        string `json:"to"`
	Reason    string `json:"reason"`
	FakeWait  bool   `json:"fake_wait"`
	Via       string `json:"via"`
	TID       int    `json:"tid"`
	PID       int    `json:"pid"`
	M         int64  `json:"m"`
	P         int64  `json:"p"`
	Waker     *int64 `json:"waker"`
	ForNs     *int64 `json:"for_ns"`
	AtLeast   bool   `json:"for_at_least"`
	Parent    *int64 `json:"parent"` // nil but for a birth
	CreatedBy *Place `json:"created_by"`
	Start     *Place `json:"start"`
	Violation bool   `json:"violation"`

	Text string `json:"-"` // the line itself, for messages
}

// IsBirth says whether the line begins a goroutine's life.
func (tr *Transition) IsBirth() bool { return tr.Parent != nil }

// Is says whether the transition is between the two states.
func (tr *Transition) Is(from, to string) bool { return tr.From == from && tr.To == to }

// Snapshot is one line of output with type "snapshot": a goroutine that was there
// before.
type Snapshot struct {
	Type      string `json:"type"`
	Time      string `json:"time"`
	MonoNs    int64  `json:"mono_ns"`
	GoID      int64  `json:"goid"`
	State     string `json:"state"`
	Reason    string `json:"reason"`
	FakeWait  bool   `json:"fake_wait"`
	WaitNs    *int64 `json:"wait_at_least_ns"`
	PID       int    `json:"pid"`
	Parent    *int64 `json:"parent"` // nil where its origin is not known
	CreatedBy *Place `json:"created_by"`
	Start     *Place `json:"start"`

	Text string `json:"-"` // the line itself, for messages
}

// Summary is the last line of output.
type Summary struct {
	Type       string           `json:"type"`
	Engine     string           `json:"engine"`
	GoVersion  string           `json:"go_version"`
	DurationNs int64            `json:"duration_ns"`
	Events     int              `json:"events"`
	Lost       map[string]int64 `json:"lost"`
	Violations int              `json:"violations"`
	Goroutines int              `json:"goroutines"`
	Seeded     int              `json:"snapshot_goroutines"`
}

// Trace is what gopherscope said about one run of a target, and what the target
// said itself.
type Trace struct {
	Snapshots   []Snapshot
	Transitions []Transition
	Summary     Summary
	Facts       testenv.Facts
	Build       testenv.Build
	PID         int  // of the target
	Launched    bool // traced from its first goroutine on
	Engine      Engine
}

var tool struct {
	once sync.Once
	path string
	err  error
}

// Tool is the path of the gopherscope command: what the environment's
// GOPHERSCOPE_TOOL names, or compiled once per test process.
func Tool(t testing.TB) string {
	t.Helper()
	testenv.RequireRoot(t)
	testenv.RequireBPF(t)
	if path := os.Getenv("GOPHERSCOPE_TOOL"); path != "" {
		return path
	}
	root := testenv.ModuleRoot(t)
	tool.once.Do(func() {
		dir, err := os.MkdirTemp("", "gopherscope-test")
		if err != nil {
			tool.err = err
			return
		}
		tool.path = filepath.Join(dir, "gopherscope")
		cmd := exec.Command("go", "build", "-buildvcs=false", "-o", tool.path, "./cmd/gopherscope")
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as make build does
		if out, err := cmd.CombinedOutput(); err != nil {
			tool.err = fmt.Errorf("%s: %w\n%s", cmd, err, out)
		}
	})
	if tool.err != nil {
		t.Fatal(tool.err)
	}
	return tool.path
}

// Cleanup removes what [Tool] built. A package's TestMain calls it last.
func Cleanup() {
	if tool.path != "" {
		_ = os.RemoveAll(filepath.Dir(tool.path))
	}
}

// Engine is a way to trace, as the flag --engine names it.
type Engine string

// The engines. What they say of a program is the same.
const (
	EBPF   Engine = "ebpf"
	Inline Engine = "inline"
)

// Engines are those that work on this machine.
func Engines() []Engine {
	if runtime.GOARCH != "amd64" {
		return []Engine{EBPF}
	}
	return []Engine{EBPF, Inline}
}

// flags choose the engine. The inline engine gets larger rings than by default: the tests
// want every event also of a program that calls Gosched without a pause, as runtime.GC
// does while it waits, on a machine whose CPUs other tests use.
func (e Engine) flags() []string {
	if e == Inline {
		return []string{"--engine", string(e), "--ring-size", "64M"}
	}
	return []string{"--engine", string(e)}
}

// Launch traces a target program that gopherscope starts itself.
func (e Engine) Launch(t testing.TB, prog string, b testenv.Build, args ...string) *Trace {
	t.Helper()
	out := filepath.Join(t.TempDir(), "trace.jsonl")
	bin := testenv.BuildTarget(t, prog, b)
	scope := testenv.Start(t, Tool(t), slices.Concat([]string{"trace", "--json", "-o", out}, e.flags(), []string{"--", bin}, args)...)
	if err := scope.Wait(); err != nil {
		t.Fatalf("gopherscope trace: %v\n%s", err, scope.Stderr())
	}
	tr := read(t, out)
	tr.Build, tr.Launched, tr.Engine = b, true, e
	tr.Facts = testenv.ParseFacts(t, strings.Split(scope.Stderr(), "\n"))
	if len(tr.Transitions) == 0 {
		t.Fatalf("no transition; stderr:\n%s", scope.Stderr())
	}
	tr.PID = tr.Transitions[0].PID
	return tr
}

// Attach traces a target program that runs already, and lets it begin its work
// when gopherscope is attached.
func (e Engine) Attach(t testing.TB, prog string, b testenv.Build, args ...string) *Trace {
	t.Helper()
	p := testenv.StartWaiting(t, testenv.BuildTarget(t, prog, b), args...)
	return e.attach(t, p, prog, b, nil)
}

// AttachHeld traces a target program from when it has printed "held" on, and then
// lets it go on.
func (e Engine) AttachHeld(t testing.TB, prog string, b testenv.Build, args ...string) *Trace {
	t.Helper()
	p := testenv.Start(t, testenv.BuildTarget(t, prog, b), args...)
	var lines []string
	for {
		line, ok := p.ReadLine()
		if !ok {
			t.Fatalf("%s ended before it held; stderr:\n%s", prog, p.Stderr())
		}
		if line == "held" {
			return e.attach(t, p, prog, b, lines)
		}
		lines = append(lines, line)
	}
}

// attach traces p until it ends. It prints the given lines first, its facts.
func (e Engine) attach(t testing.TB, p *testenv.Process, prog string, b testenv.Build, lines []string) *Trace {
	t.Helper()
	out := filepath.Join(t.TempDir(), "trace.jsonl")
	scope := testenv.Start(t, Tool(t), slices.Concat([]string{"trace", "--json", "--max-overhead", "off", "-o", out}, e.flags(), []string{strconv.Itoa(p.PID())})...)
	for begin := time.Now(); fileSize(out) == 0; time.Sleep(20 * time.Millisecond) {
		if time.Since(begin) > testenv.Deadline {
			t.Fatalf("gopherscope sees nothing after %v; stderr:\n%s", testenv.Deadline, scope.Stderr())
		}
	}
	p.Go()
	lines = append(lines, p.Lines()...)
	if err := p.Wait(); err != nil {
		t.Fatalf("%s: %v\n%s", prog, err, p.Stderr())
	}
	if err := scope.Wait(); err != nil {
		t.Fatalf("gopherscope trace: %v\n%s", err, scope.Stderr())
	}
	tr := read(t, out)
	tr.Build, tr.PID, tr.Engine = b, p.PID(), e
	tr.Facts = testenv.ParseFacts(t, lines)
	return tr
}

// Sample traces a target program that is at work, for a while, with the given
// flags.
func (e Engine) Sample(t testing.TB, p *testenv.Process, b testenv.Build, d time.Duration, flags ...string) *Trace {
	t.Helper()
	out := filepath.Join(t.TempDir(), "trace.jsonl")
	args := slices.Concat([]string{"trace", "--json", "--max-overhead", "off", "-o", out, "-d", d.String()}, e.flags(), flags)
	scope := testenv.Start(t, Tool(t), append(args, strconv.Itoa(p.PID()))...)
	if err := scope.Wait(); err != nil {
		t.Fatalf("gopherscope trace: %v\n%s", err, scope.Stderr())
	}
	tr := read(t, out)
	tr.Build, tr.PID, tr.Engine = b, p.PID(), e
	return tr
}

// Binary traces all processes of an executable, for a while.
func Binary(t testing.TB, path string, d time.Duration) *Trace {
	t.Helper()
	out := filepath.Join(t.TempDir(), "trace.jsonl")
	scope := testenv.Start(t, Tool(t), "trace", "--json", "-o", out, "-d", d.String(), "--exe", path)
	if err := scope.Wait(); err != nil {
		t.Fatalf("gopherscope trace: %v\n%s", err, scope.Stderr())
	}
	return read(t, out)
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// read parses an output file: snapshots, transitions, then the summary.
func read(t testing.TB, path string) *Trace {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tr := &Trace{}
	scanner := bufio.NewScanner(bytes.NewReader(data))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		if tr.Summary.Type != "" {
			t.Fatalf("a line after the summary: %s", scanner.Text())
		}
		line := Transition{Text: scanner.Text()}
		decode(t, line.Text, &line)
		switch line.Type {
		case "transition":
			tr.Transitions = append(tr.Transitions, line)
		case "snapshot":
			if len(tr.Transitions) > 0 {
				t.Fatalf("a snapshot after a transition: %s", line.Text)
			}
			there := Snapshot{Text: line.Text}
			decode(t, line.Text, &there)
			tr.Snapshots = append(tr.Snapshots, there)
		case "summary":
			decode(t, line.Text, &tr.Summary)
		case "exit", "exec":
		default:
			t.Fatalf("a line of unknown type: %s", line.Text)
		}
	}
	if err := scanner.Err(); err != nil {
		t.Fatal(err)
	}
	if tr.Summary.Type == "" {
		t.Fatalf("%s has no summary after %d transitions", path, len(tr.Transitions))
	}
	return tr
}

func decode(t testing.TB, line string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(line), v); err != nil {
		t.Fatalf("%v in line: %s", err, line)
	}
}

// Of is the transitions of one goroutine, in order.
func (tr *Trace) Of(goid int64) []Transition {
	return tr.Where(func(l *Transition) bool { return l.GoID == goid })
}

// Where is the transitions for which match is true, in order.
func (tr *Trace) Where(match func(*Transition) bool) []Transition {
	var found []Transition
	for i := range tr.Transitions {
		if match(&tr.Transitions[i]) {
			found = append(found, tr.Transitions[i])
		}
	}
	return found
}
