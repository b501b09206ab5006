package inline

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// scatter writes n changes, births and stacks with rising stamps to the rings of random Ms,
// in runs, and returns them in order. Stamps begin after first.
func scatter(ms []*fakeM, n int, first uint64) []got {
	var want []got
	for stamp := first; len(want) < n; {
		m := ms[rand.IntN(len(ms))]
		for range 1 + rand.IntN(6) {
			stamp += 1 + rand.Uint64()%3
			recs := []raw{plain(stamp, 3)}
			// What is behind the first has no stamp: the word in its place must not matter.
			switch rand.IntN(16) {
			case 0, 1:
				recs = birth(stamp, rand.Uint64()>>rand.IntN(64), 1+rand.Uint64()%9)
			case 2:
				recs = stack(stamp, rand.IntN(maxFollow+1))
			}
			if m.writeAt(stamp, recs...) {
				want = append(want, of(m, stamp, recs))
			}
		}
	}
	return want
}

func (s *shared) newMs(n int) []*fakeM {
	ms := make([]*fakeM, n)
	for i := range ms {
		ms[i] = s.newM(int64(i), uint32(i)+1)
	}
	return ms
}

// firstDifference is where two lists differ; "" if they do not.
func firstDifference(list, want []got) string {
	for i := range min(len(list), len(want)) {
		if list[i] != want[i] {
			return fmt.Sprintf("record %d is %+v, want %+v", i, list[i], want[i])
		}
	}
	if len(list) != len(want) {
		return fmt.Sprintf("%d records, want %d", len(list), len(want))
	}
	return ""
}

// TestMergeOrder: any number of rings comes out as one list in the order of the stamps, each
// drain up to its limit, also when some of it waits elsewhere.
func TestMergeOrder(t *testing.T) {
	for _, rings := range []int{1, 2, 3, 8, 64, 100, 500} {
		s := newShared(t, 512, 1<<14)
		ms := s.newMs(rings)
		var list, want []got
		limit := uint64(0)
		for lap := range 30 {
			first := uint64(1)
			if len(want) > 0 {
				first = want[len(want)-1].tsc
			}
			want = append(want, scatter(ms, 100+10*min(rings, 8), first)...)
			if lap%3 == 0 {
				s.relieve(0.1)
			}
			limit = max(limit, first+rand.Uint64()%(want[len(want)-1].tsc+3-first)) // it never falls
			part := s.drained(t, limit)
			due, _ := slices.BinarySearchFunc(want, limit, func(g got, limit uint64) int { return cmp.Compare(g.tsc, limit) })
			if list = append(list, part...); len(list) != due {
				t.Fatalf("%d rings: %d records before %d, want %d", rings, len(list), limit, due)
			}
		}
		list = append(list, s.drained(t, everything)...)
		if diff := firstDifference(list, want); diff != "" {
			t.Fatalf("%d rings: %s", rings, diff)
		}
		if s.events != uint64(len(want)) {
			t.Errorf("%d rings: %d events of %d", rings, s.events, len(want))
		}
	}
}

// TestLimit: a record of the limit's own stamp waits; one before it does not, and all that
// belongs to it comes along.
func TestLimit(t *testing.T) {
	s := newShared(t, minRings, 4096)
	m := s.newM(0, 1)
	all := [][]raw{birth(1, 1<<60, 5), birth(2, 3, 6), {plain(3, 0)}, stack(4, 3), {plain(5, 0)}}
	stamps := []uint64{99, 100, 100, 101, 102}
	want := []got{}
	for i, recs := range all {
		m.writeAt(stamps[i], recs...)
		want = append(want, of(m, stamps[i], recs))
	}
	for _, c := range []struct {
		limit uint64
		want  []got
	}{{99, nil}, {100, want[:1]}, {100, nil}, {101, want[1:3]}, {102, want[3:4]}, {103, want[4:]}, {everything, nil}} {
		if diff := firstDifference(s.drained(t, c.limit), c.want); diff != "" {
			t.Errorf("limit %d: %s", c.limit, diff)
		}
	}
}

