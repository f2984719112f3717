package arbiter

import (
	"testing"
	"time"

	"holdfast/internal/cluster"
)

// rig is a machine of node a with a node that does what it is told.
type rig struct {
	t    *testing.T
	m    *Machine
	now  cluster.Instant
	seen Seen
	peer PeerStatus
	hear bool
}

var whole = Store{Gen: 7, Role: Two}

// timesOfRig are those of the world, where the node that serves decides at once.
func timesOfRig() Times {
	t := times
	t.Serving = t.Detect / 2
	return t
}

func newRig(t *testing.T, self, peer cluster.HostID, by Kind, s Seen) *rig {
	r := &rig{t: t, m: New(self, peer, by, timesOfRig(), Ballot{}), now: cluster.Instant(time.Hour), seen: s,
		peer: PeerStatus{Store: whole}, hear: true}
	r.want()
	return r
}

// next gives what is decided some time later. It is under way until done.
func (r *rig) next(d time.Duration) Action {
	r.now = r.now.Add(d)
	r.m.Hears(r.peer, r.hear)
	r.m.Observed(r.seen, r.now)
	return r.m.Decide(r.now)
}

// want lets actions happen, which all end well, and compares them.
func (r *rig) want(all ...Action) {
	r.t.Helper()
	for i := 0; ; i++ {
		a := r.next(0)
		switch {
		case a == nil && i == len(all):
			return
		case i == len(all) || a != all[i]:
			r.t.Fatalf("action %d is %T%+v, want %+v", i, a, a, all)
		}
		switch a := a.(type) {
		case StopMember:
			r.seen.Running, r.seen.Quorum = false, false
		case StartMember:
			r.seen.Running = true
		case Form:
			r.seen.Store = Store{Gen: a.Gen, From: a.From, Role: Single, WasActive: a.WasActive}
		}
		r.m.Done(a, Outcome{OK: true, Won: true, Gen: 9}, r.now)
	}
}

func (r *rig) state(want State) {
	r.t.Helper()
	if got := r.m.State(); got != want {
		r.t.Errorf("state %d, want %d", got, want)
	}
}

func (r *rig) lose() { r.hear, r.seen.Quorum = false, false }

var serves = Seen{Store: whole, Running: true, Quorum: true, Holds: true, HoldsBy: 7, Reaches: true}

func TestANodeWithoutItsArbiterGoesOnAndSaysSo(t *testing.T) {
	for _, by := range []Kind{Fence, Disk, Ping} {
		r := newRig(t, "a", "b", by, serves)
		r.state(Whole)
		r.seen.Reaches = false
		r.next(time.Hour)
		r.want()
		r.state(NoFailover)
	}
}

func TestTheActiveGoesOnAtOnce(t *testing.T) {
	for by, marks := range map[Kind][]Action{Fence: nil, Ping: nil, Disk: {SetBallot{Ballot{State: Contesting, From: 7}}}} {
		r := newRig(t, "b", "a", by, serves)
		r.lose()
		r.want()
		detect := timesOfRig().Serving
		if by == Fence {
			detect = times.Detect
		}
		r.next(detect - 1)
		r.want()
		r.state(Arbitrates)
		r.now++
		r.want(append(marks, StopMember{}, Tiebreak{Gen: 7}, SetBallot{Ballot{Won, 7, 9, by, true}},
			Form{From: 7, Gen: 9, WasActive: true, Carry: true}, StartMember{})...)
		r.state(Alone)
	}
}

func TestTheStandbyWaits(t *testing.T) {
	won := func(by Kind) Action { return SetBallot{Ballot{Won, 7, 9, by, false}} }
	idle := serves
	idle.Holds = false
	for _, c := range []struct {
		name   string
		self   cluster.HostID
		by     Kind
		after  time.Duration // since the peer was lost
		first  []Action
		second []Action // after Silence
	}{
		{"fence", "a", Fence, times.Detect + times.HeadStart,
			[]Action{StopMember{}, Tiebreak{Gen: 7}, won(Fence), Form{From: 7, Gen: 9}, StartMember{}}, nil},
		{"fence, greater name", "b", Fence, times.Detect + 2*times.HeadStart,
			[]Action{StopMember{}, Tiebreak{Gen: 7}, won(Fence), Form{From: 7, Gen: 9}, StartMember{}}, nil},
		{"disk", "a", Disk, times.Detect + times.HeadStart,
			[]Action{SetBallot{Ballot{State: Contesting, From: 7}}, StopMember{}, Tiebreak{Gen: 7}, won(Disk)},
			[]Action{Form{From: 7, Gen: 9}, StartMember{}}},
		{"ping", "a", Ping, times.Detect + times.HeadStart, []Action{StopMember{}},
			[]Action{Tiebreak{Gen: 7}, won(Ping), Form{From: 7, Gen: 9}, StartMember{}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			peer := cluster.HostID("b")
			if c.self == "b" {
				peer = "a"
			}
			r := newRig(t, c.self, peer, c.by, idle)
			r.lose()
			r.want()
			r.now = r.now.Add(c.after - 1)
			r.want()
			r.now++
			r.want(c.first...)
			if c.second == nil {
				return
			}
			r.now = r.now.Add(times.Silence - 1)
			r.want()
			r.now++
			r.want(c.second...)
		})
	}
}

