package upgrade

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/inventory"
)

// Guests that must not share a host (anti-affinity) are kept on different ones wherever
// they go. An operator who confirms apart-GROUP gives a group up for the run.

// apartRule is the rule of a group, to be confirmed.
func apartRule(group string) string { return "apart-" + group }

// apartOf finds the guests of the groups that are kept.
func apartOf(inv *inventory.Inventory, o *Options) [][]*inventory.VM {
	if len(inv.Apart) == 0 {
		return nil
	}
	named := map[string][]*inventory.VM{}
	for i := range inv.VMs {
		v := &inv.VMs[i]
		for _, name := range []string{v.UUID, v.Place(), v.Name} {
			named[name] = append(named[name], v)
		}
	}
	out := make([][]*inventory.VM, len(inv.Apart))
	for i, g := range inv.Apart {
		if slices.Contains(o.Confirmed, apartRule(g.Name)) {
			continue
		}
		for _, name := range g.VMs {
			for _, v := range named[name] {
				if !slices.Contains(out[i], v) {
					out[i] = append(out[i], v)
				}
			}
		}
	}
	return out
}

// Apart returns the groups that a run keeps, as drains are told of them.
func Apart(inv *inventory.Inventory, o *Options) (out []evacuate.Apart) {
	for i, guests := range apartOf(inv, o) {
		g := evacuate.Apart{Name: inv.Apart[i].Name}
		for _, v := range guests {
			if v.UUID != "" {
				g.UUIDs = append(g.UUIDs, v.UUID)
			}
		}
		if len(g.UUIDs) > 1 {
			out = append(out, g)
		}
	}
	return out
}

// apartFindings look at the groups as they are now.
func (b *builder) apartFindings() {
	kept := apartOf(b.inv, &b.o)
	named := callable(b.inv.VMs)
	for i, g := range b.inv.Apart {
		if b.confirmed(apartRule(g.Name)) {
			b.find(Finding{Rule: apartRule(g.Name), Level: Warn,
				Text: "As confirmed, guests of the group may come to share a host: " + strings.Join(g.VMs, ", ") + "."})
			continue
		}
		for _, name := range g.VMs {
			if !named[name] {
				b.find(Finding{Rule: apartRule(g.Name), Level: Warn, VM: name, Text: "The group names a VM that the inventory does not have."})
			}
		}
		at := map[cluster.HostID]*inventory.VM{}
		for _, v := range kept[i] {
			if other := at[v.Host]; v.Running && other != nil {
				b.find(Finding{Rule: apartRule(g.Name), Level: Warn, Host: v.Host, VM: v.Name,
					Text: fmt.Sprintf("It shares its host with %s already, and must not.", other.Name), Remedy: "move one of them away"})
			} else if v.Running {
				at[v.Host] = v
			}
		}
	}
}

// apart notes in which groups a guest is.
func (f *fleet) keepApart(groups [][]*inventory.VM) {
	f.apart = map[*inventory.VM][]int{}
	for i, guests := range groups {
		for _, v := range guests {
			f.apart[v] = append(f.apart[v], i)
		}
	}
	for _, n := range f.nodes {
		n.fleet, n.apart = f, map[int]int{}
		for _, v := range n.guests {
			for _, g := range f.apart[v] {
				n.apart[g]++
			}
		}
	}
}

// shares reports whether a guest would share the node with one that it is kept apart from.
func (n *node) shares(v *inventory.VM) bool {
	return slices.ContainsFunc(n.fleet.apart[v], func(g int) bool { return n.apart[g] > 0 })
}

// together reports whether two of some guests are to be kept apart.
func (f *fleet) together(guests []*inventory.VM) bool {
	seen := map[int]bool{}
	for _, v := range guests {
		for _, g := range f.apart[v] {
			if seen[g] {
				return true
			}
			seen[g] = true
		}
	}
	return false
}

// keptOut names a group that keeps a guest from every host with room for it, and the hosts
// where its other guests are; "" when it is not the reason.
func (f *fleet) keptOut(n *node, v *inventory.VM) (group int, hosts []cluster.HostID) {
	group = -1
	for _, to := range n.group.nodes {
		if to == n || !to.takes || to.memory < v.MemoryMiB || !to.shares(v) {
			continue
		}
		hosts = append(hosts, to.host.Name)
		for _, g := range f.apart[v] {
			if to.apart[g] > 0 && group < 0 {
				group = g
			}
		}
	}
	return group, hosts
}
