package ha

import (
	"strings"
	"testing"

	"holdfast/internal/api"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
)

func TestProgressView(t *testing.T) {
	step := func(percent int, note string) api.Progress {
		return api.Progress{Percent: percent, State: cluster.Migrating, Host: "node3", Note: note}
	}
	lines := &progressView{}
	var got string
	for _, p := range []api.Progress{step(0, ""), step(3, ""), step(10, ""), step(19, ""), step(19, "slow"), step(55, "")} {
		got += lines.next(p)
	}
	want := "migrating to node3   0 %\nmigrating to node3  10 %\nmigrating to node3  10 %: slow\nmigrating to node3  50 %\n"
	if got != want {
		t.Errorf("lines:\n%s\nwant:\n%s", got, want)
	}
	term := &progressView{terminal: true}
	if got, want := term.next(step(50, "")), "\r\x1b[K["+
		strings.Repeat("#", 15)+strings.Repeat("-", 15)+"]  migrating to node3  50 %"; got != want {
		t.Errorf("bar %q, want %q", got, want)
	}
	if got := term.next(step(50, strings.Repeat("x", 200))); len(got) > output.Width+len("\r\x1b[K") {
		t.Errorf("the bar's line is %d long: %q", len(got), got)
	}
	if got := term.end() + term.end(); got != "\n" {
		t.Errorf("the bar's line ends with %q", got)
	}
}
