package main

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// result is what was measured of one variant in one workload.
type result struct {
	name    string
	rounds  []sample
	slower  []float64 // ns a unit, to those of the untraced target in the same round
	toEmpty []float64 // added ns a unit, to those that the empty program adds in the same round
	usage   usage
	reader  []float64 // the reader's CPU seconds for a million events, by round
}

func (s sample) ns() float64 { return float64(s.took) / s.units }

// measure lets the variants take turns in a workload.
func measure(wl workload, path string, vs []variant, o options) ([]result, error) {
	t, err := startTarget(path)
	if err != nil {
		return nil, err
	}
	defer t.stop()
	if err := wl.prepare(t); err != nil {
		return nil, err
	}
	if _, err := wl.once(t, o.duration/2); err != nil { // warm up
		return nil, err
	}
	res := make([]result, len(vs))
	for range o.rounds {
		for i, v := range vs {
			res[i].name = v.name
			if err := res[i].measure(wl, t, v, o.duration); err != nil {
				return nil, fmt.Errorf("%s: %w", v.name, err)
			}
		}
	}
	compare(res)
	return res, nil
}

// measure adds a round. It measures again when a reader was late.
func (r *result) measure(wl workload, t *target, v variant, d time.Duration) error {
	err := errLate
	for errors.Is(err, errLate) {
		err = r.tryMeasure(wl, t, v, d)
	}
	return err
}

func (r *result) tryMeasure(wl workload, t *target, v variant, d time.Duration) error {
	stop, err := v.start(t)
	if err != nil {
		return err
	}
	s, err := wl.once(t, d)
	u, stopErr := stop()
	if err := errors.Join(err, stopErr); err != nil {
		return err
	}
	r.rounds = append(r.rounds, s)
	if u.events > 0 {
		r.reader = append(r.reader, u.cpuSeconds())
	}
	r.usage.events += u.events
	r.usage.lost += u.lost
	r.usage.cpu += u.cpu
	r.usage.rss = max(r.usage.rss, u.rss)
	return nil
}

// compare fills in the ratios, round by round. Where there is no empty program there are
// none to it.
func compare(res []result) {
	none, traps := find(res, untraced), lookFor(res, empty)
	for i := range res {
		r := &res[i]
		for k, s := range r.rounds {
			base := none.rounds[k].ns()
			r.slower = append(r.slower, s.ns()/base)
			if traps != nil {
				r.toEmpty = append(r.toEmpty, (s.ns()-base)/(traps.rounds[k].ns()-base))
			}
		}
	}
}

func find(res []result, name string) *result {
	r := lookFor(res, name)
	if r == nil {
		panic("no variant " + name)
	}
	return r
}

// lookFor is the result of a variant, nil if there is none.
func lookFor(res []result, name string) *result {
	for i := range res {
		if res[i].name == name {
			return &res[i]
		}
	}
	return nil
}

// transitions is how many changes of status a unit has: those that gopherscope
// saw, since it sees all.
func transitions(res []result) float64 {
	r := lookFor(res, ours)
	if r == nil {
		r = find(res, inlineChecked)
	}
	return float64(r.usage.events+r.usage.lost) / r.units()
}

func (r *result) units() (n float64) {
	for _, s := range r.rounds {
		n += s.units
	}
	return n
}

func (r *result) took() (d time.Duration) {
	for _, s := range r.rounds {
		d += s.took
	}
	return d
}

func (r *result) nsPerUnit() []float64 {
	ns := make([]float64, len(r.rounds))
	for i, s := range r.rounds {
		ns[i] = s.ns()
	}
	return ns
}

func (r *result) p99() time.Duration {
	p99 := make([]time.Duration, len(r.rounds))
	for i, s := range r.rounds {
		p99[i] = s.p99
	}
	slices.Sort(p99)
	return p99[len(p99)/2]
}

// cpuSeconds is the processor time of the reader for a million events.
func (u usage) cpuSeconds() float64 { return u.cpu.Seconds() / (float64(u.events) / 1e6) }

// median of a list that has one element at least; the mean of the two in the
// middle when there are two.
func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// goal is a bound on something measured.
type goal struct {
	Text     string  `json:"goal"`
	Measured float64 `json:"measured"`
	AtMost   float64 `json:"at_most"`
	Pass     bool    `json:"pass"`
}

// goals judge a whole run. The cost of a transition is compared where the reader
// has a CPU for itself: in ping-pong on one CPU, of a machine that has more.
func goals(runs []run) []goal {
	var toEmpty, toRival []float64
	var u usage
	for _, r := range runs {
		if r.workload.pace > 0 {
			continue
		}
		us := find(r.results, ours)
		u.events += us.usage.events
		u.lost += us.usage.lost
		u.cpu += us.usage.cpu
		u.rss = max(u.rss, us.usage.rss)
		if !r.workload.onOneCPU {
			continue
		}
		toEmpty = append(toEmpty, us.toEmpty...)
		for k, other := range find(r.results, rival).toEmpty {
			toRival = append(toRival, us.toEmpty[k]/other)
		}
	}
	gs := []goal{
		{Text: "added ns a transition, to those of an empty program", Measured: median(toEmpty), AtMost: 1.15},
		{Text: "added ns a transition, to those of the tutorial's design", Measured: median(toRival), AtMost: 0.6},
		{Text: "reader's CPU seconds for a million events, all workloads", Measured: u.cpuSeconds(), AtMost: 0.5},
		{Text: "reader's peak memory, MB", Measured: float64(u.rss) / (1 << 20), AtMost: 100},
		{Text: "events lost", Measured: float64(u.lost), AtMost: 0},
	}
	for i := range gs {
		gs[i].Pass = gs[i].Measured <= gs[i].AtMost
	}
	return gs
}
