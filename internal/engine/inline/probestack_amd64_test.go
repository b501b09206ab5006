package inline

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"gopherscope/internal/engine/probes"
	"gopherscope/internal/goruntime"
)

// frame is one of a goroutine's stack: where it is, from the stack's beginning, and what
// is there.
type frame struct{ at, next, ret uint64 }

// firstPC is the program counter from which a walk starts.
const firstPC = 0x400fff

// walkHeads are where the next record goes. A walk counts in bytes: no ring ever comes to
// 1<<59 records.
var walkHeads = []uint64{0, 77, 118, 119, 120, 124, 127, 128, 1<<40 - 1}

// A goroutine's stack in the lab, below labGStack+stackBottom there is only noise.
const (
	stackBottom = 256
	stackTop    = pageSize - 512 // from its bottom
)

// straight is n frames, each of which leads to the next one.
func straight(n uint64) []frame {
	var list []frame
	for i := range n {
		list = append(list, frame{i * 32, (i + 1) * 32, 0x400000 + i})
	}
	return list
}

func pcs(from, to uint64) []uint64 {
	var list []uint64
	for i := from; i < to; i++ {
		list = append(list, 0x400000+i)
	}
	return list
}

// walks are what walks have in common: they go along the frame pointers as far as they make
// sense.
var walks = map[string]struct {
	bp     uint64 // from the stack's beginning; may wrap
	frames []frame
	want   []uint64 // after the first
}{
	"one":              {0x40, []frame{{0x40, 0, 0x401}}, []uint64{0x401}},
	"three":            {0, []frame{{0, 0x80, 0x401}, {0x80, 0x800, 0x402}, {0x800, 0x700, 0x403}}, []uint64{0x401, 0x402, 0x403}},
	"to itself":        {0x10, []frame{{0x10, 0x10, 0x401}}, []uint64{0x401}},
	"no return":        {0x10, []frame{{0x10, 0, 0}}, nil},
	"return of 0 amid": {0, []frame{{0, 0x80, 0}, {0x80, 0, 0x402}}, []uint64{0, 0x402}},
	"below the stack":  {^uint64(7), nil, nil},
	"just below":       {^uint64(0), nil, nil},
	"far below":        {^uint64(1 << 40), nil, nil},
	"at the top":       {stackTop - 16, []frame{{stackTop - 16, 0, 0x401}}, []uint64{0x401}},
	"over the top":     {stackTop - 8, []frame{{stackTop - 8, 0, 0x401}}, nil},
	"above":            {stackTop, nil, nil},
	"far above":        {1 << 40, nil, nil},
	"out of the stack": {0, []frame{{0, stackTop + 8, 0x401}}, []uint64{0x401}},
	"31 more":          {0, append(straight(30), frame{960, 0, 0x400000 + 30}), pcs(0, 31)},
	"no end":           {0, straight(60), pcs(0, 31)},
}

// frames writes frames to the goroutines' stack and returns where it begins.
func (l *lab) frames(list []frame) (lo uint64) {
	lo = l.addr + labGStack + stackBottom
	for _, f := range list {
		next := lo + f.next
		if f.next == 0 {
			next = 0
		}
		l.put(labGStack+stackBottom+f.at, next)
		l.put(labGStack+stackBottom+f.at+8, f.ret)
	}
	return lo
}

// eachWalk runs f for all walks and heads.
func eachWalk(t *testing.T, f func(t *testing.T, l *lab, lo, bp, head uint64, want []uint64)) {
	for name, test := range walks {
		for _, head := range walkHeads {
			t.Run(fmt.Sprintf("%s/%d", name, head), func(t *testing.T) {
				l := smallLab(t, false, head)
				lo := l.frames(test.frames)
				f(t, l, lo, test.bp, head, append([]uint64{firstPC}, test.want...))
			})
		}
	}
}

// stack says where a goroutine's stack is, and where it was saved.
func (l *lab) stack(g, lo, hi, sp, bp uint64) {
	l.put(g+uint64(labLayout.G.StackLo), lo)
	l.put(g+uint64(labLayout.G.StackHi), hi)
	l.put(g+uint64(labLayout.G.SchedSP), sp)
	l.put(g+uint64(labLayout.G.SchedBP), bp)
	l.put(g+uint64(labLayout.G.SchedPC), firstPC)
}

