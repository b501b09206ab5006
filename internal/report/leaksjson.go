package report

import (
	"encoding/json"
	"io"

	"gopherscope/internal/dump"
	"gopherscope/internal/leaks"
)

// NewLeaksJSON writes one JSON object a line: one for each site, then the summary.
// docs/usage/leaks.md has the keys.
func NewLeaksJSON(w io.Writer, r *leaks.Report) Leaks {
	return &leaksJSON{buffer: buffer{w: w}, r: r}
}

type leaksJSON struct {
	buffer
	r *leaks.Report
}

// jsonLeak is a site's JSON form; the order of the keys is the order in the line.
type jsonLeak struct {
	Type         string      `json:"type"`
	Grade        string      `json:"grade"`
	Evidence     []string    `json:"evidence"`
	CreatedBy    *jsonPlace  `json:"created_by"`
	Start        *jsonPlace  `json:"start"`
	Count        int         `json:"count"`
	FirstCount   int         `json:"first_count"`
	Counts       []int       `json:"counts"`
	New          int         `json:"new"`
	Gone         int         `json:"gone"`
	Net          int         `json:"net"`
	PerMinute    float64     `json:"per_minute"`
	Unmoved      int         `json:"unmoved"`
	Leaked       int         `json:"runtime_leaked"`
	Forever      int         `json:"blocked_forever"`
	Unreferenced int         `json:"unreferenced"`
	OldestNs     int64       `json:"oldest_at_least_ns"`
	WaitNs       int64       `json:"wait_at_least_ns"`
	States       []jsonState `json:"states"`
	StackCount   int         `json:"stack_count"`
	GoIDs        []uint64    `json:"goids"`
	Stack        []jsonFrame `json:"stack"`
	StackCut     bool        `json:"stack_cut,omitempty"`
}

type jsonPlace struct {
	Func jsonName `json:"func"`
	File jsonName `json:"file"`
	Line int32    `json:"line"`
}

type jsonFrame struct {
	jsonPlace
	Inlined bool `json:"inlined,omitempty"`
}

type jsonState struct {
	State  string   `json:"state"`
	Reason jsonName `json:"reason,omitempty"`
	Count  int      `json:"count"`
}

// jsonLeaksSummary is the summary's JSON form.
type jsonLeaksSummary struct {
	Type              string   `json:"type"`
	PID               int      `json:"pid"`
	GoVersion         jsonName `json:"go_version"`
	Time              string   `json:"time,omitempty"`
	DurationNs        int64    `json:"duration_ns"`
	Snapshots         int      `json:"snapshots"`
	GrowthJudged      bool     `json:"growth_judged"`
	Goroutines        int      `json:"goroutines"`
	Torn              int      `json:"torn"`
	Sites             int      `json:"sites"`
	Suspects          int      `json:"suspects"`
	SuspectGoroutines int      `json:"suspect_goroutines"`
	Shown             int      `json:"shown"`
	Note              string   `json:"note"`
	Error             jsonName `json:"error,omitempty"`
}

// Site implements Leaks.
func (j *leaksJSON) Site(s *leaks.Site) error {
	one := jsonLeak{
		Type: "leak_suspect", Grade: s.Grade.Key(), Evidence: s.Evidence,
		CreatedBy: placeOf(&s.Created), Start: placeOf(&s.Start),
		Count: s.Count, FirstCount: s.Counts[0], Counts: s.Counts, New: s.New, Gone: s.Gone, Net: s.Net(),
		PerMinute: s.PerMinute, Unmoved: s.Unmoved, Leaked: s.Leaked, Forever: s.Forever, Unreferenced: s.Unreferenced,
		OldestNs: int64(s.Oldest), WaitNs: int64(s.Waiting),
		StackCount: s.StackCount, GoIDs: s.GoIDs, StackCut: s.Stack.Cut,
		States: []jsonState{}, Stack: []jsonFrame{},
	}
	if s.Grade == leaks.None {
		one.Type, one.Evidence = "leak_site", []string{}
	}
	for _, st := range s.States {
		one.States = append(one.States, jsonState{st.Status.Name(), jsonName(st.Reason), st.Count})
	}
	for _, f := range dump.Visible(s.Stack.Frames, j.r.Version.Minor) {
		one.Stack = append(one.Stack, jsonFrame{jsonPlace{jsonName(f.Func), jsonName(f.File), f.Line}, f.Inlined})
	}
	return j.object(one)
}

// Summary implements Leaks.
func (j *leaksJSON) Summary(s *LeaksSummary) error {
	r := s.Report
	sum := jsonLeaksSummary{
		Type: "summary", PID: r.PID, GoVersion: jsonName(r.Version.Text), DurationNs: int64(r.Period),
		Snapshots: r.Snapshots, GrowthJudged: r.Growth, Goroutines: r.Goroutines, Torn: r.Torn,
		Sites: len(r.Sites), Shown: s.Shown, Note: disclaimer,
		Time: jsonTime(r.Start), Error: jsonName(ErrorText(s.Err)),
	}
	sum.Suspects, sum.SuspectGoroutines = r.Suspects()
	return j.object(sum)
}

// object writes v as a line. encoding/json is fast enough here: there are as many
// lines as go statements.
func (j *leaksJSON) object(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return j.line(append(append(j.b, line...), '\n'))
}

// placeOf is nil for a place that is not known.
func placeOf(s *dump.Site) *jsonPlace {
	if s.Func == "" {
		return nil
	}
	return &jsonPlace{jsonName(s.Func), jsonName(s.File), s.Line}
}
