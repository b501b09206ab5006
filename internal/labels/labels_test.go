package labels

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
)

// program is what a Reader reads: the goroutines that it knows of, and what they are.
type program struct {
	now, cpu int64
	step     int64 // CPU time of a Read, ns
	status   map[uint64]goruntime.Status
	labels   map[uint64]string
	hidden   map[uint64]bool // where they are is not known before a search
	searches int
	asked    []uint64
	err      error
}

func newProgram() *program {
	return &program{now: 1e9, status: map[uint64]goruntime.Status{}, labels: map[uint64]string{}, hidden: map[uint64]bool{}}
}

func (p *program) Read(goids []uint64, found func(uint64, goruntime.Status, *event.LabelSet)) (unknown bool, err error) {
	if p.err != nil {
		return false, p.err
	}
	for _, id := range goids {
		p.asked = append(p.asked, id)
		if p.hidden[id] {
			unknown = true
			continue
		}
		set := &event.LabelSet{}
		if value := p.labels[id]; value != "" {
			set.Labels = []event.Label{{Key: "k", Value: value}}
		}
		if s, ok := p.status[id]; ok {
			found(id, s, set)
		}
	}
	p.now += 1000
	p.cpu += p.step
	return unknown, nil
}

func (p *program) Search() (bool, error) {
	p.searches++
	clear(p.hidden)
	return true, nil
}

// run is a Follower of a program, and the text of what it emits.
type run struct {
	*Follower
	*program
	t     *testing.T
	lines []string
}

func start(t *testing.T) *run {
	r := &run{program: newProgram(), t: t}
	clocks := Clocks{
		Mono: func() (int64, error) { return r.now, nil },
		CPU:  func() (int64, error) { return r.cpu, nil },
	}
	r.Follower = NewFollower(7, r.program, clocks, func(e *event.Event) error {
		if e.Kind == event.Labels {
			r.lines = append(r.lines, string(event.AppendText(nil, e)))
		}
		return nil
	})
	return r
}

// change makes a goroutine go from one state to another now.
func (r *run) change(goid uint64, from, to goruntime.Status) {
	r.t.Helper()
	r.status[goid] = to
	r.event(&event.Event{Time: r.now, PID: 7, GoID: goid, From: from, To: to})
}

func (r *run) event(e *event.Event) {
	r.t.Helper()
	if err := r.Event(e); err != nil {
		r.t.Fatal(err)
	}
}

// poll is what the session does at a poll, so long after the one before.
func (r *run) poll(after int64) {
	r.t.Helper()
	r.now += after
	if err := errors.Join(r.Settle(r.now), r.Round()); err != nil {
		r.t.Fatal(err)
	}
}

func (r *run) want(lines ...string) {
	r.t.Helper()
	if diff := cmp.Diff(lines, r.lines); diff != "" {
		r.t.Errorf("labels (-want +got):\n%s", diff)
	}
	r.lines = nil
}

const (
	ms       = int64(1e6)
	running  = goruntime.Running
	waiting  = goruntime.Waiting
	runnable = goruntime.Runnable
)

func TestProved(t *testing.T) {
	r := start(t)
	r.labels[1], r.labels[3] = "one", "three"
	r.change(1, running, waiting)
	r.change(2, running, waiting)
	r.change(3, running, goruntime.Syscall)
	r.change(4, runnable, running)
	r.poll(5 * ms) // not worth it yet
	if len(r.asked) > 0 {
		t.Errorf("read after 5 ms: %d", r.asked)
	}
	r.poll(15 * ms)
	r.want() // nothing is proved before the next poll
	r.poll(50 * ms)
	at := "mono_ns=1020001000 pid=7"
	r.want("labels "+at+" goid=1 labels=1,k,one", "labels "+at+" goid=2 labels=0", "labels "+at+" goid=3 labels=1,k,three")
	r.asked = nil
	for range 20 {
		r.poll(50 * ms)
	}
	if len(r.asked) > 0 {
		t.Errorf("read again: %d", r.asked)
	}
	r.want()
	r.change(1, waiting, runnable)
	r.change(1, runnable, running)
	r.labels[1] = "other"
	r.change(1, running, waiting)
	r.poll(20 * ms)
	r.poll(50 * ms)
	if len(r.lines) != 1 || !strings.HasSuffix(r.lines[0], " goid=1 labels=1,k,other") {
		t.Errorf("the next wait: %q", r.lines)
	}
}

// TestProvedByEvent has an event that comes long after the reading: the labels are of before it.
func TestProvedByEvent(t *testing.T) {
	r := start(t)
	r.labels[1] = "one"
	r.change(1, running, waiting)
	r.poll(20 * ms)
	r.now += 10 * ms
	r.change(1, waiting, runnable)
	r.want("labels mono_ns=1020001000 pid=7 goid=1 labels=1,k,one")
	r.poll(20 * ms)
	r.want()
}

