package told

import (
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/replica/mariadb"
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
		p := cluster.PairStatus{Time: now, Nodes: []cluster.PairNode{
			{PairHost: cluster.PairHost{Host: "h1"}, PairReport: cluster.PairReport{Compared: c.h1}},
			{PairHost: cluster.PairHost{Host: "h2"}, PairReport: cluster.PairReport{Compared: c.h2}},
		}}
		var got []string
		for _, l := range PairStatus(p, nil).Compared {
			got = append(got, strings.TrimPrefix(l.Label+"  "+l.Text, "  "))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}

// TestWhatIsAtRiskOnTheStandby: a table that is of another engine there is named with its node, wherever the group is.
func TestWhatIsAtRiskOnTheStandby(t *testing.T) {
	both, other := "app.log (MyISAM): a crash can lose rows", "app.orders (MEMORY): it is empty after each start"
	p := cluster.PairStatus{Owner: cluster.Owner{Host: "h2"}, Nodes: []cluster.PairNode{
		{PairHost: cluster.PairHost{Host: "h1"}, PairReport: cluster.PairReport{Weak: []string{both, other}}},
		{PairHost: cluster.PairHost{Host: "h2"}, PairReport: cluster.PairReport{Weak: []string{both}}},
	}}
	if got, want := weak(p), []string{both, "on h1: " + other}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestCopyText: how far a copy is.
func TestCopyText(t *testing.T) {
	for name, c := range map[string]struct {
		c    *cluster.PairCopy
		want string
	}{
		"none":          {nil, ""},
		"done":          {&cluster.PairCopy{Stage: cluster.Copied, Bytes: 5}, ""},
		"the beginning": {&cluster.PairCopy{Stage: "receiving", About: 5e8}, "h2: receiving: 0 %, 0.0 MB of about 500.0 MB, 0s so far"},
		"of an old sender": {&cluster.PairCopy{Stage: "receiving", Bytes: 5e6, Rate: 1e6, Elapsed: 5 * time.Second},
			"h2: receiving: 5.0 MB received, 1.0 MB/s, 5s so far"},
		"it stands": {&cluster.PairCopy{Stage: "receiving", Bytes: 5e6, About: 1e9, Elapsed: time.Minute},
			"h2: receiving: 0 %, 5.0 MB of about 1.0 GB, 1m0s so far"},
		"in the middle": {&cluster.PairCopy{Stage: "receiving", Bytes: 6e10, About: 1e11, Percent: 60,
			Rate: 83_333_333, Elapsed: 12 * time.Minute, Left: 8 * time.Minute},
			"h2: receiving: 60 %, 60.0 GB of about 100.0 GB, 83.3 MB/s, 12m0s so far, about 8m0s left"},
		"more than about": {&cluster.PairCopy{Stage: "receiving", Bytes: 2e9, About: 1e9, Percent: 99, Rate: 2e9,
			Elapsed: time.Second}, "h2: receiving: 99 %, 2.0 GB of about 1.0 GB, 2.0 GB/s, 1s so far"},
		"all has come": {&cluster.PairCopy{Stage: "preparing", Bytes: 1e9, About: 1e9, Percent: 100,
			Elapsed: time.Second}, "h2: preparing: 100 %, 1.0 GB of about 1.0 GB, 1s so far"},
		"what it sends": {&cluster.PairCopy{Stage: "a\x1bb"}, "h2: a\ufffdb: 0.0 MB received, 0s so far"},
	} {
		n := cluster.PairNode{PairHost: cluster.PairHost{Host: "h2", Alive: true}, PairReport: cluster.PairReport{Copy: c.c}}
		if got := Copying(n); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if n.Alive = false; Copying(n) != "" {
			t.Errorf("%s: a node that is silent copies", name)
		}
	}
}

// TestTablesThatASwitchEmpties are named as the database tells them.
func TestTablesThatASwitchEmpties(t *testing.T) {
	for engine, want := range map[string]string{"MEMORY": "a.t (MEMORY)", "MyISAM": "", "Aria": "", "SPIDER": ""} {
		weak := []string{mariadb.Weak{Table: "a.t", Engine: engine}.String()}
		p := cluster.PairStatus{Nodes: []cluster.PairNode{{PairReport: cluster.PairReport{Weak: weak}},
			{PairReport: cluster.PairReport{Weak: weak}}}}
		if got := LostBySwitch(p); got != want {
			t.Errorf("%s: %q, want %q", engine, got, want)
		}
	}
}
