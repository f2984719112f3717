package upgrade

import (
	"errors"
	"fmt"
	"slices"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
)

// RollbackFacts are what a rollback must know beside the plan and its records.
type RollbackFacts struct {
	Only     []cluster.HostID  // roll back these; none: all that were touched
	Lost     []cluster.HostID  // lost for good, an operator says: the cluster goes on without them
	Receipts map[string]string // by id of the backup step: "" when its receipt was verified, else what is wrong with it
	Last     cluster.HostID    // the coordinator's host now; "": as in the upgrade
	// Told are the facts of the hosts, for a bundle that changes all of them at once.
	Told map[cluster.HostID]*fact.Facts
}

// PlanRollback plans the way back of an upgrade that was not committed: the plan of
// the upgrade, its journal and last status, and the inventory as it is now. What
// speaks against it is in the plan's findings. Only hosts that were touched are
// rolled back, in any order in a rolling run, node 0 first in an offline one.
func PlanRollback(m manifest.Manifest, p Plan, recs map[string]job.Record, st Status, inv inventory.Inventory,
	f RollbackFacts) (Plan, error) {
	if p.Purpose != ForUpgrade || p.Bundle != m.Name || p.To != m.Version {
		return Plan{}, fmt.Errorf("plan the rollback: %s of %s %s is not an upgrade to %s %s", p.Purpose, p.Bundle, p.To, m.Name, m.Version)
	}
	inv.Pair = activeNow(inv.Pair, recs, st.Active)
	b, err := newBack(&m, &p, st, &inv, f.Lost)
	if err != nil {
		return Plan{}, fmt.Errorf("plan the rollback: %w", err)
	}
	b.plan.Purpose, b.plan.From, b.plan.To = ForRollback, p.To, p.From
	if b.hosts[f.Last] != nil {
		b.o.Last, b.plan.Options.Last = f.Last, f.Last
	}
	r := &rollback{builder: b, past: newPast(&p, recs), upgrade: &p, facts: f}
	if st.Committed || st.Cluster == Committing {
		b.block("committed", "", "The upgrade was committed: its backups are gone, and there is no way back.",
			"restore the whole system from a backup of your own")
		return b.plan, nil
	}
	for _, n := range f.Only {
		if !slices.ContainsFunc(p.Hosts, func(h PlannedHost) bool { return h.Name == n }) {
			b.block("never-upgraded", n, "The host was not part of this upgrade.", "roll back the others")
		}
	}
	r.undoneFindings(&r.past, Warn, func(h cluster.HostID) bool { return r.lost[h] })
	for _, x := range p.Hosts {
		if h := r.hosts[x.Name]; r.lost[x.Name] || h != nil && reinstalled(&x, h) {
			r.onceFindings(&r.past, Warn, x.Name, "restore it by hand from a backup of your own")
		}
	}
	r.findEmptied()
	r.choose()
	b.stoppedFinding()
	r.allHostsBack()
	if len(b.part) == 0 && (len(f.Lost) == 0 || st.Cluster == Normal) {
		b.block("never-upgraded", "", "No host was changed by this upgrade.", "there is nothing to roll back")
	}
	r.stages()
	return b.finish()
}

// activeNow returns the pair as it is after an upgrade that has switched over, and
// after rollbacks that were aborted: last is what the last of these knows.
func activeNow(p *inventory.Pair, recs map[string]job.Record, last cluster.HostID) *inventory.Pair {
	if p == nil {
		return nil
	}
	now := *p // the caller's stays as it is
	for _, n := range p.Nodes {
		if n == last || recs[stepID(n, KindPairSwitch)].State == job.Done && !slices.Contains(p.Nodes, last) {
			now.Active = n
		}
	}
	return &now
}

// newBack makes a builder for what follows an upgrade. It waits neither for a window
// nor for approvals.
func newBack(m *manifest.Manifest, p *Plan, st Status, inv *inventory.Inventory, lost []cluster.HostID) (*builder, error) {
	o := p.Options
	o.Canary, o.PauseAfterWave, o.Window, o.ApprovePerHost = 0, false, Window{}, false
	gone := func(h cluster.HostID) bool {
		return !slices.ContainsFunc(inv.Hosts, func(x inventory.Host) bool { return x.Name == h })
	}
	// A host that was dropped is looked at like the others.
	o.Order, o.Targets = nil, slices.DeleteFunc(slices.Clone(o.Targets), gone)
	o.Drop = slices.DeleteFunc(slices.Clone(lost), gone)
	slices.Sort(o.Drop)
	o.Drop = slices.Compact(o.Drop)
	if gone(o.Last) {
		o.Last = ""
	}
	b, err := newBuilder(m, inv, o)
	if err != nil {
		return nil, err
	}
	if m.Cycle() != nil {
		return nil, errors.New("modules of the manifest wait for one another")
	}
	for _, h := range p.Hosts {
		b.was[h.Name] = h.Version
	}
	st = st.clone()
	b.plan.Begin = Status{Cluster: st.Cluster, Hosts: st.Hosts, Committed: st.Committed, Active: st.Active,
		Retained: st.Retained, GivenUp: st.GivenUp}
	before := newPast(p, nil)
	b.plan.after(p.Earlier)
	b.runs = before.runs()
	b.leaveLost(p, lost)
	return b, nil
}

