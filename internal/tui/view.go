package tui

import (
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"
)

// styles are the looks of what is drawn. A terminal without colours leaves them out.
type styles struct {
	title, head, dim, chosen, alarm lipgloss.Style
	states                          [stateKinds]lipgloss.Style
}

func newStyles() styles {
	plain := lipgloss.NewStyle()
	s := styles{
		title: plain.Bold(true), head: plain.Bold(true).Foreground(lipgloss.Cyan), dim: plain.Faint(true),
		chosen: plain.Reverse(true), alarm: plain.Bold(true).Foreground(lipgloss.Red),
	}
	s.states = [stateKinds]lipgloss.Style{
		stateRunning: plain.Foreground(lipgloss.Green), stateRunnable: plain.Foreground(lipgloss.Yellow),
		stateSyscall: plain.Foreground(lipgloss.Blue), stateWaiting: plain, stateOther: plain,
	}
	return s
}

// headLines is how many lines there are above the table, with the titles of its
// columns, and footLines below it. Of a recording there is one more.
const (
	headLines = 6
	footLines = 1
)

// cursorWidth is the room for the mark of the chosen row, which is seen without
// colours, too.
const cursorWidth = 2

// room is how many rows of the table there are on the screen.
func (m *Model) room() int {
	room := m.height - headLines - footLines
	if m.tape != nil {
		room--
	}
	return room
}

// View implements tea.Model.
func (m *Model) View() tea.View {
	v := tea.NewView(m.Frame())
	v.AltScreen = true
	return v
}

// Frame is the screen: as many lines as it is high, none wider than it is.
func (m *Model) Frame() string {
	var lines []string
	if m.help {
		lines = m.helpLines()
	} else {
		lines = m.header(m.width)
		lines = append(lines, m.body(m.width, m.room())...)
	}
	lines = lines[:min(len(lines), max(0, m.height-footLines))]
	for len(lines) < m.height-footLines {
		lines = append(lines, "")
	}
	lines = append(lines, m.footer())
	for i := range lines {
		lines[i] = ansi.Truncate(lines[i], m.width, "")
	}
	return strings.Join(lines, "\n")
}

// textWidth is how wide what is written to a file is at least.
const textWidth = 200

// text is what is shown, without the screen's limits: all rows, nothing cut at the
// height, and no colours.
func (m *Model) text() string {
	width := max(m.width, textWidth)
	lines := append(m.header(width), m.body(width, 1<<30)...)
	for i := range lines {
		lines[i] = strings.TrimRight(ansi.Strip(lines[i]), " ")
	}
	return strings.Join(lines, "\n") + "\n"
}

// header are the lines above the table.
func (m *Model) header(width int) []string {
	lines := []string{m.titleLine(width)}
	if m.tape != nil {
		lines = append(lines, m.tapeLine(width))
	}
	counts := m.counts()
	half := width / 2
	lines = append(lines,
		left(m.stateCell(stateRunning, counts, half), half)+m.stateCell(stateWaiting, counts, width-half),
		left(m.stateCell(stateRunnable, counts, half), half)+m.stateCell(stateSyscall, counts, width-half),
		m.costLine(width), m.whereLine(width))
	return lines
}

// titleLine names the process.
func (m *Model) titleLine(width int) string {
	at := ""
	if m.sample != nil {
		at = m.sample.Dump.Time.In(m.opts.Location).Format(time.TimeOnly)
	}
	facts := m.glyphs.safe(m.proc.GoVersion)
	if m.proc.Procs > 0 {
		facts += fmt.Sprintf("  GOMAXPROCS %d", m.proc.Procs)
	}
	switch {
	case m.tape != nil: // the next line says when
	case m.ended != "":
		facts += "  ENDED " + at
	case m.paused:
		facts += "  PAUSED " + at
	default:
		facts += "  " + at
	}
	name := fmt.Sprintf("gopherscope top %d  %s", m.proc.PID, m.glyphs.safe(m.proc.Command))
	if m.tape != nil {
		name = "gopherscope top " + m.glyphs.safe(m.proc.File) + "  " + m.glyphs.safe(m.proc.Command)
	}
	name = m.glyphs.head(name, width-ansi.StringWidth(facts)-2)
	return m.styles.title.Render(left(name, width-ansi.StringWidth(facts))) + facts
}

// stateCell is a state with its number and its course.
func (m *Model) stateCell(k stateKind, counts [stateKinds]int, cells int) string {
	head := fmt.Sprintf("%-8s %7d ", stateTitles[k], counts[k])
	line := m.glyphs.sparkline(m.sparks[k], cells-len(head)-2)
	return m.styles.states[k].Render(head + line)
}

