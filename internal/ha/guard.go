package ha

import (
	"time"

	"holdfast/internal/cluster"
)

// guard arms the watchdog while the guest is here or about to come, and disarms
// it only when it is proved gone.
func (d *decision) guard() {
	m := d.m
	dog := m.Watchdog
	gone := m.gone() || m.expired() && m.dead() && !m.Guest.Inherited
	if dog.Armed && (gone && !m.expects() || m.Want.HandsOff && m.frozen()) {
		d.do(Disarm{})
		return
	}
	if m.Want.HandsOff {
		return
	}
	if (dog.Armed || m.present() || m.expects()) && dog.Working && m.registered() && !m.expired() {
		if limit := m.limit(); limit > m.Now && (!dog.Armed || dog.Limit < limit) {
			d.do(Arm{limit, dog.Timeout})
		}
	}
}

// expects reports that the guest may come to run here: this host is about to
// start it, or to let go on what a migration has brought.
func (m *Machine) expects() bool {
	o := m.Owner
	switch o.State {
	case cluster.Assigned:
		return o.Host == m.Self && m.leased(0)
	case cluster.Settling:
		return o.Host == m.Self && !m.fresh(o.SeenAt) // it may have arrived since the last look
	}
	return false
}

// guarded reports that the promise which the store knows of this host is kept:
// its watchdog is armed, or it has promised nothing.
func (m *Machine) guarded() bool {
	dog := m.Watchdog
	if m.busy(WorkArm) {
		return false // it may be a disarm
	}
	if m.Hosts[m.Self].Guard == 0 {
		return !dog.Working
	}
	return dog.Armed && dog.Limit > m.Now
}

// guard is this host's G: the time within which it is reset after its deadline.
// A device with a long timeout makes it longer: T + G >= W + 2 keepalives.
func (m *Machine) guard() time.Duration {
	if !m.Watchdog.Working {
		return 0
	}
	return Guard(m.Timings, m.Watchdog.Timeout)
}

// Guard gives the G of a host whose watchdog has the timeout w.
func Guard(t cluster.Timings, w time.Duration) time.Duration {
	return max(t.Grace, w+2*t.Keepalive-t.Lease)
}

// limit is the last moment at which the watchdog may be petted: D + G - W, with
// the smaller of the G that the store knows, if any, and the one that holds now.
func (m *Machine) limit() cluster.Instant {
	g := m.guard()
	if promised := m.Hosts[m.Self].Guard; promised > 0 {
		g = min(g, promised)
	}
	return m.Lease.Deadline.Add(g - m.Watchdog.Timeout)
}
