package ha

import (
	"slices"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
)

func TestTakeoverExpelsTheLostHostInTheSameTransaction(t *testing.T) {
	v := silence(as("h2", quiet()), "h1", 90)
	v.Coord.Host = "h2"
	v.Memory.Told["h1"] = 30
	for _, a := range v.Decide(v.Now) {
		w, ok := a.(Txn)
		if !ok || w.For != WorkWrite {
			continue
		}
		want := []Cond{{Key{Kind: KindOwner}, 20}, {Key{Kind: KindCoordinator}, 5}, {Key{Kind: KindWant}, 2}, {Key{KindHost, "h1"}, 30}}
		if w.Term != 5 || !slices.Equal(w.If, want) {
			t.Errorf("term %d, compares %v, want %v", w.Term, w.If, want)
		}
		if p := w.Put[len(w.Put)-1]; len(w.Put) != 2 || p.Key != (Key{KindHost, "h1"}) || p.Host.Name != "h1" || p.Host.Expelled != e2 {
			t.Errorf("writes %+v", w.Put)
		}
		if p := ownerOf(w).Proof; p.Kind != cluster.ProofDeadline || p.Host != "h1" || p.Epoch != e1 || p.Wait != 10*time.Second {
			t.Errorf("proof %+v", p)
		}
		return
	}
	t.Fatal("no write was decided")
}

// TestCancel: the request names the migration by its revision, so one that comes too
// late ends none, and moves the guest nowhere.
func TestCancel(t *testing.T) {
	with := func(change func(*Machine)) Machine {
		v := quiet()
		v.Owner.State, v.Owner.To, v.Owner.SeenAt = cluster.Migrating, "h2", sec(90)
		v.Want.Cancel = v.Owner.Mod
		change(&v)
		return v
	}
	late := func(change func(*Machine)) Machine {
		return with(func(v *Machine) { v.Owner.Mod++; change(v) })
	}
	for _, c := range []struct {
		what string
		view Machine
		want string
	}{
		{"one that is under way is aborted", with(func(v *Machine) { v.Guest.Seen.Migrating = true }), "Abort"},
		{"one that the agent carries out, too", with(func(v *Machine) { v.Doing.Works = WorkMigrate }), "Abort"},
		{"it is aborted once at a time", with(func(v *Machine) { v.Guest.Seen.Migrating, v.Doing.Works = true, WorkAbort }), ""},
		{"one that has not begun does not begin", with(func(*Machine) {}), "Write migration-failed running h1 1.1"},
		{"one that was tried has been cancelled, whatever it says",
			with(func(v *Machine) { v.Guest.Tried, v.Guest.TriedBy = 20, "context canceled" }), "Write migration-failed running h1 1.1"},
		{"a guest that has left is let go", with(func(v *Machine) { v.Guest.Seen.State = cluster.GuestAbsent }),
			"Renew, Disarm, Write settling settling h2 1.1 proved"},
		{"another migration goes on", late(func(v *Machine) { v.Guest.Seen.Migrating = true }), ""},
		{"another one begins", late(func(*Machine) {}), "Migrate"},
		{"a guest that runs stays", late(func(v *Machine) { v.Owner.State, v.Owner.To = cluster.Running, "" }), ""},
		{"the next migration forgets it", late(func(v *Machine) {
			v.Owner.State, v.Owner.To,
				v.Want.MoveTo = cluster.Running, "", "h3"
		}), "Write migrating migrating h1 1.1"},
	} {
		v := c.view
		if got := said(v); got != c.want {
			t.Errorf("%s: got %q, want %q", c.what, got, c.want)
		}
		for _, a := range v.Decide(v.Now) {
			x, ok := a.(Txn)
			if o := ownerOf(x); ok && o != nil && o.State == cluster.Running && o.ReasonCode.Code != reason.MoveCancelled.With().Code {
				t.Errorf("%s: the reason is %+v", c.what, o.ReasonCode)
			}
			for _, p := range x.Put {
				if p.Kind == KindWant && p.Want.Cancel != 0 {
					t.Errorf("%s: the wish keeps the cancel", c.what)
				}
			}
		}
	}
}

func TestOnlyTheSourceHoldsAMigration(t *testing.T) {
	base := func() Machine {
		v := as("h3", quiet())
		v.Coord.Host = "h3"
		v.Owner.State, v.Owner.To = cluster.Migrating, "h2"
		v.Memory.Told = map[cluster.HostID]int64{"h1": 30, "h2": 31}
		return v
	}
	for _, c := range []struct {
		lost []cluster.HostID
		want string
	}{
		{nil, ""},
		{[]cluster.HostID{"h1"}, "Write takeover assigned h2 1.2"},
		{[]cluster.HostID{"h2"}, ""},
		{[]cluster.HostID{"h1", "h2"}, "Write takeover assigned h3 1.2"},
	} {
		v := base()
		for _, h := range c.lost {
			v = silence(v, h, 90)
		}
		if got := said(v); got != c.want {
			t.Errorf("lost %v: got %q, want %q", c.lost, got, c.want)
		}
	}
}

