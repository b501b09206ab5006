package cli_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/recording"
	"gopherscope/internal/testenv"
)

// gopherscope runs the program and returns its standard output.
func gopherscope(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("gopherscope", args...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, &errs)
	}
	return string(out)
}

// shownStates are the states that the screen of top has a count of.
var shownStates = map[goruntime.Status]string{
	goruntime.Running: "running", goruntime.Runnable: "runnable", goruntime.Syscall: "syscall", goruntime.Waiting: "waiting",
}

// recordedStates are how many goroutines are in which state at a moment of a recording, by its text.
func recordedStates(t *testing.T, text string, at time.Duration, begin int64) map[string]int {
	t.Helper()
	last := map[uint64]goruntime.Status{}
	for line := range strings.Lines(text) {
		e, err := event.ParseText(strings.TrimSuffix(line, "\n"))
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == event.Transition && e.Time < begin+int64(at) {
			last[e.GoID] = e.To
		} else if _, ok := last[e.GoID]; e.Kind == event.Snapshot && !ok {
			last[e.GoID] = e.To
		}
	}
	counts := map[string]int{}
	for _, s := range last {
		counts[shownStates[s]]++
	}
	return counts
}

// TestTopRecording records a program that works, and types at top in a real terminal. What is on
// the screen must be what the text of the recording says of that moment.
func TestTopRecording(t *testing.T) {
	testenv.RequireBPF(t)
	leaky := testenv.Start(t, testenv.BuildTarget(t, "leaky", testenv.Build{}))
	leaky.WaitLine("ready")
	file := filepath.Join(t.TempDir(), "run.gscope")
	gopherscope(t, "record", "--stacks", "--max-overhead", "off", "-d", "4s", "-o", file, strconv.Itoa(leaky.PID()))
	leaky.Wait() // its end of input ends it
	text := gopherscope(t, "convert", "--to", "text", file)
	begin := recordingBegin(t, file)

	m := inTerminal(t, 120, 40, utf8Env, "gopherscope top --all "+file)
	m.wait(`(?s)gopherscope top .*run\.gscope  .*\n1\.0 s of [45]\.\d s, \d\d:\d\d:\d\d  paused.*lost 0  ebpf cost it .* transitions/s.*SCHED P99.*TRANS/S.*BLOCKED/S.*main\.pool`)
	counted := regexp.MustCompile(`(running|waiting|runnable|syscall) +(\d+) `)
	for second, key := range []string{2: "Right", 3: "t"} {
		if key == "" {
			continue
		}
		m.keys(key)
		screen := m.wait(fmt.Sprintf(`\n%d\.0 s of`, second))
		want := recordedStates(t, text, time.Duration(second)*time.Second, begin)
		for _, c := range counted.FindAllStringSubmatch(screen, 4) {
			if n, _ := strconv.Atoi(c[2]); n != want[c[1]] {
				t.Errorf("at %d s %s are %s, and %d by the text:\n%s", second, c[2], c[1], want[c[1]], screen)
			}
		}
	}
	m.keys("Left")
	m.wait(`\n2\.0 s of`)
	m.wait(`\b50 .* (?:4\d|50)\.\ds main\.pool`) // 50 workers, to whom 100 short jobs a second come, wait nearly all the time
	m.keys("/", "main.pool", "Enter", "Enter")
	m.wait(`50 goroutines of main\.pool`)
	m.keys("Enter")
	m.wait(`(?s)waiting \(chan receive\).*stack\n.*main\..*its last transitions, by ebpf\n +\d\d:\d\d:\d\d\.\d{6}  running  for`)
	m.keys("Home")
	m.wait(`\n1\.0 s of`)
	m.keys("+", "+", "Space")
	m.wait(`paused 4x|PLAYING 4x`)
	m.wait(`the end of the recording`)
	m.keys("e")
	m.wait(`a recording has every change`)
	m.keys("q")
	m.wait(`exit code 0\n ?icanon  ?echo`)

	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	killed := filepath.Join(t.TempDir(), "killed.gscope")
	if err := os.WriteFile(killed, whole[:len(whole)*3/4], 0o600); err != nil {
		t.Fatal(err)
	}
	m = inTerminal(t, 120, 40, utf8Env, "gopherscope top --interval 100ms --from 500ms "+killed)
	m.wait(`(?s)\n0\.5 s of [23]\.\d s.*ends early.*killed\.gscope ends early: the recorder was killed`)
	m.keys("End")
	m.wait(`\n([23]\.\d) s of [23]\.\d s.*ends early`)
	m.keys("C-c")
	m.wait(`exit code 0`)
	m = inTerminal(t, 120, 40, utf8Env, "gopherscope top --from 1h "+killed)
	m.wait(`(?s)error: --from 1h is after the end of the recording.*hint: it is [23]\.\d+s long.*exit code 2`)
}

// recordingBegin is when a recording begins, CLOCK_MONOTONIC in ns.
func recordingBegin(t *testing.T, file string) int64 {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := recording.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	return r.Info().Begin
}
