package upgrade

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
)

// Earlier is an upgrade whose run was aborted: its plan, its journal, and how it has
// left the cluster. Of several runs, Join makes one.
type Earlier struct {
	Plan    Plan
	Records map[string]job.Record
	Status  Status
}

// BuildAgain plans a second run of an upgrade whose first one was aborted. It goes on:
// hosts that are upgraded are looked at and left as they are, those that were left
// half-way are done again from their beginning, the others as in any run.
//
// A backup shows what a host was before it was changed. So where an installation was
// begun, the backups of the earlier run stay the ones that count, and none is made anew.
func BuildAgain(m manifest.Manifest, e Earlier, inv inventory.Inventory, o Options) (Plan, error) {
	if e.Plan.Purpose != ForUpgrade || e.Plan.Bundle != m.Name || e.Plan.To != m.Version {
		return Plan{}, fmt.Errorf("plan the upgrade: %s of %s %s is not an upgrade to %s %s", e.Plan.Purpose,
			e.Plan.Bundle, e.Plan.To, m.Name, m.Version)
	}
	a := newAgain(&m, e, &inv)
	inv.Pair = activeNow(inv.Pair, a.recs, e.Status.Active)
	inv.Hosts = slices.Clone(inv.Hosts) // the caller's stay as they are
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		if h.Maintenance && !a.fresh[h.Name] && a.leftEmptied(h.Name) {
			h.Maintenance, a.emptied[h.Name] = false, true
		}
	}
	o.Backup = maps.Clone(o.Backup)
	for mod, by := range e.Plan.Options.Backup { // what one run backs up, the other does, too
		if o.Backup == nil {
			o.Backup = map[string]string{}
		}
		if o.Backup[mod] == "" {
			o.Backup[mod] = by
		}
	}
	return build(&m, &inv, o, a)
}

// past is what an upgrade has done so far.
type past struct {
	recs  map[string]job.Record
	steps map[string]*Step
}

func newPast(p *Plan, recs map[string]job.Record) past {
	out := past{recs, map[string]*Step{}}
	p.each(func(_ *Stage, _ *Chain, s *Step) { out.steps[s.ID] = s })
	return out
}

// each calls f for every step, in order.
func (p *Plan) each(f func(*Stage, *Chain, *Step)) {
	for i := range p.Stages {
		for j := range p.Stages[i].Chains {
			c := &p.Stages[i].Chains[j]
			for k := range c.Steps {
				f(&p.Stages[i], c, &c.Steps[k])
			}
		}
	}
}

// begun reports whether the upgrade has begun a step.
func (p *past) begun(h cluster.HostID, words ...string) bool {
	return begun(p.recs[stepID(h, words...)])
}

// leftEmptied reports whether a host was emptied and did not take guests again, and
// whether it took some before.
func (p *past) leftEmptied(h cluster.HostID) bool {
	s := p.steps[readyID(h)]
	return p.tookGuests(s) && p.begun(h, "drain") && !p.recs[s.ID].State.Over()
}

// tookGuests reports whether a host took guests before a run that has this step at the
// end of its turn.
func (p *past) tookGuests(ready *Step) bool {
	var args evacuate.UndrainArgs
	return ready != nil && json.Unmarshal(ready.Args, &args) == nil && !args.Maintenance
}

// runs tells for each module of a host, as in HOST/MODULE, which run its backups are of.
func (p *past) runs() map[string]string {
	out := map[string]string{}
	for _, s := range p.steps {
		var args ActionArgs
		if s.Kind == KindAction && json.Unmarshal(s.Args, &args) == nil && args.Phase == manifest.Install {
			out[stepID(s.Host, args.Module)] = args.Run
		}
	}
	return out
}

// runOf is the run that the backups of a module on a host are of.
func (b *builder) runOf(h cluster.HostID, module string) string {
	if run, ok := b.runs[stepID(h, module)]; ok {
		return run
	}
	return b.o.Run
}

// again is what a second run knows of the first.
type again struct {
	past
	e       Earlier
	planned map[cluster.HostID]PlannedHost
	fresh   map[cluster.HostID]bool   // installed anew since: as if never touched
	changed map[cluster.HostID]bool   // an installation was begun there
	once    map[string]cluster.HostID // by module: where an installation was begun last, any host
	emptied map[cluster.HostID]bool   // left without guests
	aside   []*inventory.Host         // upgraded already
}

