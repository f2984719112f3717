package clitest

import (
	"strings"
	"testing"

	"holdfast/internal/cli/output"
	"holdfast/internal/lib/lang"
)

// Chinese is a painter for who reads Chinese on a terminal.
func Chinese(t *testing.T) output.Painter {
	t.Helper()
	c, err := lang.For("zh")
	if err != nil {
		t.Fatal(err)
	}
	return output.Painter{Lang: c, Cuts: true}
}

// AllChinese fails when a text of that painter is not Chinese in all that it is put together of.
func AllChinese(t *testing.T, p output.Painter, name, text string) {
	t.Helper()
	var b strings.Builder
	if _, err := (lang.Writer{Writer: &b, Catalogue: p.Lang}).Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	for _, word := range strings.FieldsFunc(b.String(), func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') }) {
		switch strings.ToLower(word) {
		case "node", "prod", "utc", "mib", "itco", "wdt", "g", "s", "store", "agent":
		default:
			t.Errorf("%s: %q in\n%s", name, word, &b)
		}
	}
	if bad := tooWideIn(b.String()); bad != "" {
		t.Errorf("%s: more than %d columns: %s", name, output.Width, bad)
	}
}

// tooWideIn is a line that takes more columns than there are.
func tooWideIn(text string) string {
	for l := range strings.Lines(text) {
		if l = strings.TrimRight(l, "\n"); output.Columns(l) > output.Width {
			return l
		}
	}
	return ""
}
