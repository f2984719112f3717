package explore

// fault is something that breaks or is mended.
func (m *mover) fault(s step) {
	w, i := &m.w, int(s.a)
	h := &w.host[i]
	switch s.op {
	case opPowerOff, opFreeze, opCrash, opStop, opCut, opStall, opGuestEnds:
		w.faults--
	}
	switch s.op {
	case opPowerOff:
		m.powerOff(i)
	case opPowerOn:
		m.powerOn(i)
	case opCrash:
		m.endAgent(i)
	case opRestart:
		m.startAgent(i)
	case opFreeze:
		h.frozen = true
	case opThaw, opThawMail:
		h.frozen = false
		m.wake(i, s.op == opThaw)
	case opStop:
		h.agent.stopped = true
	case opContinue:
		h.agent.stopped = false
		m.wake(i, true)
	case opCut:
		m.cut(i, s.b)
	case opHeal:
		h.cut = whole
	case opStall:
		w.stalled = true
	case opUnstall:
		w.stalled = false
	case opGuestEnds:
		h.proc = process{}
		m.moveLosesSource(i)
		m.lookIfUp(i)
	}
}

// wake lets a host go on that stood still: its keeper pets where the limit allows
// it, and its agent decides first, or finds its mail first.
func (m *mover) wake(i int, first bool) {
	h := &m.w.host[i]
	if h.dog.armed && h.dog.limit > 0 {
		h.dog.fuse = timeout
	}
	if first {
		m.think(i)
	}
}

// cut takes the network away. What is on its way to or from the host is lost.
func (m *mover) cut(i int, how uint8) {
	m.w.host[i].cut = how
	for j := range m.w.message {
		g := &m.w.message[j]
		if int(g.from) != i+1 || g.held {
			continue
		}
		if g.stage == taken || g.stage == refused || g.stage == toStore && how != deaf {
			m.dropMessage(j)
		}
	}
}

// operator is something that people ask for.
func (m *mover) operator(s step) {
	r := &m.w.store
	w := &r.want
	switch s.op {
	case opWantRun:
		w.run = true
	case opWantStop:
		w.run = false
	case opWantMove:
		w.move = s.a + 1
	case opWantCancel:
		w.cancel = 1 + r.owner.mod
	case opHandsOff:
		w.handsOff = true
	case opHandsOn:
		w.handsOff = false
	case opSaidOff:
		w.off[s.a] = 1 + r.host[s.a].mod
	}
	w.mod++
	m.tellWatchers()
}
