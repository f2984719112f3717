package pair

import (
	"slices"
	"time"

	"holdfast/internal/cluster"
)

// Member is a part of the group beside the replica: a mount, a service, an
// address. Members start in their order and stop in the reverse one, so an
// address comes last and goes first.
type Member struct {
	Name     string
	Restarts int // within Window, after which the group is given up on this node
}

// Window is how long a failure of a member counts.
const Window = 10 * time.Minute

// Times that no operator needs to set.
const (
	unobservableWait = 10 * time.Second       // for which a standby may not be observable before it is ended; Hang, unless it is set
	restAgain        = 200 * time.Millisecond // after an action that failed
	followAgain      = 2 * time.Second        // the same for following, and twice as long each time
	followMost       = 20 * time.Second       // but no longer: each try has the peer's commits wait for a moment
)

// Phase is what the group is to do on this node.
type Phase uint8

// Phases. Only Serving may promote.
const (
	Ended       Phase = iota // nothing of it shall be here
	Serving                  // it shall run, for the epoch Machine.Granted
	HandingOver              // it shall stop and its license go to the peer
	Stopping                 // it is asked to end
)

// OwnerRec is the owner record of the group as this node last saw it.
type OwnerRec struct {
	cluster.Owner
	Mod int64 // 0: there is none yet
}

// SyncRec is the record of the copies as this node last saw it.
type SyncRec struct {
	Sync
	Mod int64 // 0: the pair is not set up
}

// Machine is the core of a pair on one node. Its fields are exported so that they
// can be shown and explored; in an agent its methods alone change them.
type Machine struct {
	Self, Peer cluster.HostID
	Members    []Member
	Patience   time.Duration // for which commits wait for a peer that does not acknowledge
	Hang       time.Duration // for which the copy, or a member, of what serves may not be observable before it counts as failed

	Phase   Phase
	Granted cluster.Epoch // for which the group may run here
	Why     string        // why the group was given up here for that epoch, "" when it was not

	Owner OwnerRec
	Sync  SyncRec

	Seen                 Seen
	SeenAt               cluster.Instant // when that look began
	Touched              cluster.Instant // when the last action on this node ended; older looks do not count
	Risked               cluster.Instant // the same of actions after which clients may use something here
	Dirty                bool            // clients may be writing here: it was not seen otherwise since a Promote, or by this process
	UnobservableAt       cluster.Instant // since when the replica can not be observed; 0: it can
	MemberUnobservableAt cluster.Instant // the same of a member
	RetryAt              cluster.Instant // before which nothing that failed is tried again
	FollowAt             cluster.Instant // before which it is not tried again to follow
	// FollowBackoff is how long it was not tried again to follow; 0: the last try has not failed.
	FollowBackoff time.Duration
	LinkAt        cluster.Instant // when the peer was last seen to acknowledge, or this node was promoted; 0: not since

	Joined int64  // the revision of Sync for which the last Join ended well, 0: commits may not have waited since
	Proof  string // of that Join
	// the revision of Sync that this process wrote last since when it has not begun to write the peer into it: no older
	// write can still come
	Own       int64
	Left      bool // this process has taken this copy out of InSync, and it has not followed since
	Drained   bool // a Drain has ended well, and no Promote was begun since
	Promoted  bool // a Promote has ended well for Granted
	WasActive bool // the same, also when it has failed since: the copy keeps all that it has when it is ended
	// a Drain or Demote was begun here, and no Promote has ended well since: that the copy is read-only is the group's
	// own doing
	Closed   bool
	Failures []Failure

	Now     cluster.Instant
	Writing bool            // a Put is under way
	Acting  Action          // what else is under way, nil: nothing
	ActAt   cluster.Instant // when that began
	Short   bool            // it is to be cut short
}

// Failure is one of a member.
type Failure struct {
	Member int
	At     cluster.Instant
}

// New makes the machine of a node that knows nothing yet.
func New(self, peer cluster.HostID, members []Member, patience time.Duration) *Machine {
	return &Machine{Self: self, Peer: peer, Members: members, Patience: patience, Hang: unobservableWait, Dirty: true}
}

