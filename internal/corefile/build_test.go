package corefile

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"testing"
)

// note is a note of a core file that a test makes.
type note struct {
	name string
	kind uint32
	desc []byte
}

// memory is a range of memory of a core file that a test makes.
type memory struct {
	start, memsz uint64
	flags        elf.ProgFlag
	held         []byte
}

// build makes a core file, laid out as the kernel does it: headers, notes, memory.
func build(t testing.TB, machine elf.Machine, notes []note, mem []memory) []byte {
	t.Helper()
	var desc []byte
	for _, n := range notes {
		name := append([]byte(n.name), 0)
		desc = words32(desc, uint32(len(name)), uint32(len(n.desc)), n.kind)
		desc = append(desc, name...)
		desc = append(desc, make([]byte, pad4(uint64(len(name)))-uint64(len(name)))...)
		desc = append(desc, n.desc...)
		desc = append(desc, make([]byte, pad4(uint64(len(n.desc)))-uint64(len(n.desc)))...)
	}
	h := elf.Header64{
		Type: uint16(elf.ET_CORE), Machine: uint16(machine), Version: 1, Phoff: headerSize,
		Ehsize: headerSize, Phentsize: progSize, Phnum: uint16(1 + len(mem)),
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	off := uint64(headerSize + progSize*(1+len(mem)))
	progs := []elf.Prog64{{Type: uint32(elf.PT_NOTE), Off: off, Filesz: uint64(len(desc))}}
	off += uint64(len(desc))
	var held []byte
	for _, m := range mem {
		progs = append(progs, elf.Prog64{
			Type: uint32(elf.PT_LOAD), Flags: uint32(m.flags), Off: off,
			Vaddr: m.start, Filesz: uint64(len(m.held)), Memsz: m.memsz,
		})
		off += uint64(len(m.held))
		held = append(held, m.held...)
	}
	var out bytes.Buffer
	for _, v := range []any{h, progs, desc, held} {
		if err := binary.Write(&out, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

func words32(b []byte, vs ...uint32) []byte {
	for _, v := range vs {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

func words64(vs ...uint64) []byte {
	var b []byte
	for _, v := range vs {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// prstatus is a thread's note whose n registers are 1000, 1001 and so on.
func prstatus(tid uint32, n int) note {
	desc := make([]byte, 112)
	binary.LittleEndian.PutUint32(desc[32:], tid)
	for i := range n {
		desc = append(desc, words64(uint64(1000+i))...)
	}
	return note{"CORE", 1, append(desc, make([]byte, 8)...)}
}

// mappedFiles is a note of two mappings of a file, in units of pages, and one of
// another.
func mappedFiles() note {
	desc := words64(3, 4096, 0x400000, 0x401000, 0, 0x401000, 0x403000, 1, 0x7000000, 0x7001000, 0)
	return note{"CORE", 0x46494c45, append(desc, "/bin/prog\x00/bin/prog\x00/lib/ld.so (deleted)\x00"...)}
}

// someNotes are the notes of a process with two threads.
func someNotes(registers int) []note {
	info := make([]byte, 136)
	binary.LittleEndian.PutUint32(info[24:], 77)
	copy(info[40:], "pr\x1bog\x00junk")
	return []note{
		prstatus(78, registers),
		{"CORE", 3, info},
		{"LINUX", 0x202, make([]byte, 333)}, // of no interest
		{"CORE", 6, words64(6, 4096, 9, 0x401020, 0, 0)},
		mappedFiles(),
		prstatus(77, registers),
	}
}

// someMemory is code of which the first page is held, and data with a tail that is
// not.
func someMemory() []memory {
	return []memory{
		{start: 0x500000, memsz: 0x3000, flags: elf.PF_R | elf.PF_W, held: bytes.Repeat([]byte{7}, 0x1000)},
		{start: 0x400000, memsz: 0x1000, flags: elf.PF_R, held: bytes.Repeat([]byte{5}, 0x1000)},
		{start: 0x401000, memsz: 0x2000, flags: elf.PF_R | elf.PF_X},
		{start: 0x7000000, memsz: 0x1000, flags: elf.PF_R | elf.PF_X, held: []byte("linker")},
	}
}