// leaveLost goes on without hosts that an operator says are lost. What is there and
// is still what it was is not.
func (b *builder) leaveLost(p *Plan, lost []cluster.HostID) {
	for _, n := range slices.Compact(slices.Sorted(slices.Values(lost))) {
		i := slices.IndexFunc(p.Hosts, func(h PlannedHost) bool { return h.Name == n })
		if i < 0 {
			b.block("never-upgraded", n, "The host was not part of this upgrade.", "name only hosts of the upgrade as lost")
			continue
		}
		if h := b.hosts[n]; h != nil && !h.Down && !reinstalled(&p.Hosts[i], h) {
			b.block("lost-but-up", n, "The host was named as lost, but it is up.", "do not name it as lost, or first switch it off for good")
		}
		delete(b.plan.Begin.Hosts, n)
		b.lost[n] = true
		b.plan.leave(n, reason.Lost.With())
	}
}

// reinstalled reports whether a host is another installation than the one that was
// upgraded.
func reinstalled(p *PlannedHost, h *inventory.Host) bool {
	return p.Install != "" && h.Install != "" && p.Install != h.Install
}

// orLost says what to do about a host with which it can not be gone on.
func orLost(h cluster.HostID) string {
	return fmt.Sprintf("repair it, or name it as lost: --lost %s", h)
}

// rollback plans one.
type rollback struct {
	*builder
	past    // of the upgrade
	upgrade *Plan
	facts   RollbackFacts
}

// choose takes the hosts that were touched. Those that the upgrade left half
// done come first, then the others, the last upgraded one first.
func (r *rollback) choose() {
	hosts := slices.Clone(r.upgrade.Hosts)
	if r.o.Mode != manifest.Offline {
		slices.Reverse(hosts)
		slices.SortStableFunc(hosts, func(x, y PlannedHost) int {
			return inventory.CompareBools(r.halfDone(y.Name), r.halfDone(x.Name))
		})
	}
	for _, p := range hosts {
		wanted := r.wanted(p.Name)
		switch touched := r.touched(p.Name); {
		case r.lost[p.Name]:
		case wanted && r.plan.Begin.Hosts[p.Name] == HostRolldownDone:
			r.plan.leave(p.Name, reason.RolledBack.With())
		case wanted && touched:
			if h := r.checked(p); h != nil {
				r.stays[h.Name] = r.o.Mode == manifest.Reboot && !r.begun(h.Name, "reboot") && !r.emptied[h.Name]
				r.part = append(r.part, h)
			}
		case wanted && len(r.facts.Only) > 0:
			r.block("never-upgraded", p.Name, "The host was never upgraded: none of its modules was touched.", "roll back the others")
		case !wanted && touched:
			r.plan.leave(p.Name, reason.NotAskedFor.With())
		default:
			r.plan.leave(p.Name, reason.NeverUpgraded.With())
		}
	}
	if r.o.Mode != manifest.Offline {
		r.managersLast()
	}
	r.byNode()
}

// wanted reports whether a host shall be rolled back if it was touched.
func (r *rollback) wanted(h cluster.HostID) bool {
	return len(r.facts.Only) == 0 || slices.Contains(r.facts.Only, h)
}

// findEmptied looks for hosts that take no guests because the upgrade, or a rollback
// of it, has left them in the middle of their turn. They take some again after it.
func (r *rollback) findEmptied() {
	hosts := slices.Clone(r.inv.Hosts) // the caller's stay as they are
	r.inv.Hosts = hosts
	for i := range hosts {
		h := &hosts[i]
		r.hosts[h.Name] = h
		left := r.leftEmptied(h.Name) || r.plan.Begin.Hosts[h.Name] == HostRolldown && r.tookGuests(r.steps[readyID(h.Name)])
		if h.Maintenance && r.wanted(h.Name) && r.touched(h.Name) && left {
			h.Maintenance, r.emptied[h.Name] = false, true
		}
	}
}

// touched reports whether the upgrade has begun to change a host.
func (r *rollback) touched(h cluster.HostID) bool {
	return slices.ContainsFunc(r.m.Modules, func(mod manifest.Module) bool {
		return r.begun(h, string(manifest.Install), mod.Name) || r.begun(h, string(manifest.Stop), mod.Name)
	}) || r.begun(h, "reboot")
}

