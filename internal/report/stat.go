package report

import (
	"time"

	"gopherscope/internal/stream"
	"gopherscope/internal/summary"
)

// Stats writes pages of figures.
type Stats interface {
	// Page writes one.
	Page(s *Stat) error
	// Flush hands everything to the underlying writer.
	Flush() error
}

// Stat is a page of figures and the circumstances in which they were taken. The totals
// are those of the page's interval.
type Stat struct {
	*summary.Page
	Info   *stream.Info
	Wall   int64         // the end of the interval: Unix time, ns
	Totals stream.Totals // see Since
	Top    int           // rows of each table
}

// Since is what came to the totals after the ones before.
func Since(now, before stream.Totals) stream.Totals {
	return now.Since(before)
}

// duration is the length of the interval.
func (s *Stat) duration() time.Duration { return time.Duration(max(0, s.End-s.Begin)) }

// traced is how much of the interval was traced.
func (s *Stat) traced() time.Duration { return max(0, s.duration()-s.Untraced) }

// perSecond is a rate over the time of the interval that was traced; 0 if there was none.
func (s *Stat) perSecond(n uint64) float64 {
	if d := s.traced(); d > 0 {
		return float64(n) / d.Seconds()
	}
	return 0
}

// summary is the interval as the end of a trace would have it, for what they have in
// common.
func (s *Stat) summary() *Summary {
	return &Summary{
		Duration: s.duration(), Events: s.Events, Violations: s.Violations,
		Lost: s.Totals.Lost, Cost: s.Totals.Cost, TargetCPU: s.Totals.TargetCPU, Gaps: s.Totals.Gaps, Paused: s.Totals.Paused,
	}
}

// rows says how many rows of n a table has.
func (s *Stat) rows(n int) int {
	if s.Top > 0 {
		return min(n, s.Top)
	}
	return n
}
