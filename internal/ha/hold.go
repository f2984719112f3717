package ha

import (
	"fmt"
	"time"

	"holdfast/internal/cluster"
)

// Durations of the holder that no operator needs to set.
const (
	// startMargin is what must be left of the lease for a start to begin: a start
	// takes 0.3 s, and one that is cut off at once helps nobody.
	startMargin = time.Second
	// renewAgain is the shortest time between two renewals, when there is news to
	// tell or the one before failed.
	renewAgain = 250 * time.Millisecond
	// readyWait is how long the source of a migration waits for its target.
	readyWait = 15 * time.Second
	// pausedWait is how long a guest may stand still at the source after a migration
	// has ended without a word from the target.
	pausedWait = 30 * time.Second
	// stopGrace is how long the guest's system may take to shut down; then it is
	// killed.
	stopGrace = 60 * time.Second
	// stopAgain is the time between two requests to shut down: a system that is
	// still booting ignores the first.
	stopAgain = 5 * time.Second
	// settleWait is how long the living side of a migration may take to find out what
	// it has: a migration to a host that is gone is given up by libvirt in 6 s.
	settleWait = 10 * time.Second
	// killAgain is how long the look at the guest after an action on it may take: a
	// fraction of the least G.
	killAgain = 100 * time.Millisecond
	// surrender is how long the kill of a guest that must not go on here may take.
	surrender = 10 * time.Second
	// settled is how long a guest must have run for its end not to count as a
	// failed start.
	settled = 10 * time.Second
)

// protect kills the guest where it must not be any more. It needs nobody's
// help: not the store's, not the coordinator's.
func (d *decision) protect() {
	v := d.v
	switch {
	case v.Local.Inherited && v.empty():
		d.do(Kill{"what an agent before this one began may still come"})
	case v.Local.Guest.State == cluster.GuestAbsent || v.frozen():
	case v.expired():
		d.kill("the lease's deadline has passed")
	case !v.Hosts[v.Self].Expelled.IsZero():
		d.kill("a takeover has ended this host's epoch")
	}
}

// kill ends the guest, and not again before there was time to see that it is gone.
func (d *decision) kill(why string) {
	l := &d.v.Local
	if l.Touched == 0 || l.GuestAt > l.Touched || d.v.Now.Sub(l.Touched) >= killAgain {
		d.do(Kill{why})
	}
}

// renew keeps this host's record alive, and registers it.
func (d *decision) renew() {
	v := d.v
	l := &v.Local
	if !v.Synced {
		return
	}
	rec, known := v.Hosts[v.Self]
	same := rec.Identity == l.Identity && rec.Boot == l.Boot
	switch {
	case !known:
	case !same && l.LeaseMod != 0:
		d.do(Conflict{fmt.Sprintf("host %s has been registered by another agent (identity %s, boot %s, address %s)", v.Self, rec.Identity, rec.Boot, rec.Addr)})
		return
	case !same && v.silent(v.Self) < v.Timings.Lease:
		return // another agent with this name may live: watch it for a lease
	case rec.Identity != l.Identity && rec.Expelled.IsZero() && v.holder():
		return // another machine of this name may still hold the guest: only a proof about it ends that
	case same && rec.Fenced == l.Boot:
		return // it was shown off and yet goes on under the same boot: only a reboot ends that
	case (!same || !rec.Expelled.IsZero()) && !v.gone():
		return // first nothing of the guest may be here
	case l.Doomed != 0 && v.Now.Sub(l.Doomed) > surrender && !v.Want.HandsOff:
		return // it can not be stopped here: let the lease end, and the watchdog reset the host
	}
	r := v.record(rec.Host)
	r.Seq = rec.Seq + 1
	news := !known || !v.registered() || r.Guard != rec.Guard || r.HandsOff != rec.HandsOff || r.Fit != rec.Fit || r.Guest != rec.Guest
	since := v.Now.Sub(l.RenewSent)
	failed := l.RenewSent.Add(v.Timings.Lease) > l.Deadline
	if since >= v.Timings.Keepalive || l.RenewSent == 0 || (news || failed) && since >= renewAgain {
		d.do(Renew{Record: r, Mod: max(rec.Mod, l.LeaseMod), Event: v.arrival(rec.Host, same && known)})
	}
}

// arrival is the event of a renewal that registers the host, or with which a
// new agent takes over a guest that runs.
func (v *View) arrival(rec cluster.Host, same bool) cluster.Event {
	ev := cluster.Event{By: v.Self, Host: v.Self}
	switch {
	case !same || !rec.Expelled.IsZero():
		ev.Kind = cluster.EvJoined
	case v.Local.LeaseMod == 0 && v.Local.Guest.State == cluster.GuestRunning && v.holder():
		ev.Kind, ev.Resource, ev.Epoch = cluster.EvAdopted, v.Resource, v.Local.Guest.Epoch
	}
	return ev
}

