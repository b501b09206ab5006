package probes

import (
	"testing"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
)

const (
	testPark = iota
	testReady
	testNoP
	testSuspend
	testYield
	testStopWorld
	testSwitch
	testNote
)

func testSequencer() *Sequencer {
	return NewSequencer([]Site{
		testPark:      {rule: rule{via: event.ViaPark}},
		testReady:     {rule: rule{via: event.ViaReady, Flags: Waker}},
		testNoP:       {rule: rule{via: event.ViaNoP, lostP: true}},
		testSuspend:   {rule: rule{via: event.ViaSuspend, Flags: Attempt, reason: "preempted"}},
		testYield:     {rule: rule{via: event.ViaYield}},
		testStopWorld: {rule: rule{via: event.ViaSTW}},
		testSwitch:    {rule: rule{via: event.ViaCoroutine, reason: "coroutine"}},
		testNote:      {rule: rule{via: event.ViaSyscall}},
	}, []string{"", "GC assist marking", "sleep", "IO wait", "stopping the world"}, nil)
}

// feed is one record and the event that must come of it; to is 0 when none
// must.
type feed struct {
	kind     Kind
	site     uint8
	from, to goruntime.Status
	reason   uint8
	waker    uint64

	want *event.Event
}

func ev(from, to goruntime.Status, via event.Via, reason string) *event.Event {
	return &event.Event{From: from, To: to, Via: via, Reason: reason}
}

func TestSequence(t *testing.T) {
	const (
		change, attempt, syscall                            = Change, Attempted, Syscall
		runnable, running, insyscall, waiting, preempted    = 1, 2, 3, 4, 9
		sRunnable, sRunning, sSyscall, sWaiting, sPreempted = goruntime.Runnable, goruntime.Running, goruntime.Syscall, goruntime.Waiting, goruntime.Preempted
	)
	tests := []struct {
		name  string
		feeds []feed
	}{
		{"a system call interrupted by a signal and restarted is one call", []feed{
			{kind: syscall, site: NoSite, from: running, to: insyscall, want: ev(sRunning, sSyscall, event.ViaSyscall, "")},
			{kind: syscall, site: NoSite, from: running, to: insyscall},
			{kind: syscall, site: NoSite, from: insyscall, to: running, want: ev(sSyscall, sRunning, event.ViaSyscall, "")},
			{kind: syscall, site: NoSite, from: insyscall, to: running},
		}},
		{"attached in the middle of a system call", []feed{
			{kind: syscall, site: NoSite, from: insyscall, to: running, want: ev(sSyscall, sRunning, event.ViaSyscall, "")},
		}},
		{"a P lost in a system call, up to Go 1.25", []feed{
			{kind: syscall, site: NoSite, from: running, to: insyscall, want: ev(sRunning, sSyscall, event.ViaSyscall, "")},
			{kind: syscall, site: NoSite, from: insyscall, to: running, want: ev(sSyscall, sRunning, event.ViaSyscall, "")},
			{kind: change, site: testNoP, from: insyscall, to: runnable, want: ev(sRunning, sRunnable, event.ViaNoP, "")},
		}},
		{"only the attempt that succeeds counts", []feed{
			{kind: attempt, site: testSuspend, from: preempted, to: waiting},
			{kind: change, site: testSuspend, from: running, to: preempted, want: ev(sRunning, sPreempted, event.ViaSuspend, "")},
			{kind: attempt, site: testSuspend, from: preempted, to: waiting, want: ev(sPreempted, sWaiting, event.ViaSuspend, "preempted")},
			{kind: attempt, site: testSuspend, from: preempted, to: waiting},
			{kind: change, site: testReady, from: waiting, to: runnable, waker: 5, want: &event.Event{From: sWaiting, To: sRunnable, Via: event.ViaReady, Waker: 5}},
			{kind: attempt, site: testSuspend, from: preempted, to: waiting},
		}},
		{"a contradiction is passed on, for gstate to count", []feed{
			{kind: change, site: testPark, from: running, to: waiting, reason: 2, want: ev(sRunning, sWaiting, event.ViaPark, "sleep")},
			{kind: change, site: testPark, from: running, to: waiting, reason: 2, want: ev(sRunning, sWaiting, event.ViaPark, "sleep")},
		}},
		{"what one site does for several causes", []feed{
			{kind: change, site: testReady, from: waiting, to: runnable, reason: 2, want: ev(sWaiting, sRunnable, event.ViaTimer, "")},
			{kind: change, site: testYield, from: running, to: runnable, want: ev(sRunning, sRunnable, event.ViaYield, "")},
			{kind: change, site: testPark, from: waiting, to: runnable, reason: 3, want: ev(sWaiting, sRunnable, event.ViaUnpark, "")},
			{kind: change, site: testStopWorld, from: running, to: waiting, reason: 4, want: &event.Event{From: sRunning, To: sWaiting, Via: event.ViaSTW, Fake: true, Reason: "stopping the world"}},
			{kind: change, site: testStopWorld, from: waiting, to: running, reason: 4, want: ev(sWaiting, sRunning, event.ViaSTW, "")},
			{kind: change, site: testSwitch, from: running, to: waiting, reason: 3, want: ev(sRunning, sWaiting, event.ViaCoroutine, "coroutine")},
		}},
		{"a reason that the binary does not have is none", []feed{
			{kind: change, site: testPark, from: running, to: waiting, reason: 200, want: ev(sRunning, sWaiting, event.ViaPark, "")},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := testSequencer()
			for i, f := range tt.feeds {
				got := s.Event(&Record{Kind: f.kind, Site: f.site, GoID: 7, PID: 3, TID: 4, M: 1, P: 2, Time: int64(i), From: f.from, To: f.to, Reason: f.reason, Other: f.waker})
				if got == nil || f.want == nil {
					if (got == nil) != (f.want == nil) {
						t.Errorf("record %d: event %+v, want %+v", i, got, f.want)
					}
					continue
				}
				want := *f.want
				want.GoID, want.PID, want.TID, want.M, want.P, want.Time = 7, 3, 4, 1, 2, int64(i)
				if *got != want {
					t.Errorf("record %d:\n got %+v\nwant %+v", i, *got, want)
				}
			}
		})
	}
}

