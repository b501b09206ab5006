package gstate

import (
	"testing"
	"time"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
)

// step is one event of a stream written by hand, and what Apply must say of it.
type step struct {
	goid      uint64
	from, to  goruntime.Status
	at        int64
	birth     bool
	wantFor   time.Duration // -1: unknown
	violation bool
}

const (
	runnable = goruntime.Runnable
	running  = goruntime.Running
	waiting  = goruntime.Waiting
	dead     = goruntime.Dead
	leaked   = goruntime.Leaked
)

func TestApply(t *testing.T) {
	tests := []struct {
		name       string
		steps      []step
		goroutines uint64
	}{
		{"a whole life", []step{
			{1, dead, runnable, 10, true, -1, false},
			{1, runnable, running, 15, false, 5, false},
			{1, running, dead, 40, false, 25, false},
		}, 1},
		{"attach in mid-life", []step{
			{7, waiting, runnable, 100, false, -1, false},
			{7, runnable, running, 130, false, 30, false},
		}, 1},
		{"a lost event is a violation, once", []step{
			{1, runnable, running, 10, false, -1, false},
			{1, waiting, runnable, 30, false, 20, true},
			{1, runnable, running, 31, false, 1, false},
		}, 1},
		{"a goid born twice", []step{
			{1, dead, runnable, 10, true, -1, false},
			{1, dead, runnable, 20, true, -1, true},
		}, 1},
		{"goroutines do not mix", []step{
			{1, running, waiting, 10, false, -1, false},
			{2, runnable, running, 11, false, -1, false},
			{1, waiting, runnable, 12, false, 2, false},
		}, 2},
		{"a leaked goroutine wakes as a waiting one", []step{
			{1, waiting, leaked, 10, false, -1, false},
			{1, waiting, runnable, 30, false, 20, false},
		}, 1},
		{"the goroutine of an extra M comes back", []step{
			{17, dead, goruntime.Syscall, 10, false, -1, false},
			{17, goruntime.Syscall, goruntime.DeadExtra, 20, false, 10, false},
			{17, goruntime.DeadExtra, goruntime.Syscall, 90, false, -1, false},
		}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr := NewTracker()
			var violations uint64
			for i, s := range tt.steps {
				e := event.Event{PID: 5, GoID: s.goid, From: s.from, To: s.to, Time: s.at}
				if s.birth {
					e.Birth = &event.Birth{}
				}
				c := tr.Apply(&e)
				got := time.Duration(-1)
				if c.ForKnown {
					got = c.For
				}
				if got != s.wantFor || c.Violation != s.violation {
					t.Errorf("step %d: for %d, violation %v; want %d, %v", i, got, c.Violation, s.wantFor, s.violation)
				}
				if s.violation {
					violations++
				}
			}
			if tr.Violations() != violations || tr.Goroutines() != tt.goroutines {
				t.Errorf("%d violations, %d goroutines; want %d, %d", tr.Violations(), tr.Goroutines(), violations, tt.goroutines)
			}
		})
	}
}

// A process that executes another program starts with fresh goroutines of the
// same numbers; those of other processes go on.
func TestApplyExec(t *testing.T) {
	tr := NewTracker()
	for _, pid := range []uint32{5, 6} {
		tr.Apply(&event.Event{PID: pid, GoID: 1, From: runnable, To: running, Time: 1})
	}
	tr.Apply(&event.Event{Kind: event.Exec, PID: 5, Time: 2})
	if c := tr.Apply(&event.Event{PID: 5, GoID: 1, From: dead, To: runnable, Time: 3, Birth: &event.Birth{}}); c.Violation {
		t.Error("a birth after exec is a violation")
	}
	if c := tr.Apply(&event.Event{PID: 6, GoID: 1, From: running, To: waiting, Time: 3}); c.For != 2 {
		t.Errorf("the other process's goroutine was running for %d, want 2", c.For)
	}
}

// lived is a change after a snapshot, and what Apply must say of it.
type lived struct {
	from, to  goruntime.Status
	at        int64
	birth     bool
	wantFor   time.Duration // -1: unknown
	atLeast   bool
	violation bool
}

