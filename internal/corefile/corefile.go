// Package corefile reads the memory and the threads of a dead process out of an
// ELF core file: one that the kernel wrote when the process died of a signal
// (core(5)), or that gcore(1) wrote of one that lives on. It knows nothing of Go
// programs but the registers that Go keeps its current goroutine in.
//
// A core file does not hold all memory. The kernel leaves out what it can find
// again, above all the code and the constants of the executable, so a [File] is
// given the executable ([File.UseExecutable]) and takes its read-only segments
// from there. What neither of them holds is ErrBadAddress: it is never taken for
// zeros.
//
// Nothing in the file is trusted. A file that was cut short is read as far as it
// goes, if its notes are whole.
//
// A File is safe for concurrent use once UseExecutable has been called.
package corefile

import (
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"gopherscope/internal/process"
)

// Errors that callers tell apart with errors.Is. All come wrapped with the reason.
var (
	// ErrNotELF is a file that is no ELF file at all.
	ErrNotELF = errors.New("not an ELF file")
	// ErrNotCore is an ELF file of another kind, such as an executable.
	ErrNotCore = errors.New("not a core file")
	// ErrArch is a core file of a machine that is not understood.
	ErrArch = errors.New("unsupported architecture")
	// ErrTruncated is a core file that ends before its notes do.
	ErrTruncated = errors.New("truncated core file")
	// ErrNotes is a core file whose notes lack something, or make no sense.
	ErrNotes = errors.New("core file not understood")
	// ErrOtherBuild is an executable that is not the one that died.
	ErrOtherBuild = errors.New("not the executable of the core file")
)

// Arch is a processor architecture, spelt as GOARCH spells it.
type Arch string

// The architectures that are understood.
const (
	AMD64 Arch = "amd64"
	ARM64 Arch = "arm64"
)

// A Thread is one thread of the process as it was last.
type Thread struct {
	TID        int    // in the PID namespace of who wrote the file: the kernel that of the process, gcore its own
	PC, SP, BP uint64 // BP is the frame pointer: RBP, X29
	LR         uint64 // arm64 only: the link register, X30
	G          uint64 // the register that Go keeps the current g in: R14, X28
}

// A File is an open core file. Make one with [Open] or [NewFile].
type File struct {
	r       io.ReaderAt
	closers []io.Closer
	size    uint64
	arch    Arch
	loads   []load // by address
	missing uint64 // bytes of memory that were cut off

	pid     int
	comm    string
	threads []Thread
	entry   uint64 // AT_ENTRY
	page    uint64 // AT_PAGESZ
	images  []Image
	exe     executable
}

// Open reads the core file at path. The errors are those of os.Open and of
// [NewFile], wrapped with the path. The caller closes the File.
func Open(path string) (*File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() { // before Open, which waits at a pipe
		return nil, fmt.Errorf("read %s: %w: not a regular file", process.Printable(path), ErrNotELF)
	}
	osf, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	f, err := NewFile(osf, st.Size())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", process.Printable(path), err), osf.Close())
	}
	f.closers = append(f.closers, osf)
	return f, nil
}

// NewFile reads a core file of size bytes from r, which must stay readable while
// the File is used. The errors are ErrNotELF, ErrNotCore, ErrArch, ErrTruncated
// and ErrNotes.
func NewFile(r io.ReaderAt, size int64) (*File, error) {
	f := &File{r: r, size: uint64(max(size, 0))}
	progs, err := f.readHeaders()
	if err != nil {
		return nil, err
	}
	var n notes
	segments := 0
	for _, p := range progs {
		switch elf.ProgType(p.Type) {
		case elf.PT_LOAD:
			if err := f.addLoad(p); err != nil {
				return nil, err
			}
		case elf.PT_NOTE:
			if segments++; segments > maxNoteSegments {
				return nil, fmt.Errorf("%w: more than %d segments of notes", ErrNotes, maxNoteSegments)
			}
			if err := n.readSegment(f, p); err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(f.loads, func(a, b load) int { return cmp.Compare(a.start, b.start) })
	if err := f.useNotes(&n); err != nil {
		return nil, err
	}
	return f, nil
}

// useNotes takes over what the notes say.
func (f *File) useNotes(n *notes) error {
	switch {
	case len(n.threads) == 0:
		return fmt.Errorf("%w: no thread's registers (NT_PRSTATUS)", ErrNotes)
	case n.files == nil:
		return fmt.Errorf("%w: no list of mapped files (NT_FILE)", ErrNotes)
	}
	f.threads, f.pid, f.comm = n.threads, n.pid, n.comm
	if f.pid == 0 {
		f.pid = f.threads[0].TID
	}
	f.page, _ = process.AuxValue(n.auxv, process.AtPageSize)
	if f.page < minPage || f.page > maxPage || f.page&(f.page-1) != 0 {
		f.page = minPage
	}
	f.entry, _ = process.AuxValue(n.auxv, process.AtEntry)
	mapped, err := parseFiles(n.files)
	if err != nil {
		return fmt.Errorf("%w: list of mapped files: %w", ErrNotes, err)
	}
	f.images = f.groupImages(mapped)
	return nil
}

// The page sizes that the machines have.
const (
	minPage = 4 << 10
	maxPage = 64 << 10
)

// Close releases the core file, if [Open] opened it, and the executable. Nothing
// else of f may be in use.
func (f *File) Close() error {
	var errs []error
	for _, c := range f.closers {
		errs = append(errs, c.Close())
	}
	f.closers = nil
	return errors.Join(errs...)
}

// Arch is the architecture of the process.
func (f *File) Arch() Arch { return f.arch }

// PID is the process's number: in its own PID namespace if the kernel wrote the
// file.
func (f *File) PID() int { return f.pid }

// Comm is the command's name as the kernel had it, at most 15 bytes, with what a
// terminal might act on escaped; "" if the file does not say.
func (f *File) Comm() string { return process.Printable(f.comm) }

// Threads are the process's threads; the first is the one that died, or that was
// current when gcore came. The slice is the caller's.
func (f *File) Threads() []Thread { return slices.Clone(f.threads) }

// Missing is how many bytes of memory should be in the file and are not, because
// it was cut short; 0 for a whole one.
func (f *File) Missing() uint64 { return f.missing }
