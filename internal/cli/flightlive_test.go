package cli_test

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gstate"
	"gopherscope/internal/recording"
	"gopherscope/internal/testenv"
)

// fliesFor has, by mode of testdata/testprog/incident, the conditions that it fulfils. On a
// program in the calm mode none of them may hold, however busy the machine.
var fliesFor = map[string][]string{
	"runnable":   {"runnable > 100"},
	"latency":    {"sched.max > 200ms for 200ms", "sched.p50 > 100ms"},
	"goroutines": {"goroutines >= 200 and waiting > 150"},
	"created":    {"created > 2k"},
	"syscall":    {"syscall > 25"},
	"mutex":      {"block['sync.Mutex.Lock'].p99 > 100ms", "waiting['sync.Mutex.Lock'] > 4"},
	"io":         {"block['IO wait'].max >= 40ms"},
	"running":    {"running > 1 for 300ms"},
	"fast":       {"lost > 0"},
}

// TestFlightConditions has each condition hold on a program that was made for it, and none of
// them on one in which nothing happens, for the ten seconds after which growth can be told.
func TestFlightConditions(t *testing.T) {
	t.Parallel()
	testenv.RequireBPF(t)
	prog := testenv.BuildTarget(t, "incident", testenv.Build{})
	t.Run("calm, then growth", func(t *testing.T) {
		t.Parallel()
		const growth = "goroutines > 3x"
		args := []string{"--last", "2s", "--after", "0", "--max-files", "1", "--when", growth, "--when", "sched.p99 > 10m"}
		for _, conditions := range fliesFor {
			for _, condition := range conditions {
				args = append(args, "--when", condition)
			}
		}
		path, out := fly(t, prog, "goroutines", "13s", time.Minute, args...)
		r := openIncident(t, path)
		if r.notes[0].Cause != growth || !regexp.MustCompile(`^goroutines = \d+, \d.*x the median \d+$`).MatchString(r.notes[0].Detail) || r.before < 2*time.Second || r.before > 4*time.Second {
			t.Errorf("%+v, %v before\n%s", r.notes, r.before, out)
		}
	})
	for mode, conditions := range fliesFor {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			after := "100ms"
			if len(conditions) > 1 { // figures of the last second are known later than counts
				after = "1500ms"
			}
			args := []string{"--last", "30s", "--after", after, "--max-files", "1"}
			if mode == "fast" {
				args = append(args, "--ring-size", "64K", "--max-overhead", "off")
			}
			for _, condition := range conditions {
				args = append(args, "--when", condition)
			}
			path, out := fly(t, prog, mode, "500ms", 40*time.Second, args...)
			notes := openIncident(t, path).notes
			for _, condition := range conditions {
				if !slices.ContainsFunc(notes, func(n recording.Note) bool { return n.Cause == condition }) || !strings.Contains(out, condition+" (") {
					t.Errorf("%s did not fire: %+v\n%s", condition, notes, out)
				}
			}
		})
	}
}

// fly records a program in a mode that begins after delay, by the inline engine, for no longer than
// limit. It returns the path of the first file and the messages.
func fly(t *testing.T, prog, mode, delay string, limit time.Duration, args ...string) (path, out string) {
	t.Helper()
	target := testenv.Start(t, prog, mode, delay)
	path = filepath.Join(t.TempDir(), "incident.gscope")
	args = append([]string{"record", "--engine", "inline", "-d", limit.String(), "-o", path}, append(args, fmt.Sprint(target.PID()))...)
	text, err := exec.Command("gopherscope", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, text)
	}
	return path, string(text)
}

// incident is what is in a file of a flight recorder.
type incident struct {
	notes  []recording.Note
	before time.Duration // from its beginning to the first note
	after  time.Duration // from there to its end
	events uint64
}

