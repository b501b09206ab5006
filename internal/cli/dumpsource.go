package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"

	"gopherscope/internal/clock"
	"gopherscope/internal/corefile"
	"gopherscope/internal/dump"
	"gopherscope/internal/perf"
	"gopherscope/internal/process"
	"gopherscope/internal/snapshot"
	"gopherscope/internal/target"
)

// dumpSource is a program whose goroutines can be read: a live process, or a core
// file.
type dumpSource struct {
	target  *target.Target
	proc    *process.Process // nil for a core file
	core    *corefile.File   // nil for a process
	path    string           // of the executable, for people
	options snapshot.Options
}

// openDumpTarget opens and validates the process that is the operand of a command
// which reads memory. The caller must Close what it returns.
func openDumpTarget(operand string) (*dumpSource, error) {
	pid, err := parsePID(operand)
	if err != nil {
		return nil, err
	}
	return openProcess(pid)
}

// openDumpOrCore is [openDumpTarget] for an operand that may be a core file as
// well, whose executable is exe if that is not "". What is a number is a PID.
func openDumpOrCore(operand, exe string) (*dumpSource, error) {
	if _, err := strconv.Atoi(operand); err == nil {
		if exe != "" {
			return nil, usagef("--exe is for core files: that of a process is known")
		}
		return openDumpTarget(operand)
	}
	st, err := os.Stat(operand)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, withHint(usagef("%q is neither a PID nor a file", operand), "gopherscope ps lists the Go processes on this host")
	}
	if err == nil && st.Mode().IsRegular() && st.Size() > 0 {
		if kind, err := fileKind(operand); err == nil && kind == recordingFile {
			return nil, withHint(usagef("%q is a recording: dump reads a live process or a core file", operand),
				"gopherscope top, trace, stat, profile and convert take recordings")
		}
	}
	return openCore(operand, exe)
}

func openProcess(pid int) (*dumpSource, error) {
	p, err := process.Open(pid)
	if err != nil {
		return nil, explainMemory(pid, err)
	}
	s := &dumpSource{proc: p}
	s.options = snapshot.Options{Stacks: true, Sampler: perf.NewSampler(nil), Clock: clock.Mono}
	if err := s.open(); err != nil {
		return nil, errors.Join(explainMemory(pid, err), s.Close())
	}
	return s, nil
}

func (s *dumpSource) open() error {
	// Without this, an executable that may not be read would be the first to say
	// so, as if its file were the trouble.
	if err := s.proc.Readable(); err != nil {
		return err
	}
	var err error
	if s.target, err = target.Open(s.proc); err != nil {
		return err
	}
	s.path, _, err = s.proc.Exe()
	return errors.Join(err, s.proc.Check())
}

func openCore(path, exe string) (*dumpSource, error) {
	core, err := corefile.Open(path)
	if err != nil {
		return nil, explainCore(err)
	}
	s := &dumpSource{core: core, options: snapshot.Options{Stacks: true}}
	if s.target, err = target.OpenCore(core, exe); err != nil {
		return nil, errors.Join(explainCore(err), s.Close())
	}
	s.path = s.target.Bin.Path()
	return s, nil
}

// take reads the goroutines. The Dump may be there with an error, as snapshot.Take
// has it.
func (s *dumpSource) take(ctx context.Context) (d *dump.Dump, err error) {
	if s.core != nil {
		d, err = snapshot.TakeCore(ctx, s.target, s.core, &s.options)
	} else {
		d, err = snapshot.Take(ctx, s.target, &s.options)
	}
	return d, s.explain(err)
}

// explain adds the hint to an error of reading.
func (s *dumpSource) explain(err error) error {
	if s.core != nil {
		return explainCore(err)
	}
	return explainMemory(s.proc.PID(), err)
}

// Close releases what s holds.
func (s *dumpSource) Close() error {
	var errs []error
	if s.target != nil {
		errs = append(errs, s.target.Close())
	}
	if s.core != nil {
		errs = append(errs, s.core.Close())
	}
	if s.proc != nil {
		errs = append(errs, s.proc.Close())
	}
	return errors.Join(errs...)
}

// explainCore adds the hint to an error of a core file.
func explainCore(err error) error {
	switch {
	case errors.Is(err, target.ErrNoExecutable):
		return withHint(err, "give the executable, or a copy of it, with --exe")
	case errors.Is(err, corefile.ErrOtherBuild):
		return withHint(err, "give the very file that was executed with --exe: another build will not do")
	case errors.Is(err, corefile.ErrNotCore), errors.Is(err, corefile.ErrNotELF):
		return withHint(err, "give the PID of a process, or a core file that the kernel or gcore wrote")
	case errors.Is(err, corefile.ErrTruncated):
		return withHint(err, "the file was cut short by a limit (ulimit -c) or a full disk; a whole one is needed")
	}
	return err
}
