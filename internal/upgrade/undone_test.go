package upgrade

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
)

// TestCommitLeavesOutWhoWasNeverUpgraded: the first run was aborted before h3's turn,
// and the second one did without it.
func TestCommitLeavesOutWhoWasNeverUpgraded(t *testing.T) {
	m, inv, e := halfWay(t, manifest.Rolling)
	w := newWorld(t, mustBuildAgain(t, m, e, inv, Options{Mode: manifest.Rolling, Run: "j2", SHA256: "5ha",
		Drop: []cluster.HostID{"h3"}}), inv)
	w.run()
	both := e.then(w.ended())
	inv = taking(inv)
	inv.Hosts[3].Down = true
	p, err := PlanCommit(m, both.Plan, both.Status, inv, nil, nil)
	if err != nil || p.Blocked() || strings.Contains(outline(&p), "h3/") || !strings.Contains(outline(&p), "h2/cleanup") {
		t.Errorf("%v, blocked by %v\n%s", err, blocks(&p), outline(&p))
	}
	if !slices.Equal(lefts(&p), []string{"h3: dropped by the operator"}) {
		t.Errorf("left %v", p.Left)
	}
	// One that is done has forgotten how each host was, and may be repeated.
	inv.Hosts[3].Down = false
	again, err := PlanCommit(m, both.Plan, Status{Cluster: Normal, Committed: true}, inv, nil, nil)
	if err != nil || again.Blocked() || !strings.Contains(outline(&again), "h0/cleanup") {
		t.Errorf("repeated: %v, blocked by %v\n%s", err, blocks(&again), outline(&again))
	}
}

// leftOff is what a run has left that could not start a guest, nor bring back a pool.
func leftOff(t *testing.T) (manifest.Manifest, inventory.Inventory, Earlier) {
	t.Helper()
	m, inv, e := halfWay(t, manifest.Rolling)
	step := func(kind string, args any, restores ...string) Step {
		text, err := json.Marshal(args)
		if err != nil {
			t.Fatal(err)
		}
		return Step{Step: job.Step{ID: "h0/" + kind, Host: "h0", Kind: kind, Args: text}, Restores: restores}
	}
	guests, pools := VMArgs{[]Guest{{Name: "gone", UUID: "u1"}, {Name: "back", UUID: "u2"}}},
		StorageArgs{[]StoragePool{{Name: "iso"}, {Name: "data"}}}
	e.Plan.Stages = append(e.Plan.Stages, Stage{Chains: []Chain{{Host: "h0", Steps: []Step{
		step(KindVMStop, guests), step(KindStorageDetach, pools), step(KindStorageAttach, pools, "h0/storage-detach"),
		step(KindVMStart, guests, "h0/vm-stop"),
	}}}})
	for _, id := range []string{"h0/vm-stop", "h0/storage-detach"} {
		e.Records[id] = job.Record{Step: id, State: job.Done, Attempt: 1}
	}
	inv.VMs = append(slices.Clone(inv.VMs), inventory.VM{Name: "back", UUID: "u2", Host: "h1", Running: true,
		MemoryMiB: 1}, inventory.VM{Name: "gone", UUID: "u1", Host: "h0", MemoryMiB: 1})
	inv.Hosts = slices.Clone(inv.Hosts)
	inv.Hosts[0].Pools = []inventory.Pool{{Name: "data", Active: true}, {Name: "iso"}}
	return m, inv, e
}

func undoneOf(p *Plan) (out []string) {
	for _, f := range p.Findings {
		if f.Rule == ruleUndone {
			out = append(out, string(f.Level)+" "+string(f.Host)+" "+f.Remedy)
		}
	}
	return out
}

