package inline

import (
	"testing"

	"gopherscope/internal/goruntime"
)

// TestSpared: with the word SPARE set no template looks at a stack, each says that it did
// not, and with the word empty again all do.
func TestSpared(t *testing.T) {
	elsewhere := func(l *lab, g uint64) { l.stack(g, 0, ^uint64(0), 8, 8) } // to look there would be a fault
	parks := labChange{site: 5, from: goruntime.Running, to: goruntime.Waiting, g: 2, other: spared}
	enters := enters
	enters.other = spared
	for _, head := range walkHeads {
		l := smallLab(t, false, head)
		l.put(labControl+spareOffset, spared)
		elsewhere(l, labG2)
		want, at := l.records(head, parks)
		l.expect(t, "park", map[int]uint64{
			rdx: cookieFor(5, 0, 0, 0), rax: l.addr + labG2, rbx: dirty(goruntime.Running), rcx: dirty(goruntime.Waiting),
		}, want, at)

		for _, template := range []string{"enter", "entersys", "block"} {
			l = smallLab(t, false, head)
			l.put(labControl+spareOffset, spared)
			elsewhere(l, labG2)
			want, at = l.records(head, enters)
			l.expect(t, template, l.entering(template, l.addr+labStack+2048, 8), want, at)
		}
		for template, reg := range birthTemplates {
			l = smallLab(t, false, head)
			l.put(labControl+spareOffset, spared)
			elsewhere(l, labG1)
			want, at = l.birth(head, labChange{site: 200, from: goruntime.Dead, to: goruntime.Runnable, g: 2, other: 2002<<8 | spared})
			want = l.withStack(want, head+2, nil)
			l.expect(t, template, l.beingBorn(template, reg, goruntime.Runnable), want, at)
		}
	}
}

// TestDepthOf: a stack that was left out has no records behind its own, and what a program
// may have written there is bounded as ever.
func TestDepthOf(t *testing.T) {
	for said, want := range map[uint64]int{0: 0, 1: 1, 4: 1, 5: 2, maxDepth: 8, spared: 0, spared - 1: 8, spared + 1: 8, 1 << 40: 8} {
		if got := recordsOf(depthOf(said)); got != want {
			t.Errorf("%#x: %d records, want %d", said, got, want)
		}
	}
}

// TestCalibrate: what a stack adds is measured, with each of its frames, and is no more than
// a uprobe would take.
func TestCalibrate(t *testing.T) {
	p, err := calibrate()
	if err != nil {
		t.Fatal(err)
	}
	if p.hit <= 0 || p.hit > 2000 || p.frame <= 0 || p.frame > 200 || p.stack < 0 || p.stack > 2000 {
		t.Errorf("%+v ns", p)
	}
}
