package pair

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
)

// node1 is a machine that serves alone, with three members of which the first n are up.
func node1(up int) (*Machine, func(Replica, ...State)) {
	m := New("node1", "node2", []Member{{"files", 0}, {"web", 2}, {"vip", 2}}, 3*time.Second)
	e := cluster.Epoch{Gen: 1, Seq: 4}
	m.OwnerIs(cluster.Owner{State: cluster.Running, Host: "node1", Epoch: e}, 9)
	m.SyncIs(Sync{InSync: []cluster.HostID{"node1"}, Host: "node1", Epoch: e}, 8)
	m.Adopt(e)
	look := func(r Replica, s ...State) {
		m.Now++
		m.Observed(Seen{r, s, m.Sync.Mod}, m.Now)
	}
	s := []State{Down, Down, Down}
	for i := range up {
		s[i] = Up
	}
	look(Replica{Role: RoleActive, Whole: true, Wrote: true}, s...)
	return m, look
}

// next gives what is decided a second later, and ends it well.
func next(m *Machine) []Action {
	acts := m.Decide(m.Now.Add(time.Second))
	for _, a := range acts {
		m.Done(a, Outcome{OK: true, Mod: m.Sync.Mod + 1}, m.Now)
	}
	return acts
}

func want(t *testing.T, got []Action, want ...Action) {
	t.Helper()
	if len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
		t.Errorf("decided %+v, want %+v", got, want)
	}
}

func TestMembersStartInTheirOrder(t *testing.T) {
	m, look := node1(0)
	active := m.Seen.Replica
	want(t, next(m), StartMember{0})
	look(active, Up, Down, Down)
	want(t, next(m), StartMember{1})
	look(active, Up, Up, Down)
	want(t, next(m), StartMember{2})
	look(active, Up, Up, Up)
	want(t, next(m))
}

func TestMembersStopInTheReverseOrder(t *testing.T) {
	for name, hard := range map[string]bool{"asked": false, "at once": true} {
		t.Run(name, func(t *testing.T) {
			m, look := node1(3)
			active := m.Seen.Replica
			if m.Stop(); hard {
				m.Revoke()
			}
			want(t, next(m), StopMember{2, hard})
			look(active, Up, Up, Down)
			want(t, next(m), StopMember{1, hard})
			look(active, Up, Failed, Down)
			want(t, next(m), StopMember{1, hard})
			look(active, Up, Down, Down)
			want(t, next(m), StopMember{0, hard})
			look(active, Down, Down, Down)
			want(t, next(m), Demote{hard})
			if m.Phase != Ended && m.Phase != Stopping || m.Empty() {
				t.Errorf("phase %d, empty %v: the end was not seen yet", m.Phase, m.Empty())
			}
			look(Replica{Role: RoleOff, Whole: true, Wrote: true}, Down, Down, Down)
			next(m)
			look(Replica{Role: RoleOff, Whole: true, Wrote: true}, Down, Down, Down)
			if !m.Empty() {
				t.Errorf("not empty: %+v", m)
			}
		})
	}
}

// TestAMemberThatFailsIsRestarted with all that stand on it, until its limit.
func TestAMemberThatFailsIsRestarted(t *testing.T) {
	m, look := node1(3)
	active := m.Seen.Replica
	for range 2 {
		look(active, Up, Failed, Up)
		want(t, next(m), StopMember{2, true})
		look(active, Up, Failed, Down)
		want(t, next(m), StopMember{1, true})
		look(active, Up, Down, Down)
		want(t, next(m), StartMember{1})
		look(active, Up, Up, Down)
		want(t, next(m), StartMember{2})
	}
	look(active, Up, Failed, Down)
	next(m)
	if m.Phase != Ended || !strings.Contains(m.Why, "web failed 3 times") {
		t.Errorf("phase %d, %q", m.Phase, m.Why)
	}
}

