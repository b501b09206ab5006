package inline

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"gopherscope/internal/tsc"
)

// shared is the rings' memory with both of its mappings: that of the reader, which
// rings has, and one that stands for the target's, at another address.
type shared struct {
	*rings
	fd    int
	mem   []byte // the target's mapping
	at    uint64 // its address
	count int
}

// stackSite is the site whose records in the tests have others behind them, as many
// as other says; a birth's have one.
const stackSite = 9

func testFollow(w *raw) int {
	switch site, from, to := w.what(); {
	case site == stackSite:
		return int(min(w.other(), maxFollow))
	case site < 8 && from == 6 && (to == 1 || to == 4):
		return 1
	}
	return 0
}

// newShared makes sealed memory as the engine does.
func newShared(t testing.TB, count, ringBytes int) *shared {
	t.Helper()
	fd, err := unix.MemfdCreate("rings-test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	size := ringsSize(count, ringBytes)
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		t.Fatal(err)
	}
	s := &shared{fd: fd, count: count}
	var maps [2][]byte
	for i := range maps {
		if maps[i], err = unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, m := range maps {
			_ = unix.Munmap(m)
		}
		_ = unix.Close(fd)
	})
	s.mem, s.at = maps[1], uint64(uintptr(unsafe.Pointer(&maps[1][0])))
	if s.rings, err = newRings(maps[0], s.at, count, ringBytes, testFollow); err != nil {
		t.Fatal(err)
	}
	return s
}

// headerWord is a word of a ring's header in the target's mapping.
func (s *shared) headerWord(ring, off int) *uint64 {
	return (*uint64)(unsafe.Pointer(&s.mem[pageSize+ring*headerBytes+off]))
}

// put stores one record at a place of a ring, in the target's mapping, where the
// header says that the records are.
func (s *shared) put(ring int, at uint64, w raw) {
	at -= *s.headerWord(ring, baseOffset)
	off := *s.headerWord(ring, dataOffset) - s.at + at&(s.slots-1)*recordBytes
	for i, v := range w {
		binary.LittleEndian.PutUint64(s.mem[off+uint64(i)*8:], v)
	}
}

// fakeM writes to the rings what an M of a target does, by the steps of
// asm/probe_amd64.S.
type fakeM struct {
	s    *shared
	id   int64
	tid  uint32
	ring int
	lost uint64 // records for which there was no room or no ring
}

func (s *shared) newM(id int64, tid uint32) *fakeM {
	return &fakeM{s: s, id: id, tid: tid}
}

// find gets the M its ring, as BEGIN does.
func (m *fakeM) find() bool {
	const tries = 16
	mine := uint64(m.id) + 1
	for i := range tries {
		m.ring = (int(m.id) + i) & (m.s.count - 1)
		owner := m.s.headerWord(m.ring, ownerOffset)
		if v := atomic.LoadUint64(owner); v == mine || v == 0 && atomic.CompareAndSwapUint64(owner, 0, mine) {
			return true
		}
	}
	atomic.AddUint64((*uint64)(unsafe.Pointer(&m.s.mem[noRingOffset])), 1)
	return false
}

// room says whether n records fit.
func (m *fakeM) room(n uint64) bool {
	head, tail := *m.s.headerWord(m.ring, headOffset), atomic.LoadUint64(m.s.headerWord(m.ring, tailOffset))
	return head+n-1-tail < m.s.slots
}

// write publishes records with the stamp of now, or counts them as one loss.
func (m *fakeM) write(recs ...raw) bool {
	return m.writeAt(0, recs...)
}

// writeAt is write with a stamp that was made before; 0 is now.
func (m *fakeM) writeAt(stamp uint64, recs ...raw) bool {
	if !m.find() {
		m.lost++
		return false
	}
	if !m.room(uint64(len(recs))) {
		atomic.AddUint64(m.s.headerWord(m.ring, lostOffset), 1)
		m.lost++
		return false
	}
	if recs[0][0] = stamp; stamp == 0 {
		recs[0][0] = tsc.Now()
	}
	recs[0][3] |= uint64(m.tid)
	head := m.s.headerWord(m.ring, headOffset)
	if *head == atomic.LoadUint64(m.s.headerWord(m.ring, tailOffset)) {
		atomic.StoreUint64(m.s.headerWord(m.ring, baseOffset), *head)
	}
	for i, w := range recs {
		m.s.put(m.ring, *head+uint64(i), w)
	}
	atomic.StoreUint64(head, *head+uint64(len(recs)))
	return true
}

// change is the record of a change of a goroutine, without stamp and thread.
func change(site, from, to uint8, goid, other uint64, reason uint8, p int16) raw {
	return raw{0, goid<<8 | uint64(reason), other, uint64(site)<<32 | uint64(from|to<<4)<<40 | uint64(uint16(p))<<48}
}

