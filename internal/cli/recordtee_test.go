package cli

import (
	"bytes"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"gopherscope/internal/event"
	"gopherscope/internal/gstate"
	"gopherscope/internal/recording"
	"gopherscope/internal/stream"
	"gopherscope/internal/testenv"
)

// startHTTP starts the HTTP server of the benchmark, and loads it until the test ends.
func startHTTP(t *testing.T) *testenv.Process {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "server")
	build := exec.Command("go", "build", "-o", bin, "./bench/target")
	build.Dir = testenv.ModuleRoot(t)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	server := testenv.Start(t, bin)
	server.WriteLine("http")
	address, _ := server.ReadLine()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	for range 8 {
		go func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if resp, err := client.Get("http://" + address); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}
		}()
	}
	return server
}

// tee is what a source passed on, kept as it was.
type tee struct {
	src    stream.Source
	events []event.Event
	ticks  []int64
	at     []int   // events before each tick
	wall   []int64 // of each tick
	stacks map[uint32][]event.Location
}

func (k *tee) event(e *event.Event) error {
	k.events = append(k.events, *e)
	if e.Stack != 0 && k.stacks[e.Stack] == nil {
		k.stacks[e.Stack] = k.src.Stack(e.Stack)
	}
	return nil
}

func (k *tee) tick(now int64) error {
	k.ticks, k.at, k.wall = append(k.ticks, now), append(k.at, len(k.events)), append(k.wall, k.src.Wall(now))
	return nil
}

// TestRecordTee records a busy server with both engines, keeps what the engine emits, and
// wants every bit of it back from the recording.
func TestRecordTee(t *testing.T) {
	testenv.RequireBPF(t)
	server := startHTTP(t)
	for _, engine := range []string{engineEBPF, engineInline} {
		t.Run(engine, func(t *testing.T) {
			var messages bytes.Buffer
			src, err := startLive(&terminal{Stdio: Stdio{Err: &messages}}, operand{pid: server.PID()}, engineOptions{name: engine, overhead: "off", stacks: true}, 1500*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			want, file := recordTee(t, src)
			totals, err := src.Totals()
			if err != nil {
				t.Fatal(err)
			}
			info := *src.Info()
			if err := src.Close(); err != nil {
				t.Error(err)
			}
			r, err := recording.NewReader(bytes.NewReader(file))
			if err != nil {
				t.Fatal(err)
			}
			got := &tee{src: r, stacks: map[uint32][]event.Location{}}
			if err := r.Run(t.Context(), got.event, got.tick); err != nil || !r.Complete() {
				t.Fatalf("%v, complete %v", err, r.Complete())
			}
			compareTees(t, got, want)
			if gotInfo := *r.Info(); !reflect.DeepEqual(gotInfo, info) {
				t.Errorf("info %+v\nwant %+v", gotInfo, info)
			}
			gotTotals, _ := r.Totals()
			// Read a moment later, the process has used more CPU time.
			if gotTotals.TargetCPU > totals.TargetCPU || gotTotals.TargetCPU < totals.TargetCPU*9/10 {
				t.Errorf("the target used %v, want up to %v", gotTotals.TargetCPU, totals.TargetCPU)
			}
			gotTotals.TargetCPU = totals.TargetCPU
			// And what a hit costs is known a little better, from hits of other processes' too.
			if a, b := float64(gotTotals.Cost.Total), float64(totals.Cost.Total); a < b*0.9 || a > b*1.1 || gotTotals.Cost.Hits != totals.Cost.Hits {
				t.Errorf("cost %+v, want about %+v", gotTotals.Cost, totals.Cost)
			}
			gotTotals.Cost = totals.Cost
			if gotTotals != totals || totals.Lost.Total() != 0 {
				t.Errorf("totals %+v\nwant %+v", gotTotals, totals)
			}
			n, stacks := len(want.events), len(want.stacks)
			per := float64(len(file)) / float64(n)
			t.Logf("%d events, %d stacks, %d bytes: %.2f bytes an event", n, stacks, len(file), per)
			if n < 5000 || per > 8 || stacks < 5 {
				t.Errorf("%d events with %d stacks, %.2f bytes an event; want thousands, and 8 or less", n, stacks, per)
			}
		})
	}
}

// recordTee runs a trace to its end, into a recording and into memory.
func recordTee(t *testing.T, src stream.Source) (*tee, []byte) {
	t.Helper()
	var file bytes.Buffer
	w, err := recording.NewWriter(&file, src, nil)
	if err != nil {
		t.Fatal(err)
	}
	kept := &tee{src: src, stacks: map[uint32][]event.Location{}}
	states := gstate.NewTracker()
	err = src.Run(t.Context(), func(e *event.Event) error {
		states.Apply(e)
		_ = kept.event(e)
		return w.Event(e)
	}, func(now int64) error {
		_ = kept.tick(now)
		return w.Tick(now)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if states.Violations() > 0 {
		t.Errorf("%d violations", states.Violations())
	}
	return kept, file.Bytes()
}

func compareTees(t *testing.T, got, want *tee) {
	t.Helper()
	if len(got.events) != len(want.events) {
		t.Fatalf("%d events, want %d", len(got.events), len(want.events))
	}
	for i := range want.events {
		if g, w := &got.events[i], &want.events[i]; !reflect.DeepEqual(g, w) {
			t.Fatalf("event %d is\n%s\nwant\n%s", i, event.AppendText(nil, g), event.AppendText(nil, w))
		}
	}
	if !reflect.DeepEqual(got.ticks, want.ticks) || !reflect.DeepEqual(got.at, want.at) || !reflect.DeepEqual(got.wall, want.wall) {
		t.Errorf("%d ticks, want %d, or others", len(got.ticks), len(want.ticks))
	}
	if !reflect.DeepEqual(got.stacks, want.stacks) {
		t.Errorf("%d stacks, want %d, or others", len(got.stacks), len(want.stacks))
	}
}
