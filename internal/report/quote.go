package report

import (
	"fmt"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// appendQuotedJSON appends s as a JSON string in which every character that could
// control a terminal is escaped: those below space, as JSON demands, and also DEL,
// the C1 controls and those that change the direction of text. What is not UTF-8
// becomes U+FFFD, which is how JSON can have it.
func appendQuotedJSON(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == utf8.RuneError || !unicode.IsPrint(r):
			for _, unit := range utf16.AppendRune(nil, r) {
				b = fmt.Appendf(b, `\u%04x`, unit)
			}
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