// TestApplySnapshot begins with a goroutine that was there at time 100.
func TestApplySnapshot(t *testing.T) {
	const (
		syscall   = goruntime.Syscall
		preempted = goruntime.Preempted
	)
	tests := []struct {
		name   string
		state  goruntime.Status
		since  int64
		steps  []lived
		seeded uint64
	}{
		{"parked before the trace", waiting, 0, []lived{
			{waiting, runnable, 150, false, 50, true, false},
			{runnable, running, 160, false, 10, false, false},
		}, 1},
		{"parked before the trace, the runtime knows since when", waiting, 30, []lived{
			{waiting, runnable, 150, false, 120, true, false},
		}, 1},
		{"a note of the future is none", waiting, 101, []lived{
			{waiting, runnable, 150, false, 50, true, false},
		}, 1},
		{"born after all", runnable, 0, []lived{
			{dead, runnable, 101, true, -1, false, false},
			{runnable, running, 103, false, 2, false, false},
		}, 0},
		{"born twice after all", runnable, 0, []lived{
			{dead, runnable, 101, true, -1, false, false},
			{dead, runnable, 102, true, -1, false, true},
		}, 0},
		{"leaked, wakes as a waiting one", leaked, 40, []lived{
			{waiting, runnable, 150, false, 110, true, false},
		}, 1},
		{"the kernel had left the system call, the runtime had not", syscall, 0, []lived{
			{running, waiting, 150, false, -1, false, false},
			{waiting, runnable, 151, false, 1, false, false},
		}, 1},
		{"its P was being taken away", syscall, 0, []lived{
			{runnable, running, 150, false, -1, false, false},
		}, 1},
		{"the thread was put off its CPU before a park", running, 0, []lived{
			{waiting, runnable, 150, false, -1, false, false},
		}, 1},
		{"and before a wake-up", waiting, 0, []lived{
			{runnable, running, 150, false, -1, false, false},
		}, 1},
		{"stopped for a scan", preempted, 0, []lived{
			{preempted, waiting, 150, false, 50, true, false},
		}, 1},
		{"one change under way, not two", runnable, 0, []lived{
			{waiting, runnable, 150, false, 50, true, true},
			{runnable, running, 151, false, 1, false, false},
		}, 1},
		{"under way once only", running, 0, []lived{
			{waiting, runnable, 150, false, -1, false, false},
			{waiting, runnable, 160, false, 10, false, true},
		}, 1},
		{"nobody leaves death but by birth", waiting, 0, []lived{
			{dead, syscall, 150, false, 50, true, true},
		}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr := NewTracker()
			birth := &event.Birth{Parent: 1}
			seed := event.Event{Kind: event.Snapshot, PID: 5, GoID: 7, To: tt.state, Time: 100, Since: tt.since, Birth: birth}
			if c := *tr.Apply(&seed); c != (Change{Birth: birth}) {
				t.Errorf("of the snapshot: %+v", c)
			}
			tr.Apply(&seed) // told twice, counted once
			for i, s := range tt.steps {
				e := event.Event{PID: 5, GoID: 7, From: s.from, To: s.to, Time: s.at}
				want := Change{ForAtLeast: s.atLeast, Violation: s.violation, Birth: birth}
				if s.birth {
					birth = &event.Birth{Parent: 2}
					e.Birth, want.Birth = birth, birth
				}
				if s.wantFor >= 0 {
					want.For, want.ForKnown = s.wantFor, true
				}
				if c := *tr.Apply(&e); c != want {
					t.Errorf("step %d: %+v, want %+v", i, c, want)
				}
			}
			if tr.Goroutines() != 1 || tr.Seeded() != tt.seeded {
				t.Errorf("%d goroutines, %d of them from the snapshot; want 1, %d", tr.Goroutines(), tr.Seeded(), tt.seeded)
			}
		})
	}
}

// A snapshot does not undo what changes have told.
func TestApplyLateSnapshot(t *testing.T) {
	tr := NewTracker()
	tr.Apply(&event.Event{PID: 5, GoID: 7, From: running, To: waiting, Time: 90})
	tr.Apply(&event.Event{Kind: event.Snapshot, PID: 5, GoID: 7, To: running, Time: 100})
	if c := tr.Apply(&event.Event{PID: 5, GoID: 7, From: waiting, To: runnable, Time: 110}); c.For != 20 || c.ForAtLeast || c.Violation {
		t.Errorf("%+v, want exactly 20 ns", c)
	}
	if tr.Seeded() != 0 {
		t.Errorf("%d from the snapshot, want 0", tr.Seeded())
	}
}

