package corefile

import (
	"bufio"
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"gopherscope/internal/process"
)

// Types of notes whose name is "CORE" (include/uapi/linux/elf.h).
const (
	ntPrstatus = 1          // NT_PRSTATUS: a thread's registers
	ntPrpsinfo = 3          // NT_PRPSINFO: the process
	ntAuxv     = 6          // NT_AUXV: the auxiliary vector
	ntFile     = 0x46494c45 // NT_FILE: the mapped files
)

// Bounds on the notes.
const (
	maxNoteSegments = 16 // the kernel and gcore write one
	maxNoteName     = 64
	maxAuxv         = 64 << 10
	// maxFiles bounds the list of mapped files. The kernel writes none beyond
	// 16 MB (fs/coredump.c, CORE_FILE_NOTE_SIZE_MAX).
	maxFiles = 64 << 20
)

// Offsets in struct elf_prstatus of a 64-bit machine (include/linux/elfcore.h):
// siginfo 12, cursig 2+2, sigpend 8, sighold 8, four PIDs, four timevals, pr_reg.
const (
	prstatusPID  = 32
	prstatusRegs = 112
)

// Offsets in struct elf_prpsinfo of a 64-bit machine (include/linux/elfcore.h).
const (
	prpsinfoPID  = 24
	prpsinfoName = 40
	prpsinfoEnd  = 56
)

// registers are offsets of registers in what the kernel calls elf_gregset_t.
type registers struct{ pc, sp, bp, lr, g, size int }

// noReg is a register that the architecture does not have.
const noReg = -1

// layouts are the architectures' elf_gregset_t: struct user_regs_struct
// (arch/x86/include/asm/user_64.h) and struct user_pt_regs
// (arch/arm64/include/uapi/asm/ptrace.h).
var layouts = map[Arch]registers{
	AMD64: {pc: 16 * 8, sp: 19 * 8, bp: 4 * 8, lr: noReg, g: 1 * 8, size: 27 * 8},
	ARM64: {pc: 32 * 8, sp: 31 * 8, bp: 29 * 8, lr: 30 * 8, g: 28 * 8, size: 34 * 8},
}

// notes is what the notes of a core file say.
type notes struct {
	threads []Thread
	pid     int
	comm    string
	auxv    []byte
	files   []byte // of NT_FILE, not parsed; nil if there is none
}

// readSegment reads a segment of notes. Each is three words, its name and its
// content, both padded to four bytes (elf(5), "Notes").
func (n *notes) readSegment(f *File, p elf.Prog64) error {
	end := fmt.Errorf("%w: it ends at %d, before its notes do", ErrTruncated, f.size)
	if p.Off > f.size || p.Off > math.MaxInt64 {
		return end
	}
	size := min(p.Filesz, f.size-p.Off)
	r := bufio.NewReaderSize(io.NewSectionReader(f.r, int64(p.Off), int64(size)), 32<<10)
	for left := size; left > 0; {
		var head [12]byte
		if left < uint64(len(head)) {
			break // padding, or cut short
		}
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return noteError(err, end)
		}
		nameLen := uint64(binary.LittleEndian.Uint32(head[0:]))
		descLen := uint64(binary.LittleEndian.Uint32(head[4:]))
		kind := binary.LittleEndian.Uint32(head[8:])
		total := pad4(nameLen) + pad4(descLen)
		if left -= uint64(len(head)); total > left {
			if size < p.Filesz {
				return end
			}
			return fmt.Errorf("%w: a note of %d bytes where %d are left", ErrNotes, total, left)
		}
		left -= total
		if err := n.read(f, r, kind, nameLen, descLen); err != nil {
			return noteError(err, end)
		}
	}
	if size < p.Filesz {
		return end
	}
	return nil
}

// noteError is end for a file that was cut while it was read.
func noteError(err, end error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return end
	}
	return err
}

// pad4 rounds up to four bytes.
func pad4(n uint64) uint64 { return (n + 3) &^ 3 }

