package explore

import (
	"holdfast/internal/cluster"
	"holdfast/internal/ha"
)

// deliver lets the store take message i, tells those who watch, and brings the
// reply to its agent if that can take it.
func (m *mover) deliver(i int) {
	m.take(i)
	if g := &m.w.message[i]; g.stage != noMessage && m.w.host[g.from-1].thinks() {
		m.answer(i)
	}
}

// take lets the store take message i and leaves the reply on its way.
func (m *mover) take(i int) {
	w := &m.w
	g := &w.message[i]
	g.held = false
	done := m.takes(g)
	g.stage = refused
	if done {
		g.stage = taken
	}
	if h := &w.host[g.from-1]; !g.live || h.cut != whole {
		m.dropMessage(i) // nobody will get the reply
	}
	if done {
		m.tellWatchers()
	}
}

// takes is a transaction: all conditions, then all changes.
func (m *mover) takes(g *message) bool {
	s := &m.w.store
	mods := s.mods()
	for r, mod := range mods {
		if g.compares&(1<<r) != 0 && *mod != g.mod[r] {
			return false
		}
	}
	if g.term != 0 && g.term != s.coord.mod {
		m.violate(ruleOldTerm, "a write of %s as a coordinator that has been deposed was applied", m.names.host[g.from])
	}
	for r, mod := range mods {
		g.rev[r] = *mod + 1
	}
	if g.puts&(1<<recCoord) != 0 {
		s.coord.host = g.coord
	}
	if g.puts&(1<<recOwner) != 0 {
		m.checkOwner(&s.owner, &g.owner)
		s.owner = g.owner
	}
	if g.puts&(1<<recWant) != 0 {
		s.want = g.want
	}
	for j := range s.host {
		if g.puts&(1<<(recHost+j)) != 0 {
			s.host[j] = g.host[j]
		}
	}
	for r, mod := range mods {
		if g.puts&(1<<r) != 0 {
			*mod = g.rev[r]
		}
	}
	return true
}

// mods are the revisions of the records.
func (r *records) mods() [recCount]*uint8 {
	return [recCount]*uint8{recCoord: &r.coord.mod, recOwner: &r.owner.mod, recWant: &r.want.mod,
		recHost: &r.host[0].mod, recHost + 1: &r.host[1].mod, recHost + 2: &r.host[2].mod}
}

// tellWatchers brings the change to every agent that follows the store, and lets
// it decide.
func (m *mover) tellWatchers() {
	for i := range m.w.host {
		if m.follows(i) {
			m.sync(i)
		}
	}
}

// restore makes a new store of the backup: no hosts are registered, and each
// record has a revision beyond all that were. What was on its way to the old store
// is lost. Its members answer.
func (m *mover) restore() {
	w := &m.w
	w.gen++
	w.stalled = false
	s, b := &w.store, &w.backup
	mods := [...]uint8{s.coord.mod + 1, s.owner.mod + 1, s.want.mod + 1}
	*s = records{coord: coordRow{b.coord, mods[0]}, owner: b.owner, want: b.want}
	s.owner.mod, s.want.mod, s.want.off = mods[1], mods[2], [members]uint8{}
	w.backup = backup{}
	for j := range w.message {
		if g := &w.message[j]; g.stage != noMessage && g.stage != proving {
			m.dropMessage(j)
		}
	}
}

// follows reports that the watch of host i works.
func (m *mover) follows(i int) bool {
	h := &m.w.host[i]
	return h.thinks() && h.agent.synced && h.agent.gen == m.w.gen && h.cut == whole && !h.agent.lag
}

// behind reports that the store has news for host i.
func (m *mover) behind(i int) bool {
	s, r := &m.w.store, &m.w.host[i].agent.rec
	if s.coord.mod != r.coord.mod || s.owner.mod != r.owner.mod || s.want.mod != r.want.mod {
		return true
	}
	for j := range s.host {
		if s.host[j].mod != r.host[j].mod {
			return true
		}
	}
	return false
}

// sync tells the core of host i what is newer in the store.
func (m *mover) sync(i int) {
	m.think(i, func(c *ha.Machine) { m.news(c, i) })
}