// After a gap nothing is known of a goroutine's state, and its next change is right
// whatever it leaves; who created it is still known.
func TestApplyGap(t *testing.T) {
	tr := NewTracker()
	birth := &event.Birth{Parent: 1}
	tr.Apply(&event.Event{PID: 5, GoID: 7, From: dead, To: runnable, Time: 10, Birth: birth})
	tr.Apply(&event.Event{PID: 6, GoID: 7, From: runnable, To: running, Time: 10})
	tr.Apply(&event.Event{Kind: event.Snapshot, PID: 5, GoID: 8, To: waiting, Time: 11})
	tr.Apply(&event.Event{Kind: event.Gap, PID: 5, Since: 20, Time: 100})
	for _, e := range []event.Event{
		{PID: 5, GoID: 7, From: waiting, To: runnable, Time: 110},
		{PID: 5, GoID: 8, From: running, To: runnable, Time: 111},
		{PID: 5, GoID: 9, From: dead, To: runnable, Time: 112, Birth: birth},
	} {
		want := Change{}
		if e.GoID == 7 || e.GoID == 9 {
			want.Birth = birth
		}
		if c := *tr.Apply(&e); c != want {
			t.Errorf("goroutine %d, first change after the gap: %+v, want %+v", e.GoID, c, want)
		}
	}
	if c := *tr.Apply(&event.Event{PID: 5, GoID: 7, From: waiting, To: running, Time: 120}); c.For != 10 || !c.Violation {
		t.Errorf("the second change is a violation, for 10 ns: %+v", c)
	}
	if c := *tr.Apply(&event.Event{PID: 6, GoID: 7, From: waiting, To: running, Time: 120}); !c.Violation {
		t.Error("another process's goroutines have no gap")
	}
	tr.Apply(&event.Event{Kind: event.Gap, Since: 130, Time: 140})
	if c := *tr.Apply(&event.Event{PID: 6, GoID: 7, From: waiting, To: running, Time: 150}); c.Violation || c.ForKnown {
		t.Errorf("a gap of all processes: %+v", c)
	}
}

// Labels are no change: the state goes on, and who created the goroutine is told.
func TestApplyLabels(t *testing.T) {
	tr := NewTracker()
	birth := &event.Birth{Parent: 1}
	tr.Apply(&event.Event{PID: 5, GoID: 7, From: dead, To: runnable, Time: 10, Birth: birth})
	labels := event.Event{Kind: event.Labels, PID: 5, GoID: 7, Time: 15, Labels: &event.LabelSet{}}
	if c := *tr.Apply(&labels); c != (Change{Birth: birth}) {
		t.Errorf("labels: %+v", c)
	}
	labels.GoID = 8
	if c := *tr.Apply(&labels); c != (Change{}) || tr.Goroutines() != 1 {
		t.Errorf("labels of a goroutine that is not known: %+v, %d goroutines", c, tr.Goroutines())
	}
	if c := *tr.Apply(&event.Event{PID: 5, GoID: 7, From: runnable, To: running, Time: 30}); c.For != 20 || !c.ForKnown || c.Violation {
		t.Errorf("the change after it: %+v", c)
	}
}

// A goroutine that ended in a gap is not remembered for ever.
func TestApplyManyGaps(t *testing.T) {
	tr := NewTracker()
	tr.Apply(&event.Event{PID: 5, GoID: 7, From: dead, To: runnable, Time: 1, Birth: &event.Birth{}})
	for i := range int64(MaxGaps) {
		if tr.live[5].Get(7) == nil {
			t.Fatalf("forgotten after %d gaps", i)
		}
		tr.Apply(&event.Event{Kind: event.Gap, PID: 5, Since: 10 * i, Time: 10*i + 5})
	}
	if tr.live[5].Get(7) != nil {
		t.Error("never forgotten")
	}
}

// What neither a snapshot nor a change has told of since a gap ended in it.
func TestApplyCensus(t *testing.T) {
	tr := NewTracker()
	for goid := uint64(1); goid <= 4; goid++ {
		tr.Apply(&event.Event{Kind: event.Snapshot, PID: 5, GoID: goid, To: waiting, Time: 10})
	}
	tr.Apply(&event.Event{Kind: event.Snapshot, PID: 6, GoID: 4, To: waiting, Time: 10})
	tr.Apply(&event.Event{Kind: event.Gap, Since: 20, Time: 100})
	tr.Apply(&event.Event{Kind: event.Snapshot, PID: 5, GoID: 1, To: waiting, Time: 100})
	tr.Apply(&event.Event{PID: 5, GoID: 2, From: waiting, To: runnable, Time: 101})
	tr.Apply(&event.Event{PID: 5, GoID: 3, From: running, To: dead, Time: 102})
	tr.Apply(&event.Event{Kind: event.Census, PID: 5, Time: 100})
	for goid, want := range map[uint64]bool{1: true, 2: true, 3: false, 4: false} {
		if got := tr.live[5].Get(goid) != nil; got != want {
			t.Errorf("goroutine %d is there: %v", goid, got)
		}
	}
	if tr.live[6].Get(4) == nil {
		t.Error("the census of another process has ended it")
	}
	if c := tr.Apply(&event.Event{PID: 5, GoID: 4, From: dead, To: runnable, Time: 103, Birth: &event.Birth{}}); c.Violation {
		t.Error("its number cannot be used again")
	}
}

