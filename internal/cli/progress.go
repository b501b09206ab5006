package cli

import (
	"fmt"
	"time"
)

// progressLine is the last line on a terminal as long as it shows how far something is.
type progressLine struct {
	shown bool
	since time.Time // when it was last due
}

// progressPeriod is how often the progress is shown.
const progressPeriod = 500 * time.Millisecond

// progressDue says whether to show the progress again, now that something has come. Who
// waits for less than a period sees none. Without a terminal it never is due.
func (t *terminal) progressDue() bool {
	if columns(t.Err) == 0 {
		return false
	}
	now := time.Now()
	first := t.line.since.IsZero()
	if !first && now.Sub(t.line.since) < progressPeriod {
		return false
	}
	t.line.since = now
	return !first
}

// progress shows how far something is, on a terminal only. The next progress takes its
// place, and so does the next message. What does not fit in a line is left out.
func (t *terminal) progress(format string, args ...any) {
	width := columns(t.Err)
	if width == 0 {
		return
	}
	text := []rune(message(fmt.Sprintf("gopherscope: "+format, args...)))
	text = text[:min(len(text), width-1)] // a full line is wrapped by some terminals
	fmt.Fprintf(t.Err, "%s%s", clearLine, string(text))
	t.line.shown = true
}

// clearLine takes away what is in the line of the cursor.
const clearLine = "\r\x1b[K"

// clearProgress takes the progress away, for what is not a message.
func (t *terminal) clearProgress() {
	if t.line.shown {
		fmt.Fprint(t.Err, clearLine)
		t.line.shown = false
	}
}

// patience tells a person, who would otherwise not know, when to expect the result of a
// live trace; duration is 0 if nobody knows. Scripts are not told.
func (t *terminal) patience(doing string, op operand, duration time.Duration) {
	switch {
	case op.recording != "" || columns(t.Err) == 0:
	case duration > 0:
		t.notef("%s for %s; Ctrl-C ends it early", doing, duration)
	case op.exe != "":
		t.notef("%s until Ctrl-C; --duration says for how long", doing)
	default:
		t.notef("%s until the process ends, or Ctrl-C; --duration says for how long", doing)
	}
}
