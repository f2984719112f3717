package check

import (
	"cmp"
	"fmt"
	"slices"

	"holdfast/internal/inventory"
)

// size is what a guest needs or a host has.
type size struct {
	mem  int64 // MiB
	cpus int   // of a host: unbounded when it is negative
}

func (have size) holds(need size) bool {
	return have.mem >= need.mem && (have.cpus < 0 || have.cpus >= need.cpus)
}

func (have *size) take(need size) {
	have.mem -= need.mem
	if have.cpus >= 0 {
		have.cpus = max(0, have.cpus-need.cpus)
	}
}

// bin is a host that takes guests.
type bin struct {
	host *inventory.Host
	all  size
	free size
}

// pack is a group of hosts between which guests move.
type pack struct {
	s    *scene
	bins []bin // the most free memory first
	tmp  []size
}

// checkCapacity asks of each host whether it can be emptied. Two bounds prove that
// it can not, however the guests are placed; that first fit decreasing finds
// places proves that it can. Between the two, others may have to move first.
func checkCapacity(s *scene) []Finding {
	if !s.empties() {
		return nil
	}
	groups := map[string][]*inventory.Host{}
	for i := range s.inv.Hosts {
		if h := &s.inv.Hosts[i]; h.Has(inventory.RoleHost) && !h.Down {
			groups[h.Group] = append(groups[h.Group], h)
		}
	}
	var fs []Finding
	for _, g := range keys(groups) {
		fs = append(fs, newPack(s, groups[g]).group(g, groups[g])...)
	}
	return fs
}

func newPack(s *scene, hosts []*inventory.Host) *pack {
	p := &pack{s: s}
	for _, h := range hosts {
		if h.Maintenance {
			continue
		}
		b := bin{host: h, all: size{h.MemoryMiB, h.CPUs}}
		if h.CPUs == 0 {
			b.all.cpus = -1
		}
		b.free = b.all
		for _, vm := range s.vms[h.Name] {
			if vm.Running {
				b.free.take(size{vm.MemoryMiB, vm.CPUs})
			}
		}
		p.bins = append(p.bins, b)
	}
	slices.SortStableFunc(p.bins, func(a, b bin) int {
		return cmp.Or(cmp.Compare(b.free.mem, a.free.mem), cmp.Compare(a.host.Name, b.host.Name))
	})
	p.tmp = make([]size, len(p.bins))
	return p
}

// group judges the hosts of a group.
func (p *pack) group(name string, hosts []*inventory.Host) []Finding {
	var fs []Finding
	var tight []string
	can := 0
	for _, h := range hosts {
		movers, left := p.movers(h)
		if left || p.s.When == Between && p.s.done(h.Name) {
			continue // left out, which the check "migratable" says; or emptied before
		}
		why, ever := p.fit(h, movers)
		switch {
		case why == "":
			can++
		case ever:
			tight = append(tight, string(h.Name))
			fs = append(fs, onHost(h.Name, Warn, "first move guests of the other hosts onto fewer hosts, or wait "+
				"until another host is empty", "can not be emptied with the present placement of guests: %s", why))
		default:
			fs = append(fs, onHost(h.Name, Fail, "shut guests down, choose a policy for those that can not move live "+
				"(--policy VM=stop), or add a host to the group", "can not be emptied with any placement of guests: %s", why))
		}
	}
	if can == 0 && len(tight) > 0 {
		fs = append(fs, Finding{Scope: ScopeGroup, Where: name, Level: Fail, Remedy: "shut guests down, or add a host to the group",
			Text: fmt.Sprintf("no host of the group %s can be emptied with the present placement of guests, so the "+
				"upgrade can not begin with any of them", groupName(name))})
	}
	return fs
}

func groupName(name string) string {
	if name == "" {
		return "(all hosts)"
	}
	return name
}

// movers returns what must leave a host, the largest first; left is true when the
// host is left out because of one of them.
func (p *pack) movers(h *inventory.Host) (movers []*inventory.VM, left bool) {
	for _, vm := range p.s.vms[h.Name] {
		if !vm.Running {
			continue
		}
		fixed := len(p.s.fixed(vm)) > 0
		switch policy := p.s.policy(vm); {
		case fixed && policy == inventory.PolicySkip:
			return nil, true
		case fixed && policy == inventory.PolicyStop:
		default:
			movers = append(movers, vm)
		}
	}
	slices.SortStableFunc(movers, func(a, b *inventory.VM) int {
		return cmp.Or(cmp.Compare(b.MemoryMiB, a.MemoryMiB), cmp.Compare(b.CPUs, a.CPUs), cmp.Compare(a.Name, b.Name))
	})
	return movers, false
}

// policy is what becomes of a VM that can not move live.
func (s *scene) policy(vm *inventory.VM) inventory.Policy {
	return cmp.Or(vm.PolicyFor(s.Policies), vm.Policy, s.Policy, inventory.PolicyAsk)
}

// fit returns "" when the guests find places on the other hosts. Else it says what
// is missing, and whether another placement of all guests might help.
func (p *pack) fit(h *inventory.Host, movers []*inventory.VM) (why string, ever bool) {
	if len(movers) == 0 {
		return "", true
	}
	if why := p.bound(h, movers); why != "" {
		return why, false
	}
	for i := range p.bins {
		p.tmp[i] = p.bins[i].free
	}
	for _, vm := range movers {
		need := size{vm.MemoryMiB, vm.CPUs}
		i := 0
		for i < len(p.bins) && (p.bins[i].host == h || !p.tmp[i].holds(need)) {
			i++
		}
		if i == len(p.bins) {
			return fmt.Sprintf("%s (%d MiB, %d CPUs) finds no place after the larger guests are placed", vm.Name, vm.MemoryMiB, vm.CPUs), true
		}
		p.tmp[i].take(need)
	}
	return "", true
}

// bound says why no placement can work: the others are too small in all, or each
// of them for one guest.
func (p *pack) bound(h *inventory.Host, movers []*inventory.VM) string {
	var free, largest, need size
	for i := range p.bins {
		b := &p.bins[i]
		if b.host == h {
			continue
		}
		free.mem += max(0, b.free.mem)
		largest.mem = max(largest.mem, b.all.mem)
		if b.all.cpus < 0 || free.cpus < 0 {
			free.cpus, largest.cpus = -1, -1
			continue
		}
		free.cpus += b.free.cpus
		largest.cpus = max(largest.cpus, b.all.cpus)
	}
	if !slices.ContainsFunc(p.bins, func(b bin) bool { return b.host != h }) {
		return "there is no other host that takes guests"
	}
	for _, vm := range movers {
		need.mem += vm.MemoryMiB
		need.cpus += vm.CPUs
		if !largest.holds(size{vm.MemoryMiB, vm.CPUs}) {
			return fmt.Sprintf("%s (%d MiB, %d CPUs) is larger than every other host", vm.Name, vm.MemoryMiB, vm.CPUs)
		}
	}
	if !free.holds(need) {
		return fmt.Sprintf("its guests need %d MiB and %d CPUs, the others have %d MiB%s free in all", need.mem,
			need.cpus, free.mem, freeCPUs(free))
	}
	return ""
}

func freeCPUs(free size) string {
	if free.cpus < 0 {
		return ""
	}
	return fmt.Sprintf(" and %d CPUs", free.cpus)
}