// checked returns a host, and says what speaks against rolling it back.
func (r *rollback) checked(p PlannedHost) *inventory.Host {
	h := r.hosts[p.Name]
	switch {
	case h == nil:
		r.block("host-gone", p.Name, "The host is not in the inventory any more.", orLost(p.Name))
		return nil
	case h.Down:
		r.block("host-down", p.Name, "The host is down.", orLost(p.Name))
	case reinstalled(&p, h):
		r.block("reinstalled", p.Name, "The host was reinstalled since the upgrade, so its backups do not belong to it any more.", orLost(p.Name))
	}
	for i := range r.m.Modules {
		mod := &r.m.Modules[i]
		if !r.begun(p.Name, string(manifest.Install), mod.Name) {
			continue
		}
		made := r.madeBy(h, mod)
		byHand := providers()[made].byHand
		switch {
		case mod.Actions.Install.AllHosts: // see allHostsBack
		case mod.Actions.Rollback != nil || made != "" && byHand == "":
		case byHand != "":
			r.block("no-rollback", p.Name, fmt.Sprintf("Module %s can not be rolled back: %s.", mod.Name, byHand),
				"restore it by hand, or go on with the upgrade")
		default:
			r.block("no-rollback", p.Name, fmt.Sprintf("Module %s can not be rolled back.", mod.Name),
				"restore it by hand, or go on with the upgrade")
		}
		r.checkBackup(p.Name, mod.Name)
	}
	return h
}

// checkBackup asks for a backup that is whole, if the upgrade was to make one.
func (r *rollback) checkBackup(h cluster.HostID, module string) {
	id := stepID(h, string(manifest.Backup), module)
	s := r.steps[id]
	if s == nil {
		return
	}
	bad, verified := r.facts.Receipts[id]
	switch {
	case r.recs[id].State != job.Done:
		bad = "the backup was not made"
	case s.Kind == KindBackup && !verified:
		bad = "its receipt is missing"
	case bad == "":
		return
	}
	r.block("backup", h, fmt.Sprintf("The backup of module %s can not be used: %s.", module, bad),
		"restore it by hand from a backup of your own")
}

// stages make the way back.
func (r *rollback) stages() {
	r.add(Stage{Name: "prepare", Kind: Quiet, Limit: quietAtOnce, Chains: perHost(r.part, func(h *inventory.Host) Chain {
		c := r.chain(h)
		c.stage()
		r.checks(c)
		return c.Chain
	})})
	if len(r.part) == 0 { // only what the operator says is lost was left
		r.after()
		r.tidy()
		return
	}
	if r.o.Mode != manifest.Rolling {
		r.haOff()
	}
	if r.empties() {
		r.play()
	}
	var rebooted []*inventory.Host
	if r.o.Mode == manifest.Offline {
		rebooted, _ = split(r.part, func(h *inventory.Host) bool { return r.begun(h.Name, "reboot") })
		r.stopGuests(rebooted)
		r.appsOff()
		r.stopModules()
	}
	r.turnStages(r.host)
	r.startGuests(rebooted)
	if r.o.Mode == manifest.Offline {
		r.appsOn()
	}
	if r.o.Mode != manifest.Rolling {
		r.haOn()
	}
	r.after()
	r.tidy()
}

// checks appends that the backups of a host are looked at, those of each run by
// themselves.
func (r *rollback) checks(c *chain) {
	all := []CheckArgs{r.checkArgs(BeforeRollback)}
	for i := range r.m.Modules {
		mod := &r.m.Modules[i]
		if !r.begun(c.h.Name, string(manifest.Install), mod.Name) || r.madeBy(c.h, mod) == "" {
			continue
		}
		run := r.runOf(c.h.Name, mod.Name)
		k := slices.IndexFunc(all, func(a CheckArgs) bool { return a.Run == run })
		if k < 0 {
			k, all = len(all), append(all, r.checkArgs(BeforeRollback))
			all[k].Run = run
		}
		all[k].Backups = append(all[k].Backups, mod.Name)
	}
	for k, args := range all {
		words := []string{"check"}
		if k > 0 {
			words = append(words, args.Run)
		}
		c.add(KindCheck, args, timeCheck, words...)
	}
}

// host is the way back of one host.
func (r *rollback) host(h *inventory.Host) Chain {
	l := r.leave(h)
	c := r.chain(h)
	c.Marks, c.After = true, l.after
	if r.o.Mode == manifest.Offline {
		c.After = r.afterNode0(h)
	}
	c.drain(l)
	c.pairStop()
	if r.o.Mode != manifest.Offline {
		c.actions(manifest.Stop)
	}
	for _, mod := range r.phases[manifest.Rollback] {
		if r.begun(h.Name, string(manifest.Install), mod.Name) {
			r.restore(c, mod)
			c.action(mod, manifest.Rollback)
		}
	}
	if r.begun(h.Name, "reboot") {
		c.reboot(r.kernelOf(h.Name))
	}
	c.actions(manifest.Start)
	c.pairStart("rollback")
	c.actions(manifest.PostCheck)
	c.check(Between, "check-after")
	c.undrain(l)
	return c.Chain
}

