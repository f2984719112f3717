package arbiter

import (
	"time"

	"holdfast/internal/cluster"
)

// Kind is what can win a store.
type Kind uint8

// Arbiters. By Operator nothing is contested: a person says that the peer is off
// and has not gone on alone.
const (
	Fence    Kind = iota + 1 // the peer's device shows it off, after it was ordered so
	Disk                     // a record that both reach: a generation belongs to who wrote it first
	Ping                     // this node reaches an address; excludes nobody
	Operator                 // a person's word
)

// Times of a pair.
type Times struct {
	Detect    time.Duration // without a word of the peer and without a quorum, after which it counts as lost
	Serving   time.Duration // the same, for a node that surely has the group; not by Fence, where all have the same turns
	HeadStart time.Duration // by which the node with the group is ahead in a race
	Silence   time.Duration // from the stop of this member until what the peer ran has ended
}

// Role is what this node's data are in the store.
type Role uint8

// Roles.
const (
	Empty   Role = iota // there are none
	Joining             // of a member that was added, whose vote does not count yet
	Two                 // of one of two voters
	Single              // of the only voter
)

// Store is what this node has of the store.
type Store struct {
	Gen       uint64 // generation; 0: Empty
	From      uint64 // the generation that it was formed from; 0: it is the first
	Role      Role
	WasActive bool // who formed it had the group
}

// Ballot is a durable note about the store of generation From. It says nothing about
// any other.
type Ballot struct {
	State     BallotState
	From      uint64
	Gen       uint64 // of the store to form, when won
	By        Kind   // what won
	WasActive bool   // the group was here
}

// BallotState is what a mark says.
type BallotState uint8

// States of a mark.
const (
	None         BallotState = iota
	Contesting               // the disk is or was asked
	Won                      // this node goes on alone
	LostTiebreak             // both went on alone, and this store is the one that stops
)

// PeerStatus is what the peer says of itself.
type PeerStatus struct {
	Store Store
	Won   bool // it has won its generation, and forms the next
}

// Seen is what there is on this node.
type Seen struct {
	Store   Store
	Running bool   // its member runs
	Quorum  bool   // and commits
	Holds   bool   // the group is here, or may be
	Reaches bool   // the arbiter answers
	Off     bool   // the peer's fence device shows it off
	HoldsBy uint64 // generation of the store whose license the group here has; 0: not known
}

// serves reports that the group is here by a license of this node's store, so that it is nowhere else. A
// look that has failed knows neither.
func (s Seen) serves() bool { return s.Holds && s.HoldsBy != 0 && s.HoldsBy == s.Store.Gen }

// Machine decides for one node. Its fields are exported so that they can be shown
// and explored; in an agent its methods alone change them.
type Machine struct {
	Self, Peer cluster.HostID
	By         Kind
	Manual     bool // a person decides whose data are kept when both went on alone
	Times      Times

	Ballot     Ballot
	Seen       Seen
	Fresh      bool       // Seen is of after the last action
	Heard      bool       // the peer answers
	PeerStatus PeerStatus // what it said last

	HadQuorum    bool            // this process has been in a quorum of this generation
	LostAt       cluster.Instant // since when the peer is lost; 0: it is there
	MayBeActive  bool            // the group was here then, or may have been
	WasActive    bool            // it was, surely
	StoppedAt    cluster.Instant // since when the member is seen down; 0: it runs
	ActiveAtStop bool            // the group was here then, surely, so it is nowhere else
	Out          bool            // the disk belongs to the peer
	Winning      Ballot          // won, to be written down
	Keep         cluster.HostID  // whose data a person wants to keep
	Confirmed    uint64          // the generation to form, when a person says that the peer is off and did not go on; 0: nobody does

	Now, RetryAt cluster.Instant // Rest: before which nothing is begun
	Acting       Action          // what is under way, nil: nothing
}

// restAgain is the pause after an action that failed.
const backoff = time.Second

// New makes the machine of an agent that has just begun. mark is what this node's disk says.
func New(self, peer cluster.HostID, by Kind, t Times, mark Ballot) *Machine {
	return &Machine{Self: self, Peer: peer, By: by, Times: t, Ballot: mark}
}

// Hears takes in what the peer says; heard is false while it does not answer.
func (m *Machine) Hears(w PeerStatus, heard bool) { m.PeerStatus, m.Heard = w, heard }

