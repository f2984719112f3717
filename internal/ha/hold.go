package ha

import (
	"fmt"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
)

// Durations of the holder that no operator needs to set.
const (
	// startMargin is what must be left of the lease for a start to begin: a start
	// takes 0.3 s, and one that is cut off at once helps nobody.
	startMargin = time.Second
	// renewAgain is the shortest time between two renewals, when there is news to
	// tell or the one before failed.
	renewAgain = 250 * time.Millisecond
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
	// selfFenceAfter is how long the kill of a guest that must not go on here may take.
	selfFenceAfter = 10 * time.Second
	// blindWait is how long a holder may not be able to observe the guest: a
	// restart of the hypervisor's daemon takes less. blindStart is the same for a
	// start that was not begun.
	blindWait  = 30 * time.Second
	blindStart = 2 * time.Second
	// stillAgain is the time from one try to let a guest go on that stands still by
	// an I/O error to the next; after stillWait it is moved where another host is
	// able to run it.
	stillAgain = 5 * time.Second
	stillWait  = 30 * time.Second
	// settled is how long a guest must have run for its end not to count as a
	// failed start.
	settled = 10 * time.Second
)

// stillWhy says what is wrong with a guest that stands still by an I/O error.
const stillWhy = "it stands still by an I/O error of its disk"

// hold does what the owner record asks of this host.
func (d *decision) hold() {
	m := d.m
	if m.Want.HandsOff || m.Hosts[m.Self].HandsOff {
		d.arrive()
		return
	}
	if d.stray() == killed || !m.registered() || m.restored() || !m.holder() {
		return
	}
	switch m.Owner.State {
	case cluster.Assigned:
		d.assigned()
	case cluster.Running:
		d.running()
	case cluster.Stopping:
		d.stopping()
	case cluster.Migrating:
		d.source()
	case cluster.Settling:
		d.settle()
	}
}

// arrive is what is left to do with hands off: a guest that is on its way in a
// migration would stand still for good otherwise.
func (d *decision) arrive() {
	m := d.m
	o := m.Owner
	switch {
	case !m.registered() || m.restored() || !m.holder() || !m.fresh(o.SeenAt):
	case o.State == cluster.Migrating && m.gone():
		d.left()
	case o.State == cluster.Settling:
		d.resume()
	}
}

// fate is what becomes of a guest that is found on a host.
type fate uint8

const (
	left   fate = iota // as it is, or there is none
	killed             // it must not be here
	kept               // it is, or is about to be, the one that runs
)

// stray kills a guest that the owner record does not let this host have. A host
// that has not registered does so as well: it may have come back while a
// migration still brought it something. What is found on a host whose record is
// of a boot before can be nothing else, and would keep it from registering.
func (d *decision) stray() fate {
	m := d.m
	g, o := m.Guest.Seen, m.Owner
	switch {
	case g.State == cluster.GuestAbsent || g.State == cluster.GuestUnknown || !m.fresh(0):
		return left
	case !g.Epoch.IsZero() && g.Epoch.Gen < m.Gen:
		d.do(Kill{Why: fmt.Sprintf("what runs carries epoch %s, the store was restored since: generation %d", g.Epoch, m.Gen)})
		return killed
	case o.Mod == 0:
		return left
	case m.returned():
		d.do(Kill{Why: "it came here before this host had registered again"})
		return killed
	case o.Epoch.Less(g.Epoch):
		return left // the record here is older than the guest: wait for the news
	case !m.holder() && !m.receiver() && !m.busy(WorkMigrate):
		d.do(Kill{Why: fmt.Sprintf("the owner record is %s on %s, epoch %s", o.State, o.Host, o.Epoch)})
		return killed
	case !g.Epoch.IsZero() && g.Epoch.Less(o.Epoch):
		d.do(Kill{Why: fmt.Sprintf("what runs carries epoch %s, the owner record %s", g.Epoch, o.Epoch)})
		return killed
	}
	return left
}

// assigned starts the guest. An epoch allows one call of the hypervisor: the
// agent process first writes its claim, by which any older write of this host
// that is still on its way fails, and calls then. A process that finds the claim
// of another one, its predecessor, does not call again; it gives the epoch back.
func (d *decision) assigned() {
	m := d.m
	g, o := m.Guest.Seen, m.Owner
	switch {
	// One that an I/O error has stopped before this host looked has run.
	case (g.State == cluster.GuestRunning || g.State == cluster.GuestPaused && g.IOError) && g.Epoch == o.Epoch && m.fresh(0):
		d.become(m.Self, cluster.EvStarted, reason.Reason{})
	case o.Claim == "" && m.blind() > blindStart:
		d.neverStarted(reason.Unobservable.With())
	case !m.gone() || !m.fresh(o.SeenAt):
	case m.Guest.Started == o.Epoch && g.GaveUp != "":
		d.release(cluster.ProofReleased, o.Failures+1, reason.GivenUp.With(g.GaveUp))
	case m.Guest.Started == o.Epoch:
		d.release(cluster.ProofReleased, o.Failures+1, reason.StartFailed.With(m.Guest.TriedBy))
	case o.Claim != "" && o.Claim != m.ThisHost.Instance:
		d.release(cluster.ProofReleased, o.Failures+1, reason.StartInterrupted.With())
	case o.Claim == "" && !m.ThisHost.Fit:
		d.release(cluster.ProofNeverStarted, o.Failures+1, reason.NotAble.With(m.ThisHost.Why))
	case !m.leased(startMargin) || !m.guarded():
	case o.Claim == "":
		n := o.Owner
		n.Claim = m.ThisHost.Instance
		d.write(n, cluster.Event{}, false)
	case !d.writing():
		d.do(Start{o.Epoch, m.Lease.Deadline})
	}
}

