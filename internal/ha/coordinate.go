package ha

import (
	"cmp"
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
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
	m := d.m
	c := m.Coord
	if c.Host == m.Self && c.Mod != 0 || !slices.Contains(m.Order, m.Self) || !m.leased(0) {
		return
	}
	r, known := m.Hosts[c.Host]
	silent := min(m.silent(c.Host), m.Now.Sub(c.SeenAt)) >= m.Timings.Election
	if c.Mod == 0 || !known || !r.Expelled.IsZero() || silent || m.suspect(c.Host) {
		key := Key{Kind: KindCoordinator}
		conds := []Cond{{key, c.Mod}}
		if c.Host != "" { // it has not renewed since: what is known of it here may be old
			conds = append(conds, Cond{Key{KindHost, c.Host}, r.Mod})
		}
		d.do(Txn{
			For: WorkElect, If: conds, Put: []Put{{Key: key, Coord: cluster.Coordinator{Host: m.Self}}},
			Event: cluster.Event{Kind: cluster.EvElected, By: m.Self, Host: m.Self},
		})
	}
}

// coordinate is the coordinator's part. Every write compares the term, so one
// that has been deposed without knowing changes nothing.
func (d *decision) coordinate() {
	m := d.m
	if m.Coord.Host != m.Self || m.Coord.Mod == 0 || !m.leased(0) || m.Want.HandsOff {
		return
	}
	d.fenceSuspect()
	d.report()
	if d.writing() {
		return
	}
	o := m.Owner
	switch {
	case m.restored():
		d.settleRestored()
	case o.Mod == 0 || o.State == cluster.Released:
		if m.Want.Run {
			d.assign()
		} else if m.Want.MoveTo != "" {
			d.refuseMove("it is stopped")
		}
	default:
		if p, ok := m.lost(o.Host); ok {
			d.takeover(o.Owner, p)
		} else if !m.Want.Run && (o.State == cluster.Running || o.State == cluster.Assigned) {
			n := o.Owner
			n.State = cluster.Stopping
			because(&n, reason.StopRequested.With())
			d.order(&n, nil, cluster.Event{Kind: cluster.EvStopping, Host: o.Host})
		} else if m.Want.MoveTo != "" && o.State == cluster.Running {
			d.move()
		} else if o.State == cluster.Running && slices.Contains(m.Want.Maintenance, o.Host) {
			d.moveAway()
		}
	}
}

// report adds one event to the log that tells people of a host, once: it has not
// renewed within the lease, or its fence devices did not confirm it off. A report
// is a transaction of its own: no decision waits for it, or is lost with it.
func (d *decision) report() {
	m := d.m
	if m.busy(WorkReport) {
		return
	}
	for _, h := range m.names() {
		r, f := m.Hosts[h], m.Memory.Fences[h]
		t := Txn{For: WorkReport, Term: m.Coord.Mod}
		switch {
		case h != m.Self && r.Expelled.IsZero() && m.silent(h) >= m.Timings.Lease && m.Memory.Told[h] != r.Mod:
			t.Event.Kind, t.Silent, t.SilentMod = cluster.EvSilent, h, r.Mod
		case f.Why != "" && !f.Told:
			t.Event.Kind, t.Event.Detail, t.Unfenced = cluster.EvFenceFail, f.Why, h
		default:
			continue
		}
		t.If = []Cond{{Key{Kind: KindCoordinator}, m.Coord.Mod}, {Key{KindHost, h}, r.Mod}}
		t.Event.By, t.Event.Resource, t.Event.Host, t.Event.Wait = m.Self, m.Resource, h, m.silent(h)
		d.do(t)
		return
	}
}

// names returns the hosts in a fixed order.
func (m *Machine) names() []cluster.HostID {
	hs := make([]cluster.HostID, 0, len(m.Hosts))
	for h := range m.Hosts {
		hs = append(hs, h)
	}
	slices.Sort(hs)
	return hs
}

func (m *Machine) wait(g time.Duration) time.Duration { return Silence(m.Timings, g) }

// Silence is how long a host with guard G must have been silent: (T + G) (1 + rho) /
// (1 - rho) + epsilon. Its clock may be slow by rho and this one fast by rho;
// epsilon covers the watchdog's grain.
func Silence(t cluster.Timings, g time.Duration) time.Duration {
	return time.Duration(float64(t.Lease+g)*(1+t.Drift)/(1-t.Drift)) + t.Epsilon
}

