package tui

import (
	"errors"
	"regexp"
	"time"

	tea "charm.land/bubbletea/v2"

	"gopherscope/internal/dump"
)

// Options are the choices of a Model; nil means the defaults.
type Options struct {
	Interval time.Duration  // from the begin of one Sample to the next; 0 is a second
	Location *time.Location // of the times that are shown; nil is UTC
	All      bool           // the runtime's own goroutines, too
	ASCII    bool           // the terminal shows nothing else
	// Recorded is not nil of a recording, the Samples of which have Rates, stacks and a
	// Position. From is the moment that is shown first; 0 is one Interval after the begin.
	Recorded *Recorded
	From     int64
}

// Model is the state of the screen. It is a [tea.Model], and not safe for concurrent
// use.
type Model struct {
	host    Host
	proc    Process
	opts    Options
	glyphs  *glyphs
	styles  styles
	width   int
	height  int
	sample  *Sample // the one that is shown; nil before the first
	load    load
	ran     []bool // of the goroutines of sample
	history history
	sparks  [stateKinds][]int

	by      grouping
	orders  [2]ordering // of tables of groups, and of goroutines
	pattern *regexp.Regexp
	levels  []level // of which the last is shown
	cached  *table  // nil if it is to be made anew

	sampling bool // a Sample is being taken
	timer    int  // the number of the last timer; older ones do not count
	paused   bool
	help     bool
	prompt   *prompt
	message  string // instead of the keys, until one is pressed
	ended    string // why there are no more Samples
	engine   engineState
	engines  int   // how many there were
	tape     *tape // nil of a process that lives
}

// load is what this program and the process used of the CPUs between two Samples.
type load struct {
	over, target, own time.Duration
}

// level is one of the tables that Enter leads to.
type level struct {
	kind   levelKind
	key    *string // of the row whose goroutines these are; nil for all
	by     grouping
	goid   uint64
	cursor string // key of the row that is chosen
	index  int    // where it was last
	moved  bool   // it was chosen by a key; before that it is the first row
	offset int    // of the first row, or line, that is drawn
	name   string // of the row whose goroutines these are
	seen   *one   // what was last known of the goroutine
}

type levelKind uint8

const (
	levelGroups levelKind = iota
	levelGoroutines
	levelOne // a single goroutine
)

// engineState says whether an engine is attached.
type engineState uint8

const (
	engineOff engineState = iota
	engineStarting
	engineOn
	engineStopping
)

// prompt is the line in which a filter is typed.
type prompt struct {
	text string
	err  string
}

// New returns the Model of a process, which has no Sample yet.
func New(host Host, proc Process, opts *Options) *Model {
	m := &Model{host: host, proc: proc, width: 80, height: 24, glyphs: &unicodeGlyphs, styles: newStyles()}
	if opts != nil {
		m.opts = *opts
	}
	if m.opts.Interval <= 0 {
		m.opts.Interval = time.Second
	}
	if m.opts.Location == nil {
		m.opts.Location = time.UTC
	}
	if m.opts.ASCII {
		m.glyphs = &asciiGlyphs
	}
	m.orders = [2]ordering{{by: colCount}, {by: colLongest}}
	m.levels = []level{{kind: levelGroups}}
	if m.opts.Recorded != nil {
		m.tape = &tape{Recorded: *m.opts.Recorded, speed: ownSpeed}
		m.tape.at = m.tape.Begin
		m.tape.at = m.step(1)
		if from := m.opts.From; from != 0 {
			m.tape.at = min(max(from, m.tape.Begin), m.tape.End)
		}
	}
	return m
}

// The messages that come from the Host.
type (
	sampleMsg struct {
		sample *Sample
		err    error
		took   time.Duration
	}
	timerMsg  int
	engineMsg struct {
		on  bool
		err error
	}
	engineEndedMsg int // which of the engines that there were
	savedMsg       struct {
		path string
		err  error
	}
)

// Init implements tea.Model: it takes the first Sample.
func (m *Model) Init() tea.Cmd { return m.takeSample() }

// Update implements tea.Model.
func (m *Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	cmd := m.update(msg)
	m.settle()
	return m, cmd
}

