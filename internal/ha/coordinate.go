package ha

import (
	"slices"
	"time"

	"holdfast/internal/cluster"
)

// backoff bounds the wait between starts that fail: 0.5 s doubled each time.
const (
	backoffFirst = 500 * time.Millisecond
	backoffLast  = 30 * time.Second
)

// moveAgain is the time from a change of the owner record until the guest is
// moved off a host in maintenance: a migration that failed is not repeated at once.
const moveAgain = 10 * time.Second

// elect makes this host the coordinator when there is none or it is silent. An
// election is a sign of life too: while the store stalls everybody is silent, and
// whoever wins then must get the time to renew.
func (d *decision) elect() {
	v := d.v
	c := v.Coord
	if c.Host == v.Self && c.Mod != 0 || !slices.Contains(v.Order, v.Self) || !v.leased(0) {
		return
	}
	r, known := v.Hosts[c.Host]
	silent := min(v.silent(c.Host), v.Now.Sub(c.SeenAt)) >= v.Timings.Election
	if c.Mod == 0 || !known || !r.Expelled.IsZero() || silent || v.suspect(c.Host) {
		d.do(Elect{Mod: c.Mod, Event: cluster.Event{Kind: cluster.EvElected, By: v.Self, Host: v.Self}})
	}
}

// coordinate is the coordinator's part. Every write compares the term, so one
// that has been deposed without knowing changes nothing.
func (d *decision) coordinate() {
	v := d.v
	if v.Coord.Host != v.Self || v.Coord.Mod == 0 || !v.leased(0) || v.Want.HandsOff {
		return
	}
	d.fenceSuspects()
	if d.writes() || d.reportSilent() || d.reportFailure() {
		return
	}
	o := v.Owner
	switch {
	case v.restored():
		d.settleRestored()
	case o.Mod == 0 || o.State == cluster.Free || o.State == cluster.Released:
		if v.Want.Run {
			d.assign()
		} else if v.Want.MoveTo != "" {
			d.refuseMove("the guest is stopped")
		}
	case o.State == cluster.Migrating:
		d.watchMigration()
	default:
		if p, ok := v.lost(o.Host); ok {
			d.takeover(o.Owner, p)
		} else if !v.Want.Run && (o.State == cluster.Running || o.State == cluster.Assigned) {
			n := o.Owner
			n.State, n.Reason = cluster.Stopping, "stop requested"
			d.order(Write{Owner: &n, Event: cluster.Event{Kind: cluster.EvStopping, Host: o.Host}})
		} else if v.Want.MoveTo != "" && o.State == cluster.Running {
			d.move()
		} else if o.State == cluster.Running && slices.Contains(v.Want.Rest, o.Host) {
			d.moveAway()
		}
	}
}

// reportSilent writes an event, once, for a host that has not renewed within the
// lease.
func (d *decision) reportSilent() bool {
	v := d.v
	for _, h := range v.names() {
		r := v.Hosts[h]
		if h != v.Self && r.Expelled.IsZero() && v.silent(h) >= v.Timings.Lease && v.Local.Told[h] != r.Mod {
			d.order(Write{Event: cluster.Event{Kind: cluster.EvSilent, Host: h, Wait: v.silent(h)}, Told: h})
			return true
		}
	}
	return false
}

// names returns the hosts in a fixed order.
func (v *View) names() []cluster.HostID {
	hs := make([]cluster.HostID, 0, len(v.Hosts))
	for h := range v.Hosts {
		hs = append(hs, h)
	}
	slices.Sort(hs)
	return hs
}

// wait is how long a host with guard G must have been silent: T + G (1 + rho) /
// (1 - rho) + epsilon. Its clock may be slow by rho and this one fast by rho;
// epsilon covers the same for T.
func (v *View) wait(g time.Duration) time.Duration {
	t := v.Timings
	return t.Lease + time.Duration(float64(g)*(1+t.Drift)/(1-t.Drift)) + t.Epsilon
}

// takeover ends the epoch of a lost holder, and gives the guest to another host
// when it shall run. The lost hosts are expelled in the same transaction: their
// renewals fail from then on, also one that is on its way.
func (d *decision) takeover(o cluster.Owner, p cluster.Proof, also ...cluster.Proof) {
	v := d.v
	n := o
	n.To, n.Ready, n.Claim, n.Proof = "", false, "", p
	w := Write{HostMods: map[cluster.HostID]int64{}}
	var not []cluster.HostID
	for _, q := range append(also, p) {
		not = append(not, q.Host)
		d.expel(&w, q, v.next(o.Epoch))
	}
	next, found := v.candidate(not)
	if v.Want.Run && found {
		n.State, n.Host, n.Epoch, n.Failures, n.Restarts = cluster.Assigned, next, v.next(o.Epoch), 0, 0
		n.Reason = "takeover from " + string(p.Host)
		w.Event = cluster.Event{Kind: cluster.EvTakeover, Host: p.Host, To: next, Proof: p.Kind, Wait: p.Wait, Detail: p.Note}
	} else {
		n.State, n.Reason = cluster.Released, string(p.Host)+" is lost"
		w.Event = cluster.Event{Kind: cluster.EvReleased, Host: p.Host, Proof: p.Kind, Wait: p.Wait, Detail: "no host to take over"}
		if !v.Want.Run {
			w.Event.Detail = "shall not run"
		}
	}
	w.Owner = &n
	d.order(w)
}

