package config

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"holdfast/internal/lib/strictyaml"
)

// jsonParser reads JSON with two liberties of the source tool's sample: line
// comments, and a comma that is missing before a comment at the end of a line.
type jsonParser struct {
	data    []byte
	i       int
	missing []strictyaml.Place // where a comma is missing

	line, start int // of the last place that was asked for, and where its line begins
}

// parseJSON parses one document. The fault is the first malformed place.
func parseJSON(data []byte) (root *strictyaml.Node, missing []strictyaml.Place, fault *strictyaml.Fault) {
	if i := strictyaml.NotUTF8(data); i >= 0 {
		return nil, nil, &strictyaml.Fault{Place: strictyaml.PlaceOf(data, i), Value: fmt.Sprintf("\\x%02x", data[i]),
			Want: "the file must be UTF-8"}
	}
	p := &jsonParser{data: data, line: 1}
	if bytes.HasPrefix(data, []byte("\ufeff")) {
		p.i = 3
	}
	root, fault = p.value(0)
	if fault != nil {
		return nil, nil, fault
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

// place is that of an offset, which never goes back over the end of a line that place
// has seen.
func (p *jsonParser) place(off int) strictyaml.Place {
	for {
		n := bytes.IndexByte(p.data[p.start:off], '\n')
		if n < 0 {
			return strictyaml.Place{Line: p.line, Column: utf8.RuneCount(p.data[p.start:off]) + 1}
		}
		p.line++
		p.start += n + 1
	}
}

func (p *jsonParser) malformed(off int, value, want string) *strictyaml.Fault {
	return &strictyaml.Fault{Place: strictyaml.PlaceOf(p.data, off), Value: strictyaml.Shorten(value), Want: want}
}

// unexpected is the fault of what stands at the current place.
func (p *jsonParser) unexpected(want string) *strictyaml.Fault {
	rest := p.data[p.i:]
	if len(rest) == 0 {
		return p.malformed(p.i, "end of file", want)
	}
	n := bytes.IndexAny(rest, " \t\r\n,:]}")
	if n <= 0 {
		_, n = utf8.DecodeRune(rest)
	}
	return p.malformed(p.i, string(rest[:n]), want)
}

func (p *jsonParser) value(depth int) (*strictyaml.Node, *strictyaml.Fault) {
	p.space()
	if depth > strictyaml.Depth {
		return nil, p.unexpected(fmt.Sprintf("at most %d levels of nesting", strictyaml.Depth))
	}
	if p.i == len(p.data) {
		return nil, p.unexpected("want a value")
	}
	t := &strictyaml.Node{Place: p.place(p.i), Exact: true}
	var fault *strictyaml.Fault
	switch c := p.data[p.i]; {
	case c == '{':
		fault = p.object(t, depth)
	case c == '[':
		fault = p.list(t, depth)
	case c == '"':
		t.Kind = strictyaml.String
		t.Text, fault = p.str()
	case c == '-' || '0' <= c && c <= '9':
		t.Kind = strictyaml.Number
		t.Text, fault = p.number()
	default:
		fault = p.word(t)
	}
	return t, fault
}

// word reads null, true or false.
func (p *jsonParser) word(t *strictyaml.Node) *strictyaml.Fault {
	for _, w := range [...]string{"null", "true", "false"} {
		if bytes.HasPrefix(p.data[p.i:], []byte(w)) {
			p.i += len(w)
			if p.i < len(p.data) && strictyaml.IsWord(rune(p.data[p.i])) {
				p.i -= len(w)
				break
			}
			t.Text = w
			if w != "null" {
				t.Kind = strictyaml.Bool
			}
			return nil
		}
	}
	return p.unexpected("want a JSON value: an object, a list, a string in double quotes, a number, true, false or null")
}

func (p *jsonParser) object(t *strictyaml.Node, depth int) *strictyaml.Fault {
	t.Kind = strictyaml.Object
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
		key := &strictyaml.Node{Kind: strictyaml.String, Place: p.place(p.i)}
		var fault *strictyaml.Fault
		if key.Text, fault = p.str(); fault != nil {
			return fault
		}
		if p.space(); !p.at(':') {
			return p.unexpected("want ':' after the field name")
		}
		p.i++
		val, fault := p.value(depth + 1)
		if fault != nil {
			return fault
		}
		t.Members = append(t.Members, strictyaml.Member{Key: key, Value: val})
		end := p.i
		comment := p.space()
		switch {
		case p.at('}'):
			p.i++
			return nil
		case p.at(','):
			p.i++
		case comment && p.at('"'):
			p.missing = append(p.missing, strictyaml.PlaceOf(p.data, end))
		default:
			return p.unexpected("want ',' or '}' after a value")
		}
	}
}

func (p *jsonParser) list(t *strictyaml.Node, depth int) *strictyaml.Fault {
	t.Kind = strictyaml.List
	p.i++
	p.space()
	if p.at(']') {
		p.i++
		return nil
	}
	for {
		v, fault := p.value(depth + 1)
		if fault != nil {
			return fault
		}
		t.Items = append(t.Items, v)
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
func (p *jsonParser) number() (string, *strictyaml.Fault) {
	start := p.i
	fail := func() (string, *strictyaml.Fault) {
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
func (p *jsonParser) str() (string, *strictyaml.Fault) {
	var b strings.Builder
	start := p.i
	for p.i++; p.i < len(p.data); {
		switch c := p.data[p.i]; {
		case c == '"':
			p.i++
			return b.String(), nil
		case c < 0x20:
			return "", p.malformed(p.i, string(rune(c)), "a string must end with a double quote on the same line, without control characters")
		case c == '\\':
			if fault := p.escape(&b); fault != nil {
				return "", fault
			}
		default:
			b.WriteByte(c)
			p.i++
		}
	}
	return "", p.malformed(start, string(p.data[start:min(len(p.data), start+strictyaml.MaxShown)]), "a string must end with a double quote")
}

// escape reads one escape sequence.
func (p *jsonParser) escape(b *strings.Builder) *strictyaml.Fault {
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
		return p.malformed(p.i, string(rest[:1]), `want an escape sequence: \" \\ \/ \b \f \n \r \t or \uXXXX`)
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
