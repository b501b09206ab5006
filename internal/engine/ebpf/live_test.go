package ebpf

import (
	"os"
	"testing"
	"time"

	"gopherscope/internal/engine"
	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gstate"
	"gopherscope/internal/process"
	"gopherscope/internal/target"
	"gopherscope/internal/testenv"
)

// openTarget validates a running process.
func openTarget(t *testing.T, pid int) *target.Target {
	t.Helper()
	p, err := process.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	tgt, err := target.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tgt.Close() })
	return tgt
}

func start(t *testing.T, tgt *target.Target, opts *Options) *Engine {
	t.Helper()
	e, err := Start(tgt, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// collect polls until done is closed and the ring is empty.
func collect(t *testing.T, e *Engine, done <-chan struct{}, emit func(*event.Event)) {
	t.Helper()
	for last := false; ; {
		err := e.Poll(time.Millisecond, func(ev *event.Event) error { emit(ev); return nil })
		if err != nil {
			t.Fatal(err)
		}
		if last {
			return
		}
		select {
		case <-done:
			last = true
		default:
		}
	}
}

// wait returns a channel that is closed when p has ended.
func wait(t *testing.T, p *testenv.Process) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := p.Wait(); err != nil {
			t.Error(err)
		}
	}()
	return done
}

// Both ways to attach see the same: of each handoff of a ping-pong the side that
// came first and parked, nothing lost, no violation.
func TestAttachments(t *testing.T) {
	testenv.RequireBPF(t)
	if !haveUprobeMulti() {
		t.Log("this kernel has no usable uprobe_multi links: only perf events are tested")
	}
	bin := testenv.BuildTarget(t, "pingpong", testenv.Build{})
	for name, opts := range map[string]*Options{"default": nil, "perf events": {PerfEvents: true}, "tracepoints by perf events": {tracepointsBy: byPerfEvents}} {
		t.Run(name, func(t *testing.T) {
			p := testenv.StartWaiting(t, bin, "500")
			e := start(t, openTarget(t, p.PID()), opts)
			p.Go()
			tr := gstate.NewTracker()
			parks := 0
			collect(t, e, wait(t, p), func(ev *event.Event) {
				tr.Apply(ev)
				if ev.To == goruntime.Waiting && (ev.Reason == "chan receive" || ev.Reason == "chan send") {
					parks++
				}
			})
			stats, err := e.Stats()
			if err != nil {
				t.Fatal(err)
			}
			if parks < 1000 || tr.Violations() != 0 || stats.Lost != (engine.Lost{}) {
				t.Errorf("%d parks at channels (want 1000 and more), %d violations, lost %+v", parks, tr.Violations(), stats.Lost)
			}
			cost, err := e.Cost()
			if err != nil {
				t.Fatal(err)
			}
			if cost.NsPerUprobe <= 0 || cost.Total <= 0 {
				t.Errorf("cost %+v: nothing measured", cost)
			}
		})
	}
}

// Two processes of one binary: only the one that was asked for is traced, the
// other is not even slowed down by hits.
func TestOneProcessOnly(t *testing.T) {
	testenv.RequireBPF(t)
	bin := testenv.BuildTarget(t, "pingpong", testenv.Build{})
	asked, other := testenv.StartWaiting(t, bin, "100"), testenv.StartWaiting(t, bin, "2000")
	e := start(t, openTarget(t, asked.PID()), nil)
	other.Go()
	if err := other.Wait(); err != nil {
		t.Fatal(err)
	}
	collect(t, e, closed(), func(ev *event.Event) {
		if int(ev.PID) != asked.PID() {
			t.Fatalf("event of process %d", ev.PID)
		}
	})
	before, err := e.Stats()
	if err != nil {
		t.Fatal(err)
	}
	asked.Go()
	n := 0
	collect(t, e, wait(t, asked), func(ev *event.Event) {
		n++
		if int(ev.PID) != asked.PID() {
			t.Fatalf("event of process %d", ev.PID)
		}
	})
	if n < 100 || before.Events > 200 {
		t.Errorf("%d events of the asked process, %d while only the other worked", n, before.Events)
	}
}

func closed() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// With --exe, every process of the binary is traced from its first goroutine
// on, and its end is reported once, after its last event.
func TestWholeBinary(t *testing.T) {
	testenv.RequireBPF(t)
	bin := testenv.BuildTarget(t, "pingpong", testenv.Build{PIE: true})
	tgt, err := target.OpenBinary(bin)
	if err != nil {
		t.Fatal(err)
	}
	defer tgt.Close()
	e := start(t, tgt, nil)
	pids := map[uint32]bool{}
	births, exits := map[uint32]int{}, map[uint32]int{}
	tr := gstate.NewTracker()
	emit := func(ev *event.Event) {
		tr.Apply(ev)
		switch {
		case ev.Kind == event.Exit:
			exits[ev.PID]++
		case exits[ev.PID] > 0:
			t.Errorf("an event of process %d after its end", ev.PID)
		case ev.IsNew():
			births[ev.PID]++
			if ev.GoID == 1 && ev.Birth.Start.Func != "runtime.main" {
				t.Errorf("goroutine 1 of process %d starts at %+v", ev.PID, ev.Birth.Start)
			}
		}
	}
	for range 3 {
		p := testenv.Start(t, bin, "50")
		pids[uint32(p.PID())] = true
		collect(t, e, wait(t, p), emit)
	}
	deadline := time.Now().Add(testenv.Deadline)
	for len(exits) < len(pids) && time.Now().Before(deadline) {
		collect(t, e, closed(), emit)
	}
	for pid := range pids {
		if births[pid] < 4 || exits[pid] != 1 {
			t.Errorf("process %d: %d births, %d ends", pid, births[pid], exits[pid])
		}
	}
	if tr.Violations() != 0 || len(births) != len(pids) {
		t.Errorf("%d violations, births in %d processes", tr.Violations(), len(births))
	}
}

// A reader that does not read loses events, and they are counted: every hit is
// either an event or a loss.
func TestLostAreCounted(t *testing.T) {
	testenv.RequireBPF(t)
	bin := testenv.BuildTarget(t, "pingpong", testenv.Build{})
	p := testenv.StartWaiting(t, bin, "2000")
	e := start(t, openTarget(t, p.PID()), &Options{RingBytes: os.Getpagesize()})
	p.Go()
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	stats, err := e.Stats()
	if err != nil {
		t.Fatal(err)
	}
	n := uint64(0)
	collect(t, e, closed(), func(*event.Event) { n++ })
	if stats.Lost.RingFull < 2000 || stats.Lost.Total() != stats.Lost.RingFull {
		t.Errorf("lost %+v, want thousands to a full ring", stats.Lost)
	}
	if n == 0 || n > stats.Events {
		t.Errorf("%d events read, %d were put into the ring", n, stats.Events)
	}
}

// After Stop nothing is emitted; after Close the target runs without probes.
func TestStop(t *testing.T) {
	testenv.RequireBPF(t)
	bin := testenv.BuildTarget(t, "pingpong", testenv.Build{})
	p := testenv.StartWaiting(t, bin, "2000")
	e := start(t, openTarget(t, p.PID()), nil)
	collect(t, e, closed(), func(*event.Event) {})
	if err := e.Stop(); err != nil {
		t.Fatal(err)
	}
	before, err := e.Stats()
	if err != nil {
		t.Fatal(err)
	}
	p.Go()
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	after, err := e.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if after.Events != before.Events {
		t.Errorf("%d events after Stop", after.Events-before.Events)
	}
}
