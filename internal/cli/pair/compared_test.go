package pair

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/testbed/try"
)

// TestComparedText: how the newest comparison of both nodes ended, with its age.
func TestComparedText(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.Local)
	equal := &cluster.PairCompared{Ended: now.Add(-3 * time.Hour), Tables: 2, Rows: 7}
	differ := &cluster.PairCompared{Ended: now.Add(-2 * time.Hour), Tables: 2, Rows: 7,
		Differ: []string{"app.log: id 5: h2 lacks this row"}, Left: []string{"app.old: its engine is Aria"}}
	never := &cluster.PairCompared{Failed: "no route"}
	again := &cluster.PairCompared{Ended: equal.Ended, Tables: 2, Rows: 7, Failed: "no route"}
	for _, c := range []struct {
		what   string
		h1, h2 *cluster.PairCompared
		want   []string
	}{
		{"none was made", nil, nil, nil},
		{"equal", nil, equal, []string{"compared  2026-11-28 09:00:00, 3h ago: all equal; tables: 2, rows: 7"}},
		{"the newest counts", equal, differ, []string{
			"compared  2026-11-28 10:00:00, 2h ago: differences: 1; tables: 2, rows: 7", "app.log: id 5: h2 lacks this row",
			"see which rows are right; those of the node that serves are copied anew by: holdfast pair recover",
			"not compared: app.old: its engine is Aria"}},
		{"it could not be made", never, nil, []string{"compared  never; the last try failed: no route"}},
		{"nor anew", nil, again, []string{"compared  2026-11-28 09:00:00, 3h ago: all equal; tables: 2, rows: 7; the last try failed: no route"}},
	} {
		v := View{PairStatus: cluster.PairStatus{Time: now, Nodes: []cluster.PairNode{
			{PairHost: cluster.PairHost{Host: "h1"}, PairReport: cluster.PairReport{Compared: c.h1}},
			{PairHost: cluster.PairHost{Host: "h2"}, PairReport: cluster.PairReport{Compared: c.h2}},
		}}}
		var b strings.Builder
		v.comparedText(&b, output.Painter{})
		if got, want := strings.Fields(b.String()), strings.Fields(strings.Join(c.want, " ")); !slices.Equal(got, want) {
			t.Errorf("%s:\n%s\nwant\n%s", c.what, b.String(), strings.Join(c.want, "\n"))
		}
	}
}

// TestAStandbyWhoseRowsDifferMayBeRecovered: one that follows and has all data is left alone otherwise.
func TestAStandbyWhoseRowsDifferMayBeRecovered(t *testing.T) {
	of := clitest.NewAgent(t)
	for _, c := range []struct {
		compared *cluster.PairCompared
		refused  bool
	}{
		{nil, true}, {&cluster.PairCompared{Ended: time.Now()}, true},
		{&cluster.PairCompared{Ended: time.Now(), Differ: []string{"app.log: id 5: h2 lacks this row"}}, false},
	} {
		of.Pair.Lay(func(p *cluster.PairStatus) { p.Nodes[1].Compared = c.compared })
		a := &command.App{Socket: of.Socket}
		cmd := &cobra.Command{}
		cmd.SetContext(t.Context())
		p, err := of.Pair.Pair(t.Context())
		try.Must(t, err)
		err = mayRecover(a, cmd, string(p.Nodes[0].Host), string(p.Nodes[1].Host))
		if (err != nil) != c.refused || err != nil && !strings.Contains(err.Error(), "is well and has all data") {
			t.Errorf("%+v: %v", c.compared, err)
		}
	}
}

// TestWhatIsAtRiskOnTheStandby: a table that is of another engine there is named with its node, wherever the group is.
func TestWhatIsAtRiskOnTheStandby(t *testing.T) {
	both, other := "app.log (MyISAM): a crash can lose rows", "app.orders (MEMORY): it is empty after each start"
	v := View{PairStatus: cluster.PairStatus{Owner: cluster.Owner{Host: "h2"}, Nodes: []cluster.PairNode{
		{PairHost: cluster.PairHost{Host: "h1"}, PairReport: cluster.PairReport{Weak: []string{both, other}}},
		{PairHost: cluster.PairHost{Host: "h2"}, PairReport: cluster.PairReport{Weak: []string{both}}},
	}}}
	if got, want := v.weak(), []string{both, "on h1: " + other}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