// Observed takes a look at this node in, after what was heard of the peer.
func (m *Machine) Observed(s Seen, now cluster.Instant) {
	if s.Store.Gen != m.Seen.Store.Gen {
		m.HadQuorum, m.Out, m.Winning, m.Keep, m.Confirmed = false, false, Ballot{}, "", 0
	}
	back := m.Seen.Off && !s.Off // it was switched on: what it calls their parting is not before that
	m.Seen, m.Fresh, m.Now = s, true, now
	m.HadQuorum = m.HadQuorum || s.Running && s.Quorum
	switch {
	case m.Heard || s.Running && s.Quorum:
		m.LostAt, m.Confirmed = 0, 0
	case m.LostAt == 0 || back:
		m.LostAt, m.MayBeActive, m.WasActive = now, s.Holds, s.serves()
	}
	switch {
	case s.Running:
		m.StoppedAt = 0
	case m.StoppedAt == 0:
		m.StoppedAt, m.ActiveAtStop = now, s.serves()
	}
}

// Resolve is a person's word whose data are kept, after both went on alone.
func (m *Machine) Resolve(keep cluster.HostID) {
	if m.split() && (keep == m.Self || keep == m.Peer) {
		m.Keep = keep
	}
}

// Confirm is a person's word that the peer is off and has not gone on alone, and a
// new generation. It counts until the peer is there again.
func (m *Machine) Confirm(gen uint64) {
	if m.LostAt != 0 {
		m.Confirmed = gen
	}
}

// Tells is the word for the peer.
func (m *Machine) Tells() PeerStatus {
	return PeerStatus{m.Seen.Store, m.marked() == Won || m.Winning.State == Won}
}

// Apart reports that this node's store is one of its own, which is not the peer's, nor given up for it: this node goes on
// alone, or is about to, or the two have nothing to do with each other. Nothing here may go by what the peer's store
// says then: where both go on alone, the data here are part of a history that nobody has given up yet.
func (m *Machine) Apart() bool {
	s := m.Seen.Store
	return s.Role == Single || m.Tells().Won || m.Heard && s.Gen != 0 && m.PeerStatus.Store.Gen != 0 &&
		m.PeerStatus.Store.Gen != s.Gen && !m.stale()
}

// marked is what the mark says about the store that is here.
func (m *Machine) marked() BallotState {
	if m.Ballot.From != m.Seen.Store.Gen {
		return None
	}
	return m.Ballot.State
}

// Done ends the action under way.
func (m *Machine) Done(a Action, o Outcome, now cluster.Instant) {
	m.Acting, m.Fresh, m.Now = nil, false, now
	switch a := a.(type) {
	case SetBallot:
		if o.OK {
			m.Ballot = a.Mark
		}
	case Tiebreak:
		switch {
		case o.Won:
			m.Winning = Ballot{Won, a.Gen, o.Gen, m.By, m.MayBeActive}
		case o.Lost && m.By == Disk:
			m.Out = true
		}
		if o.Won || o.Lost {
			return
		}
	}
	if !o.OK {
		m.RetryAt = now.Add(backoff)
	}
}

// State is what an operator is told.
type State uint8

// States.
const (
	Whole         State = iota // both vote, and either can go on alone
	NoFailover                 // both vote, and the arbiter does not answer: no failover is possible
	Returning                  // this node joins, or waits to be told where
	Waits                      // alone after a start: it waits for the peer or the operator
	Arbitrates                 // the peer is lost: arbitration is under way
	Forms                      // this node has won and forms its store
	Alone                      // this node is the only voter
	PeerWon                    // the peer has won
	Stale                      // the peer has gone on alone: this store is given up
	SplitBrain                 // both have gone on alone: the data of Keeps are kept
	SplitOperator              // the same, and a person decides
	Foreign                    // the two stores have nothing to do with each other: a person decides
)

// State says how the pair is, as this node sees it.
func (m *Machine) State() State {
	s := m.Seen.Store
	switch {
	case m.stale():
		return Stale
	case m.split() && m.keeps() == "":
		return SplitOperator
	case m.split():
		return SplitBrain
	case s.Role == Single && m.marked() == LostTiebreak:
		return SplitOperator
	case m.Heard && m.PeerStatus.Store.Role != Empty && s.Role != Empty && m.PeerStatus.Store.Gen != s.Gen && m.PeerStatus.Store.Gen != s.From:
		return Foreign
	case s.Role == Single:
		return Alone
	case s.Role != Two:
		return Returning
	case m.marked() == Won || m.Winning.State == Won:
		return Forms
	case m.LostAt == 0 && m.Seen.Reaches:
		return Whole
	case m.LostAt == 0:
		return NoFailover
	case m.Out:
		return PeerWon
	case !m.mayContest():
		return Waits
	}
	return Arbitrates
}