// withStack adds a stack to the stores of records, from the record number at on. In the last
// record there are as many program counters as are left.
func (l *lab) withStack(want []store, at uint64, list []uint64) []store {
	for i, pc := range list {
		want = append(want, store{l.recordAt(labRing, at+uint64(i/pcsInRecord)) + i%pcsInRecord*8, pc})
	}
	records := uint64(len(list)+pcsInRecord-1) / pcsInRecord
	return append(want, store{l.headerAt(labRing, headOffset), at + records})
}

// TestParkStack: a goroutine that parks has just been saved.
func TestParkStack(t *testing.T) {
	eachWalk(t, func(t *testing.T, l *lab, lo, bp, head uint64, list []uint64) {
		l.stack(labG2, lo, lo+stackTop, rand.Uint64(), lo+bp)
		want, at := l.records(head, labChange{site: 5, from: goruntime.Running, to: goruntime.Waiting, g: 2, other: uint64(len(list))})
		l.expect(t, "park", map[int]uint64{
			rdx: cookieFor(5, 0, 0, 0), rax: l.addr + labG2, rbx: dirty(goruntime.Running), rcx: dirty(goruntime.Waiting),
		}, l.withStack(want, head+1, list), at)
	})
}

// TestParkOther: other changes at the same place have no stack, and the goroutine's is not
// looked at.
func TestParkOther(t *testing.T) {
	for _, c := range []labChange{
		{from: goruntime.Running, to: goruntime.Runnable}, {from: goruntime.Waiting, to: goruntime.Runnable},
		{from: goruntime.Waiting, to: goruntime.Running}, {from: goruntime.Running, to: goruntime.Dead},
	} {
		for _, head := range heads {
			l := smallLab(t, false, head)
			l.stack(labG2, 0, ^uint64(0), 8, 8) // to look there would be a fault
			c.g, c.site, c.noP = 2, uint8(rand.Uint32()), rand.IntN(2) == 0
			l.without(false, c.noP)
			want, at := l.records(head, c)
			l.expect(t, "park", map[int]uint64{
				rdx: cookieFor(c.site, 0, 0, probes.Waker), rax: l.addr + labG2, rbx: dirty(c.from), rcx: dirty(c.to),
			}, want, at)
		}
	}
}

// entering is the registers of a goroutine, the lab's third, that enters a system call with
// its stack pointer and frame pointer there.
func (l *lab) entering(template string, sp, bp uint64) map[int]uint64 {
	set := map[int]uint64{
		rdx: cookieFor(6, goruntime.Running, goruntime.Syscall, 0), r14: l.addr + labG2, rsp: sp, rbp: bp,
	}
	if template == "block" {
		set[rax], set[rbx], set[rcx] = l.addr+labG2, dirty(goruntime.Running), dirty(goruntime.Syscall)
	}
	return set
}

var enters = labChange{site: 6, from: goruntime.Running, to: goruntime.Syscall, g: 2}

// TestEnterStack: a goroutine that begins a system call runs on its own stack. What was saved
// of it is old and not looked at, and nothing below the stack pointer is.
func TestEnterStack(t *testing.T) {
	for _, template := range []string{"enter", "block"} {
		t.Run(template, func(t *testing.T) {
			eachWalk(t, func(t *testing.T, l *lab, lo, bp, head uint64, list []uint64) {
				sp := lo - 8
				l.put(labGStack+stackBottom-8, firstPC) // the return address of the call
				base := lo
				if int64(bp) < 0 {
					base = sp // below the stack pointer, not only below the stack
				}
				l.stack(labG2, lo-128, lo+stackTop, 8, 8)
				c := enters
				c.other = uint64(len(list))
				want, at := l.records(head, c)
				l.expect(t, template, l.entering(template, sp, base+bp), l.withStack(want, head+1, list), at)
			})
		})
	}
}

