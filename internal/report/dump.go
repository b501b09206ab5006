package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"gopherscope/internal/dump"
	"gopherscope/internal/elapsed"
	"gopherscope/internal/goruntime"
)

// Goroutines writes the goroutines of a Dump, or groups of them.
type Goroutines interface {
	// Goroutine writes one goroutine. It may stay in a buffer until Flush.
	Goroutine(g *dump.Goroutine) error
	// Group writes goroutines that look the same.
	Group(g *dump.Group) error
	// Summary writes the end, where the format has one.
	Summary(s *DumpSummary) error
	// Flush hands everything to the underlying writer.
	Flush() error
}

// DumpOptions are the choices of the writers of a Dump.
type DumpOptions struct {
	All    bool // frames that the runtime does not print, too
	Labels bool // text: the pprof labels, in the header
}

// DumpSummary says what was read, and what not.
type DumpSummary struct {
	Dump   *dump.Dump
	Shown  int   // how many goroutines were written
	Groups int   // in how many groups; 0 without groups
	Err    error // what ended the reading before its end; nil if nothing did
}

// counts are the goroutines of a Dump, shown or not.
type counts struct {
	states  map[string]int
	system  int // the runtime's own
	noStack int // running, without the stack that was asked for
}

func (s *DumpSummary) count() counts {
	c := counts{states: map[string]int{}}
	var byStatus [256]int
	for i := range s.Dump.Goroutines {
		g := &s.Dump.Goroutines[i]
		byStatus[g.Status]++
		if g.Has(dump.System) {
			c.system++
		}
		if g.Status == goruntime.Running && g.Source == dump.SourceNone && s.Dump.HasStacks {
			c.noStack++
		}
	}
	for status, n := range byStatus {
		if n > 0 {
			c.states[goruntime.Status(status).Name()] = n
		}
	}
	return c
}

// whyNoStack is why running goroutines have no stack; "" if all have one.
func (c *counts) whyNoStack(d *dump.Dump) string {
	switch {
	case c.noStack == 0:
		return ""
	case d.NoSample != "":
		return d.NoSample
	case c.noStack == 1:
		return "its thread was not seen in Go code"
	}
	return "their threads were not seen in Go code"
}

// Text is the summary in one line, with no newline.
func (s *DumpSummary) Text() string {
	d, c := s.Dump, s.count()
	var b strings.Builder
	if s.Err != nil {
		b.WriteString("incomplete: ")
	}
	fmt.Fprintf(&b, "%s, %d of the runtime's own, in %s", plural(len(d.Goroutines), "goroutine"), c.system, elapsed.Text(d.Took))
	if s.Groups > 0 {
		fmt.Fprintf(&b, "; %d shown in %s", s.Shown, plural(s.Groups, "group"))
	} else {
		fmt.Fprintf(&b, "; %d shown", s.Shown)
	}
	if !d.Time.IsZero() {
		b.WriteString("; the process was not stopped")
	}
	fmt.Fprintf(&b, "; %d torn", d.Torn)
	if d.Torn > 0 {
		b.WriteString(" (they kept changing while they were read)")
	}
	if d.FPMismatches > 0 {
		fmt.Fprintf(&b, "; %s on which the frame pointers disagree", plural(d.FPMismatches, "stack"))
	}
	if c.noStack > 0 {
		fmt.Fprintf(&b, "; %d running without a stack: %s", c.noStack, c.whyNoStack(d))
	}
	return printable(b.String())
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// jsonDumpSummary is the summary's JSON form; the order of the keys is the order
// in the line.
type jsonDumpSummary struct {
	Type         string         `json:"type"`
	PID          int            `json:"pid"`
	GoVersion    jsonName       `json:"go_version"`
	Time         string         `json:"time,omitempty"`
	DurationNs   int64          `json:"duration_ns"`
	Goroutines   int            `json:"goroutines"`
	System       int            `json:"system_goroutines"`
	Shown        int            `json:"shown"`
	Groups       int            `json:"groups,omitempty"`
	States       map[string]int `json:"states"`
	Torn         int            `json:"torn"`
	FPMismatches int            `json:"fp_mismatches"`
	NoStack      int            `json:"running_without_stack"`
	NoSample     string         `json:"no_sample,omitempty"`
	Error        jsonName       `json:"error,omitempty"`
}

// JSON is the summary as one JSON object, with no newline.
func (s *DumpSummary) JSON() ([]byte, error) {
	d, c := s.Dump, s.count()
	j := jsonDumpSummary{
		Type: "summary", PID: d.PID, GoVersion: jsonName(d.Version.Text), DurationNs: int64(d.Took),
		Goroutines: len(d.Goroutines), System: c.system, Shown: s.Shown, Groups: s.Groups, States: c.states,
		Torn: d.Torn, FPMismatches: d.FPMismatches, NoStack: c.noStack, NoSample: c.whyNoStack(d),
		Time: jsonTime(d.Time), Error: jsonName(ErrorText(s.Err)),
	}
	return json.Marshal(j)
}

// jsonTime is a time as it is in JSON; "" for the zero time.
func jsonTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000000Z")
}

// ErrorText is an error in words for people, "" for nil: that a context was
// canceled means to them that they interrupted the command.
func ErrorText(err error) string {
	if err == nil {
		return ""
	}
	if !errors.Is(err, context.Canceled) {
		return err.Error()
	}
	return strings.ReplaceAll(err.Error(), context.Canceled.Error(), "interrupted")
}

// minutes is for how many minutes g waits at least, as the runtime counts them:
// for a goroutine that is waiting or in a system call (runtime/traceback.go,
// goroutineheader).
func minutes(d *dump.Dump, g *dump.Goroutine) int64 {
	if g.Status == goruntime.Leaked {
		return 0
	}
	return int64(d.WaitedFor(g) / time.Minute)
}
