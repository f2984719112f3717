package explore

import (
	"fmt"

	"holdfast/internal/ha"
)

// Rules that are checked after every step, on the true state of the model.
const (
	ruleTwoHosts   = "two-hosts"       // the guest runs, would run once thawed, or is being started on two hosts
	ruleNoProof    = "no-proof"        // an epoch begins, or a start happens, without a proof of the one before
	ruleFalseProof = "false-proof"     // a proof is written that is not true
	ruleEpoch      = "epoch"           // an epoch goes back, or is used again
	ruleIdleReset  = "idle-reset"      // a host that holds nothing is reset by its watchdog
	ruleIdleFence  = "idle-fence"      // a fence device is ordered for a host that may hold nothing
	ruleTwoCalls   = "two-calls"       // a hypervisor is called a second time for one epoch
	ruleStaleGuest = "stale-guest"     // the guest goes on at a migration's target after it went on at the source
	ruleStaleStart = "stale-start"     // a start on an old observation
	ruleUnguarded  = "unguarded-start" // a start without a lease or an armed watchdog
	ruleUnguardedG = "unguarded-guest" // the guest begins on a host that has promised a reset and is not armed
	ruleOldTerm    = "old-term"        // a write of a coordinator that has been deposed is applied
	ruleHandsOff   = "hands-off"       // a kill while hands are off
	ruleDefect     = "defect"          // the core decides two actions of one kind at once
)

// Violation is a rule that did not hold, with the shortest path to it that was
// found.
type Violation struct {
	Rule   string   `json:"rule"`
	Detail string   `json:"detail"`
	Path   []string `json:"path"`
}

func (m *mover) violate(rule, format string, args ...any) {
	for _, v := range m.broken {
		if v.Rule == rule {
			return
		}
	}
	m.broken = append(m.broken, Violation{Rule: rule, Detail: fmt.Sprintf(format, args...)})
}

// inspect checks the state after a step.
func (m *mover) inspect() {
	n := 0
	for i := range m.w.host {
		if m.w.host[i].holds() {
			n++
		}
	}
	if n > 1 {
		m.violate(ruleTwoHosts, "%d hosts run the guest or are about to", n)
	}
}

// checkOwner looks at a change of the owner record.
func (m *mover) checkOwner(old, next *ownerRow) {
	w := &m.w
	fresh := next.proof != old.proof || next.proofHost != old.proofHost || next.proofEpoch != old.proofEpoch || next.by != old.by
	if h := int(next.proofHost) - 1; h >= 0 && fresh && w.host[h].has() {
		m.violate(ruleFalseProof, "the record says %q about %s, which has a process of the guest", m.names.proofs[next.proof], m.names.host[h+1])
	}
	over := old.epoch
	if old.proof == proofRestored && old.state == released {
		over = next.proofEpoch // of the store that was
	}
	switch {
	case next.epoch < old.epoch:
		m.violate(ruleEpoch, "epoch %d after %d", next.epoch, old.epoch)
	case next.epoch == old.epoch:
		if old.state == released && next.state != released {
			m.violate(ruleEpoch, "epoch %d used again after it was released", next.epoch)
		}
		return
	case old.mod == 0 && next.proof == proofFirst:
	case next.proof == proofNone || next.proof == proofFirst || next.proofEpoch != over:
		m.violate(ruleNoProof, "epoch %d after %d with proof %q about epoch %d", next.epoch, old.epoch,
			m.names.proofs[next.proof], next.proofEpoch)
	}
	// Whoever held the epoch before must be free of it now, whomever the proof names.
	// A source that stands still after a migration can not go on any more.
	for i := range w.host {
		if w.host[i].holds() {
			m.violate(ruleFalseProof, "epoch %d begins while %s runs the guest or starts it", next.epoch, m.names.host[i+1])
		}
	}
}

// checkStart looks at a start when the hypervisor is about to be called.
func (m *mover) checkStart(i int, act ha.Start) {
	h := &m.w.host[i]
	a := &h.agent
	o := &a.rec.owner
	name := m.names.host[i+1]
	switch {
	case o.proof == proofNone || o.epoch != smallEpoch(act.Epoch) || o.state != assigned || int(o.host) != i+1:
		m.violate(ruleNoProof, "%s starts epoch %d, its record is %q on %q, epoch %d", name, act.Epoch.Seq,
			m.names.owners[o.state], m.names.host[o.host], o.epoch)
	case m.w.called != 0 && m.w.called == smallEpoch(act.Epoch):
		m.violate(ruleTwoCalls, "%s calls its hypervisor for epoch %d, for which one has been called before", name, act.Epoch.Seq)
	case a.sight.fresh < 2:
		m.violate(ruleStaleStart, "%s starts on an observation that is older than the record or its own last action", name)
	case a.deadline <= 1:
		m.violate(ruleUnguarded, "%s starts after its deadline", name)
	case !h.dog.armed || a.busy&busyArm != 0 && a.disarm:
		m.violate(ruleUnguarded, "%s starts while its watchdog is off or being switched off", name)
	}
}

// checkGuarded looks at a host where the guest's CPUs begin.
func (m *mover) checkGuarded(i int) {
	h, s := &m.w.host[i], &m.w.store
	if r := &s.host[i]; r.mod != 0 && r.guard && !r.handsOff && !h.dog.armed && !s.want.handsOff {
		m.violate(ruleUnguardedG, "the guest begins on %s, whose watchdog is not armed", m.names.host[i+1])
	}
}

// checkKill: with hands off nobody kills, once the host has told the store.
func (m *mover) checkKill(i int, why string) {
	h := &m.w.host[i]
	a := &h.agent
	r := &a.rec.host[i]
	if h.proc.state != absent && a.rec.want.handsOff && r.handsOff && !r.expelled && !a.handsOn {
		m.violate(ruleHandsOff, "%s kills its guest with hands off: %s", m.names.host[i+1], why)
	}
}

// checkFence: only a host that the owner record lets have the guest may be
// switched off.
func (m *mover) checkFence(i, t int) {
	o := &m.w.host[i].agent.rec.owner
	if !holder(o, t) {
		m.violate(ruleIdleFence, "%s orders the fence device of %s, which does not hold the guest", m.names.host[i+1], m.names.host[t+1])
	}
}

func holder(o *ownerRow, i int) bool {
	switch o.state {
	case assigned, running, migrating, stopping, settling:
		return int(o.host) == i+1
	}
	return false
}

// idle reports that a host holds nothing and that its agent could have said so.
func (m *mover) idle(i int) bool {
	h := &m.w.host[i]
	a := &h.agent
	return h.thinks() && a.synced && h.proc.state == absent && h.starting == 0 && !h.slow && a.held == 0 &&
		a.busy&(busyStart|busyMigrate|busyKill|busyArm) == 0
}

// checkReset looks at a host that its watchdog is about to reset.
func (m *mover) checkReset(i int) {
	if m.w.host[i].idle == 2 {
		m.violate(ruleIdleReset, "%s holds nothing and is reset by its watchdog", m.names.host[i+1])
	}
}
