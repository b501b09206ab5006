package main

import (
	"fmt"
	"os"
)

// The variants of the inline engine: with every event printed, and with every event
// merged, checked and counted, but for none printed, as of a view that aggregates.
const (
	inlinePrints  = "inline --json"
	inlineChecked = "inline, none printed"
	goTracer      = "runtime/trace"
)

// noGoroutine is a goid that there is none of.
const noGoroutine = "9223372036854775807"

func inlineVariants(tool string) []variant {
	trace := []string{"trace", "--engine", "inline", "--max-overhead", "off", "-o", os.DevNull}
	return []variant{
		{inlinePrints, reader(attachedInline, tool, append(trace[:len(trace):len(trace)], "--json")...)},
		{inlineChecked, reader(attachedInline, tool, append(trace, "--goid", noGoroutine)...)},
	}
}

// inlineGoals judge the inline engine, next to Go's own tracer in the same rounds.
func inlineGoals(runs []run) []goal {
	var added, one, more, http []float64
	for _, r := range runs {
		if r.workload.pace > 0 {
			continue
		}
		none, rival, us := find(r.results, untraced), find(r.results, goTracer), find(r.results, inlineChecked)
		for k, s := range us.rounds {
			switch base := none.rounds[k].ns(); {
			case r.workload.rate:
				http = append(http, s.ns()/rival.rounds[k].ns())
			case r.workload.onOneCPU:
				one = append(one, us.slower[k])
				added = append(added, (s.ns()-base)/(rival.rounds[k].ns()-base))
			default:
				more = append(more, us.slower[k])
			}
		}
	}
	var gs []goal
	add := func(text string, rounds []float64, atMost float64) {
		if len(rounds) > 0 {
			gs = append(gs, goal{Text: "inline: " + text, Measured: median(rounds), AtMost: atMost})
		}
	}
	add("added ns a transition, to those of runtime/trace, on one CPU", added, 0.25)
	add("slowdown of ping-pong on one CPU", one, 1.35)
	add("slowdown of ping-pong on all CPUs", more, 1.5)
	add("time of an HTTP request, to that under runtime/trace", http, 1)
	for _, r := range runs {
		if r.workload.pace > 0 {
			add(fmt.Sprintf("reader's CPU seconds for a million events at %.0f million a second", r.workload.pace/1e6), find(r.results, inlineChecked).reader, 0.05)
		}
	}
	for i := range gs {
		gs[i].Pass = gs[i].Measured <= gs[i].AtMost
	}
	for _, r := range runs {
		if r.workload.pace > 0 {
			gs = append(gs, paceGoal(&r))
		}
	}
	return gs
}

// paceGoal judges what is lost at a pace. A target that did not keep it proves nothing. What
// is lost where the target goes as fast as it can is in the tables: no reader keeps up with
// any number of CPUs.
func paceGoal(r *run) goal {
	us := find(r.results, inlineChecked)
	held := float64(us.usage.events+us.usage.lost) / us.took().Seconds()
	g := goal{
		Text:     fmt.Sprintf("inline: events lost at %.0f million a second (held: %.1f)", r.workload.pace/1e6, held/1e6),
		Measured: float64(us.usage.lost),
	}
	g.Pass = g.Measured <= g.AtMost && held >= 0.95*r.workload.pace
	return g
}