// TestAGuestThatHasArrivedGoesOnWhenTheSourceIsWithoutIt: not before, since the
// source's hypervisor may go on with it when the last answer is lost.
func TestAGuestThatHasArrivedGoesOnWhenTheSourceIsWithoutIt(t *testing.T) {
	base := func(state cluster.OwnerState) Machine {
		v := as("h2", quiet())
		v.Owner.State, v.Owner.Host, v.Owner.To, v.Owner.Ready = state, "h1", "h2", true
		if state == cluster.Settling {
			v.Owner.Host, v.Owner.To = "h2", ""
		}
		v.Owner.SeenAt = v.Now.Add(-time.Second)
		v.Guest.Seen, v.Guest.SeenAt, v.Guest.Touched = cluster.Guest{State: cluster.GuestArrived, Epoch: v.Owner.Epoch}, v.Now, 0
		v.Watchdog.Armed, v.Watchdog.Limit = true, v.Now.Add(time.Second)
		return v
	}
	for _, c := range []struct {
		name  string
		state cluster.OwnerState
		edit  func(*Machine)
		want  bool
	}{
		{"the source has not said anything", cluster.Migrating, func(*Machine) {}, false},
		{"the source has said that it is gone", cluster.Settling, func(*Machine) {}, true},
		{"seen before the source said so", cluster.Settling, func(v *Machine) { v.Guest.SeenAt = v.Owner.SeenAt }, false},
		{"the watchdog is off", cluster.Settling, func(v *Machine) { v.Watchdog.Armed = false }, false},
		{"the lease ends", cluster.Settling, func(v *Machine) { v.Lease.Deadline = v.Now.Add(startMargin) }, false},
		{"hands off, and the store knows", cluster.Settling, func(v *Machine) {
			v.Want.HandsOff, v.Watchdog.Armed = true, false
			r := v.Hosts["h2"]
			r.HandsOff, r.Guard = true, 0
			v.Hosts["h2"] = r
		}, true},
		{"hands off, and the store does not know", cluster.Settling, func(v *Machine) { v.Want.HandsOff, v.Watchdog.Armed = true, false }, false},
	} {
		v := base(c.state)
		c.edit(&v)
		got := false
		for _, a := range v.Decide(v.Now) {
			switch a.(type) {
			case Resume:
				got = true
			case Kill:
				t.Errorf("%s: the guest is killed", c.name)
			}
		}
		if got != c.want {
			t.Errorf("%s: resumed %t, want %t", c.name, got, c.want)
		}
	}
}

func TestStartsBackOffAndMove(t *testing.T) {
	v := quiet()
	v.Owner.State = cluster.Released
	for f, want := range map[int]cluster.HostID{0: "h1", 1: "h1", 2: "h2", 5: "h2"} {
		v.Owner.Failures = f
		if h, _ := v.candidate(""); h != want {
			t.Errorf("after %d failures: %s, want %s", f, h, want)
		}
	}
	for f, want := range map[int]time.Duration{1: 500 * time.Millisecond, 2: time.Second, 6: 16 * time.Second,
		7: 30 * time.Second, 99: 30 * time.Second} {
		if b := backoff(f); b != want {
			t.Errorf("back-off after %d: %s, want %s", f, b, want)
		}
	}
}

// TestAChangedConfigurationIsTriedAtOnce: starts failed by an earlier one, and the host has judged the one in force.
func TestAChangedConfigurationIsTriedAtOnce(t *testing.T) {
	for judged, want := range map[int64]bool{0: false, 19: false, 20: true, 21: true} {
		v := quiet()
		v.Owner.State, v.Owner.Failures, v.Owner.SeenAt = cluster.Released, 7, v.Now-cluster.Instant(sec(1))
		for _, h := range v.Order {
			host(&v, h, func(r *HostRec) { r.Judged = judged })
		}
		given := false
		for _, a := range v.Decide(v.Now) {
			if w, ok := a.(Txn); ok && w.For == WorkWrite && ownerOf(w).State == cluster.Assigned {
				given = true
			}
		}
		if given != want {
			t.Errorf("judged by revision %d, the last failure is revision %d: given to a host %t, want %t", judged, v.Owner.Mod, given, want)
		}
	}
}

// TestALostHoldersEarlierFailuresDoNotCount, when it ran there.
func TestALostHoldersEarlierFailuresDoNotCount(t *testing.T) {
	for state, want := range map[cluster.OwnerState]int{cluster.Running: 0, cluster.Assigned: 7} {
		v := silence(as("h2", quiet()), "h1", 90)
		v.Coord.Host, v.Owner.State, v.Owner.Failures = "h2", state, 7
		for _, h := range []cluster.HostID{"h2", "h3"} {
			host(&v, h, func(r *HostRec) { r.Fit = false })
		}
		told := false
		for _, a := range v.Decide(v.Now) {
			if w, ok := a.(Txn); ok && w.For == WorkWrite {
				told = true
				if o := ownerOf(w); o.State != cluster.Released || o.Failures != want {
					t.Errorf("lost while %s: %s with %d failures, want %d", state, o.State, o.Failures, want)
				}
			}
		}
		if !told {
			t.Errorf("lost while %s: no write was decided", state)
		}
	}
}
