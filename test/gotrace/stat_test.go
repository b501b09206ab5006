package gotrace_test

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
	"golang.org/x/exp/trace"

	"gopherscope/internal/cut"
	"gopherscope/internal/recording"
	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

// statPage is what the test reads of a page of stat --json.
type statPage struct {
	Violations uint64                 `json:"violations"`
	Lost       struct{ Total uint64 } `json:"lost"`
	States     map[string]struct {
		TimeNs int64 `json:"time_ns"`
	} `json:"states"`
	Sched    ended `json:"sched"`
	Syscalls ended `json:"syscalls"`
	Blocked  []struct {
		Reason string `json:"reason"`
		ended
	} `json:"blocked"`
	Busiest []struct {
		GoID   trace.GoID       `json:"goid"`
		State  string           `json:"state"`
		States map[string]int64 `json:"states"`
	} `json:"busiest"`
}

// ended is a distribution of what ended in the interval.
type ended struct {
	Count   int   `json:"count"`
	TotalNs int64 `json:"total_ns"`
}

func (e ended) plus(more ended) ended { return ended{e.Count + more.Count, e.TotalNs + more.TotalNs} }

// words are Go's for the reasons of waits that are compared: those that go tool trace counts
// for -pprof=sync, then others.
var words = []string{"chan receive", "chan send", "select", "sync", "sync.(*Cond).Wait", "sleep", "network"}

// ofSync is how many of them -pprof=sync counts.
const ofSync = 5

// statTest is a program that records its own trace, and how it is traced.
type statTest struct {
	engine traced.Engine
	build  testenv.Build
	change int64 // ns that a change may be apart
	prog   string
	args   []string // TRACE stands for where it puts its trace
	waits  []string // that it has, of words
}

// TestStat holds the figures of stat --json to the trace that the program recorded of itself
// in the same run: to the totals of go tool trace -pprof, and for each goroutine that lived
// in that time to how long it ran, was runnable, in system calls and waiting. A figure may
// differ by a twentieth or 100 us, as TestWitness has it, or by what the two tracers are apart
// at each change.
func TestStat(t *testing.T) {
	all := []string{"chan receive", "chan send", "sync", "sleep", "network"}
	for _, test := range []statTest{
		{traced.Inline, testenv.Build{Go: "1.26"}, 1_000, "tracewit", []string{"TRACE", "10"}, all},
		{traced.Inline, testenv.Build{Go: "1.24"}, 1_000, "profile", []string{os.DevNull, "TRACE"}, []string{"chan receive", "select", "sync", "sync.(*Cond).Wait", "sleep"}},
		{traced.EBPF, testenv.Build{Go: "1.22"}, 20_000, "tracewit", []string{"TRACE", "10"}, all},
	} {
		if !slices.Contains(traced.Engines(), test.engine) {
			continue
		}
		t.Run(string(test.engine)+"/"+test.prog+"-"+test.build.String(), test.run)
	}
}

func (test statTest) run(t *testing.T) {
	dir := t.TempDir()
	own, run, part := filepath.Join(dir, "go.trace"), filepath.Join(dir, "run.gscope"), filepath.Join(dir, "part.gscope")
	args := []string{"record", "--engine", string(test.engine), "--ring-size", "64M", "-o", run, "--", testenv.BuildTarget(t, test.prog, test.build)}
	for _, arg := range test.args {
		args = append(args, strings.Replace(arg, "TRACE", own, 1))
	}
	tool(t, args...)
	theirs := readGo(t, own)
	cutOut(t, run, part, theirs.within)
	var page statPage
	if err := json.Unmarshal(tool(t, "stat", "--json", "--top", "1000000", part), &page); err != nil {
		t.Fatal(err)
	}
	if page.Violations != 0 || page.Lost.Total != 0 {
		t.Fatalf("%d violations, %d lost", page.Violations, page.Lost.Total)
	}
	ours := sumStat(&page)
	var without []string
	for _, word := range test.waits {
		if theirs.sums[word].Count == 0 {
			without = append(without, word)
		}
	}
	if len(without) > 1 { // one may be so on a busy machine
		t.Errorf("the program has no waits for %q", without)
	}
	test.totals(t, ours, theirs)
	test.profiles(t, ours, theirs, own)
	test.goroutines(t, &page, theirs)
}

