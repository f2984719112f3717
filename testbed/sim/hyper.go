package sim

import (
	"errors"
	"time"

	"holdfast/internal/cluster"
)

// Errors of the simulated driver.
var (
	errBusy    = errors.New("a guest's process exists")
	errFailed  = errors.New("the hypervisor refused")
	errTimeout = errors.New("no answer in time")
	errGone    = errors.New("the guest is not running")
)

// process is a guest's process.
type process struct {
	state     cluster.GuestState // incoming, arrived, running or paused
	epoch     cluster.Epoch
	migrating bool
	ioError   bool // it stands still since its disk failed
	sick      bool // it fails its health check
	stale     bool // it has arrived in a migration, and the guest has gone on at the source since
}

// hypervisor is what runs guests on a host. It goes on when the agent does not.
type hypervisor struct {
	host    *host
	proc    *process
	pending int // counts: a start that is under way belongs to one value
	waiting bool
	givenUp bool // the agent waits no more for the start that is under way
	moving  *migration
	moved   bool // a migration took all of the last process away

	startMode string        // "", fail, hang, late, lost
	stuckKill bool          // a kill does not end the process
	diskBad   bool          // the disk of the guest does not answer here
	deaf      bool          // the guest ignores a request to shut down
	moveMode  string        // "", refuse, fail, late-fail, unknown, unheard, stall
	transfer  time.Duration // of a migration's data; 0: the default
}

func (y *hypervisor) clean() bool {
	return y.startMode == "" && !y.stuckKill && !y.deaf && y.moveMode == "" && !y.waiting && (y.proc == nil || !y.proc.sick)
}

// vanish is what a loss of power does.
func (y *hypervisor) vanish() {
	y.drop()
	y.moved = false
	y.pending++
	y.waiting = false
	if m := y.moving; m != nil {
		m.over, y.moving = true, nil
		if !m.switched {
			m.dropTarget()
		}
	}
}

// drop ends the process.
func (y *hypervisor) drop() {
	if y.proc != nil {
		y.proc = nil
		y.host.dropped = y.host.world.now
		y.host.wake()
	}
}

// wake tells the agent soon that something of the guest changed; sometimes it
// does not, and the next poll finds it.
func (h *host) wake() {
	if !h.world.chance(0.2) {
		h.agent.afterHere(h.world.between(time.Millisecond, 10*time.Millisecond), h.agent.observe)
	}
}

// observe is what an observation of the guest shows now.
func (y *hypervisor) observe() cluster.Guest {
	switch p := y.proc; {
	case y.host.blind:
		return cluster.Guest{State: cluster.GuestUnknown}
	case p == nil && y.waiting && y.givenUp:
		return cluster.Guest{State: cluster.GuestUnknown} // the driver knows of it: absence would prove nothing
	case p == nil:
		return cluster.Guest{State: cluster.GuestAbsent, Moved: y.moved}
	default:
		return cluster.Guest{State: p.state, Epoch: p.epoch, PID: 1, Migrating: p.migrating, IOError: p.ioError}
	}
}

// start makes the process. done gets the driver's answer; with mode lost or late
// it never comes, and the agent's own timeout decides. late: the process comes
// only after that timeout.
func (y *hypervisor) start(epoch cluster.Epoch, done func(error)) {
	w, h := y.host.world, y.host
	if y.proc != nil || y.waiting {
		h.afterHere(time.Millisecond, func() { done(errBusy) })
		return
	}
	takes := w.between(startTakes, startTakes+200*time.Millisecond)
	switch y.startMode {
	case "hang":
		takes = w.between(8*time.Second, 12*time.Second)
	case "late":
		takes = startTimeout + w.between(4*time.Second, 6*time.Second)
	case "fail":
		h.afterHere(takes, func() { done(errFailed) })
		return
	}
	lost := y.startMode == "lost"
	y.pending++
	y.waiting, y.givenUp = true, false
	mine := y.pending
	h.afterHere(takes, func() {
		if y.pending != mine {
			return // a kill came first
		}
		y.waiting = false
		y.proc, y.moved = &process{state: cluster.GuestRunning, epoch: epoch}, false
		w.checkGuarded(h)
		h.wake()
		if !lost {
			done(nil)
		}
	})
}

// kill ends the guest's process and a start that is under way, and proves it;
// done gets false when it can not be proved.
func (y *hypervisor) kill(done func(proved bool)) {
	h := y.host
	if y.stuckKill && (y.proc != nil || y.waiting) {
		h.afterHere(killTimeout, func() { done(false) })
		return
	}
	h.afterHere(h.world.between(killTakes, 4*killTakes), func() {
		if y.stuckKill && (y.proc != nil || y.waiting) {
			done(false)
			return
		}
		y.pending++
		y.waiting = false
		y.drop()
		if y.moving != nil {
			y.moving.sourceGone()
		}
		done(true)
	})
}

// still is the guest's disk failing: its CPUs stop.
func (y *hypervisor) still() {
	if p := y.proc; p != nil && p.state == cluster.GuestRunning && !p.migrating {
		p.state, p.ioError, y.diskBad = cluster.GuestPaused, true, true
		y.host.wake()
	}
}

// resume lets a guest go on that a migration has brought here, or whose disk
// answers again.
func (y *hypervisor) resume(done func(error)) {
	p := y.proc
	y.host.afterHere(y.host.world.between(resumeTakes, 20*resumeTakes), func() {
		switch {
		case p == nil || y.proc != p:
			done(errGone)
			return
		case p.ioError && y.diskBad:
			done(errBusy)
			return
		case p.ioError:
			p.state, p.ioError = cluster.GuestRunning, false
			y.host.world.checkGuarded(y.host)
			y.host.wake()
		case p.state == cluster.GuestArrived:
			if p.stale {
				y.host.world.violate("stale-guest", "the guest goes on at %s as it was before it went on at the source", y.host.name)
			}
			p.state = cluster.GuestRunning
			y.host.world.checkGuarded(y.host)
			y.host.wake()
		}
		done(nil)
	})
}

// sick says how the guest does that runs now.
func (y *hypervisor) sick(yes bool) {
	if y.proc != nil {
		y.proc.sick = yes
	}
}

// shutdown asks the guest's system to power off.
func (y *hypervisor) shutdown() {
	p := y.proc
	if p == nil || y.deaf {
		return
	}
	y.host.afterHere(haltTakes, func() {
		if y.proc == p && p.state == cluster.GuestRunning {
			y.end()
		}
	})
}

// end is the guest ending by itself.
func (y *hypervisor) end() {
	if y.proc == nil || y.proc.state == cluster.GuestIncoming {
		return
	}
	y.drop()
	if y.moving != nil {
		y.moving.sourceGone()
	}
}
