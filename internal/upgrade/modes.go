package upgrade

import (
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/version"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
)

// How many hosts are dealt with at once where guests do not notice.
const (
	quietAtOnce  = 64
	changeAtOnce = 8
)

// prepare brings the bundle to all hosts and checks everything there before
// anything is changed anywhere. What earlier runs have left goes when all is well, if
// nobody can go back on them.
func (b *builder) prepare() {
	b.add(Stage{Name: "prepare", Kind: Quiet, Limit: quietAtOnce,
		Chains: append(b.lookAtDone(), perHost(b.part, func(h *inventory.Host) Chain {
			c := b.chain(h)
			c.stage() // the check reads its manifest
			c.check(Before, "check")
			c.actions(manifest.PreCheck)
			return c.Chain
		})...)})
	if b.again == nil {
		b.keptFindings()
		b.tidies(b.part, true)
	}
}

// rolling changes one host after the other while the service goes on.
func (b *builder) rolling() {
	b.prepare()
	if b.empties() {
		b.play()
	}
	b.turnStages(func(h *inventory.Host) Chain {
		l := b.leave(h)
		c := b.chain(h)
		c.Marks, c.After = true, l.after
		c.drain(l)
		c.pairStop()
		c.change()
		if b.m.RequiresReboot {
			c.reboot(b.m.Kernel)
		}
		c.actions(manifest.Start)
		c.pairStart("upgrade")
		c.actions(manifest.PostCheck)
		c.check(Between, "check-after")
		c.undrain(l)
		return c.Chain
	})
	b.o2cb()
	b.after()
}

// change appends what replaces the software of a host.
func (c *chain) change() {
	for _, p := range []manifest.Phase{manifest.Stop, manifest.Backup, manifest.Install} {
		c.actions(p)
	}
}

// softwareThenReboot changes the software of all hosts with guests running, and
// reboots them one after the other.
func (b *builder) softwareThenReboot() {
	b.prepare()
	b.haOff()
	spares := b.spares()
	b.play()
	left := map[cluster.HostID]leave{}
	atOnce := max(1, b.o.ParallelTotal/b.parallel()) // all together keep to the bound of moves
	b.add(Stage{Name: "empty", Kind: Change, Limit: atOnce, Chains: perHost(spares, func(h *inventory.Host) Chain {
		l := b.leave(h)
		left[h.Name] = l
		c := b.chain(h)
		c.drainOnly(l)
		return c.Chain
	})})
	b.software()
	b.turnStages(func(h *inventory.Host) Chain {
		l, emptied := left[h.Name]
		c := b.chain(h)
		c.Marks = true
		if emptied {
			c.After = b.fleet.nodes[h.Name].after
			c.vmStop(l.stops)
		} else {
			l = b.leave(h)
			c.After = l.after
			c.drain(l)
		}
		c.reboot(b.m.Kernel)
		c.pairStart("reboot")
		c.check(Between, "check-after")
		c.undrain(l)
		return c.Chain
	})
	b.o2cb()
	b.haOn()
	b.after()
}

// software changes managers one after the other, then the hosts, the canary
// ones first.
func (b *builder) software() {
	b.installedBy()
	managers, hosts := split(b.part, func(h *inventory.Host) bool { return h.Has(inventory.RoleManager) })
	chain := func(h *inventory.Host) Chain {
		c := b.chain(h)
		c.Marks = true
		c.pairStop()
		c.change()
		c.actions(manifest.Start)
		if b.m.AllHosts() == nil || h == b.activeManager() {
			c.pairStart("software")
		}
		c.actions(manifest.PostCheck)
		return b.watched("software", h, c.Chain)
	}
	b.add(Stage{Name: "software of managers", Kind: Change, Limit: 1, Chains: perHost(managers, chain)})
	chains := perHost(hosts, chain)
	for i := range chains {
		if b.o.Canary > 0 {
			chains[i].Wave = 1
		}
		if b.o.Canary > 0 && i >= b.o.Canary {
			chains[i].Wave = 2
		}
	}
	b.add(Stage{Name: "software of hosts", Kind: Change, Limit: changeAtOnce, Chains: chains})
}

