package corefile

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gopherscope/internal/process"
)

func newFile(t *testing.T, core []byte) *File {
	t.Helper()
	f, err := NewFile(bytes.NewReader(core), int64(len(core)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestRegisters(t *testing.T) {
	for _, tt := range []struct {
		machine   elf.Machine
		registers int
		arch      Arch
		want      Thread
	}{
		// Of struct user_regs_struct: r15 r14 r13 r12 bp bx r11 r10 r9 r8 ax cx dx si di
		// orig_ax ip cs flags sp ss fs_base gs_base ds es fs gs.
		{elf.EM_X86_64, 27, AMD64, Thread{TID: 78, PC: 1016, SP: 1019, BP: 1004, G: 1001}},
		// Of struct user_pt_regs: x0 to x30, sp, pc, pstate.
		{elf.EM_AARCH64, 34, ARM64, Thread{TID: 78, PC: 1032, SP: 1031, BP: 1029, LR: 1030, G: 1028}},
	} {
		f := newFile(t, build(t, tt.machine, someNotes(tt.registers), someMemory()))
		second := tt.want
		second.TID = 77
		if got := f.Threads(); f.Arch() != tt.arch || !slices.Equal(got, []Thread{tt.want, second}) {
			t.Errorf("%s: %+v, want %+v twice", f.Arch(), got, tt.want)
		}
		if f.PID() != 77 || f.Comm() != `pr\x1bog` || f.Missing() != 0 {
			t.Errorf("process %d %q, %d bytes missing", f.PID(), f.Comm(), f.Missing())
		}
		if path, deleted, err := f.Exe(); path != "/bin/prog" || deleted || err != nil {
			t.Errorf("executable %q, deleted %v, %v", path, deleted, err)
		}
		if im := f.Images(); len(im) != 2 || im[1].Path != "/lib/ld.so" || !im[1].Deleted {
			t.Errorf("images %+v", im)
		}
	}
}

// TestNotHeld: memory that is in no file is no zeros.
func TestNotHeld(t *testing.T) {
	f := newFile(t, build(t, elf.EM_X86_64, someNotes(27), someMemory()))
	b := make([]byte, 16)
	for _, tt := range []struct {
		addr uint64
		why  string // "" for memory that is there
	}{
		{0x500000, ""}, {0x500ff0, ""}, {0x400000, ""}, {0x400ff0, ""},
		{0x500ff1, "not dumped"}, {0x501000, "not dumped"}, {0x401000, "not dumped"}, {0x400ff8, "not dumped"},
		{0x503000, "not in the file"}, {0, "not in the file"}, {^uint64(0) - 3, "bad address"}, {^uint64(0) - 100, "not in the file"},
	} {
		err := f.ReadMem(tt.addr, b)
		if ok := tt.why == ""; ok != (err == nil) || !ok && (!errors.Is(err, process.ErrBadAddress) || !strings.Contains(err.Error(), tt.why)) {
			t.Errorf("at %#x: %v, want %q", tt.addr, err, tt.why)
		}
	}
	reads := []process.MemRead{{Addr: 0x500000, Buf: make([]byte, 4)}, {Addr: 0x400000, Buf: make([]byte, 4)}, {Addr: 8, Buf: b}, {Addr: 0x500000, Buf: b}}
	if n, err := f.ReadMany(reads); n != 2 || !errors.Is(err, process.ErrBadAddress) {
		t.Errorf("%d pieces, %v", n, err)
	}
	if !bytes.Equal(reads[0].Buf, []byte{7, 7, 7, 7}) || !bytes.Equal(reads[1].Buf, []byte{5, 5, 5, 5}) {
		t.Errorf("read %v", reads[:2])
	}
}

// TestExecutable gives a core file an executable for its read-only memory.
func TestExecutable(t *testing.T) {
	f := newFile(t, build(t, elf.EM_X86_64, someNotes(27), someMemory()))
	file := append(bytes.Repeat([]byte{5}, 0x1000), bytes.Repeat([]byte{9}, 0x1800)...)
	path := filepath.Join(t.TempDir(), "prog")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	segs := []process.Segment{
		{Vaddr: 0, Memsz: 0x1000, Off: 0, Filesz: 0x1000, Flags: elf.PF_R},
		{Vaddr: 0x1000, Memsz: 0x1800, Off: 0x1000, Filesz: 0x1800, Flags: elf.PF_R | elf.PF_X},
	}
	if bias, err := f.UseExecutable(path, segs); bias != 0x400000 || err != nil {
		t.Fatalf("bias %#x, %v", bias, err)
	}
	defer f.Close()
	b := make([]byte, 0x20)
	if err := f.ReadMem(0x400ff0, b); err != nil || !bytes.Equal(b, file[0xff0:0x1010]) {
		t.Errorf("across the end of what the core file holds: %v, % x", err, b)
	}
	if err := f.ReadMem(0x401800-0x20+0x1000, b); err != nil || !bytes.Equal(b, file[0x2800-0x20:]) {
		t.Errorf("at the executable's end: %v, % x", err, b)
	}
	if err := f.ReadMem(0x402800-0x1f, b); !errors.Is(err, process.ErrBadAddress) {
		t.Errorf("beyond the executable's end: %v", err)
	}

	segs[1].Flags |= elf.PF_W
	if _, err := f.UseExecutable(path, segs); err != nil {
		t.Fatal(err)
	}
	if err := f.ReadMem(0x401000, b); !errors.Is(err, process.ErrBadAddress) {
		t.Errorf("a segment that may have changed: %v", err)
	}

	if err := os.WriteFile(path, append([]byte{6}, file[1:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.UseExecutable(path, segs); !errors.Is(err, ErrOtherBuild) {
		t.Errorf("another first page: %v", err)
	}
	segs[1].Off, segs[1].Filesz = 0x10000, 0x1000
	if _, err := f.UseExecutable(path, segs); !errors.Is(err, ErrOtherBuild) {
		t.Errorf("code elsewhere: %v", err)
	}
}

func TestRefused(t *testing.T) {
	good := build(t, elf.EM_X86_64, someNotes(27), someMemory())
	patched := func(at int, b ...byte) []byte {
		out := bytes.Clone(good)
		copy(out[at:], b)
		return out
	}
	without := func(kind uint32) []byte {
		kept := slices.DeleteFunc(someNotes(27), func(n note) bool { return n.kind == kind })
		return build(t, elf.EM_X86_64, kept, someMemory())
	}
	with := func(n note) []byte {
		return build(t, elf.EM_X86_64, append(someNotes(27), n), someMemory())
	}
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		core []byte
		want error
		text string
	}{
		{"empty", nil, ErrNotELF, ""},
		{"text", []byte(strings.Repeat("not a core file\n", 100)), ErrNotELF, ""},
		{"executable", exe, ErrNotCore, "an executable or a library"},
		{"object", patched(16, byte(elf.ET_REL), 0), ErrNotCore, "ET_REL"},
		{"ppc64", patched(18, byte(elf.EM_PPC64), 0), ErrArch, "EM_PPC64"},
		{"32-bit", patched(elf.EI_CLASS, byte(elf.ELFCLASS32)), ErrArch, "64-bit"},
		{"big-endian", patched(elf.EI_DATA, byte(elf.ELFDATA2MSB)), ErrArch, "little-endian"},
		{"no program headers", patched(56, 0, 0), ErrNotes, "0 program headers"},
		{"program headers far away", patched(32, 0, 0, 0, 0, 0, 0, 1), ErrTruncated, "program headers"},
		{"bad segment", patched(headerSize+progSize+40, 0, 0), ErrNotes, "bad segment"},
		{"no threads", without(1), ErrNotes, "NT_PRSTATUS"},
		{"no files", without(0x46494c45), ErrNotes, "NT_FILE"},
		{"short thread", with(note{"CORE", 1, make([]byte, 200)}), ErrNotes, "200 bytes"},
		{"arm64 thread", with(prstatus(1, 34+9)), ErrNotes, "0x1"},
		{"files beyond", with(note{"CORE", 0x46494c45, words64(1<<60, 4096)}), ErrNotes, "mapped files"},
	} {
		f, err := NewFile(bytes.NewReader(tt.core), int64(len(tt.core)))
		if f != nil || !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %v, %s", tt.name, err, tt.want, tt.text)
		}
	}
	if _, err := Open(t.TempDir()); !errors.Is(err, ErrNotELF) {
		t.Errorf("a directory: %v", err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "core")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// TestTruncated cuts a core file at every length. As long as its notes are whole
// it can be read, and says how much is missing.
func TestTruncated(t *testing.T) {
	good := build(t, elf.EM_X86_64, someNotes(27), someMemory())
	whole := newFile(t, good)
	notes := binary.LittleEndian.Uint64(good[headerSize+8:]) + binary.LittleEndian.Uint64(good[headerSize+32:])
	for size := range good {
		f, err := NewFile(bytes.NewReader(good[:size]), int64(size))
		switch {
		case size < 4:
			if !errors.Is(err, ErrNotELF) {
				t.Fatalf("%d bytes: %v", size, err)
			}
		case uint64(size) < notes:
			if !errors.Is(err, ErrTruncated) {
				t.Fatalf("%d bytes, %d with the notes: %v", size, notes, err)
			}
		case err != nil || f.Missing() != uint64(len(good)-size) || len(f.Threads()) != len(whole.Threads()):
			t.Fatalf("%d bytes of %d: %v", size, len(good), err)
		}
	}
	f := newFile(t, good[:notes+0x800])
	b := make([]byte, 0x10)
	if err := f.ReadMem(0x5007f0, b); err != nil {
		t.Errorf("before the cut: %v", err)
	}
	if err := f.ReadMem(0x5007f1, b); !errors.Is(err, process.ErrBadAddress) || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("at the cut: %v", err)
	}
}

// TestManyProgs is a core file whose number of program headers does not fit into
// the ELF header.
func TestManyProgs(t *testing.T) {
	core := build(t, elf.EM_X86_64, someNotes(27), someMemory())
	binary.LittleEndian.PutUint16(core[56:], 0xffff)
	shoff := uint64(len(core))
	binary.LittleEndian.PutUint64(core[40:], shoff)
	section := make([]byte, 64)
	binary.LittleEndian.PutUint32(section[44:], uint32(1+len(someMemory())))
	if f := newFile(t, append(core, section...)); f.PID() != 77 {
		t.Errorf("PID %d", f.PID())
	}
	if _, err := NewFile(bytes.NewReader(core), int64(len(core))); !errors.Is(err, ErrTruncated) {
		t.Errorf("without the section: %v", err)
	}
}

// FuzzOpen: whatever the file is, to read it ends, and what it says of itself is
// within bounds.
func FuzzOpen(f *testing.F) {
	// Small, because the fuzzer takes a minute to minimize each find.
	mem := []memory{
		{start: 0x400000, memsz: 0x1000, flags: elf.PF_R | elf.PF_X, held: []byte("code")},
		{start: 0x500000, memsz: 0x1000, flags: elf.PF_R | elf.PF_W, held: []byte("data")},
	}
	for _, c := range [][]byte{
		build(f, elf.EM_X86_64, []note{prstatus(1, 27), mappedFiles()}, mem),
		build(f, elf.EM_AARCH64, []note{mappedFiles(), prstatus(1, 34)}, mem),
		build(f, elf.EM_X86_64, someNotes(27), nil),
	} {
		f.Add(c)
		f.Add(c[:len(c)/2])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		core, err := NewFile(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		if len(core.Threads()) == 0 || len(core.Threads()) > len(data)/prstatusRegs {
			t.Fatalf("%d threads in %d bytes", len(core.Threads()), len(data))
		}
		core.Exe()
		buf := make([]byte, 64)
		for _, l := range core.loads {
			for _, addr := range []uint64{l.start - 1, l.start, l.start + l.filesz - 32, l.start + l.filesz, l.end - 1, l.end} {
				if err := core.ReadMem(addr, buf); err == nil && addr > ^uint64(0)-64 {
					t.Fatalf("read beyond the last address, at %#x", addr)
				}
			}
		}
		for _, im := range core.Images() {
			process.Bias(im.Path, im.code(core.entry), []process.Segment{{Memsz: 1, Filesz: 1 << 40, Flags: elf.PF_X}}, core.page)
		}
	})
}
