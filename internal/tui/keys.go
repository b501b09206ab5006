package tui

import (
	"regexp"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"
)

// key is a key that was pressed.
func (m *Model) key(msg tea.KeyPressMsg) tea.Cmd {
	m.message = ""
	name := msg.String()
	if name == "ctrl+c" {
		return tea.Quit
	}
	if m.prompt != nil {
		m.typed(name, msg.Text)
		return nil
	}
	if m.help {
		m.help = false
		if name == "q" {
			return tea.Quit
		}
		return nil
	}
	if m.tape != nil {
		if cmd, ok := m.tapeKey(name); ok {
			return cmd
		}
	}
	if m.move(name) {
		return nil
	}
	switch name {
	case "q":
		return tea.Quit
	case "?", "h":
		m.help = true
	case "esc", "backspace", "left":
		m.back()
	case "enter", "right":
		return m.open()
	case "g":
		return m.nextGrouping()
	case "<", ",":
		m.nextColumn(-1)
	case ">", ".":
		m.nextColumn(1)
	case "r":
		order := m.order()
		order.reversed = !order.reversed
		m.changed()
	case "/":
		m.prompt = &prompt{}
		if m.pattern != nil {
			m.prompt.text = m.pattern.String()
		}
	case "e":
		return m.toggleEngine()
	case "p", "space":
		return m.pause()
	case "w":
		return m.save()
	}
	return nil
}

// typed is a key while a filter is typed. A pattern that makes no sense stays in the
// prompt, and the former filter as it was.
func (m *Model) typed(name, text string) {
	p := m.prompt
	p.err = ""
	switch name {
	case "esc":
		m.prompt = nil
	case "enter":
		if p.text == "" {
			m.pattern, m.prompt = nil, nil
			m.changed()
			return
		}
		re, err := regexp.Compile(p.text)
		if err != nil {
			p.err = m.glyphs.safe(err.Error())
			return
		}
		m.pattern, m.prompt = re, nil
		m.changed()
	case "backspace":
		_, n := utf8.DecodeLastRuneInString(p.text)
		p.text = p.text[:len(p.text)-n]
	case "ctrl+u":
		p.text = ""
	default:
		p.text += text
	}
}

// move moves what is chosen, or what is seen of the lines of a goroutine. It returns
// false if the key is another one.
func (m *Model) move(name string) bool {
	page := max(1, m.room()-1)
	by, ok := map[string]int{
		"up": -1, "k": -1, "down": 1, "j": 1, "pgup": -page, "pgdown": page, "home": -1 << 30, "end": 1 << 30,
	}[name]
	if !ok {
		return false
	}
	l := m.top()
	if l.kind == levelOne {
		l.offset = max(0, l.offset+by) // settle knows the end
		return true
	}
	rows := m.shown().rows
	if len(rows) > 0 {
		l.index = min(max(0, l.index+by), len(rows)-1)
		l.cursor, l.moved = rows[l.index].key, true
	}
	return true
}

// settle makes the choice and the offset of the level that is shown fit what there is.
func (m *Model) settle() {
	l, room := m.top(), max(1, m.room())
	if l.kind == levelOne {
		l.offset = min(max(0, l.offset), max(0, len(m.oneLines(l))-room))
		return
	}
	rows := m.shown().rows
	if len(rows) == 0 {
		l.offset = 0
		return
	}
	for i := range rows {
		if l.moved && rows[i].key == l.cursor {
			l.index = i
			break
		}
	}
	l.index = min(max(0, l.index), len(rows)-1)
	l.cursor = rows[l.index].key
	l.offset = min(l.offset, l.index, max(0, len(rows)-room))
	l.offset = max(l.offset, l.index-room+1, 0)
}

// order is the ordering of the table that is shown.
func (m *Model) order() *ordering {
	if m.goroutines(m.top()) {
		return &m.orders[1]
	}
	return &m.orders[0]
}

// nextColumn sorts by the next column to the right or to the left that is shown.
func (m *Model) nextColumn(step int) {
	if m.top().kind == levelOne {
		return
	}
	order := m.order()
	cols, _ := fit(m.goroutines(m.top()), m.rates() != nil, order.by, m.width-cursorWidth)
	for i, c := range cols {
		if c.id == order.by {
			next := cols[(i+step+len(cols))%len(cols)]
			*order = ordering{by: next.id}
			m.changed()
			return
		}
	}
}

// nextGrouping groups by the next thing. Deeper levels are left: their rows are those
// of the grouping before.
func (m *Model) nextGrouping() tea.Cmd {
	m.by = (m.by + 1) % groupings
	if m.tape != nil && m.by == byLabel && (m.sample == nil || len(m.sample.Dump.Labels) == 1) { // there are none in the recording
		m.by++
	}
	m.levels = []level{{kind: levelGroups}}
	m.changed()
	return m.needStacks()
}

// needStacks takes a Sample at once if there are no stacks yet, and some are shown.
func (m *Model) needStacks() tea.Cmd {
	if m.tape != nil {
		if m.tapeStale() {
			return m.takeSample()
		}
		return nil
	}
	if m.want().Stacks && m.sample != nil && m.sample.Stacks == nil && !m.paused {
		return m.takeSample()
	}
	return nil
}

// open leads to the goroutines of the row that is chosen, or to the goroutine.
func (m *Model) open() tea.Cmd {
	l, rows := m.top(), m.shown().rows
	if l.kind == levelOne || len(rows) == 0 {
		return nil
	}
	r := rows[l.index]
	l.moved = true // it is still chosen when Esc comes back
	next := level{kind: levelOne, goid: r.goid}
	if r.goid == 0 {
		if r.count == 0 {
			m.message = "the goroutines of this row have ended"
			return nil
		}
		key := r.key
		next = level{kind: levelGoroutines, key: &key, by: m.by, name: r.name}
	}
	m.levels = append(m.levels, next)
	m.changed()
	return m.needStacks()
}

// back leaves a level, or takes the filter away.
func (m *Model) back() {
	switch {
	case len(m.levels) > 1:
		m.levels = m.levels[:len(m.levels)-1]
	case m.pattern != nil:
		m.pattern = nil
	}
	m.changed()
}

// pause stops the taking of Samples, or goes on with it.
func (m *Model) pause() tea.Cmd {
	if m.ended != "" {
		return nil
	}
	m.paused = !m.paused
	if m.paused {
		return nil
	}
	return m.takeSample()
}
