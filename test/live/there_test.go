package live_test

import (
	"fmt"
	"testing"
	"time"

	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

// snapshot checks the line of a goroutine that was there before.
func (f *follower) snapshot(s *traced.Snapshot) {
	errorf := func(text string) { f.found.errorf("%s\n\t%s", text, s.Text) }
	if s.GoID <= 0 || s.PID != f.tr.PID || s.MonoNs <= 0 {
		errorf("an impossible id or time")
	}
	if f.there[s.GoID] != nil {
		errorf("there twice")
	}
	switch s.State {
	case "runnable", "running", "syscall", "waiting", "preempted", "leaked":
	default:
		errorf("nobody is there in that state")
	}
	waits := s.State == "waiting" || s.State == "leaked"
	if (s.Reason != "" || s.FakeWait) && !waits {
		errorf("a reason to wait of one that does not")
	}
	if s.WaitNs != nil && (!waits && s.State != "syscall" || *s.WaitNs <= 0 || s.FakeWait) {
		errorf("a wait that cannot be")
	}
	if s.Parent != nil && s.GoID > 1 && (s.CreatedBy == nil || s.CreatedBy.Line <= 0 || s.Start == nil) {
		errorf("a goroutine without an origin")
	}
	if f.tr.Launched {
		errorf("there before the program began")
	}
	f.there[s.GoID] = s
}

// first checks the first line of a goroutine: it is its birth, or the goroutine
// was there before. A thread that is put off its CPU between the probe and the
// change, when the trace begins, makes one change that nothing tells of; then the
// snapshot is of before.
func (f *follower) first(l *traced.Transition) {
	born := l.From == "idle" || l.From == "dead" && l.Via != "extra-m"
	if born != l.IsBirth() {
		f.errorf(l, "from %s, born %v", l.From, l.IsBirth())
	}
	there := f.there[l.GoID]
	switch {
	case born:
		if l.ForNs != nil {
			f.errorf(l, "for_ns of a newborn")
		}
		if there != nil {
			f.reborn++
		}
	case there == nil:
		if l.ForNs != nil {
			f.errorf(l, "for_ns of a goroutine that was not seen before")
		}
		if f.tr.Launched && l.Via != "extra-m" {
			f.errorf(l, "the first line of a goroutine that is not its birth")
		}
		if l.Via != "extra-m" {
			f.underWay++
		}
	case l.From == there.State || there.State == "leaked" && l.From == "waiting":
		f.atLeast(l, there)
	default:
		if l.ForNs != nil {
			f.errorf(l, "for_ns of another state than\n\t%s", there.Text)
		}
		f.underWay++
	}
}

// atLeast checks how long a goroutine was in the state in which it was there.
func (f *follower) atLeast(l *traced.Transition, there *traced.Snapshot) {
	least := l.MonoNs - there.MonoNs
	if there.WaitNs != nil {
		least += *there.WaitNs
	}
	if l.ForNs == nil || *l.ForNs != least || !l.AtLeast {
		f.errorf(l, "not %d ns at least, since\n\t%s", least, there.Text)
	}
}

// goroutines compares the summary's counts with the lines.
func (f *follower) goroutines() {
	total := len(f.last)
	for id := range f.there {
		if f.last[id] == nil {
			total++
		}
	}
	if s := f.tr.Summary; s.Goroutines != total || s.Seeded != len(f.there)-f.reborn {
		f.found.errorf("summary says %d goroutines, %d there before; the lines have %d, %d of which %d are born later",
			s.Goroutines, s.Seeded, total, len(f.there), f.reborn)
	}
	if f.underWay > len(f.tids) {
		f.found.errorf("%d goroutines are not in the state in which they were there; %d threads cannot do that", f.underWay, len(f.tids))
	}
}

// released is how the captives of the program release wait: the runtime's words
// since some Go 1.N, and before.
var released = []struct {
	key, reason string
	since       int
	before      string
}{
	{"chan_receive", "chan receive", 0, ""},
	{"chan_send", "chan send", 0, ""},
	{"select", "select", 0, ""},
	{"mutex", "sync.Mutex.Lock", 20, "semacquire"},
	{"rwmutex_write", "sync.RWMutex.Lock", 20, "semacquire"},
	{"rwmutex_read", "sync.RWMutex.RLock", 20, "semacquire"},
	{"waitgroup", "sync.WaitGroup.Wait", 24, "semacquire"},
	{"cond", "sync.Cond.Wait", 0, ""},
	{"io_wait", "IO wait", 0, ""},
	{"syscall", "", 0, ""},
	{"locked", "chan receive", 0, ""},
}

// TestThere attaches to a program all of whose goroutines are parked, and lets
// them go: each must be known from the start, and what its first change leaves.
func TestThere(t *testing.T) {
	for _, b := range builds() {
		t.Run(b.String(), func(t *testing.T) {
			began := time.Now()
			tr := traced.EBPF.AttachHeld(t, "release", b)
			most := time.Since(began)
			checkStream(tr).report(t)
			for _, r := range released {
				reason := r.reason
				if b.Minor() < r.since {
					reason = r.before
				}
				checkReleased(t, tr, tr.Facts.GoIDs[r.key], reason, most)
			}
		})
	}
}

// checkReleased checks one goroutine that was held for less than most.
func checkReleased(t *testing.T, tr *traced.Trace, id int64, reason string, most time.Duration) {
	t.Helper()
	var there *traced.Snapshot
	for i := range tr.Snapshots {
		if tr.Snapshots[i].GoID == id {
			there = &tr.Snapshots[i]
		}
	}
	life := tr.Of(id)
	if there == nil || len(life) == 0 {
		t.Fatalf("goroutine %d: there %v, %d changes", id, there, len(life))
	}
	state := "waiting"
	if reason == "" {
		state = "syscall"
	}
	site := testenv.Sites(t)["captivity"]
	parent := tr.Facts.GoIDs["releaser"]
	if tr.Build.Minor() < 21 {
		parent = 0 // the runtime does not keep it
	}
	by := there.CreatedBy
	if there.State != state || there.Reason != reason || *there.Parent != parent ||
		by == nil || by.Func != work+"Release" || by.Line != site.Line || there.Start.Func != work+"captivity" {
		t.Errorf("was not there as %s for %q, created by %d at line %d:\n\t%s", state, reason, parent, site.Line, there.Text)
	}
	if there.WaitNs == nil && state == "waiting" {
		t.Errorf("the collection that it waited through is not in its snapshot:\n\t%s", there.Text)
	}
	if first := life[0]; first.From != state || !first.AtLeast || *first.ForNs <= 0 || *first.ForNs > int64(most) {
		t.Errorf("its first change is not from %s after less than %v:\n\t%s", state, most, first.Text)
	}
}

// TestUnderLoad attaches to programs in the middle of their work, many times: how
// goroutines were there never contradicts what they do next.
func TestUnderLoad(t *testing.T) {
	const attaches = 5
	for _, b := range []testenv.Build{{Go: "1.18"}, {Go: "1.23"}, {Go: "1.26"}} {
		for prog, n := range map[string]string{"pingpong": "1000000000", "netecho": "1000000000", "spawn": "1000000000"} {
			t.Run(prog+"-"+b.String(), func(t *testing.T) {
				p := testenv.Start(t, testenv.BuildTarget(t, prog, b), n)
				defer p.Kill()
				time.Sleep(100 * time.Millisecond)
				for range attaches {
					tr := traced.EBPF.Sample(t, p, b, 300*time.Millisecond)
					if len(tr.Snapshots) < 3 || len(tr.Transitions) < 100 {
						t.Fatalf("%d goroutines were there, %d changes", len(tr.Snapshots), len(tr.Transitions))
					}
					checkStream(tr).report(t)
				}
			})
		}
	}
}

// TestThereBinary traces two processes of one executable that run already.
func TestThereBinary(t *testing.T) {
	bin := testenv.BuildTarget(t, "idle", testenv.Build{PIE: true})
	there := map[int]int{}
	for range 2 {
		p := testenv.Start(t, bin)
		p.WaitLine("held")
		there[p.PID()] = 0
	}
	tr := traced.Binary(t, bin, 300*time.Millisecond)
	for i := range tr.Snapshots {
		s := &tr.Snapshots[i]
		if _, ok := there[s.PID]; !ok {
			t.Errorf("nobody asked for process %d:\n\t%s", s.PID, s.Text)
		}
		if s.CreatedBy != nil && s.CreatedBy.Func == work+"Idle" {
			there[s.PID]++
		}
	}
	for pid, n := range there {
		if n != 15 {
			t.Errorf("%d goroutines of process %d are known, it parked 15", n, pid)
		}
	}
	if s := tr.Summary; s.Seeded != len(tr.Snapshots) || s.Violations != 0 {
		t.Errorf("%d lines, summary %+v", len(tr.Snapshots), s)
	}
}

// TestThereFilters chooses among the goroutines that were there; the summary
// counts them all.
func TestThereFilters(t *testing.T) {
	p := testenv.Start(t, testenv.BuildTarget(t, "idle", testenv.Build{}))
	var id int64
	if _, err := fmt.Sscanf(p.WaitLine("goid chan_send "), "goid chan_send %d", &id); err != nil {
		t.Fatal(err)
	}
	p.WaitLine("held")
	for _, flags := range [][]string{
		{"--goid", fmt.Sprint(id)},
		{"--reason", "chan send", "--state", "waiting"},
		{"--created-by", `work\.Idle$`, "--reason", "chan send"},
	} {
		tr := traced.EBPF.Sample(t, p, testenv.Build{}, 100*time.Millisecond, flags...)
		if len(tr.Snapshots) != 1 || tr.Snapshots[0].GoID != id || tr.Summary.Goroutines < 15 {
			t.Errorf("%q: %d lines, %d goroutines counted; want the one of %d", flags, len(tr.Snapshots), tr.Summary.Goroutines, id)
		}
	}
	for _, flags := range [][]string{{"--created-by", "nobody"}, {"--state", "runnable"}} {
		if tr := traced.EBPF.Sample(t, p, testenv.Build{}, 100*time.Millisecond, flags...); len(tr.Snapshots) != 0 {
			t.Errorf("%q: %s", flags, tr.Snapshots[0].Text)
		}
	}
}
