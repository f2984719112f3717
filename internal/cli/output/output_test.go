package output

import (
	"strings"
	"testing"

	"holdfast/internal/lib/lang"
)

// TestTablesAreCutForTerminals: what goes to a file or a program is whole.
func TestTablesAreCutForTerminals(t *testing.T) {
	long := strings.Repeat("a long name ", 10)
	for _, p := range []Painter{{}, {Cuts: true}, {Cuts: true, Colours: true}} {
		var b strings.Builder
		Table(&b, p, []Column{{Head: "NAME", Cut: 1, Least: 12}, {Head: "STATE"}},
			[][]Cell{{{Text: long}, {Text: "running", Colour: Green}}})
		if whole := strings.Contains(b.String(), long); whole == p.Cuts {
			t.Errorf("%+v: %q", p, &b)
		}
		if strings.Contains(b.String(), "\x1b[") != p.Colours {
			t.Errorf("%+v: %q", p, &b)
		}
		for l := range strings.Lines(b.String()) {
			if n := len([]rune(strings.TrimRight(l, "\n"))); p == (Painter{Cuts: true}) && n > Width {
				t.Errorf("%d columns: %q", n, l)
			}
		}
	}
}

// TestNothingOfAWordIsLost: a word that is longer than a line, such as a list as JSON, goes on in the next one.
func TestNothingOfAWordIsLost(t *testing.T) {
	for _, s := range []string{strings.Repeat("0123456789", 4) + "end", "see /" + strings.Repeat("a/", 30) + "b now",
		strings.Repeat("\u673a", 9) + ".", "x \u673a\u673a y", "\u0301" + strings.Repeat("e\u0301", 40)} {
		for _, n := range []int{-5, 1, 2, 3, 7, 16, 30} {
			lines := Wrap(s, n)
			if got, want := strings.ReplaceAll(strings.Join(lines, ""), " ", ""), strings.ReplaceAll(s, " ", ""); got != want {
				t.Errorf("%q in %d columns is %q", s, n, lines)
			}
			for _, l := range lines {
				if Columns(l) > max(n, 2) || l == "" {
					t.Errorf("%q in %d columns has the line %q", s, n, l)
				}
			}
		}
	}
}

// TestChineseTakesTwoColumns: tables and paragraphs fit the width, and their columns align.
func TestChineseTakesTwoColumns(t *testing.T) {
	if n := Columns("主机 h1。"); n != 9 {
		t.Errorf("%d columns, want 9", n)
	}
	for n, want := range map[int]string{9: "主机名称x", 8: "主机名~", 7: "主机名~", 2: "~", 0: "~"} {
		if got := Shorten("主机名称x", n); got != want {
			t.Errorf("in %d columns: %q, want %q", n, got, want)
		}
	}
	c, err := lang.For("zh")
	if err != nil {
		t.Fatal(err)
	}
	p := Painter{Lang: c}
	var b strings.Builder
	Say(&b, p, "waiting", Plain, strings.Repeat("管理虚拟机正在启动，", 12)+"see h1")
	Table(&b, p, []Column{{Head: "HOST"}, {Head: "STATE"}, {Head: "STEPS"}},
		[][]Cell{{{Text: "h1"}, {Text: "running"}, {Text: "1"}}, {{Text: "node-with-a-name"}, {Text: "done"}, {Text: "2"}}})
	lines := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	var at []int
	for i, l := range lines {
		if Columns(l) > Width {
			t.Errorf("%d columns: %q", Columns(l), l)
		}
		if i >= len(lines)-3 {
			at = append(at, Columns(l[:strings.LastIndex(l, " ")]))
		}
	}
	if !strings.HasPrefix(lines[0], "等待") || strings.Contains(b.String(), "running") || at[0] != at[1] || at[1] != at[2] {
		t.Errorf("the last column is at %v of\n%s", at, &b)
	}
}

// TestHostsCanBeToldApart: of a name that is too long the domain goes first, then the middle.
func TestHostsCanBeToldApart(t *testing.T) {
	if s := shortenName("rack12-hypervisor-01.dc2.cloud.example.com", 12); s != "rac~visor-01" {
		t.Errorf("the name is cut to %q", s)
	}
	if s := shortenName("node-17.dc2.cloud.example.com", 12); s != "node-17~" {
		t.Errorf("the name is cut to %q", s)
	}
}
