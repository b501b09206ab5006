package trigger

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// SyntaxError is a text that is no condition.
type SyntaxError struct {
	Text string // all of it
	At   int    // the place in it, bytes from its beginning
	Msg  string // what is wrong there
	Hint string // what could be there
}

// Error implements error. It is one line, without the hint.
func (e *SyntaxError) Error() string { return e.Msg }

// Parse reads a condition. An error is a *[SyntaxError].
func Parse(text string) (*Condition, error) {
	p := &parser{lexer: lexer{text: text}}
	p.step()
	c := p.condition()
	if p.err != nil {
		return nil, p.err
	}
	return c, nil
}

// parser reads a condition token by token. After the first error it reads nothing more.
type parser struct {
	lexer lexer
	tok   token // the next one
	err   *SyntaxError
}

func (p *parser) step() { p.tok = p.lexer.next() }

// fail notes the first error, at a token.
func (p *parser) fail(t token, hint, format string, args ...any) {
	if p.err == nil {
		p.err = &SyntaxError{Text: p.lexer.text, At: t.at, Msg: fmt.Sprintf(format, args...), Hint: hint}
	}
}

// found is a token as errors name it.
func (t token) found() string {
	switch {
	case t.kind == end:
		return "the end"
	case t.kind == quoted:
		return strconv.Quote(t.text)
	case t.kind == bad && (t.text[0] == '\'' || t.text[0] == '"'):
		return "a quote without its end"
	}
	return strconv.Quote(t.text)
}

// is says whether the next token is this word or sign.
func (p *parser) is(text string) bool {
	return (p.tok.kind == word || p.tok.kind == sign) && p.tok.text == text
}

const example = "such as runnable > 200"

func (p *parser) condition() *Condition {
	c := &Condition{Text: p.lexer.text}
	for {
		c.Terms = append(c.Terms, p.term())
		if p.err != nil || !p.is("and") {
			break
		}
		p.step()
	}
	if p.err == nil && p.is("for") {
		p.step()
		at := p.tok
		d, err := time.ParseDuration(at.text)
		if at.kind != value || err != nil || d <= 0 {
			p.fail(at, "for how long it must hold, such as for 3s", "after for a duration is missing: %s is none", at.found())
		}
		c.For = d
		p.step()
	}
	if p.err == nil && p.tok.kind != end {
		p.fail(p.tok, "a condition goes on with and or with for, or ends", "%s is not expected here", p.tok.found())
	}
	return c
}

func (p *parser) term() Term {
	begin := p.tok
	t := Term{Figure: p.figure()}
	if p.err != nil {
		return t
	}
	switch op := p.tok; {
	case op.kind == sign && slices.Contains([]Op{Greater, AtLeast, Less, AtMost}, Op(op.text)):
		t.Op = Op(op.text)
	case p.is("."):
		p.fail(op, example, "%s is a number and has no parts", t.Figure)
	case p.is("["):
		p.fail(op, "waiting and block can have a reason", "%s is not counted by reason", begin.text)
	default:
		p.fail(op, "after a figure comes >, >=, < or <=, "+example, "%s is no comparison", op.found())
	}
	p.step()
	p.value(&t)
	return t
}

// figure reads what is measured.
func (p *parser) figure() Figure {
	at := p.tok
	f := Figure{Name: at.text}
	if at.kind != word || !slices.Contains(names, f.Name) {
		hint := "figures are " + strings.Join(names, ", ") + "; " + example
		if near := nearest(at.text, names); near != "" {
			hint = "did you mean " + near + "? " + hint
		}
		p.fail(at, hint, "%s is no figure", at.found())
		return f
	}
	p.step()
	if f.takesReason() && p.is("[") {
		f.Reason = p.reason()
	}
	if !f.duration() {
		return f
	}
	hint := "parts are " + strings.Join(parts, ", ") + ", such as " + f.String() + ".p99"
	if !p.is(".") {
		p.fail(p.tok, hint, "which part of %s is missing", f)
		return f
	}
	p.step()
	if p.tok.kind != word || !slices.Contains(parts, p.tok.text) {
		p.fail(p.tok, hint, "%s is no part of %s", p.tok.found(), f)
		return f
	}
	f.Part = p.tok.text
	p.step()
	return f
}

// reason reads a wait reason in brackets.
func (p *parser) reason() string {
	const hint = "a reason is in quotes and brackets, in the runtime's words, such as waiting['chan receive'] or block['IO wait'].p99"
	p.step()
	reason := p.tok
	if reason.kind != quoted || reason.text == "" {
		p.fail(reason, hint, "a wait reason is missing: %s is none", reason.found())
	}
	p.step()
	if !p.is("]") {
		p.fail(p.tok, hint, "a ] is missing before %s", p.tok.found())
	}
	p.step()
	return reason.text
}

// value reads the bound of a term.
func (p *parser) value(t *Term) {
	at := p.tok
	if at.kind != value {
		p.fail(at, p.valueHint(t.Figure), "a value is missing: %s is none", at.found())
		return
	}
	p.step()
	if digits, ok := strings.CutSuffix(at.text, "x"); ok {
		t.Factor = true
		if t.Bound, ok = plain(digits); !ok || t.Bound == 0 {
			p.fail(at, "a factor of the last minute's median, such as 2x", "%s is no factor", at.found())
		}
		return
	}
	if t.Figure.duration() {
		d, err := time.ParseDuration(at.text)
		if err != nil || d < 0 {
			p.fail(at, p.valueHint(t.Figure), "%s is a duration, and %s is none", t.Figure, at.found())
		}
		t.Bound = float64(d)
		return
	}
	digits, unit := at.text, 1.0
	switch at.text[len(at.text)-1] {
	case 'k':
		digits, unit = at.text[:len(at.text)-1], 1e3
	case 'M':
		digits, unit = at.text[:len(at.text)-1], 1e6
	}
	v, ok := plain(digits)
	if !ok {
		p.fail(at, p.valueHint(t.Figure), "%s is a number, and %s is none", t.Figure, at.found())
	}
	t.Bound = v * unit
}

func (p *parser) valueHint(f Figure) string {
	if f.duration() {
		return "a duration has a unit, such as 10ms or 1.5s; 2x is twice the last minute's median"
	}
	return "such as 200 or 10k; 2x is twice the last minute's median"
}

// plain reads a number without sign, exponent or unit.
func plain(s string) (float64, bool) {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(v, 0) || strings.Trim(s, "0123456789.") != "" {
		return 0, false
	}
	return v, true
}

// nearest is the name that s was meant to be: at most two letters differ.
func nearest(s string, of []string) string {
	best, least := "", 3
	for _, name := range of {
		if d := distance(s, name); d < least && d < len(name)/2 {
			best, least = name, d
		}
	}
	return best
}

// distance is how many letters must be changed, added or left out to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
