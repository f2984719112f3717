package upgrade

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
)

// versionOf returns what is installed on a host, or was before the upgrade that
// is rolled back or committed.
func (b *builder) versionOf(h *inventory.Host) string {
	return cmp.Or(b.was[h.Name], h.Version, b.inv.Version)
}

// choose decides which hosts take part, and in which order their turns come.
func (b *builder) choose() {
	skip := b.skipped()
	for _, h := range b.ordered() {
		if why := b.whyLeft(h, skip); why.IsZero() {
			b.part = append(b.part, h)
		} else {
			b.plan.leave(h.Name, why)
		}
	}
	b.byNode()
	if b.o.Mode != manifest.Offline {
		if len(b.o.Order) == 0 && b.o.MaxUnavailable.Of(len(b.part)) > 1 {
			b.mixGroups()
		}
		b.managersLast()
	} else if len(b.part) > 0 {
		// Node 0 comes first whatever else is said.
		b.moveToEnd(b.part[1:], func(h *inventory.Host) bool { return h.Name == b.o.Last })
	}
	if len(b.part) == 0 {
		b.block("nothing-to-do", "", "No host of the inventory needs this upgrade.", "look at the hosts that are left out, and the reasons")
	}
}

// ordered returns the hosts as the operator wants them, then as listed.
func (b *builder) ordered() []*inventory.Host {
	out := make([]*inventory.Host, 0, len(b.inv.Hosts))
	named := make(map[cluster.HostID]bool, len(b.o.Order))
	for _, n := range b.o.Order {
		out, named[n] = append(out, b.hosts[n]), true
	}
	for i := range b.inv.Hosts {
		if h := &b.inv.Hosts[i]; !named[h.Name] {
			out = append(out, h)
		}
	}
	return out
}

// whyLeft says why a host does not take part; nothing when it does.
func (b *builder) whyLeft(h *inventory.Host, skip map[cluster.HostID]string) reason.Reason {
	switch {
	case slices.Contains(b.o.Drop, h.Name):
		return reason.DroppedByOperator.With()
	case skip[h.Name] != "":
		return reason.SkippedForVM.With(skip[h.Name])
	case b.versionOf(h) == b.m.Version && (b.m.Kernel == "" || h.Kernel == "" || h.Kernel == b.m.Kernel):
		return reason.HasVersion.With(b.m.Version)
	case !b.m.RequiresReboot && !slices.ContainsFunc(b.m.Modules, func(mod manifest.Module) bool { return mod.On(h) && !mod.FilesOnly() }):
		return reason.NoModule.With()
	}
	return reason.Reason{}
}

// skipped returns the hosts that are left out because of a VM, with that VM.
func (b *builder) skipped() map[cluster.HostID]string {
	out := map[cluster.HostID]string{}
	if !b.empties() {
		return out
	}
	for i := range b.inv.VMs {
		v := &b.inv.VMs[i]
		if p, fixed := b.policy(v); v.Running && fixed && p == inventory.PolicySkip && out[v.Host] == "" {
			out[v.Host] = v.Name
			b.find(Finding{
				Rule: "skip-host", Level: Warn, Host: v.Host, VM: v.Name,
				Text: fmt.Sprintf("The host is left out: VM %s can not move (%s), and its policy is to skip its host.", v.Name,
					strings.Join(b.fixed(v), "; ")),
				Remedy: "choose another policy for it, or upgrade the host in a run of its own",
			})
		}
	}
	return out
}

// managersLast puts the host of the management VM behind the others, so that it
// moves to one that is done and does not move again; managers behind that, the pair
// behind other managers with the active one last, and the coordinator's host behind
// all, unless something of these decides where it comes. For a program that changes all hosts, managers
// come last whoever coordinates, as its guide says.
func (b *builder) managersLast() {
	b.moveToEnd(b.part, func(h *inventory.Host) bool { return b.protects(h) && !slices.Contains(b.o.Order, h.Name) })
	if b.m.AllHosts() != nil {
		b.moveToEnd(b.part, b.last)
	}
	b.moveToEnd(b.part, func(h *inventory.Host) bool { return h.Has(inventory.RoleManager) })
	b.moveToEnd(b.part, func(h *inventory.Host) bool { return b.inPair(h) })
	b.moveToEnd(b.part, func(h *inventory.Host) bool { return b.inPair(h) && h.Name == b.inv.Pair.Active })
	if b.m.AllHosts() == nil {
		b.moveToEnd(b.part, b.last)
	}
}

// last reports whether h comes behind all others: it is the coordinator's host, and neither in a
// pair nor the only refuge of what the cluster runs itself, which would then move there and back.
func (b *builder) last(h *inventory.Host) bool {
	return h.Name == b.o.Last && !b.inPair(h) && !b.refuge(h)
}

// refuge reports whether h is the only host to which another one's protected guest can go.
func (b *builder) refuge(h *inventory.Host) bool {
	from := slices.IndexFunc(b.inv.Hosts, func(x inventory.Host) bool { return x.Name != h.Name && x.Group == h.Group && b.protects(&x) })
	return from >= 0 && !slices.ContainsFunc(b.inv.Hosts, func(x inventory.Host) bool {
		return x.Name != h.Name && x.Name != b.inv.Hosts[from].Name && x.Group == h.Group && b.o.takes(&x)
	})
}

// mixGroups lets hosts of several groups take turns: those that are out of
// service at once then do not need the same room for their guests. Each group keeps
// its order and is spread evenly.
func (b *builder) mixGroups() {
	size, seen := map[string]int{}, map[string]int{}
	for _, h := range b.part {
		size[h.Group]++
	}
	at := make(map[*inventory.Host]float64, len(b.part))
	for _, h := range b.part {
		at[h] = (float64(seen[h.Group]) + 0.5) / float64(size[h.Group])
		seen[h.Group]++
	}
	slices.SortStableFunc(b.part, func(x, y *inventory.Host) int { return cmp.Compare(at[x], at[y]) })
}

func (b *builder) moveToEnd(hosts []*inventory.Host, which func(*inventory.Host) bool) {
	slices.SortStableFunc(hosts, func(x, y *inventory.Host) int { return inventory.CompareBools(which(x), which(y)) })
}

func (b *builder) inPair(h *inventory.Host) bool {
	return b.inv.Pair != nil && slices.Contains(b.inv.Pair.Nodes, h.Name)
}

// empties reports whether hosts are emptied before they are changed.
func (b *builder) empties() bool {
	return b.o.Mode != manifest.Offline && (b.m.RequiresReboot || !b.o.KeepGuests)
}

// drains reports whether a host is emptied for its turn.
func (b *builder) drains(h *inventory.Host) bool {
	return b.empties() && !b.stays[h.Name] && (h.Has(inventory.RoleHost) || len(b.running[h.Name]) > 0)
}

// protects reports whether the management VM runs on a host.
func (b *builder) protects(h *inventory.Host) bool {
	return slices.ContainsFunc(b.running[h.Name], func(v *inventory.VM) bool { return v.Protected })
}

// policy returns what becomes of a VM when its host is emptied, and whether it
// can not move live.
func (b *builder) policy(v *inventory.VM) (p inventory.Policy, fixed bool) {
	if len(v.Fixed) == 0 && b.mayHang(v) == "" {
		return "", false
	}
	return cmp.Or(v.PolicyFor(b.o.Policies), v.Policy, b.o.DefaultPolicy), true
}

// fixed returns why a VM can not move live.
func (b *builder) fixed(v *inventory.VM) []string {
	out := slices.Clone(v.Fixed)
	if why := b.mayHang(v); why != "" {
		out = append(out, why)
	}
	return out
}