// neverStarted closes an epoch that nobody has claimed: the hypervisor was not
// called for it, and can not be after this write. It needs no look at the guest.
func (d *decision) neverStarted(why reason.Reason) {
	o := d.m.Owner.Owner
	d.releaseAs(o, cluster.ProofNeverStarted, o.Failures+1, why, false)
}

func (d *decision) running() {
	m := d.m
	switch {
	case !m.gone() && m.Guest.Unhealthy != "":
		d.do(Kill{Why: m.Guest.Unhealthy})
		return
	case m.Guest.PausedAt != 0:
		_, elsewhere := m.candidate(m.Self)
		d.goOn(elsewhere)
		return
	case !m.gone() || !m.fresh(m.Owner.SeenAt):
		return
	}
	ran, failures, restarts := m.Now.Sub(m.Owner.SeenAt), 0, 1
	if ran < settled {
		failures = m.Owner.Failures + 1
	}
	if ran < m.Restart.Window {
		restarts = m.Owner.Restarts + 1
	}
	why := reason.GuestEnded.With()
	switch gaveUp := m.Guest.Seen.GaveUp; {
	case m.Guest.Killed != "":
		why = reason.GuestKilled.With(m.Guest.Killed)
	case gaveUp != "":
		why = reason.GivenUp.With(gaveUp)
	}
	if m.Guest.Paused {
		restarts = max(restarts, m.Restart.InPlace) // its disk may answer elsewhere
	}
	n := m.Owner.Owner
	n.Restarts = restarts
	d.releaseAs(n, cluster.ProofReleased, failures, why, true)
}

// goOn lets a guest that stands still by an I/O error go on, which it does once
// its disk answers again; else it is ended after a while, if it may be.
func (d *decision) goOn(mayEnd bool) {
	m := d.m
	switch {
	case !m.fresh(m.Owner.SeenAt) || !m.leased(startMargin):
	case mayEnd && m.Now.Sub(m.Guest.PausedAt) > stillWait:
		d.do(Kill{Why: stillWhy, Paused: true})
	case m.Now.Sub(m.Guest.Touched) >= stillAgain && (m.guarded() || m.frozen()):
		d.do(Resume{})
	}
}

func (d *decision) stopping() {
	m := d.m
	asked := m.Now.Sub(m.Guest.Shut)
	switch {
	case m.gone():
		n := m.Owner.Owner
		n.Restarts = 0
		d.releaseAs(n, cluster.ProofReleased, 0, reason.Stopped.With(), true)
	case m.Guest.Seen.State == cluster.GuestAbsent: // a start is under way
	case m.Guest.PausedAt != 0:
		d.goOn(true) // it can not shut down
	case m.Guest.Shut == 0:
		d.do(Shutdown{})
	case asked > stopGrace:
		d.do(Kill{Why: "it did not shut down in time"})
	case asked%stopAgain < renewAgain && asked > stopAgain:
		d.do(Shutdown{})
	}
}

// become writes that host runs the guest.
func (d *decision) become(host cluster.HostID, ev cluster.EventKind, why reason.Reason) {
	n := d.m.Owner.Owner
	n.State, n.Host, n.To, n.Ready, n.Claim = cluster.Running, host, "", false, ""
	because(&n, why)
	d.write(n, cluster.Event{Kind: ev, Host: host, Detail: n.Reason}, false)
}

// release writes that this host's epoch is over, after proving it once more.
func (d *decision) release(kind cluster.ProofKind, failures int, why reason.Reason) {
	d.releaseAs(d.m.Owner.Owner, kind, failures, why, true)
}

func (d *decision) releaseAs(n cluster.Owner, kind cluster.ProofKind, failures int, why reason.Reason, prove bool) {
	n.State, n.To, n.Ready, n.Claim, n.Failures = cluster.Released, "", false, "", failures
	because(&n, why)
	n.Proof = cluster.Proof{Kind: kind, Host: d.m.Self, Epoch: n.Epoch, By: d.m.Self}
	d.write(n, cluster.Event{Kind: cluster.EvReleased, Host: d.m.Self, Proof: kind, Detail: n.Reason}, prove)
}

// because says why an owner record is as it is: a sentence, which programs of earlier
// versions read, and what it was made of.
func because(o *cluster.Owner, why reason.Reason) {
	o.Reason = clip(reason.Text(why))
	o.ReasonCode = cluster.ReasonCode{Code: why.Code, Args: cluster.ReasonArgs{Host: cluster.HostID(why.Args["host"]),
		Why: clip(why.Args["why"])}}
}

// write changes the owner record as its holder.
func (d *decision) write(n cluster.Owner, ev cluster.Event, prove bool) {
	if d.writing() {
		return
	}
	ev.By, ev.Resource, ev.Epoch = d.m.Self, n.Resource, n.Epoch
	d.do(d.txn(WorkWrite, prove, &n, nil, ev))
}

// txn changes the owner record, if it is still the one that was decided on.
func (d *decision) txn(w Work, prove bool, o *cluster.Owner, want *cluster.Want, ev cluster.Event) Txn {
	m := d.m
	owner := Key{Kind: KindOwner}
	t := Txn{For: w, Prove: prove, If: []Cond{{owner, m.Owner.Mod}}, Event: ev}
	t.Event.Detail = clip(ev.Detail)
	if o != nil {
		t.Put = append(t.Put, Put{Key: owner, Owner: o})
	}
	if want != nil {
		t.Put = append(t.Put, Put{Key: Key{Kind: KindWant}, Want: want})
	}
	return t
}