// offline stops the service on all hosts, one module after the other, changes
// node 0, then the other hosts.
func (b *builder) offline() {
	b.prepare()
	b.haOff()
	if b.m.RequiresReboot {
		b.stopGuests(b.part)
	}
	b.appsOff()
	b.checkpoint()
	b.stopModules()
	b.turnStages(func(h *inventory.Host) Chain {
		c := b.chain(h)
		c.Marks = true
		c.pairStop()
		c.actions(manifest.Backup)
		c.actions(manifest.Install)
		if b.m.RequiresReboot {
			c.reboot(b.m.Kernel)
		}
		c.actions(manifest.Start)
		c.pairStart("upgrade")
		c.actions(manifest.PostCheck)
		c.check(Between, "check-after")
		c.After = b.afterNode0(h)
		return c.Chain
	})
	if b.m.RequiresReboot {
		b.startGuests(b.part)
	}
	b.o2cb()
	b.appsOn()
	b.haOn()
	b.after()
}

// play begins to play through where guests are.
func (b *builder) play() {
	b.fleet = newFleet(b.inv, &b.o, b.part, b.drains)
	for h := range b.emptied {
		b.fleet.nodes[h].rests = true
	}
}

// stopGuests shuts the guests of hosts down that are rebooted without being emptied.
func (b *builder) stopGuests(hosts []*inventory.Host) {
	b.add(Stage{Name: "stop guests", Kind: Change, Limit: changeAtOnce, Chains: perHost(hosts, func(h *inventory.Host) Chain {
		c := b.chain(h)
		c.vmStop(b.running[h.Name])
		b.plan.Estimate.Stops += len(b.running[h.Name])
		return c.Chain
	})})
}

// startGuests starts them again.
func (b *builder) startGuests(hosts []*inventory.Host) {
	b.add(Stage{Name: "start guests", Kind: Close, Limit: changeAtOnce, Chains: perHost(hosts, func(h *inventory.Host) Chain {
		c := b.chain(h)
		c.vmStart(b.running[h.Name])
		return c.Chain
	})})
}

// checkpoint lets modules write down what they have in memory, on the first host.
func (b *builder) checkpoint() {
	for _, mod := range b.phases[manifest.Checkpoint] {
		b.add(Stage{Name: "checkpoint of " + mod.Name, Kind: Change, Limit: 1, Chains: perHost(b.part, func(h *inventory.Host) Chain {
			c := b.chain(h)
			if mod.On(h) {
				c.action(mod, manifest.Checkpoint)
			}
			return c.Chain
		})})
	}
}

// stopModules stops the modules on all hosts, each when the one before is
// stopped everywhere: applications before the database that they use.
func (b *builder) stopModules() {
	for _, mod := range b.phases[manifest.Stop] {
		b.add(Stage{Name: "stop " + mod.Name, Kind: Change, Limit: quietAtOnce, Chains: perHost(b.part, func(h *inventory.Host) Chain {
			c := b.chain(h)
			c.Marks = true
			if mod.On(h) {
				c.action(mod, manifest.Stop)
			}
			return c.Chain
		})})
	}
}

// afterNode0 lets all hosts wait for node 0: the others join what it has become.
func (b *builder) afterNode0(h *inventory.Host) []string {
	if h == b.part[0] {
		return nil
	}
	return []string{stepID(b.part[0].Name, "check-after")}
}

// turnStages makes the stages in which hosts leave service: hosts, managers with
// the pair's standby one behind them, the switch, the active one, and the
// coordinator's host, as managersLast orders them.
func (b *builder) turnStages(chain func(*inventory.Host) Chain) {
	if b.o.Mode == manifest.Offline || b.m.Engine() != "" { // no host leaves service for an engine
		b.turn("hosts", b.part, chain)
		return
	}
	rest := b.part
	take := func(which func(*inventory.Host) bool) (taken []*inventory.Host) {
		taken, rest = split(rest, which)
		return taken
	}
	var last []*inventory.Host
	if b.m.AllHosts() == nil {
		last = take(b.last)
	}
	active := take(func(h *inventory.Host) bool { return b.inPair(h) && h.Name == b.inv.Pair.Active })
	managers := take(func(h *inventory.Host) bool { return h.Has(inventory.RoleManager) || b.inPair(h) })
	b.turn("hosts", rest, chain)
	b.turn("managers", managers, chain)
	b.pairSwitch(active)
	b.turn("active manager", active, chain)
	b.turn("coordinator", last, chain)
}

