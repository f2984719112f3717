package cluster

import (
	"slices"
	"testing"
	"time"
)

// TestHealthSaysWhy: a pair whose services are just starting is not healthy, and says what is missing.
func TestHealthSaysWhy(t *testing.T) {
	whole := func() PairStatus {
		p := PairStatus{Set: true, InSync: []HostID{"n1", "n2"}, Nodes: []PairNode{
			{PairHost: PairHost{Host: "n1", Alive: true},
				PairReport: PairReport{Role: "active", Members: []PairMember{{Name: "database", State: "up"}, {Name: "web.service", State: "up"}}}},
			{PairHost: PairHost{Host: "n2", Alive: true}, PairReport: PairReport{Role: "standby", Linked: true}},
		}}
		p.Want.Run, p.Takeover.Possible = true, true
		p.Owner.Host = "n1"
		return p
	}
	atLimit := whole()
	atLimit.Nodes[1].Lag, atLimit.Nodes[1].LagKnown = LagLimit, true
	if h, why := atLimit.Health(); h != Healthy {
		t.Errorf("as far behind as it may be: %s, %q", h, why)
	}
	for want, change := range map[string]func(*PairStatus){
		"": func(*PairStatus) {},
		"the services start on n1: web.service does not run yet": func(p *PairStatus) {
			p.Nodes[0].Members[1].State, p.Owner.State = "down", Running
			p.Nodes[1].Why, p.Nodes[1].Linked = "its copy is being looked at", false
		},
		"n1: web.service is failed": func(p *PairStatus) { p.Nodes[0].Members[1].State = "failed" },
		"n2: its copy does not follow": func(p *PairStatus) {
			p.Nodes[0].Role, p.Owner.State = "standby", Migrating
			p.Nodes[1].Why = "its copy does not follow"
		},
		"the group runs on no node": func(p *PairStatus) { p.Nodes[0].Role, p.Owner.Host = "standby", "" },
		"host n1 to start it":       func(p *PairStatus) { p.Nodes[0].Members[0].State, p.Waiting = "down", "host n1 to start it" },
		"n2 is silent":              func(p *PairStatus) { p.Nodes[1].Alive = false },
		"n2: its copy does not run": func(p *PairStatus) { p.Nodes[1].Role, p.Nodes[1].Linked = "off", false },
		"n2 is 10.001s behind in applying what it has received, and a takeover would wait for that": func(p *PairStatus) {
			p.Nodes[1].Lag, p.Nodes[1].LagKnown = LagLimit+time.Millisecond, true
		},
		"n2: its copy does not follow: no route": func(p *PairStatus) { p.Nodes[1].Linked, p.Nodes[1].Problem = false, "no route" },
	} {
		p := whole()
		change(&p)
		h, why := p.Health()
		if (h == Healthy) != (want == "") || want != "" && !slices.Equal(why, []string{want}) {
			t.Errorf("%s, %q: want %q", h, why, want)
		}
	}
}
