package explore

import (
	"slices"

	"holdfast/internal/cluster"
	"holdfast/internal/ha"
)

// memory is the core of one host as it was shown last, and the small form of what
// it was filled with: what has not changed since is not filled anew.
type memory struct {
	core  *ha.Machine
	words map[cluster.HostID]cluster.HeartbeatReport
	known bool
	rec   records
	ages  [members]uint8
}

func newMemory(n *names) memory {
	c := ha.New("", cluster.MgmtVM, ha.ThisHost{Identity: identity, Fit: true})
	c.Gen, c.ThisHost.Machine = 1, "machine"
	words := map[cluster.HostID]cluster.HeartbeatReport{}
	for _, h := range n.order {
		words[h] = cluster.HeartbeatReport{Heard: map[cluster.HostID]cluster.Instant{}}
	}
	return memory{core: c, words: words}
}

// think hands what has happened to the core of host i, which decides anew, and
// begins what it asks for. A host that can not think takes nothing in.
func (m *mover) think(i int, happened ...func(*ha.Machine)) {
	if !m.w.host[i].thinks() {
		return
	}
	c := m.show(i)
	for _, f := range happened {
		f(c)
	}
	acts := c.Decide(m.instant())
	m.keep(i, c)
	for _, act := range acts {
		m.begin(i, act)
		if !m.w.host[i].agent.up {
			return
		}
	}
}

// instant is now, after all that has happened in this step.
func (m *mover) instant() cluster.Instant {
	m.moment++
	return now + m.moment
}

// show fills the core with what host i remembers.
func (m *mover) show(i int) *ha.Machine {
	n, h, mem := m.names, &m.w.host[i], &m.memory[i]
	a, c := &h.agent, mem.core
	c.Self = n.host[i+1]
	c.Configure(n.timings, cluster.Restart{InPlace: 1}, n.order, nil)
	c.Words = nil
	if m.w.devices {
		c.Devices, c.Words = n.devices, mem.words
		m.showWords(i)
	}
	c.Synced, c.Gen = a.synced, 1+uint64(a.gen)
	m.showRecords(mem, a)
	m.showGuest(c, a)
	c.ThisHost.Boot, c.ThisHost.Instance = n.text[h.boot], n.text[a.inst]
	c.Lease = ha.Lease{Mod: int64(a.leaseMod), Sent: ago(1), HandsOn: a.handsOn}
	if a.deadline != 0 {
		c.Lease.Deadline = in(int(a.deadline) - 1)
	}
	if a.sentNow {
		c.Lease.Sent = now
	}
	c.Watchdog = m.dogOf(i)
	c.Doing.Works, c.Doing.Fencing = ha.Work(a.busy)&(ha.WorkFence-1), nil
	for j := range a.fence {
		if a.busy&(busyFence<<j) != 0 {
			c.Doing.Fencing = append(c.Doing.Fencing, n.host[j+1])
		}
	}
	m.showMemory(c, a)
	return c
}

func (m *mover) dogOf(i int) ha.Watchdog {
	h := &m.w.host[i]
	d := ha.Watchdog{Working: true, Armed: h.dog.armed, Timeout: timeout * tick, Name: "model"}
	if h.dog.armed {
		d.Limit = in(int(h.dog.limit))
	}
	return d
}

// ownerSeen is when a host has seen the owner record, age ticks ago: before all
// else in that tick.
func ownerSeen(age uint8) cluster.Instant { return ago(age).Add(-2) }

func (m *mover) showRecords(mem *memory, a *agent) {
	n, c, r := m.names, mem.core, &a.rec
	c.Coord = ha.CoordRec{Coordinator: cluster.Coordinator{Host: n.host[r.coord.host]}, Mod: int64(r.coord.mod), SeenAt: ago(a.coordAge)}
	if !mem.known || mem.rec.owner != r.owner {
		c.Owner.Owner, c.Owner.Mod = n.owner(&r.owner), int64(r.owner.mod)
	}
	c.Owner.SeenAt = ownerSeen(a.ownerAge)
	if !mem.known || mem.rec.want != r.want {
		c.Want = ha.WantRec{Want: n.want(&r.want), Mod: int64(r.want.mod)}
	}
	for j := range r.host {
		row, name := &r.host[j], n.host[j+1]
		switch {
		case mem.known && mem.rec.host[j] == *row && mem.ages[j] == a.hostAge[j]:
		case row.mod == 0:
			delete(c.Hosts, name)
		default:
			c.Hosts[name] = ha.HostRec{Host: n.hostRecord(j, row), Mod: int64(row.mod), SeenAt: ago(a.hostAge[j])}
		}
	}
	mem.known, mem.rec, mem.ages = true, a.rec, a.hostAge
}

