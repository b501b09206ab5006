package report

import (
	"io"
	"strconv"
	"time"

	"gopherscope/internal/dump"
	"gopherscope/internal/goruntime"
)

// NewDumpText writes what the runtime itself prints of its goroutines
// (runtime/traceback.go, tracebackothers), in the form of Go 1.21 and later. Only
// the arguments, which a Dump does not have, are always "(...)".
func NewDumpText(w io.Writer, d *dump.Dump, o DumpOptions) Goroutines {
	return &dumpText{buffer: buffer{w: w}, d: d, o: o}
}

type dumpText struct {
	buffer
	d     *dump.Dump
	o     DumpOptions
	began bool
}

// Goroutine implements Goroutines.
func (t *dumpText) Goroutine(g *dump.Goroutine) error {
	b := t.separate()
	b = strconv.AppendUint(append(b, "goroutine "...), g.ID, 10)
	b = appendState(append(b, " ["...), g.Status, t.d.ReasonOf(g))
	if n := minutes(t.d, g); n >= 1 {
		b = strconv.AppendInt(append(b, ", "...), n, 10)
		b = append(b, " minutes"...)
	}
	if g.Has(dump.Locked) {
		b = append(b, ", locked to thread"...)
	}
	b = append(b, ']')
	if t.o.Labels {
		b = appendLabels(b, t.d.Labels[g.Labels])
	}
	b = append(b, ":\n"...)
	return t.line(t.stack(b, g, g.Parent))
}

// Group implements Goroutines.
func (t *dumpText) Group(gr *dump.Group) error {
	b := append(t.separate(), plural(gr.Count, "goroutine")...)
	b = append(b, " ["...)
	for i, s := range gr.States {
		if i > 0 {
			b = append(b, ", "...)
		}
		if len(gr.States) > 1 {
			b = append(strconv.AppendInt(b, int64(s.Count), 10), ' ')
		}
		b = appendState(b, s.Status, s.Reason)
	}
	b = append(b, ']')
	if gr.Wait >= time.Second {
		b = append(b, ", the longest for about "...)
		b = append(b, wholeSeconds(gr.Wait)...)
	}
	b = append(appendGoIDs(append(b, ", "...), gr.IDs, gr.Count), ":\n"...)
	return t.line(t.stack(b, gr.First, gr.Parent))
}

// appendGoIDs appends the numbers of goroutines, of which ids may be the first ones only.
func appendGoIDs(b []byte, ids []uint64, count int) []byte {
	b = append(b, "goid"...)
	for _, id := range ids {
		b = strconv.AppendUint(append(b, ' '), id, 10)
	}
	if count > len(ids) {
		b = append(b, " ..."...)
	}
	return b
}

// Summary implements Goroutines: the summary of a text goes elsewhere, to the
// messages.
func (t *dumpText) Summary(*DumpSummary) error { return nil }

// separate appends the empty line between two goroutines.
func (t *dumpText) separate() []byte {
	if !t.began {
		t.began = true
		return t.b
	}
	return append(t.b, '\n')
}

// appendState appends what a goroutine is doing, as the runtime does.
func appendState(b []byte, status goruntime.Status, reason string) []byte {
	if reason == "" {
		reason = status.Name()
	}
	b = append(b, printable(reason)...)
	if status == goruntime.Leaked {
		b = append(b, " (leaked)"...)
	}
	return b
}

// appendLabels appends the labels as the runtime does from Go 1.27 on.
func appendLabels(b []byte, labels []dump.Label) []byte {
	for i, l := range labels {
		if i == 0 {
			b = append(b, " {"...)
		} else {
			b = append(b, ", "...)
		}
		b = append(appendQuoted(b, l.Key), ": "...)
		b = appendQuoted(b, l.Value)
	}
	if len(labels) > 0 {
		b = append(b, '}')
	}
	return b
}

// appendQuoted quotes s unless it is a plain word (runtime/traceback.go,
// tracebackStringNeedsQuoting).
func appendQuoted(b []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		plain := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '/' || c == '_'
		if !plain {
			return strconv.AppendQuoteToASCII(b, s)
		}
	}
	return append(b, s...)
}

// unavailable is the line that stands for a stack: the runtime's own for those
// that run. It begins the same for all, as that is what parsers look for.
const unavailable = "\tgoroutine running on other thread; stack unavailable"

var whyUnavailable = map[dump.StackSource]string{
	dump.SourceTorn:    ": it kept changing while it was read",
	dump.SourceInvalid: ": its memory makes no sense",
}

// How many frames are printed of a stack (runtime/traceback.go,
// tracebackInnerFrames and tracebackOuterFrames).
const (
	innerFrames = 50
	outerFrames = 50
)

// stack appends the frames of g and its creator, goroutine parent if that is known.
func (t *dumpText) stack(b []byte, g *dump.Goroutine, parent uint64) []byte {
	frames := t.d.Frames(g.Stack, t.o.All)
	if len(frames) == 0 && t.d.HasStacks {
		b = append(b, unavailable...)
		b = append(b, whyUnavailable[g.Source]...)
		b = append(b, '\n')
	}
	if elided := len(frames) - innerFrames - outerFrames; elided > 0 {
		b = appendFrames(b, frames[:innerFrames])
		b = strconv.AppendInt(append(b, "..."...), int64(elided), 10)
		b = append(b, " frames elided...\n"...)
		frames = frames[len(frames)-outerFrames:]
	}
	b = appendFrames(b, frames)
	if t.d.Stacks[g.Stack].Cut {
		b = append(b, "...additional frames elided...\n"...)
	}
	site := t.d.Creator(g, t.o.All)
	if site == nil {
		return b
	}
	b = append(append(b, "created by "...), printable(site.Outer)...)
	if parent != 0 {
		b = strconv.AppendUint(append(b, " in goroutine "...), parent, 10)
	}
	return appendPlace(append(b, '\n'), site.File, site.Line, site.Offset)
}

func appendFrames(b []byte, frames []dump.Frame) []byte {
	for i := range frames {
		f := &frames[i]
		name := f.Func
		if name == "runtime.gopanic" {
			name = "panic"
		}
		b = append(append(b, printable(name)...), "(...)\n"...)
		offset := f.Offset
		if f.Inlined {
			offset = 0
		}
		b = appendPlace(b, f.File, f.Line, offset)
	}
	return b
}

// appendPlace appends a line of the source and the offset in its function, which
// is left out when it is 0.
func appendPlace(b []byte, file string, line int32, offset uint32) []byte {
	b = append(append(b, '\t'), printable(file)...)
	b = strconv.AppendInt(append(b, ':'), int64(line), 10)
	if offset > 0 {
		b = strconv.AppendUint(append(b, " +0x"...), uint64(offset), 16)
	}
	return append(b, '\n')
}
