package report

import (
	"io"
	"strconv"
	"time"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gstate"
)

// NewJSON writes one JSON object a line. The objects are appended by hand:
// encoding/json would take most of the reader's time at a high rate.
func NewJSON(w io.Writer, clock Clock) Transitions {
	return &jsonWriter{buffer: buffer{w: w}, clock: clock}
}

type jsonWriter struct {
	buffer
	clock Clock
	stamp stamp
}

// Event implements Transitions.
func (j *jsonWriter) Event(e *event.Event, c gstate.Change) error {
	b := append(j.b, `{"type":"`...)
	switch e.Kind {
	case event.Exec:
		b = append(b, "exec"...)
	case event.Exit:
		b = append(b, "exit"...)
	case event.Snapshot:
		b = append(b, "snapshot"...)
	case event.Gap:
		b = append(b, "gap"...)
	case event.Labels:
		b = append(b, "labels"...)
	case event.Census:
		b = append(b, "census"...)
	default:
		b = append(b, "transition"...)
	}
	b = append(b, `","time":"`...)
	b = j.stamp.rfc3339(b, j.clock.Wall(e.Time))
	b = append(b, `","mono_ns":`...)
	b = strconv.AppendInt(b, e.Time, 10)
	switch e.Kind {
	case event.Snapshot:
		b = j.appendStack(appendSeed(b, e), e)
		return j.line(append(b, '}', '\n'))
	case event.Labels:
		return j.line(append(appendSetOf(b, e), '}', '\n'))
	case event.Exec, event.Exit, event.Gap, event.Census:
		if e.Kind == event.Gap {
			b = append(b, `,"for_ns":`...)
			b = strconv.AppendInt(b, e.Time-e.Since, 10)
		}
		b = append(b, `,"pid":`...)
		b = strconv.AppendUint(b, uint64(e.PID), 10)
		return j.line(append(b, '}', '\n'))
	}
	b = append(b, `,"goid":`...)
	b = strconv.AppendUint(b, e.GoID, 10)
	b = append(b, `,"from":"`...)
	b = append(b, e.From.Name()...)
	b = append(b, `","to":"`...)
	b = append(b, e.To.Name()...)
	b = append(b, '"')
	b = j.where(b, e)
	if c.ForKnown {
		b = append(b, `,"for_ns":`...)
		b = strconv.AppendInt(b, int64(c.For), 10)
		if c.ForAtLeast {
			b = append(b, `,"for_at_least":true`...)
		}
	}
	b = appendOrigin(b, e.Birth)
	b = j.appendStack(b, e)
	if c.Violation {
		b = append(b, `,"violation":true`...)
	}
	return j.line(append(b, '}', '\n'))
}

// appendStack appends the stack that an event names, if there is one.
func (j *jsonWriter) appendStack(b []byte, e *event.Event) []byte {
	stack := j.stackOf(e)
	if stack == nil {
		return b
	}
	b = append(b, `,"stack":[`...)
	for i, frame := range stack {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendLocation(b, frame)
	}
	return append(b, ']')
}

// appendSeed appends what is known of a goroutine that was there before.
func appendSeed(b []byte, e *event.Event) []byte {
	b = append(b, `,"goid":`...)
	b = strconv.AppendUint(b, e.GoID, 10)
	b = append(b, `,"state":"`...)
	b = append(b, e.To.Name()...)
	b = append(b, '"')
	if e.Reason != "" {
		b = appendString(append(b, `,"reason":`...), e.Reason)
	}
	if e.Fake {
		b = append(b, `,"fake_wait":true`...)
	}
	if e.Since != 0 {
		b = append(b, `,"wait_at_least_ns":`...)
		b = strconv.AppendInt(b, e.Time-e.Since, 10)
	}
	b = append(b, `,"pid":`...)
	b = strconv.AppendUint(b, uint64(e.PID), 10)
	return appendOrigin(b, e.Birth)
}

