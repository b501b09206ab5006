package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"gopherscope/internal/gobinary"
	"gopherscope/internal/process"
	"gopherscope/internal/target"
)

func newPS(t *terminal) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ps [flags]",
		Short: "List the Go processes on this host",
		Long: `List the Go processes on this host.

BUILD is how the program was built: stripped, pie, cgo, race, or - for none of
them. GOROUTINES counts those of the runtime too; it is - for a process whose
memory may not be read. The processes are only looked at, never stopped.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("ps takes no operand, got %q", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			procs, hidden, err := goProcesses(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				err = writePSJSON(t, procs)
			} else {
				err = writePSTable(t, procs)
			}
			if hidden > 0 {
				t.notef("%d processes of other users could not be looked at; run as root to see all", hidden)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line")
	return cmd
}

// goProcess is a row of ps.
type goProcess struct {
	PID        int    `json:"pid"`
	User       string `json:"user"`
	Go         string `json:"go_version"`
	Build      string `json:"build"`
	Goroutines *int   `json:"goroutines"` // nil if its memory may not be read
	Command    string `json:"command"`
}

// goProcesses looks at every process in /proc. hidden counts those that this
// user may not look at. Binaries that several processes execute are read once.
func goProcesses(ctx context.Context) (procs []goProcess, hidden int, err error) {
	pids, err := allPIDs()
	if err != nil {
		return nil, 0, err
	}
	bins := map[process.FileID]*gobinary.File{} // nil for what is no Go program
	defer func() {
		for _, b := range bins {
			if b != nil {
				err = errors.Join(err, b.Close())
			}
		}
	}()
	for _, pid := range pids {
		if err := ctx.Err(); err != nil {
			return procs, hidden, err
		}
		row, err := describe(pid, bins)
		switch {
		case errors.Is(err, process.ErrPermission):
			hidden++
		case err != nil: // it ended, or is a kernel thread
		case row != nil:
			procs = append(procs, *row)
		}
	}
	return procs, hidden, nil
}

func allPIDs() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// describe makes the row of a process, nil if it is no Go program.
func describe(pid int, bins map[process.FileID]*gobinary.File) (*goProcess, error) {
	p, err := process.Open(pid)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	id, err := p.ExeID()
	if err != nil {
		return nil, err
	}
	bin, seen := bins[id]
	if !seen {
		bin, err = gobinary.Open(p.ExePath())
		if errors.Is(err, process.ErrPermission) {
			return nil, err
		}
		if err == nil && p.Check() != nil {
			err = errors.Join(process.ErrExited, bin.Close())
		}
		if err != nil {
			bin = nil
		}
		bins[id] = bin
	}
	if bin == nil {
		return nil, nil
	}
	row := &goProcess{PID: pid, Go: bin.Version().Text, Build: bin.Build().String()}
	if row.User, err = p.User(); err != nil {
		return nil, err
	}
	if row.Command, err = p.Cmdline(); err != nil {
		return nil, err
	}
	if n, err := target.CountGoroutines(p, bin); err == nil {
		row.Goroutines = &n
	}
	return row, nil
}

func writePSJSON(t *terminal, procs []goProcess) error {
	enc := json.NewEncoder(t.Out)
	for i := range procs {
		if err := enc.Encode(&procs[i]); err != nil {
			return err
		}
	}
	return nil
}

func writePSTable(t *terminal, procs []goProcess) error {
	w := tabwriter.NewWriter(t.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PID\tUSER\tGO\tBUILD\tGOROUTINES\tCOMMAND")
	for i := range procs {
		p := &procs[i]
		count := "-"
		if p.Goroutines != nil {
			count = strconv.Itoa(*p.Goroutines)
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", p.PID, p.User, p.Go, p.Build, count, p.Command)
	}
	return w.Flush()
}
