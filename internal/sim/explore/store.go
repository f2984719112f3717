package explore

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
	done := false
	switch g.kind {
	case kindRenew:
		done = m.takeRenewal(g)
	case kindElect:
		done = m.takeElection(g)
	case kindWrite:
		done = m.takeWrite(g)
	}
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

func (m *mover) takeRenewal(g *message) bool {
	r := &m.w.store.host[g.from-1]
	if r.mod != g.mod {
		return false
	}
	mod := r.mod + 1
	*r = g.rec
	r.mod, g.rev = mod, mod
	return true
}

func (m *mover) takeElection(g *message) bool {
	c := &m.w.store.coord
	if c.mod != g.mod {
		return false
	}
	*c = coordRow{g.from, c.mod + 1}
	g.rev = c.mod
	return true
}

// takeWrite is the transaction of ha.Write: all conditions, then all changes.
// The records that it writes of expelled hosts are the ones that it compares.
func (m *mover) takeWrite(g *message) bool {
	s := &m.w.store
	if s.owner.mod != g.mod || g.term != 0 && (s.coord.mod != g.term || s.want.mod != g.wantMod) {
		return false
	}
	for j := range s.host {
		if g.compared&(1<<j) != 0 && s.host[j].mod != g.hostMod[j] {
			return false
		}
	}
	if g.plainTerm != 0 && g.plainTerm != s.coord.mod {
		m.violate(ruleOldTerm, "a write of %s as a coordinator that has been deposed was applied", m.names.host[g.from])
	}
	if g.hasOwner {
		m.checkOwner(&s.owner, &g.owner)
		mod := s.owner.mod + 1
		s.owner = g.owner
		s.owner.mod, g.ownerRev = mod, mod
	}
	if g.hasWant {
		mod := s.want.mod + 1
		s.want = g.want
		s.want.mod, g.wantRev = mod, mod
	}
	for j := range s.host {
		if g.expel&(1<<j) == 0 {
			continue
		}
		r := &s.host[j]
		r.expelled = true
		if g.fenced&(1<<j) != 0 {
			r.fenced = r.boot
		}
		r.mod++
		g.hostRev[j] = r.mod
	}
	return true
}

// tellWatchers brings the change to every agent that follows the store, and lets
// it decide.
func (m *mover) tellWatchers() {
	for i := range m.w.host {
		if m.follows(i) {
			m.sync(i)
			m.decide(i)
		}
	}
}

// follows reports that the watch of host i works.
func (m *mover) follows(i int) bool {
	h := &m.w.host[i]
	return h.thinks() && h.agent.synced && h.cut == whole && !h.agent.lag
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

// sync takes over what is newer in the store.
func (m *mover) sync(i int) {
	s, a := &m.w.store, &m.w.host[i].agent
	if s.coord.mod > a.rec.coord.mod {
		a.rec.coord, a.coordAge = s.coord, 0
	}
	if s.want.mod > a.rec.want.mod {
		a.rec.want = s.want
	}
	for j := range s.host {
		if s.host[j].mod > a.rec.host[j].mod {
			a.takeHost(j, s.host[j])
		}
	}
	if s.owner.mod > a.rec.owner.mod {
		m.takeOwner(i, s.owner)
	}
}

// takeHost notes a host's record as just seen. What was kept for the one before
// counts no more.
func (a *agent) takeHost(j int, r hostRow) {
	a.rec.host[j], a.hostAge[j] = r, 0
	a.told[j], a.fence[j] = false, fence{}
}

// takeOwner notes the owner record as just seen, and looks at the guest anew.
func (m *mover) takeOwner(i int, r ownerRow) {
	h := &m.w.host[i]
	a := &h.agent
	a.rec.owner, a.ownerAge = r, 0
	a.shut, a.tried = 0, false
	a.sight.fresh = min(a.sight.fresh, 1)
	a.look.fresh = min(a.look.fresh, 1)
	m.lookAt(i)
}

// list reads all records and follows them from there.
func (m *mover) list(i int) {
	a := &m.w.host[i].agent
	a.synced = true
	a.rec, a.coordAge, a.hostAge = m.w.store, 0, [members]uint8{}
	m.takeOwner(i, m.w.store.owner)
	m.decide(i)
}

// answer brings a reply to its agent.
func (m *mover) answer(i int) {
	g := m.w.message[i]
	m.dropMessage(i)
	at := int(g.from) - 1
	a := &m.w.host[at].agent
	ok := g.stage == taken
	switch g.kind {
	case kindRenew:
		m.renewed(at, &g, ok)
	case kindElect:
		a.busy &^= busyElect
		if ok && g.rev > a.rec.coord.mod {
			a.rec.coord, a.coordAge = coordRow{g.from, g.rev}, 0
		}
	case kindWrite:
		m.written(at, &g, ok)
	}
	m.decide(at)
}

// renewed: sent at s, the deadline becomes s + T.
func (m *mover) renewed(at int, g *message, ok bool) {
	a := &m.w.host[at].agent
	a.busy &^= busyRenew
	if !ok {
		return
	}
	age := g.age
	if m.plant.LateDeadline {
		age = 0
	}
	a.leaseMod = g.rev
	a.deadline = 1 + lease - min(age, lease)
	a.handsOn = !g.rec.handsOff
	if g.rev > a.rec.host[at].mod {
		r := g.rec
		r.mod = g.rev
		a.takeHost(at, r)
	}
}

func (m *mover) written(at int, g *message, ok bool) {
	a := &m.w.host[at].agent
	a.busy &^= busyWrite
	if ok {
		if g.hasWant && g.wantRev > a.rec.want.mod {
			a.rec.want = g.want
			a.rec.want.mod = g.wantRev
		}
		for j := range a.rec.host {
			if r := a.rec.host[j]; g.expel&(1<<j) != 0 && r.mod == g.hostMod[j] {
				r.expelled, r.mod = true, g.hostRev[j]
				if g.fenced&(1<<j) != 0 {
					r.fenced = r.boot
				}
				a.takeHost(j, r)
			}
		}
		if g.hasOwner && g.ownerRev > a.rec.owner.mod {
			r := g.owner
			r.mod = g.ownerRev
			m.takeOwner(at, r)
		}
		if t := g.told; t != 0 {
			a.told[t-1] = true
		}
		if t := g.unfenced; t != 0 && a.fence[t-1].state != 0 {
			a.fence[t-1].told = true
		}
	}
	if g.proved {
		m.touched(at)
	}
}

// post sends a message of host i, unless it can not get out.
func (m *mover) post(i int, g message) {
	g.from, g.live = uint8(i+1), true
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
