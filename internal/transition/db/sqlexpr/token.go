package sqlexpr

import (
	"strings"
	"unicode/utf8"
)

type tokKind int

const (
	tokEnd    tokKind = iota
	tokWord           // a bare word
	tokName           // a name in backquotes
	tokNumber         // digits, perhaps with a point
	tokText           // a text in single quotes
	tokSign           // an operator or a bracket
	tokBad            // something that no expression has
)

type token struct {
	kind tokKind
	text string // what it means: without quotes
	at   int    // byte of the text, from 0
}

// upper is a bare word in upper case; "" for other tokens.
func (t token) upper() string {
	if t.kind != tokWord {
		return ""
	}
	return strings.ToUpper(t.text)
}

// signs, the longer ones first. Comments, variables, ends of statements and what
// means different things to different servers ("||", "!", "->") are not among them.
var signs = []string{"<=>", "<>", "!=", "<=", ">=", "=", "<", ">", "+", "-", "*", "/", "%", "(", ")", ",", "."}

// next reads the next token.
func (p *parser) next() {
	rest := strings.TrimLeft(p.text[p.pos:], " \t\r\n")
	p.pos = len(p.text) - len(rest)
	p.tok = token{kind: tokEnd, at: p.pos}
	if rest == "" {
		return
	}
	n := 0
	switch c := rest[0]; {
	case isLetter(c):
		n = run(rest, func(c byte) bool { return isLetter(c) || isDigit(c) })
		p.tok.kind, p.tok.text = tokWord, rest[:n]
	case isDigit(c):
		n = p.number(rest)
	case c == '\'':
		n = p.quoted(rest, '\'', tokText)
	case c == '`':
		n = p.quoted(rest, '`', tokName)
	case strings.HasPrefix(rest, "--"), strings.HasPrefix(rest, "/*"):
		p.tok.kind = tokBad // comments begin with signs that are operators, too
	default:
		p.tok.kind = tokBad
		for _, s := range signs {
			if strings.HasPrefix(rest, s) {
				p.tok.kind, p.tok.text, n = tokSign, s, len(s)
				break
			}
		}
	}
	p.pos += n
}

// number reads digits with at most one point. "1e5" and "0x1F" are none.
func (p *parser) number(rest string) int {
	n := run(rest, isDigit)
	if n+1 < len(rest) && rest[n] == '.' && isDigit(rest[n+1]) {
		n += 1 + run(rest[n+1:], isDigit)
	}
	p.tok.kind, p.tok.text = tokNumber, rest[:n]
	if n < len(rest) && isLetter(rest[n]) || n > 64 {
		p.tok.kind = tokBad
	}
	return n
}

// quoted reads what stands between two quotes; a quote within is written twice. A
// backslash means itself: there are no escapes here, whatever the server does with them.
func (p *parser) quoted(rest string, quote byte, kind tokKind) int {
	var b strings.Builder
	for i := 1; i < len(rest); i++ {
		switch {
		case rest[i] != quote:
			b.WriteByte(rest[i])
		case i+1 < len(rest) && rest[i+1] == quote:
			b.WriteByte(quote)
			i++
		default:
			p.tok.kind, p.tok.text = kind, b.String()
			if !utf8.ValidString(p.tok.text) || strings.ContainsRune(p.tok.text, 0) || kind == tokName && p.tok.text == "" {
				p.tok.kind = tokBad
			}
			return i + 1
		}
	}
	p.tok.kind = tokBad
	return 0
}

func run(s string, ok func(byte) bool) int {
	for i := range len(s) {
		if !ok(s[i]) {
			return i
		}
	}
	return len(s)
}

func isLetter(c byte) bool { return c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }
func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