// read reads the name and the content of one note.
func (n *notes) read(f *File, r *bufio.Reader, kind uint32, nameLen, descLen uint64) error {
	if nameLen > maxNoteName {
		_, err := discard(r, pad4(nameLen)+pad4(descLen))
		return err
	}
	name := make([]byte, pad4(nameLen))
	if _, err := io.ReadFull(r, name); err != nil {
		return err
	}
	limit := wanted(f.arch, kind)
	if string(bytes.TrimRight(name[:nameLen], "\x00")) != "CORE" || limit == 0 {
		_, err := discard(r, pad4(descLen))
		return err
	}
	if descLen > limit {
		return fmt.Errorf("%w: a note of type %#x has %d bytes", ErrNotes, kind, descLen)
	}
	desc := make([]byte, pad4(descLen))
	if _, err := io.ReadFull(r, desc); err != nil {
		return err
	}
	return n.take(f.arch, kind, desc[:descLen])
}

// discard skips n bytes.
func discard(r *bufio.Reader, n uint64) (int64, error) {
	return io.CopyN(io.Discard, r, int64(n))
}

// wanted is how long a note of a type may be; 0 for types of no interest.
func wanted(arch Arch, kind uint32) uint64 {
	switch kind {
	case ntPrstatus:
		return uint64(prstatusRegs+layouts[arch].size) + 64
	case ntPrpsinfo:
		return 1 << 10
	case ntAuxv:
		return maxAuxv
	case ntFile:
		return maxFiles
	}
	return 0
}

// take takes over the content of a note.
func (n *notes) take(arch Arch, kind uint32, desc []byte) error {
	switch kind {
	case ntPrstatus:
		regs := layouts[arch]
		if len(desc) < prstatusRegs+regs.size {
			return fmt.Errorf("%w: the registers of a thread have %d bytes", ErrNotes, len(desc))
		}
		t := regs.thread(desc[prstatusRegs:])
		t.TID = int(int32(binary.LittleEndian.Uint32(desc[prstatusPID:])))
		n.threads = append(n.threads, t)
	case ntPrpsinfo:
		if len(desc) >= prpsinfoEnd {
			n.pid = int(int32(binary.LittleEndian.Uint32(desc[prpsinfoPID:])))
			name, _, _ := bytes.Cut(desc[prpsinfoName:prpsinfoEnd], []byte{0})
			n.comm = string(name)
		}
	case ntAuxv:
		n.auxv = desc
	case ntFile:
		n.files = desc
	}
	return nil
}

// thread takes the registers of interest.
func (l registers) thread(regs []byte) Thread {
	at := func(off int) uint64 {
		if off == noReg {
			return 0
		}
		return binary.LittleEndian.Uint64(regs[off:])
	}
	return Thread{PC: at(l.pc), SP: at(l.sp), BP: at(l.bp), LR: at(l.lr), G: at(l.g)}
}

// parseFiles reads the list of mapped files: their number, the unit of their
// offsets, for each its start, end and offset, then all names (fs/binfmt_elf.c,
// fill_files_note). The unit is the page size in the kernel's files and 1 in
// gcore's. What they are mapped for is not in the list.
func parseFiles(b []byte) ([]process.Mapping, error) {
	const head, entry = 16, 24
	word := func(off uint64) uint64 { return binary.LittleEndian.Uint64(b[off:]) }
	if len(b) < head {
		return nil, fmt.Errorf("it has %d bytes", len(b))
	}
	n, unit := word(0), word(8)
	if n > uint64(len(b)-head)/entry || unit == 0 || unit > maxPage {
		return nil, fmt.Errorf("%d files in units of %d in %d bytes", n, unit, len(b))
	}
	names := b[head+n*entry:]
	files := make([]process.Mapping, 0, n)
	for i := range n {
		at := head + i*entry
		m := process.Mapping{Start: word(at), End: word(at + 8), Offset: word(at+16) * unit, Read: true}
		name, rest, ok := bytes.Cut(names, []byte{0})
		if !ok {
			return nil, errors.New("its names are cut off")
		}
		if m.Start >= m.End || word(at+16) > math.MaxInt64/unit {
			return nil, fmt.Errorf("a file is mapped from %#x to %#x, at %d", m.Start, m.End, word(at+16))
		}
		names, m.Path = rest, string(name)
		files = append(files, m)
	}
	slices.SortStableFunc(files, func(a, b process.Mapping) int { return cmp.Compare(a.Start, b.Start) })
	return files, nil
}