// TestTogetherAnywhere: what belongs together stays so wherever it lies: over the ring's end,
// over the end of what is copied at a time, over the end of what was relieved, and over a
// drain.
func TestTogetherAnywhere(t *testing.T) {
	for _, ringBytes := range []int{4096, 1 << 14} {
		slots := ringBytes / recordBytes
		for at := range slots + 2 {
			if at > 20 && at < slots-20 && at%256 > 4 && at%256 < 245 {
				continue // nothing ends here
			}
			for how := range 3 {
				for _, last := range [][]raw{birth(1, 1, 1<<60), stack(2, maxFollow)} {
					together(t, ringBytes, at, how, last)
				}
			}
		}
	}
}

// together writes last after that many other records, to a ring of which a little has
// been used, and wants all back.
func together(t *testing.T, ringBytes, at, how int, last []raw) {
	t.Helper()
	s := newShared(t, minRings, ringBytes)
	m := s.newM(0, 1)
	*s.headerWord(0, headOffset), s.list[0].tail, *s.headerWord(0, tailOffset) = 7, 7, 7
	var list, want []got
	write := func(recs []raw) {
		stamp := uint64(len(want)) + 1
		if !m.writeAt(stamp, recs...) {
			t.Fatalf("no room for record %d", stamp)
		}
		want = append(want, of(m, stamp, recs))
	}
	for i := range at {
		write([]raw{plain(5, 6)})
		if i == at-int(s.slots)+len(last) { // make room for the last
			list = append(list, s.drained(t, uint64(i)+1)...)
		}
	}
	if how == 1 {
		s.relieve(0)
	}
	write(last)
	if how == 2 {
		list = append(list, s.drained(t, uint64(len(want)))...)
	}
	list = append(list, s.drained(t, everything)...)
	if diff := firstDifference(list, want); diff != "" {
		t.Fatalf("%d slots, %d records at %d, way %d: %s", s.slots, len(last), at, how, diff)
	}
}

// TestEmitError: the record that failed counts as passed on; all others come later, each
// once and in order.
func TestEmitError(t *testing.T) {
	s := newShared(t, minRings, 1<<16)
	ms := s.newMs(5)
	var list, want []got
	failed := errors.New("failed")
	failures := 0
	for range 20 {
		first := uint64(1)
		if len(want) > 0 {
			first = want[len(want)-1].tsc
		}
		want = append(want, scatter(ms, 500, first)...)
		for range 40 {
			n := 1 + rand.IntN(30)
			err := s.drain(everything, func(rec *record) error {
				list = append(list, keep(rec))
				if n--; n == 0 {
					return failed
				}
				return nil
			})
			if n == 0 != errors.Is(err, failed) {
				t.Fatalf("%d to go, %v", n, err)
			}
			if err != nil {
				failures++
			}
			if rand.IntN(10) == 0 {
				s.relieve(0)
			}
		}
	}
	list = append(list, s.drained(t, everything)...)
	if diff := firstDifference(list, want); diff != "" || failures < 100 {
		t.Errorf("%d errors: %s", failures, diff)
	}
	for i := range ms {
		if head, tail := *s.headerWord(i, headOffset), *s.headerWord(i, tailOffset); head != tail {
			t.Errorf("ring %d: head %d, tail %d", i, head, tail)
		}
	}
	if lost, _, corrupt := s.lostCounts(); lost+corrupt != 0 || s.events != uint64(len(want)) {
		t.Errorf("%d lost, %d corrupt, %d events of %d", lost, corrupt, s.events, len(want))
	}
}

