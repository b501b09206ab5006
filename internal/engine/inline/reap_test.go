package inline

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pages is how many pages of the memfd there are in n bytes from off. Neither SEEK_DATA nor
// mincore(2) would do: those that fallocate(2) made are holes to them until they are written.
func (s *shared) pages(t *testing.T, off, n int) int {
	t.Helper()
	within := unix.CachestatRange{Off: uint64(off), Len: uint64(n)}
	var found unix.Cachestat_t
	if err := unix.Cachestat(uint(s.fd), &within, &found, 0); errors.Is(err, unix.ENOSYS) {
		t.Skip("no cachestat(2): Linux before 6.5")
	} else if err != nil {
		t.Fatal(err)
	}
	return int(found.Cache)
}

func (s *shared) recordsAt(ring int) int { return recordsOffset(s.count) + ring*s.ringBytes }

func (s *shared) ringPages(t *testing.T, ring int) int {
	t.Helper()
	return s.pages(t, s.recordsAt(ring), s.ringBytes)
}

// TestTouchAhead: the pages before the writer are there, what is in them stays, and no other
// ring gets any.
func TestTouchAhead(t *testing.T) {
	const perPage = pageSize / recordBytes
	s := newShared(t, minRings, 1<<18)
	m := s.newM(7, 70)
	s.list[7].used = true // as after the first take, but nothing is taken before the end of a lap
	stamp := uint64(0)
	for lap := range 3 {
		for range int(s.slots) / perPage {
			for range perPage {
				stamp++
				m.writeAt(stamp, plain(stamp, stamp*3))
			}
			written := s.list[7].data[:min(stamp, s.slots)*recordBytes] // to read more would make pages
			was := bytes.Clone(written)
			s.touchAhead(s.fd)
			if !bytes.Equal(was, written) {
				t.Fatalf("touching changed the ring, at %d", stamp)
			}
			if lap > 0 {
				continue
			}
			need := min(int(stamp+ahead/2)/perPage, s.ringBytes/pageSize)
			if n := s.pages(t, s.recordsAt(7), need*pageSize); n != need {
				t.Fatalf("the writer is at page %d; of the first %d there are %d", stamp/perPage, need, n)
			}
		}
		list := s.drained(t, everything)
		for i, g := range list {
			if want := uint64(lap)*s.slots + uint64(i) + 1; g.goid != want || g.other != want*3 {
				t.Fatalf("record %d: %+v", want, g)
			}
		}
		if uint64(len(list)) != s.slots {
			t.Fatalf("%d records in lap %d", len(list), lap)
		}
	}
	if n := s.ringPages(t, 7); n != s.ringBytes/pageSize {
		t.Errorf("%d pages of the ring", n)
	}
	for _, ring := range []int{0, 6, 8, minRings - 1} {
		if n := s.ringPages(t, ring); n != 0 {
			t.Errorf("%d pages of ring %d, which nobody uses", n, ring)
		}
	}
}

// TestTouchIsLazy: a thread with few events does not make us take a whole ring.
func TestTouchIsLazy(t *testing.T) {
	s := newShared(t, minRings, 4<<20)
	m := s.newM(0, 1)
	for i := range uint64(100) {
		m.writeAt(i+1, plain(1, 0))
		s.drained(t, everything)
		s.touchAhead(s.fd)
	}
	if n := s.ringPages(t, 0); n < ahead*recordBytes/pageSize || n > 4*ahead*recordBytes/pageSize {
		t.Errorf("%d pages for 100 records", n)
	}
}

// TestFront: a thread whose records are all taken now and then stays on the first pages of its
// ring, however many it writes, and none of them is lost or read twice.
func TestFront(t *testing.T) {
	s := newShared(t, minRings, 1<<20)
	m := s.newM(0, 1)
	next, want := uint64(0), uint64(0)
	for next < 4*s.slots {
		for range 1 + rand.IntN(300) {
			recs := []raw{plain(next+1, next)}
			if rand.IntN(4) == 0 {
				recs = stack(next+1, 1+rand.IntN(maxFollow))
			}
			if next++; !m.writeAt(next, recs...) {
				t.Fatalf("record %d: no room", next)
			}
		}
		if rand.IntN(8) == 0 {
			s.relieve(0)
			continue
		}
		s.touchAhead(s.fd)
		for _, g := range s.drained(t, everything) {
			if want++; g.tsc != want || g.goid != want {
				t.Fatalf("record %d: %+v", want, g)
			}
		}
	}
	if n := s.ringPages(t, 0); n > s.ringBytes/pageSize/2 {
		t.Errorf("%d of %d pages of the ring for %d records", n, s.ringBytes/pageSize, next)
	}
}

// TestTouchWithoutFD: what cannot be touched is left to the target.
func TestTouchWithoutFD(t *testing.T) {
	s := newShared(t, minRings, 4096)
	m := s.newM(0, 1)
	for i := range 3 * s.slots {
		m.writeAt(i+1, plain(i+1, 0))
		if list := s.drained(t, everything); len(list) != 1 || list[0].goid != i+1 {
			t.Fatalf("record %d: %v", i+1, list)
		}
		s.touchAhead(-1)
	}
}

// reaper calls reap as time goes by.
type reaper struct {
	*shared
	now  int64
	dead map[uint32]bool
}

func (r *reaper) after(d time.Duration) {
	r.now += int64(d)
	r.reap(r.now, func(tid uint32) bool { return !r.dead[tid] }, r.fd)
}

func (r *reaper) owner(ring int) uint64 { return *r.headerWord(ring, ownerOffset) }