// TestACopyMadeReadOnlyByHand is made writable again, and what stands on it goes on; one that was demoted is promoted as ever.
func TestACopyMadeReadOnlyByHand(t *testing.T) {
	m, look := node1(3)
	shut := Replica{Role: RoleStandby, Whole: true, Wrote: true, Shut: true}
	var acts []Action
	for range 3 {
		look(shut, Up, Up, Up)
		acts = append(acts, next(m)...)
	}
	want(t, acts, Put{Sync: m.Sync.Sync, SyncMod: m.Sync.Mod - 1, OwnerMod: m.Owner.Mod,
		Why: "what was written before and is still on its way does not count"},
		Promote{Epoch: m.Granted, Shut: true})
	if len(m.Failures) > 0 || m.Phase != Serving {
		t.Errorf("failures %v, phase %d", m.Failures, m.Phase)
	}
	m, look = node1(3)
	shut.Shut = false
	look(shut, Up, Up, Up)
	want(t, next(m), StopMember{2, true})
	if len(m.Failures) != 1 {
		t.Errorf("failures %v", m.Failures)
	}
}

// TestACopyThatTheGroupClosed is read-only by nobody's hand: a handing was taken back after its Drain. What was seen before a Promote ended
// is not how the copy is, either.
func TestACopyThatTheGroupClosed(t *testing.T) {
	m, look := node1(3)
	m.SyncIs(Sync{InSync: []cluster.HostID{"node1", "node2"}, Host: "node1", Epoch: m.Granted}, 9)
	shut := Replica{Role: RoleStandby, Whole: true, Wrote: true, Shut: true}
	m.HandOver()
	look(Replica{Role: RoleActive, Waits: true, Linked: true, Whole: true, Wrote: true}, Down, Down, Down)
	want(t, next(m), Drain{})
	m.CancelHandover()
	look(shut, Down, Down, Down)
	if m.Shut() {
		t.Error("what the group has closed counts as closed by a hand")
	}
	var acts []Action
	for range 2 {
		look(shut, Down, Down, Down)
		acts = append(acts, next(m)...)
	}
	want(t, acts, Put{Sync: m.Sync.Sync, SyncMod: m.Sync.Mod - 1, OwnerMod: m.Owner.Mod,
		Why: "what was written before and is still on its way does not count"},
		Promote{Epoch: m.Granted})
	if len(m.Failures) > 0 || m.Phase != Serving || m.Shut() {
		t.Errorf("failures %v, phase %d, shut %v", m.Failures, m.Phase, m.Shut())
	}
	m.Now++
	m.Observed(Seen{Replica: shut, Members: []State{Down, Down, Down}, SyncMod: m.Sync.Mod}, m.Now)
	if !m.Shut() {
		t.Error("a hand that has closed it later is not seen")
	}
}

func TestFailuresAreForgotten(t *testing.T) {
	m, look := node1(3)
	active := m.Seen.Replica
	for range 9 {
		look(active, Up, Failed, Down)
		want(t, next(m), StopMember{1, true})
		m.Now = m.Now.Add(Window)
	}
	if m.Phase != Serving {
		t.Error(m.Why)
	}
}

func TestThePeerIsWaitedForWithPatience(t *testing.T) {
	m, look := node1(3)
	m.SyncIs(Sync{InSync: []cluster.HostID{"node1", "node2"}, Host: "node1", Epoch: m.Granted}, 11)
	waits := Replica{Role: RoleActive, Waits: true, Linked: true, Whole: true, Wrote: true}
	look(waits, Up, Up, Up)
	want(t, next(m))
	waits.Linked = false
	look(waits, Up, Up, Up)
	want(t, next(m)) // two seconds of three
	look(waits, Up, Up, Up)
	alone := Sync{InSync: []cluster.HostID{"node1"}, Host: "node1", Epoch: m.Granted}
	want(t, next(m), Put{Sync: alone, SyncMod: 11, OwnerMod: 9, Why: "the peer does not acknowledge"})
	look(waits, Up, Up, Up)
	want(t, next(m), Alone{})
}