func TestFencesAreOrderedInTurns(t *testing.T) {
	r := newRig(t, "a", "b", Fence, serves)
	r.lose()
	r.want()
	r.now = r.now.Add(times.Detect)
	begun := r.now
	if a := r.next(0); a != (StopMember{}) {
		t.Fatalf("%T is first", a)
	}
	r.seen.Running = false
	r.m.Done(StopMember{}, Outcome{OK: true}, r.now)
	for r.now.Sub(begun) < 20*times.HeadStart {
		a := r.next(100 * time.Millisecond)
		mine := r.now.Sub(begun)%(3*times.HeadStart) < times.HeadStart/2
		if a != nil && !mine {
			t.Fatalf("%T at %s", a, r.now.Sub(begun))
		}
		if a != nil {
			r.m.Done(a, Outcome{}, r.now)
		}
	}
}

func TestAloneAfterAStart(t *testing.T) {
	down := Seen{Store: whole, Reaches: true}
	begin := func(by Kind, mark Ballot) *rig {
		r := &rig{t: t, m: New("a", "b", by, times, mark), now: cluster.Instant(time.Hour), seen: down}
		if mark.State != Won || by != Fence || mark.From != whole.Gen { // what a fence has won needs no wait
			r.want()
			r.now = r.now.Add(time.Hour)
		}
		return r
	}
	for _, by := range []Kind{Fence, Disk, Ping} {
		r := begin(by, Ballot{})
		r.want()
		r.state(Waits)
		r.m.Confirm(11)
		r.want(SetBallot{Ballot{Won, 7, 11, Operator, false}}, Form{From: 7, Gen: 11}, StartMember{})
		r = begin(by, Ballot{State: Won, From: 7, Gen: 9, By: by})
		r.want(Form{From: 7, Gen: 9}, StartMember{})
		r = begin(by, Ballot{State: Won, From: 3, Gen: 4, By: by})
		r.want()
		r.state(Waits)
	}
	asked := Ballot{State: Contesting, From: 7}
	r := begin(Disk, asked)
	r.want(Tiebreak{Gen: 7}, SetBallot{Ballot{Won, 7, 9, Disk, false}}, Form{From: 7, Gen: 9}, StartMember{})
	r = begin(Fence, asked)
	r.want()
	r = begin(Disk, asked)
	if a := r.next(0); a != (Tiebreak{Gen: 7}) {
		t.Fatalf("%T, want a contest", a)
	}
	r.m.Done(Tiebreak{Gen: 7}, Outcome{Lost: true}, r.now)
	r.now = r.now.Add(time.Hour)
	r.want()
	r.state(PeerWon)
}

func TestAReturningNodeIsWipedAndJoins(t *testing.T) {
	r := newRig(t, "a", "b", Disk, serves)
	r.peer = PeerStatus{Store: Store{Gen: 9, From: 7, Role: Single}}
	r.seen.Quorum = false
	r.want(StopMember{})
	r.state(Stale)
	r.seen.HoldsBy = 7
	r.want()           // package ha ends it first
	r.seen.HoldsBy = 9 // it has come here by the peer's store, and stays
	if a := r.next(0); a != (Wipe{}) {
		t.Fatalf("%T, want a wipe", a)
	}
	r.seen.Store = Store{}
	r.m.Done(Wipe{}, Outcome{OK: true}, r.now)
	if a := r.next(0); a != (Join{}) {
		t.Fatalf("%T, want a join", a)
	}
	r.state(Returning)
	r.seen.Store = Store{Gen: 9, From: 7, Role: Joining}
	r.m.Done(Join{}, Outcome{OK: true}, r.now)
	r.want(StartMember{})
	r.lose()
	r.next(time.Hour)
	r.want() // its vote does not count yet
}

