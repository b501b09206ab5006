package cli

import (
	"fmt"
	"strconv"
	"strings"
)

// operand is what a command works on: exactly one of its fields is set.
type operand struct {
	pid     int
	command []string // to launch
	exe     string   // every process of this executable

	recording string // a file, or - for standard input
}

// recordingSuffix is what the names of recordings end in, by custom.
const recordingSuffix = ".gscope"

// parseOperand reads the operand. dash is the number of arguments before a --,
// -1 without one.
func parseOperand(args []string, dash int, exe string) (operand, error) {
	switch {
	case exe != "":
		if len(args) > 0 {
			return operand{}, usagef("--exe takes no other operand, got %q", args[0])
		}
		return operand{exe: exe}, nil
	case dash == 0 && len(args) > 0:
		return operand{command: args}, nil
	case dash > 0:
		return operand{}, usagef("either a PID or a command after --, not both")
	case len(args) == 0:
		return operand{}, withHint(usagef("what to trace is missing"), "give a PID (gopherscope ps lists them), or -- and a command")
	case len(args) > 1:
		return operand{}, withHint(usagef("one PID at a time, got %d operands", len(args)), "to launch a command put -- before it")
	}
	pid, err := parsePID(args[0])
	if err == nil {
		return operand{pid: pid}, nil
	}
	kind, openErr := fileKind(args[0])
	switch {
	case openErr != nil:
		return operand{}, fmt.Errorf("open recording: %w", openErr)
	case kind == recordingFile:
		return operand{recording: args[0]}, nil
	case kind == otherFile:
		return operand{}, withHint(usagef("%q is neither a PID nor a recording", args[0]), "to launch a command put -- before it: -- %s", args[0])
	case strings.HasSuffix(args[0], recordingSuffix):
		return operand{}, withHint(usagef("there is no recording %q", args[0]), "gopherscope record -o %s PID makes one", args[0])
	}
	return operand{}, withHint(err, "gopherscope ps lists the Go processes on this host; to launch a command put -- before it: -- %s", args[0])
}

// parsePID reads the operand of a command that takes a PID and nothing else.
func parsePID(arg string) (int, error) {
	pid, err := strconv.ParseInt(arg, 10, 32)
	if err != nil || pid <= 0 {
		return 0, withHint(usagef("%q is not a PID", arg), "gopherscope ps lists the Go processes on this host")
	}
	return int(pid), nil
}
