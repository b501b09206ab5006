package cli

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/pprof"
	"gopherscope/internal/profile"
	"gopherscope/internal/recording"
	"gopherscope/internal/stream"
	"gopherscope/internal/testenv"
)

// labelledFuncs has the labels that a goroutine has in the functions of the program labels.
var labelledFuncs = map[string]string{
	"main.waitsBefore":    "kind=before user=7",
	"main.waitsSleep":     "kind=sleep user=7",
	"main.waitsChan":      "kind=chan user=7",
	"main.waitsMutex":     "kind=mutex user=7",
	"main.waitsSyscall":   "kind=syscall user=7",
	"main.waitsInherited": "kind=inherited user=7",
	"main.waitsHostile":   "kind=\x1b]0;owned\a\x1b[2J\xff user=7",
	"main.waitsNone":      "",
	"main.waitsOdd":       "turn=odd",
	"main.waitsEven":      "of=two turn=even",
}

func labelText(labels []event.Label) string {
	var words []string
	for _, l := range labels {
		words = append(words, l.Key+"="+l.Value)
	}
	return strings.Join(words, " ")
}

// waitsIn is the function of the program labels in a stack; "" if there is none.
func waitsIn(stack []event.Location) string {
	for _, l := range stack {
		if _, ok := labelledFuncs[l.Func]; ok {
			return l.Func
		}
	}
	return ""
}

// begun is a source that begins what the program does when the trace runs.
type begun struct {
	stream.Source
	program *testenv.Process
}

func (b *begun) Run(ctx context.Context, emit func(*event.Event) error, tick func(int64) error) error {
	went := false
	return b.Source.Run(ctx, emit, func(now int64) error {
		if !went {
			went = true
			b.program.Go()
		}
		return tick(now)
	})
}

