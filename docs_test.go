package holdfast_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// documents are the pages for people.
func documents(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/adr/*.md", "scenarios/*.md"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			b, err := os.ReadFile(n)
			if err != nil {
				t.Fatal(err)
			}
			out[n] = string(b)
		}
	}
	return out
}

var (
	testName = regexp.MustCompile(`\bTest[A-Z]\w*`)
	pathName = regexp.MustCompile("`((?:internal|e2e|cmd|scenarios|packaging|tools|bench|docs)/[\\w./-]+)`")
	link     = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
)

// TestDocumentsNameWhatExists looks up every test, path and page that a document
// names.
func TestDocumentsNameWhatExists(t *testing.T) {
	var code strings.Builder
	walk(t, func(path, text string) {
		if strings.HasSuffix(path, "_test.go") {
			code.WriteString(text)
		}
	})
	for page, text := range documents(t) {
		for _, name := range testName.FindAllString(text, -1) {
			if !strings.Contains(code.String(), "func "+name) {
				t.Errorf("%s names %s: there is no such test", page, name)
			}
		}
		for _, m := range pathName.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(strings.TrimSuffix(m[1], "/")); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: link: %v", page, err)
			}
		}
	}
}

// notConverted are pages whose lines are longer yet.
var notConverted = []string{
	"README.md", "README.zh-CN.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/glossary.md", "docs/roadmap.md",
	"packaging/neutron/README.md",
}

// maxColumns is the longest that a line of Markdown may be, longestRow that the row of a table may be.
const maxColumns, longestRow = 119, 220

var (
	fence = regexp.MustCompile("^ *(```|~~~)")
	whole = regexp.MustCompile(`^ *\||^\[[^]]+\]: `) // rows of tables and targets of links, which can not be broken
)

// TestLinesOfDocumentsAreShort leaves blocks of code out, and asks less of what can not be broken.
func TestLinesOfDocumentsAreShort(t *testing.T) {
	walk(t, func(page, text string) {
		if filepath.Ext(page) != ".md" {
			return
		}
		code, long := false, false
		for i, line := range strings.Split(text, "\n") {
			if fence.MatchString(line) {
				code = !code
			}
			n := utf8.RuneCountInString(line)
			if code || n <= maxColumns || whole.MatchString(line) && n <= longestRow {
				continue
			}
			if long = true; !slices.Contains(notConverted, page) {
				t.Errorf("%s:%d: a line with %d characters: want at most %d, and %d in a table", page, i+1, n, maxColumns, longestRow)
			}
		}
		if !long && slices.Contains(notConverted, page) {
			t.Errorf("%s has no long lines: take it from the list", page)
		}
	})
}
