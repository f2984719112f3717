package engine

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// printable makes text of what a program has written: invalid bytes and control
// characters become dots, an end of line in any form a line feed.
func printable(b []byte) string {
	var out strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && n <= 1:
			out.WriteByte('.')
		case r == '\r' && len(b) > 1 && b[1] == '\n':
		case r == '\r':
			out.WriteByte('\n')
		case r == '\n' || r == '\t' || unicode.IsPrint(r):
			out.WriteRune(r)
		default:
			out.WriteByte('.')
		}
		b = b[n:]
	}
	return out.String()
}

// cut keeps the beginning of a text, at most n bytes, and says so.
func cut(s string, n int) string {
	s = printable([]byte(s))
	if len(s) <= n {
		return s
	}
	const more = "..."
	n -= len(more)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + more
}

// end keeps the end of a text, at most n bytes.
func end(s string, n int) string {
	if len(s) <= n {
		return s
	}
	i := len(s) - n
	for i < len(s) && !utf8.RuneStart(s[i]) {
		i++
	}
	return s[i:]
}
