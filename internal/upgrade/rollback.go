package upgrade

import (
	"errors"
	"fmt"
	"slices"

	"holdfast/internal/cluster"
	"holdfast/internal/job"
)

// RollbackFacts are what a rollback must know beside the plan and its records.
type RollbackFacts struct {
	Only     []cluster.HostID  // roll back these; none: all that were touched
	Receipts map[string]string // by id of the backup step: "" when its receipt was verified, else what is wrong with it
}

// PlanRollback plans the way back of an upgrade that was not committed: the plan of
// the upgrade, its journal and last status, and the inventory as it is now. What
// speaks against it is in the plan's findings. Only hosts that were touched are
// rolled back, in any order in a rolling run, node 0 first in an offline one.
func PlanRollback(m Manifest, p Plan, recs map[string]job.Record, st Status, inv Inventory, f RollbackFacts) (Plan, error) {
	if p.Purpose != ForUpgrade || p.Bundle != m.Name || p.To != m.Version {
		return Plan{}, fmt.Errorf("plan the rollback: %s of %s %s is no upgrade to %s %s", p.Purpose, p.Bundle, p.To, m.Name, m.Version)
	}
	b, err := newBack(&m, &p, st, &inv)
	if err != nil {
		return Plan{}, fmt.Errorf("plan the rollback: %w", err)
	}
	b.plan.Purpose, b.plan.From, b.plan.To = ForRollback, p.To, p.From
	r := &rollback{builder: b, upgrade: &p, recs: recs, facts: f, steps: map[string]*Step{}}
	for i := range p.Stages {
		for j := range p.Stages[i].Chains {
			for k := range p.Stages[i].Chains[j].Steps {
				s := &p.Stages[i].Chains[j].Steps[k]
				r.steps[s.ID] = s
			}
		}
	}
	if st.Committed || st.Cluster == Committing {
		b.block("committed", "", "The upgrade was committed: its backups are gone, and there is no way back.", "restore the whole system from a backup of your own")
		return b.plan, nil
	}
	for _, n := range f.Only {
		if !slices.ContainsFunc(p.Hosts, func(h PlannedHost) bool { return h.Name == n }) {
			b.block("never-upgraded", n, "The host was no part of this upgrade.", "roll back the others")
		}
	}
	r.choose()
	if len(b.part) == 0 {
		b.block("never-upgraded", "", "No host was changed by this upgrade.", "there is nothing to roll back")
	}
	r.stages()
	return b.finish()
}

// newBack makes a builder for what follows an upgrade.
func newBack(m *Manifest, p *Plan, st Status, inv *Inventory) (*builder, error) {
	o := p.Options
	o.Canary, o.PauseAfterWave = 0, false
	// A host that was dropped is looked at like the others.
	o.Drop, o.Order, o.Targets = nil, nil, slices.DeleteFunc(slices.Clone(o.Targets), func(h cluster.HostID) bool {
		return !slices.ContainsFunc(inv.Hosts, func(x Host) bool { return x.Name == h })
	})
	if !slices.ContainsFunc(inv.Hosts, func(x Host) bool { return x.Name == o.Last }) {
		o.Last = ""
	}
	b, err := newBuilder(m, inv, o)
	if err != nil {
		return nil, err
	}
	if m.cycle() != nil {
		return nil, errors.New("modules of the manifest wait for one another")
	}
	for _, h := range p.Hosts {
		b.was[h.Name] = h.Version
	}
	b.plan.Begin = Status{Cluster: st.Cluster, Hosts: st.clone().Hosts, Committed: st.Committed}
	return b, nil
}

// rollback plans one.
type rollback struct {
	*builder
	upgrade *Plan
	recs    map[string]job.Record
	facts   RollbackFacts
	steps   map[string]*Step // of the upgrade
}

// begun reports whether the upgrade has begun a step.
func (r *rollback) begun(h cluster.HostID, words ...string) bool {
	return begun(r.recs[stepID(h, words...)])
}