// birth is both records of one.
func birth(goid, gopc, startpc uint64) []raw {
	return []raw{change(1, 6, 1, goid, 1, 0, 0), {gopc, startpc}}
}

// plain is a record of which only these two matter.
func plain(goid, other uint64) raw { return change(3, 2, 4, goid, other, 7, 1) }

// stack is a record with n random ones behind it.
func stack(goid uint64, n int) []raw {
	recs := []raw{change(stackSite, 2, 4, goid, uint64(n), 7, 1)}
	for range n {
		recs = append(recs, raw{rand.Uint64() >> rand.IntN(64), rand.Uint64(), rand.Uint64(), rand.Uint64()})
	}
	return recs
}

// got is what a test keeps of a record.
type got struct {
	tsc, goid, other uint64
	m                int64
	rest             int // records that belong to it, and what they are
	more             [maxFollow]raw
}

func keep(rec *record) got {
	g := got{rec.tsc, rec.raw.goid(), rec.raw.other(), rec.ring.m, len(rec.rest), [maxFollow]raw{}}
	copy(g.more[:], rec.rest)
	return g
}

// of is what is to come of records that an M wrote.
func of(m *fakeM, stamp uint64, recs []raw) got {
	g := got{stamp, recs[0].goid(), recs[0].other(), m.id, len(recs) - 1, [maxFollow]raw{}}
	copy(g.more[:], recs[1:])
	return g
}

