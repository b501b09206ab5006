package report

import (
	"path"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"gopherscope/internal/elapsed"
	"gopherscope/internal/event"
	"gopherscope/internal/summary"
)

// table appends rows under a header: figures to the right, and the last texts columns
// to the left. A text that is wider than maxText moves the rest of its row.
func appendTable(b []byte, header []string, rows [][]string, texts int) []byte {
	const maxText = 48
	widths := make([]int, len(header))
	all := append([][]string{header}, rows...)
	for _, row := range all {
		for i, cell := range row {
			n := utf8.RuneCountInString(cell)
			if i >= len(header)-texts {
				n = min(n, maxText)
			}
			widths[i] = max(widths[i], n)
		}
	}
	for _, row := range all {
		b = append(b, ' ')
		for i, cell := range row {
			pad := strings.Repeat(" ", max(0, widths[i]-utf8.RuneCountInString(cell)))
			if i < len(header)-texts {
				b = append(append(append(b, ' '), pad...), cell...)
				b = append(b, ' ')
				continue
			}
			b = append(append(b, ' '), cell...)
			if i < len(header)-1 {
				b = append(append(b, pad...), ' ')
			}
		}
		for b[len(b)-1] == ' ' {
			b = b[:len(b)-1]
		}
		b = append(b, '\n')
	}
	return b
}

// shortDuration is d, "-" if there is none.
func shortDuration(d time.Duration, known bool) string {
	if !known {
		return "-"
	}
	return elapsed.Text(d)
}

// bounded is d, marked if it is a lower bound.
func bounded(d time.Duration, atLeast bool) string {
	if atLeast {
		return ">=" + shortDuration(d, true)
	}
	return shortDuration(d, true)
}

// countText is a number of events.
func countText(n uint64) string { return strconv.FormatUint(n, 10) }

// rateText is a number with three digits or so, for rates and means.
func rateText(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// siteText names a creation site.
func siteText(s *summary.Site) string {
	switch {
	case s.CreatedBy != event.Location{}:
		return placeText(&s.CreatedBy)
	case s.Start != event.Location{}:
		return "started at " + printable(s.Start.Func)
	}
	return "unknown"
}

func placeText(l *event.Location) string {
	return printable(l.Func) + " at " + printable(path.Base(l.File)) + ":" + strconv.Itoa(l.Line)
}

// orUnknown is a name that is shown.
func orUnknown(name string) string {
	if name == "" {
		return "unknown"
	}
	return printable(name)
}

// distHeader and distCells are the columns of a distribution.
var distHeader = []string{"COUNT", "TOTAL", "MEAN", "P50", "P90", "P99", "P99.9", "MAX"}

func distCells(d *summary.Dist) []string {
	known := d.Count > 0
	cells := []string{countText(d.Count), bounded(d.Total, d.AtLeast > 0)}
	for _, v := range []time.Duration{d.Mean(), d.P50, d.P90, d.P99, d.P999} {
		cells = append(cells, shortDuration(v, known))
	}
	if !known {
		return append(cells, "-")
	}
	return append(cells, bounded(d.Max, d.MaxAtLeast))
}

// barWidth is the length of the longest bar of a histogram.
const barWidth = 50

// appendHistogram draws the buckets.
func appendHistogram(b []byte, buckets []summary.Bucket) []byte {
	var most uint64
	for _, k := range buckets {
		most = max(most, k.Count)
	}
	var rows [][]string
	for _, k := range buckets {
		bar := int((k.Count*barWidth + most - 1) / most) // a single one is seen
		rows = append(rows, []string{k.UpTo.String(), countText(k.Count), strings.Repeat("#", bar)})
	}
	if len(rows) == 0 {
		return b
	}
	return append(appendTable(b, []string{"UP TO", "COUNT", ""}, rows, 1), '\n')
}
