package explore

import (
	"fmt"
	"slices"
	"strings"
)

// op is the kind of a step.
type op uint8

// What is due: the ordinary course.
const (
	opTick op = iota
	opDeliver
	opAnswer
	opProve
	opArm
	opKill
	opStart
	opShutdown
	opAbort
	opResume
	opFence
	opMove
	opList
	opNewer
	opWatch
	// What a fault makes of something that is due.
	opLose
	opLoseReply
	opProveFails
	opKillFails
	opStartFails
	opStartMute
	opDeafGuest
	opFenceFails // the host stays on
	opFenceMute  // the host is off, but the device does not say so
	opResumeFails
	opMoveFails
	opMoveLost
	// Delays.
	opHoldMessage
	opHoldReply
	opHold // b: the bit of the work
	opHoldStart
	opHoldMove
	opLag
	opSlow
	// Ends of delays, and what becomes of what has no answer.
	opGiveUpStart
	opGiveUpMove
	opMoveUnheard // the source goes on
	opCatchUp
	opSee
	// Faults and repairs.
	opPowerOff
	opPowerOn
	opCrash
	opRestart
	opFreeze
	opThaw
	opThawMail
	opStop
	opContinue
	opCut // b: how
	opHeal
	opStall
	opUnstall
	opGuestEnds
	// Operators, and clocks.
	opWantRun
	opWantStop
	opWantMove // a: to
	opWantCancel
	opHandsOff
	opHandsOn
	opSaidOff
	opRestore
	opSlowClock
)

// step is one thing that happens: a is a host or a message, b a detail.
type step struct {
	op   op
	a, b uint8
}

func (s step) code() uint16 { return uint16(s.op)<<8 | uint16(s.a)<<4 | uint16(s.b) }

func stepOf(c uint16) step { return step{op(c >> 8), uint8(c >> 4 & 15), uint8(c & 15)} }

// due is one thing that happens promptly unless something is spent.
type due struct {
	step  step
	whose int // the host that it concerns; -1: all
}

// works are the actions on a host that end by themselves, in the order in which
// they do.
func works() []struct {
	bit uint16
	op  op
	no  uint8
} {
	return []struct {
		bit uint16
		op  op
		no  uint8
	}{{busyArm, opArm, 4}, {busyKill, opKill, 6}, {busyShutdown, opShutdown, 7}, {busyAbort, opAbort, 9}, {busyResume, opResume, 10}}
}

// dues lists what is due, in the order in which it happens: what ends on the
// hosts, the migration, then messages, then watches.
func (m *mover) dues(out []due) []due {
	w := &m.w
	for i := range w.host {
		out = m.localDues(i, out)
	}
	if m.moveReady() && !w.move.held {
		out = append(out, due{step{op: opMove}, -1})
	}
	q := w.quorum()
	for j := range w.message {
		g := &w.message[j]
		if g.stage == noMessage || g.held {
			continue
		}
		at := int(g.from) - 1
		h := &w.host[at]
		switch {
		case g.stage == proving && h.thinks():
			out = append(out, due{step{op: opProve, a: uint8(j)}, at})
		case g.stage == toStore && q:
			whose := -1
			if g.kind == kindRenew {
				whose = at
			}
			out = append(out, due{step{op: opDeliver, a: uint8(j)}, whose})
		case (g.stage == taken || g.stage == refused) && h.thinks():
			out = append(out, due{step{op: opAnswer, a: uint8(j)}, at})
		}
	}
	for i := range w.host {
		h := &w.host[i]
		switch {
		case !h.thinks() || h.cut != whole:
		case h.agent.synced && h.agent.gen != w.gen && q && !h.agent.lag:
			out = append(out, due{step{op: opNewer, a: uint8(i)}, i})
		case !h.agent.synced && q:
			out = append(out, due{step{op: opList, a: uint8(i)}, i})
		case m.follows(i) && m.behind(i):
			out = append(out, due{step{op: opWatch, a: uint8(i)}, i})
		}
	}
	return out
}

func (m *mover) localDues(i int, out []due) []due {
	h := &m.w.host[i]
	a := &h.agent
	if h.thinks() {
		soon := a.busy &^ a.held
		for _, k := range works() {
			if soon&k.bit != 0 {
				out = append(out, due{step{k.op, uint8(i), k.no}, i})
			}
		}
		for t := range m.w.host {
			if soon&(busyFence<<t) != 0 {
				out = append(out, due{step{opFence, uint8(i), uint8(t)}, -1})
			}
		}
	}
	if h.power && !h.frozen && h.starting != 0 && !h.startHeld {
		out = append(out, due{step{op: opStart, a: uint8(i)}, i})
	}
	return out
}