// news hands records to the core. After a change of the owner record the guest is
// looked at anew.
func (m *mover) news(c *ha.Machine, i int) {
	n, s, r := m.names, &m.w.store, &m.w.host[i].agent.rec
	at := m.instant()
	if s.coord.mod > r.coord.mod {
		c.Changed(ha.Record{Put: ha.Put{Key: ha.Key{Kind: ha.KindCoordinator},
			Coord: cluster.Coordinator{Host: n.host[s.coord.host]}}, Mod: int64(s.coord.mod)}, at)
	}
	if s.want.mod > r.want.mod {
		w := n.want(&s.want)
		c.Changed(ha.Record{Put: ha.Put{Key: ha.Key{Kind: ha.KindWant}, Want: &w}, Mod: int64(s.want.mod)}, at)
	}
	for j := range s.host {
		if s.host[j].mod > r.host[j].mod {
			h := n.hostRecord(j, &s.host[j])
			c.Changed(ha.Record{Put: ha.Put{Key: ha.Key{Kind: ha.KindHost, Name: n.host[j+1]}, Host: &h}, Mod: int64(s.host[j].mod)}, at)
		}
	}
	if s.owner.mod > r.owner.mod {
		o := n.owner(&s.owner)
		c.Changed(ha.Record{Put: ha.Put{Key: ha.Key{Kind: ha.KindOwner}, Owner: &o}, Mod: int64(s.owner.mod)}, at)
		m.ownerSeen(i)
		m.looks(i, true)(c)
	}
}

// ownerSeen notes that a look that is under way began before a change of the
// owner record.
func (m *mover) ownerSeen(i int) {
	a := &m.w.host[i].agent
	a.look.fresh = min(a.look.fresh, 1)
}

// list reads all records and follows them from there.
func (m *mover) list(i int) {
	m.think(i, func(c *ha.Machine) {
		c.Follow(true, 1+uint64(m.w.gen))
		m.w.host[i].agent.gen = m.w.gen
		m.news(c, i)
	}, m.looks(i, true))
}

// answer brings a reply to its agent.
func (m *mover) answer(i int) {
	g := m.w.message[i]
	m.dropMessage(i)
	o := ha.Outcome{OK: g.stage == taken, Proved: g.proved}
	at := int(g.from) - 1
	if o.OK && g.puts&(1<<recOwner) != 0 {
		m.ownerSeen(at)
	}
	act := m.txn(&g)
	if ha.Touches(act) {
		m.w.host[at].agent.look.fresh = 0
	}
	m.think(at, func(c *ha.Machine) { m.answered(c, &g, act, o) }, m.looks(at, g.prove || g.puts&(1<<recOwner) != 0))
}

// answered tells the core how its transaction ended. In the model each record
// counts its own revisions: of several that were written the first one comes with
// the answer, the others at once after it, as a watch would bring them.
func (m *mover) answered(c *ha.Machine, g *message, act ha.Txn, o ha.Outcome) {
	puts := act.Put
	if len(puts) > 0 {
		act.Put = puts[:1]
		o.Mod = int64(g.rev[m.names.record(puts[0].Key)])
	}
	at := m.instant()
	c.Done(act, o, at)
	for i := 1; o.OK && i < len(puts); i++ {
		c.Changed(ha.Record{Put: puts[i], Mod: int64(g.rev[m.names.record(puts[i].Key)])}, at)
	}
}

// post sends a message of host i, unless it can not get out.
func (m *mover) post(i int, g message) {
	g.from, g.live = uint8(i+1), true
	if m.w.host[i].agent.gen != m.w.gen && m.w.host[i].agent.synced {
		return // the store that it was meant for is no more
	}
	if c := m.w.host[i].cut; g.stage == toStore && (c == isolated || c == storeCut) {
		return // the agent waits for a reply until its patience ends
	}
	for j := range m.w.message {
		if m.w.message[j].stage == noMessage {
			m.w.message[j] = g
			return
		}
	}
}

func (m *mover) dropMessage(i int) { m.w.message[i] = message{} }

// orphan leaves a message without an agent that waits for it. There is at most
// one of a kind and sender: an older one is lost.
func (m *mover) orphan(i int) {
	g := &m.w.message[i]
	if g.stage == proving || g.stage == taken || g.stage == refused {
		m.dropMessage(i)
		return
	}
	g.live = false
	g.age = 0
	for j := range m.w.message {
		if o := &m.w.message[j]; j != i && o.stage != noMessage && key(o) == key(g) {
			m.dropMessage(j)
		}
	}
}
