package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"gopherscope/internal/engine/ebpf"
	"gopherscope/internal/engine/inline"
	"gopherscope/internal/process"
	"gopherscope/internal/target"
)

// newDetach is gopherscope detach.
func newDetach(t *terminal) *cobra.Command {
	return &cobra.Command{
		Use:   "detach [flags] PID",
		Short: "Remove what a trace that was killed left in a process",
		Long: `Remove what a gopherscope that was killed (SIGKILL, out of memory) left in the process
that it traced: with --engine inline its code, which records nothing; with --engine
ebpf, if it was killed just while it attached or detached, breakpoints that nobody
reads and that slow the process down. The next trace with that engine removes them,
too.

A process that a gopherscope is tracing is left alone. Exit code 0 also when there
was nothing to remove.`,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("detach takes one PID, got %d operands", len(args))
			}
			pid, err := parsePID(args[0])
			if err != nil {
				return err
			}
			return runDetach(t, pid)
		},
	}
}

func runDetach(t *terminal, pid int) (err error) {
	p, err := process.Open(pid)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	tgt, err := target.Open(p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tgt.Close()) }()
	code, err := inline.Clean(tgt)
	if err != nil {
		return err
	}
	traps, left, err := ebpf.Clean(tgt)
	if err != nil {
		return err
	}
	switch {
	case code || traps:
		t.notef("process %d: removed what was left there", pid)
	case left == 0:
		t.notef("process %d: nothing of gopherscope is there", pid)
	}
	if left > 0 {
		t.notef("process %d: somebody else probes it, at %d places", pid, left)
	}
	return nil
}
