package text

import (
	"slices"
	"strings"
	"testing"
)

// TestWrap: lines end at spaces, and before each Chinese character, which takes two columns.
func TestWrap(t *testing.T) {
	if got, want := words("主机 h1：运行中 on h2"), []string{"主", "机 ", "h1：", "运", "行", "中 ", "on ", "h2"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := words("端口a-1、b-2（见“c-3”），其余"), []string{"端", "口", "a-1、", "b-2", "（见“c-3”），", "其", "余"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	const id = "60000000-0000-4000-8000-00000000000"
	if got := Wrap("端口："+id+"1、"+id+"2、"+id+"3（子网"+id+"4）", 76); strings.Count(strings.Join(got, "\n"), id) != 4 {
		t.Errorf("an ID is not whole in\n%s", strings.Join(got, "\n"))
	}
	for _, c := range []struct {
		begin, text string
		columns, at int
		want        string
	}{
		{"a: ", "short", 20, 2, "a: short"},
		{"name: ", "one two three four", 14, 2, "name: one two\n  three four"},
		{"", "one two three", 7, 2, "one two\n  three"},
		{"x ", "主机运行中", 8, 4, "x 主机运\n    行中"},
		{"long begin: ", "word", 12, 2, "long begin: wo\n  rd"},
	} {
		if got := Fold(c.begin, c.text, c.columns, c.at); got != c.want {
			t.Errorf("Fold(%q, %q, %d, %d) = %q, want %q", c.begin, c.text, c.columns, c.at, got, c.want)
		}
	}
}
