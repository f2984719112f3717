package help

import (
	"bytes"
	"fmt"
	"net/url"
	"path"
	"strings"
	"unicode"

	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
)

// links has the links of a page lead to pages of the console. What leads nowhere there becomes text.
type links struct {
	file  string // of the page
	known func(file string) bool
}

// Transform is as goldmark wants it.
func (l *links) Transform(root *ast.Document, _ text.Reader, _ parser.Context) {
	var found []ast.Node
	// It ends with the tree: the function gives no error.
	_ = ast.Walk(root, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if entering {
			switch n.Kind() {
			case ast.KindLink, ast.KindAutoLink, ast.KindImage, ast.KindHTMLBlock, ast.KindRawHTML:
				found = append(found, n)
			}
		}
		return ast.WalkContinue, nil
	})
	for _, n := range found {
		switch x := n.(type) {
		case *ast.Link:
			if to := l.to(string(x.Destination)); to != "" {
				x.Destination, x.Title = []byte(to), nil
				away(x, to)
				continue
			}
			unwrap(n)
		case *ast.AutoLink:
			away(x, "https://")
		case *ast.Image:
			unwrap(n)
		default:
			n.Parent().RemoveChild(n.Parent(), n)
		}
	}
}

// away marks a link to another site, which is not told where it was followed from.
func away(n ast.Node, to string) {
	if strings.HasPrefix(to, "https://") {
		n.SetAttributeString("rel", []byte("noreferrer"))
	}
}

// unwrap leaves of a node what is in it.
func unwrap(n ast.Node) {
	parent := n.Parent()
	for c := n.FirstChild(); c != nil; c = n.FirstChild() {
		parent.InsertBefore(parent, n, c)
	}
	parent.RemoveChild(parent, n)
}

// to is where a link leads on the console, "" for nowhere.
func (l *links) to(destination string) string {
	u, err := url.Parse(destination)
	switch {
	case err != nil:
		return ""
	case u.Scheme == "https" && u.Host != "":
		return destination
	case u.Scheme != "" || u.Host != "" || u.RawQuery != "" || strings.HasPrefix(u.Path, "/"):
		return ""
	case u.Path == "":
		return (&url.URL{Fragment: u.Fragment}).String()
	}
	file := path.Join(path.Dir(l.file), u.Path)
	if path.Ext(file) != ending || !l.known(file) {
		return ""
	}
	name, lang := nameOf(file)
	here, _ := nameOf(l.file)
	to := url.URL{Path: Root + "/" + name, Fragment: u.Fragment}
	if lang != "en" || name == here {
		to.RawQuery = "language=" + lang // of all others the reader has his
	}
	return to.String()
}

// anchors makes the ids of headings as the places do where the pages are read otherwise: links name them.
type anchors struct{ used map[string]bool }

// Generate is as goldmark wants it.
func (a *anchors) Generate(heading []byte, _ ast.NodeKind) []byte {
	base := strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r):
			return unicode.ToLower(r)
		}
		return -1
	}, string(bytes.TrimSpace(heading)))
	id := base
	for i := 1; a.used[id]; i++ {
		id = fmt.Sprintf("%s-%d", base, i)
	}
	a.Put([]byte(id))
	return []byte(id)
}

// Put is as goldmark wants it.
func (a *anchors) Put(id []byte) {
	if a.used == nil {
		a.used = map[string]bool{}
	}
	a.used[string(id)] = true
}
