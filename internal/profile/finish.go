package profile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"gopherscope/internal/event"
)

// machinery has the runtime's functions at the inner end of a stack that say no more than
// what the state and the reason say. Those that the program calls stay, such as
// runtime.chanrecv1, so that the stacks end where those of Go's own block profile do, or
// one or two frames later (runtime/proc.go, chan.go, sema.go, netpoll.go).
var machinery = map[string]bool{
	"runtime.gopark": true, "runtime.goparkunlock": true, "runtime.mcall": true,
	"runtime.chanrecv": true, "runtime.chansend": true,
	"runtime.semacquire1": true, "runtime.netpollblock": true,
	"runtime.systemstack": true, "runtime.newproc": true, "runtime.newproc1": true,
	"runtime.reentersyscall": true, "runtime.entersyscall": true, "runtime.exitsyscall": true,
	"runtime.asyncPreempt": true, "runtime.asyncPreempt2": true,
}

// goexit begins the stacks of all goroutines.
const goexit = "runtime.goexit"

// trim takes from a stack what is the same in all of them. Something is left of every
// stack.
func trim(stack []event.Location) []event.Location {
	for len(stack) > 1 && machinery[stack[0].Func] {
		stack = stack[1:]
	}
	if n := len(stack); n > 1 && stack[n-1].Func == goexit {
		stack = stack[:n-1]
	}
	return stack
}

// Finish ends the profile: every open interval counts up to now (CLOCK_MONOTONIC, ns).
// stack and wall are those of the stream. Nothing else may be called afterwards.
func (c *Collector) Finish(now int64, stack func(id uint32) []event.Location, wall func(mono int64) int64) *Profile {
	for _, p := range c.processes {
		p.live.Retain(func(_ uint64, g *goroutine) bool { c.leave(g, now); return true })
	}
	b := builder{c: c, stack: stack, merged: map[string]int{}}
	var labels Labelled
	for k, s := range c.samples {
		if s.count > 0 {
			b.add(k, s)
			labels.add(k, s)
		}
	}
	p := &Profile{
		Kind: c.kind, Exe: c.info.Exe, Begin: wall(c.info.Begin), Duration: time.Duration(max(0, now-c.info.Begin)),
		Samples: b.samples, Gaps: c.gaps, Unaccounted: c.unaccounted, Missed: c.missed,
		Labels: labels, LabelsFull: c.labels.full,
	}
	p.sort(b.merged)
	return p
}

// sort puts the greatest samples first. numbers has the number of each sample by identity, which is dear to make and decides
// where samples are equal otherwise, as with labels they are often.
func (p *Profile) sort(numbers map[string]int) {
	ids := make([]string, len(p.Samples))
	for id, n := range numbers {
		ids[n] = id
	}
	order := make([]int, len(p.Samples))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		x, y := &p.Samples[i], &p.Samples[j]
		return cmp.Or(cmp.Compare(p.Value(y), p.Value(x)), cmp.Compare(y.Count, x.Count), strings.Compare(ids[i], ids[j]))
	})
	sorted := make([]Sample, 0, len(order))
	for _, i := range order {
		sorted = append(sorted, p.Samples[i])
	}
	p.Samples = sorted
}

// builder joins samples that differ in nothing that is shown: the same lines can have
// several program counters, and thus stacks.
type builder struct {
	c       *Collector
	stack   func(id uint32) []event.Location
	samples []Sample
	merged  map[string]int // of samples, by identity
}

func (b *builder) add(k key, s *sample) {
	one := Sample{
		Stack: b.frames(k.at), Count: s.count, Delay: time.Duration(s.delay),
		State: classNames[k.class], Reason: b.c.reasons.value(k.reason), CreatedBy: b.c.sites.value(k.site),
		Labels: b.c.labels.of(k.label),
	}
	id := one.identity()
	if i, ok := b.merged[id]; ok {
		b.samples[i].Count += one.Count
		b.samples[i].Delay += one.Delay
		return
	}
	b.merged[id] = len(b.samples)
	b.samples = append(b.samples, one)
}

func (b *builder) frames(at spot) []event.Location {
	if at.stack != 0 {
		if frames := b.stack(at.stack); len(frames) > 0 {
			return trim(frames)
		}
	}
	p := b.c.places.value(at.place)
	switch {
	case p.Func == "":
		return []event.Location{{Func: UnknownStack}}
	case p.callers:
		return []event.Location{p.Location, {Func: UnknownCallers}}
	}
	return []event.Location{p.Location}
}

// identity is the same for two samples if their stacks and labels are.
func (s *Sample) identity() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%q %q %q", s.State, s.Reason, s.CreatedBy)
	for _, l := range s.Labels {
		fmt.Fprintf(&text, " %q=%q", l.Key, l.Value)
	}
	for _, f := range s.Stack {
		fmt.Fprintf(&text, " %q %q %d", f.Func, f.File, f.Line)
	}
	return text.String()
}