// TestEnterSysStack: entersyscall's own frame comes first, with the word above it, which may
// be where a caller without a frame returns to; then the frames.
func TestEnterSysStack(t *testing.T) {
	const own, above = 0x500000, 0x500001
	eachWalk(t, func(t *testing.T, l *lab, lo, bp, head uint64, list []uint64) {
		sp := lo - 40
		for i, v := range []uint64{firstPC, rand.Uint64(), lo + bp, own, above} {
			l.put(labGStack+stackBottom-40+8*uint64(i), v)
		}
		if int64(bp) < 0 { // the frame below is no frame
			l.put(labGStack+stackBottom-24, lo-24+bp)
		}
		l.stack(labG2, lo-128, lo+stackTop, 8, 8)
		list = append([]uint64{own, above}, list[1:]...)
		list = list[:min(len(list), maxDepth)]
		c := enters
		c.other = uint64(len(list))
		want, at := l.records(head, c)
		l.expect(t, "entersys", l.entering("entersys", sp, lo-24), l.withStack(want, head+1, list), at)
	})
}

// TestEnterSysFrame: the frame of entersyscall must be on the stack, with the word above it.
func TestEnterSysFrame(t *testing.T) {
	for _, head := range walkHeads {
		for name, test := range map[string]struct {
			bp   uint64 // from the stack's beginning; may wrap
			want uint64 // program counters
		}{
			"below": {^uint64(15), 0}, "just below": {^uint64(8), 0}, "at the top": {stackTop - 24, 2},
			"over the top": {stackTop - 16, 0}, "above": {stackTop, 0}, "far": {1 << 40, 0},
		} {
			l := smallLab(t, false, head)
			lo := l.frames(nil)
			l.put(labGStack+stackBottom+stackTop-24, 0)
			l.stack(labG2, lo-128, lo+stackTop, 8, 8)
			c := enters
			c.other = test.want
			want, at := l.records(head, c)
			if test.want > 0 {
				want = l.withStack(want, head+1, []uint64{l.word(labGStack + stackBottom + stackTop - 16), l.word(labGStack + stackBottom + stackTop - 8)})
			}
			t.Run(fmt.Sprintf("%s/%d", name, head), func(t *testing.T) {
				l.expect(t, "entersys", l.entering("entersys", lo-8, lo+test.bp), want, at)
			})
		}
	}
}

// TestEnterElsewhere: a thread that is on another stack than its goroutine's has none.
func TestEnterElsewhere(t *testing.T) {
	for _, template := range []string{"enter", "entersys", "block"} {
		for _, head := range heads {
			for _, at := range []int64{-8, -4096, stackTop - 8, stackTop, 1 << 30} {
				l := smallLab(t, false, head)
				lo := l.frames(straight(3))
				// The stack pointer stays where it can be used; the stack is put around it.
				sp := l.addr + labStack + 2048
				l.stack(labG2, sp-uint64(at), sp-uint64(at)+stackTop, lo, lo)
				want, stamps := l.records(head, enters)
				l.expect(t, template, l.entering(template, sp, lo), want, stamps)
			}
		}
	}
}

// birthTemplates are those of a birth with the parent's stack, and where the newborn is.
var birthTemplates = map[string]int{"casborn": rax, "birthat0": rax, "birthat1": rbx}

