package gobinary

import (
	"bytes"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"gopherscope/internal/testenv"
)

// TestGadgets compares the system call instructions that are found with what
// objdump shows from the start of their functions.
func TestGadgets(t *testing.T) {
	for _, b := range windowBuilds() {
		t.Run(b.String(), func(t *testing.T) {
			path := testenv.BuildTarget(t, "all", b)
			f := mustOpen(t, path)
			ret, err := f.SyscallRet()
			if err != nil {
				t.Fatal(err)
			}
			if _, text := gadgetText(t, f, path, ret, 2); text != "syscall\nret\n" {
				t.Errorf("SyscallRet: at %#x is %q", ret, text)
			}
			sig, err := f.Sigreturn()
			if err != nil {
				t.Fatal(err)
			}
			name, text := gadgetText(t, f, path, sig, 2)
			if !regexp.MustCompile(`^mov \$0xf,%[er]ax\nsyscall\n$`).MatchString(text) {
				t.Errorf("Sigreturn: at %#x is %q", sig, text)
			}
			want := "runtime.sigreturn__sigaction"
			if b.Minor() < 21 {
				want = "runtime.sigreturn"
			}
			if name != want {
				t.Errorf("Sigreturn: in %s, want %s", name, want)
			}
		})
	}
}

// gadgetText is the function that has pc, and n instructions from there.
func gadgetText(t *testing.T, f *File, path string, pc uint64, n int) (fn, text string) {
	t.Helper()
	at, ok := f.FuncAt(pc)
	if !ok || !strings.HasPrefix(at.Name, "runtime.") {
		t.Fatalf("%#x is in %+v", pc, at)
	}
	l := gnuList(t, path, at.Entry, at.End)
	i, ok := l.at[pc]
	if !ok {
		t.Fatalf("no instruction starts at %#x", pc)
	}
	for ; n > 0 && i < len(l.insns); i, n = i+1, n-1 {
		text += strings.Join(strings.Fields(strings.ReplaceAll(l.insns[i].text, "retq", "ret")), " ") + "\n"
	}
	return at.Name, text
}

// TestNoGadgets asks a runtime without them, and one of another architecture.
func TestNoGadgets(t *testing.T) {
	data, err := os.ReadFile(testenv.BuildTarget(t, "all", testenv.Build{Go: "1.27", Stripped: true}))
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.ReplaceAll(data, []byte{0x0f, 0x05, 0xc3}, []byte{0x0f, 0x05, 0x90})
	f := mustNew(t, data)
	// The bytes in a constant are none: movabs $0xc3050f,%rax.
	off, ok := f.FileOffset(mustFunc(t, f, "runtime.exitsyscall").Entry)
	if !ok {
		t.Fatal("exitsyscall is not in the file")
	}
	copy(data[off:], []byte{0x48, 0xb8, 0x0f, 0x05, 0xc3, 0, 0, 0, 0, 0})
	f = mustNew(t, data)
	if pc, err := f.SyscallRet(); !errors.Is(err, ErrNoSymbol) {
		t.Errorf("SyscallRet = %#x, %v where none is", pc, err)
	}
	if _, err := f.Sigreturn(); err != nil {
		t.Error(err)
	}
	data = bytes.ReplaceAll(data, []byte{15, 0, 0, 0, 0x0f, 0x05}, []byte{14, 0, 0, 0, 0x0f, 0x05})
	if pc, err := mustNew(t, data).Sigreturn(); !errors.Is(err, ErrNoSymbol) {
		t.Errorf("Sigreturn = %#x, %v where none is", pc, err)
	}
	arm := mustOpen(t, testenv.BuildTarget(t, "coro", testenv.Build{Go: "1.27", GOARCH: "arm64"}))
	for name, find := range map[string]func() (uint64, error){"SyscallRet": arm.SyscallRet, "Sigreturn": arm.Sigreturn} {
		if pc, err := find(); !errors.Is(err, ErrNotYet) {
			t.Errorf("%s on arm64 = %#x, %v", name, pc, err)
		}
	}
}

func TestX86Find(t *testing.T) {
	want := []byte{0x0f, 0x05, 0xc3}
	for _, tt := range []struct {
		name, code string
		at         int
		found      bool
	}{
		{"first", "0f05c3", 0, true},
		{"later", "90 b818000000 0f05 c3", 6, true},
		{"the first of two", "90 0f05c3 0f05c3", 1, true},
		{"in a constant", "48b8 0f05c3 0000000000 c3", 0, false},
		{"in a constant and after", "48b8 0f05c3 0000000000 0f05c3", 10, true},
		{"cut off", "0f05", 0, false},
		{"next to an unknown instruction", "06 0f05c3", 0, false},
		{"empty", "", 0, false},
	} {
		if at, found := x86Find(unhex(t, tt.code), want); found != tt.found || found && at != tt.at {
			t.Errorf("%s: %d, %v, want %d, %v", tt.name, at, found, tt.at, tt.found)
		}
	}
}

// TestCodeAt compares with the text section as debug/elf reads it.
func TestCodeAt(t *testing.T) {
	path := testenv.BuildTarget(t, "all", testenv.Build{Go: "1.25", PIE: true})
	f := mustOpen(t, path)
	text := mustELF(t, path).Section(".text")
	want, err := text.Data()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct{ off, n int }{{0, 1}, {0, 0}, {1, 15}, {chunkSize - 3, 16}, {len(want) - 5, 5}, {0, len(want)}} {
		got, err := f.CodeAt(text.Addr+uint64(r.off), r.n)
		if err != nil || !bytes.Equal(got, want[r.off:r.off+r.n]) {
			t.Errorf("%d bytes at +%#x: %v, %d bytes", r.n, r.off, err, len(got))
		}
	}
	for _, r := range []struct {
		pc uint64
		n  int
	}{{text.Addr, -1}, {text.Addr, 1 << 40}, {^uint64(0) - 2, 3}, {^uint64(0), 1}, {1 << 60, 5}} {
		if got, err := f.CodeAt(r.pc, r.n); err == nil {
			t.Errorf("%d bytes at %#x: %d bytes, want an error", r.n, r.pc, len(got))
		}
	}
}
