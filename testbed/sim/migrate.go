package sim

import (
	"time"

	"holdfast/internal/cluster"
)

const (
	connectTakes  = 50 * time.Millisecond
	transferTakes = 3 * time.Second
	switchTakes   = 30 * time.Millisecond
	// lonely is how long a process that waits for a migration's data outlives a
	// connection that was cut without a word.
	lonely = 5 * time.Second
)

// migration is a live migration that the hypervisors of two hosts carry out, as
// libvirt's with VIR_MIGRATE_PAUSED is. The guest's CPUs stop at the source, the
// last data follow, and at the target it stands still. The source's process ends
// when it hears that; when the answer is lost, it goes on.
type migration struct {
	from, to *host
	source   *process
	target   *process
	toLife   int
	switched bool // the source is paused, the last data are on their way
	over     bool
	done     func(error)
}

// migrate begins one. done gets nil when the guest is at the target and gone
// here.
func (y *hypervisor) migrate(to *host, done func(error)) {
	h := y.host
	m := &migration{from: h, to: to, source: y.proc, done: done}
	h.afterHere(h.world.between(connectTakes, 4*connectTakes), func() {
		p := y.proc
		switch {
		case p == nil || p != m.source || p.state != cluster.GuestRunning:
			m.finish(errGone)
		case y.moveMode == "refuse" || !h.reaches(to) || !to.power || to.frozen:
			m.finish(errTimeout)
		case to.hyper.proc != nil || to.hyper.waiting:
			m.finish(errBusy)
		default:
			m.begin()
		}
	})
}

func (m *migration) begin() {
	y, w := &m.from.hyper, m.from.world
	m.target, m.toLife = &process{state: cluster.GuestIncoming, epoch: m.source.epoch, sick: m.source.sick}, m.to.life
	m.to.hyper.proc, m.to.hyper.moved, m.from.hyper.moved = m.target, false, false
	m.source.migrating = true
	y.moving = m
	takes := w.between(transferTakes, 3*transferTakes)
	if y.transfer != 0 {
		takes = y.transfer
	}
	m.carry(takes)
}

// carry sends the data, looking at both ends from time to time.
func (m *migration) carry(left time.Duration) {
	step := min(left, 200*time.Millisecond)
	m.from.afterHere(step, func() {
		switch {
		case m.over:
		case !m.targetWaits() || !m.from.reaches(m.to) || m.from.hyper.moveMode == "fail":
			m.fail(errFailed)
		case m.to.frozen || m.from.hyper.moveMode == "stall":
			m.carry(max(left, time.Millisecond))
		case left > step:
			m.carry(left - step)
		default:
			m.switchOver()
		}
	})
}

// targetWaits reports whether the process at the target is still the one that
// this migration made.
func (m *migration) targetWaits() bool {
	return m.to.life == m.toLife && m.to.hyper.proc == m.target && m.target.state == cluster.GuestIncoming
}

// switchOver stops the CPUs here and hands over.
func (m *migration) switchOver() {
	w := m.from.world
	m.switched = true
	m.source.state = cluster.GuestPaused
	fromLife := m.from.life
	w.after(w.between(switchTakes, 10*switchTakes), func() { m.arrive(fromLife, 0) })
	m.from.afterHere(lonely+time.Second, m.unheard)
}

// arrive is the arrival of the last data at the target. The source may have died
// since: what it sent still arrives.
func (m *migration) arrive(fromLife int, waited time.Duration) {
	w := m.from.world
	alive := m.from.life == fromLife && m.from.power
	switch {
	case m.to.frozen && waited < lonely:
		w.after(50*time.Millisecond, func() { m.arrive(fromLife, waited+50*time.Millisecond) })
		return
	case !m.targetWaits() || m.from.hyper.moveMode == "late-fail":
		// The target's end is known to be dead: the source goes on.
		if alive {
			m.from.inLife(fromLife, func() { m.fail(errFailed) })
		}
		return
	case (!alive || !m.from.reaches(m.to)) && w.chance(0.5) || m.from.hyper.moveMode == "unknown":
		m.dropTarget() // lost on the way: nobody knows, both stand still
		return
	}
	m.target.state = cluster.GuestArrived
	m.to.wake()
	w.after(w.between(switchTakes, 10*switchTakes), func() {
		if m.from.life == fromLife && m.to.life == m.toLife && m.from.reaches(m.to) && m.from.hyper.moveMode != "unheard" {
			m.from.inLife(fromLife, m.leave)
		}
	})
}

// unheard is the source giving up to wait for the target's answer. It goes on,
// unless a lock of the image holds it back.
func (m *migration) unheard() {
	if m.over {
		return
	}
	w := m.from.world
	if m.from.hyper.proc == m.source && m.source.state == cluster.GuestPaused && w.chance(0.7) {
		m.source.state, m.target.stale = cluster.GuestRunning, true
		w.checkGuarded(m.from)
		m.from.wake()
	}
	m.finish(errTimeout)
}

// leave is the source learning that the guest has arrived.
func (m *migration) leave() {
	if m.over {
		return
	}
	if m.from.hyper.proc == m.source {
		m.from.hyper.drop()
		m.from.hyper.moved = true
	}
	m.finish(nil)
}

// fail ends a migration before the guest has arrived.
func (m *migration) fail(err error) {
	if m.over {
		return
	}
	if m.from.hyper.proc == m.source && m.source.state == cluster.GuestPaused {
		m.source.state = cluster.GuestRunning
	}
	m.dropTarget()
	m.finish(err)
}

// dropTarget ends the waiting process, late when the target is out of reach.
func (m *migration) dropTarget() {
	wait := 50 * time.Millisecond
	if !m.from.power || !m.from.reaches(m.to) {
		wait = lonely
	}
	m.from.world.after(wait, func() {
		m.to.inLife(m.toLife, func() {
			if m.targetWaits() {
				m.to.hyper.drop()
			}
		})
	})
}

// sourceGone is the end of the source's process. What it sent before counts.
func (m *migration) sourceGone() {
	if m.over || m.from.hyper.proc == m.source {
		return
	}
	if !m.switched {
		m.dropTarget()
	}
	m.finish(errGone)
}

// abort ends the migration unless it has been handed over. done gets whether.
func (y *hypervisor) abort(done func(bool)) {
	y.host.afterHere(killTakes, func() {
		m := y.moving
		if m != nil && !m.over && !m.switched {
			m.fail(errFailed)
		}
		done(m == nil || m.over)
	})
}

func (m *migration) finish(err error) {
	if m.over {
		return
	}
	m.over = true
	if m.source != nil {
		m.source.migrating = false
	}
	if m.from.hyper.moving == m {
		m.from.hyper.moving = nil
	}
	m.done(err)
}
