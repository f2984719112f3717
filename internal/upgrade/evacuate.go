package upgrade

import (
	"cmp"
	"fmt"
	"slices"
	"sort"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/inventory"
)

// fleet plays through where guests are while hosts leave service one after the
// other. Hosts are dealt with in the order of their turns; up to window of them
// are out of service at once, in any of the ways that the rules of Planner allow.
// So a guest goes to a host that is done or comes much later if it can, and else
// the plan says who waits for whom.
type fleet struct {
	nodes  map[cluster.HostID]*node
	groups map[string]*group
	window int
	back   bool                    // guests return when their host is done
	apart  map[*inventory.VM][]int // groups of guests that must not share a host, by their places
}

// group is hosts between which guests move: first those without a turn, then
// the others in the order of their turns.
type group struct {
	nodes []*node
	room  *rooms // MiB
}

// node is a host as the play stands.
type node struct {
	host   *inventory.Host
	group  *group
	index  int // in the group
	turn   int // counts from 0; noTurn: it never leaves service
	takes  bool
	rests  bool  // it takes no guests before its turn
	memory int64 // MiB free
	cpus   int64 // free
	guests []*inventory.VM
	twins  map[string]bool // names that several VMs have, of all nodes
	names  map[string]bool // those of them that are taken here: libvirt gives a name once
	after  []string        // steps that must be over before its turn
	fleet  *fleet
	apart  map[int]int // guests here of each group that must not share a host
	visits []visit     // guests that will return
	gone   []int       // turns of hosts whose guests were here and have returned
	forgot int         // entries that gone has lost at its front
}

// visit is a guest that is at a host for the time of another host's turn.
type visit struct {
	turn  int // of the guest's own host
	guest *inventory.VM
	knows int // entries of gone that its host waits for, the lost ones counted
}

// noTurn is before every turn.
const noTurn = -1 << 30

// manyCPUs is the number of CPUs of a host that does not bound them.
const manyCPUs = 1 << 40

// newFleet makes the play. order are the hosts that have a turn; those that are
// not emptied for it serve guests all the time.
func newFleet(inv *inventory.Inventory, o *Options, order []*inventory.Host, emptied func(*inventory.Host) bool) *fleet {
	f := &fleet{
		nodes: make(map[cluster.HostID]*node, len(inv.Hosts)), groups: map[string]*group{},
		window: o.MaxUnavailable.Of(len(order)), back: o.MoveBack,
	}
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		n := &node{host: h, turn: noTurn, takes: o.takes(h), memory: h.MemoryMiB, cpus: manyCPUs}
		if h.CPUs > 0 {
			n.cpus = int64(h.CPUs)
		}
		f.nodes[h.Name] = n
	}
	for i, h := range order {
		if emptied(h) {
			f.nodes[h.Name].turn = i
		}
	}
	for i := range inv.VMs {
		if v := &inv.VMs[i]; v.Running {
			n := f.nodes[v.Host]
			n.guests = append(n.guests, v)
			n.memory -= v.MemoryMiB
			n.cpus -= int64(v.CPUs)
		}
	}
	f.keepApart(apartOf(inv, o))
	f.name(inv)
	f.group(inv)
	return f
}

// name finds the names that several VMs have, and notes where they are. What is off
// has its name, too.
func (f *fleet) name(inv *inventory.Inventory) {
	twins := map[string]bool{}
	for _, n := range f.nodes {
		n.twins, n.names = twins, map[string]bool{}
	}
	first := make(map[string]*inventory.VM, len(inv.VMs))
	for i := range inv.VMs {
		v := &inv.VMs[i]
		other := first[v.Name]
		if other == nil {
			first[v.Name] = v
			continue
		}
		twins[v.Name] = true
		f.nodes[v.Host].names[v.Name], f.nodes[other.Host].names[v.Name] = true, true
	}
}

func (f *fleet) group(inv *inventory.Inventory) {
	for i := range inv.Hosts {
		n := f.nodes[inv.Hosts[i].Name]
		g := f.groups[n.host.Group]
		if g == nil {
			g = &group{}
			f.groups[n.host.Group] = g
		}
		n.group = g
		g.nodes = append(g.nodes, n)
	}
	for _, g := range f.groups {
		slices.SortStableFunc(g.nodes, func(a, b *node) int { return cmp.Compare(a.turn, b.turn) })
		g.room = newRooms(len(g.nodes))
		for i, n := range g.nodes {
			n.index = i
			n.note()
		}
	}
}

// note puts the node's room where it is found.
func (n *node) note() {
	if n.takes {
		n.group.room.set(n.index, n.memory)
	}
}

// leave is what becomes of the guests of a host that is emptied.
type leave struct {
	moves  []evacuate.Move
	stops  []*inventory.VM // shut down, and started again on the same host
	fixed  []*inventory.VM // nothing may be done with them
	stuck  []*inventory.VM // no host has room
	room   int64           // MiB, the largest room that is left when some are stuck
	after  []string        // steps that must be over before the host is emptied
	memory int64           // MiB that move
}

