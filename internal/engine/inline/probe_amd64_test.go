package inline

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"gopherscope/internal/engine/probes"
	"gopherscope/internal/goruntime"
)

// labRing is the ring of the lab's M, and labOwner its mark there.
const (
	labRing  = 3
	labOwner = 4
)

// smallLab is a lab with the smallest rings, in which the M has its ring already and
// has written head records, of which all have been taken, or all but the last one.
func smallLab(t *testing.T, noParent bool, head uint64) *lab {
	t.Helper()
	l := newLab(t, newShared(t, minRings, pageSize), noParent)
	l.own(head)
	return l
}

func (l *lab) own(head uint64) {
	*l.headerWord(labRing, ownerOffset) = labOwner
	*l.headerWord(labRing, headOffset) = head
	*l.headerWord(labRing, tailOffset) = head - rand.Uint64N(2)
	*l.headerWord(labRing, baseOffset) = head - rand.Uint64N(3*l.slots)
}

// labChange is what a record is expected to say.
type labChange struct {
	site     uint8
	from, to goruntime.Status
	g        int // which of the lab's goroutines
	other    uint64
	noP      bool
}

// words are the last three of the record.
func (c *labChange) words() [3]uint64 {
	p := uint64(17)
	if c.noP {
		p = 0xffff
	}
	return [3]uint64{
		uint64(1000+c.g)<<8 | uint64(20+c.g), c.other,
		0x23456789 | uint64(c.site)<<32 | uint64(c.from)<<40 | uint64(c.to)<<44 | p<<48,
	}
}

// records are the stores of some records at head, and of the head after them.
func (l *lab) records(head uint64, list ...labChange) ([]store, stamps) {
	var want []store
	var at stamps
	for i := range list {
		off := l.recordAt(labRing, head+uint64(i))
		at = append(at, off)
		for k, v := range list[i].words() {
			want = append(want, store{off + 8 + 8*k, v})
		}
	}
	if len(list) > 0 {
		want = append(want, store{l.headerAt(labRing, headOffset), head + uint64(len(list))})
	}
	return want, at
}

// birth is records of a birth, which is followed by where the goroutine comes from.
func (l *lab) birth(head uint64, c labChange) ([]store, stamps) {
	want, at := l.records(head, c)
	g := uint64(labG0 + 512*c.g)
	next := l.recordAt(labRing, head+1)
	return append(want,
		store{next, l.word(g + uint64(labLayout.G.GoPC))},
		store{next + 8, l.word(g + uint64(labLayout.G.StartPC))},
		store{l.headerAt(labRing, headOffset), head + 2}), at
}

// dirty is a value of 32 bits as it may be in a register: the upper half is anything.
func dirty(v goruntime.Status) uint64 { return rand.Uint64()<<32 | uint64(v) }

// heads are where the next record goes: the first place, the last one, any, and after very
// many.
var heads = []uint64{0, 127, 128, 77, 1<<40 - 1, 1<<63 + 5}

const scan = goruntime.ScanBit

// TestCas: each change that the runtime makes, and none that it does not tell of.
func TestCas(t *testing.T) {
	for _, test := range []struct {
		from, to     goruntime.Status
		oldBit, bit  uint64
		flags        probes.Flags
		noCurG, noP  bool
		want, parent uint64 // the other goroutine
	}{
		{from: goruntime.Running, to: goruntime.Waiting},
		{from: goruntime.Waiting, to: goruntime.Runnable, flags: probes.Waker, want: 1001},
		{from: goruntime.Waiting, to: goruntime.Runnable, flags: probes.Waker, noCurG: true},
		{from: goruntime.Waiting, to: goruntime.Runnable},
		{from: goruntime.Runnable, to: goruntime.Running},
		{from: goruntime.Running, to: goruntime.Runnable, noP: true},
		{from: goruntime.Running, to: goruntime.Dead},
		{from: goruntime.Running, to: goruntime.Preempted, bit: scan},
		{from: goruntime.Preempted, to: goruntime.Waiting, flags: probes.Attempt},
		{from: goruntime.Waiting, to: goruntime.Leaked},
		{from: goruntime.Dead, to: goruntime.Syscall, noP: true},
		{from: goruntime.DeadExtra, to: goruntime.Syscall, noCurG: true},
		{from: goruntime.Syscall, to: goruntime.DeadExtra, flags: probes.Attempt | probes.GInArg1 | probes.GInArg0},
		{from: goruntime.Waiting, to: goruntime.Running, oldBit: scan, bit: scan, flags: probes.Waker, want: 1001},
		{from: goruntime.Dead, to: goruntime.Dead},
	} {
		for _, head := range heads {
			l := smallLab(t, head%2 == 0, head)
			l.without(test.noCurG, test.noP)
			site := uint8(rand.Uint32())
			want, at := l.records(head, labChange{site, test.from, test.to, 2, test.want, test.noP})
			l.expect(t, "cas", map[int]uint64{
				rdx: cookieFor(site, 0, 0, test.flags), rax: l.addr + labG2,
				rbx: dirty(test.from) | test.oldBit, rcx: dirty(test.to) | test.bit,
			}, want, at)
		}
	}
}

