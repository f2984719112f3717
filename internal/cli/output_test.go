package cli

import (
	"strings"
	"testing"
)

// TestTablesAreCutForTerminals: what goes to a file or a program is whole.
func TestTablesAreCutForTerminals(t *testing.T) {
	long := strings.Repeat("a long name ", 10)
	for _, p := range []painter{{}, {cuts: true}, {cuts: true, colours: true}} {
		var b strings.Builder
		table(&b, p, []column{{"NAME", 1, 12}, {"STATE", 0, 0}}, [][]cell{{{long, plain}, {"running", green}}})
		if whole := strings.Contains(b.String(), long); whole == p.cuts {
			t.Errorf("%+v: %q", p, &b)
		}
		if strings.Contains(b.String(), "\x1b[") != p.colours {
			t.Errorf("%+v: %q", p, &b)
		}
		for l := range strings.Lines(b.String()) {
			if n := len([]rune(strings.TrimRight(l, "\n"))); p == (painter{cuts: true}) && n > width {
				t.Errorf("%d columns: %q", n, l)
			}
		}
	}
}
