package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"gopherscope/internal/engine"
	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gstate"
)

// fixedClock is a clock whose monotonic zero is the given wall-clock time.
type fixedClock int64

func (c fixedClock) Wall(mono int64) int64 { return int64(c) + mono }

var testClock = fixedClock(time.Date(2026, 11, 22, 21, 0, 47, 123456789, time.UTC).UnixNano())

// life is a short stream: two goroutines that were there before, a birth, a park,
// wake-ups, a fake wait, a process's end.
var life = []struct {
	e event.Event
	c gstate.Change
}{
	{event.Event{Kind: event.Snapshot, Time: 0, PID: 2542844, GoID: 18, To: goruntime.Running}, gstate.Change{}},
	{event.Event{Kind: event.Snapshot, Time: 0, PID: 2542844, GoID: 20, To: goruntime.Waiting, Reason: "select", Since: -3_000_000_000,
		Birth: &event.Birth{Parent: 1, CreatedBy: event.Location{Func: "main.main", File: "/src/server.go", Line: 80}}}, gstate.Change{}},
	{event.Event{Time: 0, PID: 2542844, TID: 2542847, GoID: 33, M: 3, P: 0, From: goruntime.Dead, To: goruntime.Runnable, Via: event.ViaCreate,
		Birth: &event.Birth{Parent: 18, CreatedBy: event.Location{Func: "main.serve", File: "/src/server.go", Line: 41}, Start: event.Location{Func: "main.worker", File: "/src/server.go", Line: 12}}}, gstate.Change{}},
	{event.Event{Time: 14_000, PID: 2542844, TID: 2542847, GoID: 18, M: 3, P: 0, From: goruntime.Running, To: goruntime.Waiting, Via: event.ViaPark, Reason: "chan receive"}, gstate.Change{For: 41_200, ForKnown: true}},
	{event.Event{Time: 20_000, PID: 2542844, TID: 2542848, GoID: 18, M: 4, P: event.NoP, From: goruntime.Waiting, To: goruntime.Runnable, Via: event.ViaReady, Waker: 33}, gstate.Change{For: 6_000, ForKnown: true}},
	{event.Event{Time: 900_000_000, PID: 2542844, TID: 2542848, GoID: 33, M: 4, P: 11, From: goruntime.Running, To: goruntime.Waiting, Via: event.ViaSTW, Fake: true, Reason: "stopping the world"}, gstate.Change{Violation: true}},
	{event.Event{Time: 910_000_000, PID: 2542844, TID: 2542848, GoID: 20, M: 4, P: 11, From: goruntime.Waiting, To: goruntime.Runnable, Via: event.ViaReady, Waker: 18},
		gstate.Change{For: 3_910_000_000, ForKnown: true, ForAtLeast: true}},
	{event.Event{Time: 920_000_000, PID: 2542844, TID: 2542848, GoID: 21, M: 4, P: 11, From: goruntime.Waiting, To: goruntime.Runnable, Via: event.ViaReady, Waker: 18},
		gstate.Change{For: 41_200, ForKnown: true, ForAtLeast: true}},
	{event.Event{Kind: event.Gap, Time: 945_000_000, Since: 925_000_000, PID: 2542844}, gstate.Change{}},
	{event.Event{Kind: event.Exit, Time: 950_000_000, PID: 2542844}, gstate.Change{}},
}

