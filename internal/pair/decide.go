package pair

import (
	"fmt"
	"slices"
	"time"

	"holdfast/internal/cluster"
)

// Decide returns what this node must begin now, and notes it as begun.
func (m *Machine) Decide(now cluster.Instant) []Action {
	m.Now = now
	var out []Action
	if p, ok := m.put(); ok && !m.Writing {
		m.Writing = true
		if p.Sync.Has(m.Peer) {
			m.Own = 0
		}
		out = append(out, p)
	}
	if m.fresh() && now >= m.RetryAt {
		if a := m.act(); a != nil {
			m.begin(a)
			out = append(out, a)
		}
	}
	return out
}

// begin notes an action on this node as under way.
func (m *Machine) begin(a Action) {
	m.Acting, m.ActAt, m.Short = a, m.Now, false
	switch a.(type) {
	case Promote, Alone, Follow, Demote:
		m.Joined, m.Drained = 0, false
	}
	switch a.(type) {
	case Promote:
		m.Dirty = true
	case Follow:
		m.Left = false
	case Drain, Demote:
		m.Promoted, m.Closed = false, true
	}
}

// put is the change of Sync that is needed now.
func (m *Machine) put() (Put, bool) {
	r := m.Seen.Replica
	s := m.Sync.Sync
	p := Put{SyncMod: m.Sync.Mod, OwnerMod: m.Owner.Mod}
	switch {
	case m.Sync.Mod == 0:
		return p, false
	case m.Phase == Serving && m.owned() && !m.licensed():
		// Rule 1. A license that was given up is not taken back while the peer may have it. Package ha notes at once
		// that the group runs here: a write before that compares an owner record that is about to change.
		noted := m.Owner.State != cluster.Assigned && m.Owner.State != cluster.Settling
		if noted && s.Has(m.Self) && !(m.Moved() && m.Owner.State == cluster.Migrating) && m.Judged() && r.Whole && r.Role != RoleUnknown {
			s.Epoch, s.Host, s.To = m.Granted, m.Self, ""
			p.Sync, p.Why = s, "the license to write"
			return p, true
		}
	case m.licensed() && s.Has(m.Peer) && m.impatient():
		p.Sync, p.Why = s.with(m.Peer, false), "the peer does not acknowledge" // rule 2
		return p, true
	case m.licensed() && (m.mustAlone() || !m.Promoted && !m.promoting()) && m.Own != m.Sync.Mod:
		p.Sync, p.Why = s, "what was written before and is still on its way does not count" // rule 3, or a handing that was taken back
		return p, true
	case m.licensed() && !s.Has(m.Peer) && m.Joined == m.Sync.Mod && r.Linked && m.fresh():
		p.Sync, p.Why = s.with(m.Peer, true), "the peer has everything" // rule 3
		p.Sync.Proof = m.Proof
		return p, true
	case m.Phase == HandingOver && m.owned() && m.Drained && m.held() && s.Has(m.Peer) && m.fresh() && m.Seen.empty():
		s.To = m.Peer
		p.Sync, p.Why = s, "the group is handed over"
		return p, true
	case m.doubtful():
		p.Sync, p.OwnerMod, p.Why = s.with(m.Self, false), 0, "the proof is of another run of this node's copy"
		return p, true
	case m.mustLeave():
		// Rule 4. The proof stays: the peer may be licensed by it, and not promoted yet.
		p.Sync, p.OwnerMod, p.Why = s.with(m.Self, false), 0, "this node's copy follows anew"
		p.Sync.Proof = s.Proof
		return p, true
	}
	return p, false
}

// promoting reports that a promotion is under way. It began when no older write could come any more, and the revision only grows.
func (m *Machine) promoting() bool {
	_, is := m.Acting.(Promote)
	return is
}

// held reports that the last license is this node's, for the epoch that was granted.
func (m *Machine) held() bool {
	return m.Sync.Host == m.Self && m.Sync.Epoch == m.Granted && m.Sync.To == ""
}

// impatient reports that the active does not wait for its peer any longer. A peer
// that was not seen since the promotion is not waited for, unless it has just
// handed the group over.
func (m *Machine) impatient() bool {
	r := m.Seen.Replica
	if !m.Promoted || r.Role != RoleActive || r.Linked || !m.fresh() {
		return false
	}
	return m.LinkAt == 0 || m.Now.Sub(m.LinkAt) >= m.Patience
}