// TestBornStack: the stack of a birth begins at the go statement, which is looked for in the
// first frames of what systemstack has saved of the parent.
func TestBornStack(t *testing.T) {
	const goPC = 0x400000                 // the first of straight
	elsewhere := func(n uint64) []frame { // frames between the switch and the go statement
		list := straight(n + 3)
		for i := range list {
			list[i].ret = goPC + uint64(i) - n
		}
		list[n+2].next = 0
		return list
	}
	for name, test := range map[string]struct {
		frames  []frame
		bp, sp  uint64 // from the stack's beginning; may wrap
		prepare func(l *lab)
		want    []uint64
	}{
		"at once":           {frames: elsewhere(0), want: pcs(0, 3)},
		"one below":         {frames: elsewhere(1), want: pcs(0, 3)},
		"three below":       {frames: elsewhere(3), want: pcs(0, 3)},
		"four below":        {frames: elsewhere(4)},
		"long":              {frames: straight(60), want: pcs(0, 32)},
		"alone":             {frames: []frame{{0, 0, goPC}}, want: pcs(0, 1)},
		"not there":         {frames: []frame{{0, 0x80, 0x500000}, {0x80, 0, 0x500001}}},
		"in a loop":         {frames: []frame{{0, 0x80, 0x500000}, {0x80, 0x10, goPC + 1}}},
		"at the top":        {frames: []frame{{stackTop - 16, 0, goPC}}, bp: stackTop - 16, want: pcs(0, 1)},
		"over the top":      {frames: []frame{{stackTop - 8, 0, goPC}}, bp: stackTop - 8},
		"out of the stack":  {frames: []frame{{0, stackTop, 0x500000}}},
		"below the saved":   {frames: elsewhere(0), sp: 8},
		"saved elsewhere":   {frames: elsewhere(0), sp: ^uint64(7)},
		"frame elsewhere":   {frames: elsewhere(0), bp: 1 << 40},
		"no goroutine":      {frames: elsewhere(0), prepare: func(l *lab) { l.without(true, false) }},
		"not on g0":         {frames: elsewhere(0), prepare: func(l *lab) { l.put(labM+uint64(labLayout.M.G0), l.addr+labG1) }},
		"another statement": {frames: elsewhere(0), prepare: func(l *lab) { l.put(labG2+uint64(labLayout.G.GoPC), goPC+7) }},
	} {
		for template, reg := range birthTemplates {
			for _, head := range walkHeads {
				t.Run(fmt.Sprintf("%s/%s/%d", name, template, head), func(t *testing.T) {
					l := smallLab(t, false, head)
					lo := l.frames(test.frames)
					l.stack(labG1, lo, lo+stackTop, lo+test.sp, lo+test.bp)
					l.put(labG2+uint64(labLayout.G.GoPC), goPC)
					if test.prepare != nil {
						test.prepare(l)
					}
					want, at := l.born(head, 2002, test.want)
					l.expect(t, template, l.beingBorn(template, reg, goruntime.Runnable), want, at)
				})
			}
		}
	}
}

// beingBorn is the registers at a birth of the lab's third goroutine.
func (l *lab) beingBorn(template string, reg int, to goruntime.Status) map[int]uint64 {
	l.put32(labG2+uint64(labLayout.G.Status), uint32(to))
	set := map[int]uint64{rdx: cookieFor(200, 0, 0, 0), reg: l.addr + labG2}
	if template == "casborn" {
		set[rbx], set[rcx] = dirty(goruntime.Dead), dirty(to)
	}
	return set
}

// born is what such a birth stores.
func (l *lab) born(head, parent uint64, list []uint64) ([]store, stamps) {
	c := labChange{site: 200, from: goruntime.Dead, to: goruntime.Runnable, g: 2, other: parent<<8 | uint64(len(list))}
	want, at := l.birth(head, c)
	return l.withStack(want, head+2, list), at
}

// TestBornParent: the parent's number is stored with the depth, where there is a field for
// it and where there is none.
func TestBornParent(t *testing.T) {
	for template, reg := range birthTemplates {
		for _, noParent := range []bool{false, true} {
			for _, head := range walkHeads {
				l := smallLab(t, noParent, head)
				lo := l.frames([]frame{{0, 0, 0x400000}})
				l.stack(labG1, lo, lo+stackTop, lo, lo)
				l.put(labG2+uint64(labLayout.G.GoPC), 0x400000)
				parent := uint64(2002)
				if noParent {
					parent = 1001
				}
				want, at := l.born(head, parent, pcs(0, 1))
				l.expect(t, template, l.beingBorn(template, reg, goruntime.Runnable), want, at)
			}
		}
	}
}

// TestBornOther: what newproc1 changes besides is no birth and has no stack; that a g was just
// allocated says nothing.
func TestBornOther(t *testing.T) {
	for _, head := range heads {
		l := smallLab(t, false, head)
		l.stack(labG1, 0, ^uint64(0), 8, 8) // to look there would be a fault
		want, at := l.records(head, labChange{site: 9, from: goruntime.Dead, to: goruntime.Syscall, g: 2})
		set := map[int]uint64{rdx: cookieFor(9, 0, 0, 0), rax: l.addr + labG2, rbx: dirty(goruntime.Dead), rcx: dirty(goruntime.Syscall)}
		l.expect(t, "casborn", set, want, at)

		l = smallLab(t, false, head)
		set[rax], set[rbx], set[rcx] = l.addr+labG2, dirty(goruntime.Idle), dirty(goruntime.Dead)
		l.expect(t, "casborn", set, nil, stamps{l.recordAt(labRing, head)})
	}
}
