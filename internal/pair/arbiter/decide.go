package arbiter

import (
	"time"

	"holdfast/internal/cluster"
)

// Action is something to be done. One is under way at a time.
type Action interface{ isAction() }

// SetBallot writes the mark durably.
type SetBallot struct{ Mark Ballot }

// StopMember ends this node's member of the store; OK when it was seen gone.
type StopMember struct{}

// StartMember starts it on the data that are there.
type StartMember struct{}

// Tiebreak asks the arbiter for a generation. Look: a fence is not ordered anything; it is won if
// the peer is shown off.
type Tiebreak struct {
	Gen  uint64
	Look bool
}

// Form replaces this node's data by a store of one voter and of generation Gen that
// has all of its log. A crash leaves the old store or the new one, complete. Carry: the group runs
// here by a license of this store, surely, and goes on by one of the new store.
type Form struct {
	From, Gen        uint64
	WasActive, Carry bool
}

// Wipe removes this node's data. Save: what they hold is kept aside first.
type Wipe struct{ Save bool }

// Join has the peer, the only voter, add this node as a learner, and notes how it joins.
type Join struct{}

// Promote makes a voter of the peer, which has caught up.
type Promote struct{}

// Barrier writes the record that the peer's vote counts, by a commit of both.
type Barrier struct{}

func (SetBallot) isAction()   {}
func (StopMember) isAction()  {}
func (StartMember) isAction() {}
func (Tiebreak) isAction()    {}
func (Form) isAction()        {}
func (Wipe) isAction()        {}
func (Join) isAction()        {}
func (Promote) isAction()     {}
func (Barrier) isAction()     {}

// Outcome is how an action ended. Neither OK, Won nor Lost: it failed, or is not known.
type Outcome struct {
	OK   bool
	Won  bool   // a Tiebreak: this node goes on alone
	Lost bool   // a Tiebreak: it was answered, and this node does not
	Gen  uint64 // of a Tiebreak that was won: a new generation
}

// Decide returns what is to be begun, nil for nothing.
func (m *Machine) Decide(now cluster.Instant) Action {
	m.Now = now
	if m.Acting != nil || !m.Fresh || now < m.RetryAt {
		return nil
	}
	m.Acting = m.next()
	return m.Acting
}

func (m *Machine) next() Action {
	switch {
	case m.stale():
		return m.discard(Wipe{})
	case m.split():
		return m.settle()
	}
	switch m.Seen.Store.Role {
	case Empty:
		if m.Heard && m.PeerStatus.Store.Role == Single {
			return Join{}
		}
		return nil
	case Single:
		return m.single()
	}
	return m.pair()
}

// stale reports that the peer's store was formed from this one.
func (m *Machine) stale() bool {
	s := m.Seen.Store
	return m.Heard && s.Gen != 0 && m.PeerStatus.Store.Gen != s.Gen && m.PeerStatus.Store.From == s.Gen
}

// split reports that both went on alone from one generation.
func (m *Machine) split() bool {
	s, p := m.Seen.Store, m.PeerStatus.Store
	return m.Heard && s.Role == Single && p.Role == Single && s.Gen != p.Gen && s.From == p.From
}

// rule says whose data are kept when nobody else does: of the node that had the
// group, as its clients have gone on all the time, else of the lesser name.
func (m *Machine) rule() cluster.HostID {
	switch s, p := m.Seen.Store, m.PeerStatus.Store; {
	case s.WasActive && !p.WasActive:
		return m.Self
	case p.WasActive && !s.WasActive:
		return m.Peer
	}
	return min(m.Self, m.Peer)
}

// keeps is whose data are kept, "" as long as a person has not said it.
func (m *Machine) keeps() cluster.HostID {
	if m.Manual {
		return m.Keep
	}
	return m.rule()
}

// settle ends a split brain. The one that stops notes it first, so that it does
// not go on when the two part again.
func (m *Machine) settle() Action {
	keep := m.keeps()
	stays := keep
	if stays == "" {
		stays = m.rule()
	}
	switch {
	case stays == m.Self && m.marked() == LostTiebreak && keep != "":
		return SetBallot{}
	case stays == m.Self:
		return m.single()
	case m.marked() != LostTiebreak:
		return SetBallot{Ballot{State: LostTiebreak, From: m.Seen.Store.Gen}}
	case keep == "" && !m.Seen.Running:
		return nil
	}
	return m.discard(Wipe{Save: true})
}

// discard gives the store up, which nobody may start again. Without it package ha
// ends the group here, if it still is; that comes first, unless the group has come here by the
// peer's store, which this node reaches as well: then it does not end.
func (m *Machine) discard(w Wipe) Action {
	switch {
	case m.Seen.Running:
		return StopMember{}
	case m.Seen.Holds && !(m.Heard && m.Seen.HoldsBy != 0 && m.Seen.HoldsBy == m.PeerStatus.Store.Gen):
		return nil
	}
	return w
}