// A goroutine that is read again after a gap is known again: since the end of the gap at
// least, or by the runtime's note. What a change has told since the gap stays.
func TestSeedAfterGap(t *testing.T) {
	const running, waiting, runnable = goruntime.Running, goruntime.Waiting, goruntime.Runnable
	birth := &event.Birth{Parent: 1}
	tr := NewTracker()
	for goid := uint64(1); goid <= 3; goid++ {
		tr.Apply(&event.Event{Kind: event.Snapshot, PID: 5, GoID: goid, To: waiting, Time: 10, Birth: birth})
	}
	tr.Apply(&event.Event{Kind: event.Gap, PID: 5, Since: 20, Time: 100})
	tr.Apply(&event.Event{PID: 5, GoID: 1, From: running, To: runnable, Time: 101})
	for goid, since := range map[uint64]int64{1: 0, 2: 0, 3: 15, 4: 0} { // 4 was born in the gap
		tr.Apply(&event.Event{Kind: event.Snapshot, PID: 5, GoID: goid, To: waiting, Time: 100, Since: since, Birth: &event.Birth{Parent: 9}})
	}
	known := 0
	tr.Live(func(Live) { known++ })
	if known != 4 || tr.Seeded() != 4 || tr.Goroutines() != 4 {
		t.Errorf("%d known, %d of %d from snapshots; want 4, 4 and 4", known, tr.Seeded(), tr.Goroutines())
	}
	for _, tt := range []struct {
		goid    uint64
		from    goruntime.Status
		lasted  time.Duration
		atLeast bool
		parent  uint64
	}{{1, runnable, 49, false, 1}, {2, waiting, 50, true, 1}, {3, waiting, 140, true, 1}, {4, waiting, 50, true, 9}} {
		c := tr.Apply(&event.Event{PID: 5, GoID: tt.goid, From: tt.from, To: running, Time: 150})
		if c.For != tt.lasted || !c.ForKnown || c.ForAtLeast != tt.atLeast || c.Violation || c.Birth == nil || c.Birth.Parent != tt.parent {
			t.Errorf("goroutine %d: %+v, want %v", tt.goid, c, tt.lasted)
		}
	}
	// Nobody is born twice; but a number that was read can be that of a g struct used again.
	tr.Apply(&event.Event{Kind: event.Gap, PID: 5, Since: 200, Time: 300})
	tr.Apply(&event.Event{Kind: event.Snapshot, PID: 5, GoID: 2, To: waiting, Time: 300})
	c := tr.Apply(&event.Event{PID: 5, GoID: 2, From: goruntime.Dead, To: runnable, Time: 301, Birth: birth})
	if c.Violation || tr.Violations() != 0 {
		t.Errorf("a birth after it was read: %+v", c)
	}
}

// A goroutine that is known to have waited since before a gap has waited all the time.
func TestWaitOverGap(t *testing.T) {
	const running, waiting, runnable = goruntime.Running, goruntime.Waiting, goruntime.Runnable
	tests := []struct {
		name    string
		since   int64 // of the Snapshot after the gap
		seeded  bool  // of the wait only a Snapshot is known
		lasted  time.Duration
		atLeast bool
	}{
		{name: "since it began", since: 50, lasted: 250},
		{name: "since the gap", since: 100, lasted: 250},
		{name: "since a moment in the gap", since: 101, lasted: 199, atLeast: true},
		{name: "not known since when", lasted: 80, atLeast: true},
		{name: "was there before", since: 90, seeded: true, lasted: 260, atLeast: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr := NewTracker()
			if tt.seeded {
				tr.Apply(&event.Event{Kind: event.Snapshot, PID: 5, GoID: 1, To: waiting, Time: 60, Since: 40})
			} else {
				tr.Apply(&event.Event{PID: 5, GoID: 1, From: running, To: waiting, Time: 50})
			}
			tr.Apply(&event.Event{Kind: event.Gap, PID: 5, Since: 100, Time: 200})
			tr.Apply(&event.Event{Kind: event.Snapshot, PID: 5, GoID: 1, To: waiting, Time: 220, Since: tt.since})
			c := tr.Apply(&event.Event{PID: 5, GoID: 1, From: waiting, To: runnable, Time: 300})
			if c.For != tt.lasted || !c.ForKnown || c.ForAtLeast != tt.atLeast || c.Violation {
				t.Errorf("%+v, want %v, at least: %v", c, tt.lasted, tt.atLeast)
			}
		})
	}
}
