package holdfast_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
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

// TestReadmes: they are short, and both languages have the same commands, pages and picture.
func TestReadmes(t *testing.T) {
	type content struct{ commands, links []string }
	read := func(page string) (c content) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
		if len(lines) > 120 {
			t.Errorf("%s has %d lines: want at most 120", page, len(lines))
		}
		code := false
		for i, l := range lines {
			if n := len([]rune(l)); n >= 120 {
				t.Errorf("%s:%d has %d characters: want less than 120", page, i+1, n)
			}
			if strings.HasPrefix(l, "```") {
				code = !code
			} else if command, _, _ := strings.Cut(l, "#"); code && strings.TrimSpace(command) != "" {
				c.commands = append(c.commands, strings.TrimSpace(command))
			}
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			c.links = append(c.links, strings.Replace(m[1], ".zh-CN.md", ".md", 1))
		}
		slices.Sort(c.links)
		return c
	}
	en, zh := read("README.md"), read("README.zh-CN.md")
	if !slices.Equal(en.commands, zh.commands) || len(en.commands) < 10 {
		t.Errorf("the commands differ:\n%s\n\n%s", strings.Join(en.commands, "\n"), strings.Join(zh.commands, "\n"))
	}
	if !slices.Equal(en.links, zh.links) {
		t.Errorf("the links differ:\n%s\n\n%s", strings.Join(en.links, "\n"), strings.Join(zh.links, "\n"))
	}
}