// drained is what a drain passes on.
func (s *shared) drained(t testing.TB, limit uint64) []got {
	t.Helper()
	var list []got
	if err := s.drain(limit, func(rec *record) error {
		list = append(list, keep(rec))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestNewRingsRefuses(t *testing.T) {
	for _, c := range []struct {
		count, ringBytes, more int
		ok                     bool
	}{
		{64, 4096, 0, true}, {4096, 4096, 0, true}, {128, 1 << 16, 0, true},
		{32, 4096, 0, false}, {8192, 4096, 0, false}, {65, 4096, 0, false}, {0, 4096, 0, false},
		{64, 2048, 0, false}, {64, 5000, 0, false}, {64, 0, 0, false},
		{64, 4096, -1, false}, {64, 4096, 4096, false},
	} {
		r, err := newRings(make([]byte, ringsSize(c.count, c.ringBytes)+c.more), 1<<30, c.count, c.ringBytes, testFollow)
		if (err == nil) != c.ok || (r != nil) != c.ok {
			t.Errorf("%d rings of %d bytes, memory %+d: %v", c.count, c.ringBytes, c.more, err)
		}
	}
}

// TestRecordFields: every field at both ends of its range comes out as it was put in.
func TestRecordFields(t *testing.T) {
	s := newShared(t, minRings, 4096)
	for i, c := range []struct {
		site, from, to, reason uint8
		goid, other            uint64
		tid                    uint32
		p                      int16
	}{
		{0, 0, 0, 0, 1, 0, 0, 0},
		{255, 15, 15, 255, 1<<56 - 1, math.MaxUint64, math.MaxUint32, math.MaxInt16},
		{254, 15, 0, 0, 1, 1, 1, -1},
		{16, 0, 15, 128, 1 << 55, 1 << 63, 1 << 31, math.MinInt16},
	} {
		m := s.newM(int64(i)*3, c.tid)
		stamp := uint64(1000 + i)
		m.writeAt(stamp, change(c.site, c.from, c.to, c.goid, c.other, c.reason, c.p))
		n := 0
		if err := s.drain(everything, func(rec *record) error {
			n++
			site, from, to := rec.raw.what()
			if site != c.site || from != c.from || to != c.to || rec.raw.reason() != c.reason || rec.raw.goid() != c.goid ||
				rec.raw.other() != c.other || rec.raw.tid() != c.tid || rec.raw.p() != int32(c.p) ||
				rec.tsc != stamp || rec.ring.m != m.id || len(rec.rest) != 0 {
				t.Errorf("wrote %+v, read %x of M %d at %d", c, *rec.raw, rec.ring.m, rec.tsc)
			}
			return nil
		}); err != nil || n != 1 {
			t.Fatalf("%d records, %v", n, err)
		}
	}
}

// TestLostCounted: what does not fit is counted, all that fits arrives, and afterwards
// there is room again, over several laps and with births and stacks, which need more than one place.
func TestLostCounted(t *testing.T) {
	s := newShared(t, minRings, 4096)
	m := s.newM(5, 50)
	made, lost := uint64(0), uint64(0)
	for lap := range uint64(5) {
		want := []got{}
		for i := range s.slots + 10 {
			made++
			recs := []raw{plain(made, i)}
			switch i % 4 {
			case 1:
				recs = birth(made, lap, i)
			case 3:
				recs = stack(made, int(i/4)%(maxFollow+1))
			}
			if m.writeAt(made, recs...) {
				want = append(want, of(m, made, recs))
			} else {
				lost++
			}
		}
		if m.lost != lost || lost == 0 {
			t.Fatalf("%d lost, the M says %d", lost, m.lost)
		}
		if diff := firstDifference(s.drained(t, everything), want); diff != "" {
			t.Fatalf("lap %d: %s", lap, diff)
		}
	}
	if full, noRing, corrupt := s.lostCounts(); full != lost || noRing != 0 || corrupt != 0 {
		t.Errorf("%d lost, %d without ring, %d corrupt; want %d", full, noRing, corrupt, lost)
	}
	if s.events+lost != made {
		t.Errorf("%d events and %d lost of %d", s.events, lost, made)
	}
}

// TestNoRing: an M that finds no ring is counted, too.
func TestNoRing(t *testing.T) {
	s := newShared(t, minRings, 4096)
	for id := range int64(minRings) {
		s.newM(id, uint32(id)+1).writeAt(uint64(id)+1, plain(1, 0))
	}
	late := s.newM(minRings+3, 99)
	for range 7 {
		late.write(plain(2, 0))
	}
	if n := len(s.drained(t, everything)); n != minRings {
		t.Errorf("%d records", n)
	}
	if full, noRing, corrupt := s.lostCounts(); full != 0 || noRing != 7 || corrupt != 0 {
		t.Errorf("%d lost, %d without ring, %d corrupt", full, noRing, corrupt)
	}
	if n := s.inUse(); n != minRings {
		t.Errorf("%d rings in use", n)
	}
}

// TestRelieve: records that wait come before those that are still in the ring, and
// only the rings that are full enough are relieved.
func TestRelieve(t *testing.T) {
	s := newShared(t, minRings, 1<<16)
	a, b := s.newM(0, 10), s.newM(1, 11)
	n := uint64(0)
	for range 10 {
		for range s.slots / 2 {
			n++
			a.writeAt(n, plain(n, 0))
		}
		n++
		b.writeAt(n, plain(n, 0))
		if fill := s.relieve(0.4); fill != 0.5 {
			t.Fatalf("fullest %v", fill)
		}
		if fill := s.relieve(0.4); fill >= 0.4 {
			t.Fatalf("fullest %v after all was taken", fill)
		}
	}
	if s.list[1].tail != 0 || len(s.list[1].waiting) != 0 {
		t.Error("a ring that is nearly empty was relieved")
	}
	list := s.drained(t, everything)
	for i, g := range list {
		if g.goid != uint64(i)+1 {
			t.Fatalf("record %d is %+v", i, g)
		}
	}
	if uint64(len(list)) != n || a.lost+b.lost != 0 || s.queued != 0 {
		t.Errorf("%d of %d records, %d lost, %d still wait", len(list), n, a.lost+b.lost, s.queued)
	}
}

// TestRelieveBounded: the memory for what waits has an end, at which the rings stay full
// and the probes count.
func TestRelieveBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 250 MiB")
	}
	s := newShared(t, minRings, 1<<20)
	total := 0
	for total < maxQueued+minRings*int(s.slots) {
		for i := range s.count {
			free := s.slots - (*s.headerWord(i, headOffset) - s.list[i].tail)
			*s.headerWord(i, headOffset) += free
			total += int(free)
		}
		s.relieve(0)
		if s.queued > maxQueued {
			t.Fatalf("%d records wait", s.queued)
		}
	}
	if fill := s.relieve(0); fill != 1 || s.queued != maxQueued {
		t.Errorf("%d records wait, the fullest ring is at %v", s.queued, fill)
	}
	n := 0
	if err := s.drain(everything, func(*record) error { n++; return nil }); err != nil || n != total || s.queued != 0 {
		t.Errorf("%d of %d records, %d still wait, %v", n, total, s.queued, err)
	}
}

func TestRingBytes(t *testing.T) {
	for _, tt := range []struct{ n, procs, want int }{
		{0, 1, 16 << 20}, {0, 4, 16 << 20}, {0, 6, 16 << 20}, {0, 8, 8 << 20}, {0, 100, 2 << 20},
		{1, 4, pageSize}, {100 << 10, 4, 128 << 10}, {3 << 30, 4, 1 << 30},
	} {
		if got := ringBytes(tt.n, tt.procs); got != tt.want {
			t.Errorf("ringBytes(%d, %d) = %d, want %d", tt.n, tt.procs, got, tt.want)
		}
	}
}