// choose takes the hosts that were touched. Those that the upgrade left half
// done come first, then the others, the last upgraded one first.
func (r *rollback) choose() {
	hosts := slices.Clone(r.upgrade.Hosts)
	if r.o.Mode != Offline {
		slices.Reverse(hosts)
		slices.SortStableFunc(hosts, func(x, y PlannedHost) int {
			return r.halfDone(y.Name) - r.halfDone(x.Name)
		})
	}
	for _, p := range hosts {
		wanted := len(r.facts.Only) == 0 || slices.Contains(r.facts.Only, p.Name)
		switch touched := r.touched(p.Name); {
		case wanted && touched:
			if h := r.checked(p); h != nil {
				r.stays[h.Name] = r.o.Mode == Reboot && !r.begun(h.Name, "reboot")
				r.part = append(r.part, h)
			}
		case wanted && len(r.facts.Only) > 0:
			r.block("never-upgraded", p.Name, "The host was never upgraded: none of its modules was touched.", "roll back the others")
		case !wanted && touched:
			r.plan.Left = append(r.plan.Left, LeftHost{p.Name, "not asked for"})
		default:
			r.plan.Left = append(r.plan.Left, LeftHost{p.Name, "never upgraded"})
		}
	}
	if r.o.Mode != Offline {
		r.managersLast()
	}
}

func (r *rollback) halfDone(h cluster.HostID) int {
	if s := r.plan.Begin.Hosts[h]; s == HostRollup || s == HostRolldown {
		return 1
	}
	return 0
}

// touched reports whether the upgrade has begun to change a host.
func (r *rollback) touched(h cluster.HostID) bool {
	return slices.ContainsFunc(r.m.Modules, func(mod Module) bool {
		return r.begun(h, string(Install), mod.Name) || r.begun(h, string(Stop), mod.Name)
	}) || r.begun(h, "reboot")
}

// checked returns a host, and says what speaks against rolling it back.
func (r *rollback) checked(p PlannedHost) *Host {
	h := r.hosts[p.Name]
	switch {
	case h == nil:
		r.block("host-gone", p.Name, "The host is not in the inventory any more.", "roll back the others, by name")
		return nil
	case h.Down:
		r.block("host-down", p.Name, "The host is down.", "repair it, or roll back the others, by name")
	case p.Install != "" && h.Install != "" && p.Install != h.Install:
		r.block("reinstalled", p.Name, "The host was reinstalled since: what its backups hold is not what it was.", "roll back the others, by name")
	}
	for i := range r.m.Modules {
		mod := &r.m.Modules[i]
		if !r.begun(p.Name, string(Install), mod.Name) {
			continue
		}
		if mod.Actions.Rollback == nil {
			r.block("no-rollback", p.Name, fmt.Sprintf("Module %s can not be rolled back.", mod.Name), "restore it by hand, or go on with the upgrade")
		}
		r.checkBackup(p.Name, mod.Name)
	}
	return h
}

// checkBackup asks for a backup that is whole, if the upgrade was to make one.
func (r *rollback) checkBackup(h cluster.HostID, module string) {
	id := stepID(h, string(Backup), module)
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
	r.block("backup", h, fmt.Sprintf("The backup of module %s can not be used: %s.", module, bad), "restore it by hand from a backup of your own")
}

// stages make the way back.
func (r *rollback) stages() {
	r.add(Stage{Name: "prepare", Kind: Quiet, Limit: quietAtOnce, Chains: perHost(r.part, func(h *Host) Chain {
		c := r.chain(h)
		args := CheckArgs{When: BeforeRollback}
		for i := range r.m.Modules {
			if id := stepID(h.Name, string(Backup), r.m.Modules[i].Name); r.steps[id] != nil && r.steps[id].Kind == KindBackup {
				args.Backups = append(args.Backups, id)
			}
		}
		c.add(KindCheck, args, timeCheck, "check")
		c.add(KindStage, StageArgs{r.m.Name, r.m.Version}, timeStage, "stage")
		return c.Chain
	})})
	if r.o.Mode != Rolling {
		r.haOff()
	}
	if r.empties() {
		r.fleet = newFleet(r.inv, &r.o, r.part, r.drains)
	}
	if r.o.Mode == Offline {
		r.stopModules()
	}
	r.turnStages(r.host)
	if r.o.Mode != Rolling {
		r.haOn()
	}
	r.after()
}