// next lists the steps that may follow. all: what is due may happen in any order.
func (m *mover) next(all bool, out []step) []step {
	var room [32]due
	ds := m.dues(room[:0])
	whose := -1
	if len(ds) > 0 && !all {
		ds, whose = ds[:1], ds[0].whose
	}
	for _, d := range ds {
		out = append(out, d.step)
		out = m.spoil(d.step, out)
	}
	if len(ds) == 0 {
		out = append(out, step{op: opTick})
		out = m.operators(out)
		out = m.clocks(out)
	}
	// A fault on a host commutes with what concerns another host alone: it is
	// enough to let it happen right before something that concerns its own.
	for i := range m.w.host {
		if all || whose < 0 || whose == i {
			out = m.breaks(i, out)
			out = m.repairs(i, out)
		}
	}
	if all || whose < 0 {
		out = m.common(out)
	}
	return out
}

// spoil lists what may happen in place of something that is due.
func (m *mover) spoil(s step, out []step) []step {
	w := &m.w
	if w.faults > 0 {
		switch s.op {
		case opDeliver:
			out = append(out, step{op: opLose, a: s.a})
			if w.message[s.a].live {
				out = append(out, step{op: opLoseReply, a: s.a})
			}
		case opProve:
			out = append(out, step{op: opProveFails, a: s.a})
		case opKill:
			out = append(out, step{op: opKillFails, a: s.a})
		case opStart:
			out = append(out, step{op: opStartFails, a: s.a}, step{op: opStartMute, a: s.a})
		case opShutdown:
			out = append(out, step{op: opDeafGuest, a: s.a})
		case opResume:
			out = append(out, step{op: opResumeFails, a: s.a})
		case opFence:
			out = append(out, step{opFenceFails, s.a, s.b}, step{opFenceMute, s.a, s.b})
		case opMove:
			out = append(out, step{op: opMoveFails})
			if w.move.stage == switched || w.move.stage == arrived {
				out = append(out, step{op: opMoveLost})
			}
		}
	}
	if w.delays > 0 {
		switch s.op {
		case opDeliver:
			out = append(out, step{op: opHoldMessage, a: s.a})
			if w.message[s.a].live {
				out = append(out, step{op: opHoldReply, a: s.a})
			}
		case opProve:
			out = append(out, step{op: opHoldMessage, a: s.a})
		case opArm, opKill, opResume:
			out = append(out, step{opHold, s.a, s.b})
		case opFence:
			out = append(out, step{opHold, s.a, 11 + s.b})
		case opStart:
			out = append(out, step{op: opHoldStart, a: s.a})
		case opMove:
			out = append(out, step{op: opHoldMove})
		}
	}
	return out
}

// breaks lists the faults of one host.
func (m *mover) breaks(i int, out []step) []step {
	h, a := &m.w.host[i], uint8(i)
	if m.w.faults > 0 && h.power {
		out = append(out, step{op: opPowerOff, a: a})
		if !h.frozen {
			out = append(out, step{op: opFreeze, a: a})
		}
		if h.agent.up && !h.frozen {
			out = append(out, step{op: opCrash, a: a})
			if !h.agent.stopped {
				out = append(out, step{op: opStop, a: a})
			}
		}
		if h.cut == whole {
			out = append(out, step{opCut, a, isolated}, step{opCut, a, storeCut}, step{opCut, a, deaf})
		}
		if h.proc.state == up && !h.frozen {
			out = append(out, step{op: opGuestEnds, a: a})
		}
	}
	if m.w.delays > 0 && h.thinks() {
		if !h.agent.lag {
			out = append(out, step{op: opLag, a: a})
		}
		if !h.slow {
			out = append(out, step{op: opSlow, a: a})
		}
	}
	return out
}

// repairs lists the repairs of one host and the ends of its delays.
func (m *mover) repairs(i int, out []step) []step {
	h, a := &m.w.host[i], uint8(i)
	if h.cut != whole {
		out = append(out, step{op: opHeal, a: a})
	}
	switch {
	case !h.power:
		return append(out, step{op: opPowerOn, a: a})
	case h.frozen:
		return append(out, step{op: opThaw, a: a}, step{op: opThawMail, a: a})
	}
	switch {
	case !h.agent.up:
		out = append(out, step{op: opRestart, a: a})
	case h.agent.stopped:
		out = append(out, step{op: opContinue, a: a})
	default:
		out = m.releases(i, out)
	}
	if h.startHeld {
		out = append(out, step{op: opStart, a: a}, step{op: opStartFails, a: a})
	}
	return out
}

