package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Parse reads the text of one document, which is an object; the fault is the first
// malformed place. Aliases are written out, with a bound. A text may hold bytes that
// are not UTF-8, by !!binary. An empty text has no fields.
func Parse(data []byte) (*Node, *Fault) { return parse(data, true) }

// ParseForeign reads the first document of a file that is not ours: merge keys are
// left out.
func ParseForeign(data []byte) (*Node, *Fault) { return parse(data, false) }

func parse(data []byte, strict bool) (*Node, *Fault) {
	if i := NotUTF8(data); i >= 0 {
		return nil, &Fault{Place: PlaceOf(data, i), Value: fmt.Sprintf("\\x%02x", data[i]), Want: "the file must be UTF-8"}
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, malformed(data, err)
	}
	if strict {
		switch err := dec.Decode(&more); {
		case err == nil:
			return nil, &Fault{Place: placeOf(&more), Path: Whole, Value: "---", Want: "want one YAML document, not several"}
		case !errors.Is(err, io.EOF):
			return nil, malformed(data, err)
		}
	}
	empty := &Node{Kind: Object, Place: Place{1, 1}}
	if len(doc.Content) == 0 {
		return empty, nil
	}
	b := &builder{strict: strict, within: map[*yaml.Node]bool{}}
	root := b.build(doc.Content[0])
	switch {
	case b.fault != nil:
		return nil, b.fault
	case root.Kind == Null:
		return empty, nil
	case root.Kind != Object:
		return nil, &Fault{Place: root.Place, Path: Whole, Value: Shorten(root.Shown()), Want: "want an object, not " + root.Kind.String()}
	}
	return root, nil
}

// maxSearched is the longest text in which the place of an error is sought: it is read
// some twenty times for that.
const maxSearched = 1 << 20

var lineOf = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// malformed is an error of the library. The line that it names is where something
// begins, or the one before; the place is the first character with which the text has
// this error.
func malformed(data []byte, err error) *Fault {
	what, line := problem(err)
	f := &Fault{Place: Place{line, 1}, Want: "malformed YAML: " + plainly(what, 0)}
	if len(data) <= maxSearched {
		n := sort.Search(len(data), func(n int) bool {
			same, _ := problem(syntax(data[:n+1]))
			return same == what
		})
		f.Place = PlaceOf(data, n)
		if n < len(data) {
			f.Want = "malformed YAML: " + plainly(what, data[n])
		}
	}
	return f
}

var noAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)

// plainly says in words of who writes a file what an error of the library asks for; next is the character at the
// place, 0 where it is not known.
func plainly(what string, next byte) string {
	if m := noAnchor.FindStringSubmatch(what); m != nil {
		return fmt.Sprintf("want quotes around a value that begins with *: there is no anchor %q", m[1])
	}
	begins := strings.Contains(what, "found character that cannot start any token")
	switch {
	case strings.Contains(what, "found a tab character"), begins && next == '\t':
		return "want spaces at the beginning of a line, and no tab"
	case begins:
		return "want quotes around a value that begins with such a character"
	case strings.Contains(what, "did not find expected ',' or '}'"):
		return "want a comma before the next field, or } at the end of the object that began with {"
	case strings.Contains(what, "did not find expected ',' or ']'"):
		return "want a comma before the next value, or ] at the end of the list that began with ["
	case strings.Contains(what, "did not find expected key"):
		return "want NAME: VALUE that begins in the column of the lines above, or in the one of what it belongs to"
	case strings.Contains(what, "did not find expected '-' indicator"):
		return "want - in the column of the other values of the list, or NAME: VALUE in the one of what it belongs to"
	case strings.Contains(what, "could not find expected ':'"):
		return "want NAME: VALUE"
	case strings.Contains(what, "found unexpected end of stream"):
		return "want the quote at the end of a text that began with one"
	case strings.Contains(what, "mapping values are not allowed"):
		return "want quotes around a value that has a colon and a space in it, and NAME: VALUE on a line of its own"
	}
	return what
}