// empty lets the guests of a host leave. policy tells what becomes of a guest
// that can not move live, and whether it is one.
func (f *fleet) empty(h *inventory.Host, policy func(*inventory.VM) (p inventory.Policy, fixed bool)) leave {
	n := f.nodes[h.Name]
	var l leave
	var out []*inventory.VM
	for _, v := range n.guests {
		p, fixed := policy(v)
		switch {
		case !fixed || p == inventory.PolicyCold:
			out = append(out, v)
		case p == inventory.PolicyStop:
			l.stops = append(l.stops, v)
		default:
			l.fixed = append(l.fixed, v)
		}
	}
	// The largest first: small ones still find a place when large ones have theirs.
	slices.SortStableFunc(out, func(a, b *inventory.VM) int { return cmp.Compare(b.MemoryMiB, a.MemoryMiB) })
	if f.back {
		f.settle(n, n.turn-2*f.window)
	}
	to := f.place(n, out)
	if f.back && slices.Contains(to, nil) {
		f.unbook(out, to)
		f.settle(n, n.turn-1) // it waits until all visitors have returned
		to = f.place(n, out)
	}
	for i, v := range out {
		if to[i] == nil {
			l.stuck, l.room = append(l.stuck, v), f.largestRoom(n)
			continue
		}
		how := evacuate.Live
		if _, fixed := policy(v); fixed {
			how = evacuate.Cold
		} else if v.Protected {
			how = evacuate.Protected
		}
		l.moves = append(l.moves, evacuate.Move{VM: v.Name, UUID: v.UUID, To: to[i].host.Name, How: how, MemoryMiB: v.MemoryMiB})
		l.memory += v.MemoryMiB
		f.move(n, to[i], v)
	}
	slices.Sort(n.after)
	l.after = slices.Clone(slices.Compact(n.after))
	return l
}

// place books room for the guests of n, nil for those that find none: on one
// host for all, else on the emptiest ones, else wherever they fit.
func (f *fleet) place(n *node, guests []*inventory.VM) []*node {
	to := make([]*node, len(guests))
	if one := f.oneForAll(n, guests); one != nil {
		for i, v := range guests {
			to[i] = one
			one.book(v, 1)
		}
		return to
	}
	order := make([]int, len(guests))
	for i := range order {
		order[i] = i
	}
	if f.bookAll(n, guests, to, order, false) {
		return to
	}
	// Those that are kept apart have the least choice.
	bound := slices.Clone(order)
	slices.SortStableFunc(bound, func(a, b int) int { return cmp.Compare(len(f.apart[guests[b]]), len(f.apart[guests[a]])) })
	for _, pack := range []bool{false, true} {
		if slices.Equal(bound, order) {
			break
		}
		f.unbook(guests, to)
		if f.bookAll(n, guests, to, bound, pack) {
			return to
		}
	}
	f.unbook(guests, to)
	f.bookAll(n, guests, to, order, true)
	return to
}

// bookAll books room for guests in an order, and reports whether all have found it.
func (f *fleet) bookAll(n *node, guests []*inventory.VM, to []*node, order []int, pack bool) bool {
	whole := true
	for _, i := range order {
		if to[i] = f.target(n, guests[i], pack); to[i] == nil {
			whole = false
			continue
		}
		to[i].book(guests[i], 1)
	}
	return whole
}

// unbook gives the room back.
func (f *fleet) unbook(guests []*inventory.VM, to []*node) {
	for i, v := range guests {
		if to[i] != nil {
			to[i].book(v, -1)
		}
	}
}

// book takes room and the name for a guest, or gives them back.
func (n *node) book(v *inventory.VM, times int64) {
	n.memory -= times * v.MemoryMiB
	n.cpus -= times * int64(v.CPUs)
	if n.twins[v.Name] {
		n.names[v.Name] = times > 0
	}
	for _, g := range n.fleet.apart[v] {
		n.apart[g] += int(times)
	}
	n.note()
}

// move lets a guest go from n to t, where its room is booked, and says who waits
// for whom because of it.
func (f *fleet) move(n, t *node, v *inventory.VM) {
	for _, turn := range t.gone {
		n.wait(f.doneID(turn, n.group)) // the room is free since that host's guests have returned
	}
	if f.back {
		t.visits = append(t.visits, visit{n.turn, v, t.forgot + len(t.gone)})
	} else {
		n.book(v, -1)
		n.guests = slices.DeleteFunc(n.guests, func(g *inventory.VM) bool { return g == v })
		t.guests = append(t.guests, v)
	}
	switch {
	case t.turn == noTurn:
	case t.turn < n.turn: // it must be back in service before
		n.wait(readyID(t.host.Name))
	case f.back: // it may leave service when its visitors have left
		t.wait(backID(n.host.Name))
	default: // it takes the guest along when it is emptied itself
		t.wait(drainID(n.host.Name))
	}
}