// mustAlone reports that commits wait for a peer that is out of InSync and does
// not acknowledge.
func (m *Machine) mustAlone() bool {
	r := m.Seen.Replica
	return !m.Sync.Has(m.Peer) && m.Promoted && r.Role == RoleActive && r.Waits && !r.Linked && m.fresh()
}

// doubtful reports that this copy follows and is called complete, and could not be
// promoted: what was proved of it does not hold any more. The active proves it anew.
func (m *Machine) doubtful() bool {
	r := m.Seen.Replica
	return m.Phase == Ended && m.Judged() && m.peerServes() && m.Sync.Has(m.Self) && r.Role == RoleStandby && r.Linked && !r.Whole
}

// mustLeave reports that this copy can not stay complete: it follows a peer that
// is licensed, and what it has may have to be cut. That it is out of InSync by
// what this node knows is not enough: the peer may be about to take it in. It may
// not be linked, nor become so before the cut: the peer would take it in again.
func (m *Machine) mustLeave() bool {
	r := m.Seen.Replica
	return m.peerServes() && m.Phase == Ended && !m.Left && !r.Linked && m.Judged() && m.Seen.empty() && (r.Wrote || !r.Whole)
}

// peerServes reports that the peer has the last license, and the group, as far as this
// node knows and may try.
func (m *Machine) peerServes() bool {
	if m.Now < m.FollowAt {
		return false
	}
	o := m.Owner
	running := o.State == cluster.Running || o.State == cluster.Migrating || o.State == cluster.Stopping
	return running && o.Host == m.Peer && m.Sync.Host == m.Peer && m.Sync.Epoch == o.Epoch && m.Sync.To == ""
}

// act is what is to be done on this node now.
func (m *Machine) act() Action {
	r := m.Seen.Replica
	switch m.Phase {
	case Ended:
		if a := m.end(true); a != nil {
			return a
		}
		return m.follow()
	case Stopping:
		if a := m.end(false); a != nil {
			return a
		}
		m.Phase = Ended
	case HandingOver:
		if a := m.down(0, false); a != nil {
			return a
		}
		switch {
		case m.Moved() || m.Drained && m.Sync.Has(m.Peer):
		case r.Role == RoleActive && m.held() && m.Sync.Has(m.Peer):
			return Drain{}
		default:
			m.CancelHandover() // it can not be handed over
		}
	case Serving:
		return m.serve()
	}
	return nil
}

// end ends the group: its members in the reverse order, then the writes.
func (m *Machine) end(hard bool) Action {
	if a := m.down(0, hard); a != nil {
		return a
	}
	switch r := m.Seen.Replica; {
	case r.Role == RoleActive && !hard && !m.Drained && m.held() && m.Sync.Has(m.Peer) && r.Linked:
		return Drain{}
	case r.Role == RoleActive, r.Role == RoleUnknown && (m.Dirty || m.Now.Sub(m.UnobservableAt) >= unobservableWait):
		return Demote{hard && r.Role == RoleActive}
	}
	return nil
}

// down stops the last member from the given one on that is not down.
func (m *Machine) down(from int, hard bool) Action {
	for i := len(m.Seen.Members) - 1; i >= from; i-- {
		if m.Seen.Members[i] != Down {
			return StopMember{i, hard}
		}
	}
	return nil
}

// follow keeps a copy that serves nobody near its peer's.
func (m *Machine) follow() Action {
	r := m.Seen.Replica
	if r.Stuck {
		return Unfollow{}
	}
	cut := r.Wrote || !r.Whole
	if !m.peerServes() || r.Linked || !m.Judged() && !m.Left || cut && !m.Left {
		return nil
	}
	return Follow{m.Peer, cut}
}

