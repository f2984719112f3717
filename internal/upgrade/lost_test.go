package upgrade

import (
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
)

// blocks are the rules that block a plan, with their hosts and remedies.
func blocks(p *Plan) (out []string) {
	for _, f := range p.Findings {
		if f.Level == Block {
			out = append(out, f.Rule+" "+string(f.Host)+": "+f.Remedy)
		}
	}
	return out
}

// lefts are the hosts that a plan leaves out, and why.
func lefts(p *Plan) (out []string) {
	for _, l := range p.Left {
		out = append(out, string(l.Name)+": "+l.Because())
	}
	return out
}

// A host that is lost for good does not keep the cluster from becoming normal again.
func TestRollbackWithoutALostHost(t *testing.T) {
	for name, c := range map[string]struct {
		rule string
		lose func(inv *inventory.Inventory)
	}{
		"down": {"host-down", func(inv *inventory.Inventory) { inv.Hosts[1].Down = true }},
		"gone": {"host-gone", func(inv *inventory.Inventory) {
			inv.Hosts = slices.Delete(inv.Hosts, 1, 2)
			inv.VMs = slices.Delete(inv.VMs, 1, 2)
		}},
		"reinstalled": {"reinstalled", func(inv *inventory.Inventory) { inv.Hosts[1].Install = "new" }},
	} {
		t.Run(name, func(t *testing.T) {
			m, inv, w := aborted(t, manifest.Rolling)
			c.lose(&inv)
			f := RollbackFacts{Receipts: receipts(w)}
			p, err := PlanRollback(m, *w.plan, w.recs, w.status(), inv, f)
			if want := c.rule + " h1: repair it, or name it as lost: --lost h1"; err != nil || !slices.Equal(blocks(&p), []string{want}) {
				t.Fatalf("%v, blocked by %v, want %s", err, blocks(&p), want)
			}
			f.Lost = []cluster.HostID{"h1", "h1"}
			p, err = PlanRollback(m, *w.plan, w.recs, w.status(), inv, f)
			if err != nil || p.Blocked() {
				t.Fatalf("%v, blocked by %v", err, blocks(&p))
			}
			if !slices.Contains(lefts(&p), "h1: lost, by the operator's word") || len(p.Left) != 2 || strings.Contains(outline(&p), "h1/") {
				t.Errorf("left %v\n%s", p.Left, outline(&p))
			}
			back := newWorld(t, &p, inv)
			back.offPlan = true
			back.wantEnd(resultDone, "")
			if st := back.status(); st.Cluster != Normal || st.Hosts["h1"] != "" || st.Hosts["h0"] != HostRolldownDone {
				t.Errorf("status %+v", st)
			}
			if st := w.status(); st.Hosts["h1"] != HostRollupDone {
				t.Errorf("the status of the upgrade was changed: %+v", st)
			}
		})
	}
}

// When the others are rolled back already, the lost host alone is left to be said.
func TestOnlyALostHostIsLeft(t *testing.T) {
	for _, mode := range []manifest.Mode{manifest.Rolling, manifest.Offline} {
		m, inv, w := aborted(t, mode)
		inv.HA = &inventory.Switch{Off: []string{"off"}, On: []string{"on"}}
		st := w.status()
		for h := range st.Hosts {
			st.Hosts[h] = HostRolldownDone
		}
		st.Cluster, st.Hosts["h1"], inv.Hosts[1].Down = Rolldown, HostRollupDone, true
		f := RollbackFacts{Lost: []cluster.HostID{"h1"}}
		p, err := PlanRollback(m, *w.plan, w.recs, st, inv, f)
		if err != nil || p.Blocked() {
			t.Fatalf("%s: %v, blocked by %v", mode, err, blocks(&p))
		}
		sameText(t, outline(&p), "check: cluster/post-check\ntidy: h0/tidy | h2/tidy | h3/tidy\n")
		// It may be said again when the first run was aborted.
		cut := newWorld(t, &p, inv)
		cut.decide()
		cut.command(job.Abort)
		cut.wantEnd(resultAborted, "aborted by ann")
		if p, err = PlanRollback(m, *w.plan, w.recs, cut.status(), inv, f); err != nil || p.Blocked() {
			t.Fatalf("%s: %v, blocked by %v", mode, err, blocks(&p))
		}
		back := newWorld(t, &p, inv)
		back.wantEnd(resultDone, "")
		if st := back.status(); st.Cluster != Normal {
			t.Errorf("%s: status %+v", mode, st)
		}
		st.Cluster = Normal
		if p, err = PlanRollback(m, *w.plan, w.recs, st, inv, f); err != nil || !p.Blocked() {
			t.Errorf("%s: %v, nothing is left to roll back", mode, err)
		}
	}
}