func TestSplitBrain(t *testing.T) {
	mine := Seen{Store: Store{Gen: 9, From: 7, Role: Single}, Running: true, Quorum: true, Reaches: true}
	theirs := PeerStatus{Store: Store{Gen: 8, From: 7, Role: Single, WasActive: true}}
	begin := func(self, peer cluster.HostID, s Seen, p PeerStatus, manual bool) *rig {
		r := &rig{t: t, m: New(self, peer, Ping, times, Ballot{}), now: cluster.Instant(time.Hour), seen: s, peer: p, hear: true}
		r.m.Manual = manual
		return r
	}
	beaten := SetBallot{Ballot{State: LostTiebreak, From: 9}}
	r := begin("a", "b", mine, theirs, false)
	if a := r.next(0); a != beaten {
		t.Fatalf("%T, want the note that it stops", a)
	}
	r.state(SplitBrain)
	held := mine
	held.Store.WasActive = true
	r = begin("a", "b", held, theirs, false)
	r.want() // both had it, or none: the lesser name
	r = begin("b", "a", held, theirs, false)
	if a := r.next(0); a != beaten {
		t.Fatalf("%T, want the note that it stops", a)
	}
	r = begin("a", "b", mine, theirs, true)
	r.m.Done(r.next(0), Outcome{OK: true}, r.now)
	r.hear = false
	r.want(StopMember{}) // they parted again before it stopped
	r = begin("a", "b", mine, theirs, true)
	r.want(beaten, StopMember{})
	r.state(SplitOperator)
	r.hear = false
	r.next(time.Hour)
	r.want() // it does not go on when they part again
	r.hear = true
	r.m.Hears(theirs, true)
	r.m.Resolve("c")
	r.want()
	r.m.Resolve("a")
	r.want(SetBallot{}, StartMember{})
	r = begin("a", "b", mine, theirs, true)
	r.want(beaten, StopMember{})
	r.m.Resolve("b")
	if a := r.next(0); a != (Wipe{Save: true}) {
		t.Fatalf("%T%+v, want that its data are saved", a, a)
	}
	other := begin("b", "a", Seen{Store: theirs.Store, Running: true, Quorum: true}, PeerStatus{Store: mine.Store}, true)
	other.want()
	other.state(SplitOperator)
	other.m.Resolve("a")
	if a := other.next(0); a != (SetBallot{Ballot{State: LostTiebreak, From: 8}}) {
		t.Fatalf("%T, want the note that it stops", a)
	}
}

func TestStoresThatAreStrangers(t *testing.T) {
	r := &rig{t: t, m: New("a", "b", Disk, times, Ballot{}), now: cluster.Instant(time.Hour), seen: Seen{Store: whole}, hear: true}
	r.peer = PeerStatus{Store: Store{Gen: 5, From: 4, Role: Single}}
	r.want()
	r.now = r.now.Add(time.Hour)
	r.want()
	r.state(Foreign)
}

// TestApart: a node goes by the peer's store where that is its own, or the one that its own is given up for, and by no other.
func TestApart(t *testing.T) {
	alone := func(gen, from uint64) Store { return Store{Gen: gen, From: from, Role: Single} }
	two := func(gen, from uint64) Store { return Store{Gen: gen, From: from, Role: Two} }
	for _, c := range []struct {
		what       string
		self, peer Store
		silent     bool
		mark       Ballot
		want       bool
	}{
		{what: "one store", self: two(7, 3), peer: two(7, 3)},
		{what: "one store, and a silent peer", self: two(7, 3), silent: true},
		{what: "the peer goes on alone from this store", self: two(7, 3), peer: alone(9, 7)},
		{what: "no store", peer: alone(9, 7)},
		{what: "a copy that joins", self: Store{Gen: 9, From: 7, Role: Joining}, peer: alone(9, 7)},
		{what: "alone", self: alone(9, 7), peer: Store{Gen: 9, From: 7, Role: Joining}, want: true},
		{what: "both alone, the peer by the later generation", self: alone(9, 7), peer: alone(12, 7), want: true},
		{what: "both alone, the peer by the earlier one", self: alone(12, 7), peer: alone(9, 7), want: true},
		{what: "both alone, not heard", self: alone(9, 7), silent: true, want: true},
		{what: "won, not formed yet", self: two(7, 3), silent: true, mark: Ballot{State: Won, From: 7, Gen: 9}, want: true},
		{what: "beaten, by a mark about another store", self: two(7, 3), peer: two(7, 3), mark: Ballot{State: Won, From: 3, Gen: 7}},
		{what: "nothing to do with each other", self: two(7, 3), peer: two(12, 5), want: true},
		{what: "the peer's is the one that this one was formed from", self: two(7, 3), peer: two(3, 1), want: true},
	} {
		m := New("a", "b", Ping, times, c.mark)
		m.Hears(PeerStatus{Store: c.peer}, !c.silent)
		m.Observed(Seen{Store: c.self}, 1)
		if got := m.Apart(); got != c.want {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
}
