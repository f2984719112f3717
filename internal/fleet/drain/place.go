package drain

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/report"
)

// room is how much memory each host has left for guests, as far as it may take
// them.
type room map[cluster.HostID]int64

// roomOf counts what the hosts of from's group have left, MiB: hosts that are up,
// take guests and are not from itself. sent are guests, by UUID, that were moved to a
// host and may not be in its record yet.
func roomOf(from cluster.HostID, seen map[cluster.HostID]report.Seen, up func(report.Seen) bool, sent map[string]sentTo) room {
	r := room{}
	group := seen[from].Host.Group
	for name, s := range seen {
		if name == from || s.Host.Maintenance || s.Unobservable || !up(s) || s.Host.Group != group || !s.Host.Has(inventory.RoleHost) {
			continue
		}
		free := s.Host.MemoryMiB
		for _, vm := range s.VMs {
			if vm.Running {
				free -= vm.MemoryMiB
			}
		}
		for uuid, t := range sent {
			listed := slices.ContainsFunc(s.VMs, func(x inventory.VM) bool { return x.UUID == uuid && x.Running })
			if t.host == name && !listed {
				free -= t.memory
			}
		}
		r[name] = free
	}
	return r
}

// without takes out hosts that have another guest of a guest's name, even one that is
// off: libvirt takes no second one. It says for a message which these are.
func (r room) without(uuid, name string, seen map[cluster.HostID]report.Seen) string {
	var twins []string
	for h := range r {
		if slices.ContainsFunc(seen[h].VMs, func(x inventory.VM) bool { return x.Name == name && x.UUID != uuid }) {
			delete(r, h)
			twins = append(twins, string(h))
		}
	}
	if len(twins) == 0 {
		return ""
	}
	slices.Sort(twins)
	return "; another guest of that name is on " + strings.Join(twins, ", ")
}

// sentTo is where a guest was sent.
type sentTo struct {
	host   cluster.HostID
	memory int64 // MiB
}

// choose picks the host for a guest: the planned one if it can take it, else the
// one with the most room. not are hosts that have refused it.
func (r room) choose(vm string, memory int64, planned cluster.HostID, not []cluster.HostID) (cluster.HostID, error) {
	fits := func(h cluster.HostID) bool {
		free, ok := r[h]
		return ok && free >= memory && !slices.Contains(not, h)
	}
	if fits(planned) {
		return planned, nil
	}
	var best cluster.HostID
	for h, free := range r {
		if fits(h) && (best == "" || free > r[best] || free == r[best] && inventory.Compare(string(h), string(best)) < 0) {
			best = h
		}
	}
	if best == "" {
		return "", fmt.Errorf("no host has %d MiB for %s: %s", memory, vm, r.say(not))
	}
	return best, nil
}

// say tells why no host takes a guest.
func (r room) say(not []cluster.HostID) string {
	var names []cluster.HostID
	for h := range r {
		names = append(names, h)
	}
	if len(names) == 0 {
		return "no other host of its group is up and takes guests"
	}
	slices.SortFunc(names, func(a, b cluster.HostID) int { return inventory.Compare(string(a), string(b)) })
	text := ""
	for _, h := range names {
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf("%s has %d MiB free", h, max(0, r[h]))
		if slices.Contains(not, h) {
			text += " and has refused it"
		}
	}
	return text
}
