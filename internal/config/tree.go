package config

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"holdfast/internal/strictyaml"
)

type kind int

const (
	kindNull kind = iota
	kindBool
	kindNumber
	kindString
	kindList
	kindObject
)

// String gives the kind's name for faults.
func (k kind) String() string {
	return [...]string{"null", "true or false", "a number", "a string", "a list", "an object"}[k]
}

// tree is a document with the place of every value and with keys in document
// order, doubled ones included. encoding/json offers neither.
type tree struct {
	kind    kind
	off     int    // byte offset; in YAML a running number
	text    string // string: its value; number and bool: the literal
	items   []*tree
	members []member
}

type member struct {
	key string
	off int
	val *tree
}

// shown is the value as a fault shows it.
func (t *tree) shown() string {
	switch t.kind {
	case kindNull, kindList, kindObject:
		return t.kind.String()
	}
	return t.text
}

// maxDepth bounds the recursion of the parser. The deepest field is at 5.
const maxDepth = 32

// syntaxError is malformed JSON.
type syntaxError struct {
	off         int
	value, want string
}

// jsonParser reads JSON with two liberties of the source tool's sample: line
// comments, and a comma that is missing before a comment at the end of a line.
type jsonParser struct {
	data    []byte
	i       int
	missing []int // offsets where a comma is missing
}

// parseJSON parses one document. The error is the first malformed place.
func parseJSON(data []byte) (root *tree, missing []int, serr *syntaxError) {
	if i := strictyaml.NotUTF8(data); i >= 0 {
		return nil, nil, &syntaxError{i, fmt.Sprintf("\\x%02x", data[i]), "the file must be UTF-8"}
	}
	p := &jsonParser{data: data}
	if bytes.HasPrefix(data, []byte("\ufeff")) {
		p.i = 3
	}
	root, serr = p.value(0)
	if serr != nil {
		return nil, nil, serr
	}
	p.space()
	if p.i < len(data) {
		return nil, nil, p.unexpected("nothing may follow the document")
	}
	return root, p.missing, nil
}

// space skips white space and line comments; it reports whether there was a comment.
func (p *jsonParser) space() (comment bool) {
	for p.i < len(p.data) {
		switch c := p.data[p.i]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			p.i++
		case bytes.HasPrefix(p.data[p.i:], []byte("//")):
			comment = true
			if n := bytes.IndexByte(p.data[p.i:], '\n'); n >= 0 {
				p.i += n
			} else {
				p.i = len(p.data)
			}
		default:
			return comment
		}
	}
	return comment
}

// unexpected is the fault of what stands at the current place.
func (p *jsonParser) unexpected(want string) *syntaxError {
	rest := p.data[p.i:]
	if len(rest) == 0 {
		return &syntaxError{p.i, "end of file", want}
	}
	n := bytes.IndexAny(rest, " \t\r\n,:]}")
	if n <= 0 {
		_, n = utf8.DecodeRune(rest)
	}
	return &syntaxError{p.i, string(rest[:n]), want}
}

func (p *jsonParser) value(depth int) (*tree, *syntaxError) {
	p.space()
	if depth > maxDepth {
		return nil, p.unexpected(fmt.Sprintf("at most %d levels of nesting", maxDepth))
	}
	if p.i == len(p.data) {
		return nil, p.unexpected("want a value")
	}
	t := &tree{off: p.i}
	var serr *syntaxError
	switch c := p.data[p.i]; {
	case c == '{':
		serr = p.object(t, depth)
	case c == '[':
		serr = p.list(t, depth)
	case c == '"':
		t.kind = kindString
		t.text, serr = p.str()
	case c == '-' || '0' <= c && c <= '9':
		t.kind = kindNumber
		t.text, serr = p.number()
	default:
		serr = p.word(t)
	}
	return t, serr
}

// word reads null, true or false.
func (p *jsonParser) word(t *tree) *syntaxError {
	for _, w := range [...]string{"null", "true", "false"} {
		if bytes.HasPrefix(p.data[p.i:], []byte(w)) {
			p.i += len(w)
			if p.i < len(p.data) && strictyaml.IsWord(rune(p.data[p.i])) {
				p.i -= len(w)
				break
			}
			t.text = w
			if w != "null" {
				t.kind = kindBool
			}
			return nil
		}
	}
	return p.unexpected("want a JSON value: an object, a list, a string in double quotes, a number, true, false or null")
}