// A lost manager is asked for nothing, and a lost host that the upgrade has left
// emptied gets no guests.
func TestLostHostsAreAskedForNothing(t *testing.T) {
	m, inv := smallBundle(), smallCluster()
	m.RequiresReboot = true
	w := start(t, m, inv, Options{Mode: manifest.Reboot})
	inv.Hosts[1].Down = true // m2, which is the active one since the upgrade
	p, err := PlanRollback(m, *w.plan, w.recs, w.status(), inv, RollbackFacts{Lost: []cluster.HostID{"m2"}})
	if err != nil || p.Blocked() {
		t.Fatalf("%v, blocked by %v", err, blocks(&p))
	}
	if text := outline(&p); strings.Contains(text, " m2/") || !strings.Contains(text, "ha off: m1/ha-off\n") ||
		!strings.Contains(text, "ha on: m1/ha-on\n") {
		t.Errorf("plan\n%s", text)
	}
	m, inv, w = aborted(t, manifest.Rolling)
	inv.Hosts[2].Down, inv.Hosts[2].Maintenance = true, true
	p, err = PlanRollback(m, *w.plan, w.recs, w.status(), inv, RollbackFacts{Receipts: receipts(w), Lost: []cluster.HostID{"h2"}})
	if err != nil || p.Blocked() {
		t.Fatalf("%v, blocked by %v", err, blocks(&p))
	}
	for h, targets := range p.Targets() {
		if slices.ContainsFunc(targets, func(x Target) bool { return x.Host == "h2" }) {
			t.Errorf("guests of %s go to h2, which is lost", h)
		}
	}
}

// What is there is not lost, and only hosts of the upgrade can be.
func TestLostIsRefused(t *testing.T) {
	m, inv, w := aborted(t, manifest.Rolling)
	lost := []cluster.HostID{"h1", "x"}
	back, err := PlanRollback(m, *w.plan, w.recs, w.status(), inv, RollbackFacts{Receipts: receipts(w), Lost: lost})
	if err != nil {
		t.Fatal(err)
	}
	st := w.status()
	st.Cluster = Prepared
	commit, err := PlanCommit(m, *w.plan, st, inv, nil, lost)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*Plan{&back, &commit} {
		got := blocks(p)
		if len(got) != 2 || !strings.HasPrefix(got[0], "lost-but-up h1: ") || !strings.HasPrefix(got[1], "never-upgraded x: ") {
			t.Errorf("the %s is blocked by %v", p.Purpose, got)
		}
	}
}

// A commit does without a host that is lost.
func TestCommitWithoutALostHost(t *testing.T) {
	m, inv := smallBundle(), smallCluster()
	w := start(t, m, inv, Options{Mode: manifest.Rolling})
	inv.Hosts[3].Down = true
	p, err := PlanCommit(m, *w.plan, w.status(), inv, nil, nil)
	if want := "host-down h2: repair it, or name it as lost: --lost h2"; err != nil || !slices.Equal(blocks(&p), []string{want}) {
		t.Fatalf("%v, blocked by %v", err, blocks(&p))
	}
	p, err = PlanCommit(m, *w.plan, w.status(), inv, nil, []cluster.HostID{"h2"})
	if err != nil || p.Blocked() || !slices.Equal(lefts(&p), []string{"h2: lost, by the operator's word"}) {
		t.Fatalf("%v, blocked by %v, left %v", err, blocks(&p), p.Left)
	}
	c := newWorld(t, &p, inv)
	c.wantEnd(resultDone, "")
	if st := c.status(); st.Cluster != Normal || !st.Committed ||
		slices.ContainsFunc(c.order, func(id string) bool { return strings.HasPrefix(id, "h2/") }) {
		t.Errorf("%v: status %+v", c.order, st)
	}
}

// TestGivenUpAfterWhichRun: a rollback brings back the hosts that were lost in its own upgrade only.
func TestGivenUpAfterWhichRun(t *testing.T) {
	r := run{Planner: &Planner{plan: &Plan{Options: Options{Run: "j1"}}}}
	r.st.GivenUp = map[cluster.HostID]string{"h1": "j0", "h3": "j1"}
	if r.givenUp("h1") || r.givenUp("h2") || !r.givenUp("h3") {
		t.Error("the runs are not looked at")
	}
}