// showWords tells what the members say that they hear. Heartbeats matter for
// fence devices alone.
func (m *mover) showWords(i int) {
	n, words, w := m.names, m.memory[i].words, &m.w
	for j := range w.host {
		word := words[n.host[j+1]]
		word.At = 0
		if j == i || w.host[j].thinks() && w.host[j].reachable() && w.host[i].reachable() {
			word.At = now
		}
		for k := range w.host {
			word.Heard[n.host[k+1]] = ago(w.host[j].quiet[k])
		}
		words[n.host[j+1]] = word
	}
}

// guestOf is what an observation shows.
func (n *names) guestOf(s sight) cluster.Guest {
	if s.state == absent && s.epoch != 0 {
		return cluster.Guest{State: cluster.GuestAbsent, Moved: true}
	}
	return cluster.Guest{State: n.guests[s.state], Epoch: epochOf(s.epoch), Migrating: s.moving}
}

// begunAt gives an instant at which an observation of that freshness began.
func begunAt(fresh, ownerAge uint8) cluster.Instant {
	switch fresh {
	case 0:
		return ago(1).Add(-2)
	case 1:
		return ownerSeen(ownerAge)
	}
	return now
}

func (m *mover) showGuest(c *ha.Machine, a *agent) {
	g := &c.Guest
	*g = ha.Guest{
		Seen: m.names.guestOf(a.sight), SeenAt: begunAt(a.sight.fresh, a.ownerAge), Touched: 1,
		Inherited: a.inherited, Started: epochOf(a.started),
	}
	if a.sight.fresh == 0 {
		g.Touched = ago(1)
		if a.touchedNow {
			g.Touched = now
		}
	}
	if a.tried {
		g.Tried = int64(a.rec.owner.mod)
	}
	if a.shut != 0 {
		g.Shut = ago(a.shut - 1)
	}
	if a.blind != 0 {
		g.UnobservableAt = ago(a.blind - 1)
	}
}

func (m *mover) showMemory(c *ha.Machine, a *agent) {
	n := m.names
	clear(c.Memory.Told)
	clear(c.Memory.Fences)
	for j := range a.told {
		mod := int64(a.rec.host[j].mod)
		if a.told[j] {
			c.Memory.Told[n.host[j+1]] = mod
		}
		if f := a.fence[j]; f.state != 0 {
			r := ha.Fenced{Mod: mod, Epoch: c.Owner.Epoch, At: now, Off: f.state == 1, Device: "model", Told: f.told}
			if f.old {
				r.At = ago(1)
			}
			if !r.Off {
				r.Why = "not off"
			}
			c.Memory.Fences[n.host[j+1]] = r
		}
	}
}

// ticksSince is how many whole ticks ago an instant was; one of this step: 0.
func ticksSince(at cluster.Instant) uint8 {
	if at >= now {
		return 0
	}
	return uint8(min((now.Sub(at))/tick, 100))
}

// keep takes over into the small form what the core of host i remembers now.
func (m *mover) keep(i int, c *ha.Machine) {
	n, mem := m.names, &m.memory[i]
	a := &m.w.host[i].agent
	a.synced = c.Synced
	if mod := uint8(c.Coord.Mod); mod != a.rec.coord.mod {
		a.rec.coord, a.coordAge = coordRow{n.byHost[c.Coord.Host], mod}, 0
	}
	if mod := uint8(c.Owner.Mod); mod != a.rec.owner.mod {
		a.rec.owner, a.ownerAge = n.ownerRow(&c.Owner.Owner), 0
		a.rec.owner.mod = mod
	}
	if mod := uint8(c.Want.Mod); mod != a.rec.want.mod {
		a.rec.want = n.wantRow(&c.Want.Want)
		a.rec.want.mod = mod
	}
	for j := range a.rec.host {
		if r, ok := c.Hosts[n.host[j+1]]; ok && uint8(r.Mod) != a.rec.host[j].mod {
			a.rec.host[j], a.hostAge[j] = n.hostRow(&r.Host), 0
			a.rec.host[j].mod = uint8(r.Mod)
		}
	}
	// The record in the core has the instant of this step: it is filled anew.
	mem.known = mem.known && mem.rec == a.rec
	a.leaseMod, a.handsOn, a.sentNow = uint8(c.Lease.Mod), c.Lease.HandsOn, c.Lease.Sent >= now
	a.deadline = 0
	if c.Lease.Deadline != 0 {
		a.deadline = uint8(1 + max(0, c.Lease.Deadline.Sub(now)/tick))
	}
	a.busy = uint16(c.Doing.Works)
	for _, h := range c.Doing.Fencing {
		a.busy |= busyFence << (n.byHost[h] - 1)
	}
	a.held &= a.busy
	keepGuest(a, c)
	for j := range a.told {
		mod := int64(a.rec.host[j].mod)
		a.told[j] = mod != 0 && c.Memory.Told[n.host[j+1]] == mod
		f, ok := c.Memory.Fences[n.host[j+1]]
		if !ok || f.Mod != mod {
			a.fence[j] = fence{}
			continue
		}
		a.fence[j] = fence{state: 2, old: f.At < now, told: f.Told}
		if f.Off {
			a.fence[j].state = 1
		}
	}
}

