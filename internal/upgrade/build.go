package upgrade

import (
	"cmp"
	"fmt"
	"slices"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
)

// builder makes one plan.
type builder struct {
	m      *manifest.Manifest
	inv    *inventory.Inventory
	o      Options
	plan   Plan
	hosts  map[cluster.HostID]*inventory.Host
	phases map[manifest.Phase][]*manifest.Module // modules in the order of a phase
	args   *argsWriter
	once   map[string]cluster.HostID // by module and phase: the host that does what is done once

	vms     map[string][]*inventory.VM         // by name: guests of several hosts may have one
	alone   map[cluster.HostID]bool            // no other host takes its guests
	was     map[cluster.HostID]string          // version before the upgrade that is rolled back or committed
	stays   map[cluster.HostID]bool            // it needs not be emptied
	emptied map[cluster.HostID]bool            // it takes no guests until its turn is over
	lost    map[cluster.HostID]bool            // for good, an operator says
	running map[cluster.HostID][]*inventory.VM // running guests
	part    []*inventory.Host                  // hosts that the plan changes, in the order of their turns
	fleet   *fleet                             // nil: guests stay where they are
	left    map[*inventory.Host]*leave         // what leaves a host
	turns   int                                // turns given out
	runs    map[string]string                  // by HOST/MODULE: the run that its backups are of, if it is another one
	again   *again                             // nil: the run is the upgrade's first
}

// Build plans an upgrade. The error is about input that makes no sense; what
// speaks against the upgrade is in the plan's findings. The manifest must have
// passed its Check. The same input gives the same plan.
func Build(m manifest.Manifest, inv inventory.Inventory, o Options) (Plan, error) {
	return build(&m, &inv, o, nil)
}

// build plans an upgrade that begins, or one that goes on.
func build(m *manifest.Manifest, inv *inventory.Inventory, o Options, earlier *again) (Plan, error) {
	o.Mode = cmp.Or(o.Mode, m.DefaultMode())
	o.fill()
	if m.Engine() != "" {
		o.KeepGuests = true // the engine is upgraded beside them
	}
	b, err := newBuilder(m, inv, o)
	if err == nil {
		err = o.Check(m, inv)
	}
	if err != nil {
		return Plan{}, fmt.Errorf("plan the upgrade: %w", err)
	}
	b.plan.Purpose, b.plan.Begin = ForUpgrade, Status{Cluster: Normal, Retained: inv.Kept}
	if earlier != nil {
		earlier.begin(b)
	}
	b.findings()
	if m.Cycle() != nil {
		return b.plan, nil // there is no order in which it could be done
	}
	b.choose()
	b.plan.From = b.from()
	b.setDoneAside()
	b.placeFindings()
	switch o.Mode {
	case manifest.Offline:
		b.offline()
	case manifest.Reboot:
		b.softwareThenReboot()
	default:
		b.rolling()
	}
	return b.finish()
}

func newBuilder(m *manifest.Manifest, inv *inventory.Inventory, o Options) (*builder, error) {
	b := &builder{
		m: m, inv: inv, o: o, hosts: make(map[cluster.HostID]*inventory.Host, len(inv.Hosts)),
		phases: map[manifest.Phase][]*manifest.Module{}, once: map[string]cluster.HostID{}, args: newArgsWriter(),
		running: map[cluster.HostID][]*inventory.VM{}, vms: make(map[string][]*inventory.VM, len(inv.VMs)), alone: map[cluster.HostID]bool{},
		left: map[*inventory.Host]*leave{}, was: map[cluster.HostID]string{}, stays: map[cluster.HostID]bool{},
		emptied: map[cluster.HostID]bool{}, lost: map[cluster.HostID]bool{},
		runs: map[string]string{},
	}
	b.plan = Plan{Format: planFormat, Bundle: m.Name, From: inv.Version, To: m.Version, Options: o}
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		if h.Name == "" || b.hosts[h.Name] != nil {
			return nil, fmt.Errorf("inventory: host %q: want a name that no other host has", h.Name)
		}
		b.hosts[h.Name] = h
		if h.Member {
			b.plan.Members = append(b.plan.Members, h.Name)
		}
	}
	if err := b.checkInventory(); err != nil {
		return nil, err
	}
	if m.Cycle() == nil {
		for _, p := range manifest.Phases() {
			b.phases[p] = m.InPhase(p)
		}
	}
	return b, nil
}