// without takes the M's goroutine or P away.
func (l *lab) without(curg, p bool) {
	if curg {
		l.put(labM+uint64(labLayout.M.CurG), 0)
	}
	if p {
		l.put(labM+uint64(labLayout.M.P), 0)
	}
}

// cookieFor is DX after a stub.
func cookieFor(site uint8, from, to goruntime.Status, flags probes.Flags) uint64 {
	return uint64(cookie(site, &probes.Site{From: from, To: to}) | uint32(flags)<<24)
}

// TestCasIdle: a goroutine that was just allocated is none yet.
func TestCasIdle(t *testing.T) {
	for to := range goruntime.Status(12) {
		for _, bit := range []uint64{0, scan} {
			l := smallLab(t, false, 5)
			// The place of the next record is the M's: that it was begun says nothing.
			l.expect(t, "cas", map[int]uint64{
				rdx: cookieFor(9, 0, 0, probes.Waker), rax: l.addr + labG2, rbx: dirty(goruntime.Idle) | bit, rcx: dirty(to),
			}, nil, stamps{l.recordAt(labRing, 5)})
		}
	}
}

// TestBirths: a birth is two records, with the parent by g.parentGoid where there is one,
// else by who executes newproc1, else 0.
func TestBirths(t *testing.T) {
	for _, test := range []struct {
		template string
		g        int // the register that has the goroutine
	}{{"cas", rax}, {"birth0", rax}, {"birth1", rbx}} {
		for _, to := range []goruntime.Status{goruntime.Runnable, goruntime.Waiting} {
			for i := range 8 {
				noParent, noCurG, noP := i&1 != 0, i&2 != 0, i&4 != 0
				parent := uint64(2002)
				switch {
				case noParent && noCurG:
					parent = 0
				case noParent:
					parent = 1001
				}
				for _, head := range heads {
					t.Run(fmt.Sprintf("%s/%v/%d/%d", test.template, to, i, head), func(t *testing.T) {
						l := smallLab(t, noParent, head)
						l.without(noCurG, noP)
						bit := rand.Uint64() & scan
						l.put32(labG2+uint64(labLayout.G.Status), uint32(to)|uint32(bit))
						set := map[int]uint64{rdx: cookieFor(200, 0, 0, probes.Waker), test.g: l.addr + labG2}
						if test.template == "cas" {
							set[rbx], set[rcx] = dirty(goruntime.Dead), dirty(to)|bit
						}
						want, at := l.birth(head, labChange{200, goruntime.Dead, to, 2, parent, noP})
						l.expect(t, test.template, set, want, at)
					})
				}
			}
		}
	}
}

func (l *lab) put32(off uint64, v uint32) { binary.LittleEndian.PutUint32(l.pages[off:], v) }

// TestSelf: the change is the cookie's; who makes it is the current g or the argument.
func TestSelf(t *testing.T) {
	for template, g := range map[string]int{"selfg": 0, "self0": 1} {
		for from := range goruntime.Status(12) {
			for to := range goruntime.Status(12) {
				head := heads[rand.IntN(len(heads))]
				l := smallLab(t, false, head)
				noP, site, flags := rand.IntN(2) == 0, uint8(rand.Uint32()), probes.Flags(rand.Uint32())
				l.without(rand.IntN(2) == 0, noP)
				want, at := l.records(head, labChange{site, from, to, g, 0, noP})
				l.expect(t, template, map[int]uint64{rdx: cookieFor(site, from, to, flags), rax: l.addr + labG1}, want, at)
			}
		}
	}
}

// TestSwitch: one goroutine leaves and another comes, at the same time; one that ends is
// reported elsewhere. Without a coroutine there is nothing to tell.
func TestSwitch(t *testing.T) {
	leaves := labChange{site: 77, from: goruntime.Running, to: goruntime.Waiting, g: 1}
	comes := labChange{site: 77, from: goruntime.Waiting, to: goruntime.Running, g: 2}
	for name, test := range map[string]struct {
		prepare func(l *lab)
		want    []labChange
	}{
		"both":    {func(*lab) {}, []labChange{leaves, comes}},
		"exit":    {func(l *lab) { l.pages[labG1+uint64(labLayout.G.CoroExit)] = 1 }, []labChange{comes}},
		"no coro": {func(l *lab) { l.put(labG1+uint64(labLayout.G.CoroArg), 0) }, nil},
		"no g":    {func(l *lab) { l.put(labC+uint64(labLayout.Coro.G), 0) }, nil},
	} {
		for _, head := range heads {
			t.Run(fmt.Sprintf("%s/%d", name, head), func(t *testing.T) {
				l := smallLab(t, false, head)
				test.prepare(l)
				want, at := l.records(head, test.want...)
				if test.want == nil {
					at = stamps{l.recordAt(labRing, head)} // begun, not published
				}
				l.expect(t, "switch", map[int]uint64{rdx: cookieFor(77, 0, 0, 0), rax: l.addr + labG1}, want, at)
			})
		}
	}
}
