// Package cli is the command line: one file per subcommand, which parses its
// flags into an options struct and runs it. Nothing below this package sees a
// flag, prints a message or ends the process.
package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// Stdio are the streams of a run: data goes to Out, everything else to Err.
type Stdio struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// doubled is for how long after the first signal another one is taken for the
// same: a terminal, a shell and a supervisor may each send one.
const doubled = time.Second

// Main runs the command line and returns the process's exit code. SIGINT,
// SIGTERM and SIGHUP end the running command cleanly; one that comes more than a
// second later ends the process at once. So does a pipe that nobody reads any more
// end the command.
func Main(args []string, stdio Stdio) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, func() { time.AfterFunc(doubled, stop) })
	// With a handler a write to such a pipe fails; without one the signal ends the
	// process (package os/signal). A handler is not inherited by what is launched.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)

	t := &terminal{Stdio: stdio}
	root := newRoot(t)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errReported):
		return exitFailed
	}
	if !errors.As(err, new(hintError)) && isUsage(err) {
		err = withHint(err, "see %s --help", cmd.CommandPath())
	}
	t.fail(err)
	if isUsage(err) {
		return exitUsage
	}
	return exitFailed
}

func newRoot(t *terminal) *cobra.Command {
	root := &cobra.Command{
		Use:   "gopherscope",
		Short: "See what every goroutine of a live Go process is doing",
		Long: `gopherscope shows the state of every goroutine of a live, unmodified Go process:
which run, which are runnable and queueing, which wait, on what, for how long,
and which code put them there. Any Go from 1.18 on, stripped or not; no restart.`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q", args[0])
			}
			return cmd.Help()
		},
		Args: cobra.ArbitraryArgs,
	}
	root.SetIn(t.In)
	root.SetOut(t.Out)
	root.SetErr(t.Err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newTrace(t), newPS(t), newDoctor(t))
	root.AddCommand(newDump(t))
	root.AddCommand(newProfile(t))
	root.AddCommand(newConvert(t))
	root.AddCommand(newLeaks(t))
	root.AddCommand(newTop(t))
	root.AddCommand(newDetach(t))
	root.AddCommand(newStat(t))
	root.AddCommand(newRecord(t))
	return root
}

// version is the module's version and commit, as the toolchain recorded them.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	if v == "" || v == "(devel)" {
		v = "devel"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			v += " " + s.Value[:12]
		}
	}
	return v + " " + info.GoVersion
}
