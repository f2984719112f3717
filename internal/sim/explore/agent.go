package explore

import (
	"holdfast/internal/cluster"
	"holdfast/internal/ha"
)

// mover carries a world from one state to the next. Each worker of the search
// has one; view and words are its scratch.
type mover struct {
	w      world
	names  *names
	plant  Plant
	view   ha.View
	words  map[cluster.HostID]cluster.Word
	broken []Violation // rules that the last step broke, without a path
}

func newMover(n *names, p Plant) *mover {
	return &mover{names: n, plant: p, view: newView(n), words: newWords(n)}
}

// decide asks the core what host i should do now and begins it.
func (m *mover) decide(i int) {
	if !m.w.host[i].thinks() {
		return
	}
	v := m.show(i)
	m.plant.see(v)
	acts := m.plant.add(v, ha.Decide(*v))
	m.plant.restore(v)
	for _, act := range acts {
		m.begin(i, m.plant.alter(act), act)
		if !m.w.host[i].agent.up {
			return
		}
	}
}

// begin begins an action. plain is the action as it was decided, before a
// planted bug changed it.
func (m *mover) begin(i int, act, plain ha.Action) {
	h := &m.w.host[i]
	a := &h.agent
	switch act := act.(type) {
	case ha.Renew:
		a.busy |= busyRenew
		a.wait[0], a.sentNow = 0, true
		if !act.Record.HandsOff {
			a.handsOn = true
		}
		m.post(i, message{kind: kindRenew, stage: toStore, mod: uint8(act.Mod), rec: m.names.hostRow(&act.Record)})
	case ha.Elect:
		a.busy |= busyElect
		a.wait[2] = 0
		m.post(i, message{kind: kindElect, stage: toStore, mod: uint8(act.Mod)})
	case ha.Write:
		a.busy |= busyWrite
		a.wait[1], a.proves = 0, act.Prove
		g := m.letter(act)
		g.plainTerm = uint8(plain.(ha.Write).Term)
		m.post(i, g)
	case ha.Arm:
		a.busy |= busyArm
		a.disarm, a.armLimit = false, int8(act.Limit.Sub(now)/tick)
	case ha.Disarm:
		a.busy |= busyArm
		a.disarm, a.armLimit = true, 0
	case ha.Start:
		m.callStart(i, act)
	case ha.Kill:
		m.checkKill(i, act.Why)
		a.busy |= busyKill
	case ha.Shutdown:
		a.busy |= busyShutdown
		a.shut = max(a.shut, 1)
	case ha.Abort:
		a.busy |= busyAbort
	case ha.Resume:
		a.busy |= busyResume
	case ha.Migrate:
		m.callMigrate(i, act)
	case ha.Fence:
		t := m.names.byHost[act.Host] - 1
		m.checkFence(i, int(t))
		a.busy |= busyFence << t
		a.fenceMod[t] = uint8(act.Mod)
	case ha.Conflict:
		m.endAgent(i)
	}
}

// letter gives the message of a write.
func (m *mover) letter(act ha.Write) message {
	n := m.names
	g := message{
		kind: kindWrite, stage: toStore, mod: uint8(act.OwnerMod), term: uint8(act.Term), wantMod: uint8(act.WantMod),
		told: n.byHost[act.Told], unfenced: n.byHost[act.Unfenced],
	}
	if act.Prove {
		g.stage, g.proved = proving, true
	}
	if act.Owner != nil {
		g.hasOwner, g.owner = true, n.ownerRow(act.Owner)
	}
	if act.Want != nil {
		g.hasWant, g.want = true, n.wantRow(act.Want)
	}
	for h, mod := range act.HostMods {
		g.compared |= 1 << (n.byHost[h] - 1)
		g.hostMod[n.byHost[h]-1] = uint8(mod)
	}
	for i := range act.Expel {
		r := &act.Expel[i]
		bit := uint8(1) << (n.byHost[r.Name] - 1)
		g.expel |= bit
		if r.Fenced != "" && r.Fenced == r.Boot {
			g.fenced |= bit
		}
	}
	return g
}

// touched notes that an action on the guest has ended, and looks at it anew.
func (m *mover) touched(i int) {
	a := &m.w.host[i].agent
	a.sight.fresh, a.look.fresh = 0, 0
	m.lookAt(i)
}

// lookAt observes the guest at once, unless the host is slow to.
func (m *mover) lookAt(i int) {
	h := &m.w.host[i]
	if !h.slow {
		h.agent.sight = m.sightOf(i)
	}
}