// expel ends a lost host's registration: its renewals fail from then on. One that
// a fence device showed off must come back under another boot id: the same one
// would say that the device has lied.
func (d *decision) expel(w *Write, p cluster.Proof, e cluster.Epoch) {
	r, known := d.v.Hosts[p.Host]
	w.HostMods[p.Host] = r.Mod
	if !known {
		return
	}
	rec := r.Host
	rec.Expelled = e
	if p.Kind == cluster.ProofFenced {
		rec.Fenced = rec.Boot
	}
	w.Expel = append(w.Expel, rec)
}

// restored reports that the store has been restored from a backup since the owner
// record was written: it says nothing about now.
func (v *View) restored() bool { return v.Gen > 1 && v.Owner.Epoch.Gen < v.Gen }

// settleRestored begins a new generation, once every member has said that it has
// nothing of the guest, or an operator has said it of those that do not come back.
func (d *decision) settleRestored() {
	v := d.v
	if v.unsettled() != "" {
		return
	}
	n := v.Owner.Owner
	n.Resource, n.State, n.Host, n.To, n.Ready, n.Claim = v.Resource, cluster.Released, "", "", false, ""
	n.Proof = cluster.Proof{Kind: cluster.ProofRestored, Epoch: n.Epoch, By: v.Self}
	n.Epoch.Gen, n.Failures, n.Restarts, n.Reason = v.Gen, 0, 0, "the store was restored"
	w := v.Want.Want
	w.Off = nil
	d.order(Write{Owner: &n, Want: &w, Event: cluster.Event{Kind: cluster.EvReleased, Proof: n.Proof.Kind, Detail: n.Reason}})
}

// unsettled names a member of which it is not known, after a restore, that it has
// nothing; "" when there is none.
func (v *View) unsettled() cluster.HostID {
	for _, h := range v.Order {
		if _, said := v.saidOff(h); !said && !(v.alive(h) && v.Hosts[h].Guest == cluster.GuestAbsent) {
			return h
		}
	}
	return ""
}

// next is the epoch after e, in the store's generation.
func (v *View) next(e cluster.Epoch) cluster.Epoch {
	e = e.Next()
	e.Gen = max(e.Gen, v.Gen)
	return e
}

// assign gives a guest that nobody has to a host.
func (d *decision) assign() {
	v := d.v
	o := v.Owner
	if o.Mod == 0 && v.seenSomewhere() != "" {
		return // there is a guest without a record: a person must say whose it is
	}
	if o.Failures > 0 && v.Now.Sub(o.SeenAt) < backoff(o.Failures) || v.gaveUp() {
		return
	}
	host, found := v.candidate(nil)
	if !found {
		return
	}
	n := o.Owner
	n.Resource, n.State, n.Host, n.Epoch = v.Resource, cluster.Assigned, host, v.next(o.Epoch)
	if o.Mod == 0 {
		n.Proof = cluster.Proof{Kind: cluster.ProofFirst, By: v.Self}
	}
	n.Reason = "start"
	if v.spent() {
		n.Failures, n.Restarts = 0, 0 // somebody has asked for it anew
	}
	d.order(Write{Owner: &n, Event: cluster.Event{Kind: cluster.EvAssigned, Host: host, Proof: n.Proof.Kind}})
}

// seenSomewhere names a host that reports a guest, "" when none does.
func (v *View) seenSomewhere() cluster.HostID {
	for _, h := range v.names() {
		if g := v.Hosts[h].Guest; g != cluster.GuestAbsent && g != cluster.GuestUnknown {
			return h
		}
	}
	return ""
}

// spent reports that the guest has been restarted as often as the policy allows.
func (v *View) spent() bool {
	return v.Restart.Limit > 0 && max(v.Owner.Failures, v.Owner.Restarts) >= v.Restart.Limit
}

// gaveUp reports that it is spent, and that nobody has asked for another try
// since.
func (v *View) gaveUp() bool { return v.spent() && v.Want.Mod < v.Owner.Mod }

func backoff(failures int) time.Duration {
	if failures > 6 {
		return backoffLast
	}
	return min(backoffFirst<<(failures-1), backoffLast)
}

