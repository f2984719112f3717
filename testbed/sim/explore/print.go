package explore

import (
	"fmt"
	"strings"

	"holdfast/internal/ha"
)

// tell does steps from a begin state and gives a line for each: what happened,
// and the state after it.
func (m *mover) tell(b *begin, codes []uint16) []string {
	m.w = b.world
	out := []string{fmt.Sprintf("0. begin %q | %s", b.name, m.describe())}
	for i, c := range codes {
		s := stepOf(c)
		what := m.name(s)
		m.apply(s)
		out = append(out, fmt.Sprintf("%d. %s | %s", i+1, what, m.describe()))
		for _, v := range m.broken {
			out = append(out, fmt.Sprintf("   %s: %s", v.Rule, v.Detail))
		}
	}
	return out
}

// name says in words what a step does to the present state.
func (m *mover) name(s step) string {
	h := fmt.Sprintf("h%d", s.a+1)
	at := func(format string) string { return fmt.Sprintf(format, h) }
	switch s.op {
	case opTick:
		return "a tick passes"
	case opSlowClock:
		return at("a tick passes, but not on %s's clock")
	case opDeliver:
		return "the store takes " + m.letterName(s.a)
	case opAnswer:
		return "the reply comes to " + m.letterName(s.a)
	case opLoseReply:
		return "the store takes, but its reply is lost: " + m.letterName(s.a)
	case opHoldReply:
		return "the store takes, but its reply is held back: " + m.letterName(s.a)
	case opLose:
		return "lost: " + m.letterName(s.a)
	case opHoldMessage:
		return "held back: " + m.letterName(s.a)
	case opProve:
		return "killed and proved gone for " + m.letterName(s.a)
	case opProveFails:
		return "not proved to have ended for " + m.letterName(s.a)
	case opFence:
		return fmt.Sprintf("%s's fence device shows h%d off", h, s.b+1)
	case opFenceFails:
		return fmt.Sprintf("%s's order to the fence device fails, h%d stays on", h, s.b+1)
	case opFenceMute:
		return fmt.Sprintf("%s's order to the fence device switches h%d off, unconfirmed", h, s.b+1)
	case opHold:
		return fmt.Sprintf("held back on %s: %s", h, workName(s.b))
	case opCut:
		return fmt.Sprintf("%s %s", h, []string{"", "is isolated", "is cut off from the store", "gets nothing from the store"}[s.b])
	case opWantMove:
		return at("asked for: migrate to %s")
	}
	return at(m.plainName(s.op))
}

// plainName is the sentence of a step that concerns at most one host.
func (m *mover) plainName(o op) string {
	names := map[op]string{
		opArm: "%s's watchdog has its order", opKill: "%s's kill is proved", opStart: "%s's hypervisor has started the guest",
		opShutdown: "%s's guest has shut down", opAbort: "%s's migration is aborted", opResume: "%s's guest goes on",
		opResumeFails: "%s's guest can not be resumed", opMove: "the migration goes on",
		opList: "%s lists the records", opNewer: "%s's agent sees that the store was restored, and begins anew",
		opWatch: "%s's watch tells the news", opKillFails: "%s's kill is not proved",
		opStartFails: "%s's start fails", opStartMute: "%s's hypervisor has started the guest, the answer is lost",
		opDeafGuest: "%s's guest ignores the shutdown", opMoveFails: "the migration breaks", opMoveLost: "the migration's last data are lost",
		opHoldStart: "held back: %s's start", opHoldMove: "held back: the migration", opLag: "%s's watch tells nothing from now on",
		opSlow: "%s looks at its guest, slowly", opGiveUpStart: "%s gives the start's answer up",
		opGiveUpMove:  "the source gives the migration's end up",
		opMoveUnheard: "the source gives the migration's end up and goes on",
		opCatchUp:     "%s's watch catches up", opSee: "%s's slow look has ended", opPowerOff: "%s loses its power", opPowerOn: "%s boots",
		opCrash: "%s's agent crashes", opRestart: "%s's agent starts", opFreeze: "%s freezes", opThaw: "%s thaws and decides",
		opThawMail: "%s thaws and finds its mail", opStop: "%s's agent stands still", opContinue: "%s's agent goes on",
		opHeal:  "%s's network is mended",
		opStall: "the store stalls", opUnstall: "the store goes on", opGuestEnds: "%s's guest ends by itself",
		opWantRun: "asked for: run", opWantStop: "asked for: stop", opWantCancel: "asked for: cancel the migration",
		opHandsOff: "asked for: hands off", opHandsOn: "asked for: hands on",
		opSaidOff: "an operator says that %s is off", opRestore: "the store is restored from a backup",
	}
	s := names[o]
	if !strings.Contains(s, "%s") {
		s += "%.0s"
	}
	return s
}

