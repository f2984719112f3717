package pair

import (
	"slices"

	"holdfast/internal/cluster"
)

// Sync is the record of the copies of a pair's data.
type Sync struct {
	InSync []cluster.HostID `json:"complete"`     // nodes whose copies have every acknowledged write, sorted
	Epoch  cluster.Epoch    `json:"epoch"`        // of the last license to write
	Host   cluster.HostID   `json:"host"`         // who got it; it is in InSync
	To     cluster.HostID   `json:"to,omitempty"` // Host has given its license up, and To has all that it had
	// Proof is the driver's: why the copy beside that of Host is complete. Its promotion needs it.
	Proof string `json:"proof,omitempty"`
}

// Has reports whether the copy of h has every acknowledged write.
func (s Sync) Has(h cluster.HostID) bool { return slices.Contains(s.InSync, h) }

// with returns the record with h complete or not, and without a proof.
func (s Sync) with(h cluster.HostID, complete bool) Sync {
	s.InSync = slices.DeleteFunc(slices.Clone(s.InSync), func(o cluster.HostID) bool { return o == h })
	s.Proof = ""
	if complete {
		s.InSync = append(s.InSync, h)
		slices.Sort(s.InSync)
	}
	return s
}

// Role is what a node's copy is used for.
type Role uint8

// Roles of a copy.
const (
	RoleUnknown Role = iota // it can not be observed: it may be written
	RoleOff                 // nothing serves it
	RoleStandby             // no client can write it
	RoleActive              // clients can write it
)

// Replica is one look at a node's copy of the data.
type Replica struct {
	Role   Role
	Waits  bool // active: a commit is acknowledged when the peer has it, not before
	Linked bool // active: the peer is connected and acknowledges; standby: it follows the peer, or may do so again by itself
	Stuck  bool // standby: it is linked, and does not come on
	Whole  bool // the driver vouches that the copy has kept all that it ever acknowledged or committed
	Wrote  bool // it was promoted, and has not followed since: at its end may be writes that nobody was told of
	// standby: it was promoted in this run of its server, and has not followed since: who has let no client write can
	// let them write again
	Shut bool
}

// State is that of a member of the group.
type State uint8

// States of a member.
const (
	StateUnknown State = iota
	Down               // nothing of it is here
	Up                 // it runs, and its check passes
	Failed             // something of it is here, and its check fails
)

// Seen is one look at this node.
type Seen struct {
	Replica Replica
	Members []State // as in Machine.Members
	SyncMod int64   // revision of Sync by which the replica was judged
}

// Busy reports that something of the group may be here that a client could use.
func (s Seen) Busy() bool { return !s.empty() }

// empty reports that nothing of the group is here that a client could use.
func (s Seen) empty() bool {
	return s.Replica.Role != RoleActive && s.Replica.Role != RoleUnknown &&
		!slices.ContainsFunc(s.Members, func(m State) bool { return m != Down })
}

// Chosen is the event that a person has chosen a node's copy, written by that node.
func Chosen(node cluster.HostID, user string) cluster.Event {
	return cluster.Event{Kind: cluster.EvChosen, By: node, Resource: cluster.MgmtVM, Host: node, User: user}
}
