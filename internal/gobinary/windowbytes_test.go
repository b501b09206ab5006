package gobinary

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"gopherscope/internal/testenv"
)

// Parts of a function made by hand. Its window begins after the prologue, at
// handOff; the bytes were made and read back by the GNU assembler and objdump.
const (
	handPrologue = "55 4889e5 4883ec28" // push %rbp; mov %rsp,%rbp; sub $0x28,%rsp
	handEpilogue = "4883c428 5d c3"     // add $0x28,%rsp; pop %rbp; ret
	handOff      = 8
	handEntry    = 0x401000
	mov4         = "498b5630"     // mov 0x30(%r14),%rdx
	inc6         = "ff8208010000" // incl 0x108(%rdx)
)

func TestWindowOfBytes(t *testing.T) {
	for _, tt := range []struct {
		asm, body string
		want      []WindowInsn
	}{
		{"mov, incl", mov4 + inc6, []WindowInsn{{0, 4, -1}, {4, 6, -1}}},
		{"5 bytes", "b801000000", []WindowInsn{{0, 5, -1}}},
		{"one more is not taken", "b801000000 90", []WindowInsn{{0, 5, -1}}},
		{"a call follows", mov4 + "90 e800000000", []WindowInsn{{0, 4, -1}, {4, 1, -1}}},
		{"cmpl $0, x(%rip)", "833d1000000000", []WindowInsn{{0, 7, 2}}},
		{"mov x(%rip), %rax", "488b0510000000", []WindowInsn{{0, 7, 3}}},
		{"movq $1, x(%rip)", "48c7051000000001000000", []WindowInsn{{0, 11, 3}}},
		{"movw $1, x(%rip)", "66c705100000000100", []WindowInsn{{0, 9, 3}}},
		{"movzbl x(%rip), %eax after 4 bytes", mov4 + "0fb60510000000", []WindowInsn{{0, 4, -1}, {4, 7, 7}}},
		{"lea x(%rip), %rax; lea x(%rip), %r8", "8d0510000000 4c8d0510000000", []WindowInsn{{0, 6, 2}}},
		{"test, dec, and, or, xor", "85c0 ffc8 21c8", []WindowInsn{{0, 2, -1}, {2, 2, -1}, {4, 2, -1}}},
		{"or, xor, sub", "09c8 31c0 29c8", []WindowInsn{{0, 2, -1}, {2, 2, -1}, {4, 2, -1}}},
		{"nopw", "660f1f840000000000", []WindowInsn{{0, 9, -1}}},
		{"movabs to memory", "48a31122334455667788", []WindowInsn{{0, 10, -1}}},
		{"a comparison of the stack pointer", "4839c4 85ed", []WindowInsn{{0, 3, -1}, {3, 2, -1}}},
		{"a branch to its end", "b801000000 90 75fd", []WindowInsn{{0, 5, -1}}},
	} {
		code := unhex(t, handPrologue+tt.body+handEpilogue)
		w, err := x86Window(code, handEntry, handOff)
		if err != nil {
			t.Errorf("%s: %v", tt.asm, err)
			continue
		}
		n := 0
		for i, in := range w.Insns {
			if n += in.Len; i >= len(tt.want) || in != tt.want[i] {
				t.Errorf("%s: %+v, want %+v", tt.asm, w.Insns, tt.want)
				break
			}
		}
		if len(w.Insns) != len(tt.want) || w.PC != handEntry+handOff || !bytes.Equal(w.Orig, code[handOff:handOff+n]) {
			t.Errorf("%s: %+v, want %+v", tt.asm, w, tt.want)
		}
	}
}