// record is what this host says of itself.
func (v *View) record(old cluster.Host) cluster.Host {
	l := &v.Local
	r := cluster.Host{
		Name: v.Self, Identity: l.Identity, Boot: l.Boot, Addr: l.Addr, Gate: l.Gate, Version: l.Version,
		Guard: v.guard(), Watchdog: l.Dog.Name, WatchdogTimeout: l.Dog.Timeout,
		Fit: l.Fit, Why: l.Why, Guest: l.Guest.State, Unhealthy: l.Sick, Beat: l.Beat, Machine: l.Machine,
	}
	if r.Guest == cluster.GuestAbsent && !v.gone() {
		r.Guest = cluster.GuestUnknown
	}
	// A guest that is here under a watchdog that is not armed can not be promised
	// to be reset: arm first, promise then.
	if v.present() && !l.Dog.Armed {
		r.Guard = 0
	}
	// Hands off is told before the watchdog is disarmed, and taken back only after
	// it is armed again under a valid lease: between the two nobody may count on it.
	unsafe := !v.leased(startMargin) || l.Dog.Working && !l.Dog.Armed
	r.HandsOff = v.Want.HandsOff || (old.HandsOff && v.holding() && unsafe)
	return r
}

// guard arms the watchdog while the guest is here or about to come, and disarms
// it only when it is proved gone.
func (d *decision) guard() {
	v := d.v
	dog := v.Local.Dog
	gone := v.gone() || v.expired() && v.dead() && !v.Local.Inherited
	if dog.Armed && (gone && !v.expects() || v.Want.HandsOff && v.frozen()) {
		d.do(Disarm{})
		return
	}
	if v.Want.HandsOff {
		return
	}
	if (dog.Armed || v.present() || v.expects()) && dog.Working && v.registered() && !v.expired() {
		if limit := v.limit(); limit > v.Now && (!dog.Armed || dog.Limit < limit) {
			d.do(Arm{limit})
		}
	}
}

// expects reports that a guest may come: this host is about to start it, or is
// the target of a migration. A target stays one until the record says otherwise:
// the source may be out of everybody's sight and still send.
func (v *View) expects() bool {
	o := v.Owner
	switch o.State {
	case cluster.Assigned:
		return o.Host == v.Self && v.leased(0)
	case cluster.Migrating:
		return o.To == v.Self
	case cluster.Settling:
		return o.Host == v.Self && !v.fresh(o.SeenAt) // it may have arrived since the last look
	}
	return false
}

// guarded reports that the promise which the store knows of this host is kept:
// its watchdog is armed, or it has promised nothing.
func (v *View) guarded() bool {
	dog := v.Local.Dog
	if v.Local.Busy[WorkArm] {
		return false // it may be a disarm
	}
	if v.Hosts[v.Self].Guard == 0 {
		return !dog.Working
	}
	return dog.Armed && dog.Limit > v.Now
}

// hold does what the owner record asks of this host.
func (d *decision) hold() {
	v := d.v
	if v.Want.HandsOff || v.Hosts[v.Self].HandsOff {
		d.arrive()
		return
	}
	if !v.registered() || d.stray() || v.restored() || !v.holder() {
		return
	}
	switch v.Owner.State {
	case cluster.Assigned:
		d.assigned()
	case cluster.Running:
		d.running()
	case cluster.Stopping:
		d.stopping()
	case cluster.Migrating:
		if v.Owner.Host == v.Self {
			d.source()
		} else {
			d.target()
		}
	case cluster.Settling:
		d.settle()
	}
}

// arrive is what is left to do with hands off: a guest that is on its way in a
// migration would stand still for good otherwise.
func (d *decision) arrive() {
	v := d.v
	o := v.Owner
	switch {
	case !v.registered() || v.restored() || !v.fresh(o.SeenAt):
	case o.State == cluster.Migrating && o.Host == v.Self && v.gone():
		d.left()
	case o.State == cluster.Settling && o.Host == v.Self:
		d.resume()
	}
}

