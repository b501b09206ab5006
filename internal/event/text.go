package event

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"gopherscope/internal/goruntime"
)

// The text form of an event is one line: the kind, then key=value with one space in
// between. It is for tests that are written by hand and for tools that cut columns:
//
//	transition mono_ns=5021 pid=7 tid=9 goid=18 m=3 p=1 from=running to=waiting via=park reason="chan receive"
//	transition mono_ns=5040 pid=7 tid=9 goid=19 m=3 p=1 from=dead to=runnable via=create parent=1 created_by=main.main,/src/main.go,12 start=main.work,/src/main.go,20
//
// The keys are those of the JSON form; since_ns is Event.Since. A key that is missing is
// 0, so that nothing is lost, and each may come once, in any order. The key parent, written
// also when it is 0, says that there is a Birth. A place is function, file and line. The key
// labels, of an event of that kind, has their number and then each key and value, as in
// labels=2,path,/login,user,7. A text
// is quoted as in Go source unless it is printable ASCII without spaces, commas, quotes and
// backslashes: so nothing in a line can control a terminal. A status, path or kind without
// a name is its number.

var kindNames = [...]string{Transition: "transition", Exec: "exec", Exit: "exit", Snapshot: "snapshot", Gap: "gap", Labels: "labels", Census: "census"}

// Known says whether the kind is one of the constants.
func (k Kind) Known() bool { return int(k) < len(kindNames) }

// String is the kind's name as JSON and the text form spell it; of an unknown kind, its number.
func (k Kind) String() string {
	if k.Known() {
		return kindNames[k]
	}
	return strconv.Itoa(int(k))
}

// AppendText appends the event's text form, without a newline.
func AppendText(b []byte, e *Event) []byte {
	b = append(b, e.Kind.String()...)
	b = appendInt(b, "mono_ns", e.Time)
	b = appendUint(b, "pid", uint64(e.PID))
	b = appendUint(b, "tid", uint64(e.TID))
	b = appendUint(b, "goid", e.GoID)
	b = appendInt(b, "m", e.M)
	b = appendInt(b, "p", int64(e.P))
	b = appendStatus(b, "from", e.From)
	b = appendStatus(b, "to", e.To)
	if e.Via != ViaOther {
		b = append(b, " via="...)
		if int(e.Via) < len(viaNames) {
			b = append(b, e.Via.String()...)
		} else {
			b = strconv.AppendUint(b, uint64(e.Via), 10)
		}
	}
	if e.Reason != "" {
		b = appendWord(append(b, " reason="...), e.Reason)
	}
	if e.Fake {
		b = append(b, " fake_wait=true"...)
	}
	b = appendUint(b, "waker", e.Waker)
	b = appendInt(b, "since_ns", e.Since)
	b = appendUint(b, "stack", uint64(e.Stack))
	if e.Birth != nil {
		b = append(b, " parent="...)
		b = strconv.AppendUint(b, e.Birth.Parent, 10)
		b = appendPlace(b, "created_by", &e.Birth.CreatedBy)
		b = appendPlace(b, "start", &e.Birth.Start)
	}
	if e.Labels != nil {
		b = strconv.AppendInt(appendKey(b, "labels"), int64(len(e.Labels.Labels)), 10)
		for _, l := range e.Labels.Labels {
			b = appendWord(append(b, ','), l.Key)
			b = appendWord(append(b, ','), l.Value)
		}
	}
	return b
}

func appendKey(b []byte, key string) []byte { return append(append(append(b, ' '), key...), '=') }

func appendInt(b []byte, key string, v int64) []byte {
	if v == 0 {
		return b
	}
	return strconv.AppendInt(appendKey(b, key), v, 10)
}

func appendUint(b []byte, key string, v uint64) []byte {
	if v == 0 {
		return b
	}
	return strconv.AppendUint(appendKey(b, key), v, 10)
}

func appendStatus(b []byte, key string, s goruntime.Status) []byte {
	switch {
	case s == 0:
		return b
	case s.Valid():
		return append(appendKey(b, key), s.Name()...)
	}
	return strconv.AppendUint(appendKey(b, key), uint64(s), 10)
}

func appendPlace(b []byte, key string, l *Location) []byte {
	if *l == (Location{}) {
		return b
	}
	b = append(appendWord(appendKey(b, key), l.Func), ',')
	b = append(appendWord(b, l.File), ',')
	return strconv.AppendInt(b, int64(l.Line), 10)
}

// appendWord appends a text, quoted if it must be.
func appendWord(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == ',' || c == '"' || c == '\\' {
			return strconv.AppendQuoteToASCII(b, s)
		}
	}
	if s == "" {
		return append(b, `""`...)
	}
	return append(b, s...)
}

