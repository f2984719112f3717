package pair

import (
	"strings"
	"testing"
	"time"

	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
)

// TestTheEndOfASwitch: what a switch waits for, that it is over, and that it will not come about.
func TestTheEndOfASwitch(t *testing.T) {
	ordered := cluster.Epoch{Gen: 1, Seq: 4}
	at := func(second int) time.Time { return time.Date(2026, 11, 28, 12, 0, second, 0, time.UTC) }
	status := func(owner cluster.HostID, epoch cluster.Epoch, roles [2]string, problem string) cluster.PairStatus {
		p := cluster.PairStatus{}
		p.Owner.Host, p.Owner.Epoch = owner, epoch
		for i, h := range []cluster.HostID{"h1", "h2"} {
			n := cluster.PairNode{PairHost: cluster.PairHost{Host: h, Alive: true}}
			n.Role = roles[i]
			p.Nodes = append(p.Nodes, n)
		}
		p.Nodes[1].Problem = problem
		return p
	}
	times := func(p cluster.PairStatus) cluster.PairStatus {
		p.Nodes[0].Times = cluster.PairTimes{Asked: at(0), Stopped: at(1), Handed: at(2)}
		p.Nodes[1].Times = cluster.PairTimes{Taken: at(3), Promoted: at(4), Active: at(6)}
		return p
	}
	following := func(p cluster.PairStatus) cluster.PairStatus { // what the old one tells while it begins to follow
		p.Set, p.Want.Run, p.InSync = true, true, []cluster.HostID{"h2"}
		p.Nodes[0].Why, p.Nodes[0].Problem = "its copy does not have every acknowledged write", "the primary is read-only"
		return p
	}
	const full = "its disk is full"
	for _, c := range []struct {
		what string
		seen []cluster.PairStatus
		why  string
		dead string
	}{
		{"the old one serves still", []cluster.PairStatus{status("h1", ordered, [2]string{"active", "standby"}, "")}, "h2 to serve", ""},
		{"nobody serves", []cluster.PairStatus{status("h2", ordered.Next(), [2]string{"standby", "standby"}, full)}, "h2 to serve: ", ""},
		{"nobody serves, and the other one says why", []cluster.PairStatus{following(status("h2", ordered.Next(),
			[2]string{"standby", "standby"}, full))}, "h2 to serve: h2: " + full, ""},
		{"nobody serves, and the old one begins to follow",
			[]cluster.PairStatus{following(status("h2", ordered.Next(), [2]string{"standby", "standby"}, ""))}, "h2 to serve", ""},
		{"the other one serves, and its times are not told yet",
			[]cluster.PairStatus{status("h2", ordered.Next(), [2]string{"standby", "active"}, "")}, "both nodes to tell how long it took", ""},
		{"over", []cluster.PairStatus{times(status("h2", ordered.Next(), [2]string{"standby", "active"}, ""))}, "", ""},
		{"the old one serves again, and the other one says why",
			[]cluster.PairStatus{status("h1", ordered.Next().Next(), [2]string{"active", "standby"}, full)}, "",
			"h1 serves again, as h2 did not come to serve: " + full},
		{"it said why before", []cluster.PairStatus{
			status("h2", ordered.Next(), [2]string{"standby", "standby"}, full),
			status("h1", ordered.Next().Next(), [2]string{"active", "standby"}, "")}, "", "h2 did not come to serve: " + full},
		{"it never said why", []cluster.PairStatus{status("h1", ordered.Next().Next(), [2]string{"active", "standby"},
			"")}, "", "h2 did not come to serve: it gave no reason"},
	} {
		s := switchover{Switchover: told.Switchover{From: "h1", To: "h2"}, ordered: time.Now().Add(-time.Minute)}
		var why string
		var dead error
		for _, p := range c.seen {
			why, dead = s.served(p, ordered)
		}
		if !strings.Contains(why, c.why) || c.why == "" && why != "" || (dead != nil) != (c.dead != "") ||
			dead != nil && !strings.Contains(dead.Error(), c.dead) {
			t.Errorf("%s: waits for %q, %v: want %q, %q", c.what, why, dead, c.why, c.dead)
		}
		if strings.Contains(why, "h1") {
			t.Errorf("%s: waits for %q", c.what, why)
		}
		if c.what == "nobody serves" {
			s.ordered = time.Now()
			if why, _ := s.served(c.seen[0], ordered); why != "h2 to serve" {
				t.Errorf("%s, as in a switch that goes well: waits for %q", c.what, why)
			}
		}
		if c.what == "over" && (s.Total != 6*time.Second || s.Started != 2*time.Second) {
			t.Errorf("%s: %+v", c.what, s)
		}
	}
}
