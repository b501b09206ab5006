package report

import (
	"io"
	"path"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"gopherscope/internal/elapsed"
	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gstate"
)

// NewText writes a table for people: a header, then one line a change. The
// goroutines that were there before are not listed.
func NewText(w io.Writer, clock Clock) Transitions {
	t := &textWriter{buffer: buffer{w: w}, clock: clock}
	t.b = append(t.b, "TIME            STATE        GOID     PID      TGID     FROM         FOR        P    REASON               DETAIL\n"...)
	return t
}

// The widths of the columns; the header above has the same.
const (
	timeWidth   = 16
	stateWidth  = 13
	goidWidth   = 9
	idWidth     = 9
	forWidth    = 11
	pWidth      = 5
	reasonWidth = 21
)

type textWriter struct {
	buffer
	clock Clock
	stamp stamp
}

// Event implements Transitions.
func (t *textWriter) Event(e *event.Event, c gstate.Change) error {
	if e.Kind == event.Snapshot || e.Kind == event.Labels || e.Kind == event.Census {
		return t.err
	}
	b, start := t.b, len(t.b)
	col := start
	pad := func(width int) {
		for col += width; len(b) < col; {
			b = append(b, ' ')
		}
		if len(b) > col || b[len(b)-1] != ' ' {
			b = append(b, ' ') // a wide value moves the rest of its line
			col = len(b)
		}
	}
	wall := t.clock.Wall(e.Time)
	b = t.stamp.local(b, wall)
	pad(timeWidth)
	if e.Kind != event.Transition {
		return t.line(appendProcessEvent(b, e))
	}
	b = append(b, e.To.String()...)
	pad(stateWidth)
	b = strconv.AppendUint(b, e.GoID, 10)
	pad(goidWidth)
	b = strconv.AppendUint(b, uint64(e.TID), 10)
	pad(idWidth)
	b = strconv.AppendUint(b, uint64(e.PID), 10)
	pad(idWidth)
	b = append(b, e.From.String()...)
	pad(stateWidth)
	b = appendFor(b, &c)
	if c.ForKnown && c.For >= time.Microsecond && c.For < time.Millisecond {
		col++ // the µ has two bytes and takes one place
	}
	pad(forWidth)
	b = appendP(b, e.P)
	pad(pWidth)
	if e.To == goruntime.Waiting && e.Reason != "" {
		b = append(b, printable(e.Reason)...)
	} else {
		b = append(b, '-')
	}
	pad(reasonWidth)
	b = appendDetail(b, e)
	if stack := t.stackOf(e); len(stack) > 0 && e.Birth == nil { // of a birth, the go statement says it
		if b[len(b)-1] != ' ' {
			b = append(b, ' ') // after the detail
		}
		b = appendPark(b, stack)
	}
	if c.Violation {
		b = append(b, "  (violation: a change before this one is missing)"...)
	}
	for b[len(b)-1] == ' ' {
		b = b[:len(b)-1]
	}
	return t.line(append(b, '\n'))
}

// appendFor appends for how long the state before lasted. That it lasted for no time or
// longer says nothing: such a goroutine changed while the trace was attached.
func appendFor(b []byte, c *gstate.Change) []byte {
	if !c.ForKnown || c.ForAtLeast && c.For == 0 {
		return append(b, '-')
	}
	if c.ForAtLeast {
		b = append(b, '>')
	}
	return elapsed.Append(b, c.For)
}

func appendP(b []byte, p int32) []byte {
	if p == event.NoP {
		return append(b, '-')
	}
	return strconv.AppendInt(b, int64(p), 10)
}

func appendProcessEvent(b []byte, e *event.Event) []byte {
	if e.Kind == event.Gap {
		b = elapsed.Append(append(b, "gap of "...), time.Duration(e.Time-e.Since))
		return append(b, ": nothing was traced, to spare the process\n"...)
	}
	b = append(b, "process "...)
	b = strconv.AppendUint(b, uint64(e.PID), 10)
	if e.Kind == event.Exec {
		return append(b, " executes another program: its goroutines are gone\n"...)
	}
	return append(b, " ended\n"...)
}

// appendDetail says who or what is behind a change.
func appendDetail(b []byte, e *event.Event) []byte {
	switch {
	case e.Birth != nil:
		return appendBirth(b, e.Birth)
	case e.Waker != 0:
		return strconv.AppendUint(append(b, "readied by "...), e.Waker, 10)
	case e.Fake:
		return append(b, "still on its M"...)
	}
	switch e.Via {
	case event.ViaTimer:
		return append(b, "readied by a timer"...)
	case event.ViaNetpoll:
		return append(b, "readied by the network poller"...)
	case event.ViaGC:
		return append(b, "garbage collector"...)
	case event.ViaReady, event.ViaOther:
		if e.To == goruntime.Runnable {
			return append(b, "readied by the scheduler"...)
		}
	case event.ViaUnpark:
		return append(b, "no need to wait"...)
	case event.ViaYield:
		return append(b, "yielded"...)
	case event.ViaPreempt:
		return append(b, "preempted"...)
	case event.ViaNoP:
		return append(b, "lost its P in the system call"...)
	case event.ViaCgo:
		return append(b, "cgo"...)
	case event.ViaExtraM:
		return append(b, "thread of C code"...)
	case event.ViaCoroutine:
		return append(b, "coroutine switch"...)
	case event.ViaSuspend:
		return append(b, "stack scan"...)
	}
	return b
}

// appendPark says which code waits or makes a system call: the innermost that does not
// only hand it on.
func appendPark(b []byte, stack []event.Location) []byte {
	for _, l := range stack {
		if goruntime.Passing(l.Func) {
			continue
		}
		b = append(append(b, "in "...), printable(l.Func)...)
		b = append(append(b, " at "...), printable(path.Base(l.File))...)
		return strconv.AppendInt(append(b, ':'), int64(l.Line), 10)
	}
	return b
}

func appendBirth(b []byte, birth *event.Birth) []byte {
	if birth.Parent == 0 {
		b = append(b, "created by the runtime"...)
	} else {
		b = strconv.AppendUint(append(b, "created by "...), birth.Parent, 10)
	}
	if l := birth.CreatedBy; l.Func != "" {
		b = append(b, ' ')
		b = append(b, printable(l.Func)...)
		b = append(b, " at "...)
		b = append(b, printable(path.Base(l.File))...)
		b = append(b, ':')
		b = strconv.AppendInt(b, int64(l.Line), 10)
	}
	if birth.Start.Func != "" {
		b = append(b, ", start "...)
		b = append(b, printable(birth.Start.Func)...)
	}
	return b
}

// printable returns s with every character that could control a terminal
// escaped as Go source would.
func printable(s string) string {
	for _, r := range s {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			q := strconv.Quote(s)
			return q[1 : len(q)-1]
		}
	}
	return s
}

// Summary implements Transitions: the summary of a table goes elsewhere, to
// the messages, so that the table stays a table.
func (t *textWriter) Summary(*Summary) error { return nil }
