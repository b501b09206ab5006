package cli

import (
	"io"

	"gopherscope/internal/event"
	"gopherscope/internal/gotrace"
	"gopherscope/internal/gstate"
	"gopherscope/internal/perfetto"
	"gopherscope/internal/pprof"
	"gopherscope/internal/profile"
	"gopherscope/internal/recording"
	"gopherscope/internal/report"
	"gopherscope/internal/stream"
)

// encoder writes a trace in some format. An error ends the conversion.
type encoder interface {
	event(e *event.Event, c *gstate.Change) error
	// note is called with each note of a recording. What has no place for them leaves them out.
	note(n *recording.Note) error
	// tick is called some times a second: what can be written is to be handed on.
	tick() error
	// finish writes the end. It is not called after an error of the others.
	finish(sum *report.Summary) error
}

// convertFormat is a format that traces can be written in.
type convertFormat struct {
	name    string
	help    string
	binary  bool // not for a terminal
	stacks  bool // stacks are taken of a live process
	profile bool // it is a profile
	make    func(w io.Writer, src stream.Source, o *convertOptions) encoder
}

// convertFormats are all of them, in the order of the help.
var convertFormats = []convertFormat{
	{name: "perfetto", help: "for ui.perfetto.dev: goroutines, Ps, wake-ups, counters over time", binary: true, stacks: true, make: newPerfettoEncoder},
	{name: "gotrace", help: "for go tool trace: a Go execution trace", binary: true, stacks: true, make: newGotraceEncoder},
	{name: formatPprof, help: "a profile for go tool pprof, of the time in all states (--kind)", binary: true, stacks: true, profile: true, make: newProfileEncoder(pprof.WriteSamples)},
	{name: formatFolded, help: "the same for flamegraph.pl", stacks: true, profile: true, make: newProfileEncoder(profile.WriteFolded)},
	{name: formatSpeedscope, help: "the same for speedscope.app", binary: true, stacks: true, profile: true, make: newProfileEncoder(profile.WriteSpeedscope)},
	{name: "json", help: "one JSON object a change, as gopherscope trace --json writes", make: newJSONEncoder},
	{name: "text", help: "one line an event that loses nothing but the stacks' frames", make: newTextEncoder},
}

type perfettoEncoder struct {
	w   *perfetto.Writer
	src stream.Source
}

func newPerfettoEncoder(w io.Writer, src stream.Source, _ *convertOptions) encoder {
	return &perfettoEncoder{perfetto.New(w, src.Info(), src.Stack, src.Wall), src}
}

func (p *perfettoEncoder) event(e *event.Event, c *gstate.Change) error { return p.w.Event(e, c) }

func (p *perfettoEncoder) note(n *recording.Note) error { return p.w.Note(n.Time, n.Cause, n.Detail) }

func (p *perfettoEncoder) tick() error {
	p.totals()
	return p.w.Flush()
}

// totals are left out when they are not known; the summary says so.
func (p *perfettoEncoder) totals() {
	if t, err := p.src.Totals(); err == nil {
		p.w.Totals(&t)
	}
}

func (p *perfettoEncoder) finish(*report.Summary) error {
	p.totals()
	return p.w.Close()
}

type gotraceEncoder struct{ w *gotrace.Writer }

func newGotraceEncoder(w io.Writer, src stream.Source, _ *convertOptions) encoder {
	return &gotraceEncoder{gotrace.New(w, src.Info(), src.Stack)}
}

func (g *gotraceEncoder) event(e *event.Event, c *gstate.Change) error { return g.w.Event(e, c) }

func (g *gotraceEncoder) note(n *recording.Note) error { return g.w.Note(n.Time, noteCause(n)) }

// tick does nothing: a generation of the format is written as a whole.
func (g *gotraceEncoder) tick() error { return nil }

func (g *gotraceEncoder) finish(*report.Summary) error { return g.w.Close() }

// profileEncoder makes a profile, which is written at the end.
type profileEncoder struct {
	collector *profile.Collector
	write     func(io.Writer, *profile.Profile) error
	w         io.Writer
	src       stream.Source
}

func newProfileEncoder(write func(io.Writer, *profile.Profile) error) func(io.Writer, stream.Source, *convertOptions) encoder {
	return func(w io.Writer, src stream.Source, o *convertOptions) encoder {
		return &profileEncoder{profile.New(o.kind, src.Info()), write, w, src}
	}
}

func (p *profileEncoder) event(e *event.Event, _ *gstate.Change) error {
	p.collector.Event(e)
	return nil
}

func (p *profileEncoder) note(*recording.Note) error { return nil }

func (p *profileEncoder) tick() error { return nil }

func (p *profileEncoder) finish(sum *report.Summary) error {
	end := p.src.Info().Begin + int64(sum.Duration)
	return p.write(p.w, p.collector.Finish(end, p.src.Stack, p.src.Wall))
}

type jsonEncoder struct{ out report.Transitions }

func newJSONEncoder(w io.Writer, src stream.Source, _ *convertOptions) encoder {
	out := report.NewJSON(w, src)
	out.Stacks(src.Stack)
	return &jsonEncoder{out}
}

func (j *jsonEncoder) event(e *event.Event, c *gstate.Change) error { return j.out.Event(e, *c) }

func (j *jsonEncoder) note(n *recording.Note) error {
	if out, ok := j.out.(report.Noter); ok {
		return out.Note(n.Time, n.Cause, n.Detail)
	}
	return nil
}

func (j *jsonEncoder) tick() error { return j.out.Flush() }

func (j *jsonEncoder) finish(sum *report.Summary) error {
	if err := j.out.Summary(sum); err != nil {
		return err
	}
	return j.out.Flush()
}

// textEncoder writes the text form of events.
type textEncoder struct {
	w io.Writer
	b []byte
}

// textBuffer is how much text is collected.
const textBuffer = 256 << 10

func newTextEncoder(w io.Writer, _ stream.Source, _ *convertOptions) encoder {
	return &textEncoder{w: w}
}

func (t *textEncoder) event(e *event.Event, _ *gstate.Change) error {
	t.b = append(event.AppendText(t.b, e), '\n')
	if len(t.b) < textBuffer {
		return nil
	}
	return t.tick()
}

func (t *textEncoder) note(n *recording.Note) error {
	t.b = append(event.AppendNote(t.b, n.Time, n.Cause, n.Detail), '\n')
	return nil
}

func (t *textEncoder) tick() error {
	if len(t.b) == 0 {
		return nil
	}
	_, err := t.w.Write(t.b)
	t.b = t.b[:0]
	return err
}

func (t *textEncoder) finish(*report.Summary) error { return t.tick() }
