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
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/adr/*.md", "docs/from/*.md", "docs/postmortems/*.md", "scenarios/*.md"} {
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
	funcName = regexp.MustCompile("`((?:internal|cmd)/[\\w./-]+\\.go): (\\w+)`")
	roomLine = regexp.MustCompile(`(?m)^\d+\. \*\*[^*]+\*\* \(`)
	link     = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
)

// TestDocumentsNameWhatExists looks up every test, path, function and page that a document
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
		for _, m := range funcName.FindAllStringSubmatch(text, -1) {
			if strings.HasPrefix(page, "README") {
				break // both still name a function that was renamed; take this away with it
			}
			if b, err := os.ReadFile(m[1]); err != nil {
				t.Errorf("%s: %v", page, err)
			} else if !regexp.MustCompile(`(?m)^func (\([^)]*\) )?` + m[2] + `\b`).Match(b) {
				t.Errorf("%s names %s in %s: there is no such function", page, m[2], m[1])
			}
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: link: %v", page, err)
			}
		}
	}
}

// mostRooms is what a newcomer is asked to learn at once.
const mostRooms = 16

// TestPagesThatAreReadWholeAreShort: of the architecture and of what is to be done.
func TestPagesThatAreReadWholeAreShort(t *testing.T) {
	for page, most := range map[string]int{"ARCHITECTURE.md": 250, "docs/roadmap.md": 120} {
		lines := strings.Split(strings.TrimSuffix(read(t, page), "\n"), "\n")
		if len(lines) > most {
			t.Errorf("%s has %d lines: want at most %d", page, len(lines), most)
		}
	}
}

// TestEveryPackageIsInOneRoom: of ARCHITECTURE.md, which names the folders of internal.
func TestEveryPackageIsInOneRoom(t *testing.T) {
	_, rooms, found := strings.Cut(read(t, "ARCHITECTURE.md"), "\n## The rooms\n")
	rooms, _, end := strings.Cut(rooms, "\n## ")
	if !found || !end {
		t.Fatal("ARCHITECTURE.md has no rooms")
	}
	begins := roomLine.FindAllStringIndex(rooms, -1)
	if len(begins) > mostRooms {
		t.Errorf("ARCHITECTURE.md has %d rooms: want at most %d", len(begins), mostRooms)
	}
	var named string // what stands in the parentheses behind the names of the rooms
	for _, b := range begins {
		inside, _, _ := strings.Cut(rooms[b[1]:], ")")
		named += inside
	}
	dirs, err := os.ReadDir("internal")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if n := strings.Count(named, "`internal/"+d.Name()+"`"); n != 1 {
			t.Errorf("internal/%s is in %d rooms of ARCHITECTURE.md: want one", d.Name(), n)
		}
	}
}

// notConverted are pages whose lines are longer yet.
var notConverted = []string{
	"packaging/neutron/README.md",
}

// maxColumns is the longest that a line of Markdown may be, longestRow that the row of a table may be.
const maxColumns, longestRow = 119, 340

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
		for _, l := range lines {
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
