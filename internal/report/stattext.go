package report

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"gopherscope/internal/elapsed"
	"gopherscope/internal/summary"
)

// NewStatText writes pages for people.
func NewStatText(w io.Writer) Stats { return &statText{buffer: buffer{w: w}} }

type statText struct {
	buffer
	pages int
}

// Page implements Stats.
func (t *statText) Page(s *Stat) error {
	b := t.b
	if t.pages++; t.pages > 1 {
		b = append(b, '\n')
	}
	b = appendStatHeader(b, s)
	b = appendStates(b, s)
	b = appendLatency(b, s)
	b = appendBlocked(b, s)
	b = appendRunning(b, s)
	b = appendFakeWaits(b, s)
	b = appendWakes(b, s)
	b = appendLifetimes(b, s)
	b = appendBusiest(b, s)
	return t.line(b)
}

// section appends a heading.
func section(b []byte, format string, args ...any) []byte {
	return append(fmt.Appendf(append(b, '\n'), format, args...), '\n')
}

// tableOf appends a table under a heading, if it has rows. shown of all rows are said.
func tableOf(b []byte, title string, all int, header []string, rows [][]string, texts int) []byte {
	if len(rows) == 0 {
		return b
	}
	if len(rows) < all {
		title += fmt.Sprintf(" (%d of %d rows)", len(rows), all)
	}
	return appendTable(section(b, "%s", title), header, rows, texts)
}

func appendStatHeader(b []byte, s *Stat) []byte {
	i := s.Info
	var who []string
	if i.PID != 0 {
		who = append(who, "PID "+strconv.Itoa(i.PID))
	}
	if len(i.Command) > 0 {
		var args []string
		for _, arg := range i.Command {
			args = append(args, printable(arg))
		}
		who = append(who, strings.Join(args, " "))
	} else if i.Exe != "" {
		who = append(who, printable(i.Exe))
	}
	who = append(who, printable(i.GoVersion))
	if i.Procs > 0 {
		who = append(who, "GOMAXPROCS "+strconv.Itoa(i.Procs))
	}
	who = append(who, "engine "+printable(i.Engine), elapsed.Text(s.duration()))
	b = append(append(b, strings.Join(who, "  ")...), '\n')
	b = s.appendPopulation(b)
	b = fmt.Appendf(b, "events: %d (%s/s), %s, %d violations", s.Events, rateText(s.perSecond(s.Events)), lostText(s.Totals.Lost), s.Violations)
	if s.Untraced > 0 {
		b = fmt.Appendf(b, ", not traced for %s to spare the target", elapsed.Text(s.Untraced))
	}
	cost := s.summary().costText()
	if cost == "" {
		cost = "not measured"
	}
	return append(append(append(b, "\ncost to the target: "...), cost...), '\n')
}

// appendPopulation appends the line of how many goroutines there are.
func (s *Stat) appendPopulation(b []byte) []byte {
	switch {
	case s.Unsure == 0:
		b = fmt.Appendf(b, "goroutines: %d alive", s.Alive)
	case s.Alive == 0: // it ended in a pause
		b = fmt.Appendf(b, "goroutines: up to %d, that were alive before a pause", s.Unsure)
	default:
		b = fmt.Appendf(b, "goroutines: %d alive, and up to %d that were before a pause", s.Alive, s.Unsure)
	}
	b = fmt.Appendf(b, "; %d were there before", s.Seeded)
	if s.Found > 0 || s.Missed > 0 {
		b = fmt.Appendf(b, ", %d found and %d gone after pauses", s.Found, s.Missed)
	}
	return fmt.Appendf(b, ", %d created (%s/s), %d ended (%s/s)\n", s.Created, rateText(s.perSecond(s.Created)), s.Ended, rateText(s.perSecond(s.Ended)))
}

func appendStates(b []byte, s *Stat) []byte {
	var rows [][]string
	for i, st := range s.States {
		if st.Time == 0 && st.Now == 0 && summary.State(i) > summary.Waiting {
			continue
		}
		share, mean := "-", "-"
		if s.Lived > 0 {
			share = fmt.Sprintf("%.1f %%", 100*float64(st.Time)/float64(s.Lived))
		}
		if d := s.duration(); d > 0 {
			mean = rateText(float64(st.Time) / float64(d))
		}
		rows = append(rows, []string{shortDuration(st.Time, true), share, mean, strconv.Itoa(st.Now), summary.State(i).String()})
	}
	title := "states: goroutine time, of " + shortDuration(s.Lived, true) + " in all; goroutines on average and at the end"
	return tableOf(b, title, 0, []string{"TIME", "SHARE", "AVERAGE", "NOW", "STATE"}, rows, 1)
}

func appendLatency(b []byte, s *Stat) []byte {
	if s.Sched.Count == 0 {
		return b
	}
	b = tableOf(b, "scheduling latency: from runnable to running", 0, distHeader, [][]string{distCells(&s.Sched)}, 0)
	b = appendHistogram(append(b, '\n'), s.SchedHist)
	var rows [][]string
	for i := range s.rows(len(s.Latency)) {
		r := &s.Latency[i]
		rows = append(rows, append(distCells(&r.Sched), siteText(&r.Site)))
	}
	return appendTable(b, append(distHeader[:len(distHeader):len(distHeader)], "CREATED BY"), rows, 1)
}

