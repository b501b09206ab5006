package inline

import (
	"fmt"
	"testing"
)

// TestRestart: when the counter begins anew, what was stamped before comes first and in
// order, what is stamped since comes in the order of its stamps, at once, and nothing is
// lost or counted as nonsense.
func TestRestart(t *testing.T) {
	for _, last := range []uint64{1 << 25, 1 << 34, 1 << 36, 1 << 50, 1 << 63} {
		for _, rings := range []int{1, 2, 8, 100} {
			for _, relieved := range []bool{false, true} {
				t.Run(fmt.Sprintf("%#x/%d/%v", last, rings, relieved), func(t *testing.T) {
					s := newShared(t, 512, 1<<14)
					ms := s.newMs(rings)
					before := scatter(ms, 30*min(rings, 8), last)
					cut := len(before) / 2
					list := s.drained(t, before[cut].tsc)
					limit := before[cut].tsc
					since := scatter(ms, 30*min(rings, 8), 1000)
					now := since[len(since)/2].tsc
					if relieved {
						s.relieve(0)
					}
					if !restarted(limit, now) {
						t.Fatalf("from %#x to %#x is no restart", limit, now)
					}
					err := s.restart(limit, now, func(r *record) error { list = append(list, keep(r)); return nil })
					if err != nil {
						t.Fatal(err)
					}
					if diff := firstDifference(list, before); diff != "" {
						t.Fatalf("before: %s", diff)
					}
					list = append(s.drained(t, now), s.drained(t, since[len(since)-1].tsc+1)...)
					if diff := firstDifference(list, since); diff != "" {
						t.Fatalf("since: %s", diff)
					}
					if _, _, corrupt := s.lostCounts(); corrupt != 0 || s.unread() != 0 {
						t.Errorf("%d corrupt, %d unread", corrupt, s.unread())
					}
				})
			}
		}
	}
}

// TestNoRestart: without it such records would wait; and counters that differ by what CPUs
// differ by, or go on, have not begun anew.
func TestNoRestart(t *testing.T) {
	s := newShared(t, minRings, 4096)
	m := s.newM(0, 1)
	m.writeAt(1<<40, plain(1, 0))
	if n := len(s.drained(t, 1<<40+1)); n != 1 {
		t.Fatalf("%d records", n)
	}
	m.writeAt(1000, plain(2, 0))
	if n := len(s.drained(t, 2000)); n != 0 {
		t.Errorf("%d records that were stamped anew came without a restart: this test is needless", n)
	}
	for _, c := range [][2]uint64{{0, 0}, {0, 1 << 60}, {1000, 1001}, {1 << 40, 1<<40 - 1}, {1 << 40, 1<<40 - 1<<24}} {
		if restarted(c[0], c[1]) {
			t.Errorf("from %d to %d is a restart", c[0], c[1])
		}
	}
}

// TestRestartLate: a record that was stamped before and published long after the restart is
// passed on, though not where it belongs, and holds up nobody for longer than a drain.
func TestRestartLate(t *testing.T) {
	s := newShared(t, minRings, 4096)
	m, other := s.newM(0, 1), s.newM(1, 2)
	m.writeAt(1<<50, plain(1, 0))
	if err := s.restart(1<<50+1, 100, func(*record) error { return nil }); err != nil {
		t.Fatal(err)
	}
	m.writeAt(1<<50+2, plain(2, 0))
	other.writeAt(200, plain(3, 0))
	list := append(s.drained(t, 300), s.drained(t, 400)...)
	if len(list) != 2 || list[0].goid != 3 || list[1].goid != 2 {
		t.Errorf("%+v", list)
	}
	m.writeAt(500, plain(4, 0))
	if list := s.drained(t, 600); len(list) != 1 || list[0].goid != 4 {
		t.Errorf("after it: %+v", list)
	}
}
