package cli

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"gopherscope/internal/gobinary"
	"gopherscope/internal/process"
	"gopherscope/internal/target"
)

func newPS(t *terminal) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ps [flags]",
		Short: "List the Go processes on this host",
		Long: `List the Go processes on this host, but for this one, by PID.

BUILD is how the program was built: stripped, pie, cgo, race, or - for none of
them; unsupported is a program that cannot be traced, such as one older than
Go 1.18. GOROUTINES counts those of the runtime too, which runtime.NumGoroutine
does not; it is - where the process's memory may not be read. The processes are
only looked at, never stopped.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("ps takes no operand, got %q", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runPS(cmd.Context(), t, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line")
	return cmd
}

func runPS(ctx context.Context, t *terminal, asJSON bool) error {
	procs, denied, err := goProcesses(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		err = writePSJSON(t, procs)
	} else {
		err = writePSTable(t, procs)
	}
	if denied > 0 {
		t.notef("%s", deniedNote(denied, os.Geteuid() == 0))
	}
	return outputError(err, "")
}

func deniedNote(denied int, root bool) string {
	note := "1 process could not be looked at: permission denied"
	if denied > 1 {
		note = fmt.Sprintf("%d processes could not be looked at: permission denied", denied)
	}
	if !root {
		note += "; run as root to see all"
	}
	return note
}

// goProcess is a row of ps. Its strings are safe to print.
type goProcess struct {
	PID        int    `json:"pid"`
	User       string `json:"user"`
	Go         string `json:"go_version"`
	Build      string `json:"build"`
	Goroutines *int   `json:"goroutines"` // nil if its memory may not be read
	Command    string `json:"command"`
}

// program is what is known of an executable, which many processes may run.
type program struct {
	version, build string
	bin            *gobinary.File // nil if it is unsupported
}

// unsupported stands for the build of a Go program that cannot be understood.
const unsupported = "unsupported"

// goProcesses looks at every process but this one. denied counts those that
// this user may not look at. A process that ends meanwhile is left out.
func goProcesses(ctx context.Context) (procs []goProcess, denied int, err error) {
	entries, denied, err := process.List()
	if err != nil {
		return nil, 0, err
	}
	programs := map[process.FileID]*program{} // nil for what is no Go program
	defer func() {
		for _, g := range programs {
			if g != nil && g.bin != nil {
				err = errors.Join(err, g.bin.Close())
			}
		}
	}()
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		if g, seen := programs[e.Exe]; e.PID == os.Getpid() || seen && g == nil {
			continue
		}
		row, err := describe(e.PID, programs)
		if errors.Is(err, process.ErrPermission) {
			denied++
		}
		if row != nil {
			procs = append(procs, *row)
		}
	}
	return procs, denied, nil
}

// describe makes the row of a process, nil if it is no Go program.
func describe(pid int, programs map[process.FileID]*program) (*goProcess, error) {
	p, err := process.Open(pid)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	id, err := p.ExeID()
	if err != nil {
		return nil, err
	}
	g, seen := programs[id]
	if !seen {
		if g, err = openProgram(p); err != nil {
			return nil, err
		}
		programs[id] = g
	}
	if g == nil {
		return nil, nil
	}
	row := &goProcess{PID: pid, Go: g.version, Build: g.build}
	if row.User, err = p.User(); err != nil {
		return nil, err
	}
	if row.Command, err = p.Cmdline(); err != nil {
		return nil, err
	}
	if g.bin != nil {
		if n, err := target.CountGoroutines(p, g.bin); err == nil {
			row.Goroutines = &n
		}
	}
	return row, nil
}

// openProgram reads what p executes; nil if that is no Go program.
func openProgram(p *process.Process) (*program, error) {
	path := p.ExePath()
	if !maybeGo(path) {
		return nil, p.Check()
	}
	bin, err := gobinary.Open(path)
	if errors.Is(err, process.ErrPermission) {
		return nil, err
	}
	if err != nil {
		info, err := buildinfo.ReadFile(path)
		if err != nil {
			return nil, p.Check()
		}
		return &program{version: process.Printable(info.GoVersion), build: unsupported}, p.Check()
	}
	if err := p.Check(); err != nil { // it was perhaps another process's
		return nil, errors.Join(err, bin.Close())
	}
	return &program{version: process.Printable(bin.Version().Text), build: bin.Build().String(), bin: bin}, nil
}

// maybeGo tells cheaply most programs that are not written in Go: they have
// section headers, but none of the sections that Go's linker makes (Go 1.18 to
// 1.27, cmd/link/internal/ld). A big program without any is expensive to
// exclude otherwise, as its data must be searched.
func maybeGo(path string) bool {
	f, err := elf.Open(path)
	if err != nil {
		return true
	}
	defer func() { _ = f.Close() }() // only read from
	for _, name := range []string{".go.buildinfo", ".gopclntab", ".data.rel.ro.gopclntab", ".note.go.buildid"} {
		if f.Section(name) != nil {
			return true
		}
	}
	return len(f.Sections) == 0
}

func writePSJSON(t *terminal, procs []goProcess) error {
	enc := json.NewEncoder(t.Out)
	enc.SetEscapeHTML(false)
	for i := range procs {
		if err := enc.Encode(&procs[i]); err != nil {
			return err
		}
	}
	return nil
}

// writePSTable prints the table. On a terminal a row is cut to one line.
func writePSTable(t *terminal, procs []goProcess) error {
	var text bytes.Buffer
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PID\tUSER\tGO\tBUILD\tGOROUTINES\tCOMMAND")
	for i := range procs {
		p := &procs[i]
		count := "-"
		if p.Goroutines != nil {
			count = strconv.Itoa(*p.Goroutines)
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", p.PID, p.User, p.Go, p.Build, count, p.Command)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if width := columns(t.Out); width > 0 {
		for line := range strings.Lines(text.String()) {
			r := []rune(strings.TrimSuffix(line, "\n"))
			if _, err := fmt.Fprintln(t.Out, string(r[:min(len(r), width)])); err != nil {
				return err
			}
		}
		return nil
	}
	_, err := t.Out.Write(text.Bytes())
	return err
}

// columns is the width of the terminal that w writes to, 0 if it is none.
func columns(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	switch {
	case err != nil:
		return 0
	case size.Col == 0: // a serial console, or a pseudo-terminal that nobody told
		return 80
	}
	return int(size.Col)
}
