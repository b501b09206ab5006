package report

import (
	"io"
	"path"
	"strconv"
	"time"

	"gopherscope/internal/dump"
	"gopherscope/internal/elapsed"
	"gopherscope/internal/leaks"
)

// Leaks writes what a watch for leaks found.
type Leaks interface {
	// Site writes one creation site.
	Site(s *leaks.Site) error
	// Summary writes the end.
	Summary(s *LeaksSummary) error
	// Flush hands everything to the underlying writer.
	Flush() error
}

// LeaksSummary is the end of a watch for leaks.
type LeaksSummary struct {
	Report *leaks.Report
	Shown  int   // how many sites were written
	Hidden int   // how many suspect sites were not: they are too small
	Err    error // what ended the watch before its time; nil if nothing did
}

// disclaimer is what no reader of the output should overlook.
const disclaimer = "this is evidence, not proof: only the program's author knows which goroutines were meant to end"

// NewLeaksText writes a paragraph for each site.
func NewLeaksText(w io.Writer, r *leaks.Report) Leaks {
	return &leaksText{buffer: buffer{w: w}, r: r}
}

type leaksText struct {
	buffer
	r *leaks.Report
}

// Site implements Leaks.
func (t *leaksText) Site(s *leaks.Site) error {
	b := appendWhence(t.b, s)
	b = append(b, ": "...)
	b = append(b, plural(s.Count, "goroutine")...)
	if t.r.Snapshots > 1 {
		b = t.growth(append(b, ", "...), s)
	}
	b = append(append(append(b, "\n  "...), s.Grade.String()...), '\n')
	for _, e := range s.Evidence {
		b = append(append(append(b, "  - "...), printable(e)...), '\n')
	}
	b = t.facts(b, s)
	b = appendCommon(b, s, t.r.Version.Minor)
	return t.line(append(b, '\n'))
}

// appendWhence appends where the goroutines of a site are from.
func appendWhence(b []byte, s *leaks.Site) []byte {
	if s.Created.Func != "" {
		return appendAt(append(b, "created by "...), &s.Created)
	}
	if s.Start.Func != "" {
		return appendAt(append(b, "started at "...), &s.Start)
	}
	return append(b, "created by unknown code"...)
}

func appendAt(b []byte, s *dump.Site) []byte {
	b = append(append(b, printable(s.Func)...), " at "...)
	b = append(append(b, printable(path.Base(s.File))...), ':')
	return strconv.AppendInt(b, int64(s.Line), 10)
}

// growth appends how the number of goroutines changed.
func (t *leaksText) growth(b []byte, s *leaks.Site) []byte {
	net := s.Net()
	if net >= 0 {
		b = append(b, '+')
	}
	b = strconv.AppendInt(b, int64(net), 10)
	b = append(append(b, " in "...), seconds(t.r.Period)...)
	if net != 0 {
		b = append(strconv.AppendFloat(append(b, " ("...), s.PerMinute, 'f', -1, 64), "/min)"...)
	}
	if s.Gone == 0 {
		return append(b, ", none gone"...)
	}
	b = strconv.AppendInt(append(b, ", "...), int64(s.New), 10)
	b = strconv.AppendInt(append(b, " new, "...), int64(s.Gone), 10)
	return append(b, " gone"...)
}

// facts appends what is known beside the evidence.
func (t *leaksText) facts(b []byte, s *leaks.Site) []byte {
	b = append(b, "  "...)
	for i, st := range s.States {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(strconv.AppendInt(b, int64(st.Count), 10), ' ')
		b = appendState(b, st.Status, st.Reason)
	}
	if first := s.Counts[0]; t.r.Snapshots > 1 && first > 0 {
		b = strconv.AppendInt(append(b, "; of the "...), int64(first), 10)
		b = strconv.AppendInt(append(b, " seen first, "...), int64(s.Unmoved), 10)
		b = append(b, " are still in the very same wait"...)
	}
	if s.Oldest > 0 {
		b = append(append(b, "; the oldest is at least "...), seconds(s.Oldest)...)
		b = append(b, " old"...)
	}
	return append(b, '\n')
}

// appendCommon appends the stack that most goroutines have, in the form of Go's
// tracebacks, and who has it.
func appendCommon(b []byte, s *leaks.Site, minor int) []byte {
	if s.StackCount > 0 {
		b = strconv.AppendInt(append(b, "  "...), int64(s.StackCount), 10)
		b = append(b, " with this stack, "...)
		b = append(appendGoIDs(b, s.GoIDs, s.StackCount), ":\n"...)
		frames := dump.Visible(s.Stack.Frames, minor)
		b = appendFrames(b, frames[:min(len(frames), innerFrames)])
		if len(frames) > innerFrames || s.Stack.Cut {
			b = append(b, "...additional frames elided...\n"...)
		}
	}
	return b
}

// Summary implements Leaks.
func (t *leaksText) Summary(s *LeaksSummary) error {
	r := s.Report
	sites, goroutines := r.Suspects()
	b := t.b
	if sites == 0 {
		b = append(b, "no suspects"...)
	} else {
		b = append(b, plural(sites, "suspect site")...)
		b = append(append(b, " with "...), plural(goroutines, "goroutine")...)
	}
	b = append(append(b, ", of "...), plural(len(r.Sites), "site")...)
	b = append(append(b, " with "...), plural(r.Goroutines, "goroutine")...)
	b = append(append(b, "; "...), plural(r.Snapshots, "snapshot")...)
	if r.Snapshots > 1 {
		b = append(append(b, " in "...), seconds(r.Period)...)
	}
	if s.Hidden > 0 {
		b = append(strconv.AppendInt(append(b, "; "...), int64(s.Hidden), 10), " not shown, being too small"...)
	}
	if !r.Growth {
		b = append(b, "; too few snapshots to tell what grows"...)
	}
	b = append(append(b, '\n'), disclaimer...)
	return t.line(append(b, '\n'))
}

// seconds is a duration for which a tenth of a second makes a difference only if it is short.
func seconds(d time.Duration) string {
	if d < 10*time.Second {
		return elapsed.Text(d)
	}
	return wholeSeconds(d.Round(time.Second))
}

// wholeSeconds is d without what is left over.
func wholeSeconds(d time.Duration) string {
	if d < time.Minute {
		return d.Truncate(time.Second).String()
	}
	return elapsed.Text(d)
}
