package ha

import (
	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
)

// A migration has one holder at a time: the source, until it has proved itself
// without the guest; then the target. What arrives stands still until the record
// names the target, and harms nobody: whoever is not the holder kills it.

// source is the side of a migration that has the guest.
func (d *decision) source() {
	m := d.m
	o := m.Owner
	moving := m.busy(WorkMigrate) || m.Guest.Seen.Migrating
	switch {
	case moving:
		// A target without a lease may not go on with the guest. At the end of a migration
		// the guest stands still for as long as its hypervisor waits for a target that is lost.
		if m.cancelled() || m.silent(o.To) > m.Timings.Lease {
			d.do(Abort{})
		}
	case !m.fresh(o.SeenAt): // what is known is older than the end of the migration
	case m.gone():
		d.left()
	case m.Guest.Seen.State == cluster.GuestPaused && m.Now.Sub(max(m.Guest.Touched, o.SeenAt)) > pausedWait:
		d.do(Kill{Why: "it stands still after a move that did not end"})
	case m.Guest.Seen.State != cluster.GuestRunning:
	case m.cancelled():
		d.become(m.Self, cluster.EvMigrateEnd, reason.MoveCancelled.With())
	case m.Guest.Tried == o.Mod:
		d.become(m.Self, cluster.EvMigrateEnd, reason.MoveFailed.With(m.Guest.TriedBy))
	case m.able(o.To) != "":
		d.become(m.Self, cluster.EvMigrateEnd, reason.TargetNotAble.With(o.To, m.able(o.To)))
	case m.leased(startMargin) && !d.writing():
		d.do(Migrate{To: o.To, Mod: o.Mod})
	}
}

// cancelled reports that an operator has asked to end the migration that is on.
// The request names its revision, so one that comes too late ends no other.
func (m *Machine) cancelled() bool {
	return m.Owner.State == cluster.Migrating && m.Want.Cancel == m.Owner.Mod
}

// left writes that the guest is not here any more, and can not come back: the
// target has the word. It may go on with what has arrived only if the guest has
// not run here since, which the end of the process alone does not tell.
func (d *decision) left() {
	m := d.m
	n := m.Owner.Owner
	n.State, n.Host, n.To, n.Ready = cluster.Settling, m.Owner.To, "", m.Guest.Seen.Moved
	n.Proof = cluster.Proof{Kind: cluster.ProofReleased, Host: m.Self, Epoch: n.Epoch, By: m.Self}
	because(&n, reason.GuestLeft.With(m.Self))
	d.write(n, cluster.Event{Kind: cluster.EvSettling, Host: n.Host}, true)
}

// settle answers the question whether this host, the living side of a
// migration, has the running guest.
func (d *decision) settle() {
	m := d.m
	late := m.Now.Sub(m.Owner.SeenAt) > settleWait
	switch {
	case late && m.Guest.Seen.State != cluster.GuestRunning && m.Guest.Seen.State != cluster.GuestAbsent:
		d.kill("a move that does not end") // its hypervisor hangs on the other side, which is lost
	case m.busy(WorkMigrate) || m.Guest.Seen.Migrating:
		if m.Now.Sub(m.Guest.Touched) >= killAgain {
			d.do(Abort{})
		}
	case !m.fresh(m.Owner.SeenAt):
	case d.resume() == kept:
	case m.gone():
		d.release(cluster.ProofReleased, m.Owner.Failures, reason.LostInMove.With())
	case m.Guest.Seen.State != cluster.GuestUnknown:
		d.do(Kill{Why: "an incomplete move"})
	}
}

// resume lets the guest go on where a migration has brought it, and writes that
// it does. The other side is proved to be without it. It needs the promise of a
// start: that nobody takes over from a host which can not be reset.
func (d *decision) resume() fate {
	m := d.m
	switch {
	case m.Guest.Seen.State == cluster.GuestRunning:
		d.become(m.Self, cluster.EvMigrated, reason.Reason{})
		return kept
	case m.Guest.Seen.State == cluster.GuestArrived && m.Owner.Ready:
		if m.leased(startMargin) && (m.guarded() || m.frozen()) {
			d.do(Resume{})
		}
		return kept
	}
	return left
}