func (p *jsonParser) object(t *tree, depth int) *syntaxError {
	t.kind = kindObject
	p.i++
	p.space()
	if p.at('}') {
		p.i++
		return nil
	}
	for {
		p.space()
		if !p.at('"') {
			return p.unexpected("want a field name in double quotes")
		}
		m := member{off: p.i}
		var serr *syntaxError
		if m.key, serr = p.str(); serr != nil {
			return serr
		}
		if p.space(); !p.at(':') {
			return p.unexpected("want ':' after the field name")
		}
		p.i++
		if m.val, serr = p.value(depth + 1); serr != nil {
			return serr
		}
		t.members = append(t.members, m)
		end := p.i
		comment := p.space()
		switch {
		case p.at('}'):
			p.i++
			return nil
		case p.at(','):
			p.i++
		case comment && p.at('"'):
			p.missing = append(p.missing, end)
		default:
			return p.unexpected("want ',' or '}' after a value")
		}
	}
}

func (p *jsonParser) list(t *tree, depth int) *syntaxError {
	t.kind = kindList
	p.i++
	p.space()
	if p.at(']') {
		p.i++
		return nil
	}
	for {
		v, serr := p.value(depth + 1)
		if serr != nil {
			return serr
		}
		t.items = append(t.items, v)
		p.space()
		switch {
		case p.at(']'):
			p.i++
			return nil
		case p.at(','):
			p.i++
		default:
			return p.unexpected("want ',' or ']' after a value")
		}
	}
}

func (p *jsonParser) at(c byte) bool { return p.i < len(p.data) && p.data[p.i] == c }

// number reads a JSON number and returns its literal.
func (p *jsonParser) number() (string, *syntaxError) {
	start := p.i
	fail := func() (string, *syntaxError) {
		p.i = start
		return "", p.unexpected("want a JSON number such as 8 or 0.01")
	}
	if p.at('-') {
		p.i++
	}
	lead := p.i
	n := p.digits()
	if n == 0 || n > 1 && p.data[lead] == '0' {
		return fail()
	}
	if p.at('.') {
		p.i++
		if p.digits() == 0 {
			return fail()
		}
	}
	if p.at('e') || p.at('E') {
		p.i++
		if p.at('+') || p.at('-') {
			p.i++
		}
		if p.digits() == 0 {
			return fail()
		}
	}
	if p.i < len(p.data) && strictyaml.IsWord(rune(p.data[p.i])) {
		return fail()
	}
	return string(p.data[start:p.i]), nil
}

// digits skips digits and counts them.
func (p *jsonParser) digits() int {
	start := p.i
	for p.i < len(p.data) && '0' <= p.data[p.i] && p.data[p.i] <= '9' {
		p.i++
	}
	return p.i - start
}

// str reads a string in double quotes.
func (p *jsonParser) str() (string, *syntaxError) {
	var b strings.Builder
	start := p.i
	for p.i++; p.i < len(p.data); {
		switch c := p.data[p.i]; {
		case c == '"':
			p.i++
			return b.String(), nil
		case c < 0x20:
			return "", &syntaxError{p.i, string(rune(c)), "a string must end with a double quote on the same line, without control characters"}
		case c == '\\':
			if serr := p.escape(&b); serr != nil {
				return "", serr
			}
		default:
			b.WriteByte(c)
			p.i++
		}
	}
	return "", &syntaxError{start, string(p.data[start:min(len(p.data), start+strictyaml.MaxShown)]), "a string must end with a double quote"}
}

// escape reads one escape sequence.
func (p *jsonParser) escape(b *strings.Builder) *syntaxError {
	const plain, meant = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	rest := p.data[p.i:]
	if len(rest) > 1 {
		if n := strings.IndexByte(plain, rest[1]); n >= 0 {
			b.WriteByte(meant[n])
			p.i += 2
			return nil
		}
	}
	r, ok := hex4(rest)
	n := 6
	if ok && 0xd800 <= r && r < 0xdc00 {
		low, lowOK := hex4(rest[6:])
		ok = lowOK && 0xdc00 <= low && low < 0xe000
		r = 0x10000 + (r-0xd800)<<10 + (low - 0xdc00)
		n = 12
	}
	if !ok || !utf8.ValidRune(r) {
		return &syntaxError{p.i, string(rest[:1]), `want an escape sequence: \" \\ \/ \b \f \n \r \t or \uXXXX`}
	}
	b.WriteRune(r)
	p.i += n
	return nil
}

// hex4 reads \uXXXX.
func hex4(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return rune(n), err == nil
}
