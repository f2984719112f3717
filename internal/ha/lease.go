package ha

import (
	"fmt"
	"time"

	"holdfast/internal/cluster"
)

// protect kills the guest where it must not be any more. It needs nobody's
// help: not the store's, not the coordinator's. It reports whether a kill is
// decided or under way: nothing else is begun with the guest then.
func (d *decision) protect() (killing bool) {
	m := d.m
	switch {
	case m.Guest.Inherited && m.empty():
		d.do(Kill{Why: "a start that an earlier agent began may still come up"})
	case m.Guest.Seen.State == cluster.GuestAbsent || m.frozen():
	case m.expired():
		d.kill("the lease's deadline has passed")
	case !m.Hosts[m.Self].Expelled.IsZero():
		d.kill("a takeover has ended this host's epoch")
	}
	return m.busy(WorkKill) || d.decided(WorkKill)
}

// kill ends the guest, and not again before there was time to see that it is gone.
func (d *decision) kill(why string) {
	m := d.m
	if m.Guest.Touched == 0 || m.Guest.SeenAt > m.Guest.Touched || m.Now.Sub(m.Guest.Touched) >= killAgain {
		d.do(Kill{Why: why})
	}
}

// renew keeps this host's record alive, and registers it.
func (d *decision) renew() {
	m := d.m
	if !m.Synced || m.Outside {
		return
	}
	rec, known := m.Hosts[m.Self]
	same := rec.Identity == m.ThisHost.Identity && rec.Boot == m.ThisHost.Boot
	switch {
	case !known:
	case !same && m.Lease.Mod != 0:
		d.do(Conflict{fmt.Sprintf("host %s has been registered by another agent (identity %s, boot %s, address %s)",
			m.Self, rec.Identity, rec.Boot, rec.Addr)})
		return
	case !same && m.silent(m.Self) < m.mayLive(rec.Host):
		return // another agent with this name may live: watch it
	case m.otherMachine(rec.Host) && rec.Expelled.IsZero() && m.holder():
		return // another machine of this name may still hold the guest: only a proof about it ends that
	case same && rec.Fenced == m.ThisHost.Boot:
		return // it was shown off and yet goes on under the same boot: only a reboot ends that
	case (!same || !rec.Expelled.IsZero()) && !m.gone():
		return // first nothing of the guest may be here
	case m.givesUp():
		return // let the lease end, and the watchdog or the fence device reset the host
	}
	r := m.record(rec.Host)
	r.Seq = rec.Seq + 1
	news := !known || !m.registered() || r.Guard != rec.Guard || r.HandsOff != rec.HandsOff ||
		r.MigrateTLS != rec.MigrateTLS || r.Fit != rec.Fit || r.Retry != rec.Retry || r.Judged != rec.Judged ||
		r.Vote != rec.Vote || r.Guest != rec.Guest
	since := m.Now.Sub(m.Lease.Sent)
	failed := m.Lease.Sent.Add(m.Timings.Lease) > m.Lease.Deadline
	if since >= m.Timings.Keepalive || m.Lease.Sent == 0 || (news || failed) && since >= renewAgain {
		own := Key{KindHost, m.Self}
		d.do(Txn{
			For: WorkRenew, If: []Cond{{own, max(rec.Mod, m.Lease.Mod)}}, Put: []Put{{Key: own, Host: &r}},
			Event: m.arrival(rec.Host, same && known),
		})
	}
}

// otherMachine reports that a record of this host's name is not this machine's:
// the identity is another one, or that of a data directory that was copied.
func (m *Machine) otherMachine(rec cluster.Host) bool {
	return rec.Identity != m.ThisHost.Identity || rec.Machine != "" && m.ThisHost.Machine != "" && rec.Machine != m.ThisHost.Machine
}