// TestMembersDoNotWaitForALostPeer: a look that began before the promotion ended starts no member,
// which would stand still with the writes of a device that is promoted without its peer.
func TestMembersDoNotWaitForALostPeer(t *testing.T) {
	m, _ := node1(3)
	m.SyncIs(Sync{InSync: []cluster.HostID{"node1", "node2"}, Host: "node1", Epoch: m.Granted}, 11)
	waits := Replica{Role: RoleActive, Waits: true, Whole: true, Wrote: true}
	m.Now++
	m.Touched, m.LinkAt = m.Now, 0
	m.Observed(Seen{Replica: waits, Members: []State{Down, Down, Down}, SyncMod: 11}, m.Now)
	want(t, next(m))
	m.Now++
	m.Observed(Seen{Replica: waits, Members: []State{Down, Down, Down}, SyncMod: 11}, m.Now)
	want(t, next(m), Put{Sync: Sync{InSync: []cluster.HostID{"node1"}, Host: "node1", Epoch: m.Granted}, SyncMod: 11,
		OwnerMod: 9, Why: "the peer does not acknowledge"})
	m.Now++
	m.SyncIs(Sync{InSync: []cluster.HostID{"node1"}, Host: "node1", Epoch: m.Granted}, 12)
	m.Observed(Seen{Replica: waits, Members: []State{Down, Down, Down}, SyncMod: 12}, m.Now)
	want(t, next(m), Alone{})
	waits.Waits = false
	m.Now++
	m.Observed(Seen{Replica: waits, Members: []State{Down, Down, Down}, SyncMod: 12}, m.Now)
	want(t, next(m), StartMember{0})
}

// TestAJoinThatHangsIsCutShort: the peer, which is complete no more, is lost while it is joined. Commits wait for it for the patience,
// and it is not complete.
func TestAJoinThatHangsIsCutShort(t *testing.T) {
	m, _ := node1(3)
	linked := Replica{Role: RoleActive, Waits: true, Linked: true, Whole: true, Wrote: true}
	lost, loose := linked, linked
	lost.Linked, loose.Waits, loose.Linked = false, false, false
	look := func(r Replica) {
		m.Now = m.Now.Add(time.Second)
		m.Observed(Seen{Replica: r, Members: []State{Up, Up, Up}, SyncMod: m.Sync.Mod}, m.Now)
	}
	look(linked)
	want(t, m.Decide(m.Now), Join{8})
	for range 10 { // longer than the patience: it acknowledges all the time
		look(linked)
		if m.Hangs(m.Now) {
			t.Fatal("a peer that acknowledges hangs")
		}
	}
	for range 10 { // no commit waits for it yet
		look(loose)
		if m.Hangs(m.Now) {
			t.Fatal("a peer that nobody waits for hangs")
		}
	}
	look(linked)
	for i := range 3 {
		look(lost)
		if got := m.Hangs(m.Now); got != (i == 2) {
			t.Errorf("%d s after the loss: hangs %t", i+1, got)
		}
		want(t, m.Decide(m.Now))
	}
	m.Done(Join{8}, Outcome{Why: "cut short"}, m.Now)
	look(lost)
	want(t, next(m), Put{Sync: m.Sync.Sync, SyncMod: 8, OwnerMod: 9, Why: "what was written before and is still on its way does not count"})
	look(lost)
	want(t, next(m), Alone{})
}

