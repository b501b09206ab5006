// Package pprof writes a Dump as a profile for go tool pprof and everything else
// that reads its format, like the goroutine profile that a Go program makes of
// itself: one sample for each stack, whose value is the number of goroutines. It does
// the same with the profile of a trace, like Go's block profile: see [Samples].
//
// It is pure: a Dump or a profile and a writer in, bytes out.
package pprof

import (
	"fmt"
	"io"
	"iter"

	"github.com/google/pprof/profile"

	"gopherscope/internal/dump"
	"gopherscope/internal/goruntime"
)

// The labels that each sample has besides those that the program itself gave its
// goroutines. A label of the program with the same key is kept, as another value.
const (
	LabelState     = "state"      // as JSON spells it
	LabelReason    = "reason"     // why the goroutines wait; absent if they do not
	LabelCreatedBy = "created_by" // the function of the go statement; absent if it is not known
)

// Mapping is where the program's code is, by the addresses that a Dump has: those
// as linked.
type Mapping struct {
	Start, Limit uint64 // addresses
	Offset       uint64 // of Start in the file
	File         string
}

// Write writes the goroutines gs of d, compressed.
func Write(w io.Writer, d *dump.Dump, gs iter.Seq[*dump.Goroutine], m Mapping) error {
	p := build(d, gs, m)
	if err := p.CheckValid(); err != nil {
		return fmt.Errorf("make profile: %w", err)
	}
	return p.Write(w)
}

// sampleKey is what the goroutines of one sample have in common.
type sampleKey struct {
	stack   dump.StackID
	labels  dump.LabelsID
	created dump.SiteID
	status  goruntime.Status
	reason  uint8            // 0 unless the status has a reason
	source  dump.StackSource // why there is no stack, where there is none
}

// builder collects what samples share.
type builder struct {
	d         *dump.Dump
	p         *profile.Profile
	samples   map[sampleKey]*profile.Sample
	locations map[locationKey]*profile.Location
	functions map[functionKey]*profile.Function
	stacks    map[dump.StackID][]*profile.Location
}

type locationKey struct {
	pc    uint64
	count int    // of frames: wrappers may have been left out
	inner string // the innermost
}

type functionKey struct{ name, file string }

func build(d *dump.Dump, gs iter.Seq[*dump.Goroutine], m Mapping) *profile.Profile {
	b := &builder{
		d: d,
		// As runtime/pprof does it (runtime/pprof/pprof.go, printCountProfile).
		p: &profile.Profile{
			SampleType: []*profile.ValueType{{Type: "goroutine", Unit: "count"}},
			PeriodType: &profile.ValueType{Type: "goroutine", Unit: "count"},
			Period:     1,
			Mapping: []*profile.Mapping{{
				ID: 1, Start: m.Start, Limit: m.Limit, Offset: m.Offset, File: m.File,
				HasFunctions: true, HasFilenames: true, HasLineNumbers: true, HasInlineFrames: true,
			}},
		},
		samples:   map[sampleKey]*profile.Sample{},
		locations: map[locationKey]*profile.Location{},
		functions: map[functionKey]*profile.Function{},
		stacks:    map[dump.StackID][]*profile.Location{},
	}
	if !d.Time.IsZero() {
		b.p.TimeNanos = d.Time.UnixNano()
	}
	for g := range gs {
		b.add(g)
	}
	return b.p
}

func (b *builder) add(g *dump.Goroutine) {
	key := sampleKey{stack: g.Stack, labels: g.Labels, created: g.Created, status: g.Status}
	if b.d.ReasonOf(g) != "" {
		key.reason = g.Reason
	}
	if g.Stack == 0 {
		key.source = g.Source
	}
	s := b.samples[key]
	if s == nil {
		s = &profile.Sample{Location: b.stack(g), Value: []int64{0}, Label: b.labels(g)}
		b.samples[key] = s
		b.p.Sample = append(b.p.Sample, s)
	}
	s.Value[0]++
}

func (b *builder) labels(g *dump.Goroutine) map[string][]string {
	labels := map[string][]string{}
	for _, l := range b.d.Labels[g.Labels] {
		labels[l.Key] = append(labels[l.Key], l.Value)
	}
	labels[LabelState] = append(labels[LabelState], g.Status.Name())
	if reason := b.d.ReasonOf(g); reason != "" {
		labels[LabelReason] = append(labels[LabelReason], reason)
	}
	if by := b.d.Sites[g.Created].Func; by != "" {
		labels[LabelCreatedBy] = append(labels[LabelCreatedBy], by)
	}
	return labels
}

// stack are the locations of g's stack, without runtime.goexit, which begins all
// (runtime/pprof/proto.go, allFrames). Where there is no stack, one location says
// so: a sample without any would not be seen.
func (b *builder) stack(g *dump.Goroutine) []*profile.Location {
	if g.Stack == 0 {
		name := fmt.Sprintf("[no stack: %s]", g.Status.Name())
		if g.Source != dump.SourceNone {
			name = fmt.Sprintf("[no stack: %s]", g.Source)
		}
		return []*profile.Location{b.location([]dump.Frame{{Func: name}})}
	}
	if known, ok := b.stacks[g.Stack]; ok {
		return known
	}
	var locs []*profile.Location
	frames := dump.WithoutWrappers(b.d.Stacks[g.Stack].Frames)
	for len(frames) > 0 && frames[0].Func != "runtime.goexit" {
		n := 1 // frames of the same code address
		for n < len(frames) && frames[n-1].Inlined && frames[n].PC == frames[0].PC {
			n++
		}
		locs = append(locs, b.location(frames[:n]))
		frames = frames[n:]
	}
	b.stacks[g.Stack] = locs
	return locs
}

// location is the one of frames that were inlined at one address, innermost
// first.
func (b *builder) location(frames []dump.Frame) *profile.Location {
	key := locationKey{frames[0].PC, len(frames), frames[0].Func}
	if l, ok := b.locations[key]; ok {
		return l
	}
	l := &profile.Location{ID: uint64(len(b.p.Location) + 1), Address: frames[0].PC}
	if l.Address != 0 {
		l.Mapping = b.p.Mapping[0]
	}
	for _, f := range frames {
		l.Line = append(l.Line, profile.Line{Function: b.function(f.Func, f.File), Line: int64(f.Line)})
	}
	b.locations[key] = l
	b.p.Location = append(b.p.Location, l)
	return l
}

func (b *builder) function(name, file string) *profile.Function {
	key := functionKey{name, file}
	if f, ok := b.functions[key]; ok {
		return f
	}
	f := &profile.Function{ID: uint64(len(b.p.Function) + 1), Name: name, SystemName: name, Filename: file}
	b.functions[key] = f
	b.p.Function = append(b.p.Function, f)
	return f
}