// stray kills a guest that the owner record does not let this host have.
func (d *decision) stray() bool {
	v := d.v
	g, o := v.Local.Guest, v.Owner
	switch {
	case g.State == cluster.GuestAbsent || g.State == cluster.GuestUnknown || !v.fresh(0):
		return false
	case !g.Epoch.IsZero() && g.Epoch.Gen < v.Gen:
		d.do(Kill{fmt.Sprintf("the guest carries epoch %s, the store was restored since: generation %d", g.Epoch, v.Gen)})
		return true
	case o.Mod == 0:
		return false
	case o.Epoch.Less(g.Epoch):
		return false // the record here is older than the guest: wait for the news
	case !v.holder() && !v.Local.Busy[WorkMigrate]:
		d.do(Kill{fmt.Sprintf("the owner record is %s on %s, epoch %s", o.State, o.Host, o.Epoch)})
		return true
	case !g.Epoch.IsZero() && g.Epoch.Less(o.Epoch):
		d.do(Kill{fmt.Sprintf("the guest carries epoch %s, the owner record %s", g.Epoch, o.Epoch)})
		return true
	}
	return false
}

// assigned starts the guest. An epoch allows one call of the hypervisor: the
// agent process first writes its claim, by which any older write of this host
// that is still on its way fails, and calls then. A process that finds the claim
// of another one, its predecessor, does not call again; it gives the epoch back.
func (d *decision) assigned() {
	v := d.v
	g, o := v.Local.Guest, v.Owner
	switch {
	case g.State == cluster.GuestRunning && g.Epoch == o.Epoch && v.fresh(0):
		d.become(v.Self, cluster.EvStarted, "")
	case !v.gone() || !v.fresh(o.SeenAt):
	case v.Local.Started == o.Epoch:
		d.release(cluster.ProofReleased, o.Failures+1, "the start failed: "+v.Local.TriedBy)
	case o.Claim != "" && o.Claim != v.Local.Instance:
		d.release(cluster.ProofReleased, o.Failures+1, "the agent was restarted during the start")
	case o.Claim == "" && !v.Local.Fit:
		d.release(cluster.ProofNeverStarted, o.Failures+1, "not able to start: "+v.Local.Why)
	case !v.leased(startMargin) || !v.guarded():
	case o.Claim == "":
		n := o.Owner
		n.Claim = v.Local.Instance
		d.write(n, cluster.Event{}, false)
	case !d.writes():
		d.do(Start{o.Epoch})
	}
}

func (d *decision) running() {
	v := d.v
	if v.Local.Sick != "" && !v.gone() {
		d.do(Kill{v.Local.Sick})
	}
	if !v.gone() || !v.fresh(v.Owner.SeenAt) {
		return
	}
	ran, failures, restarts := v.Now.Sub(v.Owner.SeenAt), 0, 1
	if ran < settled {
		failures = v.Owner.Failures + 1
	}
	if ran < v.Restart.Window {
		restarts = v.Owner.Restarts + 1
	}
	why := "the guest's process has ended"
	if v.Local.Killed != "" {
		why = "it was killed: " + v.Local.Killed
	}
	n := v.Owner.Owner
	n.Restarts = restarts
	d.releaseAs(n, cluster.ProofReleased, failures, why)
}

func (d *decision) stopping() {
	v := d.v
	asked := v.Now.Sub(v.Local.Shut)
	switch {
	case v.gone():
		n := v.Owner.Owner
		n.Restarts = 0
		d.releaseAs(n, cluster.ProofReleased, 0, "stopped on request")
	case v.Local.Guest.State == cluster.GuestAbsent: // a start is under way
	case v.Local.Shut == 0:
		d.do(Shutdown{})
	case asked > stopGrace:
		d.do(Kill{"the guest did not shut down in time"})
	case asked%stopAgain < renewAgain && asked > stopAgain:
		d.do(Shutdown{})
	}
}

// source is the side of a migration that has the guest.
func (d *decision) source() {
	v := d.v
	l, o := &v.Local, v.Owner
	moving := l.Busy[WorkMigrate] || l.Guest.Migrating
	switch {
	case moving:
		if v.Want.MoveTo == v.Self {
			d.do(Abort{})
		}
	case !v.fresh(o.SeenAt): // what is known is older than the end of the migration
	case v.gone():
		d.left()
	case l.Guest.State == cluster.GuestPaused && v.Now.Sub(max(l.Touched, o.SeenAt)) > pausedWait:
		d.do(Kill{"it stands still after a migration that did not end"})
	case l.Guest.State != cluster.GuestRunning:
	case l.Tried == o.Mod:
		d.become(v.Self, cluster.EvMigrateEnd, l.TriedBy)
	case v.Want.MoveTo == v.Self:
		d.become(v.Self, cluster.EvMigrateEnd, "cancelled")
	case !o.Ready && v.Now.Sub(o.SeenAt) > readyWait:
		d.become(v.Self, cluster.EvMigrateEnd, "the target was not ready in time")
	case o.Ready && v.leased(startMargin) && v.alive(o.To) && !d.writes():
		d.do(Migrate{To: o.To, Mod: o.Mod})
	}
}