// TestAStartThatHangsIsCutShort: the peer is lost while a member starts, or ends, which waits with the
// commits. It is given up after the patience, not after what a start may take.
func TestAStartThatHangsIsCutShort(t *testing.T) {
	m, _ := node1(0)
	m.SyncIs(Sync{InSync: []cluster.HostID{"node1", "node2"}, Host: "node1", Epoch: m.Granted}, 11)
	linked := Replica{Role: RoleActive, Waits: true, Linked: true, Whole: true, Wrote: true}
	lost := linked
	lost.Linked = false
	look := func(r Replica) {
		m.Now = m.Now.Add(time.Second)
		m.Observed(Seen{Replica: r, Members: []State{Down, Down, Down}, SyncMod: 11}, m.Now)
	}
	look(linked)
	m.Joined = 11
	want(t, m.Decide(m.Now), StartMember{0})
	for range 10 { // longer than the patience: the peer acknowledges all the time
		look(linked)
		if m.Hangs(m.Now) {
			t.Fatal("a start beside a peer that acknowledges hangs")
		}
	}
	for i := range 3 {
		look(lost)
		if got := m.Hangs(m.Now); got != (i == 2) {
			t.Errorf("%d s after the loss: hangs %t", i+1, got)
		}
		want(t, m.Decide(m.Now))
	}
	m.Done(StartMember{0}, Outcome{Why: "cut short"}, m.Now)
	if len(m.Failures) != 0 || m.Hangs(m.Now) {
		t.Errorf("failures %v, hangs %t", m.Failures, m.Hangs(m.Now))
	}
	// The same while one is stopped, so that it can be started anew.
	look(linked)
	m.Seen.Members[0], m.Seen.Members[1], m.Joined = Up, Failed, 11
	want(t, m.Decide(m.Now), StopMember{1, true})
	for i := range 3 {
		look(lost)
		if got := m.Hangs(m.Now); got != (i == 2) {
			t.Errorf("%d s after the loss: hangs %t", i+1, got)
		}
	}
	m.Done(StopMember{1, true}, Outcome{Why: "cut short"}, m.Now)
	look(lost)
	alone := Sync{InSync: []cluster.HostID{"node1"}, Host: "node1", Epoch: m.Granted}
	want(t, next(m), Put{Sync: alone, SyncMod: 11, OwnerMod: 9, Why: "the peer does not acknowledge"})
}

// TestTheLicenseWaitsForTheOwnerRecord: package ha notes that the group runs here, and the license compares that record.
func TestTheLicenseWaitsForTheOwnerRecord(t *testing.T) {
	for _, before := range []cluster.OwnerState{cluster.Assigned, cluster.Settling} {
		m := New("node1", "node2", nil, time.Second)
		s := Sync{InSync: []cluster.HostID{"node1", "node2"}, Host: "node2", To: "node1", Epoch: cluster.Epoch{Seq: 2}}
		m.SyncIs(s, 5)
		o := cluster.Owner{State: before, Host: "node1", Epoch: cluster.Epoch{Seq: 2}, Ready: true}
		m.OwnerIs(o, 9)
		m.Grant(o.Epoch)
		m.Now++
		m.Observed(Seen{Replica: Replica{Role: RoleStandby, Whole: true}, SyncMod: 5}, m.Now)
		want(t, next(m))
		o.State = cluster.Running
		m.OwnerIs(o, 10)
		s.Host, s.To = "node1", ""
		want(t, next(m), Put{Sync: s, SyncMod: 5, OwnerMod: 10, Why: "the license to write"})
	}
}

// TestAStandbysLinkIsNoAcknowledgement: a copy that still looks for the node that was lost, as it
// did when it was a standby, does not have its first commits wait for that one.
func TestAStandbysLinkIsNoAcknowledgement(t *testing.T) {
	m := New("node1", "node2", []Member{{"mount", 1}}, 30*time.Second)
	both := Sync{InSync: []cluster.HostID{"node1", "node2"}, Host: "node2", Epoch: cluster.Epoch{Seq: 1}}
	m.SyncIs(both, 5)
	m.OwnerIs(cluster.Owner{State: cluster.Running, Host: "node1", Epoch: cluster.Epoch{Seq: 2}}, 9)
	m.Grant(cluster.Epoch{Seq: 2})
	m.Now++
	m.Observed(Seen{Replica: Replica{Role: RoleStandby, Linked: true, Whole: true}, Members: []State{Down}, SyncMod: 5}, m.Now)
	both.Host, both.Epoch = "node1", m.Granted
	want(t, next(m), Put{Sync: both, SyncMod: 5, OwnerMod: 9, Why: "the license to write"})
	want(t, next(m), Promote{Epoch: m.Granted})
	m.Now++
	m.Observed(Seen{Replica: Replica{Role: RoleActive, Waits: true, Whole: true, Wrote: true}, Members: []State{Down}, SyncMod: 6}, m.Now)
	both.InSync = both.InSync[:1]
	want(t, next(m), Put{Sync: both, SyncMod: 6, OwnerMod: 9, Why: "the peer does not acknowledge"})
}

