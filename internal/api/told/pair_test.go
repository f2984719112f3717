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

// TestLastSwitch: times of both nodes are of one switch only when the proof of the epoch says so, and none is of before it.
func TestLastSwitch(t *testing.T) {
	well := func() cluster.PairStatus {
		p := cluster.PairStatus{Owner: cluster.Owner{Host: "h2", Proof: cluster.Proof{Kind: cluster.ProofReleased, Host: "h1"}},
			Nodes: []cluster.PairNode{{PairHost: cluster.PairHost{Host: "h1"}}, {PairHost: cluster.PairHost{Host: "h2"}}}}
		p.Nodes[0].Times = cluster.PairTimes{Taken: at(-100), Asked: at(0), Stopped: at(1), Handed: at(2)}
		p.Nodes[1].Times = cluster.PairTimes{Asked: at(-50), Taken: at(3), Promoted: at(4), Active: at(6)}
		return p
	}
	for what, c := range map[string]struct {
		change func(*cluster.PairStatus)
		known  bool
	}{
		"a switch":             {func(*cluster.PairStatus) {}, true},
		"a takeover since":     {func(p *cluster.PairStatus) { p.Owner.Proof.Kind = cluster.ProofDeadline }, false},
		"started again since":  {func(p *cluster.PairStatus) { p.Owner.Proof.Host = "h2" }, false},
		"stopped on the other": {func(p *cluster.PairStatus) { p.Nodes[0].Times.Taken = at(10) }, false},
		"it has begun to":      {func(p *cluster.PairStatus) { p.Nodes[1].Times.Active = time.Time{} }, false},
		"not asked":            {func(p *cluster.PairStatus) { p.Nodes[0].Times = cluster.PairTimes{} }, false},
		"no nodes":             {func(p *cluster.PairStatus) { p.Nodes = nil }, false},
	} {
		p := well()
		c.change(&p)
		s, served, known := LastSwitch(p)
		if known != c.known || known && (s.Total != 6*time.Second || !served.Equal(at(6)) || s.From != "h1" || s.To != "h2") {
			t.Errorf("%s: %+v, %v, %v", what, s, served, known)
		}
	}
}

// TestSwitchWaits: which switch there would be, and what holds it up.
func TestSwitchWaits(t *testing.T) {
	for what, c := range map[string]struct {
		change func(*cluster.PairStatus)
		node   string
		to     cluster.HostID
		why    string
		lasts  bool
	}{
		"nothing":       {func(*cluster.PairStatus) {}, "", "h2", "", false},
		"to itself":     {func(*cluster.PairStatus) {}, "h1", "h1", "", false},
		"off":           {func(p *cluster.PairStatus) { p.Nodes[1].Off = true }, "", "h2", "h2 was shown off by its fence device", true},
		"silent":        {func(p *cluster.PairStatus) { p.Nodes[1].Alive = false }, "", "h2", "h2 is silent", false},
		"not all":       {func(p *cluster.PairStatus) { p.InSync, p.Nodes[1].Lasting = nil, true }, "", "h2", "h2 does not have everything", true},
		"not fit":       {func(p *cluster.PairStatus) { p.Nodes[1].Fit, p.Nodes[1].Why = false, "full" }, "", "h2", "h2: full", false},
		"behind":        {func(p *cluster.PairStatus) { p.Nodes[1].LagKnown, p.Nodes[1].Lag = true, 3e9 }, "", "h2", "is 3s behind", false},
		"nobody serves": {func(p *cluster.PairStatus) { p.Nodes[0].Role = "off" }, "", "", "the services do not run: ", false},
		"one node":      {func(p *cluster.PairStatus) { p.Nodes = p.Nodes[:1] }, "", "", "the other node to report", false},
	} {
		p := cluster.PairStatus{Set: true, Want: cluster.Want{Run: true}, Owner: cluster.Owner{Host: "h1"}, InSync: []cluster.HostID{"h1", "h2"},
			Nodes: []cluster.PairNode{{PairHost: cluster.PairHost{Host: "h1", Alive: true}, PairReport: cluster.PairReport{Role: "active"}},
				{PairHost: cluster.PairHost{Host: "h2", Alive: true}, PairReport: cluster.PairReport{Role: "standby", Fit: true}}}}
		c.change(&p)
		_, to, why, lasts := SwitchWaits(p, c.node)
		if to != c.to || !strings.Contains(why, c.why) || (why == "") != (c.why == "") || lasts != c.lasts {
			t.Errorf("%s: to %q, %q, %v", what, to, why, lasts)
		}
	}
}
