package holdfast_test

import (
	"go/scanner"
	"go/token"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// Bounds of files that are written by hand.
const (
	maxLines = 500
	maxWidth = 140 // characters of a line, unless text of longText characters stands there as it is
	longText = 60
)

// padding is what gofmt aligns columns with.
var padding = regexp.MustCompile(` {2,}`)

func TestFilesAreShort(t *testing.T) {
	walk(t, func(path string, text string) {
		if strings.Contains(path, "/api/v1/") || strings.HasSuffix(path, "_templ.go") { // they are generated
			return
		}
		if strings.HasSuffix(path, ".go") {
			if n := strings.Count(text, "\n"); n > maxLines {
				t.Errorf("%s has %d lines: want at most %d", path, n, maxLines)
			}
			texts := longTexts(text)
			for i, l := range strings.Split(text, "\n") {
				if n := utf8.RuneCountInString(padding.ReplaceAllString(l, " ")); n > maxWidth && !texts[i+1] {
					t.Errorf("%s:%d has %d characters: want at most %d", path, i+1, n, maxWidth)
				}
			}
		}
		for _, word := range []string{"TO" + "DO", "FIX" + "ME"} {
			if strings.Contains(text, word) {
				t.Errorf("%s: has %q: do it, or write it into docs/roadmap.md", path, word)
			}
		}
	})
}

// longTexts are the lines on which a long string literal begins, goes on or ends.
func longTexts(src string) map[int]bool {
	fset, out := token.NewFileSet(), map[int]bool{}
	f := fset.AddFile("", -1, len(src))
	var s scanner.Scanner
	s.Init(f, []byte(src), nil, 0)
	for {
		pos, tok, lit := s.Scan()
		if tok == token.EOF {
			return out
		}
		if tok == token.STRING && utf8.RuneCountInString(lit) > longText {
			for i := range strings.Count(lit, "\n") + 1 {
				out[f.Line(pos)+i] = true
			}
		}
	}
}
