package ha

import (
	"slices"
	"time"

	"holdfast/internal/cluster"
)

// renewalLate is by how much a renewal may be late on a busy store.
const renewalLate = 300 * time.Millisecond

// fenceAgain is the time from an order to a fence device that failed to the next.
const fenceAgain = time.Second

// suspect reports that a host seems lost. It starts nothing by itself: it orders
// the host's fence device, and it ends a coordinator's term. A host is suspect
// when most members, this one among them, have not heard it for the detection
// time, a renewal of it is overdue, and none was seen since they last heard it: one
// that renews lives, only its heartbeats are lost. After a lease without a renewal that does
// not help it any more. Without heartbeats a host that promises no reset is
// suspect after its lease; one that does is left to keep its promise.
func (v *View) suspect(h cluster.HostID) bool {
	r, known := v.Hosts[h]
	if !known || h == v.Self || !r.Expelled.IsZero() {
		return false
	}
	late := v.silent(h) >= v.Timings.Lease
	last, unheard := v.unheard(h)
	if !unheard {
		return late && r.Guard == 0
	}
	missed := v.silent(h) >= v.Timings.Keepalive+renewalLate
	return late || missed && r.SeenAt <= last.Add(2*v.Timings.Heartbeat)
}

// unheard reports that most members, this one among them, have not heard h for
// the detection time, and when the last of them heard it. How long another member
// had not heard it is reckoned at the moment of its word, never later: a host that
// has gone deaf must not take the end of all words for the silence of the others.
func (v *View) unheard(h cluster.HostID) (last cluster.Instant, most bool) {
	n, self := 0, false
	for _, m := range v.Order {
		w, ok := v.Words[m]
		heard, told := w.Heard[h]
		if !ok || !told || m == h || v.Now.Sub(w.At) >= v.Timings.Detection || w.At.Sub(heard) < v.Timings.Detection {
			continue
		}
		n++
		self = self || m == v.Self
		last = max(last, heard)
	}
	return last, self && 2*n > len(v.Order)
}

// fenceSuspects orders the fence devices of hosts that the owner record lets have
// the guest and that seem lost. A host that may hold nothing is never switched off.
func (d *decision) fenceSuspects() {
	v := d.v
	if v.restored() {
		return
	}
	for _, h := range v.Owner.Holders() {
		r, f := v.Hosts[h], v.Local.Fences[h]
		tried := f.Mod == r.Mod && (f.Off || v.Now.Sub(f.At) < fenceAgain)
		if v.Devices[h] && v.suspect(h) && !tried {
			d.do(Fence{Host: h, Mod: r.Mod, Machine: r.Machine})
		}
	}
}

// reportFailure writes an event, once, for fence devices that did not confirm. By
// then the host may have been taken over from by another proof.
func (d *decision) reportFailure() bool {
	v := d.v
	for _, h := range v.names() {
		if f := v.Local.Fences[h]; f.Why != "" && !f.Told {
			d.order(Write{Event: cluster.Event{Kind: cluster.EvFenceFail, Host: h, Wait: v.silent(h), Detail: f.Why}, Unfenced: h})
			return true
		}
	}
	return false
}

// lost returns the proof that h holds nothing any more.
func (v *View) lost(h cluster.HostID) (cluster.Proof, bool) {
	r := v.Hosts[h] // of an unknown host: revision 0, no guard
	p := cluster.Proof{Host: h, Epoch: v.Owner.Epoch, Wait: v.silent(h), By: v.Self}
	f := v.Local.Fences[h]
	switch off, said := v.saidOff(h); {
	case f.Off && f.Mod == r.Mod && r.Mod != 0:
		p.Kind, p.Note = cluster.ProofFenced, f.Device
	case v.expiredGuard(h):
		p.Kind = cluster.ProofDeadline
	case said:
		p.Kind, p.Note = cluster.ProofOperator, off.User
	default:
		return cluster.Proof{}, false
	}
	return p, true
}

// expiredGuard: at X = (last renewal seen) + T the lease of h was over by any
// clock, at the latest G after that it was reset by its own watchdog. A host that
// has promised no reset can not be proved lost by waiting.
func (v *View) expiredGuard(h cluster.HostID) bool {
	r := v.Hosts[h]
	return r.Guard > 0 && !r.HandsOff && v.silent(h) >= v.wait(r.Guard)
}

// saidOff returns the word of an operator that h is off. It counts for the record
// of which it was said, and for a host whose lease is over.
func (v *View) saidOff(h cluster.HostID) (cluster.Off, bool) {
	r, known := v.Hosts[h]
	i := slices.IndexFunc(v.Want.Off, func(o cluster.Off) bool { return o.Host == h && o.Mod == r.Mod })
	if i < 0 || known && v.silent(h) < v.Timings.Lease {
		return cluster.Off{}, false
	}
	return v.Want.Off[i], true
}
