package web

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"holdfast/internal/web/help"
)

var hrefs = regexp.MustCompile(` (?:href|action)="([^"]*)"`)

// TestHelp: from its first page all pages are reached, and every link on them leads to a page and to an anchor that there is.
func TestHelp(t *testing.T) {
	x := newSite(t)
	c := x.as("the-viewer")
	bodies := map[string]string{}
	open := []string{"/help", "/", "/hosts", "/events"}
	for len(open) > 0 {
		at := open[0]
		open = open[1:]
		if _, seen := bodies[at]; seen {
			continue
		}
		code, body, to := x.get(c, at)
		if code == http.StatusSeeOther {
			t.Fatalf("%s leads to %s", at, to)
		}
		if code != http.StatusOK {
			t.Fatalf("%s: %d", at, code)
		}
		bodies[at] = body
		for _, m := range hrefs.FindAllStringSubmatch(body, -1) {
			if u, err := url.Parse(strings.ReplaceAll(m[1], "&amp;", "&")); err != nil {
				t.Errorf("%s links %q: %v", at, m[1], err)
			} else if u.Host == "" && strings.HasPrefix(u.Path, "/help") {
				u.Fragment = ""
				open = append(open, u.String())
			}
		}
	}
	for at, body := range bodies {
		for _, m := range hrefs.FindAllStringSubmatch(body, -1) {
			u, err := url.Parse(strings.ReplaceAll(m[1], "&amp;", "&"))
			if err != nil || u.Host != "" || u.Fragment == "" || u.Path != "" && !strings.HasPrefix(u.Path, "/help") {
				continue
			}
			anchor, on := u.Fragment, at
			if u.Fragment = ""; u.Path != "" {
				on = u.String()
			}
			if !strings.Contains(bodies[on], ` id="`+anchor+`"`) {
				t.Errorf("%s links %s on %s, which has no such anchor", at, anchor, on)
			}
		}
	}
	for _, name := range help.All().Names() {
		if bodies["/help/"+name] == "" {
			t.Errorf("nothing links %s", name)
		}
	}
	for _, p := range pages {
		name, anchor, _ := strings.Cut(p.help, "#")
		if p.help == "" {
			continue
		}
		if to := help.All().Page(name, "en"); to == nil || anchor != "" && !to.Has(anchor) {
			t.Errorf("%s has its help on %s, which there is not", p.path, p.help)
		}
	}
	for _, shelf := range shelves {
		for _, n := range shelf.names {
			if help.All().Page(n, "en") == nil {
				t.Errorf("shelf %s has %s, which is no page", shelf.title, n)
			}
		}
	}
}

// TestHelpHasNoOtherFiles: a name is one of a page, whatever it looks like.
func TestHelpHasNoOtherFiles(t *testing.T) {
	x := newSite(t)
	c := x.as("the-viewer")
	for _, path := range []string{"/help/nothing", "/help/operations.md", "/help/..%2f..%2fgo.mod", "/help/../docs.go",
		"/help/from", "/help/from/",
		"/help/%2e%2e/%2e%2e/etc/passwd", "/help//etc/passwd", "/help/promises.zh-CN", "/help/OPERATIONS", "/help/%00"} {
		code, body, to := x.get(c, path)
		if code == http.StatusMovedPermanently || code == http.StatusTemporaryRedirect { // the path is made clean first
			code, body, _ = x.get(c, to)
		}
		if code != http.StatusNotFound || strings.Contains(body, "root:") || strings.Contains(body, "package docs") {
			t.Errorf("%s: %d: %.200s", path, code, body)
		}
	}
	if code, _, to := x.get(x.browser(), "/help/operations"); code != http.StatusSeeOther || to != "/login?next=%2Fhelp%2Foperations" {
		t.Errorf("who has not logged in: %d, to %s", code, to)
	}
}

func TestHelpLanguages(t *testing.T) {
	x := newSite(t)
	c := x.as("the-viewer")
	has := func(path string, want ...string) {
		t.Helper()
		code, body, _ := x.get(c, path)
		for _, w := range want {
			if code != http.StatusOK || !strings.Contains(body, w) {
				t.Errorf("%s: %d, without %q", path, code, w)
			}
		}
	}
	has("/help/promises", "What Holdfast promises", `lang="en"`)
	has("/help/promises?language=zh", "Holdfast 的承诺", `<article class="sheet text" lang="zh-CN">`)
	x.post(c, "/language", "language", "zh", "back", "/help")
	has("/help/promises", "Holdfast 的承诺", `href="/help/promises?language=en"`)
	has("/help/promises?language=en", "What Holdfast promises", `href="/help/promises?language=zh"`)
	has("/help/promises?language=xx", "Holdfast 的承诺")
	has("/help/operations", "本页只有英文", `<article class="sheet text" lang="en">`)
	has("/help", "Holdfast 的承诺", "Operations: the page")
	has("/help?q="+url.QueryEscape("看门狗"), "<mark>看门狗</mark>", `href="/help/promises#p`)
}

func TestHelpSearch(t *testing.T) {
	x := newSite(t)
	c := x.as("the-viewer")
	if _, body, _ := x.get(c, "/help?q=host+TABLE"); !strings.Contains(body, `href="/help/operations#host-table"`) ||
		!strings.Contains(body, "<mark>host</mark>") || !strings.Contains(body, `value="host TABLE"`) {
		t.Error(body)
	}
	const evil = `"><script>alert(1)</script>`
	for _, q := range []string{evil, strings.Repeat("é", 400), "\xff\xfe", "(((", `\`} {
		code, body, _ := x.get(c, "/help?q="+url.QueryEscape(q))
		if code != http.StatusOK || strings.Contains(body, "<script>alert") || !strings.Contains(body, "Search") {
			t.Errorf("%q: %d: %s", q, code, body)
		}
	}
}
