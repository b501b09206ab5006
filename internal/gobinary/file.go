package gobinary

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"gopherscope/internal/goruntime"
)

// Errors of [Open] and [NewFile]; ErrNoSymbol is that of look-ups by name. All
// come wrapped with the reason.
var (
	ErrNotELF          = errors.New("not an ELF file")
	ErrNotGo           = errors.New("not a Go program")
	ErrUnsupportedArch = errors.New("unsupported architecture")
	ErrUnsupportedGo   = errors.New("unsupported Go version")
	ErrNoPclntab       = errors.New("no readable Go function table")
	ErrNoSymbol        = errors.New("no such function, type or variable")
)

// Arch is a processor architecture, spelt as GOARCH spells it.
type Arch string

// The architectures that are understood.
const (
	AMD64 Arch = "amd64"
	ARM64 Arch = "arm64"
)

// maxSegments bounds the loadable segments of a file: linkers make less than
// ten, and every read searches them.
const maxSegments = 64

// A Segment is a PT_LOAD program header: what the kernel maps, and where.
type Segment struct {
	Vaddr, Memsz uint64 // address as linked and size in memory, in bytes
	Off, Filesz  uint64 // place and size in the file, in bytes
	Flags        elf.ProgFlag
}

// A File is an open Go executable. Make one with [Open] or [NewFile].
type File struct {
	path    string
	closer  io.Closer // nil when the caller owns the reader
	reader  *overlay
	header  *elf.File
	arch    Arch
	quantum uint64 // size of the shortest instruction; unit of pclntab's pc steps
	segs    []Segment
	cache   cache
	version goruntime.Version
	table   pclntab
	module  moduledata
	funcs   funcIndex

	relocate sync.Once
	relocs   []reloc

	describe sync.Once
	build    Build
}

// Open reads the Go executable at path, which may be /proc/PID/exe. The errors
// are those of os.Open, and ErrNotELF, ErrNotGo, ErrUnsupportedArch,
// ErrUnsupportedGo (with the version) and ErrNoPclntab (packed or obfuscated),
// all wrapped with the path. The caller closes the File.
func Open(path string) (*File, error) {
	osf, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	f, err := openFile(osf)
	if err != nil {
		osf.Close()
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	f.path, f.closer = path, osf
	return f, nil
}

func openFile(osf *os.File) (*File, error) {
	st, err := osf.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: not a regular file", ErrNotELF)
	}
	return NewFile(osf, st.Size())
}

// NewFile reads a Go executable of size bytes from r, which must stay readable
// while the File is used. The errors are those of [Open], without the path.
//
// The file is read with ReadAt through a small cache, and not mapped: a mapping
// kills the reader with SIGBUS when someone truncates the file, and costs no
// less, because nearly all of a big executable is never looked at.
func NewFile(r io.ReaderAt, size int64) (*File, error) {
	f := &File{cache: cache{r: r, size: uint64(max(size, 0))}}
	if err := f.readELF(r, size); err != nil {
		return nil, err
	}
	if err := f.readGo(); err != nil {
		return nil, err
	}
	return f, nil
}

