package inline

import (
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

// TestHostileHead: a head that cannot be is counted once, nothing is read because of it,
// and what comes after it is.
func TestHostileHead(t *testing.T) {
	for name, head := range map[string]func(tail, slots uint64) uint64{
		"behind":    func(tail, _ uint64) uint64 { return tail - 1 },
		"zero":      func(_, _ uint64) uint64 { return 0 },
		"too far":   func(tail, slots uint64) uint64 { return tail + slots + 1 },
		"last":      func(_, _ uint64) uint64 { return math.MaxUint64 },
		"far":       func(tail, _ uint64) uint64 { return tail + 1<<63 },
		"wraps":     func(_, _ uint64) uint64 { return math.MaxUint64 - 2 },
		"unaligned": func(_, slots uint64) uint64 { return slots*1000 + 77 },
	} {
		t.Run(name, func(t *testing.T) {
			s := newShared(t, minRings, 4096)
			m := s.newM(2, 20)
			for i := range uint64(10) {
				m.writeAt(i+1, plain(i, 0))
			}
			if n := len(s.drained(t, everything)); n != 10 {
				t.Fatalf("%d records", n)
			}
			bad := head(10, s.slots)
			*s.headerWord(m.ring, headOffset) = bad
			if n := len(s.drained(t, everything)); n != 0 {
				t.Errorf("%d records of a false head", n)
			}
			s.relieve(0)
			if _, _, corrupt := s.lostCounts(); corrupt != 1 {
				t.Errorf("%d corrupt", corrupt)
			}
			if tail := *s.headerWord(m.ring, tailOffset); tail != bad {
				t.Errorf("tail %d, head %d", tail, bad)
			}
			for i := range uint64(5) {
				m.writeAt(i+100, plain(i+100, 0))
			}
			if list := s.drained(t, everything); len(list) != 5 || list[0].goid != 100 || list[4].goid != 104 {
				t.Errorf("after it: %v", list)
			}
		})
	}
}

// TestIncomplete: a record without all that belongs to it is dropped with what there is, and
// counted.
func TestIncomplete(t *testing.T) {
	for _, before := range []uint64{0, 1, 253, 255, 256} {
		for _, recs := range [][]raw{birth(2, 3, 4)[:1], stack(2, 1)[:1], stack(2, 5)[:1], stack(2, 5)[:5]} {
			s := newShared(t, minRings, 1<<16)
			m := s.newM(0, 10)
			for i := range before {
				m.writeAt(i+1, plain(1, 0))
			}
			m.writeAt(before+1, recs...)
			if n := len(s.drained(t, everything)); uint64(n) != before {
				t.Errorf("%d records, want %d", n, before)
			}
			if _, _, corrupt := s.lostCounts(); corrupt != 1 || s.events != before {
				t.Errorf("%d corrupt, %d events", corrupt, s.events)
			}
			m.writeAt(before+2, plain(5, 0))
			if list := s.drained(t, everything); len(list) != 1 || list[0].goid != 5 {
				t.Errorf("after it: %v", list)
			}
		}
	}
}

// TestHostileWords: what the target does to the words that are ours, and to who owns a ring,
// changes neither which records are read nor how often.
func TestHostileWords(t *testing.T) {
	s := newShared(t, minRings, 4096)
	m := s.newM(9, 90)
	made := uint64(0)
	for range 100 {
		for range s.slots / 4 {
			made++
			if !m.writeAt(made, plain(made, 0)) {
				t.Fatal("no room")
			}
		}
		data := *s.headerWord(m.ring, dataOffset)
		*s.headerWord(m.ring, dataOffset) = rand.Uint64()
		*s.headerWord(m.ring, tailOffset) = rand.Uint64()
		*s.headerWord(m.ring, ownerOffset) = rand.Uint64()
		*s.headerWord(m.ring+1, ownerOffset) = rand.Uint64()
		list := s.drained(t, everything)
		if uint64(len(list)) != s.slots/4 || list[len(list)-1].goid != made {
			t.Fatalf("%d records, the last %+v; made %d", len(list), list[len(list)-1], made)
		}
		if tail := *s.headerWord(m.ring, tailOffset); tail != made {
			t.Fatalf("tail %d of %d", tail, made)
		}
		*s.headerWord(m.ring, dataOffset), *s.headerWord(m.ring, ownerOffset) = data, uint64(m.id)+1
	}
}

// TestHostileStamps: stamps that fall or jump neither stop the ring nor change the order in
// it, and leave the other rings as they are.
func TestHostileStamps(t *testing.T) {
	s := newShared(t, minRings, 1<<16)
	bad, good := s.newM(0, 10), s.newM(1, 11)
	for i := range uint64(1000) {
		bad.writeAt(max(1, rand.Uint64()%2000), plain(i, 0))
		good.writeAt(i+1, plain(i, 0))
	}
	bad.writeAt(math.MaxUint64, plain(1000, 0))
	bad.writeAt(1, plain(1001, 0))
	good.writeAt(5000, plain(1000, 0))
	next, key := [2]uint64{}, uint64(0)
	for _, g := range append(s.drained(t, 3000), s.drained(t, everything)...) {
		if g.goid != next[g.m] {
			t.Fatalf("M %d: record %d, want %d", g.m, g.goid, next[g.m])
		}
		next[g.m]++
		if g.tsc < key {
			t.Fatalf("stamp %d after %d", g.tsc, key)
		}
		key = g.tsc
		if g.m == 1 && g.goid < 1000 && g.tsc != g.goid+1 {
			t.Fatalf("the stamp of %d became %d", g.goid, g.tsc)
		}
	}
	if next != [2]uint64{1002, 1001} {
		t.Errorf("records %v", next)
	}
}

// TestLostNeverFalls: whatever the target writes to its counts, ours do not fall. The numbers
// are such that the sum of all rings fits.
func TestLostNeverFalls(t *testing.T) {
	s := newShared(t, minRings, 4096)
	var last [3]uint64
	for i := range 10_000 {
		v := rand.Uint64() >> (6 + rand.IntN(58))
		switch rand.IntN(3) {
		case 0:
			*(*uint64)(unsafe.Pointer(&s.mem[noRingOffset])) = v
		case 1:
			*s.headerWord(rand.IntN(s.count), headOffset) = v
		case 2:
			*s.headerWord(rand.IntN(s.count), lostOffset) = v
		}
		s.relieve(0)
		full, noRing, corrupt := s.lostCounts()
		if full < last[0] || noRing < last[1] || corrupt < last[2] {
			t.Fatalf("step %d: lost %d, without ring %d, corrupt %d; before it %d", i, full, noRing, corrupt, last)
		}
		last = [3]uint64{full, noRing, corrupt}
	}
}

// TestHostileEndless: a target that makes records as fast as they are read, with stamps
// that are always due, does not keep a drain from ending.
func TestHostileEndless(t *testing.T) {
	s := newShared(t, minRings, 4096)
	m := s.newM(0, 10)
	m.writeAt(1, plain(1, 0))
	errEndless := errors.New("endless")
	for _, limit := range []uint64{100, everything} {
		n := uint64(0)
		if err := s.drain(limit, func(*record) error {
			if n++; n > 1000*s.slots {
				return errEndless
			}
			for m.writeAt(1, plain(1, 0)) {
			}
			return nil
		}); err != nil {
			t.Errorf("limit %d: still at it after %d records of a ring of %d", limit, n, s.slots)
		}
	}
}

// TestFutureStamp: a stamp that cannot be is counted, and the ring goes on.
func TestFutureStamp(t *testing.T) {
	s := newShared(t, minRings, 4096)
	m := s.newM(0, 1)
	m.writeAt(10, plain(1, 0))
	m.writeAt(math.MaxUint64, plain(2, 0))
	m.writeAt(20, plain(3, 0))
	list := append(s.drained(t, 100), s.drained(t, 100)...)
	if len(list) != 3 || list[0].tsc != 10 || list[1].tsc != 10 || list[2].tsc != 20 {
		t.Errorf("%d records", len(list))
	}
	if _, _, corrupt := s.lostCounts(); corrupt != 1 {
		t.Errorf("%d corrupt", corrupt)
	}
}

// TestScribble: another thread writes anything anywhere while all is in use.
func TestScribble(t *testing.T) {
	s := newShared(t, minRings, 1<<14)
	var quit atomic.Bool
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for !quit.Load() {
				ring := rand.IntN(s.count)
				switch rand.IntN(4) {
				case 0:
					atomic.StoreUint64(s.headerWord(ring, rand.IntN(headerBytes/8)*8), rand.Uint64()>>rand.IntN(64))
				case 1, 2: // a head that may be true
					atomic.AddUint64(s.headerWord(ring, headOffset), rand.Uint64()%600)
				case 3:
					w := (*uint64)(unsafe.Pointer(&s.mem[rand.IntN(len(s.mem)/8)*8]))
					atomic.StoreUint64(w, rand.Uint64())
				}
			}
		})
	}
	tk := startTaker(s.rings, s.fd)
	drains := 0
	for end := time.Now().Add(time.Second); time.Now().Before(end); drains++ {
		limit, key := rand.Uint64(), uint64(0)
		if err := s.drain(limit, func(rec *record) error {
			if rec.tsc >= limit || rec.tsc < key || len(rec.rest) != testFollow(rec.raw) {
				t.Errorf("limit %d, after %d: %d %x %v", limit, key, rec.tsc, *rec.raw, rec.rest)
			}
			key = rec.tsc
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		s.lostCounts()
		s.inUse()
		s.reap(time.Now().UnixNano(), func(tid uint32) bool { return tid%2 == 0 }, s.fd)
	}
	quit.Store(true)
	wg.Wait()
	tk.stop()
	s.drained(t, everything)
	if left := s.relieve(2); left != 0 || s.queued != 0 {
		t.Errorf("%d records wait, a ring is at %v", s.queued, left)
	}
	if _, _, corrupt := s.lostCounts(); drains == 0 || s.events == 0 || corrupt == 0 {
		t.Errorf("%d drains, %d events, %d corrupt: nothing was tested", drains, s.events, corrupt)
	}
}

// fuzzer reads its steps from bytes.
type fuzzer struct {
	*shared
	in  []byte
	now int64
}

// num is the next number; when the bytes are at their end, 0.
func (f *fuzzer) num() uint64 {
	var b [8]byte
	n := copy(b[:], f.in)
	f.in = f.in[n:]
	return binary.LittleEndian.Uint64(b[:])
}

func (f *fuzzer) small() int {
	if len(f.in) == 0 {
		return 0
	}
	b := f.in[0]
	f.in = f.in[1:]
	return int(b)
}

// FuzzRings: no content of the shared memory makes the reader panic, read outside, break its
// promises about order or limit, count backwards or go on for ever.
func FuzzRings(f *testing.F) {
	f.Add([]byte{1, 0, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 2, 255, 255, 255, 255, 255, 255, 255, 255})
	f.Add([]byte{0, 2, 1, 255, 255, 255, 255, 255, 255, 255, 255, 3, 0, 2, 9})
	f.Add([]byte{1, 5, 128, 3, 0, 5, 200, 5, 200, 4, 6, 2, 1, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		x := &fuzzer{shared: newShared(t, minRings, 4096), in: in, now: 1}
		var noRing, corrupt uint64
		for len(x.in) > 0 {
			x.step(t)
			_, n, c := x.lostCounts()
			if n < noRing || c < corrupt {
				t.Fatalf("%d without ring, %d corrupt after %d, %d", n, c, noRing, corrupt)
			}
			noRing, corrupt = n, c
		}
		x.check(t, everything)
		if left := x.relieve(2); left != 0 || x.queued != 0 {
			t.Fatalf("%d records wait, a ring is at %v", x.queued, left)
		}
	})
}

// store is put, wherever the header says that the records are.
func (f *fuzzer) store(ring int, at uint64, w raw) {
	off := f.recordsAt(ring) + int(at&(f.slots-1))*recordBytes
	for i, v := range w {
		binary.LittleEndian.PutUint64(f.mem[off+i*8:], v)
	}
}

func (f *fuzzer) step(t *testing.T) {
	switch f.small() % 8 {
	case 0:
		ring, word := f.small()%f.count, f.small()%(headerBytes/8)
		*f.headerWord(ring, word*8) = f.num()
	case 1: // records, of which the first few are given
		ring, n := f.small()%f.count, uint64(f.small())
		head := f.headerWord(ring, headOffset)
		for i := range min(n, 4) {
			f.store(ring, *head+i, raw{f.num(), f.num(), f.num(), f.num()})
		}
		*head += n
	case 2:
		f.check(t, f.num())
	case 3:
		f.relieve(float64(f.small()) / 255)
	case 4:
		f.touchAhead(f.fd)
	case 5:
		f.now += int64(f.small()) * int64(time.Millisecond)
		f.reap(f.now, func(tid uint32) bool { return tid%2 == 0 }, f.fd)
	case 6:
		binary.LittleEndian.PutUint64(f.mem[noRingOffset:], f.num())
	case 7: // the first record of several in the last place of the ring
		ring := f.small() % f.count
		*f.headerWord(ring, headOffset) |= f.slots - 1
		f.store(ring, f.slots-1, change(stackSite, 2, 4, 1, f.num(), 0, 0))
		*f.headerWord(ring, headOffset) += uint64(f.small() % 3)
	}
}

// check drains, with an error now and then.
func (f *fuzzer) check(t *testing.T, limit uint64) {
	stop := errors.New("stop")
	most, n, key := f.queued+f.count*(int(f.slots)+len(chunk{}.recs)), 0, uint64(0)
	fail := f.small()
	if limit == everything {
		fail = 0
	}
	err := f.drain(limit, func(rec *record) error {
		n++
		if rec.tsc >= limit || rec.tsc < key || n > most || len(rec.rest) != testFollow(rec.raw) {
			t.Fatalf("record %d of at most %d, limit %d, after %d: %d %x %v", n, most, limit, key, rec.tsc, *rec.raw, rec.rest)
		}
		key = rec.tsc
		if fail > 0 && n%fail == 0 {
			return stop
		}
		return nil
	})
	if err != nil && !errors.Is(err, stop) {
		t.Fatal(err)
	}
}

// TestLostSum: the sum of what the target claims to have lost does not wrap.
func TestLostSum(t *testing.T) {
	s := newShared(t, minRings, 4096)
	*s.headerWord(0, lostOffset) = math.MaxUint64
	before, _, _ := s.lostCounts()
	*s.headerWord(1, lostOffset) = 10
	if full, _, _ := s.lostCounts(); full < before {
		t.Errorf("%d lost after %d", full, before)
	}
}