// tool runs a command of gopherscope and returns what it printed.
func tool(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(traced.Tool(t), args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("gopherscope %s: %v\n%s", args[0], err, stderr.String())
	}
	return out
}

// cutOut writes the part of a recording that lies in a span.
func cutOut(t *testing.T, from, to string, within span) {
	t.Helper()
	src, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	whole, err := recording.NewReader(src)
	if err != nil {
		t.Fatal(err)
	}
	part := cut.New(whole, cut.Part{From: within.from, To: within.to})
	dst, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	w, err := recording.NewWriter(dst, part, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := part.Run(t.Context(), w.Event, w.Tick); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// goTrace is what Go's own trace says.
type goTrace struct {
	within span
	lives  map[trace.GoID]*account // of goroutines that began and ended in the trace
	// sums are the times that began and ended in the trace: those of "sched", "syscall", and of each of words.
	sums map[string]ended
	// early is the part of "sched" before goroutines ran for the first time, which go tool trace leaves out.
	early int64
}

// readGo adds up Go's own trace.
func readGo(t *testing.T, path string) *goTrace {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	g := &goTrace{within: span{math.MaxInt64, 0}, lives: map[trace.GoID]*account{}, sums: map[string]ended{}}
	all, born, ran := newAccounts(0, math.MaxInt64), map[trace.GoID]bool{}, map[trace.GoID]bool{}
	all.waits = true
	was := map[trace.GoID]since{} // what it is in sums
	readAll(t, bytes.NewReader(data), func(ev *trace.Event) {
		if ev.Kind() != trace.EventStateTransition || ev.StateTransition().Resource.Kind != trace.ResourceGoroutine {
			return
		}
		all.add(ev)
		st := ev.StateTransition()
		id, at := st.Resource.Goroutine(), int64(ev.Time())
		from, to := st.Goroutine()
		if from == to {
			return
		}
		ranBefore := ran[id]
		ran[id] = ranBefore || to == trace.GoRunning
		if from == trace.GoUndetermined {
			return // it is not known since when
		}
		g.within = span{min(g.within.from, at), max(g.within.to, at)}
		if state := was[id]; state.state != "" {
			g.sums[state.state] = g.sums[state.state].plus(ended{1, at - state.time})
			if from == trace.GoRunnable && !ranBefore {
				g.early += at - state.time
			}
		}
		was[id] = since{map[trace.GoState]string{trace.GoRunnable: "sched", trace.GoSyscall: "syscall", trace.GoWaiting: st.Reason}[to], at}
		born[id] = born[id] || from == trace.GoNotExist
		if to == trace.GoNotExist && born[id] {
			g.lives[id] = all.of[id]
		}
	})
	return g
}

// sumStat has the figures of a page as goTrace has them.
func sumStat(page *statPage) map[string]ended {
	sums := map[string]ended{"sched": page.Sched, "syscall": page.Syscalls}
	for _, row := range page.Blocked {
		word := traceWord(row.Reason)
		sums[word] = sums[word].plus(row.ended)
	}
	return sums
}

// traceWord is what Go's tracer calls a wait reason (runtime/traceruntime.go traceBlockReasonStrings).
func traceWord(reason string) string {
	switch {
	case reason == "IO wait":
		return "network"
	case reason == "sync.Cond.Wait":
		return "sync.(*Cond).Wait"
	case reason == "semacquire", strings.HasPrefix(reason, "sync."):
		return "sync"
	}
	return reason
}

// off is for how long, in all, threads may have been put off their CPU between where one
// tracer looks and where the other does, in ns: some time slices.
const off = 20_000_000

// near says whether a time is that of Go's trace, which has so many of them.
func (test statTest) near(got, want int64, times int) bool {
	return max(got-want, want-got) <= max(100_000, want/20, test.change*int64(times))
}

// same says whether a sum is that of Go's trace. A system call is here from the kernel's entry
// to its exit, with the ebpf engine, and there from before to after, with what else the thread
// waits for meanwhile: so it may be shorter here, but not be another one.
func (test statTest) same(kind string, got ended, want int64) bool {
	if kind == "syscall" && test.engine == traced.EBPF && got.TotalNs < want {
		return got.TotalNs >= want/4
	}
	return test.near(got.TotalNs, want, got.Count) || max(got.TotalNs-want, want-got.TotalNs) <= off
}

// totals compares the sums with those of the events of Go's trace. How often goroutines were
// runnable is not compared: there they are so also for a moment when they come back from a
// system call without a P, and for no time at all in a switch of coroutines.
func (test statTest) totals(t *testing.T, ours map[string]ended, theirs *goTrace) {
	for _, kind := range append([]string{"sched", "syscall"}, words...) {
		got, want := ours[kind], theirs.sums[kind]
		t.Logf("%s: %d ns in %d, Go's trace %d ns in %d", kind, got.TotalNs, got.Count, want.TotalNs, want.Count)
		if !test.same(kind, got, want.TotalNs) {
			t.Errorf("%s: %d ns, and in Go's trace %d", kind, got.TotalNs, want.TotalNs)
		}
		if d := got.Count - want.Count; kind != "sched" && max(d, -d) > 2 {
			t.Errorf("%s: %d times, and in Go's trace %d", kind, got.Count, want.Count)
		}
	}
}

// profiles compares the sums with the totals of the profiles of go tool trace, which has those
// of goroutines from when they first ran.
func (test statTest) profiles(t *testing.T, ours map[string]ended, theirs *goTrace, own string) {
	sync := ended{}
	for _, word := range words[:ofSync] {
		sync = sync.plus(ours[word])
	}
	for kind, got := range map[string]ended{
		"sched": ours["sched"].plus(ended{0, -theirs.early}), "sync": sync, "syscall": ours["syscall"], "net": ours["network"],
	} {
		want := pprofTotal(t, own, kind)
		t.Logf("%s: %d ns, go tool trace -pprof %d", kind, got.TotalNs, want)
		if !test.same(kind, got, want) {
			t.Errorf("%s: %d ns, and go tool trace -pprof has %d", kind, got.TotalNs, want)
		}
	}
}

// pprofTotal is the total of a profile that go tool trace makes of a trace.
func pprofTotal(t *testing.T, path, kind string) int64 {
	t.Helper()
	out, err := exec.Command("go", "tool", "trace", "-pprof="+kind, path).Output()
	if err != nil {
		t.Fatalf("go tool trace -pprof=%s: %v", kind, err)
	}
	p, err := profile.ParseData(out)
	if err != nil {
		t.Fatalf("go tool trace -pprof=%s: %v", kind, err)
	}
	total := int64(0)
	for _, s := range p.Sample {
		total += s.Value[1]
	}
	return total
}

// goroutines compares the time in each state of each goroutine that began and ended in
// Go's trace. A few may differ by more: the thread can be put off its CPU between where
// one tracer looks and where the other does.
func (test statTest) goroutines(t *testing.T, page *statPage, theirs *goTrace) {
	compared, apart := 0, 0
	for i := range page.Busiest {
		row := &page.Busiest[i]
		their := theirs.lives[row.GoID]
		if their == nil {
			continue
		}
		if row.State != "ended" {
			t.Errorf("goroutine %d ended, and we say %s", row.GoID, row.State)
		}
		delete(theirs.lives, row.GoID)
		for name, state := range map[string]string{"running": "Running", "runnable": "Runnable", "syscall": "Syscall", "waiting": "Waiting"} {
			compared++
			if !test.near(row.States[name], their.time[state], their.times[state]) {
				apart++
				t.Logf("goroutine %d was %s for %d ns, and we say %d", row.GoID, name, their.time[state], row.States[name])
			}
		}
	}
	for id := range theirs.lives {
		t.Errorf("goroutine %d is in Go's trace only", id)
	}
	t.Logf("%d figures of %d goroutines, %d apart", compared, compared/4, apart)
	if compared < 20 || apart > compared/5 {
		t.Errorf("%d of %d figures are apart", apart, compared)
	}
}