func (n *node) wait(step string) {
	if step != "" && !slices.Contains(n.after, step) {
		n.after = append(n.after, step)
	}
}

// doneID returns the last step of the host with that turn.
func (f *fleet) doneID(turn int, g *group) string {
	if i := g.at(turn); i < len(g.nodes) && g.nodes[i].turn == turn {
		return backID(g.nodes[i].host.Name)
	}
	return ""
}

// settle lets visitors return whose hosts had their turns until the given one.
// That this is long before n only saves waiting: who takes their place waits for
// their return.
func (f *fleet) settle(n *node, until int) {
	for _, t := range n.group.nodes {
		stay := t.visits[:0]
		for _, v := range t.visits {
			if v.turn > until {
				stay = append(stay, v)
				continue
			}
			t.book(v.guest, -1)
			// Who waits for v's host waits for all that v's host has waited for.
			if lost := v.knows - t.forgot; lost > 0 {
				t.gone, t.forgot = t.gone[lost:], v.knows
			}
			if !slices.Contains(t.gone, v.turn) {
				t.gone = append(t.gone, v.turn)
			}
		}
		t.visits = stay
	}
}

// at returns the place in the group from which on turns are turn or later.
func (g *group) at(turn int) int {
	return sort.Search(len(g.nodes), func(i int) bool { return g.nodes[i].turn >= turn })
}

// tier is a range of places in a group.
type tier struct{ lo, hi int }

// tiers returns where guests of n look for room, the best first: hosts that are
// done long before n begins; hosts whose turn comes so late that they do not
// wait for n; hosts that are done when n begins, or will be if it waits; hosts that
// wait for n.
func (f *fleet) tiers(n *node) []tier {
	g := n.group
	lag := f.window
	if lag > 1 {
		lag *= 2 // or each host would wait for one certain host
	}
	long, short := g.at(n.turn-lag+1), g.at(n.turn-f.window+1)
	late := max(g.at(n.turn+f.window), n.index+1)
	return []tier{{0, long}, {late, len(g.nodes)}, {long, short}, {short, n.index}, {n.index + 1, late}}
}

// target finds a host for a guest of n, nil for none: the emptiest one, or with
// pack the first that fits.
func (f *fleet) target(n *node, v *inventory.VM, pack bool) *node {
	for _, t := range f.tiers(n) {
		if to := n.search(t, v.MemoryMiB, pack, func(to *node) bool { return fits(n, to, v) }); to != nil {
			return to
		}
	}
	return nil
}

// oneForAll finds a host that is done and has room for all guests of n, as the
// host that was emptied before has; nil for none.
func (f *fleet) oneForAll(n *node, guests []*inventory.VM) *node {
	var memory, cpus int64
	if f.together(guests) {
		return nil
	}
	for _, v := range guests {
		memory += v.MemoryMiB
		cpus += int64(v.CPUs)
	}
	return n.search(f.tiers(n)[0], memory, false, func(to *node) bool {
		return to.cpus >= cpus && !slices.ContainsFunc(guests, func(v *inventory.VM) bool { return !fits(n, to, v) })
	})
}

// search returns a node of the tier that has room and is good: the emptiest, if
// it is not to pack and that one is good, else the first.
func (n *node) search(t tier, memory int64, pack bool, good func(*node) bool) *node {
	room := n.group.room
	if !pack {
		if most := room.most(t.lo, t.hi); most >= memory {
			if to := n.group.nodes[room.first(t.lo, t.hi, most)]; to != n && good(to) {
				return to
			}
		}
	}
	for lo := t.lo; lo < t.hi; lo++ {
		if lo = room.first(lo, t.hi, memory); lo < 0 {
			return nil
		}
		if to := n.group.nodes[lo]; to != n && good(to) {
			return to
		}
	}
	return nil
}

// fits reports whether a guest of n can run at to when n is emptied, memory apart. A
// guest moves between CPUs of one model only, and to no host that has its name or a guest
// that it is kept apart from.
func fits(n, to *node, v *inventory.VM) bool {
	a, b := n.host.CPUModel, to.host.CPUModel
	return to.cpus >= int64(v.CPUs) && (a == "" || b == "" || a == b) && !to.names[v.Name] && !to.shares(v) && !(to.rests && to.turn > n.turn)
}

// largestRoom returns the most memory that is free on another host of the group.
func (f *fleet) largestRoom(n *node) int64 {
	return max(0, n.group.room.most(0, n.index), n.group.room.most(n.index+1, len(n.group.nodes)))
}

// Ids of the steps that others wait for.
func drainID(h cluster.HostID) string { return fmt.Sprintf("%s/drain", h) }
func readyID(h cluster.HostID) string { return fmt.Sprintf("%s/undrain", h) }
func backID(h cluster.HostID) string  { return fmt.Sprintf("%s/back", h) }