// takeover ends the epoch of a lost holder, and gives the guest to another host
// when it shall run. The lost hosts are expelled in the same transaction: their
// renewals fail from then on, also one that is on its way.
func (d *decision) takeover(o cluster.Owner, p cluster.Proof) {
	m := d.m
	n := o
	n.To, n.Ready, n.Claim, n.Proof = "", false, "", p
	var ev cluster.Event
	next, found := m.candidate(p.Host)
	if m.Want.Run && found {
		n.State, n.Host, n.Epoch, n.Failures, n.Restarts = cluster.Assigned, next, m.next(o.Epoch), 0, 0
		because(&n, reason.TakeoverFrom.With(p.Host))
		ev = cluster.Event{Kind: cluster.EvTakeover, Host: p.Host, To: next, Proof: p.Kind, Wait: p.Wait, Detail: p.Note}
	} else {
		n.State = cluster.Released
		if o.State != cluster.Assigned {
			n.Failures = 0 // its last start was none of them
		}
		because(&n, reason.HolderLost.With(p.Host))
		ev = cluster.Event{Kind: cluster.EvReleased, Host: p.Host, Proof: p.Kind, Wait: p.Wait, Detail: "no host to take over"}
		if !m.Want.Run {
			ev.Detail = "shall not run"
		}
	}
	d.orderOf(&n, nil, ev, p)
}

// expel ends a lost host's registration: its renewals fail from then on. One that
// a fence device showed off must come back under another boot id: the same one
// would say that the device has lied.
func (d *decision) expel(t *Txn, p cluster.Proof, e cluster.Epoch) {
	r, known := d.m.Hosts[p.Host]
	key := Key{KindHost, p.Host}
	t.If = append(t.If, Cond{key, r.Mod})
	if !known {
		return
	}
	rec := r.Host
	rec.Expelled = e
	if p.Kind == cluster.ProofFenced {
		rec.Fenced = rec.Boot
	}
	t.Put = append(t.Put, Put{Key: key, Host: &rec})
}

// restored reports that the store has been restored from a backup since the owner
// record was written: it says nothing about now.
func (m *Machine) restored() bool { return m.Gen > 1 && m.Owner.Epoch.Gen < m.Gen }

// settleRestored begins a new generation, once every member has said that it has
// nothing of the guest, or an operator has said it of those that do not come back.
func (d *decision) settleRestored() {
	m := d.m
	if m.unsettled() != "" {
		return
	}
	n := m.Owner.Owner
	n.Resource, n.State, n.Host, n.To, n.Ready, n.Claim = m.Resource, cluster.Released, "", "", false, ""
	n.Proof = cluster.Proof{Kind: cluster.ProofRestored, Epoch: n.Epoch, By: m.Self}
	n.Epoch.Gen, n.Failures, n.Restarts = m.Gen, 0, 0
	because(&n, reason.StoreRestored.With())
	w := m.Want.Want
	w.Off = nil
	d.order(&n, &w, cluster.Event{Kind: cluster.EvReleased, Proof: n.Proof.Kind, Detail: n.Reason})
}

// unsettled names a member of which it is not known, after a restore, that it has
// nothing; "" when there is none.
func (m *Machine) unsettled() cluster.HostID {
	for _, h := range m.Order {
		if _, said := m.saidOff(h); !said && !(m.alive(h) && m.Hosts[h].Guest == cluster.GuestAbsent) {
			return h
		}
	}
	return ""
}

// next is the epoch after e, in the store's generation.
func (m *Machine) next(e cluster.Epoch) cluster.Epoch {
	e = e.Next()
	e.Gen = max(e.Gen, m.Gen)
	return e
}

// assign gives a guest that nobody has to a host.
func (d *decision) assign() {
	m := d.m
	o := m.Owner
	if o.Mod == 0 && m.seenSomewhere() != "" {
		return // there is a guest without a record: a person must say whose it is
	}
	host, found := m.candidate("")
	if !found || m.gaveUp() {
		return
	}
	if o.Failures > 0 && m.Now.Sub(o.SeenAt) < backoff(o.Failures) && m.Hosts[host].Judged < o.Mod {
		return // else the configuration has changed since the last of them
	}
	n := o.Owner
	n.Resource, n.State, n.Host, n.Epoch = m.Resource, cluster.Assigned, host, m.next(o.Epoch)
	if o.Mod == 0 {
		n.Proof = cluster.Proof{Kind: cluster.ProofFirst, By: m.Self}
	}
	because(&n, reason.Start.With())
	if m.spent() {
		n.Failures, n.Restarts = 0, 0 // somebody has asked for it anew
	}
	d.order(&n, nil, cluster.Event{Kind: cluster.EvAssigned, Host: host, Proof: n.Proof.Kind})
}

// seenSomewhere names a host that reports a guest, "" when none does.
func (m *Machine) seenSomewhere() cluster.HostID {
	for _, h := range m.names() {
		if g := m.Hosts[h].Guest; g != cluster.GuestAbsent && g != cluster.GuestUnknown {
			return h
		}
	}
	return ""
}

