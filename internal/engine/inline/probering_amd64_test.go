package inline

import (
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gopherscope/internal/goruntime"
)

// needs says, by template, how many places must be free in the ring.
var needs = map[string]uint64{
	"cas": 2, "birth0": 2, "birth1": 2, "selfg": 1, "self0": 1, "switch": 2,
	"park": 1 + maxDepth/4, "enter": 1 + maxDepth/4, "entersys": 1 + maxDepth/4, "block": 1 + maxDepth/4,
	"casborn": 2 + maxDepth/4, "birthat0": 2 + maxDepth/4, "birthat1": 2 + maxDepth/4,
}

// someChange is the registers for a template to record something: a birth, where it can.
func (l *lab) someChange(template string) map[int]uint64 {
	set := map[int]uint64{rdx: cookieFor(1, goruntime.Running, goruntime.Syscall, 0), rax: l.addr + labG1, rbx: l.addr + labG1}
	switch template {
	case "cas", "casborn":
		set[rbx], set[rcx] = uint64(goruntime.Dead), uint64(goruntime.Runnable)
	case "park", "block":
		set[rbx], set[rcx] = uint64(goruntime.Running), uint64(goruntime.Waiting)
	}
	return set
}

// TestFull: without room for all that a template may write it writes nothing and counts one
// loss; with just as much room it writes.
func TestFull(t *testing.T) {
	for template, need := range needs {
		for free := range need + 2 {
			for _, head := range []uint64{0, 77, 127, 128, 1 << 40} {
				l := smallLab(t, false, head)
				*l.headerWord(labRing, tailOffset) = head - (l.slots - free)
				*l.headerWord(labRing, lostOffset) = 41
				if free < need {
					l.expect(t, template, l.someChange(template), []store{{l.headerAt(labRing, lostOffset), 42}}, nil)
					continue
				}
				l.run(t, template, l.someChange(template))
				if now, lost := *l.headerWord(labRing, headOffset), *l.headerWord(labRing, lostOffset); now-head == 0 || now-head > free || lost != 41 {
					t.Errorf("%s with %d free: head from %d to %d, lost %d", template, free, head, now, lost)
				}
			}
		}
	}
}

// TestFullElsewhere: the same, of a ring that the M had to look for or takes now.
func TestFullElsewhere(t *testing.T) {
	for template := range needs {
		for _, owner := range []uint64{0, labOwner} {
			l := smallLab(t, false, 0)
			*l.headerWord(labRing, ownerOffset) = 99
			*l.headerWord(labRing+1, ownerOffset) = owner
			*l.headerWord(labRing+1, headOffset) = l.slots
			l.expect(t, template, l.someChange(template),
				[]store{{l.headerAt(labRing+1, lostOffset), 1}, {l.headerAt(labRing+1, ownerOffset), labOwner}}, nil)
		}
	}
}

// TestFullChange: a plain change needs as much room as a birth, as it is not known at first
// which it is; this says so, as the reader's counts rely on a loss being one event.
func TestFullChange(t *testing.T) {
	l := smallLab(t, false, 300)
	*l.headerWord(labRing, tailOffset) = 300 - (l.slots - 1)
	l.expect(t, "cas", map[int]uint64{rax: l.addr + labG1, rbx: uint64(goruntime.Running), rcx: uint64(goruntime.Waiting)},
		[]store{{l.headerAt(labRing, lostOffset), 1}}, nil)
}

// TestBadTail: a tail that is ahead of the head, which only somebody else can have written,
// is taken for a full ring.
func TestBadTail(t *testing.T) {
	for template := range needs {
		l := smallLab(t, false, 300)
		*l.headerWord(labRing, tailOffset) = 350
		l.expect(t, template, l.someChange(template), []store{{l.headerAt(labRing, lostOffset), 1}}, nil)
	}
}

// TestOff: without rings nothing is written anywhere.
func TestOff(t *testing.T) {
	for template := range needs {
		for _, owned := range []bool{false, true} {
			l := newLab(t, newShared(t, minRings, pageSize), false)
			if owned {
				l.own(7)
			}
			l.put(labControl, 0)
			l.expect(t, template, l.someChange(template), nil, nil)
		}
	}
}

