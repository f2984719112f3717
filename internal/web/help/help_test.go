package help

import (
	"io/fs"
	"net/url"
	"path"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"holdfast/docs"
)

var hrefs = regexp.MustCompile(` (href|src)="([^"]*)"`)

// TestEveryPageAndLink: every file becomes a page, and every link leads to another site or to a place that there is.
func TestEveryPageAndLink(t *testing.T) {
	l, files, links := All(), 0, 0
	err := fs.WalkDir(docs.Pages, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		name, lang := nameOf(file)
		p := l.Page(name, lang)
		if p == nil || p.Lang != lang || p.Title == "" || len(p.HTML) < 500 || len(p.Sections) == 0 {
			t.Fatalf("%s is no page: %+v", file, p)
		}
		if strings.Contains(p.HTML, "raw HTML omitted") || strings.Contains(p.HTML, "style=") || strings.Contains(p.HTML, "<img") {
			t.Errorf("%s has what no page may have", file)
		}
		ids := map[string]bool{}
		for _, s := range p.Sections {
			if ids[s.ID] {
				t.Errorf("%s has the anchor %q twice", file, s.ID)
			}
			ids[s.ID] = true
		}
		for _, m := range hrefs.FindAllStringSubmatch(p.HTML, -1) {
			links++
			if why := leads(l, p, m[2]); why != "" {
				t.Errorf("%s links %q: %s", file, m[2], why)
			}
		}
		return nil
	})
	if err != nil || files < 40 || links < 200 {
		t.Errorf("%d files with %d links: %v", files, links, err)
	}
}

// leads says why a link of a page leads nowhere.
func leads(l *Library, from *Page, href string) string {
	u, err := url.Parse(strings.ReplaceAll(href, "&amp;", "&"))
	if err != nil {
		return err.Error()
	}
	if u.Scheme == "https" {
		return ""
	}
	to := from
	if u.Path != "" {
		name, is := strings.CutPrefix(u.Path, Root+"/")
		if to = l.Page(name, "en"); !is || u.Scheme != "" || to == nil {
			return "there is no such page"
		}
		if lang := u.Query().Get("language"); lang != "" {
			if to = l.Page(name, lang); to.Lang != lang {
				return "there is none in that language"
			}
		}
	}
	if u.Fragment != "" && !to.Has(u.Fragment) {
		return "there is no such heading"
	}
	return ""
}

// TestMarkup: nothing that a page may not have comes from its text.
func TestMarkup(t *testing.T) {
	text := "# A *title*\n\nAbove <b>all</b> & more.\n\n<script>alert(1)</script>\n\n## One `code` (two)\n\n[a](b.md#x) [b](gone.md) " +
		"[c](javascript:alert(1)) [d](../up.md) [e](/etc) [f](//evil.example) [g](https://a.example/b) [h](#one-code-two) " +
		"[zh](a.zh-CN.md) [i](from/c.md) ![picture](p.png) <https://auto.example> [q](b.md?x=1)\n\n" +
		"| x | y |\n|:-:|---|\n| 1 | `2` |\n\n## One code two\n\n```\nkept *as* it <is>\n```\n"
	l, err := read(fstest.MapFS{
		"a.md": {Data: []byte(text)}, "a.zh-CN.md": {Data: []byte("# 标题\n\n## 第一，节\n\n文本 [b](b.md) [en](a.md)\n")},
		"b.md": {Data: []byte("# B\n")}, "from/c.md": {Data: []byte("# C\n\n[up](../b.md) [out](../../b.md)\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	p := l.Page("a", "en")
	for _, want := range []string{
		`<a href="/help/b#x">a</a> b c d e f <a href="https://a.example/b" rel="noreferrer">g</a>`, `<a href="#one-code-two">h</a>`,
		`<a href="/help/a?language=zh">zh</a>`, `<a href="/help/from/c">i</a> picture`, ` q</p>`, `<td><code>2</code></td>`,
		`<h2 id="one-code-two">`, `<h2 id="one-code-two-1">`, "kept *as* it &lt;is&gt;", "Above all &amp; more.",
	} {
		if !strings.Contains(p.HTML, want) {
			t.Errorf("without %q:\n%s", want, p.HTML)
		}
	}
	if strings.Contains(p.HTML, "alert") || strings.Contains(p.HTML, "style=") || p.Title != "A title" {
		t.Errorf("%q:\n%s", p.Title, p.HTML)
	}
	if got := p.Sections[1]; got.Heading != "One code (two)" || got.Level != 2 || !strings.Contains(got.text, "1 2") {
		t.Errorf("%+v", got)
	}
	if zh := l.Page("a", "zh"); zh.Lang != "zh" || !strings.Contains(zh.HTML, `id="第一节"`) || !strings.Contains(zh.HTML, `"/help/b"`) ||
		!strings.Contains(zh.HTML, `"/help/a?language=en"`) {
		t.Errorf("%+v", zh)
	}
	if c := l.Page("from/c", "zh"); c.Lang != "en" || !strings.Contains(c.HTML, `<a href="/help/b">up</a> out`) {
		t.Errorf("%+v", c)
	}
	for _, name := range []string{"", "../help", "a.md", "from", "a.zh-CN", "A"} {
		if l.Page(name, "en") != nil {
			t.Errorf("%q is a page", name)
		}
	}
	for what, bad := range map[string]fs.FS{"no title": fstest.MapFS{"a.md": {Data: []byte("text")}}} {
		if _, err := read(bad); err == nil {
			t.Error(what)
		}
	}
}

func TestSearch(t *testing.T) {
	l := All()
	for q, want := range map[string]string{"Credential file": "configuration", "fence  DEVICE": "", "看门狗": "", "<script>": "",
		"confirm-off": ""} {
		hits := l.Search(q, map[bool]string{true: "zh", false: "en"}[q == "看门狗"])
		if q == "<script>" {
			if len(hits) > 0 {
				t.Errorf("%s: %+v", q, hits[0])
			}
			continue
		}
		if len(hits) == 0 {
			t.Errorf("%s: nothing", q)
			continue
		}
		marked := 0
		for _, h := range hits {
			for _, x := range append(h.Head, h.Excerpt...) {
				if x.Marked {
					marked++
				}
			}
		}
		if marked < len(hits)/2 || want != "" && hits[0].Name != want {
			t.Errorf("%s: %d hits, %d marks, first in %s", q, len(hits), marked, hits[0].Name)
		}
	}
	for _, q := range []string{"", "  ", "no-such-word-anywhere", "holdfast no-such-word-anywhere", "(?x)", "\xff", strings.Repeat("é", 500)} {
		if hits := l.Search(q, "en"); len(hits) > 0 {
			t.Errorf("%q: %s", q, path.Join(hits[0].Name, hits[0].ID))
		}
	}
}

// TestExcerpts: an excerpt is a part of the text, also where letters have other lengths in small.
func TestExcerpts(t *testing.T) {
	l := All()
	for _, q := range []string{"watchdog", "s", "ſ", "K", "İ", "的", "é", "the a of"} {
		for _, h := range l.Search(q, "zh") {
			whole := ""
			for _, x := range h.Excerpt {
				whole += x.Text
			}
			if !strings.Contains(h.text, strings.TrimSuffix(strings.TrimPrefix(whole, "… "), " …")) {
				t.Fatalf("%s: %q is not in %q", q, whole, h.text)
			}
		}
	}
}

func BenchmarkRead(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := read(docs.Pages); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSearch(b *testing.B) {
	l := All()
	for b.Loop() {
		l.Search("the watchdog", "en")
	}
}