// mayLive is how long the agent that wrote a record of this host's name may hold
// the guest without a sign. The boot before of this machine is over: it is
// watched for a lease only because its last renewal may still be on its way. What
// may be another machine is given the time until its own reset.
func (m *Machine) mayLive(rec cluster.Host) time.Duration {
	if m.otherMachine(rec) || rec.Machine == "" || m.ThisHost.Machine == "" {
		return m.wait(rec.Guard)
	}
	return m.Timings.Lease
}

// givesUp reports that this host ends its own lease, since it can neither let the
// guest go on nor stop it, or can not see what has become of it: only a reset
// helps then. Where nobody could tell that it was reset, that helps nobody.
func (m *Machine) givesUp() bool {
	if m.Want.HandsOff || !m.Watchdog.Working && !m.Devices[m.Self] {
		return false
	}
	return m.Guest.UnhealthyAt != 0 && m.Now.Sub(m.Guest.UnhealthyAt) > selfFenceAfter || m.holder() && m.blind() > blindWait
}

// blind is for how long this host has not been able to observe the guest.
func (m *Machine) blind() time.Duration {
	if m.Guest.UnobservableAt == 0 {
		return 0
	}
	return m.Now.Sub(m.Guest.UnobservableAt)
}

// arrival is the event of a renewal that registers the host, or with which a
// new agent takes over a guest that runs.
func (m *Machine) arrival(rec cluster.Host, same bool) cluster.Event {
	ev := cluster.Event{By: m.Self, Host: m.Self}
	switch {
	case !same || !rec.Expelled.IsZero():
		ev.Kind = cluster.EvJoined
	case m.Lease.Mod == 0 && m.Guest.Seen.State == cluster.GuestRunning && m.holder():
		ev.Kind, ev.Resource, ev.Epoch = cluster.EvAdopted, m.Resource, m.Guest.Seen.Epoch
	}
	return ev
}

// record is what this host says of itself.
func (m *Machine) record(old cluster.Host) cluster.Host {
	r := cluster.Host{
		Name: m.Self, Identity: m.ThisHost.Identity, Boot: m.ThisHost.Boot, Addr: m.ThisHost.Addr,
		MigrateTLS: m.ThisHost.Secure, Vote: m.ThisHost.Vote, Version: m.ThisHost.Version,
		Guard: m.guard(), Watchdog: m.Watchdog.Name, WatchdogTimeout: m.Watchdog.Timeout,
		Fit: m.ThisHost.Fit, Retry: m.ThisHost.Retry, Judged: m.ThisHost.Judged, Why: m.ThisHost.Why,
		Guest: m.Guest.Seen.State, Unhealthy: m.Guest.Unhealthy, HeartbeatPort: m.ThisHost.HeartbeatPort, Machine: m.ThisHost.Machine,
	}
	if r.Guest == cluster.GuestAbsent && !m.gone() {
		r.Guest = cluster.GuestUnknown
	}
	m.recordFaults(&r)
	// A guest that is here under a watchdog that is not armed can not be promised
	// to be reset: arm first, promise then.
	if m.present() && !m.Watchdog.Armed {
		r.Guard = 0
	}
	// Hands off is told before the watchdog is disarmed, and taken back only after
	// it is armed again under a valid lease: between the two nobody may count on it.
	unsafe := !m.leased(startMargin) || m.Watchdog.Working && !m.Watchdog.Armed
	r.HandsOff = m.Want.HandsOff || (old.HandsOff && m.holding() && unsafe)
	return r
}

// recordFaults says what is wrong with the guest here, or with the sight of it.
func (m *Machine) recordFaults(r *cluster.Host) {
	if m.Guest.Seen.State == cluster.GuestUnknown {
		r.Fit = false
		r.Why = joined("what runs on this host can not be observed", r.Why)
	}
	if m.Guest.PausedAt != 0 {
		r.Unhealthy = joined(stillWhy, r.Unhealthy)
	}
	r.Why, r.Unhealthy = clip(r.Why), clip(r.Unhealthy)
	r.Watchdog, r.Version = clip(r.Watchdog), clip(r.Version)
}

func joined(a, b string) string {
	if b == "" {
		return a
	}
	return a + "; " + b
}