// TestClaim: an M takes its own ring or the first one that is free, from its home on and
// around the end, and no ring after so many tries.
func TestClaim(t *testing.T) {
	const tries = 16
	for _, test := range []struct {
		name   string
		id     uint64
		home   int
		others int // rings from home on that are others'
		mine   int // a ring from home on that is this M's already; -1: none
		want   int // from home on; -1: none
	}{
		{"home", 3, 3, 0, -1, 0},
		{"home, M 0", 0, 0, 0, -1, 0},
		{"owned", 3, 3, 0, 0, 0},
		{"next", 3, 3, 1, -1, 1},
		{"owned next", 3, 3, 1, 1, 1},
		{"far", 3, 3, 7, -1, 7},
		{"owned far", 3, 3, 9, 9, 9},
		{"large id", 64*1000 + 5, 5, 2, -1, 2},
		{"larger id", 1<<40 + 63, 63, 0, -1, 0},
		{"around", 62, 62, 2, -1, 2},
		{"around, owned", 127, 63, 5, 5, 5},
		{"last try", 60, 60, tries - 1, -1, tries - 1},
		{"last try, owned", 60, 60, tries - 1, tries - 1, tries - 1},
		{"none", 60, 60, tries, -1, -1},
		{"owned too far", 60, 60, tries, tries, -1},
		{"all others'", 1000, 1000 & 63, minRings, -1, -1},
	} {
		for template := range needs {
			t.Run(test.name+"/"+template, func(t *testing.T) {
				l := newLab(t, newShared(t, minRings, pageSize), false)
				l.put(labM+uint64(labLayout.M.ID), test.id)
				ring := func(i int) int { return (test.home + i) % minRings }
				for i := range test.others {
					*l.headerWord(ring(i), ownerOffset) = 5_000_000 + uint64(i)
				}
				if test.others > 1 { // one is this M's no more
					*l.headerWord(ring(1), ownerOffset) = (test.id + 1) | retired
				}
				if test.mine >= 0 {
					*l.headerWord(ring(test.mine), ownerOffset) = test.id + 1
				}
				if test.want < 0 {
					l.expect(t, template, l.someChange(template), []store{{noRingOffset, 1}}, nil)
					return
				}
				owners := l.owners()
				owners[ring(test.want)] = test.id + 1
				l.run(t, template, l.someChange(template))
				for i, owner := range l.owners() {
					if owner != owners[i] {
						t.Errorf("ring %d is of %d, want %d", i, owner, owners[i])
					}
					if head := *l.headerWord(i, headOffset); (head != 0) != (i == ring(test.want)) {
						t.Errorf("%d records in ring %d, want them in %d", head, i, ring(test.want))
					}
				}
			})
		}
	}
}

func (l *lab) owners() []uint64 {
	list := make([]uint64, l.count)
	for i := range list {
		list[i] = *l.headerWord(i, ownerOffset)
	}
	return list
}

// TestClaimRace: of two Ms that want the same ring at the same moment, each gets one of its
// own and loses nothing.
func TestClaimRace(t *testing.T) {
	const home, most, limit = 9, 200_000, time.Second
	s := newShared(t, minRings, pageSize)
	var ms [2]*lab
	for i := range ms {
		ms[i] = newLab(t, s, false)
		ms[i].put(labM+uint64(labLayout.M.ID), uint64(i*minRings+home))
		ms[i].prepare(ms[i].someChange("selfg"))
	}
	hit := func(l *lab, late uint64) {
		for range late { // one sees later than the other that it is time
			runtime.KeepAlive(l)
		}
		pass(uintptr(l.entries["selfg"]), uintptr(l.addr), 1)
	}
	var turn, done atomic.Uint64 // rounds begun, and those that the other M has ended
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := uint64(1); ; i++ {
			for turn.Load() < i {
			}
			if turn.Load() == math.MaxUint64 {
				return
			}
			hit(ms[1], 0)
			done.Store(i)
		}
	})
	seen, rounds := map[[3]uint64]int{}, 0
	for end := time.Now().Add(limit); rounds < most && time.Now().Before(end); {
		rounds++
		turn.Add(1)
		hit(ms[0], rand.Uint64N(300))
		for done.Load() < uint64(rounds) {
		}
		var got [3]uint64 // owner and head of each ring
		for k := range got {
			ring := home + k
			owner, head := s.headerWord(ring, ownerOffset), s.headerWord(ring, headOffset)
			got[k] = *owner<<8 | *head
			*owner, *head = 0, 0
		}
		seen[got]++
	}
	turn.Store(math.MaxUint64)
	wg.Wait()
	one, other := uint64(home+1)<<8|1, uint64(minRings+home+1)<<8|1
	first, second := seen[[3]uint64{one, other}], seen[[3]uint64{other, one}]
	if first+second != rounds {
		t.Errorf("owners and records of the rings, in %d rounds: %x", rounds, seen)
	}
	t.Logf("%d rounds; the one M came first in %d, the other in %d", rounds, first, second)
}
