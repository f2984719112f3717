package web

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/a-h/templ"

	"holdfast/internal/web/help"
	"holdfast/internal/web/layout"
)

// Pages of the help.
var (
	helpPage     = &page{path: help.Root, title: "Help", still: true, part: helpPart}
	helpTextPage = &page{path: help.Root + "/{name...}", title: "Help", still: true, in: helpPage, part: helpTextPart}
)

// shelf is some pages of the help that belong together.
type shelf struct {
	title string
	names []string
}

// shelves are those of the first page. What has no place there stands on one more.
var shelves = []shelf{
	{title: "Running it", names: []string{"operations", "console", "commands", "configuration", "prerequisites", "install", "packages",
		"rights", "inventory", "probe", "metrics", "api"}},
	{title: "A pair", names: []string{"pair"}},
	{title: "Upgrades", names: []string{"upgrade", "bundle", "paths", "appctl"}},
	{title: "Transitions", names: []string{"transition", "transition-db", "mapping", "transition-net", "transition-config",
		"transition-collect", "transition-features", "transition-pin", "transition-steps"}},
	{title: "From another tool", names: []string{"from/zsha", "from/cas", "from/cantian", "from/usphere", "from/openstack-360"}},
	{title: "How it works", names: []string{"promises", "safety", "glossary", "limits", "records"}},
}

// shelved are all pages on their shelves.
func shelved(l *help.Library) []shelf {
	has := map[string]bool{}
	for _, s := range shelves {
		for _, n := range s.names {
			has[n] = true
		}
	}
	rest := shelf{title: "More"}
	for _, n := range l.Names() {
		if !has[n] {
			rest.names = append(rest.names, n)
		}
	}
	return append(shelves[:len(shelves):len(shelves)], rest)
}

const (
	maxAsked  = 200 // bytes of a search
	hitsShown = 40
)

// helpPart is the list of all pages, or what was found.
func helpPart(_ context.Context, v *view) (templ.Component, error) {
	l := help.All()
	asked := strings.TrimSpace(strings.ToValidUTF8(v.query("q"), ""))
	if asked == "" {
		return helpList(v, l), nil
	}
	for len(asked) > maxAsked {
		_, n := utf8.DecodeLastRuneInString(asked)
		asked = asked[:len(asked)-n]
	}
	return helpFound(v, asked, l.Search(asked, v.Lang)), nil
}

// helpTextPart is one page, in the language of the reader unless the address asks for another.
func helpTextPart(_ context.Context, v *view) (templ.Component, error) {
	lang := v.Lang
	if asked := v.query("language"); layout.Known(asked) {
		lang = asked
	}
	p := help.All().Page(v.arg("name"), lang)
	if p == nil {
		return nil, errNoPage
	}
	v.Title = p.Title
	return helpText(v, p), nil
}

// tagOf is the language of a page as HTML names it.
func tagOf(p *help.Page) string {
	return map[string]string{"zh": "zh-CN"}[p.Lang] + map[string]string{"en": "en"}[p.Lang]
}

// inOther is a page in the other language, nil when it has only one.
func inOther(p *help.Page) *help.Page {
	if o := help.All().Page(p.Name, map[string]string{"en": "zh", "zh": "en"}[p.Lang]); o.Lang != p.Lang {
		return o
	}
	return nil
}

// tongue is the name of a page's language, in that language.
func tongue(p *help.Page) string { return map[string]string{"en": "English", "zh": "中文"}[p.Lang] }

// hitPath is where a hit stands.
func hitPath(h help.Hit) templ.SafeURL {
	to := help.Root + "/" + h.Name
	if h.ID != "" {
		to += "#" + h.ID
	}
	return templ.URL(to)
}