func TestSequenceExec(t *testing.T) {
	s := testSequencer()
	enter := Record{Kind: Syscall, Site: NoSite, GoID: 7, PID: 3, From: 2, To: 3}
	if s.Event(&enter) == nil || s.Event(&enter) != nil {
		t.Fatal("a repeated system call is not recognised")
	}
	if e := s.Event(&Record{Kind: Exec, PID: 3}); e == nil || e.Kind != event.Exec || e.PID != 3 {
		t.Fatalf("exec gives %+v", e)
	}
	if s.Event(&enter) == nil {
		t.Error("the goroutine of the program before is still known after exec")
	}
}

// What was there before decides about the records that may be no change.
func TestSequenceSeed(t *testing.T) {
	enter := Record{Kind: Syscall, Site: NoSite, GoID: 7, PID: 3, From: 2, To: 3}
	leave := Record{Kind: Syscall, Site: NoSite, GoID: 7, PID: 3, From: 3, To: 2}
	attempt := Record{Kind: Attempted, Site: testSuspend, GoID: 7, PID: 3, From: 9, To: 4}
	for _, tt := range []struct {
		name  string
		state goruntime.Status
		first Record
		event bool
	}{
		{"the entry of the system call that it is in", goruntime.Syscall, enter, false},
		{"the end of that call", goruntime.Syscall, leave, true},
		{"the entry of one", goruntime.Running, enter, true},
		{"the end of one that was over", goruntime.Running, leave, false},
		{"an attempt on a goroutine that is preempted", goruntime.Preempted, attempt, true},
		{"an attempt that somebody else has won", goruntime.Waiting, attempt, false},
	} {
		s := testSequencer()
		s.Seed(&event.Event{Kind: event.Snapshot, PID: 3, GoID: 7, To: tt.state})
		s.Seed(&event.Event{Kind: event.Snapshot, PID: 4, GoID: 7, To: goruntime.Runnable})
		if got := s.Event(&tt.first); (got != nil) != tt.event {
			t.Errorf("%s: event %+v", tt.name, got)
		}
	}
	s := testSequencer()
	s.Event(&leave)
	s.Seed(&event.Event{Kind: event.Snapshot, PID: 3, GoID: 7, To: goruntime.Syscall})
	if s.Event(&enter) == nil {
		t.Error("a snapshot undoes what a record has told")
	}
}