// costLine says what the process uses, and what looking at it costs.
func (m *Model) costLine(width int) string {
	var parts []string
	if m.load.over > 0 {
		if m.load.target > 0 {
			parts = append(parts, "process "+percent(m.load.target, m.load.over)+" CPU")
		}
		if m.tape == nil {
			parts = append(parts, "top "+percent(m.load.own, m.load.over))
		}
	}
	if m.sample != nil && m.tape == nil {
		parts = append(parts, "read in "+duration(m.sample.Dump.Took))
	}
	parts = append(parts, m.engineText()...)
	line := ""
	for _, p := range parts { // whole ones only
		if line != "" {
			p = line + "  " + p
		}
		if ansi.StringWidth(p) > width {
			break
		}
		line = p
	}
	if r := m.rates(); r != nil && r.Lost > 0 {
		return m.styles.alarm.Render(line)
	}
	return line
}

// engineText is what there is to say of the engine: the most important first.
func (m *Model) engineText() []string {
	switch {
	case m.tape != nil:
		return m.ratesText("cost")
	}
	switch m.engine {
	case engineStarting:
		return []string{"engine: attaching"}
	case engineStopping:
		return []string{"engine: detaching"}
	case engineOff:
		return []string{"engine off (key e)"}
	}
	return m.ratesText("costs")
}

// ratesText is what there is to say of the rates.
func (m *Model) ratesText(costs string) []string {
	r := m.rates()
	switch {
	case r == nil && m.tape != nil:
		return nil
	case r == nil:
		return []string{"engine: attached"}
	}
	text := []string{
		fmt.Sprintf("lost %d", r.Lost),
		fmt.Sprintf("%s %s it %s", m.glyphs.safe(r.Engine), costs, percent(r.Cost, r.Over)),
		amount(perSecond(float64(r.Transitions), r.For)) + " transitions/s",
	}
	if gap := r.Over - r.For; gap > 0 {
		text = append(text, "paused "+percent(gap, r.Over)+" of the time")
	}
	if r.Violations > 0 {
		text = append(text, fmt.Sprintf("violations %d", r.Violations))
	}
	return text
}

// whereLine says what the table has.
func (m *Model) whereLine(width int) string {
	l := m.top()
	if l.kind == levelOne {
		return m.styles.head.Render(m.glyphs.head(fmt.Sprintf("goroutine %d", l.goid), width))
	}
	t := m.shown()
	text := plural(t.folded, "goroutine")
	if !m.goroutines(l) {
		text += " by " + groupingNames[m.by] + " in " + plural(len(t.rows), "row")
	}
	if l.name != "" {
		text += " of " + l.name
	}
	if m.pattern != nil {
		text += "  filter /" + m.glyphs.safe(m.pattern.String()) + "/"
	}
	if old := m.staleText(t); old != "" {
		text += "  " + old
	}
	if m.sample != nil && m.tape != nil && m.sample.Position.Unknown > 0 {
		text += fmt.Sprintf("  %d more not heard of since a pause of the trace", m.sample.Position.Unknown)
	}
	if m.sample != nil && m.sample.Dump.Torn > 0 {
		text += fmt.Sprintf("  torn %d", m.sample.Dump.Torn)
	}
	return m.glyphs.head(text, width)
}

// staleText says of how many goroutines the function shown is that of a moment ago.
func (m *Model) staleText(t *table) string {
	s := m.sample
	if s == nil || s.Stacks == nil || s.Stacks == s.Dump {
		return ""
	}
	stale := 0
	for i := range t.rows {
		stale += t.rows[i].stale
	}
	if stale == 0 {
		return ""
	}
	return fmt.Sprintf("stacks of %d are %s old", stale, duration(m.stackAge()))
}

// stackAge is how long before the Sample its stacks were read.
func (m *Model) stackAge() time.Duration {
	return time.Duration(m.sample.Dump.Mono - m.sample.Stacks.Mono).Round(100 * time.Millisecond)
}

// body is the table, or the goroutine, with its titles.
func (m *Model) body(width, room int) []string {
	l := m.top()
	if l.kind == levelOne {
		all := m.oneLines(l)
		from := min(l.offset, len(all))
		lines := []string{""}
		for _, line := range all[from:min(len(all), from+max(0, room))] {
			lines = append(lines, m.glyphs.head(line, width))
		}
		return lines
	}
	return m.tableLines(l, width, room)
}

