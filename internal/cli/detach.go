package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"gopherscope/internal/engine/inline"
	"gopherscope/internal/process"
	"gopherscope/internal/target"
)

// newDetach is gopherscope detach.
func newDetach(t *terminal) *cobra.Command {
	return &cobra.Command{
		Use:   "detach PID",
		Short: "Remove what a killed trace --engine inline left in a process",
		Long: `Remove the code that a gopherscope which was killed (SIGKILL, out of memory) left in
a process that it traced with --engine inline. It does no harm there and records
nothing; the next trace with that engine removes it, too.

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
	found, err := inline.Clean(tgt)
	switch {
	case err != nil:
		return err
	case found:
		t.notef("process %d: removed what was left there", pid)
	default:
		t.notef("process %d: nothing of gopherscope is there", pid)
	}
	return nil
}