// traceLabels traces a run of the program labels with labels, into memory and into a recording.
func traceLabels(t *testing.T, build testenv.Build, engine string) (kept *tee, file []byte, messages string) {
	t.Helper()
	p := testenv.StartWaiting(t, testenv.BuildTarget(t, "labels", build))
	var said bytes.Buffer
	src, err := startLive(&terminal{Stdio: Stdio{Err: &said}}, operand{pid: p.PID()}, engineOptions{name: engine, overhead: "off", stacks: true}, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	kept, file = recordTee(t, &begun{src, p})
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	return kept, file, said.String()
}

// profileOf is the profile of a trace, live or recorded.
func profileOf(kept *tee) *profile.Profile {
	c := profile.New(profile.Wall, kept.src.Info())
	for i := range kept.events {
		c.Event(&kept.events[i])
	}
	return c.Finish(kept.ticks[len(kept.ticks)-1], kept.src.Stack, func(int64) int64 { return 0 })
}

// TestLabels wants the labels of each wait that is long enough, and never those of another wait:
// of every Go version that keeps them in another way, of both engines, and the same from a recording.
func TestLabels(t *testing.T) {
	testenv.RequireBPF(t)
	for i, build := range []testenv.Build{
		{Go: "1.18"}, {Go: "1.18", Stripped: true}, {Go: "1.21"}, {Go: "1.21", Stripped: true},
		{Go: "1.24"}, {Go: "1.24", Stripped: true}, {Go: "1.27"}, {Go: "1.27", Stripped: true},
	} {
		engine := []string{engineEBPF, engineInline}[(i+i/2)%2]
		t.Run(build.String()+"-"+engine, func(t *testing.T) {
			t.Parallel()
			kept, file, said := traceLabels(t, build, engine)
			known := checkLabelEvents(t, kept)
			live := profileOf(kept)
			checkLabelProfile(t, live, known)
			if i == 0 {
				checkLabelTags(t, live)
			}
			r, err := recording.NewReader(bytes.NewReader(file))
			if err != nil {
				t.Fatal(err)
			}
			got := &tee{src: r, stacks: map[uint32][]event.Location{}}
			if err := r.Run(t.Context(), got.event, got.tick); err != nil {
				t.Fatal(err)
			}
			compareTees(t, got, kept)
			if diff := cmp.Diff(live, profileOf(got)); diff != "" {
				t.Errorf("the profile of the recording differs (-live +recorded):\n%s", diff)
			}
			if t.Failed() {
				t.Log(said)
			}
		})
	}
}

// labelledTime is how long goroutines waited in each function of the program labels while their
// labels were known.
type labelledTime map[string]time.Duration

// checkLabelEvents holds each event of kind Labels to the function that its goroutine waits in,
// and wants one in each wait that the source had the time to read.
func checkLabelEvents(t *testing.T, kept *tee) labelledTime {
	t.Helper()
	type wait struct {
		in    string
		at    *event.Event
		known bool
	}
	current := map[uint64]*wait{}
	known := labelledTime{}
	due := map[string]int{}
	for i := range kept.events {
		e := &kept.events[i]
		w := current[e.GoID]
		switch {
		case e.Kind == event.Exit:
			continue
		case e.Kind == event.Labels:
			if w == nil || e.Time < w.at.Time {
				t.Fatalf("%s\nafter %v", event.AppendText(nil, e), w)
			}
			w.known = true
			if got, want := labelText(e.Labels.Labels), labelledFuncs[w.in]; w.in != "" && got != want {
				t.Errorf("%s: labels %q, want %q: %s", w.in, got, want, event.AppendText(nil, e))
			}
			continue
		case w != nil && w.in != "":
			if w.known {
				since := w.at.Time
				if w.at.Kind == event.Snapshot {
					since = kept.src.Info().Begin
				}
				known[w.in] += time.Duration(e.Time - since)
			}
			if n := kept.rounds(w.at.Time, e.Time); n >= readRounds {
				due[w.in]++
				if !w.known {
					t.Errorf("goroutine %d waited in %s for %v, %d rounds, without labels", e.GoID, w.in, time.Duration(e.Time-w.at.Time), n)
				}
			}
		}
		delete(current, e.GoID)
		if e.To == goruntime.Waiting && !e.Fake || e.To == goruntime.Syscall {
			current[e.GoID] = &wait{in: waitsIn(kept.src.Stack(e.Stack)), at: e}
		}
	}
	t.Logf("labelled: %v, waits that had to be: %v", known, due)
	if len(due) == 0 && len(known) == 0 { // on a busy machine no wait may be long enough, but some are read
		t.Error("no wait was long enough, and none has labels")
	}
	return known
}

// readRounds is within how many rounds a wait is read: in one it is found out where the
// goroutine is, in another one its labels are read, in the next one they are proved; and one more at each end.
const readRounds = 5

// rounds is how often the source had a round of reading between two moments, when the goroutine was worth it.
func (k *tee) rounds(from, to int64) int {
	n := 0
	for _, at := range k.ticks {
		if at > from+int64(20*time.Millisecond) && at < to {
			n++
		}
	}
	return n
}

// checkLabelProfile wants the time of each function with its labels, and none with others.
func checkLabelProfile(t *testing.T, p *profile.Profile, want labelledTime) {
	t.Helper()
	got := labelledTime{}
	for i := range p.Samples {
		s := &p.Samples[i]
		in := waitsIn(s.Stack)
		if in == "" || s.State != "waiting" && s.State != "syscall" || len(s.Labels) == 0 {
			continue
		}
		if text := labelText(s.Labels); text != labelledFuncs[in] {
			t.Errorf("%v in %s with labels %q", s.Delay, in, text)
		}
		got[in] += s.Delay
	}
	delete(want, "main.waitsNone") // which is known to have none
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("time with labels (-want +got):\n%s", diff)
	}
	if share := p.Labels.Share(); share <= 0 || share > 1 {
		t.Errorf("labels are known for %.2f of the time", share)
	}
}

// checkLabelTags shows the profile with the tool that users have: by label, and what waits with one.
func checkLabelTags(t *testing.T, p *profile.Profile) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "labels.pb.gz")
	out, err := openOutput(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := pprof.WriteSamples(out, p); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	tool := func(flags ...string) string {
		text, err := exec.Command("go", append(append([]string{"tool", "pprof", "-symbolize=none"}, flags...), path)...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	tags := tool("-tags")
	for _, want := range []string{" kind: Total ", ": before\n", ": mutex\n", `: \x1b]0;owned\a\x1b[2J` + "\ufffd\n", " user: Total ", " turn: Total ", " state: Total ", " reason: Total "} {
		if !strings.Contains(tags, want) {
			t.Errorf("-tags has no %q", want)
		}
	}
	if strings.ContainsAny(tags, "\x1b\a") {
		t.Error("a label is printed raw")
	}
	top := tool("-tagfocus", "kind=mutex", "-top", "-cum", "-nodefraction=0")
	if !strings.Contains(top, "main.waitsMutex") || strings.Contains(top, "main.waitsSleep") {
		t.Errorf("-tagfocus kind=mutex:\n%s", top)
	}
	if t.Failed() {
		t.Log(tags)
	}
}