// readELF checks the ELF header and collects the segments.
func (f *File) readELF(r io.ReaderAt, size int64) error {
	var h [64]byte // Elf64_Ehdr
	if _, err := r.ReadAt(h[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if string(h[:4]) != elf.ELFMAG {
		return ErrNotELF
	}
	machine := elf.Machine(binary.LittleEndian.Uint16(h[18:]))
	switch {
	case elf.Class(h[elf.EI_CLASS]) != elf.ELFCLASS64 || elf.Data(h[elf.EI_DATA]) != elf.ELFDATA2LSB:
		return fmt.Errorf("%w: not 64-bit little-endian", ErrUnsupportedArch)
	case machine == elf.EM_X86_64:
		f.arch, f.quantum = AMD64, 1
	case machine == elf.EM_AARCH64:
		f.arch, f.quantum = ARM64, 4
	default:
		return fmt.Errorf("%w: %v", ErrUnsupportedArch, machine)
	}
	f.reader = &overlay{r: io.NewSectionReader(r, 0, size)}
	var err error
	if f.header, err = openELF(f.reader, h[:]); err != nil {
		return fmt.Errorf("%w: %w", ErrNotELF, err)
	}
	return f.readSegments()
}

func (f *File) readSegments() error {
	for _, p := range f.header.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		if p.Vaddr+p.Memsz < p.Vaddr || p.Filesz > p.Memsz {
			return fmt.Errorf("%w: bad segment at %#x", ErrNotELF, p.Vaddr)
		}
		s := Segment{Vaddr: p.Vaddr, Memsz: p.Memsz, Off: p.Off, Flags: p.Flags}
		if p.Off < f.cache.size { // else the file is cut short
			s.Filesz = min(p.Filesz, f.cache.size-p.Off)
		}
		f.segs = append(f.segs, s)
	}
	if len(f.segs) == 0 || len(f.segs) > maxSegments {
		return fmt.Errorf("%w: %d loadable segments", ErrNotELF, len(f.segs))
	}
	return nil
}

// readGo finds what makes the file a Go program, in the order in which each
// step needs those before it.
func (f *File) readGo() error {
	if err := f.readVersion(); err != nil {
		return err
	}
	if err := f.findTables(); err != nil {
		return err
	}
	if err := f.indexFuncs(); err != nil {
		return err
	}
	if f.version.Text == "" {
		if err := f.readBuildVersion(); err != nil {
			return err
		}
	}
	return f.readModuleTail()
}

// Close releases the file if [Open] opened it. Nothing else of f may be in use.
func (f *File) Close() error {
	if f.closer == nil {
		return nil
	}
	return f.closer.Close()
}

// Path is the path given to [Open], "" after [NewFile].
func (f *File) Path() string { return f.path }

// Version is the Go release that built the file.
func (f *File) Version() goruntime.Version { return f.version }

// Arch is the architecture that the file runs on.
func (f *File) Arch() Arch { return f.arch }

// Segments are the file's loadable segments in the order of its program
// headers, for computing a process's load bias. The slice is the caller's.
func (f *File) Segments() []Segment { return slices.Clone(f.segs) }

// Text is the address range [lo, hi) of the program's Go code.
func (f *File) Text() (lo, hi uint64) { return f.module.text, f.module.etext }

// FileOffset is the file offset of the byte at addr, as a uprobe wants it; false
// if the file holds no byte for addr.
func (f *File) FileOffset(addr uint64) (uint64, bool) {
	s := f.segment(addr)
	if s == nil || addr-s.Vaddr >= s.Filesz {
		return 0, false
	}
	return s.Off + addr - s.Vaddr, true
}

// elf is the file as debug/elf sees it, for reading only. It has no sections
// when the file's section headers are missing or damaged.
func (f *File) elf() *elf.File { return f.header }

// An overlay reads as r does but for the bytes at offset at.
type overlay struct {
	r     *io.SectionReader
	at    int64
	patch []byte
}

// ReadAt is io.ReaderAt's.
func (o *overlay) ReadAt(b []byte, off int64) (int, error) {
	n, err := o.r.ReadAt(b, off)
	for i, c := range o.patch {
		if p := o.at + int64(i) - off; p >= 0 && p < int64(n) {
			b[p] = c
		}
	}
	return n, err
}

// Offsets in Elf64_Ehdr and Elf64_Shdr, elf(5).
const (
	ehdrShoff    = 0x28 // 8 bytes
	ehdrShnum    = 0x3c // 2 bytes, followed by e_shstrndx
	ehdrShstrndx = 0x3e
	shdrSize     = 64
	shdrFlags    = 8
)

// openELF parses the file with debug/elf. That package refuses a file whose
// section headers are cut off or wrong, which the kernel runs all the same; so
// it gets a second look with a header that admits to no sections.
func openELF(o *overlay, ehdr []byte) (*elf.File, error) {
	if !compressedNames(o, ehdr) {
		if ef, err := elf.NewFile(o); err == nil {
			return ef, nil
		}
	}
	o.at, o.patch = ehdrShoff, bytes.Clone(ehdr[ehdrShoff:])
	clear(o.patch[:8])
	clear(o.patch[ehdrShnum-ehdrShoff:])
	return elf.NewFile(o)
}

// compressedNames says whether the table of section names claims to be
// compressed. No linker does that; debug/elf would unpack it to any size.
func compressedNames(r io.ReaderAt, ehdr []byte) bool {
	shoff := binary.LittleEndian.Uint64(ehdr[ehdrShoff:])
	index := uint64(binary.LittleEndian.Uint16(ehdr[ehdrShstrndx:]))
	var flags [8]byte
	if _, err := r.ReadAt(flags[:], int64(shoff+index*shdrSize+shdrFlags)); err != nil {
		return false
	}
	return binary.LittleEndian.Uint64(flags[:])&uint64(elf.SHF_COMPRESSED) != 0
}