// TestContradicted drops what was read when the goroutine may have moved meanwhile.
func TestContradicted(t *testing.T) {
	for name, meanwhile := range map[string]func(r *run){
		"a change before the reading was over": func(r *run) {
			r.now -= 2000
			r.change(1, waiting, runnable)
		},
		"a change so close to it that the clocks could disagree": func(r *run) {
			r.now += ms / 2
			r.change(1, waiting, runnable)
		},
		"a change that does not continue the wait": func(r *run) {
			r.now += 10 * ms
			r.change(1, running, runnable)
		},
		"the end of the goroutine": func(r *run) {
			r.now -= 2000
			r.change(1, waiting, goruntime.Dead)
		},
		"a gap":           func(r *run) { r.event(&event.Event{Kind: event.Gap, Time: r.now, Since: r.now - ms, PID: 7}) },
		"another program": func(r *run) { r.event(&event.Event{Kind: event.Exec, Time: r.now, PID: 7}) },
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			r.change(1, running, waiting)
			r.poll(20 * ms)
			if len(r.asked) != 1 {
				t.Fatalf("read: %d", r.asked)
			}
			meanwhile(r)
			delete(r.status, 1)
			r.poll(50 * ms)
			r.poll(50 * ms)
			r.want()
		})
	}
}

// TestOtherState drops what was read of a goroutine that is not in memory what the events say.
func TestOtherState(t *testing.T) {
	r := start(t)
	r.change(1, running, waiting)
	r.status[1] = running // its event is still to come
	for range 3 * maxTries {
		r.poll(50 * ms)
	}
	r.want()
	if len(r.asked) != maxTries {
		t.Errorf("read %d times, want %d", len(r.asked), maxTries)
	}
}

// TestNotWorthIt has what is never read: a fake wait, another process, a goroutine whose labels a snapshot had.
func TestNotWorthIt(t *testing.T) {
	r := start(t)
	r.event(&event.Event{Time: r.now, PID: 7, GoID: 1, From: running, To: waiting, Fake: true})
	r.event(&event.Event{Time: r.now, PID: 8, GoID: 2, From: running, To: waiting})
	r.event(&event.Event{Kind: event.Snapshot, Time: r.now, PID: 7, GoID: 3, To: waiting, Since: 5})
	r.event(&event.Event{Kind: event.Labels, Time: r.now, PID: 7, GoID: 3, Labels: &event.LabelSet{}})
	r.event(&event.Event{Kind: event.Snapshot, Time: r.now, PID: 7, GoID: 4, To: waiting})
	r.poll(50 * ms)
	if !slices.Equal(r.asked, []uint64{4}) {
		t.Errorf("read: %d, want 4 only", r.asked)
	}
}

func TestSearch(t *testing.T) {
	r := start(t)
	r.hidden[1], r.hidden[2] = true, true
	r.change(1, running, waiting)
	r.change(2, running, waiting)
	r.poll(20 * ms)
	r.poll(50 * ms)
	r.poll(50 * ms)
	if len(r.lines) != 2 || r.searches != 1 {
		t.Errorf("%q after %d searches", r.lines, r.searches)
	}
}

// TestCost wants no more CPU time used than there is, and the longest waits first.
func TestCost(t *testing.T) {
	r := start(t)
	r.step = ms // a batch costs 1 ms
	const n = 30_000
	for id := uint64(n); id > 0; id-- {
		r.now++
		r.change(id, running, waiting)
	}
	begin := r.now
	for r.now < begin+5e9 {
		r.poll(50 * ms)
	}
	if most := maxCredit + 5e9*Share + 3e6; float64(r.cpu) > most || float64(r.cpu) < most/2 {
		t.Errorf("used %d ms of %.0f", r.cpu/ms, most/1e6)
	}
	for i, id := range r.asked[:4*batch] {
		if id != n-uint64(i) {
			t.Fatalf("goroutine %d was read as number %d", id, i)
		}
	}
	r.step = 0
	for range 20 {
		r.poll(50 * ms)
	}
	if len(r.lines) != n {
		t.Errorf("%d goroutines have labels, want %d", len(r.lines), n)
	}
}

// TestGone ends the reading, and not the trace, when the process cannot be read any more.
func TestGone(t *testing.T) {
	r := start(t)
	r.change(1, running, waiting)
	r.err = errors.New("gone")
	r.poll(50 * ms)
	r.err = nil
	r.poll(50 * ms)
	r.poll(50 * ms)
	r.want()
	if len(r.asked) > 0 {
		t.Errorf("read: %d", r.asked)
	}
}

// TestRefused passes the error of who takes the events on.
func TestRefused(t *testing.T) {
	full := errors.New("full")
	p := newProgram()
	f := NewFollower(7, p, Clocks{func() (int64, error) { return p.now, nil }, func() (int64, error) { return 0, nil }}, func(e *event.Event) error {
		if e.Kind == event.Labels {
			return full
		}
		return nil
	})
	p.status[1] = waiting
	if err := f.Event(&event.Event{Time: p.now, PID: 7, GoID: 1, From: running, To: waiting}); err != nil {
		t.Fatal(err)
	}
	p.now += 50 * ms
	if err := f.Round(); err != nil {
		t.Fatal(err)
	}
	if err := f.Settle(p.now); !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
}

func BenchmarkEvent(b *testing.B) {
	f := NewFollower(7, newProgram(), Clocks{}, func(*event.Event) error { return nil })
	e := [2]event.Event{{PID: 7, From: running, To: waiting}, {PID: 7, From: waiting, To: runnable}}
	for i := 0; b.Loop(); i++ {
		e[i%2].GoID = uint64(i/2%64) + 1
		if err := f.Event(&e[i%2]); err != nil {
			b.Fatal(err)
		}
	}
}
