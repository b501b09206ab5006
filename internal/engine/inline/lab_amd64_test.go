package inline

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"gopherscope/internal/target"
	"gopherscope/internal/tsc"
)

// The general registers, by their numbers in instructions.
const (
	rax = iota
	rcx
	rdx
	rbx
	rsp
	rbp
	rsi
	rdi
	r8
	r9
	r10
	r11
	r12
	r13
	r14
	r15
	registers
)

// registerFile is what a template is entered with, or what it leaves.
type registerFile struct {
	general [registers]uint64
	x       [16][2]uint64
	flags   uint64
}

// labLayout has an offset of its own for each field, so that one taken for another gives
// another value.
var labLayout = target.Layout{
	G: target.GLayout{StackLo: 0x18, StackHi: 0x20, M: 0x38, SchedSP: 0x40, SchedPC: 0x48, SchedBP: 0x68, Status: 0x94, GoID: 0xa0,
		WaitReason: 0xb9, ParentGoID: 0x118, GoPC: 0x128, StartPC: 0x138, CoroArg: 0x1a8, CoroExit: 0x1b3},
	M:    target.MLayout{G0: 0x10, ProcID: 0x50, CurG: 0xc8, P: 0xd8, ID: 0xf0},
	P:    target.PLayout{ID: 0x0c},
	Coro: target.CoroLayout{G: 0x28},
}

// Where things lie in the pages of a lab.
const (
	labCode    = 0
	labHarness = 4 * pageSize
	labData    = 5 * pageSize // registers
	labControl = 6 * pageSize
	labStructs = 7 * pageSize
	labStack   = 8 * pageSize // of the thread
	labGStack  = 9 * pageSize // of a goroutine
	labBytes   = 10 * pageSize

	labIn, labOut, labSP = labData, labData + 1024, labData + 2048

	labG0, labG1, labG2, labM, labP, labC = labStructs, labStructs + 512, labStructs + 1024, labStructs + 1536, labStructs + 2048, labStructs + 2560
)

// lab executes the templates in this process, on structs that are made up and on
// rings that are like a target's. It is for one goroutine.
type lab struct {
	*shared
	pages   []byte
	addr    uint64 // of pages
	entries map[string]uint64
}

// newLab links all templates for rings. noParent is for a Go version without
// g.parentGoid.
func newLab(t *testing.T, s *shared, noParent bool) *lab {
	t.Helper()
	pages, err := unix.Mmap(-1, 0, labBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(pages) })
	l := &lab{shared: s, pages: pages, addr: uint64(uintptr(unsafe.Pointer(&pages[0]))), entries: map[string]uint64{}}
	layout := labLayout
	if noParent {
		layout.G.ParentGoID = target.NoField
	}
	l.assemble(t, layoutSymbols(&layout))
	if err := unix.Mprotect(pages[:labData], unix.PROT_READ|unix.PROT_EXEC); err != nil {
		t.Fatal(err)
	}
	l.reset()
	return l
}

// reset fills everything with noise and makes the structs: g0 runs on m, with p, for
// g1; g2 is the other half of g1's coroutine.
func (l *lab) reset() {
	noise := l.pages[labStructs:]
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	l.put(labControl, l.at+pageSize)
	for i, g := range []uint64{labG0, labG1, labG2} {
		l.put(g+uint64(labLayout.G.M), l.addr+labM)
		l.put(g+uint64(labLayout.G.GoID), uint64(1000+i))
		l.pages[g+uint64(labLayout.G.WaitReason)] = byte(20 + i)
		l.put(g+uint64(labLayout.G.ParentGoID), uint64(2000+i))
		l.put(g+uint64(labLayout.G.CoroArg), l.addr+labC)
		l.pages[g+uint64(labLayout.G.CoroExit)] = 0
		l.put(g+uint64(labLayout.G.StackLo), l.addr+labGStack) // the frame pointer is outside
		l.put(g+uint64(labLayout.G.StackHi), l.addr+labBytes)
	}
	l.put(labM+uint64(labLayout.M.G0), l.addr+labG0)
	l.put(labM+uint64(labLayout.M.ID), 3)
	l.put(labM+uint64(labLayout.M.ProcID), 0xabcdef0123456789) // only 32 bits are a thread's
	l.put(labM+uint64(labLayout.M.CurG), l.addr+labG1)
	l.put(labM+uint64(labLayout.M.P), l.addr+labP)
	binary.LittleEndian.PutUint32(l.pages[labP+labLayout.P.ID:], 17)
	l.put(labC+uint64(labLayout.Coro.G), l.addr+labG2)
}