// checkInventory looks for names that lead nowhere. A VM is known by its UUID, or else
// by its host and name: on one host, libvirt gives a name to one VM only.
func (b *builder) checkInventory() error {
	known := make(map[string]string, len(b.inv.VMs)) // names, by UUID
	for i := range b.inv.VMs {
		v := &b.inv.VMs[i]
		switch {
		case v.Name == "" || slices.ContainsFunc(b.vms[v.Name], func(o *inventory.VM) bool { return o.Host == v.Host }):
			return fmt.Errorf("inventory: VM %q: want a name that no other VM of host %q has", v.Name, v.Host)
		case v.UUID != "" && known[v.UUID] != "":
			return fmt.Errorf("inventory: VM %q: VM %q has the same UUID %s", v.Name, known[v.UUID], v.UUID)
		case b.hosts[v.Host] == nil:
			return fmt.Errorf("inventory: VM %q: host %q is not in the inventory", v.Name, v.Host)
		case v.MemoryMiB < 0 || v.CPUs < 0:
			return fmt.Errorf("inventory: VM %q: memory %d MiB, %d vCPUs: want 0 or more", v.Name, v.MemoryMiB, v.CPUs)
		case v.Policy != "" && !knownPolicy(v.Policy):
			return fmt.Errorf("inventory: VM %q: policy %q: want ask, stop, cold or skip", v.Name, v.Policy)
		}
		b.vms[v.Name], known[v.UUID] = append(b.vms[v.Name], v), v.Name
		if v.Running {
			b.running[v.Host] = append(b.running[v.Host], v)
		}
	}
	if p := b.inv.Pair; p != nil {
		if len(p.Nodes) != 2 || p.Nodes[0] == p.Nodes[1] || !slices.Contains(p.Nodes, p.Active) {
			return fmt.Errorf("inventory: pair: want two nodes, one of them active")
		}
		for _, n := range p.Nodes {
			if b.hosts[n] == nil {
				return fmt.Errorf("inventory: pair: host %q is not in the inventory", n)
			}
		}
	}
	return nil
}

// finish adds what can be told when all is there.
func (b *builder) finish() (Plan, error) {
	if b.args.err != nil {
		return Plan{}, fmt.Errorf("plan the %s: %w", b.plan.Purpose, b.args.err)
	}
	b.memberFindings()
	b.estimate()
	steps := b.plan.Steps()
	b.tooBig(steps)
	b.plan.Estimate.Steps = len(steps)
	if err := job.CheckSteps(steps); err != nil {
		return Plan{}, fmt.Errorf("plan the %s: %w", b.plan.Purpose, err)
	}
	return b.plan, nil
}

// tooBig looks for steps that the engine would not take.
func (b *builder) tooBig(steps []job.Step) {
	for _, s := range steps {
		if n := len(s.Args); n > job.MaxArgs {
			b.block("too-big", s.Host, fmt.Sprintf("Step %s has arguments of %d bytes, at most %d are possible.", s.ID, n, job.MaxArgs),
				"move guests off the host by hand first, name fewer targets, or shorten the settings of backups")
		}
	}
}

// add appends a stage, unless it is empty. Chains without steps are left out.
func (b *builder) add(s Stage) {
	s.Chains = slices.DeleteFunc(s.Chains, func(c Chain) bool { return len(c.Steps) == 0 })
	if len(s.Chains) > 0 {
		b.plan.Stages = append(b.plan.Stages, s)
	}
}

// perHost makes a chain for each host.
func perHost(hosts []*inventory.Host, chain func(*inventory.Host) Chain) []Chain {
	out := make([]Chain, 0, len(hosts))
	for _, h := range hosts {
		out = append(out, chain(h))
	}
	return out
}