// serve brings the group up, and keeps it so.
func (m *Machine) serve() Action {
	r := m.Seen.Replica
	if !m.licensed() {
		if m.owned() && m.Sync.Mod != 0 && m.Judged() && m.Fit() != "" {
			m.give(m.Fit())
		}
		return nil
	}
	if r.Role != RoleActive {
		if m.Promoted { // it has ended, or hangs, and what waits for it has to end, too
			if r.Role == RoleUnknown && m.Now.Sub(m.UnobservableAt) < m.Hang {
				return nil
			}
			m.Promoted = false
			switch {
			case m.Shut():
			case r.Role == RoleUnknown && m.Sync.Has(m.Peer): // what has hung would hang again
				m.give(fmt.Sprintf("the database has not answered for %s", m.Hang))
			default:
				m.failed(-1)
			}
			if m.Phase != Serving {
				return nil
			}
		}
		if a := m.down(0, true); a != nil && !m.Shut() {
			return a
		}
		if r.Role == RoleUnknown && m.WasActive {
			return Demote{true} // it does not answer, and is started anew
		}
		if m.Own != m.Sync.Mod || m.Writing {
			return nil
		}
		return Promote{Epoch: m.Granted, Proof: m.Sync.Proof, Shut: m.Shut()}
	}
	switch complete := m.Sync.Has(m.Peer); {
	case !m.Promoted:
		return Promote{Epoch: m.Granted, Proof: m.Sync.Proof} // it was begun, and its end is not known
	case complete && !r.Waits:
		return Join{m.Sync.Mod} // it came up without: commits must wait for who is complete
	case m.mustAlone():
		if m.Own == m.Sync.Mod && !m.Writing {
			return Alone{}
		}
		return nil
	}
	if r.Waits && !r.Linked && (m.impatient() || !m.fresh()) {
		return nil // a member would wait with the commits, and they are about to be let go
	}
	if a := m.up(); a != nil {
		return a
	}
	if !m.Sync.Has(m.Peer) && r.Linked && m.Joined != m.Sync.Mod {
		return Join{m.Sync.Mod}
	}
	return nil
}

// up starts the first member that is not up. One that failed is stopped first,
// with all that stand on it.
func (m *Machine) up() Action {
	i := slices.IndexFunc(m.Seen.Members, func(s State) bool { return s != Up })
	if i < 0 || m.Seen.Members[i] == StateUnknown && m.Now.Sub(m.MemberUnobservableAt) < m.Hang {
		return nil
	}
	a := m.down(i, true)
	switch {
	case a == nil:
		return StartMember{i}
	case a == StopMember{i, true} && m.Seen.Members[i] != Down:
		m.failed(i)
	}
	return a
}

// failed counts a failure of a member, or of the replica (-1), and gives the group
// up when there were too many.
func (m *Machine) failed(i int) {
	m.Failures = slices.DeleteFunc(m.Failures, func(f Failure) bool { return m.Now.Sub(f.At) >= Window })
	m.Failures = append(m.Failures, Failure{i, m.Now})
	n := 0
	for _, f := range m.Failures {
		if f.Member == i {
			n++
		}
	}
	limit, name := 1, "the database"
	if i >= 0 {
		limit, name = m.Members[i].Restarts, m.Members[i].Name
	}
	if n > limit {
		m.give(fmt.Sprintf("%s failed %d times within %s", name, n, Window.Truncate(time.Minute)))
	}
}

// give gives the group up on this node.
func (m *Machine) give(why string) { m.Phase, m.Why = Ended, why }

// Done takes in how an action ended that Decide gave. now is a moment after its end.
func (m *Machine) Done(a Action, o Outcome, now cluster.Instant) {
	if p, ok := a.(Put); ok {
		m.Writing = false
		if o.OK {
			m.SyncIs(p.Sync, o.Mod)
			m.Own = o.Mod
			m.Left = m.Left || !p.Sync.Has(m.Self) && !m.Seen.Replica.Linked
		}
		return
	}
	short := m.Short
	m.Acting, m.Touched, m.Short = nil, now, false
	if _, follows := a.(Follow); !follows {
		m.Risked = now
	} else if o.OK {
		m.FollowBackoff = 0
	}
	if !o.OK {
		m.RetryAt = now.Add(restAgain)
		if _, follows := a.(Follow); follows {
			m.FollowBackoff = min(max(2*m.FollowBackoff, followAgain), followMost)
			m.FollowAt = now.Add(m.FollowBackoff)
		}
	}
	switch a := a.(type) {
	case Promote:
		m.Promoted = o.OK
		m.WasActive = m.WasActive || o.OK
		if o.OK {
			m.Drained, m.Closed = false, false
			if m.wasHanded() {
				m.LinkAt = now
			}
		}
		if !o.OK {
			m.failed(-1)
		}
	case Join:
		if o.OK {
			m.Proof = o.Proof
			m.Joined = a.SyncMod
		}
	case Drain:
		m.Drained = o.OK
		if !o.OK {
			m.CancelHandover()
		}
	case StartMember:
		if !o.OK && !short {
			m.failed(a.I)
		}
	}
}

// wasHanded reports that the peer lives and will follow.
func (m *Machine) wasHanded() bool {
	return m.Sync.Has(m.Peer) && m.Owner.Proof.Kind == cluster.ProofReleased
}
