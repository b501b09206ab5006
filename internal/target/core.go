package target

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

	"gopherscope/internal/corefile"
	"gopherscope/internal/gobinary"
	"gopherscope/internal/process"
)

// ErrNoExecutable is a core file whose executable is not where it was. The user
// may have it elsewhere.
var ErrNoExecutable = errors.New("the executable of the core file is gone")

// OpenCore reads and validates the Go program that a core file is of. exe is its
// executable, or a copy; "" is the one that the core file names. The Target has the
// core file's memory and no process. The caller keeps owning core, which must stay
// open as long as the Target, and must Close the Target. Among the errors are
// ErrNoExecutable, ErrArch and corefile.ErrOtherBuild.
func OpenCore(core *corefile.File, exe string) (*Target, error) {
	t, err := openExecutable(core, exe)
	if err != nil {
		return nil, err
	}
	if err := t.useCore(core); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

func (t *Target) useCore(core *corefile.File) error {
	if string(t.Bin.Arch()) != string(core.Arch()) {
		return fmt.Errorf("%w: %s is for %s, the core file is of %s",
			ErrArch, process.Printable(t.Bin.Path()), t.Bin.Arch(), core.Arch())
	}
	bias, err := core.UseExecutable(t.Bin.Path(), Segments(t.Bin))
	if err != nil {
		return err
	}
	if err := t.checkModule(core, bias); err != nil {
		return err
	}
	return t.UseMemory(core, bias)
}

// openExecutable opens exe, or if it is "" the executable that the core file
// names. A program that was started as an argument of the dynamic linker is the
// first Go program among the other files whose code was mapped.
func openExecutable(core *corefile.File, exe string) (*Target, error) {
	if exe != "" {
		return OpenBinary(exe)
	}
	path, deleted, err := core.Exe()
	if err != nil {
		return nil, err
	}
	if deleted {
		return nil, fmt.Errorf("%w: %s was deleted before the process ended", ErrNoExecutable, process.Printable(path))
	}
	t, err := OpenBinary(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %w", ErrNoExecutable, err)
	case !errors.Is(err, gobinary.ErrNotGo) && !errors.Is(err, gobinary.ErrNoPclntab):
		return t, err
	}
	for _, im := range core.Images()[1:] {
		if t, err := OpenBinary(im.Path); err == nil {
			return t, nil
		}
	}
	return nil, err
}

// checkModule compares the head of the runtime's moduledata record in the core
// file with that of the executable. Two builds never have the same tables of the
// same sizes at the same places, unless they are the same code.
func (t *Target) checkModule(core *corefile.File, bias uint64) error {
	m := t.Bin.Module()
	buf := make([]byte, 8*len(m.Words))
	other := func(err error) error {
		return fmt.Errorf("%w: %s: runtime.moduledata: %w", corefile.ErrOtherBuild, process.Printable(t.Bin.Path()), err)
	}
	if err := core.ReadMem(m.Addr+bias, buf); err != nil {
		return other(err)
	}
	for i, want := range m.Words {
		if got := binary.LittleEndian.Uint64(buf[8*i:]); got != want && got != want+bias {
			return other(fmt.Errorf("%#x at %d, %#x in the file", got, 8*i, want))
		}
	}
	return nil
}
