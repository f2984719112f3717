package explore

import (
	"holdfast/internal/cluster"
	"holdfast/internal/ha"
)

// mover carries a world from one state to the next. Each worker of the search
// has one; what is not the world is its scratch.
type mover struct {
	w      world
	names  *names
	memory [members]memory
	moment cluster.Instant // of what happens within a step
	broken []Violation     // rules that the last step broke, without a path
}

func newMover(n *names) *mover {
	m := &mover{names: n}
	for i := range m.memory {
		m.memory[i] = newMemory(n)
	}
	return m
}

// begin begins an action that the core of host i has decided.
func (m *mover) begin(i int, act ha.Action) {
	h := &m.w.host[i]
	a := &h.agent
	switch act := act.(type) {
	case ha.Txn:
		g := m.letter(act)
		a.wait[g.kind-1] = 0
		if g.kind == kindWrite {
			a.proves, a.proved = act.Prove, false
		}
		m.post(i, g)
	case ha.Arm:
		a.disarm, a.armLimit = false, int8(act.Limit.Sub(now)/tick)
	case ha.Disarm:
		a.disarm, a.armLimit = true, 0
	case ha.Start:
		m.callStart(i, act)
	case ha.Kill:
		m.checkKill(i, act.Why)
	case ha.Migrate:
		m.callMigrate(i, act)
	case ha.Fence:
		t := m.names.byHost[act.Host] - 1
		m.checkFence(i, int(t))
		a.fenceMod[t] = uint8(act.Mod)
	case ha.Conflict:
		m.endAgent(i)
	case ha.Defect:
		m.violate(ruleDefect, "%s decides two actions of one kind at once: %s", m.names.host[i+1], act.What)
	}
}

// ended tells the core of host i how an action ended. After one on the guest it
// is looked at anew.
func (m *mover) ended(i int, act ha.Action, o ha.Outcome) {
	a := &m.w.host[i].agent
	if ha.Touches(act) {
		a.look.fresh = 0
	}
	m.think(i, func(c *ha.Machine) { c.Done(act, o, m.instant()) }, m.looks(i, ha.Touches(act)))
}

// looks returns a look at the guest, which host i makes at once unless it is slow
// to, or it need not.
func (m *mover) looks(i int, now bool) func(*ha.Machine) {
	return func(c *ha.Machine) {
		if h := &m.w.host[i]; now && !h.slow {
			m.observe(c, i, m.sightOf(i), m.instant())
		}
	}
}

func (m *mover) observe(c *ha.Machine, i int, s sight, from cluster.Instant) {
	a := &m.w.host[i].agent
	a.sight.process, a.sight.moving = s.process, s.moving
	c.Observed(m.names.guestOf(s), from)
}

// lookIfUp looks at a change that nobody has called for.
func (m *mover) lookIfUp(i int) { m.think(i, m.looks(i, true)) }

// sightOf is what a look that begins now will show.
func (m *mover) sightOf(i int) sight {
	h := &m.w.host[i]
	s := sight{process: h.proc, fresh: 2}
	if s.state == absent && h.starting != 0 {
		s.state = unknown // the driver knows that a start is open: absence would prove nothing
	}
	mv := &m.w.move
	s.moving = mv.stage >= carrying && mv.stage <= arrived && int(mv.from) == i+1 && h.proc.state != absent
	return s
}

// startAgent begins a new agent: it looks at the guest and the watchdog before it
// decides.
func (m *mover) startAgent(i int) {
	h := &m.w.host[i]
	h.agent = agent{up: true, inst: h.agent.inst + 1, inherited: true}
	h.slow = false
	m.think(i, m.looks(i, true))
}

// endAgent ends an agent. What it has sent, and what it has called the
// hypervisor for, goes on; what it was doing on the host does not.
func (m *mover) endAgent(i int) {
	h := &m.w.host[i]
	for j := range m.w.message {
		if g := &m.w.message[j]; int(g.from) == i+1 && g.live && g.stage != noMessage {
			m.orphan(j)
		}
	}
	if mv := &m.w.move; int(mv.from) == i+1 {
		mv.live = false
		if mv.stage == moveLost {
			*mv = migration{}
		}
	}
	h.agent = agent{inst: h.agent.inst}
	h.slow = false
}