// notMoved are instructions of 5 bytes or more, or filled up with 90, that are in
// no window.
var notMoved = []struct{ asm, code string }{
	{"call", "e800000000"}, {"call *%rax", "ffd0"}, {"jmp", "eb03 909090"}, {"jmp near", "e900000000"},
	{"je", "7403 909090"}, {"je near", "0f8400000000"}, {"loop", "e203 909090"}, {"jrcxz", "e303 909090"},
	{"xbegin", "c7f800000000"}, {"ret", "c3"}, {"ret $8", "c20800"}, {"lret", "cb"}, {"iretq", "48cf"},
	{"syscall", "0f05"}, {"sysenter", "0f34"}, {"int3", "cc"}, {"int $3", "cd03"}, {"int1", "f1"}, {"hlt", "f4"}, {"ud2", "0f0b"},
	{"lock incl (%rdx)", "f0ff02"}, {"lock add", "f0830424 01"}, {"xchg", "488702"}, {"cmpxchg", "480fb10a"},
	{"mov %fs:-8,%r14", "644c8b3425f8ffffff"}, {"mov %gs:(%rax),%rax", "65488b00"}, {"cs nopw", "662e0f1f840000000000"},
	{"ds mov", "3e488b00"}, {"mov %ds,%eax", "8cd8"}, {"mov %eax,%ds", "8ed8"}, {"mov %cr0,%rax", "0f20c0"}, {"mov %rax,%dr7", "0f23f8"},
	{"addr32 mov (%eax),%eax", "678b00"}, {"lea x(%eip),%eax", "678d0500000000"},
	{"vzeroupper", "c5f877"}, {"vpxor", "c5fdefc0"}, {"vmovdqu64", "62f1fe486f4601"}, {"shlx", "c4e2f1f7c3"},
	{"add $8,%rsp", "4883c408"}, {"sub $8,%rsp", "4883ec08"}, {"lea 8(%rsp),%rsp", "488d642408"}, {"mov %rax,%rsp", "4889c4"},
	{"mov %rsp,%rbp", "4889e5"}, {"mov (%rax),%rbp", "488b28"}, {"and $-16,%esp", "83e4f0"}, {"inc %bp", "66ffc5"}, {"mov %al,%spl", "4088c4"},
	{"push", "50"}, {"pop", "58"}, {"pushfq", "9c"}, {"leave", "c9"}, {"enter", "c8100000"},
	{"rep movsb", "f3a4"}, {"movsq", "48a5"}, {"repne scasb", "f2ae"}, {"pause", "f390"}, {"cpuid", "0fa2"}, {"rdtsc", "0f31"}, {"wait", "9b"},
}

func TestNotMoved(t *testing.T) {
	const why = "may not be moved"
	for _, tt := range notMoved {
		code := tt.code + "9090909090"
		for name, body := range map[string]string{"first": code, "after 4 bytes": mov4 + code, "after 1 byte": "90" + code} {
			w, err := x86Window(unhex(t, handPrologue+body+handEpilogue), handEntry, handOff)
			if !errors.Is(err, ErrWindow) || !strings.Contains(err.Error(), why) {
				t.Errorf("%s %s: %+v, %v", tt.asm, name, w, err)
			}
		}
		// It is no harm outside. (A jump to a register is another matter.)
		if _, err := x86Window(unhex(t, handPrologue+mov4+inc6+code+handEpilogue), handEntry, handOff); err != nil {
			t.Errorf("%s after the window: %v", tt.asm, err)
		}
	}
}

func TestNoWindowInBytes(t *testing.T) {
	whole := handPrologue + mov4 + inc6 + handEpilogue
	for _, tt := range []struct {
		name, code string
		off        int
		why        string
	}{
		{"before the function", whole, -1, "not the start"},
		{"the end", whole, 24, "not the start"},
		{"after the end", whole, 1 << 40, "not the start"},
		{"in an instruction", whole, handOff + 1, "not the start"},
		{"ends after 4 bytes", handPrologue + mov4, handOff, "not the start"},
		{"ends in an instruction", handPrologue + mov4 + "ff8208", handOff, "unknown instruction"},
		{"empty", "", 0, "not the start"},
		{"a branch into the middle of its second instruction", handPrologue + mov4 + inc6 + "75fa" + handEpilogue, handOff, "a branch goes into it"},
		{"a call into it", handPrologue + mov4 + inc6 + "e8f5ffffff" + handEpilogue, handOff, "a branch goes"},
		{"unknown instruction before", "06" + whole, handOff + 1, "unknown instruction at +0x0"},
		{"unknown instruction in it", handPrologue + "06" + mov4 + inc6, handOff, "unknown instruction at +0x8"},
		{"unknown instruction after", whole + "06", handOff, "unknown instruction at +0x18"},
		{"endbr64, which the decoder does not know", "f30f1efa" + whole, handOff + 4, "unknown instruction at +0x0"},
		{"jmp *%rax", whole + "ffe0", handOff, "jump through"},
		{"jmp *(%rax,%rcx,8) before", "ff24c8" + whole, handOff + 3, "jump through"},
		{"jmp *x(%rip)", whole + "ff2500000000", handOff, "jump through"},
		{"bnd jmp *%rax", whole + "f2ffe0", handOff, "jump through"},
		{"ljmp *(%rsp)", whole + "ff2c24", handOff, "jump through"},
		{"back to its first instruction", handPrologue + mov4 + inc6 + "75f4" + handEpilogue, handOff, "a branch goes to it"},
		{"back to its second instruction", handPrologue + mov4 + inc6 + "75f8" + handEpilogue, handOff, "a branch goes into it"},
		{"the same, near", handPrologue + mov4 + inc6 + "0f85f4ffffff" + handEpilogue, handOff, "a branch goes into it"},
		{"the same, unconditional", handPrologue + mov4 + inc6 + "ebf8", handOff, "a branch goes into it"},
		{"the same, unconditional and near", handPrologue + mov4 + inc6 + "e9f5ffffff", handOff, "a branch goes into it"},
		{"the same, with a prediction", handPrologue + mov4 + inc6 + "2e75f7", handOff, "a branch goes into it"},
		{"by loop", handPrologue + mov4 + inc6 + "e2f8", handOff, "a branch goes into it"},
		{"by jrcxz", handPrologue + mov4 + inc6 + "e3f8", handOff, "a branch goes into it"},
		{"by xbegin", handPrologue + mov4 + inc6 + "c7f8f4ffffff", handOff, "a branch goes into it"},
		{"from before", "7509" + handPrologue[:2] + "4889e590" + mov4 + inc6, 7, "a branch goes into it"},
	} {
		w, err := x86Window(unhex(t, tt.code), handEntry, tt.off)
		if !errors.Is(err, ErrWindow) || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%s: %+v, %v, want %q", tt.name, w, err, tt.why)
		}
	}
}

