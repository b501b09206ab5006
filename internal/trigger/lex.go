package trigger

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// The kinds of tokens.
const (
	end    = iota
	word   // letters, then letters and digits
	value  // begins with a digit; with its unit
	quoted // text is what is between the quotes
	sign   // one of the operators, or . [ ]
	bad    // anything else
)

// token is a part of a condition's text.
type token struct {
	kind int
	text string
	at   int // where it begins, bytes
}

// lexer takes a condition's text apart.
type lexer struct {
	text string
	at   int
}

// next is the token at the present place, which moves behind it.
func (l *lexer) next() token {
	l.skip(unicode.IsSpace)
	begin := l.at
	if begin == len(l.text) {
		return token{end, "", begin}
	}
	r, size := utf8.DecodeRuneInString(l.text[begin:])
	switch {
	case digit(r):
		l.skip(func(r rune) bool { return letter(r) || digit(r) || r == '.' })
		return token{value, l.text[begin:l.at], begin}
	case letter(r):
		l.skip(func(r rune) bool { return letter(r) || digit(r) })
		return token{word, l.text[begin:l.at], begin}
	case r == '\'' || r == '"':
		return l.quoted(r)
	case r == '<' || r == '>':
		l.at++
		if strings.HasPrefix(l.text[l.at:], "=") {
			l.at++
		}
		return token{sign, l.text[begin:l.at], begin}
	case strings.ContainsRune(".[]", r):
		l.at++
		return token{sign, l.text[begin:l.at], begin}
	}
	l.at += size
	return token{bad, l.text[begin:l.at], begin}
}

// quoted reads up to the next quote. There are no escapes: no wait reason needs one.
func (l *lexer) quoted(quote rune) token {
	begin := l.at
	n := strings.IndexRune(l.text[begin+1:], quote)
	if n < 0 {
		l.at = len(l.text)
		return token{bad, l.text[begin:], begin}
	}
	l.at = begin + 1 + n + 1
	return token{quoted, l.text[begin+1 : begin+1+n], begin}
}

// skip moves over the runes that belong.
func (l *lexer) skip(belongs func(rune) bool) {
	for l.at < len(l.text) {
		r, size := utf8.DecodeRuneInString(l.text[l.at:])
		if !belongs(r) {
			return
		}
		l.at += size
	}
}

func digit(r rune) bool { return r >= '0' && r <= '9' }

// letter knows the two signs for micro (U+00B5 and U+03BC), as durations do.
func letter(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_' || r == 'µ' || r == 'μ'
}
