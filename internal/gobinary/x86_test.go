package gobinary

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/arch/x86/x86asm"

	"gopherscope/internal/testenv"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The encodings are those of llvm-mc -triple=x86_64.
func TestDecodeX86Length(t *testing.T) {
	tests := []struct{ asm, code string }{
		{"vzeroupper", "c5f877"},
		{"vpxor ymm0, ymm0, ymm0", "c5fdefc0"},
		{"vmovdqu ymm0, [rsi]", "c5fe6f06"},
		{"vmovdqu ymm0, [rsi+8]", "c5fe6f4608"},
		{"vmovdqu ymm0, [rsi+0x1000]", "c5fe6f8600100000"},
		{"vmovdqu ymm0, [rip+0x10]", "c5fe6f0510000000"},
		{"vmovdqu ymm0, [rsi+rcx*8-32]", "c5fe6f44cee0"},
		{"vmovdqu ymm0, [rcx*8+32]", "c5fe6f04cd20000000"},
		{"vmovntdq [rdi], ymm0", "c5fde707"},
		{"vpsrlq ymm1, ymm2, 7", "c5f573d207"},
		{"vpshufd ymm1, ymm2, 1", "c5fd70ca01"},
		{"shlx rax, rbx, rcx", "c4e2f1f7c3"},
		{"rorx rax, rbx, 3", "c4e3fbf0c303"},
		{"vinserti128 ymm0, ymm0, xmm1, 1", "c4e37d38c101"},
		{"vmovdqu64 zmm0, [rsi+64]", "62f1fe486f4601"},
		{"vpternlogd zmm0, zmm1, zmm2, 0xff", "62f3754825c2ff"},
		{"push rbp", "55"},
		{"lock cmpxchg [rdx+0x90], ecx", "f00fb18a90000000"},
		{"movabs rax, 0x1122334455667788", "48b88877665544332211"},
	}
	for _, tt := range tests {
		code := unhex(t, tt.code)
		in, err := decodeX86(append(slices.Clone(code), 0x90, 0x90))
		if err != nil || in.Len != len(code) {
			t.Errorf("%s: length %d, %v, want %d", tt.asm, in.Len, err, len(code))
		}
		for n := range code {
			if in, err := decodeX86(code[:n:n]); err == nil && in.Len > n {
				t.Errorf("%s cut to %d bytes has length %d", tt.asm, n, in.Len)
			}
		}
	}
	for _, bad := range []string{"", "06", "c5", "c4e3fbf0c3", "62f1fe486f46", "0f"} {
		if in, err := decodeX86(unhex(t, bad)); err == nil {
			t.Errorf("decodeX86(%q) has length %d, want an error", bad, in.Len)
		}
	}
}

// TestWalkX86 checks that package runtime has no instruction of unknown length,
// in any version, and that its instructions start where objdump has them start.
// Builds for newer processors use many more.
func TestWalkX86(t *testing.T) {
	everyVersion(t, func(t *testing.T, b testenv.Build, path string, f *File) {
		if b.GOARCH != "" {
			return
		}
		insns := 0
		for fn := range f.runtimeFuncs() {
			code, err := f.code(fn)
			if err != nil {
				t.Fatal(err)
			}
			walkX86(code, func(off int, in x86asm.Inst, sure bool) bool {
				if insns++; !sure || in.Len == 0 {
					t.Errorf("%s+%#x: % x: length not known", fn.Name, off, code[off:min(off+maxX86, len(code))])
					return false
				}
				return true
			})
		}
		if insns < 50000 {
			t.Errorf("%d instructions only", insns)
		}
	})
}

// TestWalkX86AgainstLLVM compares with a disassembler that knows all
// instructions, on functions with VEX and EVEX prefixes.
func TestWalkX86AgainstLLVM(t *testing.T) {
	if _, err := exec.LookPath("llvm-objdump"); err != nil {
		t.Skip(err)
	}
	path := testenv.BuildTarget(t, "coro", testenv.Build{Go: "1.27"})
	f := mustOpen(t, path)
	for _, name := range []string{"runtime.memmove", "runtime.memclrNoHeapPointers", "runtime.memequal", "internal/runtime/gc/scan.scanSpanPackedAVX512"} {
		fn := mustFunc(t, f, name)
		var got []uint64
		code, err := f.code(fn)
		if err != nil {
			t.Fatal(err)
		}
		walkX86(code, func(off int, in x86asm.Inst, sure bool) bool {
			if sure {
				got = append(got, fn.Entry+uint64(off))
			}
			return true
		})
		if want := llvmStarts(t, path, fn); !slices.Equal(got, want) {
			t.Errorf("%s: %d instructions, llvm-objdump has %d", name, len(got), len(want))
		}
	}
}

// llvmStarts are the addresses of the instructions of a function.
func llvmStarts(t testing.TB, path string, fn Func) []uint64 {
	t.Helper()
	out, err := exec.Command("llvm-objdump", "-d", "--no-show-raw-insn",
		"--start-address="+fmt.Sprintf("%#x", fn.Entry), "--stop-address="+fmt.Sprintf("%#x", fn.End), path).Output()
	if err != nil {
		t.Fatal(err)
	}
	var starts []uint64
	for line := range bytes.Lines(out) {
		addr, _, ok := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
		pc, err := strconv.ParseUint(string(addr), 16, 64)
		if ok && err == nil && pc >= fn.Entry && pc < fn.End {
			starts = append(starts, pc)
		}
	}
	return starts
}

func TestX86Refs(t *testing.T) {
	const pc = 0x1000
	tests := []struct {
		asm, code string
		want      []ref
	}{
		{"lea rax, [rip+0x10]", "488d0510000000", []ref{{pc, pc + 7 + 0x10, refLEA, 0}}},
		{"mov rax, [rip-0x10]", "488b05f0ffffff", []ref{{pc, pc + 7 - 0x10, refLoad, 8}}},
		{"mov [rip+0x10], eax", "890510000000", []ref{{pc, pc + 6 + 0x10, refStore, 4}}},
		{"mov qword ptr [rip+0x10], 1", "48c7051000000001000000", []ref{{pc, pc + 11 + 0x10, refStore, 8}}},
		{"movups xmm0, [rip+0x10]", "0f100510000000", []ref{{pc, pc + 7 + 0x10, refLoad, 16}}},
		{"movzx eax, byte ptr [rip+0x10]", "0fb60510000000", []ref{{pc, pc + 7 + 0x10, refLoad, 1}}},
		{"cmp dword ptr [rip+0x10], 0", "833d1000000000", []ref{{pc, pc + 7 + 0x10, refOther, 0}}},
		{"call .+0x20", "e81b000000", []ref{{pc, pc + 0x20, refCall, 0}}},
		{"jmp .+0x20", "eb1e", nil},
		{"mov rax, [rbx+0x10]", "488b4310", nil},
		{"mov rax, fs:[rip+0x10]", "64488b0510000000", nil},
	}
	for _, tt := range tests {
		if got := x86Refs(unhex(t, tt.code), pc); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.asm, got, tt.want)
		}
	}
}
