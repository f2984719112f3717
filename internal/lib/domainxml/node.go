package domainxml

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxBytes and maxDepth bound a domain.
const (
	MaxBytes = 128 << 10
	maxDepth = 64
)

// node is an element, with the places of its tags in the text.
type node struct {
	name  string // with its prefix
	attrs []xml.Attr
	text  string // directly in it, without white space around
	kids  []*node
	up    *node

	start, open int // of its start tag: first byte, and behind the last
	close, end  int // of its end tag; of <a/>: close is open
}

// Domain is a domain that was read.
type Domain struct {
	text string
	root *node
}

// Parse reads the XML of one domain. The error names the line.
func Parse(text string) (*Domain, error) {
	if len(text) > MaxBytes {
		return nil, fmt.Errorf("%d bytes: want at most %d", len(text), MaxBytes)
	}
	if !utf8.ValidString(text) {
		return nil, errors.New("it is not UTF-8")
	}
	p := parser{dec: xml.NewDecoder(strings.NewReader(text)), text: text}
	err := p.run()
	if err == nil && (p.root == nil || p.root.name != "domain") {
		err = errors.New("want one element <domain>, as virsh dumpxml --inactive writes it")
	}
	if err != nil {
		line, _ := p.dec.InputPos()
		return nil, fmt.Errorf("line %d: %w", line, err)
	}
	return &Domain{text: text, root: p.root}, nil
}

type parser struct {
	dec   *xml.Decoder
	text  string
	root  *node
	at    *node // the element that is open
	depth int
}

func (p *parser) run() error {
	for {
		from := int(p.dec.InputOffset())
		t, err := p.dec.RawToken() // prefixes as they are written, each tag for itself
		if errors.Is(err, io.EOF) {
			if p.at != nil {
				return fmt.Errorf("the end of <%s> is missing", p.at.name)
			}
			return nil
		}
		if err != nil {
			var syntax *xml.SyntaxError
			if errors.As(err, &syntax) {
				return errors.New(syntax.Msg)
			}
			return err
		}
		if err := p.token(t, from, int(p.dec.InputOffset())); err != nil {
			return err
		}
	}
}

func (p *parser) token(t xml.Token, from, to int) error {
	switch t := t.(type) {
	case xml.Directive:
		return errors.New("a document type is not allowed")
	case xml.CharData:
		if p.at != nil {
			p.at.text += string(t)
		} else if len(bytes.TrimSpace(t)) > 0 {
			return errors.New("text outside of the element")
		}
	case xml.StartElement:
		return p.start(t, from, to)
	case xml.EndElement:
		if p.at == nil || p.at.name != full(t.Name) {
			return fmt.Errorf("</%s> ends nothing", full(t.Name))
		}
		p.at.close, p.at.end, p.at.text = from, to, strings.TrimSpace(p.at.text)
		p.at = p.at.up
		p.depth--
	}
	return nil
}

func (p *parser) start(t xml.StartElement, from, to int) error {
	n := &node{name: full(t.Name), attrs: slices.Clone(t.Attr), up: p.at, start: from, open: to}
	seen := map[string]bool{}
	for _, a := range n.attrs {
		if seen[full(a.Name)] {
			return fmt.Errorf("<%s> has the attribute %s twice", n.name, full(a.Name))
		}
		seen[full(a.Name)] = true
	}
	switch {
	case p.at != nil:
		p.at.kids = append(p.at.kids, n)
	case p.root != nil:
		return fmt.Errorf("<%s> follows the element", n.name)
	default:
		p.root = n
	}
	p.at = n
	if p.depth++; p.depth > maxDepth {
		return fmt.Errorf("want at most %d levels", maxDepth)
	}
	return nil
}

func full(n xml.Name) string {
	if n.Space != "" {
		return n.Space + ":" + n.Local
	}
	return n.Local
}

// attr returns an attribute, "" when there is none.
func (n *node) attr(name string) string {
	if n != nil {
		for _, a := range n.attrs {
			if full(a.Name) == name {
				return a.Value
			}
		}
	}
	return ""
}

// all returns the elements directly below with that name.
func (n *node) all(name string) (out []*node) {
	if n != nil {
		for _, k := range n.kids {
			if k.name == name {
				out = append(out, k)
			}
		}
	}
	return out
}

// first returns the first element at a path below, nil when there is none, as below nil.
func (n *node) first(path ...string) *node {
	for _, name := range path {
		all := n.all(name)
		if len(all) == 0 {
			return nil
		}
		n = all[0]
	}
	return n
}

func (n *node) content() string {
	if n == nil {
		return ""
	}
	return n.text
}

// shown is what the element has, without what is below it: its text, or its attributes but for passwords.
func (n *node) shown() string {
	if n == nil || n.text != "" {
		return n.content()
	}
	var out []string
	for _, a := range n.attrs {
		if a.Name.Local == "passwd" {
			a.Value = "(not shown)"
		}
		out = append(out, a.Name.Local+"="+a.Value)
	}
	return strings.Join(out, " ")
}

// path is the XPath of the element.
func (n *node) path() string {
	if n.up == nil {
		return "/" + n.name
	}
	same := n.up.all(n.name)
	if len(same) == 1 {
		return n.up.path() + "/" + n.name
	}
	return fmt.Sprintf("%s/%s[%d]", n.up.path(), n.name, slices.Index(same, n)+1)
}

// walk calls f for the element and all below, until f says that those below it do
// not matter.
func (n *node) walk(f func(*node) bool) {
	if f(n) {
		for _, k := range n.kids {
			k.walk(f)
		}
	}
}