// TestReap: the ring of a thread that ended is given to another M, not before it has rested,
// and its memory is given back. head goes on from where it was.
func TestReap(t *testing.T) {
	r := &reaper{newShared(t, minRings, 1<<16), 1, map[uint32]bool{}}
	gone, lives := r.newM(3, 30), r.newM(4, 40)
	stamp := uint64(0)
	for range 700 {
		stamp++
		gone.writeAt(stamp, plain(stamp, 0))
		lives.writeAt(stamp, plain(stamp, 0))
	}
	r.dead[30] = true
	r.drained(t, everything)
	r.touchAhead(r.fd)
	r.after(0)
	if r.owner(3) != 4|retired || r.owner(4) != 5 {
		t.Fatalf("owners %#x, %#x after the first time", r.owner(3), r.owner(4))
	}
	for range 4 {
		if r.after(quiet / 5); r.owner(3) != 4|retired || r.ringPages(t, 3) == 0 {
			t.Fatalf("given away too early: owner %#x", r.owner(3))
		}
	}
	if r.after(quiet / 5); r.owner(3) != 0 || r.owner(4) != 5 {
		t.Fatalf("owners %#x, %#x after it rested", r.owner(3), r.owner(4))
	}
	if n, m := r.ringPages(t, 3), r.ringPages(t, 4); n != 0 || m == 0 {
		t.Errorf("%d pages of the free ring, %d of the other", n, m)
	}
	if head := *r.headerWord(3, headOffset); head != 700 {
		t.Errorf("head is %d", head)
	}
	next := r.newM(3+minRings, 31)
	stamp++
	next.writeAt(stamp, plain(stamp, 0))
	r.drained(t, everything)
	if r.touchAhead(r.fd); r.ringPages(t, 3) != r.ringBytes/pageSize {
		t.Errorf("%d pages when the ring is used again", r.ringPages(t, 3))
	}
	for range 3 {
		for range r.slots {
			stamp++
			if !next.writeAt(stamp, plain(stamp, 0)) {
				t.Fatal("no room in a free ring")
			}
		}
		list := r.drained(t, everything)
		if uint64(len(list)) != r.slots || list[0].m != next.id || list[0].goid != stamp-r.slots+1 || list[len(list)-1].goid != stamp {
			t.Fatalf("%d records of the next owner", len(list))
		}
		r.touchAhead(r.fd)
		r.after(time.Second)
	}
	if next.ring != 3 || r.owner(3) != uint64(next.id)+1 || r.inUse() != 2 {
		t.Errorf("ring %d, owner %#x, %d in use", next.ring, r.owner(3), r.inUse())
	}
}

// TestReapNot: what keeps a ring with its M.
func TestReapNot(t *testing.T) {
	many := 10 * quiet
	for name, f := range map[string]func(r *reaper, m *fakeM){
		"alive":           func(r *reaper, _ *fakeM) { r.dead[10] = false },
		"unknown thread":  func(r *reaper, m *fakeM) { r.list[0].tid = 0 },
		"serves C":        func(r *reaper, m *fakeM) { r.list[0].extra = true },
		"unread":          func(r *reaper, m *fakeM) { m.writeAt(900, plain(1, 0)) },
		"unread, waiting": func(r *reaper, m *fakeM) { m.writeAt(900, plain(1, 0)); r.relieve(0) },
		"not passed on": func(r *reaper, m *fakeM) {
			m.writeAt(900, plain(1, 0))
			_ = r.drain(800, func(*record) error { return nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := &reaper{newShared(t, minRings, 4096), 1, map[uint32]bool{10: true, 0: true}}
			m := r.newM(0, 10)
			m.writeAt(1, plain(1, 0))
			r.drained(t, everything)
			f(r, m)
			for range 5 {
				if r.after(many); r.owner(0) != 1 || r.ringPages(t, 0) != 1 {
					t.Fatalf("owner %#x, %d pages", r.owner(0), r.ringPages(t, 0))
				}
			}
		})
	}
}

// TestReapReturns: an M that is not gone after all takes another ring, and what it wrote to
// the old one before that is not lost.
func TestReapReturns(t *testing.T) {
	r := &reaper{newShared(t, minRings, 4096), 1, map[uint32]bool{10: true}}
	m := r.newM(0, 10)
	m.writeAt(1, plain(1, 0))
	r.drained(t, everything)
	r.after(0)
	// It had found its ring before that was retired, and publishes only now.
	r.put(0, 1, raw{2, 2 << 8, 0, 10 | 3<<32 | 0x42<<40})
	*r.headerWord(0, headOffset) = 2
	r.after(quiet)
	r.after(quiet)
	if r.owner(0) != 1|retired || r.ringPages(t, 0) == 0 {
		t.Fatalf("owner %#x while a record is unread", r.owner(0))
	}
	if !m.writeAt(3, plain(3, 0)) || m.ring != 1 {
		t.Errorf("it goes on in ring %d", m.ring)
	}
	list := r.drained(t, everything)
	r.after(quiet)
	r.put(0, 2, raw{4, 4 << 8, 0, 10 | 3<<32 | 0x42<<40})
	*r.headerWord(0, headOffset) = 3
	list = append(list, r.drained(t, everything)...)
	if r.after(quiet); r.owner(0) != 1|retired {
		t.Errorf("owner %#x: the ring has not rested since the last record", r.owner(0))
	}
	if r.after(quiet); r.owner(0) != 0 {
		t.Errorf("owner %#x at last", r.owner(0))
	}
	if diff := firstDifference(list, []got{{tsc: 2, goid: 2}, {tsc: 3, goid: 3}, {tsc: 4, goid: 4}}); diff != "" {
		t.Error(diff)
	}
}
