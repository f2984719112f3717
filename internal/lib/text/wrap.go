package text

import (
	"strings"
	"unicode"
	"unicode/utf8"

	eastasian "golang.org/x/text/width"
)

// Columns is how many columns of a terminal a text takes: two for each Chinese character.
func Columns(s string) (n int) {
	for _, r := range s {
		n++
		if isWide(r) {
			n++
		}
	}
	return n
}

func isWide(r rune) bool {
	k := eastasian.LookupRune(r).Kind()
	return k == eastasian.EastAsianWide || k == eastasian.EastAsianFullwidth
}

// words splits a text where a line may end: at spaces, before each Chinese character, with which its punctuation stays, and
// between one and what is no Chinese: so an ID behind it is whole.
func words(s string) (out []string) {
	for _, word := range strings.SplitAfter(s, " ") {
		at := 0
		var before rune
		for i, r := range word {
			stays := r == ' ' || unicode.IsPunct(r) && !(isWide(r) && unicode.In(r, unicode.Ps, unicode.Pi)) ||
				unicode.In(before, unicode.Ps, unicode.Pi)
			if i > at && (isWide(r) || isWide(before)) && !stays {
				out = append(out, word[at:i])
				at = i
			}
			before = r
		}
		if word != "" {
			out = append(out, word[at:])
		}
	}
	return out
}

// Wrap gives the lines of a text of at most n columns, or 2; a longer word goes on in the next line.
func Wrap(s string, n int) []string {
	n = max(n, 2) // a Chinese character
	if Columns(s) <= n {
		return []string{s}
	}
	var lines []string
	line := ""
	for _, word := range words(strings.Join(strings.Fields(s), " ")) {
		if line != "" && Columns(line)+Columns(strings.TrimRight(word, " ")) > n {
			lines = append(lines, strings.TrimRight(line, " "))
			line = ""
		}
		line += word
		for Columns(strings.TrimRight(line, " ")) > n { // a word that is longer than a line
			at := Fits(line, n)
			lines, line = append(lines, line[:at]), line[at:]
		}
	}
	return append(lines, strings.TrimRight(line, " "))
}

// Fold puts a text behind what begins its first line, in lines of at most n columns; the later ones are indented.
func Fold(begin, s string, n, indent int) string {
	if Columns(begin)+Columns(s) <= n {
		return begin + s
	}
	s = strings.Join(strings.Fields(s), " ")
	first := Wrap(s, n-Columns(begin))[0]
	if s = strings.TrimSpace(strings.TrimPrefix(s, first)); s == "" {
		return begin + first
	}
	gap := "\n" + strings.Repeat(" ", indent)
	return begin + first + gap + strings.Join(Wrap(s, n-indent), gap)
}

// Fits is how many bytes of text are in its first n columns, no character cut in two.
func Fits(s string, n int) (at int) {
	for i, r := range s {
		if Columns(s[:i+utf8.RuneLen(r)]) > n {
			break
		}
		at = i + utf8.RuneLen(r)
	}
	return at
}