// pairSwitch makes the standby manager the active one before the active one
// leaves service.
func (b *builder) pairSwitch(active []*inventory.Host) {
	if len(active) == 0 || len(b.inv.Pair.Switch) == 0 {
		return
	}
	for _, n := range b.inv.Pair.Nodes {
		if h := b.hosts[n]; n != b.inv.Pair.Active && !slices.Contains(b.o.Drop, n) {
			c := b.chain(h)
			c.add(KindPairSwitch, PairArgs{b.inv.Pair.Switch, b.inv.Pair.Status}, timePair, "pair-switch")
			b.add(Stage{Name: "switch over", Kind: Change, Chains: []Chain{c.Chain}})
		}
	}
}

// turn makes one such stage, and gives its hosts their waves: the canary hosts
// are the first, the others follow by as many as may be out of service.
func (b *builder) turn(name string, hosts []*inventory.Host, chain func(*inventory.Host) Chain) {
	limit := b.o.MaxUnavailable.Of(len(b.part))
	b.add(Stage{Name: name, Kind: Turn, Chains: perHost(hosts, func(h *inventory.Host) Chain {
		c := b.watched("turn", h, chain(h))
		c.Wave = b.turns/limit + 1
		if b.o.Canary > 0 {
			c.Wave = 1
			if over := b.turns - b.o.Canary; over >= 0 {
				c.Wave = over/limit + 2
			}
		}
		b.turns++
		b.noteHost(h, &c)
		return c
	})})
}

// spares chooses one host of each group to be emptied first, to which the others
// move their guests in turn: the one with the least to move. It comes to the front.
// A manager, or the host of the management VM or of the coordinator, is chosen only
// where there is no other host, and keeps its place.
func (b *builder) spares() []*inventory.Host {
	best := map[string]*inventory.Host{}
	var groups []string
	for _, h := range b.part {
		old := best[h.Group]
		if !b.drains(h) || old != nil && !b.better(h, old) {
			continue
		}
		if old == nil {
			groups = append(groups, h.Group)
		}
		best[h.Group] = h
	}
	var front, all []*inventory.Host
	for _, g := range groups {
		all = append(all, best[g])
		if b.plain(best[g]) {
			front = append(front, best[g])
		}
	}
	_, others := split(b.part, func(h *inventory.Host) bool { return slices.Contains(front, h) })
	b.part = slices.Concat(front, others)
	return all
}

// plain reports whether a host is nothing but one that runs business guests.
func (b *builder) plain(h *inventory.Host) bool {
	return !h.Has(inventory.RoleManager) && !b.inPair(h) && h.Name != b.o.Last && !b.protects(h)
}

// better reports whether h should be emptied rather than old, which comes before
// it. Who gives an order says with it which host is emptied.
func (b *builder) better(h, old *inventory.Host) bool {
	switch {
	case b.plain(h) != b.plain(old):
		return b.plain(h)
	case len(b.o.Order) > 0 || !b.plain(h):
		return false
	}
	return b.load(h) < b.load(old)
}

// load returns the memory of the running guests of a host, MiB.
func (b *builder) load(h *inventory.Host) (sum int64) {
	for _, v := range b.running[h.Name] {
		sum += v.MemoryMiB
	}
	return sum
}

// haOff switches the platform's HA off. It may find guests missing that only
// move, or start services that were stopped.
func (b *builder) haOff() { b.off("ha off", KindHAOff, b.inv.HA) }

// haOn switches it on again, by whichever manager can.
func (b *builder) haOn() { b.on("ha on", KindHAOn, KindHAOff, b.inv.HA) }

// appsOff stops what uses the service, and appsOn starts it again.
func (b *builder) appsOff() { b.off("stop applications", KindAppsOff, b.inv.Applications) }
func (b *builder) appsOn() {
	b.on("start applications", KindAppsOn, KindAppsOff, b.inv.Applications)
}

// off switches something of the platform off; nil: there is none.
func (b *builder) off(stage, kind string, s *inventory.Switch) {
	if s != nil && len(s.Off) > 0 {
		b.add(Stage{Name: stage, Kind: Change, Chains: []Chain{{Steps: b.switchSteps(kind, s.Off, s)[:1]}}})
	}
}