func TestX86Prologue(t *testing.T) {
	const (
		grow  = "e800000000 ebe0" // to be patched: call morestack; jmp entry
		check = "493b6610"        // cmp 0x10(%r14),%rsp
		large = "4c8d6424f8 4d3b6610"
	)
	// checked is a function with a stack check, which leads to its last 7 bytes.
	checked := func(cmp, rest string) []byte {
		code := unhex(t, cmp+"0f8600000000"+rest+grow)
		at := len(unhex(t, cmp)) + 6
		binary.LittleEndian.PutUint32(code[at-4:], uint32(len(code)-7-at))
		code[len(code)-1] = byte(-len(code))
		return code
	}
	const old = "4883ec28 48896c2420 488d6c2420" // until Go 1.20
	for _, tt := range []struct {
		name string
		code []byte
		off  int
		ok   bool
	}{
		{"push", unhex(t, handPrologue+mov4), 8, true},
		{"push, no room", unhex(t, "55 4889e5"+mov4), 4, false}, // there are such, but no need
		{"push, 128 bytes of room", unhex(t, "55 4889e5 4883c480"+mov4), 8, true},
		{"sub", unhex(t, old+mov4), 14, true},
		{"check, push", checked(check, handPrologue+mov4+handEpilogue), 18, true},
		{"check, sub", checked(check, old+mov4+handEpilogue), 24, true},
		{"large check, push", checked(large, handPrologue+mov4+handEpilogue), 23, true},
		{"no frame", unhex(t, mov4+"c3"), 0, false},
		{"check, no frame", checked(check, mov4+"c3"), 10, false},
		{"push of another register", unhex(t, "53 4889e5"+mov4), 0, false},
		{"an argument is changed first", unhex(t, "31c0"+handPrologue), 0, false},
		{"a branch that is no check", unhex(t, "493b6610 7600"+handPrologue+mov4), 4, false},
		{"an address of a local in the body", unhex(t, handPrologue+"4c8d642420"+mov4), 8, true},
		{"an address below the stack in the body", unhex(t, handPrologue+"4c8d6424e0"+mov4), 8, true},
		{"more room in the body", unhex(t, handPrologue+"4883ec08"+mov4), 8, true},
		{"a check in the body", unhex(t, handPrologue+"493b6610"+mov4), 8, true},
		{"a comparison with g in the body", unhex(t, handPrologue+"493b4610"+mov4), 8, true},
		{"room of a computed size", unhex(t, "4829c4"+mov4), 0, false},
		{"empty", nil, 0, false},
	} {
		if off, ok := x86Prologue(tt.code); ok != tt.ok || ok && off != tt.off {
			t.Errorf("%s: body at %d, %v, want %d, %v", tt.name, off, ok, tt.off, tt.ok)
		}
	}
}