// ParseText reads one line of the text form, without its newline. The event is the
// caller's.
func ParseText(line string) (*Event, error) {
	p := textParser{rest: line}
	kind, _ := p.until(' ')
	k, err := parseName(kind, kindNames[:])
	if err != nil {
		return nil, fmt.Errorf("kind: %w", err)
	}
	e := &Event{Kind: Kind(k)}
	for p.more {
		key, ok := p.until('=')
		if !ok {
			return nil, fmt.Errorf("%q: no key=value", key)
		}
		if p.seen(key) {
			return nil, fmt.Errorf("%s: given twice", key)
		}
		if err := p.field(e, key); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	return e, nil
}

// textParser reads a line from left to right.
type textParser struct {
	rest string
	more bool     // a space was read, so another field must come
	keys []string // read so far
}

var errValue = errors.New("a value is missing, or something follows it")

// until takes what comes before the first c, which it takes too. Without one it
// takes all.
func (p *textParser) until(c byte) (string, bool) {
	s, rest, ok := strings.Cut(p.rest, string(c))
	p.rest = rest
	if c == ' ' {
		p.more = ok
	}
	return s, ok
}

func (p *textParser) seen(key string) bool {
	for _, k := range p.keys {
		if k == key {
			return true
		}
	}
	p.keys = append(p.keys, key)
	return false
}

// field reads the value of a key.
func (p *textParser) field(e *Event, key string) error {
	var err error
	switch key {
	case "reason":
		e.Reason, err = p.word(' ')
		return err
	case "created_by", "start":
		l := &e.birth().CreatedBy
		if key == "start" {
			l = &e.birth().Start
		}
		return p.place(l)
	case "labels":
		e.Labels = &LabelSet{}
		e.Labels.Labels, err = p.labels()
		return err
	}
	value, _ := p.until(' ')
	return e.setText(key, value)
}

// birth is the event's Birth, which is made when there is none.
func (e *Event) birth() *Birth {
	if e.Birth == nil {
		e.Birth = &Birth{}
	}
	return e.Birth
}

// setText sets the field of a key whose value has no quotes.
func (e *Event) setText(key, value string) (err error) {
	var small int64
	var short uint64
	switch key {
	case "mono_ns":
		e.Time, err = strconv.ParseInt(value, 10, 64)
	case "since_ns":
		e.Since, err = strconv.ParseInt(value, 10, 64)
	case "m":
		e.M, err = strconv.ParseInt(value, 10, 64)
	case "p":
		small, err = strconv.ParseInt(value, 10, 32)
		e.P = int32(small)
	case "goid":
		e.GoID, err = strconv.ParseUint(value, 10, 64)
	case "waker":
		e.Waker, err = strconv.ParseUint(value, 10, 64)
	case "parent":
		e.birth().Parent, err = strconv.ParseUint(value, 10, 64)
	case "pid":
		short, err = strconv.ParseUint(value, 10, 32)
		e.PID = uint32(short)
	case "tid":
		short, err = strconv.ParseUint(value, 10, 32)
		e.TID = uint32(short)
	case "stack":
		short, err = strconv.ParseUint(value, 10, 32)
		e.Stack = uint32(short)
	case "from":
		e.From, err = parseStatus(value)
	case "to":
		e.To, err = parseStatus(value)
	case "via":
		short, err = parseName(value, viaNames[:])
		e.Via = Via(short)
	case "fake_wait":
		e.Fake, err = strconv.ParseBool(value)
	default:
		err = errors.New("unknown key")
	}
	return err
}

// word reads a text that ends before an end, or before a space or at the end of the
// line, and takes the end.
func (p *textParser) word(end byte) (string, error) {
	if !strings.HasPrefix(p.rest, `"`) {
		s, ok := p.until(end)
		if s == "" || end != ' ' && !ok || strings.ContainsAny(s, ` "\`) {
			return "", errValue
		}
		return s, nil
	}
	quoted, err := strconv.QuotedPrefix(p.rest)
	if err != nil {
		return "", err
	}
	s, err := strconv.Unquote(quoted)
	if err != nil {
		return "", err
	}
	p.rest = p.rest[len(quoted):]
	if after, ok := p.until(end); after != "" || end != ' ' && !ok {
		return "", errValue
	}
	return s, nil
}

func (p *textParser) place(l *Location) (err error) {
	if l.Func, err = p.word(','); err != nil {
		return err
	}
	if l.File, err = p.word(','); err != nil {
		return err
	}
	line, _ := p.until(' ')
	l.Line, err = strconv.Atoi(line)
	return err
}

// labels reads a number and so many pairs of texts.
func (p *textParser) labels() ([]Label, error) {
	number, err := p.number()
	if err != nil {
		return nil, err
	}
	var labels []Label
	for n := number; n > 0; n-- {
		var l Label
		if l.Key, err = p.word(','); err != nil {
			return nil, err
		}
		end := byte(',')
		if n == 1 {
			end = ' '
			if last, _, _ := strings.Cut(p.rest, " "); last != "" && last[0] != '"' && strings.Contains(last, ",") {
				return nil, errValue // more than the number says
			}
		}
		if l.Value, err = p.word(end); err != nil {
			return nil, err
		}
		labels = append(labels, l)
	}
	return labels, nil
}

// number reads how many labels follow, and the comma after it if there are some.
func (p *textParser) number() (uint64, error) {
	digits := p.rest
	if end := strings.IndexAny(digits, ", "); end >= 0 {
		digits = digits[:end]
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return 0, err
	}
	after := byte(',')
	if n == 0 {
		after = ' '
	}
	if s, ok := p.until(after); s != digits || n > 0 && !ok {
		return 0, errValue
	}
	return n, nil
}

func parseStatus(s string) (goruntime.Status, error) {
	if n, err := strconv.ParseUint(s, 10, 8); err == nil {
		return goruntime.Status(n), nil
	}
	return goruntime.ParseStatus(s)
}

// parseName finds a name in a list, or reads a number.
func parseName(s string, names []string) (uint64, error) {
	for i, name := range names {
		if name == s {
			return uint64(i), nil
		}
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("%q is none of %s, and no number", s, strings.Join(names, ", "))
	}
	return n, nil
}