func (m *Model) update(msg tea.Msg) tea.Cmd {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		return m.key(msg)
	case tea.PasteMsg:
		if m.prompt != nil {
			m.prompt.text += m.glyphs.safe(msg.Content)
		}
	case sampleMsg:
		return m.sampled(msg)
	case timerMsg:
		if int(msg) == m.timer && !m.paused {
			return m.takeSample()
		}
	case playMsg:
		return m.playOn(int(msg))
	case engineMsg:
		return m.switched(msg)
	case engineEndedMsg:
		if m.engine == engineOn && int(msg) == m.engines {
			m.engine = engineStopping // it has ended by itself: what is left is to say why
			return m.stopEngine()
		}
	case savedMsg:
		m.message = "written to " + m.glyphs.safe(msg.path)
		if msg.err != nil {
			m.message = "error: " + m.glyphs.safe(msg.err.Error())
		}
	}
	return nil
}

// takeSample starts to take a Sample, unless one is under way or there will be none.
func (m *Model) takeSample() tea.Cmd {
	if m.sampling || m.ended != "" {
		return nil
	}
	m.sampling = true
	m.timer++
	host, want := m.host, m.want()
	return func() tea.Msg {
		began := time.Now()
		s, err := host.Sample(want)
		return sampleMsg{s, err, time.Since(began)}
	}
}

// want is what is shown.
func (m *Model) want() Want {
	top := m.top()
	w := Want{Stacks: top.kind == levelOne || m.by == byFunction || m.goroutines(top)}
	if top.kind == levelOne {
		w.Watch = top.goid
	}
	if m.tape != nil {
		w.At = m.tape.at
	}
	return w
}

func (m *Model) top() *level { return &m.levels[len(m.levels)-1] }

// idleShare is how much longer than a reading took the pause after it is at least: of
// a process with very many goroutines there are fewer Samples than asked for.
const idleShare = 3

// sampled takes what came of a Sample, and sets the timer of the next.
func (m *Model) sampled(msg sampleMsg) tea.Cmd {
	m.sampling = false
	if m.tape != nil {
		return m.playback(msg)
	}
	var end *EndedError
	switch {
	case errors.As(msg.err, &end):
		m.ended = m.glyphs.safe(end.Why)
		m.message = ""
		return m.endEngine()
	case msg.err != nil:
		m.message = "error: " + m.glyphs.safe(msg.err.Error())
	case !m.paused:
		m.show(msg.sample)
	}
	if m.paused {
		return nil
	}
	pause := m.opts.Interval - msg.took
	if msg.sample != nil {
		pause = max(pause, idleShare*msg.sample.Dump.Took)
	}
	if m.want().Stacks && m.sample != nil && m.sample.Stacks == nil {
		pause = 0 // they were asked for while this Sample was being taken
	}
	timer := m.timer
	return tea.Tick(pause, func(time.Time) tea.Msg { return timerMsg(timer) })
}

// sparkLen is how many values of a sparkline are kept.
const sparkLen = 240

// show makes a Sample the one that is shown.
func (m *Model) show(s *Sample) {
	m.changed()
	if m.tape != nil {
		m.showTape(s)
	} else {
		m.showLive(s)
	}
	for _, note := range s.Notes {
		m.message = m.glyphs.safe(note)
	}
}

// showLive makes a Sample of a process the one that is shown.
func (m *Model) showLive(s *Sample) {
	if old := m.sample; old != nil {
		m.load = load{over: time.Duration(s.Dump.Mono - old.Dump.Mono)}
		if s.TargetCPU > 0 && old.TargetCPU > 0 {
			m.load.target = s.TargetCPU - old.TargetCPU
		}
		m.load.own = s.OwnCPU - old.OwnCPU
	}
	m.sample = s
	m.ran = m.history.add(s.Dump)
	counts := m.counts()
	for k := range counts {
		line := append(m.sparks[k], counts[k])
		m.sparks[k] = line[max(0, len(line)-sparkLen):]
	}
}

