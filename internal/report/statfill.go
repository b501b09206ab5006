package report

import (
	"encoding/json"
	"time"

	"gopherscope/internal/event"
	"gopherscope/internal/summary"
)

// Page implements Stats.
func (j *statJSON) Page(s *Stat) error {
	line, err := json.Marshal(j.fill(s))
	if err != nil {
		return err
	}
	return j.line(append(append(j.b, line...), '\n'))
}

// fill is the page's JSON form. Lists are never null.
func (j *statJSON) fill(s *Stat) *jsonStat {
	i := s.Info
	sum := s.summary()
	p := &jsonStat{
		Type: "stat", Time: string(j.stamp.rfc3339(nil, s.Wall)), BeginNs: s.Begin, EndNs: s.End, DurationNs: int64(s.duration()),
		PID: i.PID, Exe: jsonName(i.Exe), Command: []jsonName{}, GoVersion: jsonName(i.GoVersion), Procs: i.Procs,
		Engine: jsonName(i.Engine), Stacks: i.Stacks,
		Events: s.Events, Violations: s.Violations, Gaps: s.Totals.Gaps, UntracedNs: int64(s.Untraced),
		Lost: sum.jsonLost(), Cost: sum.jsonCost(),
		Goroutines: jsonPopulation{s.Alive, s.Unsure, s.Seeded, s.Found, s.Missed, s.Created, s.Ended, int64(s.Lived)},
		States:     map[string]jsonStateTime{},
		Sched:      jsonSched{jsonDist: distJSON(&s.Sched), Histogram: []jsonBucket{}, BySite: []jsonSchedAtASite{}},
		Blocked:    []jsonBlocked{}, BlockedRows: s.BlockedRows,
		Exec:      jsonExec{distJSON(&s.Slices), map[string]uint64{}},
		Syscalls:  jsonSyscalls{distJSON(&s.Syscalls), s.LostP, int64(s.LostPTime)},
		Cgo:       distJSON(&s.Cgo),
		FakeWaits: []jsonFakeWait{}, Wakes: []jsonWake{}, WakeRows: s.WakeRows,
		Sites: []jsonSiteRow{}, SiteRows: s.SiteRows,
		Busiest: s.goroutines(s.Busiest), LongWaits: s.goroutines(s.LongWaits),
	}
	for _, arg := range i.Command {
		p.Command = append(p.Command, jsonName(arg))
	}
	for st, t := range s.States {
		p.States[summary.State(st).String()] = jsonStateTime{int64(t.Time), t.Now}
	}
	for _, e := range s.SliceEnds {
		p.Exec.EndedBy[e.Via.String()] += e.Count
	}
	for k := range s.FakeWaits {
		f := &s.FakeWaits[k]
		p.FakeWaits = append(p.FakeWaits, jsonFakeWait{jsonName(f.Reason), f.Kind().String(), distJSON(&f.Dist)})
	}
	s.fillRows(p)
	return p
}

// fillRows fills in the tables.
func (s *Stat) fillRows(p *jsonStat) {
	for _, k := range s.SchedHist {
		p.Sched.Histogram = append(p.Sched.Histogram, jsonBucket{int64(k.UpTo), k.Count})
	}
	for i := range s.rows(len(s.Latency)) {
		r := &s.Latency[i]
		p.Sched.BySite = append(p.Sched.BySite, jsonSchedAtASite{siteJSON(&r.Site), distJSON(&r.Sched)})
	}
	for i := range s.rows(len(s.Blocked)) {
		r := &s.Blocked[i]
		p.Blocked = append(p.Blocked, jsonBlocked{
			jsonName(r.Reason), jsonName(r.Func), siteJSON(&r.Site), int64(r.Time), distJSON(&r.Dist), r.Now, int64(r.Open), r.OpenAtLeast,
		})
	}
	for i := range s.rows(len(s.Wakes)) {
		w := &s.Wakes[i]
		row := jsonWake{Via: w.Via.String(), To: siteJSON(&w.To), Count: w.Count}
		if w.From != nil {
			from := siteJSON(w.From)
			row.From = &from
		}
		p.Wakes = append(p.Wakes, row)
	}
	for i := range s.rows(len(s.Sites)) {
		r := &s.Sites[i]
		p.Sites = append(p.Sites, jsonSiteRow{siteJSON(&r.Site), r.Alive, r.Created, r.Ended, statesJSON(&r.Time), distJSON(&r.Lifetime)})
	}
}

func (s *Stat) goroutines(list []summary.Goroutine) []jsonGoroutine {
	out := []jsonGoroutine{}
	for i := range s.rows(len(list)) {
		g := &list[i]
		state := g.State.String()
		if g.Ended {
			state = "ended"
		}
		out = append(out, jsonGoroutine{
			GoID: g.GoID, PID: g.PID, jsonSite: siteJSON(&g.Site), State: state, States: statesJSON(&g.Time),
			Longest: int64(g.Longest), AtLeast: g.LongestAtLeast, Reason: jsonName(g.Reason), Func: jsonName(g.Func),
		})
	}
	return out
}

func statesJSON(times *[summary.NumStates]time.Duration) map[string]int64 {
	out := map[string]int64{}
	for i, d := range times {
		out[summary.State(i).String()] = int64(d)
	}
	return out
}

func distJSON(d *summary.Dist) jsonDist {
	return jsonDist{
		d.Count, int64(d.Total), int64(d.Mean()), int64(d.P50), int64(d.P90), int64(d.P99), int64(d.P999), int64(d.Max),
		d.AtLeast, d.MaxAtLeast,
	}
}

func siteJSON(s *summary.Site) jsonSite {
	return jsonSite{spotJSON(&s.CreatedBy), spotJSON(&s.Start), s.Runtime()}
}

// spotJSON is nil for a place that is not known.
func spotJSON(l *event.Location) *jsonSpot {
	if *l == (event.Location{}) {
		return nil
	}
	return &jsonSpot{jsonName(l.Func), jsonName(l.File), l.Line}
}
