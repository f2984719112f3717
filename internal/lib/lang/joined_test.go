package lang

import "testing"

// TestValuesOfASentence: where a value is said in Chinese no space stands before it, and a long list has one kind of comma.
func TestValuesOfASentence(t *testing.T) {
	c, err := For("zh")
	if err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]string{
		"14 rows have a date that is none, such as 0000-00-00":           "14 行有无效的日期，例如 0000-00-00",
		"4 errors to be mended before anything can be copied":            "须先修复 4 个错误，才能开始复制",
		"bridge br-int is not pinned any more: 4 flows removed":          "网桥 br-int 已不再固定：已移除 4 条流表项",
		"want one of a, b, c, d, e, f, g, h, i, j, tls-cert, tls-key, w": "应为以下之一：a、b、c、d、e、f、g、h、i、j、tls-cert、tls-key、w",
	} {
		if got := c.Text(from); got != want {
			t.Errorf("%s\nis  %s\nwant %s", from, got, want)
		}
	}
}