// TestWhatAnAbortHasLeftUndone is named by whatever comes next: only what is still off,
// with the commands.
func TestWhatAnAbortHasLeftUndone(t *testing.T) {
	m, inv, e := leftOff(t)
	o := Options{Mode: manifest.Rolling, Run: "j2", SHA256: "5ha"}
	p, err := BuildAgain(m, e, inv, o)
	want := []string{"block h0 on h0: virsh start gone; or go on without: --confirmed left-undone",
		"block h0 on h0: virsh pool-start iso; or go on without: --confirmed left-undone"}
	if got := undoneOf(&p); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %q", err, got)
	}
	o.Confirmed = []string{"left-undone"}
	p, err = BuildAgain(m, e, inv, o)
	want = []string{"warn h0 on h0: virsh start gone", "warn h0 on h0: virsh pool-start iso"}
	if got := undoneOf(&p); err != nil || p.Blocked() || !slices.Equal(got, want) {
		t.Errorf("%v, %q, blocked by %v", err, got, blocks(&p))
	}
	p, err = PlanRollback(m, e.Plan, e.Records, e.Status, inv, RollbackFacts{Receipts: e.receipts()})
	if got := undoneOf(&p); err != nil || p.Blocked() || !slices.Equal(got, want) {
		t.Errorf("the way back: %v, %q, blocked by %v", err, got, blocks(&p))
	}
	for _, id := range []string{"h0/vm-start", "h0/storage-attach"} {
		e.Records[id] = job.Record{Step: id, State: job.Done, Attempt: 1}
	}
	if p, err = BuildAgain(m, e, inv, Options{Mode: manifest.Rolling, Run: "j2", SHA256: "5ha"}); err != nil || len(undoneOf(&p)) > 0 {
		t.Errorf("all came: %v, %q", err, undoneOf(&p))
	}
}

// TestOnceOnAHostThatIsGone: what a host did once in the cluster can not go back when
// the host was installed anew, and no run goes on as if it could.
func TestOnceOnAHostThatIsGone(t *testing.T) {
	m, inv := webBundle(), hosts(3)
	db := manifest.Module{Name: "db", CanRollback: true, Actions: manifest.Actions{Backup: act(), Install: act(), Rollback: act()}}
	db.Actions.Backup.Once, db.Actions.Install.Once, db.Actions.Rollback.Once = true, true, true
	m.Modules = append([]manifest.Module{db}, m.Modules...)
	for i := range inv.Hosts {
		inv.Hosts[i].Install = "old"
	}
	w := start(t, m, inv, Options{Mode: manifest.Rolling, KeepGuests: true, Run: "j1"}, "h1/install/web")
	w.command(job.Abort)
	w.run()
	inv.Hosts[0].Install = "new"
	p, err := BuildAgain(m, w.ended(), inv, Options{Mode: manifest.Rolling, KeepGuests: true, Run: "j2"})
	if want := []string{"once h0: roll back first with --lost h0"}; err != nil || !slices.Equal(blocks(&p), want) {
		t.Errorf("%v, blocked by %v", err, blocks(&p))
	}
	p, err = PlanRollback(m, *w.plan, w.recs, w.status(), inv, RollbackFacts{Lost: []cluster.HostID{"h0"}})
	i := slices.IndexFunc(p.Findings, func(f Finding) bool { return f.Rule == "once" })
	if err != nil || p.Blocked() || i < 0 || p.Findings[i].Text != "The change that module db made once, on h0, can "+
		"not be rolled back any more." {
		t.Errorf("%v, findings %+v", err, p.Findings)
	}
	inv.Hosts[0].Install, inv.Hosts[1].Install = "old", "new" // which did nothing once
	if p, err = BuildAgain(m, w.ended(), inv, Options{Mode: manifest.Rolling, KeepGuests: true, Run: "j2"}); err != nil || p.Blocked() {
		t.Errorf("%v, blocked by %v", err, blocks(&p))
	}
}

// TestOlderProgramsRefuseRunsThatGoOn, and what follows these: they would roll back, or
// commit, the last run alone. They take format 1 only.
func TestOlderProgramsRefuseRunsThatGoOn(t *testing.T) {
	m, inv, e := halfWay(t, manifest.Rolling)
	w := newWorld(t, mustBuildAgain(t, m, e, inv, Options{Mode: manifest.Rolling, Run: "j2", SHA256: "5ha"}), inv) // it reads the plan
	w.run()
	both := e.then(w.ended())
	back, err := PlanRollback(m, both.Plan, both.Records, both.Status, taking(inv), RollbackFacts{Receipts: both.receipts()})
	if err != nil || e.Plan.Format != 1 || w.plan.Format != 2 || back.Format != 2 {
		t.Errorf("%v: formats %d, %d, %d", err, e.Plan.Format, w.plan.Format, back.Format)
	}
}