func write(t *testing.T, make func(io.Writer, Clock) Transitions) string {
	t.Helper()
	var buf bytes.Buffer
	w := make(&buf, testClock)
	for i := range life {
		if err := w.Event(&life[i].e, life[i].c); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

func TestText(t *testing.T) {
	local := time.Local
	time.Local = time.UTC
	defer func() { time.Local = local }()
	want := strings.TrimPrefix(`
TIME            STATE        GOID     PID      TGID     FROM         FOR        P    REASON               DETAIL
21:00:47.123456 RUNNABLE(1)  33       2542847  2542844  DEAD(6)      -          0    -                    created by 18 main.serve at server.go:41, start main.worker
21:00:47.123470 WAITING(4)   18       2542847  2542844  RUNNING(2)   41.2µs     0    chan receive
21:00:47.123476 RUNNABLE(1)  18       2542848  2542844  WAITING(4)   6.00µs     -    -                    readied by 33
21:00:48.023456 WAITING(4)   33       2542848  2542844  RUNNING(2)   -          11   stopping the world   still on its M  (violation: a change before this one is missing)
21:00:48.033456 RUNNABLE(1)  20       2542848  2542844  WAITING(4)   >3.91s     11   -                    readied by 18
21:00:48.043456 RUNNABLE(1)  21       2542848  2542844  WAITING(4)   >41.2µs    11   -                    readied by 18
21:00:48.068456 gap of 20.0ms: nothing was traced, to spare the process
21:00:48.073456 process 2542844 ended
`, "\n")
	if diff := cmp.Diff(want, write(t, NewText)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestJSON(t *testing.T) {
	want := strings.TrimPrefix(`
{"type":"snapshot","time":"2026-11-22T21:00:47.123456789Z","mono_ns":0,"goid":18,"state":"running","pid":2542844}
{"type":"snapshot","time":"2026-11-22T21:00:47.123456789Z","mono_ns":0,"goid":20,"state":"waiting","reason":"select","wait_at_least_ns":3000000000,"pid":2542844,"parent":1,"created_by":{"func":"main.main","file":"/src/server.go","line":80},"start":null}
{"type":"transition","time":"2026-11-22T21:00:47.123456789Z","mono_ns":0,"goid":33,"from":"dead","to":"runnable","via":"create","tid":2542847,"pid":2542844,"m":3,"p":0,"waker":0,"parent":18,"created_by":{"func":"main.serve","file":"/src/server.go","line":41},"start":{"func":"main.worker","file":"/src/server.go","line":12}}
{"type":"transition","time":"2026-11-22T21:00:47.123470789Z","mono_ns":14000,"goid":18,"from":"running","to":"waiting","reason":"chan receive","via":"park","tid":2542847,"pid":2542844,"m":3,"p":0,"for_ns":41200}
{"type":"transition","time":"2026-11-22T21:00:47.123476789Z","mono_ns":20000,"goid":18,"from":"waiting","to":"runnable","via":"ready","tid":2542848,"pid":2542844,"m":4,"p":-1,"waker":33,"for_ns":6000}
{"type":"transition","time":"2026-11-22T21:00:48.023456789Z","mono_ns":900000000,"goid":33,"from":"running","to":"waiting","reason":"stopping the world","fake_wait":true,"via":"stw","tid":2542848,"pid":2542844,"m":4,"p":11,"violation":true}
{"type":"transition","time":"2026-11-22T21:00:48.033456789Z","mono_ns":910000000,"goid":20,"from":"waiting","to":"runnable","via":"ready","tid":2542848,"pid":2542844,"m":4,"p":11,"waker":18,"for_ns":3910000000,"for_at_least":true}
{"type":"transition","time":"2026-11-22T21:00:48.043456789Z","mono_ns":920000000,"goid":21,"from":"waiting","to":"runnable","via":"ready","tid":2542848,"pid":2542844,"m":4,"p":11,"waker":18,"for_ns":41200,"for_at_least":true}
{"type":"gap","time":"2026-11-22T21:00:48.068456789Z","mono_ns":945000000,"for_ns":20000000,"pid":2542844}
{"type":"exit","time":"2026-11-22T21:00:48.073456789Z","mono_ns":950000000,"pid":2542844}
`, "\n")
	if diff := cmp.Diff(want, write(t, NewJSON)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Labels are lines of JSON only, in which no text of the program controls a terminal.
func TestLabels(t *testing.T) {
	var text, js bytes.Buffer
	events := []event.Event{
		{Kind: event.Labels, Time: 14000, PID: 7, GoID: 18, Labels: &event.LabelSet{Labels: []event.Label{{Key: "a", Value: "\x1b]0;x\a"}, {Key: "a", Value: "2"}, {Key: "\u202e", Value: "\xff\""}}}},
		{Kind: event.Labels, Time: 14000, PID: 7, GoID: 19, Labels: &event.LabelSet{}},
	}
	for w := range map[Transitions]bool{NewText(&text, testClock): true, NewJSON(&js, testClock): true} {
		for i := range events {
			if err := errors.Join(w.Event(&events[i], gstate.Change{}), w.Flush()); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := `{"type":"labels","time":"2026-11-22T21:00:47.123470789Z","mono_ns":14000,"goid":18,"labels":{"a":"\u001b]0;x\u0007","\u202e":"\ufffd\""},"pid":7}
{"type":"labels","time":"2026-11-22T21:00:47.123470789Z","mono_ns":14000,"goid":19,"labels":{},"pid":7}
`
	if diff := cmp.Diff(want, js.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if strings.Count(text.String(), "\n") > 1 {
		t.Errorf("the table has lines of labels:\n%s", &text)
	}
}

// A traced binary chooses the names of its functions. None may reach a terminal
// as an escape, and none may break the JSON.
func TestHostileNames(t *testing.T) {
	for _, name := range []string{"main.\x1b]0;owned\x07", "a\"b\\c", "line\nbreak", "\xff\xfe", "ｗｉｄｅ"} {
		e := life[2].e
		e.Birth = &event.Birth{CreatedBy: event.Location{Func: name, File: name, Line: 1}, Start: event.Location{Func: name}}
		var text, js bytes.Buffer
		for w, b := range map[Transitions]*bytes.Buffer{NewText(&text, testClock): &text, NewJSON(&js, testClock): &js} {
			if err := errors.Join(w.Event(&e, gstate.Change{}), w.Flush()); err != nil {
				t.Fatal(err)
			}
			if strings.ContainsAny(strings.TrimSuffix(b.String(), "\n"), "\x1b\x07\x00") || !utf8.ValidString(b.String()) || strings.Count(b.String(), "\n") > 2 {
				t.Errorf("name %q is written raw: %q", name, b.String())
			}
		}
		var back struct {
			CreatedBy struct{ Func string } `json:"created_by"`
		}
		if err := json.Unmarshal(js.Bytes(), &back); err != nil {
			t.Errorf("name %q breaks the JSON: %v", name, err)
		} else if want := strings.ToValidUTF8(name, "\ufffd"); back.CreatedBy.Func != want && name != "\xff\xfe" {
			t.Errorf("name %q comes back as %q", name, back.CreatedBy.Func)
		}
	}
}

func TestSummary(t *testing.T) {
	s := Summary{
		Engine: "ebpf", GoVersion: "go1.26.8", Duration: 5003 * time.Millisecond, Events: 12345, Goroutines: 34, Seeded: 20,
		Lost:      engine.Lost{RingFull: 7, ReadFault: 1},
		Cost:      engine.NewCost(engine.Hits{Uprobes: 12000, Syscalls: 400}, 5000, 150, 0),
		TargetCPU: time.Second,
	}
	want := "12345 events of 34 goroutines in 5.00s, 8 lost (7 ring full, 1 memory not readable), 0 violations; cost the target about 60.1ms of CPU, 6.0 % of what it used"
	if got := s.Text(); got != want {
		t.Errorf("text\n got %s\nwant %s", got, want)
	}
	got, err := s.JSON()
	if err != nil {
		t.Fatal(err)
	}
	wantJSON := `{"type":"summary","engine":"ebpf","go_version":"go1.26.8","duration_ns":5003000000,"events":12345,` +
		`"lost":{"total":8,"ring_full":7,"read_fault":1,"recursion":0,"processes":0,"no_ring":0,"corrupt":0},"violations":0,"goroutines":34,"snapshot_goroutines":20,"gaps":0,"paused_ns":0,` +
		`"cost":{"uprobe_hits":12000,"syscall_hits":400,"inline_hits":0,"ns_per_uprobe_hit":5000,"ns_per_syscall_hit":150,"ns_per_inline_hit":0,"total_ns":60060000,"target_cpu_ns":1000000000,"share":0.06006}}`
	if string(got) != wantJSON {
		t.Errorf("JSON\n got %s\nwant %s", got, wantJSON)
	}
	s.TargetCPU, s.Cost = 0, engine.Cost{}
	if got, want := s.Text(), "12345 events of 34 goroutines in 5.00s, 8 lost (7 ring full, 1 memory not readable), 0 violations"; got != want {
		t.Errorf("text with nothing measured\n got %s\nwant %s", got, want)
	}
}

// failing is a writer like a full disk.
type failing struct{}

var errFull = errors.New("disk full")

func (failing) Write([]byte) (int, error) { return 0, errFull }

func TestWriteError(t *testing.T) {
	w := NewJSON(failing{}, testClock)
	if err := w.Event(&life[2].e, gstate.Change{}); err != nil {
		t.Errorf("buffered event: %v", err)
	}
	if err := w.Flush(); !errors.Is(err, errFull) {
		t.Errorf("flush: %v, want %v", err, errFull)
	}
	if err := w.Event(&life[2].e, gstate.Change{}); !errors.Is(err, errFull) {
		t.Errorf("event after a failed flush: %v, want %v", err, errFull)
	}
}

func BenchmarkJSON(b *testing.B) {
	w := NewJSON(io.Discard, testClock)
	for i := range b.N {
		e := &life[3+i%2]
		if err := w.Event(&e.e, e.c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkText(b *testing.B) {
	w := NewText(io.Discard, testClock)
	for i := range b.N {
		e := &life[3+i%2]
		if err := w.Event(&e.e, e.c); err != nil {
			b.Fatal(err)
		}
	}
}

func TestAppendFor(t *testing.T) {
	for _, tt := range []struct {
		c    gstate.Change
		want string
	}{
		{gstate.Change{}, "-"},
		{gstate.Change{ForKnown: true}, "0ns"},
		{gstate.Change{ForKnown: true, For: 41_234}, "41.2µs"},
		{gstate.Change{ForKnown: true, For: 41_234, ForAtLeast: true}, ">41.2µs"},
		{gstate.Change{ForKnown: true, ForAtLeast: true}, "-"},
	} {
		if got := string(appendFor(nil, &tt.c)); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.c, got, tt.want)
		}
	}
}