// candidate chooses where to start: where it was, unless it failed there too
// often; else the next able host in the configuration's order. Hosts with a
// working watchdog come first, since only those can be taken over from.
func (v *View) candidate(not []cluster.HostID) (cluster.HostID, bool) {
	var able, guarded []cluster.HostID
	for _, h := range v.Order {
		if !slices.Contains(not, h) && v.able(h) == "" {
			able = append(able, h)
			if v.Hosts[h].Guard > 0 {
				guarded = append(guarded, h)
			}
		}
	}
	if len(guarded) > 0 {
		able = guarded
	}
	if len(able) == 0 {
		return "", false
	}
	last := v.Owner.Host
	if slices.Contains(able, last) && max(v.Owner.Failures, v.Owner.Restarts) < v.Restart.InPlace {
		return last, true
	}
	at := slices.Index(v.Order, last)
	for i := range v.Order {
		if h := v.Order[(at+1+i)%len(v.Order)]; slices.Contains(able, h) && (h != last || len(able) == 1) {
			return h, true
		}
	}
	return able[0], true
}

// able says why the guest can not be started on h; "" when it can.
func (v *View) able(h cluster.HostID) string {
	r, known := v.Hosts[h]
	switch {
	case !known:
		return "has never registered"
	case r.Fenced != "":
		return "was switched off by a fence device and has not booted since"
	case !r.Expelled.IsZero():
		return "was taken over from and has not come back"
	case !v.alive(h):
		return "is silent"
	case r.HandsOff:
		return "has its hands off"
	case slices.Contains(v.Want.Rest, h):
		return "is in maintenance"
	case !r.Fit:
		return r.Why
	}
	return ""
}

// move begins a migration that was asked for.
func (d *decision) move() {
	v := d.v
	to := v.Want.MoveTo
	switch why := v.able(to); {
	case to == v.Owner.Host:
		d.refuseMove("it runs there")
	case why != "":
		d.refuseMove(string(to) + " " + why)
	case !v.alive(v.Owner.Host):
		d.refuseMove(string(v.Owner.Host) + " is silent")
	default:
		n := v.Owner.Owner
		n.State, n.To, n.Ready, n.Reason = cluster.Migrating, to, false, "migration requested"
		w := v.Want.Want
		w.MoveTo = ""
		d.order(Write{Owner: &n, Want: &w, Event: cluster.Event{Kind: cluster.EvMigrating, Host: v.Owner.Host, To: to}})
	}
}

// moveAway empties a host in maintenance.
func (d *decision) moveAway() {
	v := d.v
	to, found := v.candidate([]cluster.HostID{v.Owner.Host})
	if !found || v.Now.Sub(v.Owner.SeenAt) < moveAgain || !v.alive(v.Owner.Host) {
		return
	}
	n := v.Owner.Owner
	n.State, n.To, n.Ready, n.Reason = cluster.Migrating, to, false, string(n.Host)+" is in maintenance"
	d.order(Write{Owner: &n, Event: cluster.Event{Kind: cluster.EvMigrating, Host: n.Host, To: to, Detail: n.Reason}})
}

func (d *decision) refuseMove(why string) {
	w := d.v.Want.Want
	w.MoveTo = ""
	d.order(Write{Want: &w, Event: cluster.Event{Kind: cluster.EvRefused, Host: d.v.Owner.Host, To: d.v.Want.MoveTo, Detail: why}})
}

// watchMigration looks after the two sides of a migration: when both are lost,
// it is a takeover with two proofs; when one is lost, the living one is asked
// whether it has the guest.
func (d *decision) watchMigration() {
	v := d.v
	o := v.Owner.Owner
	pf, fromLost := v.lost(o.Host)
	pt, toLost := v.lost(o.To)
	switch {
	case fromLost && toLost:
		d.takeover(o, pf, pt)
	case fromLost:
		d.settleOn(o.To, pf)
	case toLost:
		d.settleOn(o.Host, pt)
	}
}

func (d *decision) settleOn(living cluster.HostID, p cluster.Proof) {
	n := d.v.Owner.Owner
	n.State, n.Host, n.To, n.Ready, n.Proof = cluster.Settling, living, "", false, p
	n.Reason = string(p.Host) + " was lost in the migration"
	w := Write{Owner: &n, HostMods: map[cluster.HostID]int64{}, Event: cluster.Event{Kind: cluster.EvSettling, Host: living, Proof: p.Kind, Wait: p.Wait}}
	d.expel(&w, p, n.Epoch)
	d.order(w)
}

// order writes as the coordinator.
func (d *decision) order(w Write) {
	v := d.v
	w.OwnerMod, w.Term, w.WantMod = v.Owner.Mod, v.Coord.Mod, v.Want.Mod
	w.Event.By, w.Event.Resource = v.Self, v.Resource
	if w.Owner != nil {
		w.Event.Epoch = w.Owner.Epoch
	}
	d.do(w)
}