// kernelOf returns the kernel that a host ran before the upgrade.
func (r *rollback) kernelOf(h cluster.HostID) string {
	for _, p := range r.upgrade.Hosts {
		if p.Name == h {
			return p.Kernel
		}
	}
	return ""
}

// PlanCommit plans that an upgrade is made final: the cluster's version is raised,
// modules do what they do then, and backups go. It may be repeated: over are the
// steps of an earlier commit that are over, whose bundle may be gone. lost are hosts
// that an operator says are lost for good: the commit does without them.
func PlanCommit(m manifest.Manifest, p Plan, st Status, inv inventory.Inventory, over map[string]bool,
	lost []cluster.HostID) (Plan, error) {
	if p.Purpose != ForUpgrade || p.Bundle != m.Name || p.To != m.Version {
		return Plan{}, fmt.Errorf("plan the commit: %s of %s %s is not an upgrade to %s %s", p.Purpose, p.Bundle, p.To, m.Name, m.Version)
	}
	b, err := newBack(&m, &p, st, &inv, lost)
	if err != nil {
		return Plan{}, fmt.Errorf("plan the commit: %w", err)
	}
	b.plan.Purpose = ForCommit
	if st.Cluster != Prepared && st.Cluster != Committing && (st.Cluster != Normal || !st.Committed) {
		b.block("not-prepared", "", fmt.Sprintf("The cluster is %s: only an upgrade that is done on all hosts can "+
			"be committed.", st.Cluster), "finish the upgrade, or roll it back: holdfast upgrade status names the commands")
	}
	// A commit that is done has forgotten how each host was.
	done := func(h cluster.HostID) bool {
		return st.Hosts[h] == HostRollupDone || st.Committed && len(st.Hosts) == 0
	}
	for _, x := range p.Hosts {
		switch h := b.hosts[x.Name]; {
		case b.lost[x.Name]:
		case !done(x.Name) || st.Dropped[x.Name] != "" || h == nil:
			b.leaveOut(x.Name, &p)
		case h.Down:
			b.block("host-down", x.Name, "The host is down.", orLost(x.Name))
		default:
			b.part = append(b.part, h)
		}
	}
	for _, l := range p.Left {
		if !slices.ContainsFunc(p.Hosts, func(x PlannedHost) bool { return x.Name == l.Name }) {
			b.plan.Left = append(b.plan.Left, l)
		}
	}
	for _, l := range b.plan.Left {
		b.find(Finding{Rule: "left", Level: Warn, Host: l.Name, Text: "The host was not upgraded: " + l.Because() + "."})
	}
	b.commit(over, &p)
	return b.finish()
}

// leaveOut leaves a host of the upgrade out of its commit, since it was not upgraded to
// the end: the programs of the new version are not for it.
func (b *builder) leaveOut(h cluster.HostID, p *Plan) {
	if i := slices.IndexFunc(p.Left, func(l LeftHost) bool { return l.Name == h }); i >= 0 {
		b.plan.Left = append(b.plan.Left, p.Left[i])
	} else if b.plan.Begin.Hosts[h] == "" {
		b.plan.leave(h, reason.NoTurn.With())
	} else {
		b.plan.leave(h, reason.NotFinished.With())
	}
}

// commit makes the stages of a commit. The cluster's version is raised first:
// from then on nobody can roll back while backups go.
func (b *builder) commit(over map[string]bool, p *Plan) {
	s := b.clusterStep(KindCommit, b.commitArgs(p), timeCommit, "commit")
	b.add(Stage{Name: "commit", Kind: Change, Chains: []Chain{{Steps: []Step{s}}}})
	b.add(Stage{Name: "modules", Kind: Change, Limit: changeAtOnce, Chains: perHost(b.part, func(h *inventory.Host) Chain {
		c := b.chain(h)
		c.actions(manifest.Commit)
		c.Steps = slices.DeleteFunc(c.Steps, func(s Step) bool { return over[s.ID] })
		return c.Chain
	})})
	b.add(Stage{Name: "cleanup", Kind: Quiet, Limit: quietAtOnce, Chains: perHost(b.part, func(h *inventory.Host) Chain {
		c := b.chain(h)
		for _, run := range b.plan.Earlier {
			c.add(KindCleanup, CleanupArgs{Run: run}, timeCommit, "cleanup", run)
		}
		c.add(KindCleanup, CleanupArgs{b.o.Run, b.o.SHA256}, timeCommit, "cleanup")
		b.noteHost(h, &c.Chain)
		return c.Chain
	})})
}
