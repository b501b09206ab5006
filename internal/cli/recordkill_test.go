package cli_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gopherscope/internal/event"
	"gopherscope/internal/gstate"
	"gopherscope/internal/recording"
	"gopherscope/internal/testenv"
)

// killsVariable says how often TestRecordKilled kills a recorder.
const killsVariable = "GOPHERSCOPE_RECORD_KILLS"

// TestRecordKilled kills recorders at random moments. Whatever is in the file opens, ends
// at a whole block, and has no event missing before.
func TestRecordKilled(t *testing.T) {
	testenv.RequireBPF(t)
	kills := 30
	if n, err := strconv.Atoi(os.Getenv(killsVariable)); err == nil {
		kills = n
	}
	target := testenv.Start(t, testenv.BuildTarget(t, "pingpong", testenv.Build{}), "1000000000")
	dir := t.TempDir()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	// Several at once: each takes half a second to attach, mostly waiting.
	const parallel = 5
	results := make(chan string, parallel)
	opened, events := 0, 0
	for i := 0; i < kills; i += parallel {
		for j := range parallel {
			path := filepath.Join(dir, fmt.Sprintf("%d.gscope", j))
			wait, begun := time.Duration(rng.Int64N(int64(1200*time.Millisecond))), rng.IntN(4) > 0
			go func() { results <- recordAndKill(path, target.PID(), begun, wait) }()
		}
		for range parallel {
			path := <-results
			if path == "" {
				t.Fatal("a recorder did not start, or ended before it was killed")
			}
			n, ok := openKilled(t, path)
			if ok {
				opened++
			}
			events += n
			os.Remove(path)
		}
	}
	t.Logf("%d of %d recordings opened, with %d events", opened, kills, events)
	if opened < kills/3 || events == 0 {
		t.Errorf("%d of %d recordings opened, with %d events", opened, kills, events)
	}
}

// recordAndKill starts a recorder and kills it after some time, counted from when it begins
// to write if begun. It returns the path, or "" when that did not go as it should.
func recordAndKill(path string, pid int, begun bool, wait time.Duration) string {
	cmd := exec.Command("gopherscope", "record", "--engine", "ebpf", "--max-overhead", "off", "-o", path, fmt.Sprint(pid))
	if cmd.Start() != nil {
		return ""
	}
	for deadline := time.Now().Add(testenv.Deadline); begun && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		st, err := os.Stat(path)
		begun = err != nil || st.Size() == 0
	}
	time.Sleep(wait)
	_ = cmd.Process.Signal(unix.SIGKILL)
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		return ""
	}
	return path
}

// openKilled reads what a killed recorder left. ok is false when that was nothing yet.
func openKilled(t *testing.T, path string) (events int, ok bool) {
	t.Helper()
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return 0, false
	}
	if err != nil {
		t.Fatal(err)
	}
	r, err := recording.NewReader(bytes.NewReader(data))
	if err == recording.ErrEmpty {
		return 0, false
	}
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	states := gstate.NewTracker()
	err = r.Run(t.Context(), func(e *event.Event) error {
		states.Apply(e)
		events++
		return nil
	}, func(int64) error { return nil })
	totals, _ := r.Totals()
	if err != nil || r.Complete() || states.Violations() > 0 && totals.Lost.Total() == 0 {
		t.Errorf("%d bytes with %d events: %v, complete %v, %d violations", len(data), events, err, r.Complete(), states.Violations())
	}
	return events, true
}