// host is the way back of one host.
func (r *rollback) host(h *Host) Chain {
	l := r.leave(h)
	c := r.chain(h)
	c.Marks, c.After = true, l.after
	if r.o.Mode == Offline {
		c.After = r.afterNode0(h)
	}
	c.drain(l)
	c.pairStop()
	if r.o.Mode != Offline {
		c.actions(Stop)
	}
	for _, mod := range r.phases[Rollback] {
		if r.begun(h.Name, string(Install), mod.Name) {
			c.action(mod, Rollback)
		}
	}
	if r.begun(h.Name, "reboot") {
		c.reboot(r.kernelOf(h.Name))
	}
	c.actions(Start)
	c.pairStart("rollback")
	c.actions(PostCheck)
	c.add(KindCheck, CheckArgs{When: Between}, timeCheck, "check-after")
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
// modules do what they do then, and backups go. It may be repeated.
func PlanCommit(m Manifest, p Plan, st Status, inv Inventory) (Plan, error) {
	if p.Purpose != ForUpgrade || p.Bundle != m.Name || p.To != m.Version {
		return Plan{}, fmt.Errorf("plan the commit: %s of %s %s is no upgrade to %s %s", p.Purpose, p.Bundle, p.To, m.Name, m.Version)
	}
	b, err := newBack(&m, &p, st, &inv)
	if err != nil {
		return Plan{}, fmt.Errorf("plan the commit: %w", err)
	}
	b.plan.Purpose = ForCommit
	if st.Cluster != Prepared && st.Cluster != Committing && (st.Cluster != Normal || !st.Committed) {
		b.block("not-prepared", "", fmt.Sprintf("The cluster is %s: only an upgrade that is done on all hosts can be committed.", st.Cluster), "finish the upgrade, or roll it back")
	}
	for _, x := range p.Hosts {
		switch h := b.hosts[x.Name]; {
		case st.Dropped[x.Name] != "" || h == nil:
			b.plan.Left = append(b.plan.Left, LeftHost{x.Name, "dropped from the upgrade, or gone"})
		case h.Down:
			b.block("host-down", x.Name, "The host is down.", "repair it first: what is committed there is not known")
		default:
			b.part = append(b.part, h)
		}
	}
	b.plan.Left = append(b.plan.Left, p.Left...)
	for _, l := range b.plan.Left {
		b.find(Finding{Rule: "left", Level: Warn, Host: l.Name, Text: "The host was not upgraded: " + l.Why + "."})
	}
	b.commit(backupSteps(&p))
	return b.finish()
}

// backupSteps returns the ids of an upgrade's backup steps, by host.
func backupSteps(p *Plan) map[cluster.HostID][]string {
	out := map[cluster.HostID][]string{}
	for _, s := range p.Steps() {
		if s.Kind == KindBackup {
			out[s.Host] = append(out[s.Host], s.ID)
		}
	}
	return out
}

// commit makes the stages of a commit. The cluster's version is raised first:
// from then on nobody can roll back while backups go.
func (b *builder) commit(backups map[cluster.HostID][]string) {
	s := b.clusterStep(KindCommit, CommitArgs{b.plan.From, b.plan.To}, timeCommit, "commit")
	b.add(Stage{Name: "commit", Kind: Change, Chains: []Chain{{Steps: []Step{s}}}})
	b.add(Stage{Name: "modules", Kind: Change, Limit: changeAtOnce, Chains: perHost(b.part, func(h *Host) Chain {
		c := b.chain(h)
		c.actions(Commit)
		return c.Chain
	})})
	b.add(Stage{Name: "cleanup", Kind: Quiet, Limit: quietAtOnce, Chains: perHost(b.part, func(h *Host) Chain {
		c := b.chain(h)
		c.add(KindCleanup, CleanupArgs{b.m.Name, b.m.Version, backups[h.Name]}, timeCommit, "cleanup")
		b.noteHost(h, &c.Chain)
		return c.Chain
	})})
}
