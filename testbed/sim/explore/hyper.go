package explore

import "holdfast/internal/ha"

// callStart calls the hypervisor, once.
func (m *mover) callStart(i int, act ha.Start) {
	h := &m.w.host[i]
	m.checkStart(i, act)
	m.w.called = smallEpoch(act.Epoch)
	if h.proc.state != absent || h.starting != 0 {
		m.ended(i, act, ha.Outcome{Why: "a process exists"})
		return
	}
	h.starting = smallEpoch(act.Epoch)
}

// How a start ends.
const (
	startOK    = iota
	startFails // no process
	startMute  // a process, but the agent gets no answer
)

// startEnds is the end of a start.
func (m *mover) startEnds(i, how int) {
	h := &m.w.host[i]
	if how != startFails {
		h.proc = process{up, h.starting}
		m.checkGuarded(i)
	}
	h.starting, h.startHeld = 0, false
	if h.agent.busy&busyStart == 0 {
		m.lookIfUp(i)
		return
	}
	if how == startMute {
		h.agent.held |= busyStart
		m.lookIfUp(i)
		return
	}
	m.giveUpStart(i)
}

// giveUpStart is the return of the agent's call, whatever became of it.
func (m *mover) giveUpStart(i int) { m.ended(i, ha.Start{}, ha.Outcome{OK: true}) }

// callMigrate calls the source's hypervisor.
func (m *mover) callMigrate(i int, act ha.Migrate) {
	if m.w.move.stage != noMove {
		m.ended(i, act, ha.Outcome{Why: "a migration is under way"})
		return
	}
	m.w.move = migration{stage: asked, from: uint8(i + 1), to: m.names.byHost[act.To], live: true}
}

// moveReady reports whether the migration's next stage can come now.
func (m *mover) moveReady() bool {
	w := &m.w
	mv := &w.move
	if mv.stage == noMove {
		return false
	}
	from, to := &w.host[mv.from-1], &w.host[mv.to-1]
	switch mv.stage {
	case asked:
		return from.power && !from.frozen
	case carrying:
		return !from.frozen && !(to.frozen && m.targetWaits())
	case switched:
		return !to.frozen && (m.targetWaits() || !from.frozen)
	case arrived:
		return from.power && !from.frozen && from.reachable() && to.reachable() && (to.proc.state == standing || to.proc.state == up)
	}
	return !from.frozen
}

// targetWaits reports whether the process at the target is still there.
func (m *mover) targetWaits() bool { return m.w.host[m.w.move.to-1].proc.state == incoming }

// moveOn is the next stage of the migration.
func (m *mover) moveOn() {
	w := &m.w
	mv := &w.move
	mv.held = false
	from, to := &w.host[mv.from-1], &w.host[mv.to-1]
	linked := from.reachable() && to.reachable()
	switch mv.stage {
	case asked:
		if from.proc.state != up || !linked || to.frozen || !to.power || to.proc.state != absent || to.starting != 0 {
			m.endMove()
			return
		}
		to.proc = process{incoming, from.proc.epoch}
		mv.stage = carrying
		m.lookIfUp(int(mv.to - 1))
		m.lookIfUp(int(mv.from - 1))
	case carrying:
		if !m.targetWaits() || !linked {
			m.failMove()
			return
		}
		from.proc.state = paused
		mv.stage = switched
		m.lookIfUp(int(mv.from - 1))
	case switched:
		if !m.targetWaits() {
			m.failMove() // its end is known: the source goes on
			return
		}
		to.proc.state = standing
		mv.stage = arrived
		if from.proc.state == absent {
			m.endMove()
			return
		}
		m.lookIfUp(int(mv.to - 1))
	case arrived:
		from.proc.state = absent
		m.endMove()
	case moveLost:
		m.endMove()
	}
}

// failMove ends a migration before the source has heard that the guest arrived:
// the source goes on. What has arrived stays.
func (m *mover) failMove() {
	w := &m.w
	from, to := &w.host[w.move.from-1], &w.host[w.move.to-1]
	if from.power && from.proc.state == paused {
		from.proc.state = up
		m.checkGuarded(int(w.move.from - 1))
		if to.proc.state == standing {
			to.proc.state = outdated
		}
	}
	if to.proc.state == incoming {
		to.proc = process{}
	}
	m.endMove()
}

// loseMove is the loss of the last data: both sides stand still, and the source
// never hears of it.
func (m *mover) loseMove() {
	w := &m.w
	to := int(w.move.to) - 1
	if w.host[to].proc.state == incoming {
		w.host[to].proc = process{}
	}
	w.move.stage, w.move.held = moveLost, false
	m.lookIfUp(to)
}

// endMove tells the source's agent, if it waits, and lets both look.
func (m *mover) endMove() {
	w := &m.w
	mv := w.move
	w.move = migration{}
	from, to := int(mv.from)-1, int(mv.to)-1
	if mv.live && w.host[from].agent.up {
		m.migrationEnded(from)
	} else {
		m.lookIfUp(from)
	}
	m.lookIfUp(to)
}

// abort ends the migration unless it has been handed over.
func (m *mover) abort(i int) {
	if mv := &m.w.move; int(mv.from) == i+1 && (mv.stage == asked || mv.stage == carrying) {
		m.failMove()
	}
	m.ended(i, ha.Abort{}, ha.Outcome{OK: true})
}

// migrationEnded tells the source's agent, whatever became of the migration.
func (m *mover) migrationEnded(i int) { m.ended(i, ha.Migrate{}, ha.Outcome{OK: true}) }

// moveLosesSource is the end of the source's process. What it has sent before
// still arrives.
func (m *mover) moveLosesSource(i int) {
	mv := &m.w.move
	if int(mv.from) != i+1 {
		return
	}
	switch mv.stage {
	case asked, carrying:
		m.failMove()
	case switched:
		if mv.live {
			mv.live = false
			m.migrationEnded(i)
		}
	case arrived, moveLost:
		m.endMove()
	}
}

// moveLosesHost is the loss of power of one side.
func (m *mover) moveLosesHost(i int) {
	mv := &m.w.move
	switch {
	case mv.stage == noMove:
	case int(mv.from) == i+1:
		mv.live = false
		m.moveLosesSource(i)
	case int(mv.to) == i+1 && mv.stage == arrived:
		m.failMove()
	}
}
