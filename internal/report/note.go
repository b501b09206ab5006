package report

import "strconv"

// Noter is a [Transitions] that has a line for remarks of the recorder about a moment of the trace,
// CLOCK_MONOTONIC in ns; detail may be empty.
type Noter interface {
	Note(mono int64, cause, detail string) error
}

var _ Noter = (*jsonWriter)(nil)

// Note implements Noter.
func (j *jsonWriter) Note(mono int64, cause, detail string) error {
	b := j.stamp.rfc3339(append(j.b, `{"type":"note","time":"`...), j.clock.Wall(mono))
	b = strconv.AppendInt(append(b, `","mono_ns":`...), mono, 10)
	b = appendString(append(b, `,"cause":`...), cause)
	if detail != "" {
		b = appendString(append(b, `,"detail":`...), detail)
	}
	return j.line(append(b, '}', '\n'))
}