// handBranch reads a direct branch from the bytes of an instruction: the distance
// from its end. Source: Intel SDM volume 2, appendix A.
func handBranch(insn []byte) (rel int, ok bool) {
	b := insn
	for len(b) > 0 && bytes.IndexByte([]byte{0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3}, b[0]) >= 0 {
		b = b[1:]
	}
	for len(b) > 0 && b[0]&0xf0 == 0x40 {
		b = b[1:]
	}
	switch {
	case len(b) == 2 && (b[0]&0xf0 == 0x70 || b[0] == 0xeb || b[0] >= 0xe0 && b[0] <= 0xe3):
		return int(int8(b[1])), true
	case len(b) == 5 && b[0] == 0xe9, len(b) == 6 && b[0] == 0x0f && b[1]&0xf0 == 0x80, len(b) == 6 && b[0] == 0xc7 && b[1] == 0xf8:
		return int(int32(binary.LittleEndian.Uint32(b[len(b)-4:]))), true
	}
	return 0, false
}

// FuzzWindow: whatever the bytes of a function are, a window holds 5 bytes or more
// of whole instructions, no branch goes into it, and a copy of it refers to what it
// refers to.
func FuzzWindow(f *testing.F) {
	for _, b := range []testenv.Build{{Go: "1.18"}, {Go: "1.23"}, {Go: "1.27"}, {Go: "1.27", NoOpt: true}} {
		bin, err := Open(testenv.BuildTarget(f, "all", b))
		if err != nil {
			f.Fatal(err)
		}
		for _, name := range []string{"runtime.exitsyscall", "runtime.park_m", "runtime.memmove", "runtime.ready"} {
			code, err := bin.code(mustFunc(f, bin, name))
			if err != nil {
				f.Fatal(err)
			}
			off, _ := x86Prologue(code)
			f.Add(code, off, int64(0x1000))
		}
		bin.Close()
	}
	for _, tt := range notMoved {
		f.Add(unhex(f, handPrologue+mov4+inc6+tt.code+handEpilogue), handOff, int64(-0x1000))
	}
	f.Add(unhex(f, handPrologue+"833d1000000000"+handEpilogue), handOff, int64(1)<<31)
	f.Fuzz(func(t *testing.T, code []byte, off int, distance int64) {
		if len(code) > 1<<14 {
			return
		}
		if body, ok := x86Prologue(code); body < 0 || body > len(code) || ok && body == 0 {
			t.Fatalf("prologue of %d bytes, %v", body, ok)
		}
		w, err := x86Window(code, handEntry, off)
		if err != nil {
			if !errors.Is(err, ErrWindow) {
				t.Fatal(err)
			}
			return
		}
		checkBytes(t, code, off, &w)
		if same, err := w.Relocate(w.PC); err != nil || !bytes.Equal(same, w.Orig) {
			t.Fatalf("% x moved by nothing is % x, %v", w.Orig, same, err)
		}
		to := w.PC + uint64(distance)
		moved, err := w.Relocate(to)
		if err != nil {
			return
		}
		copied := Window{PC: to, Orig: moved, Insns: w.Insns}
		for _, in := range w.Insns {
			if in.RIPDisp >= 0 && copied.ripTarget(in) != w.ripTarget(in) {
				t.Fatalf("refers to %#x, the copy at %#x to %#x", w.ripTarget(in), to, copied.ripTarget(in))
			}
		}
	})
}

// checkBytes checks a window against the bytes of its function.
func checkBytes(t *testing.T, code []byte, off int, w *Window) {
	end := off + len(w.Orig)
	if off < 0 || end > len(code) || len(w.Orig) < 5 || w.PC != handEntry+uint64(off) || !bytes.Equal(w.Orig, code[off:end]) {
		t.Fatalf("window %+v at %d of %d bytes", w, off, len(code))
	}
	starts := map[int]int{} // length by offset
	for at := 0; at < len(code); {
		in, err := decodeX86(code[at:])
		if err != nil {
			t.Fatalf("a window, and at %d is no instruction", at)
		}
		starts[at] = in.Len
		if rel, ok := handBranch(code[at : at+in.Len]); ok {
			if to := at + in.Len + rel; to >= off && to < end {
				t.Fatalf("the branch at %d goes to %d, in the window %d-%d", at, to, off, end)
			}
			if at >= off && at < end {
				t.Fatalf("a branch in the window: % x", code[at:at+in.Len])
			}
		}
		at += in.Len
	}
	next := 0
	for _, in := range w.Insns {
		if in.Off != next || in.Off >= 5 || starts[off+in.Off] != in.Len || in.RIPDisp >= 0 && (in.RIPDisp <= in.Off || in.RIPDisp+4 > in.Off+in.Len) {
			t.Fatalf("instruction %+v of window % x", in, w.Orig)
		}
		next += in.Len
	}
	if next != len(w.Orig) {
		t.Fatalf("%d bytes of instructions in a window of %d", next, len(w.Orig))
	}
}
