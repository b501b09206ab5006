package pprof

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/pprof/profile"

	"gopherscope/internal/event"
	samples "gopherscope/internal/profile"
)

// WriteSamples writes a profile of a trace, compressed: see [Samples].
func WriteSamples(w io.Writer, p *samples.Profile) error {
	out := Samples(p)
	if err := out.CheckValid(); err != nil {
		return fmt.Errorf("make profile: %w", err)
	}
	return out.Write(w)
}

// Samples is a profile of a trace in the form that pprof has. The sample types are those
// of Go's own block profile, so that both can be compared: contentions/count, the number of
// intervals, and delay/nanoseconds, their sum (runtime/pprof/pprof.go, printCountCycleProfile);
// of goroutines that were created goroutines/count. The frames have lines and no addresses.
func Samples(p *samples.Profile) *profile.Profile {
	b := &sampleBuilder{
		p: &profile.Profile{
			SampleType: []*profile.ValueType{{Type: "contentions", Unit: "count"}, {Type: "delay", Unit: "nanoseconds"}},
			PeriodType: &profile.ValueType{Type: "contentions", Unit: "count"},
			Period:     1, TimeNanos: p.Begin, DurationNanos: int64(p.Duration), Comments: p.About(),
			Mapping: []*profile.Mapping{{
				ID: 1, File: p.Exe,
				HasFunctions: true, HasFilenames: true, HasLineNumbers: true, HasInlineFrames: true,
			}},
		},
		locations: map[event.Location]*profile.Location{},
		functions: map[functionKey]*profile.Function{},
	}
	if p.Kind == samples.Created {
		b.p.SampleType = []*profile.ValueType{{Type: "goroutines", Unit: "count"}}
		b.p.PeriodType = &profile.ValueType{Type: "goroutines", Unit: "count"}
	}
	for i := range p.Samples {
		b.add(p.Kind, &p.Samples[i])
	}
	return b.p
}

// sampleBuilder collects what samples share.
type sampleBuilder struct {
	p         *profile.Profile
	locations map[event.Location]*profile.Location
	functions map[functionKey]*profile.Function
}

func (b *sampleBuilder) add(kind samples.Kind, s *samples.Sample) {
	out := &profile.Sample{Value: []int64{s.Count}, Label: map[string][]string{}}
	if kind != samples.Created {
		out.Value = append(out.Value, int64(s.Delay))
	}
	for _, l := range s.Labels {
		key := labelText(l.Key)
		out.Label[key] = append(out.Label[key], labelText(l.Value))
	}
	for _, l := range []struct{ key, value string }{
		{LabelState, s.State}, {LabelReason, s.Reason}, {LabelCreatedBy, s.CreatedBy},
	} {
		if l.value != "" {
			out.Label[l.key] = append(out.Label[l.key], l.value)
		}
	}
	for _, at := range s.Stack {
		out.Location = append(out.Location, b.location(at))
	}
	b.p.Sample = append(b.p.Sample, out)
}

// labelText is a text of the traced program's labels as a profile has it: what tools print to a terminal as it
// is must not control it, and strings of a profile are UTF-8. So other characters are escaped as in Go source.
func labelText(s string) string {
	plain := utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
	if plain {
		return s
	}
	var text strings.Builder
	for _, r := range s {
		if quoted := strconv.QuoteRune(r); unicode.IsPrint(r) {
			text.WriteRune(r)
		} else {
			text.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return text.String()
}

func (b *sampleBuilder) location(at event.Location) *profile.Location {
	if l, ok := b.locations[at]; ok {
		return l
	}
	key := functionKey{at.Func, at.File}
	f, ok := b.functions[key]
	if !ok {
		f = &profile.Function{ID: uint64(len(b.p.Function) + 1), Name: at.Func, SystemName: at.Func, Filename: at.File}
		b.functions[key] = f
		b.p.Function = append(b.p.Function, f)
	}
	l := &profile.Location{
		// Without the mapping, for tools look up addresses in the file of one.
		ID: uint64(len(b.p.Location) + 1), Line: []profile.Line{{Function: f, Line: int64(at.Line)}},
	}
	b.locations[at] = l
	b.p.Location = append(b.p.Location, l)
	return l
}
