package tui

import (
	"fmt"
	"strconv"
	"time"

	tea "charm.land/bubbletea/v2"
)

// tape is how a recording is played: the screen shows one moment of it, and keys go to
// others. The moments that keys go to are whole intervals from the begin, so that they are
// the same whichever way one came.
type tape struct {
	Recorded
	at      int64 // what is to be shown: CLOCK_MONOTONIC, ns
	shown   int64 // what is shown; 0 before the first Sample
	playing bool
	speed   int     // an index of speeds
	times   []int64 // of the values of the sparklines
}

// speeds are how fast a recording can be played, as multiples of its own time.
var speeds = [...]float64{0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128}

// ownSpeed is the index of 1.
const ownSpeed = 2

// minScreen is how long a screen is shown at least while a recording is played: of
// what is played faster, moments are left out.
const minScreen = 100 * time.Millisecond

// The message of the timer that plays.
type playMsg int

// step is the moment so many intervals later.
func (m *Model) step(n int64) int64 {
	t := m.tape
	interval := int64(m.opts.Interval)
	whole, rest := (t.at-t.Begin)/interval, (t.at-t.Begin)%interval
	if n < 0 && rest > 0 {
		whole++
	}
	return min(max(t.Begin+min(interval, t.End-t.Begin), t.Begin+(whole+n)*interval), t.End)
}

// tapeKey is a key that means something else of a recording than of a process; ok is false if
// it is none.
func (m *Model) tapeKey(name string) (cmd tea.Cmd, ok bool) {
	t := m.tape
	switch name {
	case "right", "t":
		return m.goTo(m.step(1)), true
	case "left", "T":
		return m.goTo(m.step(-1)), true
	case "home":
		t.at = t.Begin
		return m.goTo(m.step(1)), true
	case "end":
		return m.goTo(t.End), true
	case "space", "p":
		return m.play(), true
	case "+", "=":
		t.speed = min(t.speed+1, len(speeds)-1)
	case "-":
		t.speed = max(t.speed-1, 0)
	case "e":
		m.message = "a recording has every change of state; e attaches an engine to a process that lives"
	default:
		return nil, false
	}
	return nil, true
}

// goTo shows another moment.
func (m *Model) goTo(at int64) tea.Cmd {
	m.tape.at = at
	if !m.tapeStale() { // there is nothing else to show
		m.tape.playing = false
		return nil
	}
	return m.takeSample()
}

// play goes on playing, or pauses. From the end it begins anew.
func (m *Model) play() tea.Cmd {
	t := m.tape
	t.playing = !t.playing
	if !t.playing {
		return nil
	}
	if t.at >= t.End {
		t.at = t.Begin
	}
	return m.goTo(m.step(1))
}

// playOn shows the moment that comes next.
func (m *Model) playOn(timer int) tea.Cmd {
	if timer != m.timer || !m.tape.playing {
		return nil
	}
	return m.goTo(m.step(m.stride()))
}

// stride is how many intervals one screen is after another.
func (m *Model) stride() int64 {
	return 1 + int64((minScreen-1).Seconds()*speeds[m.tape.speed]/m.opts.Interval.Seconds())
}

// playback takes what came of a Sample of a recording.
func (m *Model) playback(msg sampleMsg) tea.Cmd {
	t := m.tape
	if msg.err != nil {
		m.message = "error: " + m.glyphs.safe(msg.err.Error())
		t.playing = false
		if t.shown != 0 {
			t.at = t.shown
		}
		return nil
	}
	t.Recorded = msg.sample.Position.Recorded
	t.at = min(t.at, t.End)
	m.show(msg.sample)
	switch {
	case m.tapeStale():
		return m.takeSample() // a key has gone elsewhere meanwhile
	case !t.playing:
		return nil
	case t.at >= t.End:
		t.playing = false
		if m.message == "" {
			m.message = "the end of the recording"
		}
		return nil
	}
	pause := time.Duration(float64(m.stride())*float64(m.opts.Interval)/speeds[t.speed]) - msg.took
	timer := m.timer
	return tea.Tick(pause, func(time.Time) tea.Msg { return playMsg(timer) })
}

// tapeStale says whether another moment, or another goroutine, is to be shown than the
// Sample has.
func (m *Model) tapeStale() bool {
	w := m.want()
	return m.sample == nil || m.sample.Position.At != w.At || w.Watch != 0 && m.sample.Rates.Watched != w.Watch
}

// showTape makes a Sample of a recording the one that is shown. The course of the states is
// that of the moments before it.
func (m *Model) showTape(s *Sample) {
	p, t := s.Position, m.tape
	m.sample, m.ran, t.shown = s, p.Ran, p.At
	m.load = load{over: p.Over, target: p.CPU}
	n := len(t.times)
	for n > 0 && t.times[n-1] >= p.At {
		n--
	}
	t.times = append(t.times[:n], p.At)
	t.times = t.times[max(0, len(t.times)-sparkLen):]
	counts := m.counts()
	for k := range counts {
		line := append(m.sparks[k][:min(n, len(m.sparks[k]))], counts[k])
		m.sparks[k] = line[max(0, len(line)-sparkLen):]
	}
}

// tapeLine says where in the recording the screen is.
func (m *Model) tapeLine(width int) string {
	t := m.tape
	at, clock := t.at, ""
	if s := m.sample; s != nil {
		at, clock = t.shown, ", "+m.clock(s.Dump.Time)
	}
	line := fmt.Sprintf("%s of %s%s  ", seconds(at-t.Begin), seconds(t.End-t.Begin), clock)
	speed := strconv.FormatFloat(speeds[t.speed], 'g', -1, 64) + "x"
	if t.playing {
		line += "PLAYING " + speed
	} else {
		line += "paused"
		if t.speed != ownSpeed {
			line += " " + speed
		}
	}
	if m.sampling && at != t.at {
		line += "  reading up to " + seconds(t.at-t.Begin)
	}
	if s := m.sample; s != nil && s.Position.Paused != 0 {
		line += "  not traced since " + seconds(s.Position.Paused-t.Begin)
	}
	if t.Cut {
		line += "  ends early"
	}
	return m.glyphs.head(line, width)
}

// seconds is a time in a recording: "12.0 s".
func seconds(ns int64) string { return strconv.FormatFloat(float64(ns)/1e9, 'f', 1, 64) + " s" }

// tapeKeys are the keys of a recording for the last line.
func (m *Model) tapeKeys() []string {
	if m.top().kind == levelOne {
		return []string{"? help", "q quit", "esc back", "space play", "left right step", "+ - speed", "home end", "w write"}
	}
	return []string{"? help", "q quit", "space play", "left right step", "enter open", "g group", "/ filter", "< > sort", "+ - speed", "home end", "w write", "r reverse"}
}

// tapeHelp is the page of the keys of a recording.
const tapeHelp = `gopherscope top: the keys of a recording

space p     play it, and pause
right left  one interval forward, back; so do t and T
home end    to its begin; to its end
+ -         faster; slower
up down pgup pgdn  choose a row
enter   the goroutines of the row, then the stack of one
esc     back; at the top, takes the filter away
g       group by creation site, wait reason, function,
        state; or single goroutines
< > r   choose the column to sort by; the other way round
/       show only what matches a regexp
w q     write what is shown to a file; quit

Of the goroutines in the row, in the interval before:
RAN       ran, or are new
LONGEST   one waits for about so long
SCHED P99 99 % waited no longer to run when runnable
TRANS/S   changes of state a second
BLOCKED/S time in state waiting, of all, a second`
