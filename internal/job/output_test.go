package job

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestBounded: of too many parts those that are not done stay, and the rest is counted; few stay in their order.
func TestBounded(t *testing.T) {
	few := Progress{Parts: []Part{{Name: "a", State: "done"}, {Name: "b", State: "failed"}}}
	if got := few.Bounded(); len(got.Parts) != 2 || got.Parts[0].Name != "a" || got.More != 0 {
		t.Errorf("%+v", got)
	}
	var many Progress
	for i := range 2 * MaxParts {
		many.Parts = append(many.Parts, Part{Name: fmt.Sprint(i), State: []string{"done", "waiting", "running", "failed"}[i%4]})
	}
	got := many.Bounded()
	if len(got.Parts) != MaxParts || got.More != MaxParts {
		t.Errorf("%d parts, %d more", len(got.Parts), got.More)
	}
	if again := got.Bounded(); len(again.Parts) != MaxParts || again.More != MaxParts {
		t.Errorf("once more: %d parts, %d more", len(again.Parts), again.More)
	}
	for state, want := range map[string]int{"failed": MaxParts / 2, "running": MaxParts / 2, "waiting": 0, "done": 0} {
		n := 0
		for _, p := range got.Parts {
			if p.State == state {
				n++
			}
		}
		if n != want {
			t.Errorf("%d of %s, want %d", n, state, want)
		}
	}
	if many.Parts[0].State != "done" {
		t.Error("what was given is changed")
	}
}

// TestTheFileOfAProgressHasRoom for the most and longest parts, whatever their texts are.
func TestTheFileOfAProgressHasRoom(t *testing.T) {
	for _, worst := range []string{"\xff", "\x00", "<", "\u2028", "\u4e2d"} {
		long := strings.Repeat(worst, 10_000)
		p := Progress{Line: long, More: 1 << 40}
		for range MaxParts + 1 {
			p.Parts = append(p.Parts, Part{Name: long, State: long, Done: -1 << 63, Total: -1 << 63, Unit: long, PerSecond: -1.2345678901234567e+300,
				Left: -1 << 63, Differences: -1 << 63, Note: long})
		}
		text, err := json.Marshal(p.Bounded())
		if err != nil || len(text) > MaxProgress {
			t.Errorf("of %q: %d bytes, %v", worst, len(text), err)
		}
	}
}
