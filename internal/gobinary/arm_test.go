package gobinary

import (
	"encoding/binary"
	"slices"
	"testing"
)

// words is little-endian code.
func words(insns ...uint32) []byte {
	var b []byte
	for _, w := range insns {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}

// The encodings are those of llvm-mc -triple=aarch64 -mattr=+lse.
func TestARMWrites(t *testing.T) {
	r := func(numbers ...int) (set regs) {
		for _, n := range numbers {
			set |= 1 << n
		}
		return set
	}
	tests := []struct {
		asm  string
		w    armInst
		want regs
	}{
		{"mov x1, x2", 0xaa0203e1, r(1)},
		{"add x3, x4, #8", 0x91002083, r(3)},
		{"sub sp, sp, #32", 0xd10083ff, 0},
		{"cmp x1, x2", 0xeb02003f, 0},
		{"adrp x27, .", 0x9000001b, r(27)},
		{"str x30, [sp, #-64]!", 0xf81c0ffe, 0},
		{"stp x29, x30, [sp, #-16]!", 0xa9bf7bfd, 0},
		{"stp x1, x2, [x3, #16]!", 0xa9810861, r(3)},
		{"stp x1, x2, [x3, #16]", 0xa9010861, 0},
		{"ldp x1, x2, [x3]", 0xa9400861, r(1, 2)},
		{"ldp x1, x2, [x3], #16", 0xa8c10861, r(1, 2, 3)},
		{"ldp d1, d2, [x3]", 0x6d400861, 0},
		{"str x1, [x2, #8]", 0xf9000441, 0},
		{"ldr x1, [x2, #8]", 0xf9400441, r(1)},
		{"ldr x1, [x2], #8", 0xf8408441, r(1, 2)},
		{"ldr x1, [x2, x3]", 0xf8636841, r(1)},
		{"str x1, [x2, x3]", 0xf8236841, 0},
		{"stur x1, [x2, #-8]", 0xf81f8041, 0},
		{"ldr d1, [x2]", 0xfd400041, 0},
		{"ldr x1, .", 0x58000001, r(1)},
		{"ldaddal w1, w2, [x3]", 0xb8e10062, r(2)},
		{"b .", 0x14000000, 0},
		{"b.ne .", 0x54000001, 0},
		{"cbz x0, .", 0xb4000000, 0},
		{"tbnz w1, #12, .", 0x37600001, 0},
		{"ret", 0xd65f03c0, 0},
		{"nop", 0xd503201f, 0},
		{"mrs x5, tpidr_el0", 0xd53bd045, r(5)},
		{"bl .", 0x94000000, allRegs},
		{"blr x1", 0xd63f0020, allRegs},
		{"svc #0", 0xd4000001, allRegs},
	}
	for _, tt := range tests {
		if got := tt.w.writes(); got != tt.want {
			t.Errorf("%s writes %#x, want %#x", tt.asm, got, tt.want)
		}
	}
	// Here more than is written is fine.
	for asm, tt := range map[string]struct {
		w    armInst
		want regs
	}{
		"casal w1, w2, [x3]":    {0x88e1fc62, r(1)},
		"ldaxr w1, [x2]":        {0x885ffc41, r(1)},
		"stlxr w4, w1, [x2]":    {0x8804fc41, r(4)},
		"ldxp x1, x2, [x3]":     {0xc87f0861, r(1, 2)},
		"ld1 {v1.16b}, [x3], 4": {0x4cdf7061, r(3)},
	} {
		if got := tt.w.writes(); got&tt.want != tt.want {
			t.Errorf("%s writes %#x, want %#x", asm, got, tt.want)
		}
	}
}

func TestARMBranches(t *testing.T) {
	const pc = 0x10000
	tests := []struct {
		asm      string
		w        armInst
		want     uint64 // 0: no direct branch
		emulated bool
		endsRun  bool
	}{
		{"b .+8", 0x14000002, pc + 8, true, true},
		{"b .-4", 0x17ffffff, pc - 4, true, true},
		{"bl .+8", 0x94000002, pc + 8, true, false},
		{"b.ls .+16", 0x54000089, pc + 16, true, false},
		{"cbnz w1, .-8", 0x35ffffc1, pc - 8, true, false},
		{"tbz x1, #40, .+32", 0xb6400101, pc + 32, true, false},
		{"tbnz w1, #12, .-32", 0x3767ff01, pc - 32, true, false},
		{"adr x1, .+4", 0x10000021, 0, true, false},
		{"adrp x1, .", 0x90000001, 0, true, false},
		{"br x1", 0xd61f0020, 0, false, true},
		{"ret", 0xd65f03c0, 0, false, true},
		{"brk #0", 0xd4200000, 0, false, true},
		{"udf #0", 0x00000000, 0, false, true},
		{"nop", 0xd503201f, 0, false, false},
		{"ldr x1, .+8", 0x58000041, 0, false, false},
	}
	for _, tt := range tests {
		if got, ok := tt.w.branch(pc); got != tt.want || ok != (tt.want != 0) {
			t.Errorf("%s goes to %#x, %v, want %#x", tt.asm, got, ok, tt.want)
		}
		if got := tt.w.emulated(); got != tt.emulated {
			t.Errorf("%s emulated: %v", tt.asm, got)
		}
		if got := tt.w.endsRun(); got != tt.endsRun {
			t.Errorf("%s ends the run: %v", tt.asm, got)
		}
	}
}

func TestARMRefs(t *testing.T) {
	const pc = 0x10234
	tests := []struct {
		name string
		code []uint32
		want []ref
	}{
		{"adrp, add", []uint32{0xb0000000, 0x91010000}, []ref{{pc + 4, 0x11040, refLEA, 0}}},
		{"adr back", []uint32{0x10ffffe0}, []ref{{pc, pc - 4, refLEA, 0}}},
		{"adrp, ldr", []uint32{0x9000001b, 0xf9400b61}, []ref{{pc + 4, 0x10010, refLoad, 8}}},
		{"adrp, strb", []uint32{0x9000001b, 0x39000b61}, []ref{{pc + 4, 0x10002, refStore, 1}}},
		{"adrp, ldp", []uint32{0x9000001b, 0xa9408b61},
			[]ref{{pc + 4, 0x10008, refLoad, 8}, {pc + 4, 0x10010, refLoad, 8}}},
		{"adrp, str q", []uint32{0x9000001b, 0x3d800760}, []ref{{pc + 4, 0x10010, refStore, 16}}},
		{"adrp, stur", []uint32{0x9000001b, 0xf81f8361}, []ref{{pc + 4, 0xfff8, refStore, 8}}},
		{"call", []uint32{0x94000002}, []ref{{pc, pc + 8, refCall, 0}}},
		{"overwritten", []uint32{0x9000001b, 0xaa0103fb, 0xf9400b61}, nil},
		{"after a call", []uint32{0x9000001b, 0xd63f0020, 0xf9400b61}, nil},
		{"after a branch", []uint32{0x9000001b, 0x14000001, 0xf9400b61}, nil},
		// The load is also reached from the branch before the ADRP.
		{"joined", []uint32{0xb4000040, 0x9000001b, 0xf9400b61}, nil},
		{"to the stack pointer", []uint32{0x9000001f, 0xf9400be1}, nil},
	}
	for _, tt := range tests {
		if got := armRefs(words(tt.code...), pc); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}
