package explore

import "holdfast/internal/ha"

// apply lets one step happen, checks the rules and brings the world into its
// canonical form.
func (m *mover) apply(s step) {
	m.broken, m.moment = m.broken[:0], 0
	switch {
	case s.op == opTick:
		m.tick(-1)
	case s.op == opSlowClock:
		m.w.skews--
		m.tick(int(s.a))
	case s.op <= opWatch:
		m.ordinary(s)
	case s.op <= opMoveLost:
		m.spoiled(s)
	case s.op <= opSlow:
		m.w.delays--
		m.delay(s)
	case s.op <= opSee:
		m.endDelay(s)
	case s.op <= opGuestEnds:
		m.fault(s)
	case s.op == opRestore:
		m.restore()
	default:
		m.w.orders--
		m.operator(s)
	}
	m.inspect()
	m.canon()
}

// ordinary is the end of something that is due, or was held back.
func (m *mover) ordinary(s step) {
	i := int(s.a)
	switch s.op {
	case opDeliver:
		m.deliver(i)
	case opAnswer:
		m.answer(i)
	case opProve:
		m.proveWrite(i, true)
	case opArm:
		m.order(i)
	case opKill:
		m.killed(i, true)
	case opStart:
		m.startEnds(i, startOK)
	case opShutdown:
		m.shutDown(i, true)
	case opAbort:
		m.abort(i)
	case opResume:
		m.resumed(i, true)
	case opFence:
		m.fencedBy(i, int(s.b), true, true)
	case opMove:
		m.moveOn()
	case opList:
		m.list(i)
	case opNewer:
		m.endAgent(i)
		m.startAgent(i)
	case opWatch:
		m.sync(i)
	}
}

// spoiled is a fault in the place of something that was due. The end of a held
// start or of a migration whose source is dead costs nothing more.
func (m *mover) spoiled(s step) {
	i := int(s.a)
	w := &m.w
	paid := s.op == opStartFails && w.host[i].startHeld || s.op == opMoveLost && !w.host[w.move.from-1].power
	if !paid {
		w.faults--
	}
	switch s.op {
	case opLose:
		m.dropMessage(i)
	case opLoseReply:
		m.take(i)
		m.dropMessage(i)
	case opProveFails:
		m.proveWrite(i, false)
	case opKillFails:
		m.killed(i, false)
	case opStartFails:
		m.startEnds(i, startFails)
	case opStartMute:
		m.startEnds(i, startMute)
	case opDeafGuest:
		m.shutDown(i, false)
	case opFenceFails:
		m.fencedBy(i, int(s.b), false, false)
	case opFenceMute:
		m.fencedBy(i, int(s.b), true, false)
	case opResumeFails:
		m.resumed(i, false)
	case opMoveFails:
		m.failMove()
	case opMoveLost:
		m.loseMove()
	}
}

func (m *mover) delay(s step) {
	w := &m.w
	switch s.op {
	case opHoldMessage:
		w.message[s.a].held = true
	case opHoldReply:
		m.take(int(s.a))
		if g := &w.message[s.a]; g.stage != noMessage {
			g.held = true
		}
	case opHold:
		w.host[s.a].agent.held |= 1 << s.b
	case opHoldStart:
		w.host[s.a].startHeld = true
	case opHoldMove:
		w.move.held = true
	case opLag:
		w.host[s.a].agent.lag = true
	case opSlow:
		// A look has just begun, and takes its time.
		h := &w.host[s.a]
		h.agent.look, h.slow = m.sightOf(int(s.a)), true
	}
}

func (m *mover) endDelay(s step) {
	i := int(s.a)
	h := &m.w.host[i]
	switch s.op {
	case opGiveUpStart:
		m.giveUpStart(i)
	case opGiveUpMove:
		m.endMove()
	case opMoveUnheard:
		m.failMove()
	case opCatchUp:
		h.agent.lag = false
		if m.follows(i) {
			m.sync(i)
		}
	case opSee:
		h.slow = false
		look := h.agent.look
		m.think(i, func(c *ha.Machine) { m.observe(c, i, look, begunAt(look.fresh, h.agent.ownerAge)) })
	}
}