// openIncident reads a file, counts anew what its first note tells of, and compares.
func openIncident(t *testing.T, path string) incident {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	notes := readNotes(t, data)
	r, err := recording.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w := recount{at: notes[0].Time, live: map[uint64]goruntime.Status{}, since: map[uint64]int64{}}
	states := gstate.NewTracker()
	err = r.Run(t.Context(), func(e *event.Event) error {
		states.Apply(e)
		w.event(e)
		return nil
	}, func(int64) error { return nil })
	totals, _ := r.Totals()
	if err != nil || !r.Complete() || states.Violations() > 0 && totals.Lost.Total() == 0 {
		t.Errorf("%s: %v, complete %v, %d violations", path, err, r.Complete(), states.Violations())
	}
	w.end()
	for _, one := range strings.Split(notes[0].Detail, ", ") {
		name, value, _ := strings.Cut(one, " = ")
		want, known := w.found[name]
		if known && want != value && totals.Lost.Total() == 0 {
			t.Errorf("%s: the note has %s, counted again it is %s", path, one, want)
		}
	}
	return incident{notes: notes, before: time.Duration(notes[0].Time - r.Info().Begin), after: time.Duration(totals.Now - notes[0].Time), events: r.Events()}
}

func readNotes(t *testing.T, data []byte) []recording.Note {
	t.Helper()
	r, err := recording.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Run(t.Context(), func(*event.Event) error { return nil }, func(int64) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if len(r.Notes()) == 0 {
		t.Fatal("there is no note")
	}
	return r.Notes()
}

// recount finds out in the plainest way what figures a condition saw when it held.
type recount struct {
	at        int64 // the look
	live      map[uint64]goruntime.Status
	since     map[uint64]int64
	most      int // runnable, in the tenth of a second before
	created   int // in the second before
	latencies []time.Duration
	found     map[string]string
}

func (w *recount) event(e *event.Event) {
	if w.found != nil {
		return
	}
	if e.Kind == event.Transition && e.Time >= w.at {
		w.end()
		return
	}
	if e.Kind == event.Transition && e.Time >= w.at-int64(time.Second) {
		if e.IsNew() {
			w.created++
		}
		if w.live[e.GoID] == goruntime.Runnable && e.To == goruntime.Running {
			w.latencies = append(w.latencies, time.Duration(e.Time-w.since[e.GoID]))
		}
	}
	w.live[e.GoID], w.since[e.GoID] = e.To, e.Time
	if e.To == goruntime.Dead {
		delete(w.live, e.GoID)
	}
	if e.Time >= w.at-int64(100*time.Millisecond) && (e.To == goruntime.Runnable || w.most == 0) {
		n := 0
		for _, s := range w.live {
			if s == goruntime.Runnable {
				n++
			}
		}
		w.most = max(w.most, n)
	}
}

// end is the moment of the look.
func (w *recount) end() {
	if w.found != nil {
		return
	}
	slices.SortFunc(w.latencies, cmp.Compare)
	w.found = map[string]string{"runnable": fmt.Sprint(w.most), "created": fmt.Sprint(w.created)}
	if n := len(w.latencies); n > 0 {
		digits := 10 * time.Microsecond
		if w.latencies[n-1] >= time.Second {
			digits = 10 * time.Millisecond
		}
		w.found["sched.max"] = w.latencies[n-1].Round(digits).String()
	}
}

// TestFlightCoolDown has a condition that holds again and again.
func TestFlightCoolDown(t *testing.T) {
	t.Parallel()
	testenv.RequireBPF(t)
	path, out := fly(t, testenv.BuildTarget(t, "incident", testenv.Build{}), "runnable", "0", 40*time.Second,
		"--when", "runnable > 100", "--after", "100ms", "--cool-down", "900ms", "--max-files", "2")
	first, second := openIncident(t, path), openIncident(t, strings.Replace(path, "incident", "incident-2", 1))
	if apart := time.Duration(second.notes[0].Time - first.notes[0].Time); apart < time.Second {
		t.Errorf("the second file was begun %v after the first", apart)
	}
	if !regexp.MustCompile(`(?m)^gopherscope: ended: --max-files 2 are written$`).MatchString(out) ||
		!regexp.MustCompile(`(?m)^gopherscope: conditions came to hold \d+ more times within --cool-down 900ms: not recorded$`).MatchString(out) {
		t.Error(out)
	}
}

// TestFlightSignals has files written when the recorder is told to, and when the process is killed. None
// takes the place of one that is there.
func TestFlightSignals(t *testing.T) {
	t.Parallel()
	testenv.RequireBPF(t)
	target := testenv.Start(t, testenv.BuildTarget(t, "incident", testenv.Build{}), "calm", "1h")
	dir := t.TempDir()
	path := filepath.Join(dir, "incident.gscope")
	if err := os.WriteFile(filepath.Join(dir, "incident-2.gscope"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	recorder, messages := startFlight(t, "--engine", "inline", "--last", "5s", "--after", "300ms", "-o", path, fmt.Sprint(target.PID()))
	waitText(t, messages, keeping)
	for _, name := range []string{"incident.gscope", "incident-3.gscope"} {
		signal(t, recorder, unix.SIGUSR1)
		waitText(t, messages, "recorded "+filepath.Join(dir, name))
		r := openIncident(t, filepath.Join(dir, name))
		if r.notes[0].Cause != "SIGUSR1" || r.after < 300*time.Millisecond {
			t.Errorf("%s: %+v, %v after", name, r.notes, r.after)
		}
	}
	target.Signal(unix.SIGKILL)
	if err := recorder.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, messages)
	}
	r := openIncident(t, filepath.Join(dir, "incident-4.gscope"))
	if r.notes[0].Cause != "the process ended" || r.before < 600*time.Millisecond || r.events == 0 {
		t.Errorf("%+v, %v before, %d events\n%s", r.notes, r.before, r.events, messages)
	}
	if data, _ := os.ReadFile(filepath.Join(dir, "incident-2.gscope")); string(data) != "mine" {
		t.Errorf("a file that was there has now %q", data)
	}
	out, err := exec.Command("gopherscope", "trace", "--json", filepath.Join(dir, "incident-4.gscope")).CombinedOutput()
	if err != nil || !regexp.MustCompile(`(?m)^gopherscope: note: recorded for \d\d:\d\d:\d\d\.\d{3} the process ended$`).Match(out) {
		t.Errorf("%v\n%s", err, out[max(0, len(out)-1000):])
	}
}

// TestFlightCrash has the last seconds of a program that panics, and nothing of one that is only
// looked at for a while.
func TestFlightCrash(t *testing.T) {
	t.Parallel()
	testenv.RequireBPF(t)
	prog := testenv.BuildTarget(t, "incident", testenv.Build{})
	path := filepath.Join(t.TempDir(), "crash.gscope")
	cmd := exec.Command("gopherscope", "record", "--engine", "inline", "--last", "10s", "-o", path, "--", prog, "panic", "500ms")
	stdin, err := cmd.StdinPipe() // the program ends with it
	if err != nil {
		t.Fatal(err)
	}
	text, err := cmd.CombinedOutput()
	stdin.Close()
	if err != nil || !strings.Contains(string(text), "panic: incident") {
		t.Fatalf("%v\n%s", err, text)
	}
	r := openIncident(t, path)
	if len(r.notes) != 1 || r.notes[0].Cause != "the process ended" || r.notes[0].Detail != "exit status 2" || r.before < 500*time.Millisecond {
		t.Errorf("%+v, %v before\n%s", r.notes, r.before, text)
	}
	path, out := fly(t, prog, "calm", "1h", time.Second, "--last", "30s", "--when", "sched.p99 > 10m")
	if _, err := os.Stat(path); !os.IsNotExist(err) || !strings.Contains(out, "gopherscope: no file was written: nothing happened that was waited for") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestFlightDisk writes to a disk that is too small for what is kept. What has room there opens.
func TestFlightDisk(t *testing.T) {
	t.Parallel()
	testenv.RequireBPF(t)
	testenv.RequireRoot(t)
	disk := t.TempDir()
	if err := unix.Mount("none", disk, "tmpfs", 0, "size=128k"); err != nil {
		testenv.Missing(t, fmt.Sprintf("mount a tmpfs: %v", err))
	}
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	path := filepath.Join(disk, "incident.gscope")
	pingpong := testenv.BuildTarget(t, "pingpong", testenv.Build{})
	cmd := exec.Command("gopherscope", "record", "--engine", "inline", "--when", "sched.p99 > 1ns", "-d", "40s", "-o", path, "--", pingpong, "1000000000")
	out, err := cmd.CombinedOutput()
	found := regexp.MustCompile(`error: write recording: .*no space left on device\ngopherscope: hint: what was written before, (\d+) events, can be read; free space`).FindSubmatch(out)
	if cmd.ProcessState.ExitCode() != 1 || found == nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if events, ok := openKilled(t, path); !ok || fmt.Sprint(events) != string(found[1]) {
		t.Errorf("%d events can be read, the message says %s", events, found[1])
	}
}

// keeping is what a recorder says when it has begun to keep what happens.
const keeping = "goroutines that were there before"

// startFlight starts a recorder.
func startFlight(t *testing.T, args ...string) (*exec.Cmd, *testenv.Buffer) {
	t.Helper()
	cmd := exec.Command("gopherscope", append([]string{"record"}, args...)...)
	messages := &testenv.Buffer{}
	cmd.Stderr = messages
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	return cmd, messages
}

func signal(t *testing.T, cmd *exec.Cmd, sig os.Signal) {
	t.Helper()
	if err := cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// waitText waits until a text is among the messages.
func waitText(t *testing.T, messages *testenv.Buffer, text string) {
	t.Helper()
	for deadline := time.Now().Add(testenv.Deadline); !strings.Contains(messages.String(), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%q is not among the messages:\n%s", text, messages)
		}
	}
}

// TestFlightKilled kills recorders while they write. What they wrote opens, up to a whole
// block.
func TestFlightKilled(t *testing.T) {
	t.Parallel()
	testenv.RequireBPF(t)
	target := testenv.Start(t, testenv.BuildTarget(t, "pingpong", testenv.Build{}), "1000000000")
	dir := t.TempDir()
	const recorders = 3
	var started [recorders]*exec.Cmd
	var messages [recorders]*testenv.Buffer
	path := func(i int) string { return filepath.Join(dir, fmt.Sprintf("%d.gscope", i)) }
	for i := range started {
		started[i], messages[i] = startFlight(t, "--engine", "ebpf", "--max-overhead", "off", "--last", "30s", "--after", "30s", "-o", path(i), fmt.Sprint(target.PID()))
	}
	for i := range started {
		waitText(t, messages[i], keeping)
	}
	time.Sleep(time.Second)
	events := 0
	for i, cmd := range started {
		signal(t, cmd, unix.SIGUSR1)
		for deadline := time.Now().Add(testenv.Deadline); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if st, err := os.Stat(path(i)); err == nil && st.Size() > 0 {
				break
			}
		}
		time.Sleep(time.Duration(i) * 150 * time.Millisecond) // it writes the kept blocks, or the first ones that follow
		signal(t, cmd, unix.SIGKILL)
		_ = cmd.Wait()
		n, ok := openKilled(t, path(i))
		if !ok {
			t.Errorf("recorder %d left nothing that opens", i)
		}
		events += n
	}
	if events == 0 {
		t.Error("the recordings are empty")
	}
}

// TestFlightBounded keeps the events of a program that makes as many as it can, in less memory
// than they would take as they are.
func TestFlightBounded(t *testing.T) {
	testenv.RequireBPF(t)
	target := testenv.Start(t, testenv.BuildTarget(t, "incident", testenv.Build{}), "fast", "0")
	path := filepath.Join(t.TempDir(), "incident.gscope")
	recorder, messages := startFlight(t, "--engine", "inline", "--max-overhead", "off", "--last", "500ms", "--memory", "1M",
		"--when", "sched.p99 > 1h", "--max-files", "1", "--after", "0", "-o", path, fmt.Sprint(target.PID()))
	waitText(t, messages, keeping)
	time.Sleep(2 * time.Second)
	resident := residentSize(t, recorder.Process.Pid)
	signal(t, recorder, unix.SIGUSR1)
	if err := recorder.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, messages)
	}
	r := openIncident(t, path)
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(\d+) events of \d+ goroutines`).FindStringSubmatch(messages.String())
	if found == nil {
		t.Fatal(messages)
	}
	t.Logf("%s events, %d of them in the file of %d bytes; %d MB resident", found[1], r.events, st.Size(), resident>>20)
	all, _ := strconv.ParseUint(found[1], 10, 64)
	if resident > 600<<20 || st.Size() > 3<<20 || r.events >= all {
		t.Errorf("%d bytes resident, %d in the file, with %d of %s events", resident, st.Size(), r.events, found[1])
	}
}

// residentSize is the memory of a process, bytes.
func residentSize(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	var size, resident int
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * os.Getpagesize()
}