func (m *mover) letterName(i uint8) string {
	g := &m.w.message[i]
	from := fmt.Sprintf("h%d's", g.from)
	if !g.live {
		from += " old"
	}
	switch {
	case g.kind == kindRenew:
		return from + " renewal"
	case g.kind == kindElect:
		return from + " election"
	case g.kind == kindReport:
		return from + " report"
	case g.puts&(1<<recOwner) != 0:
		return from + " write " + m.ownerName(&g.owner)
	}
	return from + " note"
}

func (m *mover) ownerName(o *ownerRow) string {
	s := fmt.Sprintf("%s %s e%d", m.names.owners[o.state], m.names.host[o.host], o.epoch&^restored)
	if o.epoch >= restored {
		s += "'"
	}
	if o.to != 0 {
		s += fmt.Sprintf(" to %s", m.names.host[o.to])
	}
	if o.ready {
		s += " ready"
	}
	if o.claim != 0 {
		s += " claimed"
	}
	if o.proof != proofNone {
		s += fmt.Sprintf(" (%s %s)", m.names.proofs[o.proof], m.names.host[o.proofHost])
	}
	return s
}

// describe tells the state in a line.
func (m *mover) describe() string {
	w := &m.w
	var b strings.Builder
	owner := "none"
	if w.store.owner.mod != 0 {
		owner = m.ownerName(&w.store.owner)
	}
	fmt.Fprintf(&b, "owner: %s; coordinator h%d", owner, w.store.coord.host)
	if w.stalled {
		b.WriteString("; store stalled")
	}
	for i := range w.host {
		fmt.Fprintf(&b, "; h%d: %s", i+1, m.describeHost(i))
	}
	if w.move.stage != noMove {
		fmt.Fprintf(&b, "; migration h%d to h%d: %s", w.move.from, w.move.to,
			[]string{"", "asked", "carrying", "switched", "arrived", "lost"}[w.move.stage])
	}
	return b.String()
}

func (m *mover) describeHost(i int) string {
	h := &m.w.host[i]
	a := &h.agent
	var ws []string
	add := func(on bool, format string, args ...any) {
		if on {
			ws = append(ws, fmt.Sprintf(format, args...))
		}
	}
	add(!h.power, "off")
	add(h.frozen, "frozen")
	add(h.cut == isolated, "isolated")
	add(h.cut == storeCut, "cut from the store")
	add(h.cut == deaf, "deaf")
	add(h.agent.lag, "watch lags")
	add(h.slow, "looks slowly")
	add(h.power && !a.up, "no agent")
	add(a.stopped, "agent stopped")
	add(h.proc.state != absent, "guest %s e%d", m.names.guests[h.proc.state], h.proc.epoch)
	add(h.starting != 0, "start of e%d begun", h.starting)
	add(h.dog.armed, "armed to %+d", h.dog.limit)
	add(a.deadline == 1, "deadline passed")
	add(a.deadline > 1, "deadline %+d", int(a.deadline)-1)
	add(m.w.store.host[i].expelled, "expelled")
	if len(ws) == 0 {
		return "idle"
	}
	return strings.Join(ws, ", ")
}

// workName is the name of the work at a bit of agent.busy.
func workName(bit uint8) string {
	if w := ha.Work(1) << bit; w < ha.WorkFence {
		return w.String()
	}
	return fmt.Sprintf("fence h%d", 1<<bit/busyFence)
}