// powerOff takes everything from a host at once.
func (m *mover) powerOff(i int) {
	m.endAgent(i)
	h := &m.w.host[i]
	h.power, h.frozen, h.idle = false, false, 0
	h.proc, h.starting, h.startHeld, h.dog = process{}, 0, false, dog{}
	m.moveLosesHost(i)
}

func (m *mover) powerOn(i int) {
	h := &m.w.host[i]
	h.power = true
	h.boot++
	h.quiet = [members]uint8{}
	m.startAgent(i)
}

// endProcess ends the guest's process and a start that has begun.
func (m *mover) endProcess(i int) {
	h := &m.w.host[i]
	h.starting, h.startHeld = 0, false
	had := h.proc.state != absent
	if had {
		h.proc = process{}
		m.moveLosesSource(i)
	}
}

// killed is the end of a kill; a kill that could not be proved changes nothing.
func (m *mover) killed(i int, proved bool) {
	if proved {
		m.endProcess(i)
	}
	m.ended(i, ha.Kill{}, ha.Outcome{OK: proved})
}

// proveWrite kills and looks before message g goes out.
func (m *mover) proveWrite(g int, proved bool) {
	w := &m.w
	letter := w.message[g]
	i := int(letter.from) - 1
	a := &w.host[i].agent
	m.dropMessage(g)
	if !proved {
		m.ended(i, m.txn(&letter), ha.Outcome{Why: "not proved to have ended"})
		return
	}
	m.endProcess(i)
	letter.stage, letter.held, letter.proved = toStore, false, true
	a.wait[letter.kind-1], a.proved = 0, true
	m.post(i, letter)
	m.lookIfUp(i)
}

// order is the end of an order to the watchdog's holder. A limit that has passed
// is refused when the device is off, and changes nothing when it is on.
func (m *mover) order(i int) {
	h := &m.w.host[i]
	a := &h.agent
	act := ha.Action(ha.Arm{Timeout: timeout * tick})
	switch {
	case a.disarm:
		h.dog = dog{}
		act = ha.Disarm{}
	case a.armLimit > 0:
		h.dog.limit = max(a.armLimit, h.dog.limit)
		h.dog.armed, h.dog.fuse = true, timeout
	}
	a.disarm, a.armLimit = false, 0
	m.ended(i, act, ha.Outcome{OK: true, Watchdog: m.dogOf(i)})
}

// shutDown is the guest obeying a request to power off, or not.
func (m *mover) shutDown(i int, obeys bool) {
	if obeys && m.w.host[i].proc.state == up {
		m.endProcess(i)
	}
	m.ended(i, ha.Shutdown{}, ha.Outcome{OK: true})
}

// resumed is the end of an order to let the guest go on.
func (m *mover) resumed(i int, done bool) {
	if h := &m.w.host[i]; done && (h.proc.state == standing || h.proc.state == outdated) {
		if h.proc.state == outdated {
			m.violate(ruleStaleGuest, "the guest goes on at %s as it was before it went on at the source", m.names.host[i+1])
		}
		h.proc.state = up
		m.checkGuarded(i)
	}
	m.ended(i, ha.Resume{}, ha.Outcome{OK: done})
}

// fencedBy is the end of an order by host i to the fence device of host t: off is
// what became of it, told what the device's state read back says.
func (m *mover) fencedBy(i, t int, off, told bool) {
	a := &m.w.host[i].agent
	if off && m.w.host[t].power {
		m.powerOff(t)
	}
	act := ha.Fence{Host: m.names.host[t+1], Mod: int64(a.fenceMod[t]), Epoch: epochOf(a.rec.owner.epoch)}
	a.fenceMod[t] = 0
	why := "not off"
	if told {
		why = ""
	}
	m.ended(i, act, ha.Outcome{OK: told, Why: why, Device: "model"})
}