// sightOf is what a look that begins now will show.
func (m *mover) sightOf(i int) sight {
	h := &m.w.host[i]
	s := sight{process: h.proc, fresh: 2}
	unseen := m.plant.OpenUnseen || m.plant.NoInherit && h.agent.started == 0
	if s.state == absent && h.starting != 0 && !unseen {
		s.state = unknown // the driver knows that a start is open: absence would prove nothing
	}
	mv := &m.w.move
	s.moving = mv.stage >= carrying && mv.stage <= arrived && int(mv.from) == i+1 && h.proc.state != absent
	return s
}

// startAgent begins a new agent: it looks at the guest and takes the deadline
// from an armed watchdog, D = L - G + W.
func (m *mover) startAgent(i int) {
	h := &m.w.host[i]
	h.agent = agent{up: true, inst: h.agent.inst + 1, inherited: true}
	h.slow = false
	if h.dog.armed {
		h.agent.deadline = uint8(max(1, 1+int(h.dog.limit)-guard+timeout))
	}
	h.agent.sight = m.sightOf(i)
	if m.plant.NoInherit {
		h.agent.inherited = false
	}
	m.decide(i)
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

// finish ends an action on the host that needs no result.
func (m *mover) finish(i int, bit uint16) {
	a := &m.w.host[i].agent
	a.busy &^= bit
	a.held &^= bit
}

// killed is the end of a kill; a kill that could not be proved changes nothing.
func (m *mover) killed(i int, proved bool) {
	m.finish(i, busyKill)
	if proved {
		m.endProcess(i)
		m.w.host[i].agent.inherited = false
	}
	m.touched(i)
	m.decide(i)
}

// proveWrite kills and looks before message g goes out.
func (m *mover) proveWrite(g int, proved bool) {
	w := &m.w
	i := int(w.message[g].from) - 1
	a := &w.host[i].agent
	if !proved {
		m.dropMessage(g)
		a.busy &^= busyWrite
		m.touched(i)
		m.decide(i)
		return
	}
	m.endProcess(i)
	a.inherited = false
	letter := w.message[g]
	letter.stage, letter.held = toStore, false
	a.wait[1] = 0
	m.dropMessage(g)
	m.post(i, letter)
	m.lookAt(i)
	m.decide(i)
}

// order is the end of an order to the watchdog's holder. A limit that has passed
// is refused when the device is off, and changes nothing when it is on.
func (m *mover) order(i int) {
	h := &m.w.host[i]
	a := &h.agent
	m.finish(i, busyArm)
	switch {
	case a.disarm:
		h.dog = dog{}
	case a.armLimit > 0 || m.plant.petsBeyond():
		h.dog.limit = max(a.armLimit, h.dog.limit)
		h.dog.armed, h.dog.fuse = true, timeout
	}
	a.disarm, a.armLimit = false, 0
	m.decide(i)
}

// shutDown is the guest obeying a request to power off, or not.
func (m *mover) shutDown(i int, obeys bool) {
	m.finish(i, busyShutdown)
	if obeys && m.w.host[i].proc.state == up {
		m.endProcess(i)
	}
	m.touched(i)
	m.decide(i)
}

// resumed is the end of an order to let the guest go on.
func (m *mover) resumed(i int, done bool) {
	m.finish(i, busyResume)
	if h := &m.w.host[i]; done && (h.proc.state == standing || h.proc.state == outdated) {
		if h.proc.state == outdated {
			m.violate(ruleStaleGuest, "the guest goes on at %s as it was before it went on at the source", m.names.host[i+1])
		}
		h.proc.state = up
		m.checkGuarded(i)
	}
	m.touched(i)
	m.decide(i)
}

// fencedBy is the end of an order by host i to the fence device of host t: off is
// what became of it, told what the device's state read back says.
func (m *mover) fencedBy(i, t int, off, told bool) {
	a := &m.w.host[i].agent
	bit := busyFence << t
	m.finish(i, bit)
	if off && m.w.host[t].power {
		m.powerOff(t)
	}
	if m.plant.FenceNoReadback {
		told = true
	}
	if a.rec.host[t].mod == a.fenceMod[t] {
		a.fence[t] = fence{state: 2}
		if told {
			a.fence[t].state = 1
		}
	}
	a.fenceMod[t] = 0
	m.decide(i)
}
