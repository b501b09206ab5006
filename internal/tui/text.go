package tui

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"

	"gopherscope/internal/elapsed"
)

// glyphs are the characters that a locale can show.
type glyphs struct {
	bars     []string // of a sparkline, from nothing to full
	ellipsis string   // stands for what has no room
	down, up string   // the order of a sorted column
	ascii    bool
}

var (
	unicodeGlyphs = glyphs{bars: []string{" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"}, ellipsis: "…", down: "▼", up: "▲"}
	asciiGlyphs   = glyphs{bars: []string{" ", "_", ".", ":", "-", "=", "+", "*", "#"}, ellipsis: "~", down: "v", up: "^", ascii: true}
)

// safe is text of the traced program with every character escaped that could
// control a terminal, or that the terminal cannot show.
func (gl *glyphs) safe(s string) string {
	for _, r := range s {
		if !unicode.IsPrint(r) || r == utf8.RuneError || gl.ascii && r >= utf8.RuneSelf {
			q := strconv.Quote(s)
			if gl.ascii {
				q = strconv.QuoteToASCII(s)
			}
			return q[1 : len(q)-1]
		}
	}
	return s
}

// head cuts s at its end to so many cells.
func (gl *glyphs) head(s string, cells int) string {
	return ansi.Truncate(s, max(cells, 0), gl.ellipsis)
}

// tail cuts s at its begin to so many cells: of a place in the source the end says
// most.
func (gl *glyphs) tail(s string, cells int) string {
	over := ansi.StringWidth(s) - cells
	if over <= 0 {
		return s
	}
	if cells <= 0 {
		return ""
	}
	return ansi.TruncateLeft(s, over+1, gl.ellipsis)
}

// left and right put s at that side of so many cells. What is wider stays so.
func left(s string, cells int) string {
	return s + strings.Repeat(" ", max(0, cells-ansi.StringWidth(s)))
}

func right(s string, cells int) string {
	return strings.Repeat(" ", max(0, cells-ansi.StringWidth(s))) + s
}

// sparkline draws the last values in so many cells, the newest at the right, from 0
// to the highest of them. What is not 0 is always seen.
func (gl *glyphs) sparkline(values []int, cells int) string {
	values = values[max(0, len(values)-max(0, cells)):]
	top := 1
	for _, v := range values {
		top = max(top, v)
	}
	var b strings.Builder
	for _, v := range values {
		bar := 0
		if v > 0 {
			bar = 1 + v*(len(gl.bars)-2)/top
		}
		b.WriteString(gl.bars[bar])
	}
	return b.String()
}

// duration is d in at most 6 characters, with about three digits: "12.3ms".
func duration(d time.Duration) string {
	switch {
	case d <= 0:
		return "0s"
	case d < time.Microsecond:
		return fmt.Sprintf("%dns", d)
	case d < time.Millisecond:
		return digits(float64(d)/1e3) + "us"
	case d < time.Second:
		return digits(float64(d)/1e6) + "ms"
	case d < time.Minute:
		return digits(d.Seconds()) + "s"
	}
	return elapsed.Text(d)
}

// digits is a number below 1000 with three digits, without making it 1000.
func digits(v float64) string {
	switch {
	case v < 9.995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 99.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(min(v, 999), 'f', 0, 64)
}

// amount is a number in at most 5 characters: "12.3k".
func amount(v float64) string {
	switch {
	case v < 10 && v != float64(int(v)):
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v < 9999.5:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v < 999.5e3:
		return digits(v/1e3) + "k"
	case v < 999.5e6:
		return digits(v/1e6) + "M"
	}
	return digits(v/1e9) + "G"
}

// percent is a part of one CPU: "12.3%".
func percent(part, whole time.Duration) string {
	if whole <= 0 {
		return "-"
	}
	return strconv.FormatFloat(100*float64(part)/float64(whole), 'f', 1, 64) + "%"
}

// plural is a number with its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
