package report

import (
	"io"
	"strconv"

	"gopherscope/internal/dump"
	"gopherscope/internal/event"
)

// NewDumpJSON writes one JSON object a line: one for each goroutine or group, then
// the summary. docs/usage/dump.md has the keys.
func NewDumpJSON(w io.Writer, d *dump.Dump, o DumpOptions) Goroutines {
	return &dumpJSON{buffer: buffer{w: w}, d: d, o: o}
}

type dumpJSON struct {
	buffer
	d *dump.Dump
	o DumpOptions
}

// Goroutine implements Goroutines.
func (j *dumpJSON) Goroutine(g *dump.Goroutine) error {
	b := strconv.AppendUint(append(j.b, `{"type":"goroutine","goid":`...), g.ID, 10)
	b = append(append(b, `,"state":"`...), g.Status.Name()...)
	b = append(b, '"')
	if reason := j.d.ReasonOf(g); reason != "" {
		b = appendString(append(b, `,"reason":`...), reason)
	}
	if g.Has(dump.Fake) {
		b = append(b, `,"fake_wait":true`...)
	}
	b = appendWait(b, int64(j.d.WaitedFor(g)))
	if g.Has(dump.Locked) {
		b = append(b, `,"locked":true`...)
	}
	if g.Has(dump.System) {
		b = append(b, `,"system":true`...)
	}
	if g.TID != 0 {
		b = strconv.AppendInt(append(b, `,"tid":`...), int64(g.TID), 10)
	}
	b = appendParent(b, g.Parent)
	b = j.places(b, g)
	b = appendJSONLabels(b, j.d.Labels[g.Labels])
	return j.line(append(j.stack(b, g), '}', '\n'))
}

// Group implements Goroutines.
func (j *dumpJSON) Group(gr *dump.Group) error {
	b := strconv.AppendInt(append(j.b, `{"type":"group","count":`...), int64(gr.Count), 10)
	b = append(b, `,"states":[`...)
	for i, s := range gr.States {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, `{"state":"`...), s.Status.Name()...)
		b = append(b, '"')
		if s.Reason != "" {
			b = appendString(append(b, `,"reason":`...), s.Reason)
		}
		b = strconv.AppendInt(append(b, `,"count":`...), int64(s.Count), 10)
		b = append(b, '}')
	}
	b = appendWait(append(b, ']'), int64(gr.Wait))
	b = append(b, `,"goids":[`...)
	for i, id := range gr.IDs {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, id, 10)
	}
	b = appendParent(append(b, ']'), gr.Parent)
	b = appendSite(append(b, `,"created_by":`...), &j.d.Sites[gr.First.Created])
	return j.line(append(j.stack(b, gr.First), '}', '\n'))
}

// Summary implements Goroutines.
func (j *dumpJSON) Summary(s *DumpSummary) error {
	line, err := s.JSON()
	if err != nil {
		return err
	}
	return j.line(append(append(j.b, line...), '\n'))
}

// places appends who created a goroutine and where it began.
func (j *dumpJSON) places(b []byte, g *dump.Goroutine) []byte {
	b = appendSite(append(b, `,"created_by":`...), &j.d.Sites[g.Created])
	return appendSite(append(b, `,"start":`...), &j.d.Sites[g.Start])
}

// stack appends the frames of a goroutine and where they are from.
func (j *dumpJSON) stack(b []byte, g *dump.Goroutine) []byte {
	b = append(append(b, `,"stack_source":"`...), g.Source.String()...)
	b = append(b, `","stack":[`...)
	frames := j.d.Frames(g.Stack, j.o.All)
	for i := range frames {
		f := &frames[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, `{"func":`...), f.Func)
		b = appendString(append(b, `,"file":`...), f.File)
		b = strconv.AppendInt(append(b, `,"line":`...), int64(f.Line), 10)
		if f.Inlined {
			b = append(b, `,"inlined":true`...)
		}
		b = append(b, '}')
	}
	b = append(b, ']')
	if j.d.Stacks[g.Stack].Cut {
		b = append(b, `,"stack_cut":true`...)
	}
	return b
}

func appendSite(b []byte, s *dump.Site) []byte {
	return appendLocation(b, event.Location{Func: s.Func, File: s.File, Line: int(s.Line)})
}

func appendWait(b []byte, ns int64) []byte {
	if ns == 0 {
		return b
	}
	return strconv.AppendInt(append(b, `,"wait_noted_ns":`...), ns, 10)
}

func appendParent(b []byte, goid uint64) []byte {
	if goid == 0 {
		return b
	}
	return strconv.AppendUint(append(b, `,"parent":`...), goid, 10)
}

// appendJSONLabels appends the labels, if there are some.
func appendJSONLabels(b []byte, labels []dump.Label) []byte {
	if len(labels) == 0 {
		return b
	}
	b = append(b, `,"labels":`...)
	return appendLabelObject(b, len(labels), func(i int) (string, string) { return labels[i].Key, labels[i].Value })
}

// appendLabelObject appends labels as an object. They are in order, so a key
// that is there twice, which no sound program has, follows itself.
func appendLabelObject(b []byte, n int, label func(i int) (key, value string)) []byte {
	b = append(b, '{')
	last := ""
	for i := range n {
		key, value := label(i)
		if i > 0 && key == last {
			continue
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, key), ':')
		b = appendString(b, value)
		last = key
	}
	return append(b, '}')
}