// Grant lets the group run here. Package ha has proved that it runs nowhere else,
// and that it will not before this node has ended it or is reset. The caller cuts
// short what is under way.
func (m *Machine) Grant(e cluster.Epoch) {
	m.Phase, m.Granted, m.Why = Serving, e, ""
	m.Promoted, m.Drained, m.WasActive, m.Joined, m.LinkAt, m.Failures = false, false, false, 0, 0, nil
}

// Adopt is Grant for an agent that finds the group running, as the one before it left it.
func (m *Machine) Adopt(e cluster.Epoch) {
	m.Grant(e)
	m.Promoted, m.WasActive = true, true
}

// Changed takes in that the group has other members, or a copy of other parts. Nothing is known
// of them before the next look, and nothing that was joined counts.
func (m *Machine) Changed(members []Member) {
	m.Members, m.Failures, m.Joined = members, nil, 0
	m.Seen = Seen{Members: make([]State, len(members))}
}

// Serves reports that the group runs here, by a license.
func (m *Machine) Serves() bool { return m.licensed() && m.Promoted }

// Revoke ends the group here at once. The caller cuts short what is under way.
func (m *Machine) Revoke() { m.Phase, m.RetryAt = Ended, 0 }

// Shut reports that somebody's hand has made the copy read-only that the group has promoted here: it runs and has all that it had,
// and so does what stands on it. It was looked at since the group itself did something to it.
func (m *Machine) Shut() bool {
	return m.licensed() && m.WasActive && !m.Closed && m.SeenAt > m.Risked && m.Seen.Replica.Shut
}

// Hangs reports that what is under way waits for a peer that is to be given up, which nothing is begun
// for before that has ended: the start or the end of a member, by its commits, or a Join, which has all
// commits wait. The caller cuts it short; that is no failure of the member.
func (m *Machine) Hangs(now cluster.Instant) bool {
	r := m.Seen.Replica
	m.Short = m.Short || m.beside() && m.licensed() && r.Role == RoleActive && r.Waits && !r.Linked && now.Sub(m.LinkAt) >= m.Patience
	return m.Short
}

// beside reports that a member is being started or stopped, or the peer is joined, and that the last look
// was taken since then: nothing of that changes whether the peer acknowledges.
func (m *Machine) beside() bool {
	switch m.Acting.(type) {
	case StartMember, StopMember, Join:
		return m.SeenAt > m.ActAt
	}
	return false
}

// Stop ends the group here in an orderly way.
func (m *Machine) Stop() {
	if m.Phase != Ended {
		m.Phase = Stopping
	}
}

// HandOver stops the group here so that it goes on at the peer. An abort lets it go on
// here, unless the license has been given up.
func (m *Machine) HandOver() {
	if m.Phase == Serving {
		m.Phase = HandingOver
	}
}

// CancelHandover takes Hand back.
func (m *Machine) CancelHandover() {
	if m.Phase == HandingOver {
		m.Phase = Serving
	}
}

// OwnerIs takes the owner record in.
func (m *Machine) OwnerIs(o cluster.Owner, mod int64) {
	if mod > m.Owner.Mod {
		if o.Epoch != m.Owner.Epoch {
			m.FollowAt, m.FollowBackoff = 0, 0 // it was tried with another node, or another start of it
		}
		m.Owner = OwnerRec{o, mod}
	}
}

// SyncIs takes the record of the copies in.
func (m *Machine) SyncIs(s Sync, mod int64) {
	if mod > m.Sync.Mod {
		m.Sync = SyncRec{s, mod}
	}
}

// Observed takes a look at this node in. from is a moment before the look began.
func (m *Machine) Observed(s Seen, from cluster.Instant) {
	if from < m.SeenAt {
		return
	}
	m.Seen, m.SeenAt = s, from
	r := s.Replica
	if r.Linked && r.Role == RoleActive && (m.fresh() || m.beside()) { // a standby's link says nothing of what its peer acknowledges
		m.LinkAt = from
	}
	since(&m.UnobservableAt, from, r.Role == RoleUnknown)
	since(&m.MemberUnobservableAt, from, slices.Contains(s.Members, StateUnknown))
	if !m.fresh() {
		return
	}
	if r.Linked {
		m.Left = false
	}
	if r.Role != RoleActive || !r.Waits {
		m.Joined = 0
	}
	switch r.Role {
	case RoleActive:
		m.Dirty = true
	case RoleOff, RoleStandby:
		m.Dirty = false
	}
}