// left writes that the guest is not here any more, and can not come back: the
// target has the word. It may go on with what has arrived only if the guest has
// not run here since, which the end of the process alone does not tell.
func (d *decision) left() {
	v := d.v
	n := v.Owner.Owner
	n.State, n.Host, n.To, n.Ready = cluster.Settling, v.Owner.To, "", v.Local.Guest.Moved
	n.Proof = cluster.Proof{Kind: cluster.ProofReleased, Host: v.Self, Epoch: n.Epoch, By: v.Self}
	n.Reason = "the guest has left " + string(v.Self)
	d.write(n, cluster.Event{Kind: cluster.EvSettling, Host: n.Host}, true)
}

// target is the side of a migration that gets the guest. What arrives stands
// still: the source may not know yet, and go on with it.
func (d *decision) target() {
	v := d.v
	l, o := &v.Local, v.Owner
	switch {
	case o.Ready || l.Guest.State != cluster.GuestAbsent || !v.gone() || !v.fresh(o.SeenAt):
	case !l.Fit:
		d.become(o.Host, cluster.EvMigrateEnd, "the target is not able to run it: "+l.Why)
	case v.leased(startMargin) && v.guarded():
		n := o.Owner
		n.Ready = true
		d.write(n, cluster.Event{}, false)
	}
}

// settle answers the question whether this host, the living side of a
// migration, has the running guest.
func (d *decision) settle() {
	v := d.v
	l := &v.Local
	late := v.Now.Sub(v.Owner.SeenAt) > settleWait
	switch {
	case late && l.Guest.State != cluster.GuestRunning && l.Guest.State != cluster.GuestAbsent:
		d.kill("a migration that does not end") // its hypervisor hangs on the other side, which is lost
	case l.Busy[WorkMigrate] || l.Guest.Migrating:
		if v.Now.Sub(l.Touched) >= killAgain {
			d.do(Abort{})
		}
	case !v.fresh(v.Owner.SeenAt):
	case d.resume():
	case v.gone():
		d.release(cluster.ProofReleased, v.Owner.Failures, "the guest was lost in a migration")
	case l.Guest.State != cluster.GuestUnknown:
		d.do(Kill{"an incomplete migration"})
	}
}

// resume lets the guest go on where a migration has brought it, and writes that
// it does. The other side is proved to be without it. It needs the promise of a
// start: that nobody takes over from a host which can not be reset.
func (d *decision) resume() bool {
	v := d.v
	switch {
	case v.Local.Guest.State == cluster.GuestRunning:
		d.become(v.Self, cluster.EvMigrated, "")
		return true
	case v.Local.Guest.State == cluster.GuestArrived && v.Owner.Ready:
		if v.leased(startMargin) && (v.guarded() || v.frozen()) {
			d.do(Resume{})
		}
		return true
	}
	return false
}

// become writes that host runs the guest.
func (d *decision) become(host cluster.HostID, ev cluster.EventKind, detail string) {
	n := d.v.Owner.Owner
	n.State, n.Host, n.To, n.Ready, n.Claim, n.Reason = cluster.Running, host, "", false, "", detail
	d.write(n, cluster.Event{Kind: ev, Host: host, Detail: detail}, false)
}

// release writes that this host's epoch is over, after proving it once more.
func (d *decision) release(kind cluster.ProofKind, failures int, why string) {
	d.releaseAs(d.v.Owner.Owner, kind, failures, why)
}

func (d *decision) releaseAs(n cluster.Owner, kind cluster.ProofKind, failures int, why string) {
	n.State, n.To, n.Ready, n.Claim, n.Failures, n.Reason = cluster.Released, "", false, "", failures, why
	n.Proof = cluster.Proof{Kind: kind, Host: d.v.Self, Epoch: n.Epoch, By: d.v.Self}
	d.write(n, cluster.Event{Kind: cluster.EvReleased, Host: d.v.Self, Proof: kind, Detail: why}, true)
}

// write changes the owner record as its holder.
func (d *decision) write(n cluster.Owner, ev cluster.Event, prove bool) {
	if d.writes() {
		return
	}
	ev.By, ev.Resource, ev.Epoch = d.v.Self, n.Resource, n.Epoch
	d.do(Write{Prove: prove, OwnerMod: d.v.Owner.Mod, Owner: &n, Event: ev})
}
