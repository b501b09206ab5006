package corefile

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"gopherscope/internal/process"
)

// Image is a file of which the process had code mapped: its executable, the
// dynamic linker, a library.
type Image struct {
	// Path is where the file was, raw, seen from the process's root directory.
	Path string
	// Deleted is set when it was no longer there, or another file.
	Deleted bool

	maps []process.Mapping // by address, those that are no code too
}

// code are the mappings of an image's code: just the one with the address at which
// the kernel started the program, if it is there. Of a mapping that the file has no
// program header for, as gcore leaves out what nobody wrote to, it is not known
// what it was for.
func (im *Image) code(entry uint64) []process.Mapping {
	var out []process.Mapping
	for _, m := range im.maps {
		if m.Start <= entry && entry < m.End {
			return []process.Mapping{m}
		}
		if m.Exec {
			out = append(out, m)
		}
	}
	return out
}

// Images are the files of which the process had code mapped, by address, but
// first the one that contains the address at which the kernel started the program
// (AT_ENTRY). For a program started as an argument of the dynamic linker that is
// the linker, and the program is among the others.
func (f *File) Images() []Image { return slices.Clone(f.images) }

// Exe is the path of the executable: that of the first of the Images. ErrNotes if
// the file does not say.
func (f *File) Exe() (path string, deleted bool, err error) {
	if len(f.images) == 0 || !f.images[0].contains(f.entry) {
		return "", false, fmt.Errorf("%w: it does not say which file was executed", ErrNotes)
	}
	return f.images[0].Path, f.images[0].Deleted, nil
}

func (im *Image) contains(addr uint64) bool {
	return slices.ContainsFunc(im.maps, func(m process.Mapping) bool { return m.Start <= addr && addr < m.End })
}

// groupImages makes images of the mapped files, those that have code.
func (f *File) groupImages(mapped []process.Mapping) []Image {
	var all []Image
	index := map[string]int{}
	for _, m := range mapped {
		l := f.loadAt(m.Start)
		m.Exec = l == nil || l.flags&elf.PF_X != 0
		i, ok := index[m.Path]
		if !ok {
			i = len(all)
			index[m.Path] = i
			path, deleted := strings.CutSuffix(m.Path, " (deleted)") // fs/d_path.c, d_path
			all = append(all, Image{Path: path, Deleted: deleted})
		}
		all[i].maps = append(all[i].maps, m)
	}
	all = slices.DeleteFunc(all, func(im Image) bool { return len(im.code(f.entry)) == 0 })
	slices.SortStableFunc(all, func(a, b Image) int {
		switch x, y := a.contains(f.entry), b.contains(f.entry); {
		case x && !y:
			return -1
		case y && !x:
			return 1
		}
		return 0
	})
	return all
}

// UseExecutable gives f the file that the process executed, or a copy of it, so
// that its read-only segments can be read. segments are the file's. It returns
// what to add to an address of the file as linked to get one of the process. The
// error is ErrOtherBuild if no image in the core file can be that file. Close
// closes the file.
func (f *File) UseExecutable(path string, segments []process.Segment) (bias uint64, err error) {
	osf, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	var first error
	for i := range f.images {
		im := &f.images[i]
		bias, err := process.Bias(im.Path, im.code(f.entry), segments, f.page)
		if err == nil {
			if err = f.sameFile(im, osf); err == nil {
				f.exe = executable{r: osf, maps: im.maps, segs: slices.Clone(segments)}
				f.closers = append(f.closers, osf)
				return bias, nil
			}
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		first = errors.New("the process had no code of a file mapped")
	}
	err = fmt.Errorf("%w: %s: %w", ErrOtherBuild, process.Printable(path), first)
	return 0, errors.Join(err, osf.Close())
}

// sameFile compares the first page of a file with that of an image. The kernel
// writes that page even of files of which it writes nothing else (core(5),
// coredump_filter, bit 4): it has the ELF header and, in files of Go's linkers, the
// build IDs. A page that is not there tells nothing.
func (f *File) sameFile(im *Image, osf *os.File) error {
	for _, m := range im.maps {
		if m.Offset != 0 {
			continue
		}
		want := make([]byte, f.page)
		n, err := f.readHeld(m.Start, want)
		if err != nil || n == 0 {
			return nil
		}
		got := make([]byte, n)
		// What follows the file's end in its last page is zeros.
		if k, err := osf.ReadAt(got, 0); k == 0 {
			return fmt.Errorf("first page: %w", err)
		}
		if !bytes.Equal(want[:n], got) {
			return fmt.Errorf("the first page of %s in memory is another", process.Printable(im.Path))
		}
		return nil
	}
	return nil
}