// releases lists what an agent that thinks may go on with.
func (m *mover) releases(i int, out []step) []step {
	h, a := &m.w.host[i], uint8(i)
	held := h.agent.busy & h.agent.held
	for _, k := range works() {
		if held&k.bit != 0 {
			out = append(out, step{k.op, a, k.no})
		}
	}
	for t := range m.w.host {
		if held&(busyFence<<t) != 0 {
			out = append(out, step{opFence, a, uint8(t)})
		}
	}
	if held&busyStart != 0 || h.startHeld && h.agent.busy&busyStart != 0 {
		out = append(out, step{op: opGiveUpStart, a: a})
	}
	if h.agent.lag {
		out = append(out, step{op: opCatchUp, a: a})
	}
	if h.slow {
		out = append(out, step{op: opSee, a: a})
	}
	for j := range m.w.message {
		g := &m.w.message[j]
		if !g.held || int(g.from) != i+1 {
			continue
		}
		switch g.stage {
		case proving:
			out = append(out, step{op: opProve, a: uint8(j)})
		case taken, refused:
			out = append(out, step{op: opAnswer, a: uint8(j)})
		}
	}
	return out
}

// common lists the faults and repairs that concern nobody's host alone.
func (m *mover) common(out []step) []step {
	w := &m.w
	switch {
	case w.stalled:
		out = append(out, step{op: opUnstall})
	case w.faults > 0:
		out = append(out, step{op: opStall})
	}
	for j := range w.message {
		if g := &w.message[j]; g.held && g.stage == toStore && w.quorum() {
			out = append(out, step{op: opDeliver, a: uint8(j)})
		}
	}
	mv := &w.move
	if mv.held && m.moveReady() {
		out = append(out, step{op: opMove})
	}
	switch {
	case mv.stage == arrived && !m.moveReady() && !w.host[mv.from-1].frozen, mv.held && mv.stage == arrived:
		out = append(out, step{op: opGiveUpMove}, step{op: opMoveUnheard})
	case mv.stage == switched && !w.host[mv.from-1].power:
		out = append(out, step{op: opMoveLost})
	}
	return out
}

// operators lists what people may ask for between two ticks.
func (m *mover) operators(out []step) []step {
	s := &m.w.store
	if m.w.backup.want.mod != 0 && !m.w.quorum() {
		out = append(out, step{op: opRestore}) // refused while the old store answers
	}
	if m.w.orders == 0 || !m.w.quorum() || s.want.mod == 0 {
		return out
	}
	if s.want.run {
		out = append(out, step{op: opWantStop})
	} else {
		out = append(out, step{op: opWantRun})
	}
	if s.want.handsOff {
		out = append(out, step{op: opHandsOn})
	} else {
		out = append(out, step{op: opHandsOff})
	}
	if s.owner.state == migrating && s.want.cancel != 1+s.owner.mod {
		out = append(out, step{op: opWantCancel})
	}
	for i := range m.w.host {
		if s.want.move == 0 && s.owner.state == running && int(s.owner.host) != i+1 {
			out = append(out, step{op: opWantMove, a: uint8(i)})
		}
		if !m.w.host[i].power && s.want.off[i] == 0 {
			out = append(out, step{op: opSaidOff, a: uint8(i)})
		}
	}
	return out
}

func (m *mover) clocks(out []step) []step {
	for i := range m.w.host {
		if m.w.skews > 0 && m.w.host[i].power {
			out = append(out, step{op: opSlowClock, a: uint8(i)})
		}
	}
	return out
}

// kind is a sort of fault or delay, by the name that Options.Only has for it.
type kind struct {
	name string
	ops  []op
}

func kinds() []kind {
	return []kind{
		{"lose", []op{opLose}}, {"lose-reply", []op{opLoseReply}}, {"kill-fails", []op{opProveFails, opKillFails}},
		{"start-fails", []op{opStartFails}}, {"start-mute", []op{opStartMute}}, {"deaf-guest", []op{opDeafGuest}},
		{"resume-fails", []op{opResumeFails}},
		{"fence-fails", []op{opFenceFails, opFenceMute}}, {"move-fails", []op{opMoveFails, opMoveLost}},
		{"power", []op{opPowerOff}}, {"crash", []op{opCrash}}, {"freeze", []op{opFreeze}}, {"stop", []op{opStop}},
		{"cut", []op{opCut}}, {"stall", []op{opStall}}, {"guest-ends", []op{opGuestEnds}},
		{"hold", []op{opHoldMessage}}, {"hold-reply", []op{opHoldReply}}, {"hold-work", []op{opHold}},
		{"hold-start", []op{opHoldStart}}, {"hold-move", []op{opHoldMove}}, {"lag", []op{opLag}}, {"slow", []op{opSlow}},
	}
}

// KindNames lists the sorts of faults and delays.
func KindNames() []string {
	var out []string
	for _, k := range kinds() {
		out = append(out, k.name)
	}
	return out
}

// allow says which steps a search may take.
func allow(only []string) ([256]bool, error) {
	var ok [256]bool
	for i := range ok {
		ok[i] = true
	}
	for _, n := range only {
		if !slices.Contains(KindNames(), n) {
			return ok, fmt.Errorf("fault or delay %q: want one of %s", n, strings.Join(KindNames(), ", "))
		}
	}
	for _, k := range kinds() {
		for _, o := range k.ops {
			ok[o] = len(only) == 0 || slices.Contains(only, k.name)
		}
	}
	return ok, nil
}
