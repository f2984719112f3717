package text

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLine(t *testing.T) {
	for _, c := range []struct {
		in   string
		most int
		want string
	}{
		{"", 10, ""},
		{"plain", 5, "plain"},
		{"plain text", 8, "plain..."},
		{" a \t\r\n b ", 20, "a b"},
		{"<script>alert(1)</script>", 50, "(script)alert(1)(/script)"},
		{"\x1b[31mred\x00\x07", 50, "?[31mred??"},
		{"a\u202eb\u200bc", 50, "a?b?c"},
		{"bad \xff\xfe", 50, "bad ??"},
		{"äöü", 6, "äöü"},
		{"äöüß", 7, "äö..."},
		{"äöüß", 6, "ä..."},
		{"abc", 2, ".."},
		{"abc", 0, ""},
	} {
		if got := Line(c.in, c.most); got != c.want {
			t.Errorf("Line(%q, %d) = %q, want %q", c.in, c.most, got, c.want)
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add("<p>\x00 ä", 4)
	f.Add(strings.Repeat("ä", 300), 512)
	f.Fuzz(func(t *testing.T, s string, most int) {
		got := Line(s, most)
		if len(got) > max(most, 0) || !utf8.ValidString(got) || strings.ContainsAny(got, "<>\n\r\t\x00\x1b") {
			t.Errorf("Line(%q, %d) = %q", s, most, got)
		}
		if again := Line(got, most); again != got {
			t.Errorf("Line(%q, %d) = %q, and again %q", s, most, got, again)
		}
	})
}