func (l *lab) put(off, v uint64) { binary.LittleEndian.PutUint64(l.pages[off:], v) }

func (l *lab) word(off uint64) uint64 { return binary.LittleEndian.Uint64(l.pages[off:]) }

// assemble writes the templates and what executes them.
func (l *lab) assemble(t *testing.T, syms symbols) {
	t.Helper()
	ts, err := loadTemplates()
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]int{
		"RING_MASK": l.count - 1, "HEADERS_SIZE": l.count * headerBytes, "RING_BYTES_MASK": l.ringBytes - 1,
		"CAPACITY": l.ringBytes / recordBytes, "SLOT_MASK": l.ringBytes/recordBytes - 1,
	} {
		syms[name] = int64(v)
	}
	exit := assembler{at: l.addr + labHarness, lab: l}
	exit.leave()
	copy(l.pages[labHarness:], exit.code)
	syms["CONTROL"], syms["SPARE"], syms["EXIT"] = int64(l.addr+labControl), int64(l.addr+labControl+spareOffset), int64(exit.at)
	off := uint64(labCode)
	for name, tpl := range ts {
		entry := assembler{at: l.addr + off, lab: l}
		entry.enter()
		copy(l.pages[off:], entry.code)
		l.entries[name] = l.addr + off
		off += uint64(len(entry.code))
		code, err := tpl.link(l.addr+off, syms)
		if err != nil {
			t.Fatal(err)
		}
		copy(l.pages[off:labHarness], code)
		if off = (off + uint64(len(code)) + align) &^ (align - 1); off > labHarness {
			t.Fatalf("the templates do not fit %d bytes", labHarness)
		}
	}
}

// assembler makes the instructions that load and store all registers, as no Go function
// can.
type assembler struct {
	lab  *lab
	at   uint64
	code []byte
}

func (a *assembler) emit(b ...byte) { a.code = append(a.code, b...) }

// data is an instruction with a register, or a part of the opcode, and a place in the
// lab's pages.
func (a *assembler) data(reg byte, off int, opcode ...byte) {
	a.emit(opcode...)
	a.emit(reg&7<<3 | 5)
	next := a.at + uint64(len(a.code)) + 4
	a.code = binary.LittleEndian.AppendUint32(a.code, uint32(a.lab.addr+uint64(off)-next))
}

// move is a mov of a general register, with opcode 0x8b to load it.
func (a *assembler) move(opcode, reg byte, off int) { a.data(reg, off, 0x48|reg>>3<<2, opcode) }

// moveX is a movups of an X register, with opcode 0x10 to load it.
func (a *assembler) moveX(opcode, reg byte, off int) {
	a.data(reg, off, 0x40|reg>>3<<2, 0x0f, opcode)
}

const (
	offX     = registers * 8
	offFlags = offX + 16*16
)

// enter is called by pass. It ends at the template that follows.
func (a *assembler) enter() {
	a.emit(0x55, 0x53, 0x41, 0x57) // push rbp; push rbx; push r15
	a.move(0x89, rsp, labSP)
	a.data(6, labIn+offFlags, 0xff) // push the flags
	a.emit(0x9d)                    // popfq
	for i := range byte(16) {
		a.moveX(0x10, i, labIn+offX+int(i)*16)
		a.move(0x8b, i, labIn+int(i)*8) // also rsp: from here on nothing is pushed
	}
}

// leave is where the templates go to. It returns to pass.
func (a *assembler) leave() {
	for i := range byte(16) {
		a.move(0x89, i, labOut+int(i)*8)
		a.moveX(0x11, i, labOut+offX+int(i)*16)
	}
	a.move(0x8b, rsp, labSP)
	a.emit(0x9c)                                         // pushfq
	a.data(0, labOut+offFlags, 0x8f)                     // pop
	a.emit(0x41, 0x5f, 0x5b, 0x5d, 0xfc /* cld */, 0xc3) // pop r15, rbx, rbp; ret
}

func (l *lab) file(off int) *registerFile {
	return (*registerFile)(unsafe.Pointer(&l.pages[off]))
}