// tick lets time go on by one tick on all hosts but slow, whose clock stands
// behind. Watchdogs come before anything that their hosts could still do.
func (m *mover) tick(slow int) {
	w := &m.w
	for i := range w.host {
		if h := &w.host[i]; m.idle(i) {
			h.idle = min(h.idle+1, 2)
		} else {
			h.idle = 0
		}
	}
	for i := range w.host {
		if i != slow {
			m.age(i)
		}
	}
	m.hear()
	for i := range w.host {
		if i != slow {
			m.watchdog(i)
		}
	}
	for i := range w.host {
		if w.host[i].thinks() {
			m.giveUp(i)
			m.lookIfUp(i)
		}
	}
}

// age moves the clock of host i.
func (m *mover) age(i int) {
	h := &m.w.host[i]
	if !h.power {
		return
	}
	h.dog.limit = max(h.dog.limit-1, -timeout-1)
	a := &h.agent
	a.coordAge, a.ownerAge = sum(a.coordAge), sum(a.ownerAge)
	for j := range a.hostAge {
		a.hostAge[j] = sum(a.hostAge[j])
		a.fence[j].old = a.fence[j].state != 0
	}
	if a.deadline > 1 {
		a.deadline--
	}
	a.sentNow, a.touchedNow = false, false
	if a.blind != 0 {
		a.blind = sum(a.blind)
	}
	if a.shut != 0 {
		a.shut = sum(a.shut)
	}
	a.armLimit = max(a.armLimit-1, -timeout-1)
	for k := range a.wait {
		if a.busy&uint16(workOf(uint8(k)+kindRenew)) != 0 {
			a.wait[k] = min(a.wait[k]+1, patience)
		} else {
			a.wait[k] = 0
		}
	}
	for j := range m.w.message {
		if g := &m.w.message[j]; g.stage != noMessage && g.live && int(g.from) == i+1 {
			g.age = min(g.age+1, lease)
		}
	}
}

func sum(age uint8) uint8 { return min(age+1, 100) }

// hear tells which hosts have heard which others since the last tick.
func (m *mover) hear() {
	w := &m.w
	for i := range w.host {
		for j := range w.host {
			q := &w.host[i].quiet[j]
			if w.host[i].thinks() && w.host[j].thinks() && w.host[i].reachable() && w.host[j].reachable() || i == j {
				*q = 0
			} else {
				*q = sum(*q)
			}
		}
	}
}

// watchdog pets or fires the watchdog of host i.
func (m *mover) watchdog(i int) {
	h := &m.w.host[i]
	if !h.dog.armed {
		return
	}
	if !h.frozen && h.dog.limit >= 0 {
		h.dog.fuse = timeout
		return
	}
	if h.dog.fuse--; h.dog.fuse == 0 {
		m.checkReset(i)
		m.powerOff(i)
	}
}

// giveUp ends the wait for replies that take too long. What was sent may still
// arrive.
func (m *mover) giveUp(i int) {
	a := &m.w.host[i].agent
	for j := range m.w.message {
		g := &m.w.message[j]
		if g.stage == noMessage || !g.live || int(g.from) != i+1 {
			continue
		}
		if g.stage == proving {
			a.wait[g.kind-1] = 0
		} else if a.wait[g.kind-1] >= patience {
			m.orphan(j)
		}
	}
	for k := kindRenew; k < kindCount; k++ {
		if a.wait[k-1] >= patience && a.busy&uint16(workOf(k)) != 0 {
			a.wait[k-1] = 0
			t := ha.Txn{For: workOf(k), Prove: k == kindWrite && a.proves}
			m.ended(i, t, ha.Outcome{Proved: t.Prove && a.proved, Why: "no answer"})
		}
	}
}
