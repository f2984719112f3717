package upgrade

import (
	"slices"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
)

// turns are the hosts in the order in which they leave service.
func turns(p *Plan) (out []cluster.HostID) {
	for _, s := range p.Stages {
		for _, c := range s.Chains {
			if s.Kind == Turn {
				out = append(out, c.Host)
			}
		}
	}
	return out
}

// The host of the management VM comes after the others and the coordinator's host
// last, unless it is node 0, one of the pair or the only one to which the management VM can
// go, or an operator says otherwise of the host of the management VM.
func TestOrderOfTurns(t *testing.T) {
	five := func() inventory.Inventory {
		inv := hosts(5)
		inv.VMs[1].Protected = true
		return inv
	}
	paired := func() inventory.Inventory {
		inv := smallCluster()
		inv.VMs[0].Protected, inv.VMs[2].Protected = true, false
		return inv
	}
	two := func() inventory.Inventory {
		inv := hosts(3)
		inv.Hosts[2].Group = "voters"
		inv.VMs[0].Protected = true
		return inv
	}
	type list = []cluster.HostID
	for name, c := range map[string]struct {
		inv  inventory.Inventory
		o    Options
		want list
	}{
		"rolling":        {five(), Options{Mode: manifest.Rolling, Last: "h0"}, list{"h2", "h3", "h4", "h1", "h0"}},
		"both on one":    {five(), Options{Mode: manifest.Rolling, Last: "h1"}, list{"h0", "h2", "h3", "h4", "h1"}},
		"no coordinator": {five(), Options{Mode: manifest.Rolling}, list{"h0", "h2", "h3", "h4", "h1"}},
		"reboot":         {five(), Options{Mode: manifest.Reboot, Last: "h0"}, list{"h2", "h3", "h4", "h1", "h0"}},
		"as an operator wants": {five(), Options{Mode: manifest.Rolling, Last: "h0", Order: list{"h0", "h1"}},
			list{"h1", "h2", "h3", "h4", "h0"}},
		"offline":           {five(), Options{Mode: manifest.Offline, Last: "h1"}, list{"h0", "h2", "h3", "h4", "h1"}},
		"node 0":            {five(), Options{Mode: manifest.Offline, Last: "h0"}, list{"h0", "h1", "h2", "h3", "h4"}},
		"managers":          {paired(), Options{Mode: manifest.Rolling, Last: "h2"}, list{"h3", "h1", "m2", "m1", "h2"}},
		"one of the pair":   {paired(), Options{Mode: manifest.Rolling, Last: "m2"}, list{"h2", "h3", "h1", "m2", "m1"}},
		"two can run it":    {two(), Options{Mode: manifest.Rolling, Last: "h1"}, list{"h1", "h2", "h0"}},
		"another one leads": {two(), Options{Mode: manifest.Rolling, Last: "h2"}, list{"h1", "h0", "h2"}},
		"several at once": {five(), Options{Mode: manifest.Rolling, Last: "h0", MaxUnavailable: Limit{Count: 3}},
			list{"h2", "h3", "h4", "h1", "h0"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := mustBuild(t, memberBundle(), c.inv, c.o)
			if got := turns(p); !slices.Equal(got, c.want) {
				t.Errorf("turns %v, want %v", got, c.want)
			}
		})
	}
}

// moved counts the moves of the management VM.
func moved(t *testing.T, p *Plan) (n int) {
	t.Helper()
	for _, s := range p.Steps() {
		if s.Kind != evacuate.KindDrain {
			continue
		}
		for _, m := range args[evacuate.DrainArgs](t, &Step{Step: s}).Moves {
			if m.How == evacuate.Protected {
				n++
			}
		}
	}
	return n
}

// The management VM moves live when the turn of its host comes, and then stays
// where it is, unless that is the coordinator's host.
func TestManagementVMMovesOnce(t *testing.T) {
	for at := range 5 {
		for _, mode := range []manifest.Mode{manifest.Rolling, manifest.Reboot} {
			inv := hosts(5)
			inv.VMs[at].Protected = true
			for _, last := range []cluster.HostID{"", "h0", "h4"} {
				p := mustBuild(t, memberBundle(), inv, Options{Mode: mode, Last: last})
				if n := moved(t, p); n != 1 {
					t.Errorf("%s, it is on h%d, the coordinator on %q: %d moves\n%s", mode, at, last, n, outline(p))
				}
			}
		}
	}
}

// A rollback takes the host last that coordinates then.
func TestLastOfRollback(t *testing.T) {
	m, inv, w := aborted(t, manifest.Rolling)
	for last, want := range map[cluster.HostID][]cluster.HostID{"": {"h2", "h1", "h0"}, "h1": {"h2", "h0", "h1"}, "x": {"h2", "h1", "h0"}} {
		p, err := PlanRollback(m, *w.plan, w.recs, w.status(), inv, RollbackFacts{Receipts: receipts(w), Last: last})
		if err != nil || p.Blocked() {
			t.Fatalf("%v %v", err, p.Findings)
		}
		if got := turns(&p); !slices.Equal(got, want) {
			t.Errorf("coordinator on %q: turns %v, want %v", last, got, want)
		}
	}
}

// Hosts that were drained look for targets among those that an operator named.
func TestTargetsOfDrains(t *testing.T) {
	targets := []cluster.HostID{"h0", "h1"}
	p := mustBuild(t, webBundle(), hosts(3), Options{Mode: manifest.Rolling, Targets: targets})
	for _, s := range p.Steps() {
		if s.Kind != evacuate.KindDrain {
			continue
		}
		a := args[evacuate.DrainArgs](t, &Step{Step: s})
		if !slices.Equal(a.Targets, targets) || slices.ContainsFunc(a.Moves,
			func(m evacuate.Move) bool { return !slices.Contains(targets, m.To) }) {
			t.Errorf("%s: %+v", s.ID, a)
		}
	}
}

// A module that brings files only gives a host nothing to do, and needs none.
func TestFilesOnly(t *testing.T) {
	m, inv := smallBundle(), smallCluster()
	m.Modules[1] = manifest.Module{Name: "lib", Files: []manifest.File{{Path: "lib.sh"}}}
	p := mustBuild(t, m, inv, Options{Mode: manifest.Rolling})
	if len(p.Hosts) != 2 || len(p.Left) != 3 || !p.Left[0].WhyCode.Is(reason.NoModule) {
		t.Errorf("hosts %v, left out %v: want the managers only", p.Hosts, p.Left)
	}
	if !slices.ContainsFunc(p.Findings, func(f Finding) bool { return f.Rule == "files-only" && f.Level == Info }) {
		t.Errorf("%v", p.Findings)
	}
}