// TestDrainAllocates: not once it has what it needs.
func TestDrainAllocates(t *testing.T) {
	s := newShared(t, minRings, 1<<16)
	ms := s.newMs(20)
	stamp, sum := uint64(1), uint64(0)
	emit := func(rec *record) error { sum += rec.raw.goid(); return nil }
	if n := testing.AllocsPerRun(50, func() {
		for i := range 10_000 {
			stamp++
			ms[i/3%len(ms)].writeAt(stamp, plain(1, 2))
		}
		if err := s.drain(everything, emit); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations in a drain", n)
	}
	if sum != 51*10_000 {
		t.Errorf("%d records", sum)
	}
}

// BenchmarkDrain is what one event costs to merge: of a few busy threads, and of many. run is
// how many events of a thread follow one another. cpu-ns/op leaves out what other processes
// do to the time.
func BenchmarkDrain(b *testing.B) {
	for _, c := range []struct{ rings, ringBytes int }{{2, 1 << 20}, {8, 1 << 18}, {100, 1 << 16}} {
		for _, run := range []int{1, 3} {
			b.Run(fmt.Sprintf("rings=%d/run=%d", c.rings, run), func(b *testing.B) {
				benchmarkDrain(b, newShared(b, 128, c.ringBytes), c.rings, run)
			})
		}
	}
}

func benchmarkDrain(b *testing.B, s *shared, rings, run int) {
	const batch = 30 << 10
	runtime.LockOSThread() // for cpuTime
	defer runtime.UnlockOSThread()
	order := make([]int, batch/run)
	for i := range order {
		order[i] = i % rings // equally many of all, so they fit
	}
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	var sum, stamp, events uint64
	var cpu time.Duration
	emit := func(rec *record) error {
		sum += rec.tsc ^ rec.raw.goid() ^ uint64(rec.raw.tid())
		return nil
	}
	laps := int(s.slots)*rings/batch + 2 // until all pages have been touched
	for n := -laps * batch; n < b.N; n += batch {
		b.StopTimer()
		for i := range batch {
			ring := order[i/run]
			stamp += 50
			head := s.headerWord(ring, headOffset)
			s.put(ring, *head, raw{stamp, 5 << 8, 0, 3<<32 | 0x42<<40})
			*head++
		}
		before := cpuTime(b)
		if events += batch; n >= 0 {
			b.StartTimer()
		}
		if err := s.drain(everything, emit); err != nil {
			b.Fatal(err)
		}
		if n >= 0 {
			cpu += cpuTime(b) - before
		}
	}
	b.StopTimer()
	if s.events != events {
		b.Fatalf("%d events, want %d", s.events, events)
	}
	b.ReportMetric(float64(cpu)/float64((b.N+batch-1)/batch*batch), "cpu-ns/op")
}

// cpuTime is that of the calling thread.
func cpuTime(b *testing.B) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// TestDrainEverything: the last drain passes on all that there is, also what drains before it
// had taken from the rings, but not passed on.
func TestDrainEverything(t *testing.T) {
	s := newShared(t, minRings, 4096)
	ms := s.newMs(minRings)
	want := scatter(ms, 3000, 1000)
	if n := len(s.drained(t, 1000)); n != 0 {
		t.Fatalf("%d records before their time", n)
	}
	if diff := firstDifference(s.drained(t, everything), want); diff != "" {
		t.Error(diff)
	}
}

// TestBlockedEmit: a drain may last long, as when its output is a pipe that nobody reads. What
// is made meanwhile has true stamps, however far beyond the limit: it waits for the next
// drain, and keeps its stamp and its place.
func TestBlockedEmit(t *testing.T) {
	s := newShared(t, minRings, 4096)
	a, b := s.newM(0, 1), s.newM(1, 2)
	a.writeAt(10, plain(1, 0))
	b.writeAt(20, plain(2, 0))
	const later = 100 + 1<<40 // ticks: minutes
	n := 0
	if err := s.drain(100, func(rec *record) error {
		if n++; n == 1 {
			b.writeAt(later, plain(3, 0)) // the cause
			a.writeAt(later+1, plain(4, 0))
		}
		if rec.tsc >= 100 {
			t.Errorf("record %+v before its time", keep(rec))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	list := s.drained(t, later+100)
	if n != 2 || len(list) != 2 || list[0].goid != 3 || list[0].tsc != later || list[1].goid != 4 || list[1].tsc != later+1 {
		t.Errorf("%d records in the first drain; then %v", n, list)
	}
	if _, _, corrupt := s.lostCounts(); corrupt != 0 {
		t.Errorf("%d corrupt", corrupt)
	}
}