// single is what the only voter does.
func (m *Machine) single() Action {
	switch {
	case m.marked() == LostTiebreak && m.Seen.Running: // the two parted after the note, before it stopped
		return StopMember{}
	case m.marked() == LostTiebreak:
	case !m.Seen.Running:
		return StartMember{}
	case m.Heard && m.PeerStatus.Store.Role == Joining && m.PeerStatus.Store.Gen == m.Seen.Store.Gen:
		return Promote{}
	}
	return nil
}

// pair is what one of two voters does, and who is about to be one.
func (m *Machine) pair() Action {
	switch {
	case m.marked() == Won:
		return m.form()
	case m.Winning.State == Won:
		return SetBallot{m.Winning}
	case m.LostAt == 0:
		return m.together()
	case m.Seen.Store.Role == Two && (m.Now.Sub(m.LostAt) >= m.detect() || m.By == Fence && m.Seen.Off) && m.mayContest():
		return m.contest()
	}
	return nil
}

// together goes on with the peer. A member is started only when the peer has the
// same store, and goes on with it.
func (m *Machine) together() Action {
	s, p := m.Seen.Store, m.PeerStatus.Store
	switch {
	case !m.Heard || p.Gen != s.Gen || m.PeerStatus.Won:
	case !m.Seen.Running:
		return StartMember{}
	case s.Role == Two && p.Role == Joining && m.Seen.Quorum:
		return Barrier{}
	}
	return nil
}

// mayContest reports that this node has not been away, or has a person's word, or
// asked the disk before it went, which gives a generation to one of us for ever.
func (m *Machine) mayContest() bool {
	return m.HadQuorum || m.Confirmed != 0 || m.By == Disk && m.marked() == Contesting
}

// contest is the way to a won generation.
func (m *Machine) contest() Action {
	s := m.Seen.Store
	switch {
	case m.Confirmed != 0:
		return SetBallot{Ballot{Won, s.Gen, m.Confirmed, Operator, m.MayBeActive}}
	case m.By == Fence && m.Seen.Off && m.Seen.Running:
		return StopMember{}
	case m.By == Fence && m.Seen.Off:
		return Tiebreak{Gen: s.Gen, Look: true}
	case m.Out || !m.turn():
	case m.By == Disk && m.marked() != Contesting:
		return SetBallot{Ballot{State: Contesting, From: s.Gen}}
	case m.Seen.Running:
		return StopMember{}
	case m.By == Ping && !m.ended():
	default:
		return Tiebreak{Gen: s.Gen}
	}
	return nil
}

// detect is how long the peer is silent before it counts as lost. The node that serves decides before its own
// deadline, and what it wins extends that (Extends): so the group goes on when the standby is lost.
func (m *Machine) detect() time.Duration {
	if m.WasActive && m.By != Fence {
		return m.Times.Serving
	}
	return m.Times.Detect
}

// turn reports that it is this node's turn. Fences have turns that never meet, so
// that two nodes do not switch each other off: first the node that surely has the group, then
// the lesser name, then the other, and again.
func (m *Machine) turn() bool {
	ahead := m.Times.HeadStart
	var mine time.Duration
	if !m.WasActive {
		mine = ahead
		if m.Self > m.Peer {
			mine = 2 * ahead
		}
	}
	since := m.Now.Sub(m.LostAt) - m.detect() - mine
	return since >= 0 && (m.By != Fence || since%(3*ahead) < ahead/2)
}

// ended reports that nothing of the group runs at the peer: it was here when the
// last commit could be, or the peer's lease and watchdog are over.
func (m *Machine) ended() bool {
	return m.StoppedAt != 0 && (m.ActiveAtStop || m.Now.Sub(m.StoppedAt) >= m.Times.Silence)
}

// form goes on with what was won.
func (m *Machine) form() Action {
	switch {
	case m.Seen.Running:
		return StopMember{}
	case m.Ballot.By != Fence && m.Ballot.By != Operator && !m.ended():
		return nil
	}
	return Form{From: m.Ballot.From, Gen: m.Ballot.Gen, WasActive: m.Ballot.WasActive, Carry: m.ActiveAtStop && m.Seen.serves()}
}

// Extends reports that after an outcome the lease of what runs here lasts from now on, as after a renewal: the store
// was won, or formed, and it is nobody else's until it runs (doc.go).
func Extends(a Action, o Outcome) bool {
	switch a.(type) {
	case Tiebreak:
		return o.Won
	case Form:
		return o.OK
	}
	return false
}