func appendBlocked(b []byte, s *Stat) []byte {
	var rows [][]string
	for i := range s.rows(len(s.Blocked)) {
		r := &s.Blocked[i]
		longest, atLeast := r.Longest()
		known := r.Count > 0
		rows = append(rows, []string{
			bounded(r.Time, r.AtLeast > 0 || r.Now > 0 && r.OpenAtLeast), countText(r.Count), shortDuration(r.Mean(), known),
			shortDuration(r.P99, known), bounded(longest, atLeast), strconv.Itoa(r.Now),
			orUnknown(r.Reason), orUnknown(r.Func), siteText(&r.Site),
		})
	}
	return tableOf(b, "blocked time; NOW still wait", s.BlockedRows,
		[]string{"TIME", "WAITS", "MEAN", "P99", "MAX", "NOW", "REASON", "IN", "CREATED BY"}, rows, 3)
}

// appendRunning appends stretches of running and system calls.
func appendRunning(b []byte, s *Stat) []byte {
	var rows [][]string
	row := func(d *summary.Dist, what string) {
		if d.Count > 0 {
			rows = append(rows, append(distCells(d), what))
		}
	}
	row(&s.Slices, "stretches of running")
	row(&s.Syscalls, "system calls")
	row(&s.Cgo, "calls of C code")
	b = tableOf(b, "running and system calls", 0, append(distHeader[:len(distHeader):len(distHeader)], "WHAT"), rows, 1)
	if len(s.SliceEnds) > 0 {
		b = append(b, "  running ended by:"...)
		for i, e := range s.SliceEnds {
			if i > 0 {
				b = append(b, ',')
			}
			b = fmt.Appendf(b, " %s %d", e.Via, e.Count)
		}
		b = append(b, '\n')
	}
	if s.LostP > 0 {
		b = fmt.Appendf(b, "  %d calls lost their P; for %s or longer another thread had it\n", s.LostP, shortDuration(s.LostPTime, true))
	}
	return b
}

func appendFakeWaits(b []byte, s *Stat) []byte {
	var stops, others [][]string
	for i := range s.FakeWaits {
		f := &s.FakeWaits[i]
		row := append(distCells(&f.Dist), printable(f.Reason))
		if f.Kind() == summary.StopTheWorld {
			stops = append(stops, row)
		} else {
			others = append(others, row)
		}
	}
	header := append(distHeader[:len(distHeader):len(distHeader)], "REASON")
	b = tableOf(b, "stop-the-world pauses: the parts that leave a trace", 0, header, stops, 1)
	return tableOf(b, "garbage collection and the like, on goroutines that run", 0, header, others, 1)
}

func appendWakes(b []byte, s *Stat) []byte {
	var rows [][]string
	for i := range s.rows(len(s.Wakes)) {
		w := &s.Wakes[i]
		from := w.Via.String()
		if w.From != nil {
			from = siteText(w.From)
		}
		rows = append(rows, []string{countText(w.Count), rateText(s.perSecond(w.Count)), from, siteText(&w.To)})
	}
	return tableOf(b, "who wakes whom, by the place of creation", s.WakeRows, []string{"WAKES", "/S", "WAKER", "WOKEN"}, rows, 2)
}

func appendLifetimes(b []byte, s *Stat) []byte {
	var rows [][]string
	for i := range s.rows(len(s.Sites)) {
		r := &s.Sites[i]
		known := r.Lifetime.Count > 0
		longest := "-"
		if known {
			longest = bounded(r.Lifetime.Max, r.Lifetime.MaxAtLeast)
		}
		rows = append(rows, []string{
			strconv.Itoa(r.Alive), strconv.Itoa(r.Created), strconv.Itoa(r.Ended), shortDuration(r.Lifetime.Mean(), known),
			shortDuration(r.Lifetime.P50, known), shortDuration(r.Lifetime.P99, known), longest, siteText(&r.Site),
		})
	}
	return tableOf(b, "goroutines by the place of creation, and the lifetimes of those that ended", s.SiteRows,
		[]string{"ALIVE", "CREATED", "ENDED", "MEAN", "P50", "P99", "MAX", "CREATED BY"}, rows, 1)
}

func appendBusiest(b []byte, s *Stat) []byte {
	goroutine := func(g *summary.Goroutine) []string {
		state := g.State.String()
		if g.Ended {
			state = "ended"
		}
		return []string{strconv.FormatUint(g.GoID, 10), state, siteText(&g.Site)}
	}
	var busy, waits [][]string
	for i := range s.rows(len(s.Busiest)) {
		g := &s.Busiest[i]
		row := []string{
			shortDuration(g.Time[summary.Running], true), shortDuration(g.Time[summary.Runnable], true),
			shortDuration(g.Time[summary.Syscall], true), shortDuration(g.Time[summary.Waiting], true),
		}
		busy = append(busy, append(row, goroutine(g)...))
	}
	for i := range s.rows(len(s.LongWaits)) {
		g := &s.LongWaits[i]
		row := append([]string{bounded(g.Longest, g.LongestAtLeast)}, goroutine(g)...)
		waits = append(waits, append(row[:3:3], orUnknown(g.Reason), orUnknown(g.Func), row[3]))
	}
	b = tableOf(b, "busiest goroutines", 0, []string{"RUNNING", "RUNNABLE", "SYSCALL", "WAITING", "GOID", "STATE", "CREATED BY"}, busy, 2)
	return tableOf(b, "longest single waits", 0, []string{"WAIT", "GOID", "STATE", "REASON", "IN", "CREATED BY"}, waits, 4)
}