// TestRecordFull records to a small disk. It says so and ends, and what is there opens.
func TestRecordFull(t *testing.T) {
	testenv.RequireBPF(t)
	testenv.RequireRoot(t)
	disk := t.TempDir()
	if err := unix.Mount("none", disk, "tmpfs", 0, "size=256k"); err != nil {
		testenv.Missing(t, fmt.Sprintf("mount a tmpfs: %v", err))
	}
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	pingpong := testenv.BuildTarget(t, "pingpong", testenv.Build{})
	path := filepath.Join(disk, "run.gscope")
	cmd := exec.Command("gopherscope", "record", "--engine", "inline", "-d", "1m", "-o", path, "--", pingpong, "1000000000")
	var messages bytes.Buffer
	cmd.Stderr = &messages
	err := cmd.Run()
	if cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("%v\n%s", err, &messages)
	}
	found := regexp.MustCompile(`error: write recording: .*no space left on device\ngopherscope: hint: what was written before, (\d+) events, can be read; free space`).FindStringSubmatch(messages.String())
	if found == nil {
		t.Fatalf("no clear message:\n%s", &messages)
	}
	events, ok := openKilled(t, path)
	if !ok || fmt.Sprint(events) != found[1] || events == 0 {
		t.Errorf("%d events can be read, the message says %s", events, found[1])
	}
	out, err := exec.Command("gopherscope", "trace", "--count", "1", "--goid", "123456789", path).CombinedOutput()
	if err != nil || !strings.Contains(string(out), fmt.Sprintf("note: %s ends early: the recorder was killed or the disk was full; %d events up to 20", path, events)) {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestRecordRotate records more than the files may have. Each is a recording of its own, and
// together the last ones have all since the first of them began.
func TestRecordRotate(t *testing.T) {
	testenv.RequireBPF(t)
	spawn := testenv.BuildTarget(t, "spawn", testenv.Build{})
	var path string
	var out []byte
	for n := 600_000; ; n *= 4 { // a recorder that gets no CPU takes much in at once, and a file ends after that only
		var err error
		path = filepath.Join(t.TempDir(), "run.gscope")
		cmd := exec.Command("gopherscope", "record", "--engine", "inline", "--ring-size", "64M", "--max-size", "64K", "--max-files", "3", "-o", path, "--", spawn, strconv.Itoa(n))
		if out, err = cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		files, _ := filepath.Glob(path + "*")
		if len(files) == 3 {
			break
		}
		if n > 10_000_000 {
			t.Fatalf("%v\n%s", files, out)
		}
		t.Logf("once more, with more goroutines: %v\n%s", files, out)
	}
	whole := strings.Contains(string(out), " 0 lost, 0 violations; ")
	if !whole {
		t.Logf("the machine is too busy to see that nothing is missing:\n%s", out)
	}
	var last int64
	for _, name := range []string{path + ".2", path + ".1", path} {
		r, seeds := openRotated(t, name, whole)
		totals, _ := r.Totals()
		if last != 0 && (r.Info().Begin != last || seeds == 0) {
			t.Errorf("%s begins at %d with %d goroutines, the file before it ends at %d", name, r.Info().Begin, seeds, last)
		}
		// A hit makes an event, mostly. Those of the files before are not counted again.
		if hits := totals.Cost.Hits.Inline; hits > 2*r.Events()+1000 {
			t.Errorf("%s: %d hits and %d events", name, hits, r.Events())
		}
		last = totals.Now
	}
}

// openRotated reads one of the files of a recording to its end. If it is whole, the state of
// every goroutine that it tells of is known from its beginning or birth on. seeds is how many
// are there at its beginning.
func openRotated(t *testing.T, name string, whole bool) (r *recording.Reader, seeds int) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	most := int64(4 << 20)
	if !whole { // a reader that was kept waiting drains all of the ring at once, and then looks at the size
		most = 64 << 20
	}
	st, err := f.Stat()
	if err != nil || st.Mode().Perm() != 0o600 || st.Size() > most {
		t.Errorf("%s: mode %v, %d bytes, %v", name, st.Mode(), st.Size(), err)
	}
	if r, err = recording.NewReader(f); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	states := gstate.NewTracker()
	err = r.Run(t.Context(), func(e *event.Event) error {
		c := states.Apply(e)
		if e.Kind == event.Snapshot {
			seeds++
		} else if whole && !c.ForKnown && !e.IsNew() && e.Kind == event.Transition {
			t.Errorf("%s: nothing is known before %s", name, event.AppendText(nil, e))
		}
		return nil
	}, func(int64) error { return nil })
	if err != nil || !r.Complete() || whole && states.Violations() > 0 {
		t.Errorf("%s: %v, complete %v, %d violations", name, err, r.Complete(), states.Violations())
	}
	return r, seeds
}