func (b *builder) on(stage, kind, off string, s *inventory.Switch) {
	if s == nil || len(s.Off) == 0 {
		return
	}
	steps := b.switchSteps(kind, s.On, s)
	for i := range steps {
		steps[i].Restores = []string{b.switchSteps(off, s.Off, s)[0].ID}
	}
	b.add(Stage{Name: stage, Kind: Close, Chains: []Chain{{OneOf: true, Steps: steps}}})
}

// switchSteps returns the step for each manager, the active one first; without
// managers the coordinator does it.
func (b *builder) switchSteps(kind string, run []string, s *inventory.Switch) []Step {
	var managers []*inventory.Host
	for i := range b.inv.Hosts {
		h := &b.inv.Hosts[i]
		if (h.Has(inventory.RoleManager) || b.inPair(h)) && !slices.Contains(b.o.Drop, h.Name) {
			managers = append(managers, h)
		}
	}
	if b.inv.Pair != nil {
		b.moveToEnd(managers, func(h *inventory.Host) bool { return h.Name != b.inv.Pair.Active })
	}
	var out []Step
	for _, h := range managers {
		c := b.chain(h)
		out = append(out, *c.add(kind, SwitchArgs{run, s.Status}, timeSwitch, kind))
	}
	if len(out) == 0 {
		out = append(out, b.clusterStep(kind, SwitchArgs{run, s.Status}, timeSwitch, kind))
	}
	return out
}

// clusterStep is a step of no host: the coordinator does it.
func (b *builder) clusterStep(kind string, args any, timeout time.Duration, word string) Step {
	return Step{Step: job.Step{
		ID: stepID("cluster", word), Kind: kind, Args: b.args.write(args), Timeout: timeout, Idempotent: repeatable(kind),
	}}
}

// after checks the whole cluster.
func (b *builder) after() {
	s := b.clusterStep(KindCheck, b.checkArgs(After), timeCheck, "post-check")
	b.add(Stage{Name: "check", Kind: Quiet, Chains: []Chain{{Steps: []Step{s}}}})
}

// o2cbThreshold lets ocfs2 fence after 120 s without its storage: (120 s / 2) + 1.
const o2cbThreshold = 61

// o2cb raises the heartbeat threshold of ocfs2 when the upgrade leads from before
// E0306 to E0306 or later. The new version takes it online, so it comes when all
// hosts have that.
func (b *builder) o2cb() {
	if !b.between("<E0306", ">=E0306") {
		return
	}
	b.add(Stage{Name: "o2cb threshold", Kind: Change, Limit: quietAtOnce, Chains: perHost(b.part, func(h *inventory.Host) Chain {
		c := b.chain(h)
		if slices.ContainsFunc(h.Pools, func(p inventory.Pool) bool { return p.Kind == "ocfs2" }) {
			c.add(KindO2CB, O2CBArgs{o2cbThreshold}, timeSwitch, "o2cb")
		}
		return c.Chain
	})})
}

// between reports whether the upgrade leads from a CAS version that matches from
// to one that matches to.
func (b *builder) between(from, to string) bool {
	return b.fromCAS(from) && matchesCAS(b.m.Version, to)
}

// fromCAS reports whether the upgrade is one of CAS, from a version that matches.
// 1.0 and 2.0 may be versions of anything; an E number is none but of CAS, and
// bundles of CAS have one.
func (b *builder) fromCAS(pattern string) bool {
	to, err := version.Find(version.CAS, b.m.Version)
	return err == nil && !to.IsFamily() && matchesCAS(b.inv.Version, pattern)
}

// matchesCAS reports whether v is a version of CAS that matches the pattern.
func matchesCAS(v, pattern string) bool {
	p, err := version.ParsePattern(version.CAS, pattern)
	if err != nil {
		return false
	}
	parsed, err := version.Find(version.CAS, v)
	if err != nil {
		return false // of another product: the rule does not apply
	}
	ok, err := p.Match(parsed)
	return err == nil && ok
}

// split parts hosts by a property, both in their order.
func split(hosts []*inventory.Host, which func(*inventory.Host) bool) (yes, no []*inventory.Host) {
	for _, h := range hosts {
		if which(h) {
			yes = append(yes, h)
		} else {
			no = append(no, h)
		}
	}
	return yes, no
}