// appendSetOf appends the labels of a goroutine, an empty object where it has none.
func appendSetOf(b []byte, e *event.Event) []byte {
	b = append(b, `,"goid":`...)
	b = strconv.AppendUint(b, e.GoID, 10)
	b = append(b, `,"labels":`...)
	if s := e.Labels; s != nil {
		b = appendLabelObject(b, len(s.Labels), func(i int) (string, string) { return s.Labels[i].Key, s.Labels[i].Value })
	} else {
		b = append(b, "{}"...)
	}
	b = append(b, `,"pid":`...)
	return strconv.AppendUint(b, uint64(e.PID), 10)
}

// appendOrigin appends where a goroutine comes from, if that is known.
func appendOrigin(b []byte, birth *event.Birth) []byte {
	if birth == nil {
		return b
	}
	b = append(b, `,"parent":`...)
	b = strconv.AppendUint(b, birth.Parent, 10)
	b = appendLocation(append(b, `,"created_by":`...), birth.CreatedBy)
	return appendLocation(append(b, `,"start":`...), birth.Start)
}

// where appends why and where the change was made.
func (j *jsonWriter) where(b []byte, e *event.Event) []byte {
	if e.To == goruntime.Waiting {
		b = appendString(append(b, `,"reason":`...), e.Reason)
		if e.Fake {
			b = append(b, `,"fake_wait":true`...)
		}
	}
	b = append(b, `,"via":"`...)
	b = append(b, e.Via.String()...)
	b = append(b, `","tid":`...)
	b = strconv.AppendUint(b, uint64(e.TID), 10)
	b = append(b, `,"pid":`...)
	b = strconv.AppendUint(b, uint64(e.PID), 10)
	b = append(b, `,"m":`...)
	b = strconv.AppendInt(b, e.M, 10)
	b = append(b, `,"p":`...)
	b = strconv.AppendInt(b, int64(e.P), 10)
	if e.To == goruntime.Runnable {
		b = append(b, `,"waker":`...)
		b = strconv.AppendUint(b, e.Waker, 10)
	}
	return b
}

// Summary implements Transitions.
func (j *jsonWriter) Summary(s *Summary) error {
	line, err := s.JSON()
	if err != nil {
		return err
	}
	return j.line(append(append(j.b, line...), '\n'))
}

// appendLocation appends a place in the code, or null when it is unknown.
func appendLocation(b []byte, l event.Location) []byte {
	if l == (event.Location{}) {
		return append(b, "null"...)
	}
	b = appendString(append(b, `{"func":`...), l.Func)
	b = appendString(append(b, `,"file":`...), l.File)
	b = append(b, `,"line":`...)
	b = strconv.AppendInt(b, int64(l.Line), 10)
	return append(b, '}')
}

// appendString appends s as a JSON string.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return appendQuotedJSON(b, s)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// stamp formats times that mostly lie in the same second as the one before.
type stamp struct {
	second int64
	prefix []byte // up to the decimal point
}

// rfc3339 appends the time, in UTC with nine digits of the second.
func (s *stamp) rfc3339(b []byte, wall int64) []byte {
	return append(s.digits(b, wall, "2006-01-02T15:04:05.", time.UTC, 9), 'Z')
}

// local appends the time of day, with six digits of the second.
func (s *stamp) local(b []byte, wall int64) []byte {
	return s.digits(b, wall, "15:04:05.", time.Local, 6)
}

func (s *stamp) digits(b []byte, wall int64, layout string, loc *time.Location, digits int) []byte {
	second, ns := wall/1e9, wall%1e9
	if second != s.second || s.prefix == nil {
		s.second = second
		s.prefix = time.Unix(second, 0).In(loc).AppendFormat(s.prefix[:0], layout)
	}
	b = append(b, s.prefix...)
	for div := int64(1e8); digits > 0; digits, div = digits-1, div/10 {
		b = append(b, byte('0'+ns/div%10))
	}
	return b
}