func newAgain(m *manifest.Manifest, e Earlier, inv *inventory.Inventory) *again {
	a := &again{
		past: newPast(&e.Plan, e.Records), e: e, fresh: map[cluster.HostID]bool{}, changed: map[cluster.HostID]bool{},
		once: map[string]cluster.HostID{}, emptied: map[cluster.HostID]bool{}, planned: map[cluster.HostID]PlannedHost{},
	}
	installs := map[cluster.HostID]string{}
	for i := range inv.Hosts {
		installs[inv.Hosts[i].Name] = inv.Hosts[i].Install
	}
	for i := range e.Plan.Hosts {
		p := &e.Plan.Hosts[i]
		a.planned[p.Name] = *p
		for k := range m.Modules {
			if name := m.Modules[k].Name; a.begun(p.Name, string(manifest.Install), name) {
				a.changed[p.Name], a.once[name] = true, p.Name
			}
		}
		if a.fresh[p.Name] = reinstalled(p, &inventory.Host{Install: installs[p.Name]}); a.fresh[p.Name] {
			delete(a.changed, p.Name)
		}
	}
	return a
}

// begin lets a builder know the earlier run.
func (a *again) begin(b *builder) {
	b.again, b.emptied = a, a.emptied
	if first := a.e.Plan.Options.Mode; b.o.Mode != first {
		b.block("mode", "", fmt.Sprintf("The run that was aborted had the mode %s.", first),
			fmt.Sprintf("choose --mode %s, or roll back first", first))
	}
	st := a.e.Status.clone()
	maps.DeleteFunc(st.Hosts, func(h cluster.HostID, _ HostState) bool { return a.fresh[h] })
	b.plan.Begin = Status{Cluster: st.Cluster, Hosts: st.Hosts, Active: st.Active, Retained: st.Retained, GivenUp: st.GivenUp}
	b.plan.after(append(slices.Clone(a.e.Plan.Earlier), a.e.Plan.Options.Run))
	for i := range a.e.Plan.Hosts {
		if p := &a.e.Plan.Hosts[i]; st.Hosts[p.Name] != "" {
			b.was[p.Name] = p.Version
		}
	}
	b.undoneFindings(&a.past, Block, func(h cluster.HostID) bool { return a.fresh[h] })
	for _, p := range a.e.Plan.Hosts {
		if a.fresh[p.Name] {
			b.onceFindings(&a.past, Block, p.Name, fmt.Sprintf("roll back first with --lost %s", p.Name))
		}
	}
	runs := a.runs()
	for h := range a.changed {
		for k := range b.m.Modules {
			if key := stepID(h, b.m.Modules[k].Name); runs[key] != "" {
				b.runs[key] = runs[key]
			}
		}
	}
}

// setDoneAside takes hosts that are upgraded already out of those that the plan changes.
// What is done once in the cluster is not done a second time.
func (b *builder) setDoneAside() {
	if b.again == nil {
		return
	}
	a := b.again
	a.aside, b.part = split(b.part, func(h *inventory.Host) bool { return b.plan.Begin.Hosts[h.Name] == HostRollupDone })
	for _, h := range a.aside {
		p := a.planned[h.Name]
		p.Member, p.Wave, p.Moves, p.MovedMiB, p.Turn = h.Member, 0, 0, 0, 0
		b.plan.Hosts = append(b.plan.Hosts, p)
	}
	for name, h := range a.once {
		key := name + "/" + string(manifest.Install)
		switch {
		case a.recs[stepID(h, string(manifest.Install), name)].State.Over():
			b.once[key] = "" // no host
		case b.m.AllHosts() != nil && b.m.AllHosts().Name == name: // by whichever manager is active now
		case slices.ContainsFunc(b.part, func(x *inventory.Host) bool { return x.Name == h }):
			b.once[key] = h
		}
	}
}

