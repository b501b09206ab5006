package report

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"gopherscope/internal/summary"
)

// headerEvery is after how many lines the header comes again: a screen.
const headerEvery = 20

// NewStatLine writes one line a page.
func NewStatLine(w io.Writer) Stats { return &statLine{buffer: buffer{w: w}} }

type statLine struct {
	buffer
	lines int
	stamp stamp
}

// lineFormat is of the header and of the lines. An interval without a latency has a -.
// One in which nothing was traced has no rates.
const lineFormat = "%-15s %9s %7s %8s %7s %7s %7s %8s %8s %9s %6s %8s %8s %8s %6s\n"

// Page implements Stats.
func (l *statLine) Page(s *Stat) error {
	b := l.b
	if l.lines%headerEvery == 0 {
		b = fmt.Appendf(b, lineFormat, "TIME", "ALIVE", "RUNNING", "RUNNABLE", "SYSCALL", "WAITING", "UNKNOWN", "CREATE/S", "END/S", "EVENTS/S", "LOST", "LAT-P50", "LAT-P99", "LAT-MAX", "COST")
	}
	l.lines++
	mean := func(state summary.State) string {
		if d := s.duration(); d > 0 {
			return rateText(float64(s.States[state].Time) / float64(d))
		}
		return "-"
	}
	rate := func(n uint64) string {
		if s.traced() == 0 {
			return "-"
		}
		return rateText(s.perSecond(n))
	}
	alive := strconv.Itoa(s.Alive)
	if s.Unsure > 0 { // who came in a pause and was not heard of is in neither
		alive += "-" + strconv.Itoa(s.Alive+s.Unsure)
	}
	latency := func(d time.Duration) string { return shortDuration(d, s.Sched.Count > 0) }
	cost := "-"
	if share, ok := s.summary().share(); ok {
		cost = fmt.Sprintf("%.1f%%", 100*share)
	}
	b = fmt.Appendf(b, lineFormat, l.stamp.local(nil, s.Wall), alive,
		mean(summary.Running), mean(summary.Runnable), mean(summary.Syscall), mean(summary.Waiting), mean(summary.Unknown),
		rate(s.Created), rate(s.Ended), rate(s.Events), countText(s.Totals.Lost.Total()),
		latency(s.Sched.P50), latency(s.Sched.P99), latency(s.Sched.Max), cost)
	return l.line(b)
}
