package profile

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"gopherscope/internal/event"
)

// WriteFolded writes a line for each stack, as flamegraph.pl and the tools that followed
// it read it: the functions, outermost first, with semicolons in between, a space, and the
// value: nanoseconds, of Created goroutines. This form has no labels. In a Wall profile
// the last frame is the state instead, as "[runnable]" or "[waiting: chan receive]".
// Stacks that come to nothing are left out.
func WriteFolded(w io.Writer, p *Profile) error {
	values := map[string]int64{}
	var lines []string // in the order of the samples
	for i := range p.Samples {
		s := &p.Samples[i]
		line := folded(p.stackWithState(s))
		if _, ok := values[line]; !ok {
			lines = append(lines, line)
		}
		values[line] += p.Value(s)
	}
	slices.SortStableFunc(lines, func(a, b string) int { return int(max(-1, min(1, values[b]-values[a]))) })
	out := bufio.NewWriter(w)
	for _, line := range lines {
		if values[line] > 0 {
			fmt.Fprintf(out, "%s %d\n", line, values[line])
		}
	}
	return out.Flush()
}

// stackWithState is the stack of a sample, innermost first, below its state in a profile
// that has several.
func (p *Profile) stackWithState(s *Sample) []event.Location {
	if p.Kind != Wall {
		return s.Stack
	}
	state := "[" + s.State + "]"
	if s.Reason != "" {
		state = "[" + s.State + ": " + s.Reason + "]"
	}
	return append([]event.Location{{Func: state}}, s.Stack...)
}

func folded(stack []event.Location) string {
	var line strings.Builder
	for i, f := range slices.Backward(stack) {
		line.WriteString(strings.ReplaceAll(printable(f.Func), ";", ":"))
		if i > 0 {
			line.WriteByte(';')
		}
	}
	return line.String()
}

// printable is s without what could control a terminal or end a line: such characters
// become '?'. The names come from the traced program's file.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
