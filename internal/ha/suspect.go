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
func (m *Machine) suspect(h cluster.HostID) bool {
	r, known := m.Hosts[h]
	if !known || h == m.Self || !r.Expelled.IsZero() {
		return false
	}
	late := m.silent(h) >= m.Timings.Lease
	last, unheard := m.unheard(h)
	if !unheard {
		return late && r.Guard == 0
	}
	missed := m.silent(h) >= m.Timings.Keepalive+renewalLate
	return late || missed && r.SeenAt <= last.Add(2*m.Timings.Heartbeat)
}

// unheard reports that most members, this one among them, have not heard h for
// the detection time, and when the last of them heard it. How long another member
// had not heard it is reckoned at the moment of its word, never later: a host that
// has gone deaf must not take the end of all words for the silence of the others.
func (m *Machine) unheard(h cluster.HostID) (last cluster.Instant, most bool) {
	n, self := 0, false
	for _, o := range m.Order {
		w, ok := m.Words[o]
		heard, told := w.Heard[h]
		if !ok || !told || o == h || m.Now.Sub(w.At) >= m.Timings.Detection || w.At.Sub(heard) < m.Timings.Detection {
			continue
		}
		n++
		self = self || o == m.Self
		last = max(last, heard)
	}
	return last, self && 2*n > len(m.Order)
}

// fenceSuspect orders the fence devices of the holder when it seems lost. A host
// that may hold nothing is never switched off.
func (d *decision) fenceSuspect() {
	m := d.m
	if m.restored() {
		return
	}
	h := m.Owner.Holder()
	r, f := m.Hosts[h], m.Memory.Fences[h]
	tried := f.Mod == r.Mod && (f.Off || m.Now.Sub(f.At) < fenceAgain)
	if m.Devices[h] && m.suspect(h) && !tried && !slices.Contains(m.Doing.Fencing, h) {
		d.do(Fence{Host: h, Mod: r.Mod, Epoch: m.Owner.Epoch, Machine: r.Machine})
	}
}

// lost returns the proof that h holds nothing any more.
func (m *Machine) lost(h cluster.HostID) (cluster.Proof, bool) {
	r := m.Hosts[h] // of an unknown host: revision 0, no guard
	p := cluster.Proof{Host: h, Epoch: m.Owner.Epoch, Wait: m.silent(h), By: m.Self}
	f := m.Memory.Fences[h]
	switch off, said := m.saidOff(h); {
	case f.Off && f.Mod == r.Mod && r.Mod != 0:
		p.Kind, p.Note = cluster.ProofFenced, f.Device
	case m.expiredGuard(h):
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
func (m *Machine) expiredGuard(h cluster.HostID) bool {
	r := m.Hosts[h]
	return r.Guard > 0 && !r.HandsOff && m.silent(h) >= m.wait(r.Guard)
}

// saidOff returns the word of an operator that h is off. It counts for the record
// of which it was said, and for a host whose lease is over.
func (m *Machine) saidOff(h cluster.HostID) (cluster.Off, bool) {
	r, known := m.Hosts[h]
	i := slices.IndexFunc(m.Want.Off, func(o cluster.Off) bool { return o.Host == h && o.Mod == r.Mod })
	if i < 0 || known && m.silent(h) < m.Timings.Lease {
		return cluster.Off{}, false
	}
	return m.Want.Off[i], true
}