// TestAStandbyThatCanNotBeSeen is ended after a while only: its active would wait for it.
func TestAStandbyThatCanNotBeSeen(t *testing.T) {
	m := New("node2", "node1", nil, time.Second)
	look := func(r Role) {
		m.Now++
		m.Observed(Seen{Replica: Replica{Role: r, Whole: true}}, m.Now)
	}
	look(RoleUnknown)
	want(t, next(m), Demote{}) // it may be active, for all that this process knows
	look(RoleStandby)
	want(t, next(m))
	look(RoleUnknown)
	for range 9 {
		want(t, next(m))
	}
	want(t, next(m), Demote{})
}

// TestAMemberThatCanNotBeSeen is started anew after a while only.
func TestAMemberThatCanNotBeSeen(t *testing.T) {
	m, look := node1(3)
	active := m.Seen.Replica
	for range 9 {
		look(active, Up, StateUnknown, Up)
		want(t, next(m))
	}
	look(active, Up, StateUnknown, Up)
	want(t, next(m), StopMember{2, true})
	look(active, Up, StateUnknown, Down)
	want(t, next(m), StopMember{1, true})
}

// TestWhileItIsPromotedNothingIsWritten: whatever the peer writes meanwhile, a node whose promotion takes long, as it has much to
// apply, leaves the record alone.
func TestWhileItIsPromotedNothingIsWritten(t *testing.T) {
	m, look := node1(0)
	look(Replica{Role: RoleStandby, Whole: true}, Down, Down, Down)
	m.Promoted = false
	put := m.Decide(m.Now.Add(time.Second))
	if len(put) != 1 {
		t.Fatalf("decided %+v: want what makes older writes void", put)
	}
	m.Done(put[0], Outcome{OK: true, Mod: m.Sync.Mod + 1}, m.Now)
	look(m.Seen.Replica, Down, Down, Down)
	want(t, m.Decide(m.Now.Add(time.Second)), Promote{Epoch: m.Granted})
	for range 3 {
		s := m.Sync.Sync
		m.SyncIs(s, m.Sync.Mod+1) // the peer tries to follow
		look(m.Seen.Replica, Down, Down, Down)
		want(t, m.Decide(m.Now.Add(time.Second)))
	}
	m.Done(m.Acting, Outcome{Why: "it was cut short"}, m.Now)
	look(m.Seen.Replica, Down, Down, Down)
	if again := m.Decide(m.Now.Add(time.Second)); len(again) != 1 {
		t.Errorf("after a promotion that failed decided %+v: want what makes older writes void", again)
	}
}

// TestFollowingRests: what fails again and again is tried less and less often, and at once when the group has come to its peer anew.
func TestFollowingRests(t *testing.T) {
	m, look := node1(0)
	m.Revoke()
	e := m.Granted
	owner := func(mod int64) {
		e.Seq++
		m.OwnerIs(cluster.Owner{State: cluster.Running, Host: "node2", Epoch: e}, mod)
		m.SyncIs(Sync{InSync: []cluster.HostID{"node2"}, Host: "node2", Epoch: e}, m.Sync.Mod+1)
	}
	owner(20)
	standby := Replica{Role: RoleStandby}
	// after says when it is tried again.
	after := func() time.Duration {
		t.Helper()
		begun := m.Now
		for range 1000 {
			look(standby, Down, Down, Down)
			for _, a := range m.Decide(m.Now.Add(100 * time.Millisecond)) {
				if _, put := a.(Put); put {
					m.Done(a, Outcome{OK: true, Mod: m.Sync.Mod + 1}, m.Now)
					continue
				}
				at := m.Now.Sub(begun)
				m.Done(a, Outcome{Why: "it can not apply what it receives"}, m.Now)
				return at.Round(time.Second)
			}
		}
		t.Fatal("it is not tried again")
		return 0
	}
	after()
	var got []time.Duration
	for range 6 {
		got = append(got, after())
	}
	if want := []time.Duration{2e9, 4e9, 8e9, 16e9, 20e9, 20e9}; !reflect.DeepEqual(got, want) {
		t.Errorf("tried again after %v, want %v", got, want)
	}
	owner(21)
	if got := after(); got > time.Second {
		t.Errorf("after a takeover it was tried after %v", got)
	}
}
