package holdfast_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// documents are the pages for people.
func documents(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/adr/*.md", "docs/from/*.md", "scenarios/*.md"} {
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
