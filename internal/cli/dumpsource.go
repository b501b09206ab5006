package cli

import (
	"errors"

	"gopherscope/internal/clock"
	"gopherscope/internal/process"
	"gopherscope/internal/snapshot"
	"gopherscope/internal/target"
)

// dumpSource is a program whose goroutines can be read: a live process.
type dumpSource struct {
	target  *target.Target
	proc    *process.Process
	path    string // of the executable, for people
	options snapshot.Options
}

// openDumpTarget opens and validates the operand of a command that reads memory.
// The caller must Close what it returns.
func openDumpTarget(operand string) (*dumpSource, error) {
	pid, err := parsePID(operand)
	if err != nil {
		return nil, err
	}
	return openProcess(pid)
}

func openProcess(pid int) (*dumpSource, error) {
	p, err := process.Open(pid)
	if err != nil {
		return nil, explainMemory(pid, err)
	}
	s := &dumpSource{proc: p, options: snapshot.Options{Stacks: true, Clock: clock.Mono}}
	if err := s.open(); err != nil {
		return nil, errors.Join(explainMemory(pid, err), s.Close())
	}
	return s, nil
}

func (s *dumpSource) open() error {
	// Without this an executable that may not be read would be the first to
	// say so, as if its file were the trouble.
	if err := s.proc.Readable(); err != nil {
		return err
	}
	var err error
	if s.target, err = target.Open(s.proc); err != nil {
		return err
	}
	if err := s.proc.Check(); err != nil {
		return err
	}
	if s.path, _, err = s.proc.Exe(); err != nil {
		return err
	}
	return nil
}

// explain adds a hint to an error of reading.
func (s *dumpSource) explain(err error) error {
	if err == nil {
		return nil
	}
	return explainMemory(s.proc.PID(), err)
}

// Close releases the process and its executable.
func (s *dumpSource) Close() error {
	var errs []error
	if s.target != nil {
		errs = append(errs, s.target.Close())
	}
	return errors.Join(append(errs, s.proc.Close())...)
}