// since keeps the moment at which something began to be so.
func since(at *cluster.Instant, now cluster.Instant, so bool) {
	switch {
	case !so:
		*at = 0
	case *at == 0:
		*at = now
	}
}

// Empty reports that nothing of the group is here that a client could use, and
// that nothing under way could change that: to follow the peer can not.
func (m *Machine) Empty() bool {
	_, follows := m.Acting.(Follow)
	return m.Phase == Ended && (m.Acting == nil || follows) && m.SeenAt > m.Risked && m.Seen.empty()
}

// Gone reports that nothing of the group is here that a client could use, and that
// nothing is under way.
func (m *Machine) Gone() bool { return m.fresh() && m.Seen.empty() }

// Arrived reports that the peer has handed the group over to this node for the
// epoch of the owner record.
func (m *Machine) Arrived() bool { return m.Coming() && m.Judged() && m.Seen.Replica.Whole }

// Coming reports that the peer has handed the group over to this node, whether its copy is
// whole or not.
func (m *Machine) Coming() bool {
	return m.Sync.To == m.Self && m.Sync.Epoch == m.Owner.Epoch && m.Sync.Has(m.Self)
}

// Moved reports that this node has handed the group over for the epoch of the owner record.
func (m *Machine) Moved() bool {
	return m.Sync.Host == m.Self && m.Sync.To == m.Peer && m.Sync.Epoch == m.Owner.Epoch
}

// NotJudged is why a copy can not be promoted that was looked at before the record of the copies changed.
const NotJudged = "its copy is being looked at, as the record of the copies has changed"

// Fit says why this node's copy can not be promoted, "" when it can.
func (m *Machine) Fit() string {
	switch r := m.Seen.Replica; {
	case m.Sync.Mod == 0:
		return "the pair is not set up"
	case !m.Sync.Has(m.Self):
		return "its copy does not have every acknowledged write"
	case r.Role == RoleUnknown:
		return "its copy can not be observed"
	case r.Stuck:
		return "its copy does not follow"
	case m.Seen.SyncMod != m.Sync.Mod:
		return NotJudged
	case !r.Whole:
		return "its copy may have lost writes"
	}
	return ""
}

// Resolve is a person's word that this node's copy is kept, whatever the other one has
// beside it: then it is the only complete one. It gives the transaction, or says why not.
// The caller sees to it that the group is not with a node that lives, and that no copy
// on such a node can be promoted. When the transaction was done, and not before, it has the
// driver vouch for the copy.
func (m *Machine) Resolve() (p Put, why string) {
	switch {
	case m.Sync.Mod == 0:
		return p, "the pair is not set up"
	case m.Phase != Ended || !m.Empty():
		return p, "something of the group is on this node"
	case m.Writing || !m.Judged():
		return p, "this node is busy"
	case m.Seen.Replica.Stuck:
		return p, "this node's copy does not follow"
	case m.Fit() == "":
		return p, "this node's copy can be promoted as it is"
	}
	s := m.Sync.Sync
	s.InSync, s.Host, s.To, s.Proof = []cluster.HostID{m.Self}, m.Self, "", ""
	return Put{Sync: s, SyncMod: m.Sync.Mod, OwnerMod: m.Owner.Mod, Why: "a person has chosen this node's copy"}, ""
}

// Judged reports that what is known of this copy was found out by the record as it is now.
func (m *Machine) Judged() bool { return m.fresh() && m.Seen.SyncMod == m.Sync.Mod }

// licensed reports that this node, and nobody else, may let clients write.
func (m *Machine) licensed() bool {
	return m.Phase == Serving && m.owned() && m.Sync.Host == m.Self && m.Sync.Epoch == m.Granted && m.Sync.To == ""
}

// owned reports that the owner record, as known, lets the group run here for the
// epoch that was granted.
func (m *Machine) owned() bool {
	return m.Owner.Epoch == m.Granted && m.Owner.Holder() == m.Self
}

// fresh reports that what was seen is from after the last action, and none is under way.
func (m *Machine) fresh() bool { return m.Acting == nil && m.SeenAt > m.Touched }