// spent reports that the guest has been restarted as often as the policy allows.
func (m *Machine) spent() bool {
	return m.Restart.Limit > 0 && max(m.Owner.Failures, m.Owner.Restarts) >= m.Restart.Limit
}

// gaveUp reports that it is spent, and that nobody has asked for another try
// since.
func (m *Machine) gaveUp() bool { return m.spent() && m.Want.Mod < m.Owner.Mod }

func backoff(failures int) time.Duration {
	if failures > 6 {
		return backoffLast
	}
	return min(backoffFirst<<(failures-1), backoffLast)
}

// candidate chooses where to start: where it was, unless it failed there too
// often or was given up there; else the next able host in the configuration's order. Hosts with a
// working watchdog come first, since only those can be taken over from.
func (m *Machine) candidate(not cluster.HostID) (cluster.HostID, bool) {
	var able, guarded []cluster.HostID
	for _, h := range m.Order {
		if h != not && m.able(h) == "" {
			able = append(able, h)
			if m.Hosts[h].Guard > 0 {
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
	last := m.Owner.Host
	givenUp := reason.Reason{Code: m.Owner.ReasonCode.Code}.Is(reason.GivenUp)
	if slices.Contains(able, last) && !givenUp && max(m.Owner.Failures, m.Owner.Restarts) < m.Restart.InPlace {
		return last, true
	}
	at := slices.Index(m.Order, last)
	for i := range m.Order {
		if h := m.Order[(at+1+i)%len(m.Order)]; slices.Contains(able, h) && (h != last || len(able) == 1) {
			return h, true
		}
	}
	return able[0], true
}

// able says why the guest can not be started on h; "" when it can.
func (m *Machine) able(h cluster.HostID) string {
	r, known := m.Hosts[h]
	switch {
	case !known:
		return "has never registered"
	case r.Fenced != "":
		return "was switched off by a fence device and has not booted since"
	case !r.Expelled.IsZero():
		return "was taken over from and has not taken part since"
	case !m.alive(h):
		return "is silent"
	case r.HandsOff:
		return "is frozen (hands off)"
	case slices.Contains(m.Want.Maintenance, h):
		return "is in maintenance"
	case !r.Fit:
		return cmp.Or(r.Why, "is not able to run it")
	}
	return ""
}

// move begins a migration that was asked for.
func (d *decision) move() {
	m := d.m
	to := m.Want.MoveTo
	switch why := m.able(to); {
	case to == m.Owner.Host:
		d.refuseMove("it runs there")
	case why != "":
		d.refuseMove(string(to) + " " + why)
	case !m.alive(m.Owner.Host):
		d.refuseMove(string(m.Owner.Host) + " is silent")
	default:
		n := m.Owner.Owner
		n.State, n.To, n.Ready = cluster.Migrating, to, false
		because(&n, reason.MoveRequested.With())
		w := m.Want.Want
		w.MoveTo, w.Cancel = "", 0
		d.order(&n, &w, cluster.Event{Kind: cluster.EvMigrating, Host: m.Owner.Host, To: to})
	}
}

// moveAway empties a host in maintenance.
func (d *decision) moveAway() {
	m := d.m
	to, found := m.candidate(m.Owner.Host)
	if !found || m.Now.Sub(m.Owner.SeenAt) < moveAgain || !m.alive(m.Owner.Host) {
		return
	}
	n := m.Owner.Owner
	n.State, n.To, n.Ready = cluster.Migrating, to, false
	because(&n, reason.InMaintenance.With(n.Host))
	d.order(&n, nil, cluster.Event{Kind: cluster.EvMigrating, Host: n.Host, To: to, Detail: n.Reason})
}

func (d *decision) refuseMove(why string) {
	w := d.m.Want.Want
	w.MoveTo = ""
	d.order(nil, &w, cluster.Event{Kind: cluster.EvRefused, Host: d.m.Owner.Host, To: d.m.Want.MoveTo, Detail: why})
}

// order writes as the coordinator.
func (d *decision) order(o *cluster.Owner, w *cluster.Want, ev cluster.Event) {
	d.orderOf(o, w, ev, cluster.Proof{})
}

// orderOf is order, and expels the host that a proof is about.
func (d *decision) orderOf(o *cluster.Owner, w *cluster.Want, ev cluster.Event, lost cluster.Proof) {
	m := d.m
	ev.By, ev.Resource = m.Self, m.Resource
	if o != nil {
		ev.Epoch = o.Epoch
	}
	t := d.txn(WorkWrite, false, o, w, ev)
	t.If = append(t.If, Cond{Key{Kind: KindCoordinator}, m.Coord.Mod}, Cond{Key{Kind: KindWant}, m.Want.Mod})
	t.Term = m.Coord.Mod
	if lost.Host != "" {
		d.expel(&t, lost, m.next(m.Owner.Epoch))
	}
	d.do(t)
}