// backedUp reports whether the backup of a module on a host is that of an earlier run.
func (b *builder) backedUp(h cluster.HostID, mod *manifest.Module) bool {
	a := b.again
	if a == nil {
		return false
	}
	plan, byProvider := b.backupOf(mod.Name)
	if byProvider && providers()[plan.Provider].shared || !byProvider && mod.Actions.Backup != nil && mod.Actions.Backup.Once {
		return a.once[mod.Name] != ""
	}
	return a.changed[h] && (a.begun(h, string(manifest.Install), mod.Name) ||
		a.recs[stepID(h, string(manifest.Backup), mod.Name)].State.Over())
}

// lookAtDone makes the chains that look whether hosts which are upgraded already are as
// they should be, before others are touched.
func (b *builder) lookAtDone() []Chain {
	if b.again == nil {
		return nil
	}
	return perHost(b.again.aside, func(h *inventory.Host) Chain {
		c := b.chain(h)
		c.stage()
		for _, mod := range b.phases[manifest.PostCheck] {
			if mod.On(h) && !once(mod.Actions.PostCheck) {
				c.action(mod, manifest.PostCheck)
			}
		}
		c.check(Between, "check-after")
		return c.Chain
	})
}

// Join makes one run of two of the same upgrade, of which the later one went on: what
// its rollback, its commit or another run must know of both. It is not carried out. A
// step has the record of the later run, if that has begun it. One that restores
// something has it, too, if that was begun.
func Join(p Plan, recs map[string]job.Record, next Plan, nextRecs map[string]job.Record) (Plan, map[string]job.Record) {
	later := newPast(&next, nextRecs)
	fresh := map[cluster.HostID]bool{} // what the first run did there is gone
	installs := map[cluster.HostID]string{}
	for _, h := range next.Hosts {
		installs[h.Name] = h.Install
	}
	for i := range p.Hosts {
		h := &p.Hosts[i]
		fresh[h.Name] = reinstalled(h, &inventory.Host{Install: installs[h.Name]})
	}
	first := map[string]bool{} // steps whose record is that of the first run
	p.each(func(_ *Stage, _ *Chain, s *Step) {
		x := later.steps[s.ID]
		first[s.ID] = !fresh[s.Host] && (x == nil || begun(recs[s.ID]) && !begun(nextRecs[s.ID]) &&
			!slices.ContainsFunc(x.Restores, func(id string) bool { return begun(nextRecs[id]) }))
	})
	out, all := next, map[string]job.Record{}
	out.Stages = append(p.only(func(s *Step) bool { return first[s.ID] }), next.only(func(s *Step) bool { return !first[s.ID] })...)
	out.each(func(_ *Stage, _ *Chain, s *Step) {
		from := nextRecs
		if first[s.ID] {
			from = recs
		}
		if r, ok := from[s.ID]; ok {
			all[s.ID] = r
		}
	})
	out.Hosts = joinPlanned(&p, recs, next.Hosts, fresh)
	return out, all
}

// joinPlanned lists the hosts of both runs. What a host was before the upgrade is known
// to the run that has changed it first.
func joinPlanned(p *Plan, recs map[string]job.Record, next []PlannedHost, fresh map[cluster.HostID]bool) []PlannedHost {
	changed := map[cluster.HostID]bool{}
	p.each(func(_ *Stage, _ *Chain, s *Step) {
		if begun(recs[s.ID]) && s.changes() {
			changed[s.Host] = true
		}
	})
	out, place := slices.Clone(next), map[cluster.HostID]int{}
	for i := range out {
		place[out[i].Name] = i
	}
	for _, h := range p.Hosts {
		switch i, both := place[h.Name]; {
		case !both:
			out = append(out, h)
		case changed[h.Name] && !fresh[h.Name]:
			out[i].Version, out[i].Kernel = h.Version, h.Kernel
		}
	}
	return out
}

// only returns the stages with nothing but some steps.
func (p *Plan) only(which func(*Step) bool) (out []Stage) {
	for _, s := range p.Stages {
		chains := s.Chains
		s.Chains = nil
		for _, c := range chains {
			c.Steps = slices.DeleteFunc(slices.Clone(c.Steps), func(x Step) bool { return !which(&x) })
			if len(c.Steps) > 0 {
				s.Chains = append(s.Chains, c)
			}
		}
		if len(s.Chains) > 0 {
			out = append(out, s)
		}
	}
	return out
}
