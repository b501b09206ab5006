package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"gopherscope/internal/engine"
	"gopherscope/internal/engine/ebpf"
	"gopherscope/internal/process"
	"gopherscope/internal/target"
)

// newDoctor is gopherscope doctor.
func newDoctor(t *terminal) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor [flags] [PID]",
		Short: "Say what works here and for a process, and how to mend what does not",
		Long: `Try everything that tracing needs on this host and, with a PID, everything that
it needs of that process, without touching the process. Each line says what was
found; a line that is not ok is followed by what to do about it.

Exit code 1 when tracing would not work.`,
		RunE: func(_ *cobra.Command, args []string) error {
			checks := ebpf.CheckHost()
			if len(args) > 0 {
				op, err := parseOperand(args, -1, "")
				if err != nil {
					return err
				}
				checks = append(checks, checkProcess(op.pid)...)
			}
			return printChecks(t, checks, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line")
	return cmd
}

// checkProcess reads and validates a process as a trace would. It stops at the
// first thing that fails: what comes after builds on it.
func checkProcess(pid int) []engine.Check {
	name := fmt.Sprintf("process %d", pid)
	p, err := process.Open(pid)
	if err != nil {
		return []engine.Check{failedCheck(name, err)}
	}
	defer p.Close()
	user, err := p.User()
	if err != nil {
		return []engine.Check{failedCheck(name, err)}
	}
	cmdline, err := p.Cmdline()
	if err != nil {
		return []engine.Check{failedCheck(name, err)}
	}
	checks := []engine.Check{{Name: name, Status: engine.CheckOK, Detail: fmt.Sprintf("%s, user %s", cmdline, user)}}
	checks = append(checks, checkNamespaces(p))

	tgt, err := target.Open(p)
	if err != nil {
		return append(checks, failedCheck("Go runtime", err))
	}
	defer tgt.Close()
	runtime := engine.Check{Name: "Go runtime", Status: engine.CheckOK}
	runtime.Detail = fmt.Sprintf("%s, %s; layout agrees with machine code and memory", tgt.Bin.Version(), tgt.Bin.Build())
	if len(tgt.Notes) > 0 {
		runtime.Status, runtime.Hint = engine.CheckWarn, strings.Join(tgt.Notes, "; ")
	}
	checks = append(checks, runtime)
	goroutines := engine.Check{Name: "goroutines", Status: engine.CheckOK}
	if n, err := target.CountGoroutines(p, tgt.Bin); err != nil {
		goroutines = failedCheck("goroutines", err)
	} else {
		goroutines.Detail = fmt.Sprintf("%d alive", n)
	}
	return append(checks, goroutines, ebpf.CheckBinary(tgt.Bin))
}

func checkNamespaces(p *process.Process) engine.Check {
	c := engine.Check{Name: "namespaces", Status: engine.CheckOK, Detail: "same as this tool's"}
	otherPID, err1 := p.InOtherPIDNS()
	otherMount, err2 := p.InOtherMountNS()
	if err := errors.Join(err1, err2); err != nil {
		return failedCheck(c.Name, err)
	}
	if otherPID || otherMount {
		c.Detail = "in a container; ids shown are those of this tool's namespace"
	}
	return c
}

func failedCheck(name string, err error) engine.Check {
	return engine.Check{Name: name, Status: engine.CheckFail, Detail: oneLine(err.Error()), Hint: hint(err)}
}

// printChecks writes the table, and returns errReported when a check failed.
func printChecks(t *terminal, checks []engine.Check, asJSON bool) error {
	bad := 0
	for _, c := range checks {
		if c.Status == engine.CheckFail {
			bad++
		}
	}
	if asJSON {
		enc := json.NewEncoder(t.Out)
		for _, c := range checks {
			if err := enc.Encode(c); err != nil {
				return outputError(err, "")
			}
		}
	} else if err := printCheckTable(t, checks); err != nil {
		return outputError(err, "")
	}
	if bad > 0 {
		t.notef("%d of %d checks failed: tracing does not work", bad, len(checks))
		return errReported
	}
	return nil
}

func printCheckTable(t *terminal, checks []engine.Check) error {
	w := tabwriter.NewWriter(t.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CHECK\tSTATUS\tDETAIL")
	for _, c := range checks {
		fmt.Fprintf(w, "%s\t%s\t%s\n", c.Name, c.Status, c.Detail)
		if c.Hint != "" {
			fmt.Fprintf(w, "\t\t-> %s\n", c.Hint)
		}
	}
	return w.Flush()
}
