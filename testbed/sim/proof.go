package sim

import (
	"holdfast/internal/cluster"
	"holdfast/internal/ha"
)

// has reports that a process of the guest is, or is about to be, on the host that
// may run. What a migration has brought stands still until the agent resumes it.
func (h *host) has() bool {
	p := h.hyper.proc
	return h.power && (p != nil && p.state != cluster.GuestIncoming && p.state != cluster.GuestArrived || h.hyper.waiting)
}

// checkOwner looks at every change of the owner record: epochs grow, only with a
// proof about the one before, and a new proof is true.
func (w *World) checkOwner(old ownerRow, n cluster.Owner) {
	w.checkProof(old, n)
	over := old.Epoch
	if old.Proof.Kind == cluster.ProofRestored && old.State == cluster.Released {
		over.Gen = n.Proof.Epoch.Gen // of the store that was
	}
	switch {
	case n.Epoch.Less(old.Epoch):
		w.violate("epoch", "epoch %s after %s", n.Epoch, old.Epoch)
	case n.Epoch == old.Epoch:
		if old.State == cluster.Released && n.State != cluster.Released {
			w.violate("epoch", "epoch %s used again after it was released", n.Epoch)
		}
	case old.mod == 0 && n.Proof.Kind == cluster.ProofFirst:
	case n.Proof.Kind == cluster.ProofNone || n.Proof.Kind == cluster.ProofFirst || n.Proof.Epoch != over:
		w.violate("no-proof", "epoch %s after %s with proof %q about epoch %s", n.Epoch, old.Epoch, n.Proof.Kind, n.Proof.Epoch)
	}
}

// checkProof compares what a new record says with what is true.
func (w *World) checkProof(old ownerRow, n cluster.Owner) {
	p := n.Proof
	if h := w.host(p.Host); h != nil && p != old.Proof {
		if h.has() {
			w.violate("false-proof", "the record says %q about %s, epoch %s, which has a process of the guest", p.Kind, h.name, p.Epoch)
			return
		}
		if p.Kind == cluster.ProofFenced {
			w.checkFenced(h, p)
		}
	}
	// Nobody may have it when a new epoch begins or when it is said that nobody has.
	left := []cluster.HostID{old.Holder()}
	if p.Kind == cluster.ProofRestored && p != old.Proof {
		left = w.order
	} else if n.State != cluster.Released && n.Epoch == old.Epoch {
		return
	}
	for _, id := range left {
		if h := w.host(id); h != nil && h.has() && (n.Epoch != old.Epoch || h.runs()) {
			w.violate("false-proof", "the record is %s, epoch %s by proof %q, and %s has a process of the guest", n.State, n.Epoch, p.Kind, id)
			return
		}
	}
}

// checkFenced looks at a proof by a fence device: the host was without power at
// some moment after the order, and the order came after its last renewal.
func (w *World) checkFenced(h *host, p cluster.Proof) {
	o, ordered := w.host(p.By).orders[h.name]
	r := w.store.hosts[h.name]
	w.check.shown[r.Boot] = true
	switch {
	case !ordered:
		w.violate("false-proof", "the record says that %s is fenced, and %s ordered no such thing", h.name, p.By)
	case h.power && h.since <= o.decided:
		w.violate("false-proof", "the record says that %s is fenced, and it never lost its power", h.name)
	case o.decided < r.at:
		w.violate("false-proof", "the record says that %s is fenced, by an order older than its last renewal", h.name)
	}
}

// checkRegister looks at a renewal when the store takes it: a host that was shown
// off under a boot id never comes back under it.
func (w *World) checkRegister(r cluster.Host) {
	if w.check.shown[r.Boot] {
		w.violate("fenced-boot", "%s registers under boot %s, under which it was shown off", r.Name, r.Boot)
	}
}

// checkFence looks at an order to a fence device when it is decided: a host that
// no record lets have the guest, neither the store's nor the one that the
// deciding agent knows, is never switched off.
func (w *World) checkFence(a *agent, f ha.Fence) {
	if w.store.owner.Holder() != f.Host && a.core.Owner.Holder() != f.Host {
		w.violate("idle-fence", "%s orders the fence device of %s, which may hold nothing", a.host.name, f.Host)
	}
}

// checkStart looks at a start when the hypervisor is about to be called.
func (w *World) checkStart(a *agent, s ha.Start) {
	m, o, h := a.core, &a.core.Owner, a.host
	key := s.Epoch.String()
	again := w.check.started[key]
	w.check.started[key] = true
	switch {
	case o.Proof.Kind == cluster.ProofNone || o.Epoch != s.Epoch || o.State != cluster.Assigned || o.Host != h.name:
		w.violate("no-proof", "%s starts epoch %s, its record is %s on %s, epoch %s, proof %q", h.name, s.Epoch,
			o.State, o.Host, o.Epoch, o.Proof.Kind)
	case a.store > 0 && s.Epoch.Gen <= uint64(a.store):
		w.violate("old-generation", "%s starts epoch %s, and knows a store that was restored %d times", h.name, s.Epoch, a.store)
	case again:
		w.violate("epoch-twice", "%s calls the hypervisor for epoch %s, for which it was called before", h.name, s.Epoch)
	case a.sawAt <= o.SeenAt || a.sawAt <= a.touchedAt:
		w.violate("stale-start", "%s starts on an observation that did not begin after the record was seen and its own last action ended", h.name)
	case h.clock() >= m.Lease.Deadline:
		w.violate("unguarded-start", "%s starts after its deadline", h.name)
	case h.dog.there && (!h.dog.armed() || a.disarming):
		w.violate("unguarded-start", "%s starts while its watchdog is off or being switched off", h.name)
	}
}