func keepGuest(a *agent, c *ha.Machine) {
	g := &c.Guest
	a.sight.fresh = 2
	switch {
	case g.SeenAt <= g.Touched:
		a.sight.fresh = 0
	case g.SeenAt <= c.Owner.SeenAt:
		a.sight.fresh = 1
	}
	a.touchedNow = a.sight.fresh == 0 && g.Touched >= now
	a.sight.moving = g.Seen.Migrating
	a.inherited, a.tried, a.started = g.Inherited, g.Tried != 0 && g.Tried == c.Owner.Mod, smallEpoch(g.Started)
	a.shut, a.blind = 0, 0
	if g.Shut != 0 {
		a.shut = 1 + ticksSince(g.Shut)
	}
	if g.UnobservableAt != 0 {
		a.blind = 1 + ticksSince(g.UnobservableAt)
	}
}

// txn is the transaction that a message carries.
func (m *mover) txn(g *message) ha.Txn {
	n := m.names
	t := ha.Txn{
		For: workOf(g.kind), Prove: g.prove, Sent: ago(g.age), Term: int64(g.term),
		Silent: n.host[g.silent], SilentMod: int64(g.silentMod), Unfenced: n.host[g.unfenced],
	}
	// Without what it compares: that matters to the store alone.
	if g.puts&(1<<recCoord) != 0 {
		t.Put = append(t.Put, ha.Put{Key: ha.Key{Kind: ha.KindCoordinator}, Coord: cluster.Coordinator{Host: n.host[g.coord]}})
	}
	if g.puts&(1<<recOwner) != 0 {
		row := g.owner
		row.mod = 1 // there is one
		o := n.owner(&row)
		t.Put = append(t.Put, ha.Put{Key: ha.Key{Kind: ha.KindOwner}, Owner: &o})
	}
	if g.puts&(1<<recWant) != 0 {
		w := n.want(&g.want)
		t.Put = append(t.Put, ha.Put{Key: ha.Key{Kind: ha.KindWant}, Want: &w})
	}
	for j := range g.host {
		if g.puts&(1<<(recHost+j)) != 0 {
			r := n.hostRecord(j, &g.host[j])
			t.Put = append(t.Put, ha.Put{Key: ha.Key{Kind: ha.KindHost, Name: n.host[j+1]}, Host: &r})
		}
	}
	return t
}

// letter gives the message of a transaction.
func (m *mover) letter(t ha.Txn) message {
	n := m.names
	g := message{
		kind: uint8(1 + slices.Index([]ha.Work{ha.WorkRenew, ha.WorkWrite, ha.WorkElect, ha.WorkReport}, t.For)), stage: toStore,
		prove: t.Prove, term: uint8(t.Term), silent: n.byHost[t.Silent], silentMod: uint8(t.SilentMod), unfenced: n.byHost[t.Unfenced],
	}
	if t.Prove {
		g.stage = proving
	}
	for _, c := range t.If {
		r := n.record(c.Key)
		g.compares |= 1 << r
		g.mod[r] = uint8(c.Mod)
	}
	for _, p := range t.Put {
		r := n.record(p.Key)
		g.puts |= 1 << r
		switch p.Kind {
		case ha.KindCoordinator:
			g.coord = n.byHost[p.Coord.Host]
		case ha.KindOwner:
			g.owner = n.ownerRow(p.Owner)
		case ha.KindWant:
			g.want = n.wantRow(p.Want)
		case ha.KindHost:
			g.host[r-recHost] = n.hostRow(p.Host)
		}
	}
	return g
}

// record is the index of a record.
func (n *names) record(k ha.Key) int {
	switch k.Kind {
	case ha.KindCoordinator:
		return recCoord
	case ha.KindOwner:
		return recOwner
	case ha.KindWant:
		return recWant
	}
	return recHost + int(n.byHost[k.Name]) - 1
}