// tableLines are the titles and as many rows as there is room for.
func (m *Model) tableLines(l *level, width, room int) []string {
	t, order := m.shown(), m.order()
	places := !m.goroutines(l) && (m.by == byCreated || m.by == byFunction)
	cols, nameWidth := fit(m.goroutines(l), m.rates() != nil, order.by, width-cursorWidth)
	lines := []string{m.styles.head.Render(m.titles(l, cols, *order))}
	from := min(l.offset, len(t.rows))
	if room > len(t.rows) {
		from = 0
	}
	visible := t.rows[from:min(len(t.rows), from+max(0, room))]
	if t.gr != nil {
		t.gr.nameAll(visible)
	}
	for i := range visible {
		r := &visible[i]
		cells := make([]string, len(cols))
		for j := range cols {
			c := &cols[j]
			text := c.cell(r, m.rates())
			switch {
			case c.id == colName && places:
				text = m.glyphs.tail(text, nameWidth)
			case c.id == colName:
				text = m.glyphs.head(text, nameWidth)
			case c.left:
				text = left(m.glyphs.head(text, c.width), c.width)
			default:
				text = right(text, c.width)
			}
			cells[j] = text
		}
		line := strings.Join(cells, " ")
		if r.key == l.cursor && room < 1<<30 {
			line = m.styles.chosen.Render("> " + left(line, width-cursorWidth))
		} else {
			line = "  " + line
		}
		lines = append(lines, line)
	}
	return append(lines, m.emptyText(l, t)...)
}

// emptyText stands for a table without rows.
func (m *Model) emptyText(l *level, t *table) []string {
	switch {
	case len(t.rows) > 0:
		return nil
	case m.sample == nil && m.ended == "":
		return []string{"  reading the goroutines " + m.glyphs.ellipsis}
	case m.pattern != nil:
		return []string{"  no row matches the filter; Esc takes it away"}
	case l.key == nil:
		return []string{"  there is no goroutine at this time"}
	}
	return []string{"  no goroutine is in this row any more; Esc goes back"}
}

// titles are those of the columns, with a mark at the one that the table is sorted by.
func (m *Model) titles(l *level, cols []column, order ordering) string {
	cells := make([]string, len(cols))
	for i, c := range cols {
		title := c.title
		if c.id == colName {
			title = groupingTitles[byGoroutine]
			if !m.goroutines(l) {
				title = groupingTitles[m.by]
			}
		}
		if c.id == order.by {
			mark := m.glyphs.down // the highest first
			if c.ascends() != order.reversed {
				mark = m.glyphs.up
			}
			title = mark + title
		}
		switch {
		case c.id == colName:
		case c.left:
			title = left(title, c.width)
		default:
			title = right(title, c.width)
		}
		cells[i] = title
	}
	return "  " + strings.Join(cells, " ")
}

// footer is the last line: what is being typed, what there is to say, or the keys.
func (m *Model) footer() string {
	switch {
	case m.help:
		return m.styles.dim.Render("any key goes back, q quits")
	case m.prompt != nil && m.prompt.err != "":
		return m.styles.alarm.Render(m.glyphs.head(m.prompt.err, m.width))
	case m.prompt != nil:
		return "filter (regexp): " + m.glyphs.tail(m.glyphs.safe(m.prompt.text), m.width-18) + "_"
	case m.message != "":
		return m.styles.alarm.Render(m.glyphs.head(m.message, m.width))
	case m.ended != "":
		return m.styles.alarm.Render(m.glyphs.head(m.ended+"; this is what was seen last; q quits", m.width))
	}
	keys := []string{"? help", "q quit", "enter open", "g group", "/ filter", "< > sort", "e engine", "p pause", "w write", "r reverse"}
	switch {
	case m.tape != nil:
		keys = m.tapeKeys()
	case m.top().kind == levelOne:
		keys = []string{"? help", "q quit", "esc back", "e engine: every transition", "p pause", "w write"}
	}
	line := ""
	for _, k := range keys {
		if line != "" {
			k = line + "   " + k
		}
		if ansi.StringWidth(k) > m.width {
			break
		}
		line = k
	}
	return m.styles.dim.Render(line)
}

// helpLines is the page that ? shows: no wider than the narrowest screen, the keys first.
func (m *Model) helpLines() []string {
	if m.tape != nil {
		return strings.Split(tapeHelp, "\n")
	}
	const text = `gopherscope top: the keys

up down pgup pgdn home end  choose a row
enter   the goroutines of the row, then the stack of one
esc     back; at the top, takes the filter away
g       group by creation site, wait reason, function,
        state, labels; or single goroutines
< > r   choose the column to sort by; the other way round
/       show only what matches a regexp
e       switch the engine on, and off
p w q   pause; write what is shown to a file; quit

RAN       have run since the sample before
LONGEST   one waits for about so long; - if unknown
With the engine, of the goroutines that are in the row:
SCHED P99 99 % waited no longer to run when runnable
TRANS/S   changes of state a second
BLOCKED/S time in state waiting, of all, a second

Samples read memory: the process does not notice.
The engine costs it what the fourth line says.`
	return strings.Split(text, "\n")
}
