package cli

import (
	"strings"
	"testing"

	"holdfast/internal/lang"
)

// TestChineseTakesTwoColumns: tables and paragraphs fit the width, and their columns align.
func TestChineseTakesTwoColumns(t *testing.T) {
	if n := Columns("主机 h1。"); n != 9 {
		t.Errorf("%d columns, want 9", n)
	}
	for n, want := range map[int]string{9: "主机名称x", 8: "主机名~", 7: "主机名~", 2: "~", 0: "~"} {
		if got := shorten("主机名称x", n); got != want {
			t.Errorf("in %d columns: %q, want %q", n, got, want)
		}
	}
	c, err := lang.For("zh")
	if err != nil {
		t.Fatal(err)
	}
	p := painter{lang: c}
	var b strings.Builder
	say(&b, p, "waiting", plain, strings.Repeat("管理虚拟机正在启动，", 12)+"see h1")
	table(&b, p, []column{{head: "HOST"}, {head: "STATE"}, {head: "STEPS"}}, [][]cell{{{"h1", plain}, {"running", plain}, {"1", plain}}, {{"node-with-a-name", plain}, {"done", plain}, {"2", plain}}})
	lines := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	var at []int
	for i, l := range lines {
		if Columns(l) > width {
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
