package pair

import "holdfast/internal/cluster"

// Action is something to be done. At most one transaction and one other action
// are under way.
type Action interface{ isAction() }

// Put writes Sync, if both records still have these revisions.
type Put struct {
	Sync     Sync
	SyncMod  int64
	OwnerMod int64 // 0: the owner record is not compared
	Why      string
}

// Promote lets clients write to this node's copy; commits wait for the peer until
// Alone. The driver refuses it when the copy can not be complete.
type Promote struct {
	Epoch cluster.Epoch
	Proof string // Sync.Proof
	Shut  bool   // only as one that was promoted in this run, and made read-only by somebody's hand: what stands on it goes on
}

// Demote ends every way to write to this node's copy at once. What nobody was
// told of stays at its end.
type Demote struct {
	Hard bool // the deadline by which it must have ended is near
}

// Drain lets no client write any more, and gives the peer all that this copy has.
type Drain struct{}

// Alone lets commits be acknowledged without the peer.
type Alone struct{}

// Join makes commits wait for the peer, and gives it all that was acknowledged before.
type Join struct{ SyncMod int64 }

// Follow lets this copy follow the peer's. Cut: what is at its end and the peer
// does not have goes first, and where that can not be, the copy is made anew.
type Follow struct {
	Peer cluster.HostID
	Cut  bool
}

// Unfollow ends following for good: this copy is not linked again before a Follow.
type Unfollow struct{}

// StartMember starts a member and returns when its check passes.
type StartMember struct{ I int }

// StopMember ends a member and proves it gone. Hard: without asking it first.
type StopMember struct {
	I    int
	Hard bool
}

func (Put) isAction()         {}
func (Promote) isAction()     {}
func (Demote) isAction()      {}
func (Drain) isAction()       {}
func (Alone) isAction()       {}
func (Join) isAction()        {}
func (Follow) isAction()      {}
func (Unfollow) isAction()    {}
func (StartMember) isAction() {}
func (StopMember) isAction()  {}

// Outcome is how an action ended.
type Outcome struct {
	OK    bool
	Mod   int64  // of a Put that is OK: the revision of Sync
	Proof string // of a Join that is OK, for Sync
	Why   string // why it is not OK; of a Put: why its outcome is not known, "" when a revision was another one
}
