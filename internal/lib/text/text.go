// Package text makes texts of others fit to be shown: in a status, an event or a
// record of the store. It also has what is shown of long work, which never goes backwards
// (Percent, Rate), and regular expressions that are compiled when they are first used (Pattern).
package text

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// more marks a text that was cut.
const more = "..."

// Line makes one line of at most most bytes of a text that nobody vouches for,
// such as an error page: runs of white space become one space, control and
// formatting characters and bytes that are no UTF-8 become question marks, angle
// brackets become round ones, so that no terminal and no browser takes anything
// for an order. A text that is cut ends with "...", at the end of a character.
func Line(s string, most int) string {
	var b strings.Builder
	space := false
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			space = b.Len() > 0
			continue
		case r == '<':
			r = '('
		case r == '>':
			r = ')'
		case r == utf8.RuneError || !unicode.IsPrint(r):
			r = '?'
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(r)
		if b.Len() > most {
			return Cut(b.String(), most) // the rest makes no difference
		}
	}
	return b.String()
}

// Cut keeps the beginning of a text, at most most bytes with the "..." that then
// ends it, and cuts no character in two.
func Cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	n := max(most-len(more), 0)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + more[:min(len(more), max(most, 0))]
}

// Some names the first of many, and says how many there are beside.
func Some(all []string, most int) string {
	if n := len(all) - most; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), n)
	}
	return strings.Join(all, ", ")
}

// Clean makes one line of a text of others, for a terminal: breaks of lines and tabs become
// spaces, and what can not be printed becomes U+FFFD.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case !unicode.IsPrint(r):
			return utf8.RuneError
		}
		return r
	}, s)
}

// HTTP is the URL that a text is, http://HOST or https://HOST, with a port or none; nil when it is none.
func HTTP(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Port() != "" && !Port(u.Port()) {
		return nil
	}
	return u
}

// Port reports whether a text is the number of a port, 1 to 65535.
func Port(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}