// TestReturn: the end of a system call of whose goroutine only the thread is known.
func TestReturn(t *testing.T) {
	enter := Record{Kind: Syscall, Site: NoSite, GoID: 7, M: 2, PID: 3, TID: 5, SP: 64, From: 2, To: 3}
	leave := Record{Kind: Syscall, Site: NoSite, GoID: 7, M: 2, PID: 3, TID: 5, SP: 64, From: 3, To: 2}
	back := Record{Kind: Return, Site: NoSite, P: -1, PID: 3, TID: 5, SP: 64, From: 3, To: 2}
	otherThread, otherStack, otherProcess := back, back, back
	otherThread.TID, otherStack.SP, otherProcess.PID = 6, 128, 4
	for _, tt := range []struct {
		name   string
		before []Record
		last   Record
		event  bool
	}{
		{"of the call that the thread has entered", []Record{enter}, back, true},
		{"of one that is over", []Record{enter, leave}, back, false},
		{"twice", []Record{enter, back}, back, false},
		{"of none", nil, back, false},
		{"of another thread", []Record{enter}, otherThread, false},
		{"in a signal handler", []Record{enter}, otherStack, false},
		{"of another process", []Record{enter}, otherProcess, false},
		{"after another program was executed", []Record{enter, {Kind: Exec, PID: 3, TID: 5}}, back, false},
	} {
		s := testSequencer()
		for _, r := range tt.before {
			s.Event(&r)
		}
		got := s.Event(&tt.last)
		if (got != nil) != tt.event {
			t.Errorf("%s: event %+v", tt.name, got)
		}
		if got != nil && (got.GoID != 7 || got.M != 2 || got.P != -1 || got.From != goruntime.Syscall || got.To != goruntime.Running || got.Via != event.ViaSyscall) {
			t.Errorf("%s: event %+v", tt.name, got)
		}
	}
}

// A signal handler that comes between the runtime's own change and its sleep on a note, or the
// C code, returns as a system call does: that is no end of it.
func TestSyscallWithin(t *testing.T) {
	in := Record{Kind: Change, Site: testNote, GoID: 7, M: 2, PID: 3, TID: 5, From: goruntime.Running, To: goruntime.Syscall}
	out := Record{Kind: Change, Site: testNote, GoID: 7, M: 2, PID: 3, TID: 5, From: goruntime.Syscall, To: goruntime.Running}
	enter, leave := in, out
	enter.Kind, enter.Site, leave.Kind, leave.Site = Syscall, NoSite, Syscall, NoSite
	back := leave
	back.Kind, back.GoID = Return, 0
	s := testSequencer()
	for i, step := range []struct {
		record Record
		event  bool
	}{
		{enter, true}, {leave, true}, // a call of the goroutine's own
		{in, true}, {leave, false}, {enter, false}, {back, false}, {leave, false}, {out, true},
		{leave, false}, {enter, true}, {back, true},
	} {
		if got := s.Event(&step.record); (got != nil) != step.event {
			t.Errorf("record %d: event %+v, want one: %v", i, got, step.event)
		}
	}
}

func TestBaseName(t *testing.T) {
	for in, want := range map[string]string{
		"runtime.ready":                                     "ready",
		"runtime.stopTheWorld.func1":                        "stopTheWorld",
		"runtime.gcBgMarkWorker.func2.1":                    "gcBgMarkWorker",
		"runtime.(*gcControllerState).findRunnableGCWorker": "findRunnableGCWorker",
	} {
		if got := baseName(in); got != want {
			t.Errorf("baseName(%q) = %q, want %q", in, got, want)
		}
	}
}

func BenchmarkSequence(b *testing.B) {
	s := testSequencer()
	r := Record{Kind: Change, PID: 3, M: 1}
	for i := range b.N {
		r.GoID, r.From, r.To = uint64(i%1000), 2, 4
		if s.Event(&r) == nil {
			b.Fatal("no event")
		}
	}
}
