package ha

import (
	"time"

	"holdfast/internal/cluster"
)

// holding reports whether the guest is, or may be, on this host.
func (m *Machine) holding() bool { return !m.gone() }

// gone reports a proof that nothing of the guest is here: an absence observed
// after the last action on it ended, and no such action under way.
func (m *Machine) gone() bool { return m.empty() && !m.Guest.Inherited }

// dead reports that no process of the guest is here, and that no start can bring
// one. A migration that still hangs brings nothing back: its source is no more.
func (m *Machine) dead() bool {
	return m.Guest.Seen.State == cluster.GuestAbsent && m.Guest.SeenAt > m.Guest.Touched && !m.busy(WorkStart)
}

// empty is gone, but for what an agent before this one may have begun.
func (m *Machine) empty() bool { return m.dead() && !m.busy(WorkMigrate) }

// present reports that a guest is here, or on its way by this host's own doing.
func (m *Machine) present() bool {
	switch m.Guest.Seen.State {
	case cluster.GuestRunning, cluster.GuestPaused, cluster.GuestIncoming, cluster.GuestArrived:
		return true
	}
	return m.busy(WorkStart) || m.busy(WorkMigrate)
}

// fresh reports whether the observation of the guest began after at and after
// the last action on it ended.
func (m *Machine) fresh(at cluster.Instant) bool {
	return m.Guest.SeenAt > at && m.Guest.SeenAt > m.Guest.Touched
}

// registered reports whether the host's record in the store is this agent's,
// and no takeover has ended it. Its revision does not matter: the watch may tell
// of a renewal before its answer comes.
func (m *Machine) registered() bool {
	r := m.Hosts[m.Self]
	return m.Lease.Mod != 0 && r.Identity == m.ThisHost.Identity && r.Boot == m.ThisHost.Boot && r.Expelled.IsZero()
}

// returned reports that this host's record is of a boot or a machine before, and
// that this agent has not registered yet.
func (m *Machine) returned() bool {
	r, known := m.Hosts[m.Self]
	return known && m.Lease.Mod == 0 && (r.Identity != m.ThisHost.Identity || r.Boot != m.ThisHost.Boot)
}

// leased reports whether this host may hold the guest for at least margin more.
func (m *Machine) leased(margin time.Duration) bool {
	return m.registered() && m.Lease.Deadline != 0 && m.Now.Add(margin) < m.Lease.Deadline
}

// expired reports that the deadline is known and has passed.
func (m *Machine) expired() bool { return m.Lease.Deadline != 0 && m.Now >= m.Lease.Deadline }

// holder reports whether the owner record lets this host have the guest.
func (m *Machine) holder() bool { return m.Owner.Holder() == m.Self }

// receiver reports that a migration may bring the guest here, standing still.
func (m *Machine) receiver() bool { return m.Owner.State == cluster.Migrating && m.Owner.To == m.Self }

// silent is how long ago the last renewal of h was seen.
func (m *Machine) silent(h cluster.HostID) time.Duration { return m.Now.Sub(m.Hosts[h].SeenAt) }

// alive reports whether h has renewed within the lease.
func (m *Machine) alive(h cluster.HostID) bool {
	r, ok := m.Hosts[h]
	return ok && r.Expelled.IsZero() && m.silent(h) < m.Timings.Lease
}

// frozen reports that nobody can take over from this host: the store knows that
// its watchdog promises nothing, and no renewal that says otherwise has been
// sent. Then the deadline means nothing.
func (m *Machine) frozen() bool {
	return m.registered() && m.Hosts[m.Self].HandsOff && !m.Lease.HandsOn
}