// counts are how many goroutines are in each state.
func (m *Model) counts() (n [stateKinds]int) {
	if m.sample == nil {
		return n
	}
	for i := range m.sample.Dump.Goroutines {
		if g := &m.sample.Dump.Goroutines[i]; m.opts.All || !g.Has(dump.System) {
			n[kindOf(g.Status)]++
		}
	}
	return n
}

// toggleEngine attaches an engine, or detaches it.
func (m *Model) toggleEngine() tea.Cmd {
	switch {
	case m.ended != "":
		return nil
	case m.engine == engineOff:
		m.engine = engineStarting
		host := m.host
		return func() tea.Msg { return engineMsg{on: true, err: host.StartEngine()} }
	case m.engine == engineOn:
		m.engine = engineStopping
		return m.stopEngine()
	}
	return nil // it is being switched
}

func (m *Model) stopEngine() tea.Cmd {
	host := m.host
	return func() tea.Msg { return engineMsg{on: false, err: host.StopEngine()} }
}

// endEngine detaches the engine, if there is one, because the process has ended.
func (m *Model) endEngine() tea.Cmd {
	if m.engine != engineOn {
		return nil // one that is being attached finds out by itself
	}
	m.engine = engineStopping
	return m.stopEngine()
}

// switched takes what came of attaching or detaching an engine.
func (m *Model) switched(msg engineMsg) tea.Cmd {
	if msg.err != nil {
		m.message = "error: " + m.glyphs.safe(msg.err.Error())
	}
	if msg.on && msg.err == nil {
		m.engine = engineOn
		m.engines++
		ended, which := m.host.EngineEnded(), engineEndedMsg(m.engines)
		watch := func() tea.Msg { <-ended; return which }
		if m.ended != "" {
			m.engine = engineStopping
			return m.stopEngine()
		}
		return watch
	}
	m.engine = engineOff
	m.changed()
	for i := range m.orders {
		if rateColumn(m.orders[i].by) {
			m.orders[i] = ordering{by: [...]columnID{colCount, colLongest}[i]}
		}
	}
	return nil
}

// rateColumn says whether a column is there with an engine only.
func rateColumn(id columnID) bool { return id == colSchedWait || id == colRate || id == colBlocked }

// rates are those of the Sample that is shown; nil if it has none.
func (m *Model) rates() *Rates {
	if m.sample == nil || m.engine == engineOff && m.tape == nil {
		return nil
	}
	return m.sample.Rates
}

// table is what a level shows: its rows, sorted and filtered.
type table struct {
	rows   []row
	folded int // how many goroutines they have
	gr     *grouper
}

// tableOf makes the table of a level.
func (m *Model) tableOf(l *level) *table {
	if m.sample == nil || l.kind == levelOne {
		return &table{}
	}
	by := m.by
	if l.kind == levelGoroutines {
		by = l.by
	}
	gr := newGrouper(m.sample, by, m.ran, m.rates(), m.opts.All, m.glyphs)
	t := &table{gr: gr}
	order := m.orders[0]
	if m.goroutines(l) {
		order = m.orders[1]
		t.rows = gr.members(l.key)
		if m.pattern != nil || order.by == colName {
			gr.nameAll(t.rows)
		}
	} else {
		t.rows = gr.groups()
	}
	t.rows = filter(t.rows, m.pattern)
	arrange(t.rows, order)
	for i := range t.rows {
		t.folded += t.rows[i].count
	}
	return t
}

// shown is the table of the level that is shown. It is kept until something changes
// that it depends on.
func (m *Model) shown() *table {
	if m.cached == nil {
		m.cached = m.tableOf(m.top())
	}
	return m.cached
}

// changed says that something changed that the table depends on.
func (m *Model) changed() { m.cached = nil }

// goroutines says whether a level is a table of goroutines.
func (m *Model) goroutines(l *level) bool {
	return l.kind == levelGoroutines || l.kind == levelGroups && m.by == byGoroutine
}

// save writes what is shown, whole, to a file.
func (m *Model) save() tea.Cmd {
	if m.sample == nil {
		return nil
	}
	host, text, when := m.host, m.text(), m.sample.Dump.Time
	return func() tea.Msg {
		path, err := host.Save(text, when)
		return savedMsg{path, err}
	}
}