// prepare makes the registers that a template is entered with: some given, the others
// random.
func (l *lab) prepare(set map[int]uint64) registerFile {
	in := registerFile{flags: 0x202 | rand.Uint64()&0x8d5} // IF; OF, SF, ZF, AF, PF, CF or not
	for i := range in.general {
		in.general[i] = rand.Uint64()
	}
	for i := range in.x {
		in.x[i] = [2]uint64{rand.Uint64(), rand.Uint64()}
	}
	in.x[15] = [2]uint64{}
	in.general[rsp], in.general[r14] = l.addr+labStack+2048, l.addr+labG0
	for reg, v := range set {
		in.general[reg] = v
	}
	*l.file(labIn), *l.file(labOut) = in, registerFile{}
	return in
}

// run executes a template and checks what is true of every one: it leaves all registers
// but those that are free, the stack and the structs as they were, and AX is in R13. It
// returns the time stamp counter before and after.
func (l *lab) run(t *testing.T, template string, set map[int]uint64) (from, to uint64) {
	t.Helper()
	entry, ok := l.entries[template]
	if !ok {
		t.Fatalf("no template %s", template)
	}
	in := l.prepare(set)
	before := bytes.Clone(l.pages[labControl:])
	from = tsc.Now()
	pass(uintptr(entry), uintptr(l.addr), 1)
	to = tsc.Now()
	out := *l.file(labOut)
	for i := range in.general {
		if free := i == rdx || i == rsi || i == rdi || i >= r8 && i <= r13; !free && out.general[i] != in.general[i] {
			t.Errorf("%s: register %d is %#x, was %#x", template, i, out.general[i], in.general[i])
		}
	}
	if off := l.word(labControl) == 0; out.general[r13] != in.general[rax] {
		t.Errorf("%s (off: %v): R13 is %#x, AX was %#x", template, off, out.general[r13], in.general[rax])
	}
	if out.x != in.x {
		t.Errorf("%s: the X registers are %x, were %x", template, out.x, in.x)
	}
	if out.flags&0x400 != 0 {
		t.Errorf("%s: the direction flag is set", template)
	}
	if after := l.pages[labControl:]; !bytes.Equal(before, after) {
		for i := range before {
			if before[i] != after[i] {
				t.Fatalf("%s: wrote to what it only may read, at %#x", template, labControl+i)
			}
		}
	}
	return from, to
}

// store is a word that a template is expected to change, by its offset in the rings'
// memory.
type store struct {
	off int
	v   uint64
}

// stamps are the offsets of time stamps.
type stamps []int

// expect runs a template and checks that the rings' memory is as before but for the words
// given, and the time stamps, which must all be the same and from within.
func (l *lab) expect(t *testing.T, template string, set map[int]uint64, want []store, at stamps) {
	t.Helper()
	model := bytes.Clone(l.mem)
	if l.word(labControl) != 0 && *l.headerWord(labRing, ownerOffset) == labOwner && l.empty(labRing) {
		want = append([]store{{l.headerAt(labRing, baseOffset), *l.headerWord(labRing, headOffset)}}, want...)
	}
	from, to := l.run(t, template, set)
	for i, off := range at {
		stamp := binary.LittleEndian.Uint64(l.mem[off:])
		if stamp < from || stamp > to || stamp != binary.LittleEndian.Uint64(l.mem[at[0]:]) {
			t.Errorf("%s: stamp %d is %d, not from %d to %d, or not the first one", template, i, stamp, from, to)
		}
		binary.LittleEndian.PutUint64(model[off:], stamp)
	}
	for _, w := range want {
		binary.LittleEndian.PutUint64(model[w.off:], w.v)
	}
	if diff := differing(model, l.mem); diff != "" {
		t.Errorf("%s %#x: %s", template, set, diff)
	}
}

// differing describes the words in which b is not a.
func differing(a, b []byte) string {
	var text string
	for i := 0; i < len(a); i += 8 {
		if x, y := binary.LittleEndian.Uint64(a[i:]), binary.LittleEndian.Uint64(b[i:]); x != y {
			text += fmt.Sprintf("\n\tword at %#x: %#x, want %#x", i, y, x)
		}
	}
	return text
}

// headerAt and recordAt are offsets in the rings' memory.
func (l *lab) headerAt(ring, off int) int { return pageSize + ring*headerBytes + off }

// empty says whether all records of a ring have been taken: then the next one comes to its
// front.
func (l *lab) empty(ring int) bool {
	return *l.headerWord(ring, headOffset) == *l.headerWord(ring, tailOffset)
}

func (l *lab) recordAt(ring int, n uint64) int {
	base := *l.headerWord(ring, baseOffset)
	if l.empty(ring) {
		base = *l.headerWord(ring, headOffset)
	}
	return l.recordsAt(ring) + int((n-base)&(l.slots-1))*recordBytes
}
