// Package help has the documentation as pages for the console: made from Markdown once, linked with one another, and searched.
// It takes nothing into a page but what the program has embedded: raw HTML and images are left out, and a link to what is not
// embedded becomes text.
package help

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"

	"holdfast/docs"
)

// Root is the path of the console under which pages are.
const Root = "/help"

// Page is a page in one language.
type Page struct {
	Name     string // such as operations, or from/zsha
	Lang     string // en or zh
	Title    string
	HTML     string
	Sections []Section // the first one is what stands above all headings but the title
}

// Section is what stands under a heading, without its subsections.
type Section struct {
	ID      string // of the heading, "" above all
	Heading string // "" above all
	Level   int    // 2 and more; 0 above all
	text    string // without markup, on one line
	lower   string
}

// Library has all pages.
type Library struct {
	names []string // in the order of their files
	pages map[string]map[string]*Page
}

// All are the pages that are embedded. They are made at the first call.
var All = sync.OnceValue(func() *Library {
	l, err := read(docs.Pages)
	if err != nil {
		panic(err) // they are embedded, and tests read all of them
	}
	return l
})

// Names are those of all pages.
func (l *Library) Names() []string { return l.names }

// Page is a page in a language, or in English where there is no other; nil when there is none.
func (l *Library) Page(name, lang string) *Page {
	if p := l.pages[name][lang]; p != nil {
		return p
	}
	return l.pages[name]["en"]
}

// Has reports whether a heading has an id.
func (p *Page) Has(id string) bool {
	return slices.ContainsFunc(p.Sections, func(s Section) bool { return s.ID == id })
}

const (
	ending  = ".md"
	chinese = ".zh-CN"
)

// nameOf is the name and the language of the page that a file has.
func nameOf(file string) (name, lang string) {
	name = strings.TrimSuffix(file, ending)
	if n, is := strings.CutSuffix(name, chinese); is {
		return n, "zh"
	}
	return name, "en"
}

// read makes the pages of all files.
func read(files fs.FS) (*Library, error) {
	l := &Library{pages: map[string]map[string]*Page{}}
	known := func(file string) bool {
		info, err := fs.Stat(files, file)
		return err == nil && info.Mode().IsRegular()
	}
	err := fs.WalkDir(files, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(file) != ending {
			return err
		}
		source, err := fs.ReadFile(files, file)
		if err != nil {
			return err
		}
		p, err := made(file, source, known)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if l.pages[p.Name] == nil {
			l.names, l.pages[p.Name] = append(l.names, p.Name), map[string]*Page{}
		}
		l.pages[p.Name][p.Lang] = p
		return nil
	})
	return l, err
}

// scrolled has what is wide be scrolled by keys, too.
var scrolled = strings.NewReplacer("<pre>", `<pre tabindex="0">`, "<table>", `<table tabindex="0">`)

// made makes a page.
func made(file string, source []byte, known func(file string) bool) (*Page, error) {
	p := &Page{}
	p.Name, p.Lang = nameOf(file)
	m := goldmark.New(
		goldmark.WithExtensions(extension.NewTable(extension.WithTableCellAlignMethod(extension.TableCellAlignNone))),
		goldmark.WithParserOptions(parser.WithAutoHeadingID(),
			parser.WithASTTransformers(util.Prioritized(&links{file: file, known: known}, 0))))
	root := m.Parser().Parse(text.NewReader(source), parser.WithContext(parser.NewContext(parser.WithIDs(&anchors{}))))
	var b bytes.Buffer
	if err := m.Renderer().Render(&b, source, root); err != nil {
		return nil, err
	}
	p.HTML = scrolled.Replace(b.String())
	p.sections(root, source)
	if p.Title == "" {
		return nil, fmt.Errorf("want a title: a line that begins with #")
	}
	return p, nil
}

// sections cuts a page at its headings.
func (p *Page) sections(root ast.Node, source []byte) {
	at := Section{}
	var words strings.Builder
	end := func() {
		at.text = strings.Join(strings.Fields(words.String()), " ")
		at.lower = strings.ToLower(at.text)
		p.Sections = append(p.Sections, at)
		words.Reset()
	}
	for n := root.FirstChild(); n != nil; n = n.NextSibling() {
		h, is := n.(*ast.Heading)
		switch {
		case is && p.Title == "":
			p.Title = plain(h, source)
		case is:
			end()
			at = Section{Heading: plain(h, source), Level: h.Level}
			if id, has := h.AttributeString("id"); has {
				at.ID = string(id.([]byte))
			}
		default:
			words.WriteString(plain(n, source) + " ")
		}
	}
	end()
}

// plain is the text of a node, without markup.
func plain(n ast.Node, source []byte) string {
	var b strings.Builder
	// It ends with the tree: the function gives no error.
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			if n.Type() == ast.TypeBlock {
				b.WriteByte(' ')
			}
			return ast.WalkContinue, nil
		}
		switch x := n.(type) {
		case *ast.Text:
			b.Write(x.Value(source))
			if x.SoftLineBreak() || x.HardLineBreak() {
				b.WriteByte(' ')
			}
		case *ast.String:
			b.Write(x.Value)
		case *ast.AutoLink:
			b.Write(x.Label(source))
		case *ast.CodeBlock, *ast.FencedCodeBlock:
			for i := range n.Lines().Len() {
				line := n.Lines().At(i)
				b.Write(line.Value(source))
			}
		}
		return ast.WalkContinue, nil
	})
	return strings.TrimSpace(b.String())
}