// problem is the text of an error of the library, and the line that it names, or 1.
func problem(err error) (text string, line int) {
	if err == nil {
		return "", 1
	}
	text = strings.Join(strings.Fields(err.Error()), " ")
	if m := lineOf.FindStringSubmatch(text); m != nil {
		text = text[len(m[0]):]
		line, _ = strconv.Atoi(m[1])
	}
	return text, max(line, 1)
}

// syntax is the first error of the library in a text.
func syntax(data []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var y yaml.Node
		if err := dec.Decode(&y); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func placeOf(y *yaml.Node) Place { return Place{y.Line, y.Column} }

// builder makes nodes of those of the library.
type builder struct {
	strict bool
	fault  *Fault // the first
	within map[*yaml.Node]bool

	all, copied, depth int // nodes, those of them by aliases, aliases around this one
}

// What aliases may make of a text: of 400,000 values nearly all, of 4,000,000 a tenth.
const (
	fewValues  = 400_000
	manyValues = 4_000_000
)

// tooMany reports whether a document consists of aliases more than is reasonable.
func (b *builder) tooMany() bool {
	if b.copied <= 100 || b.all <= 1000 {
		return false
	}
	share := 0.99 - 0.89*min(1, max(0, float64(b.all-fewValues)/(manyValues-fewValues)))
	return float64(b.copied)/float64(b.all) > share
}

func (b *builder) fail(y *yaml.Node, value, want string) *Node {
	if b.fault == nil {
		b.fault = &Fault{Place: placeOf(y), Value: Shorten(value), Want: want}
	}
	return &Node{}
}

func (b *builder) build(y *yaml.Node) *Node {
	if b.fault != nil {
		return &Node{}
	}
	b.all++
	if b.depth > 0 {
		b.copied++
	}
	if b.tooMany() {
		return b.fail(y, "", "malformed YAML: document contains excessive aliasing")
	}
	switch y.Kind {
	case yaml.AliasNode:
		return b.alias(y)
	case yaml.ScalarNode:
		return b.scalar(y)
	case yaml.SequenceNode:
		n := &Node{Kind: List, Place: placeOf(y), Items: make([]*Node, 0, len(y.Content))}
		for _, item := range y.Content {
			n.Items = append(n.Items, b.build(item))
		}
		return n
	}
	n := &Node{Kind: Object, Place: placeOf(y), Members: make([]Member, 0, len(y.Content)/2)}
	for i := 0; i+1 < len(y.Content); i += 2 {
		if key := y.Content[i]; key.Tag == "!!merge" && key.Kind == yaml.ScalarNode {
			if b.strict {
				return b.fail(key, "<<", "YAML merge keys are not supported, write the fields out")
			}
			continue
		}
		n.Members = append(n.Members, Member{b.build(y.Content[i]), b.build(y.Content[i+1])})
	}
	return n
}

func (b *builder) alias(y *yaml.Node) *Node {
	if b.within[y] {
		return b.fail(y, "*"+y.Value, "malformed YAML: the value contains itself")
	}
	b.within[y] = true
	b.depth++
	n := b.build(y.Alias)
	b.depth--
	delete(b.within, y)
	return n
}

func (b *builder) scalar(y *yaml.Node) *Node {
	n := &Node{Kind: String, Place: placeOf(y), Text: y.Value, Exact: true}
	tag := ""
	switch {
	case y.Style&yaml.TaggedStyle != 0:
		tag = y.Tag
	case y.Style != 0: // quoted
		return n
	}
	kind, text, ok := resolve(tag, y.Value)
	if !ok {
		return b.fail(y, y.Value, "malformed YAML: want what "+tag+" takes")
	}
	n.Kind, n.Text, n.Exact = kind, text, text == y.Value
	if kind == Number || kind == Bool {
		n.source = y.Value
	}
	return n
}
