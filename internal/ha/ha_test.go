package ha

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
)

var timings = cluster.Timings{
	Lease: 6 * time.Second, Keepalive: 2 * time.Second, Grace: 2 * time.Second, Watchdog: 4 * time.Second,
	Epsilon: 500 * time.Millisecond, Drift: 0.01, Election: 4 * time.Second,
	Heartbeat: 200 * time.Millisecond, Detection: 2 * time.Second,
}

var restart = cluster.Restart{InPlace: 2, Window: 10 * time.Minute}

// sec is an instant, in seconds.
func sec(s float64) cluster.Instant { return cluster.Instant(s * float64(time.Second)) }

var e1, e2 = cluster.Epoch{Gen: 1, Seq: 1}, cluster.Epoch{Gen: 1, Seq: 2}

// quiet is the view of h1 at 100 s: three healthy hosts, h1 the coordinator, the
// guest running on h1 with everything in order. Nothing is to be done.
func quiet() View {
	v := View{
		Self: "h1", Resource: cluster.MgmtVM, Gen: 1, Now: sec(100), Timings: timings, Restart: restart, Synced: true,
		Order: []cluster.HostID{"h1", "h2", "h3"}, Hosts: map[cluster.HostID]HostRec{},
		Coord: CoordRec{cluster.Coordinator{Host: "h1"}, 5, sec(10)},
		Want:  WantRec{cluster.Want{Run: true}, 2},
		Owner: OwnerRec{cluster.Owner{Resource: cluster.MgmtVM, Epoch: e1, State: cluster.Running, Host: "h1"}, 20, sec(50)},
	}
	for i, h := range v.Order {
		g := cluster.GuestAbsent
		if h == "h1" {
			g = cluster.GuestRunning
		}
		v.Hosts[h] = HostRec{cluster.Host{Name: h, Identity: "id-" + string(h), Boot: "b", Guard: 2 * time.Second, Fit: true, Addr: "a", Guest: g}, int64(30 + i), sec(99)}
	}
	v.Local = Local{
		Identity: "id-h1", Boot: "b", Instance: "now", Addr: "a", Fit: true, LeaseMod: 30, Deadline: sec(105), RenewSent: sec(99),
		Guest: cluster.Guest{State: cluster.GuestRunning, Epoch: e1, PID: 7}, GuestAt: sec(99.9), Touched: sec(50),
		Dog:  Watchdog{Working: true, Armed: true, Limit: sec(103), Timeout: 4 * time.Second},
		Busy: map[Work]bool{}, Told: map[cluster.HostID]int64{},
	}
	return v
}

// as turns the quiet view into that of a host without the guest.
func as(h cluster.HostID, v View) View {
	v.Self = h
	v.Local.Identity, v.Local.LeaseMod = "id-"+string(h), v.Hosts[h].Mod
	v.Local.Guest = cluster.Guest{State: cluster.GuestAbsent}
	v.Local.Dog.Armed, v.Local.Dog.Limit = false, 0
	return v
}

func silence(v View, h cluster.HostID, since float64) View {
	r := v.Hosts[h]
	r.SeenAt = sec(since)
	v.Hosts[h] = r
	return v
}

// said gives the actions in short, in order.
func said(v View) string {
	var out []string
	for _, a := range Decide(v) {
		s := strings.TrimPrefix(fmt.Sprintf("%T", a), "ha.")
		switch a := a.(type) {
		case Write:
			s += " " + string(a.Event.Kind)
			if a.Owner != nil {
				s += fmt.Sprintf(" %s %s %s", a.Owner.State, a.Owner.Host, a.Owner.Epoch)
			}
			if a.Prove {
				s += " proved"
			}
		case Arm:
			s += fmt.Sprintf(" %.0f", time.Duration(a.Limit).Seconds())
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

func TestDecide(t *testing.T) {
	released := func(v View) View {
		v.Owner.State, v.Owner.Proof = cluster.Released, cluster.Proof{Kind: cluster.ProofReleased}
		return v
	}
	// h2 coordinates, and has seen nothing of h1 since 90 s.
	takeover := func(now float64) View {
		v := silence(as("h2", quiet()), "h1", 90)
		v.Now, v.Coord.Host = sec(now), "h2"
		v.Local.Deadline, v.Local.RenewSent, v.Local.Told = sec(now+5), sec(now-0.1), map[cluster.HostID]int64{"h1": 30}
		v = silence(silence(v, "h2", now-0.1), "h3", now-0.1)
		return v
	}
	for _, c := range []struct {
		what string
		view View
		want string
	}{
		{"nothing is to be done when all is well", quiet(), ""},
		{"a renewal is due after a keepalive interval", func() View { v := quiet(); v.Local.RenewSent = sec(98); return v }(), "Renew"},
		{"one that the watch tells of before its answer comes changes nothing", func() View {
			v := quiet()
			r := v.Hosts["h1"]
			r.Mod = 60
			v.Hosts["h1"] = r
			return v
		}(), ""},
		{"one that was not answered is repeated soon", func() View {
			v := quiet()
			v.Local.RenewSent = sec(99.7)
			return v
		}(), "Renew"},
		{"the guest is killed at the deadline, before anything else",
			func() View { v := quiet(); v.Local.Deadline = sec(100); v.Local.RenewSent = sec(98); return v }(), "Kill, Renew"},
		{"the kill at the deadline needs no store",
			func() View { v := quiet(); v.Local.Deadline, v.Synced = sec(100), false; return v }(), "Kill"},
		{"the watchdog stays armed while the guest's end is not proved",
			func() View {
				v := quiet()
				v.Local.Deadline, v.Local.Guest.State = sec(100), cluster.GuestUnknown
				return v
			}(), "Kill, Renew"},
		{"an absence observed before the last action ended proves nothing",
			func() View {
				v := quiet()
				v.Local.Deadline, v.Local.Guest.State, v.Local.Touched = sec(100), cluster.GuestAbsent, sec(99.95)
				return v
			}(), "Renew"},
		{"the watchdog is disarmed after the proof",
			func() View {
				v := quiet()
				v.Local.Deadline, v.Local.Guest.State = sec(100), cluster.GuestAbsent
				return v
			}(), "Renew, Disarm, Write released released h1 1.1 proved"},
		{"a new deadline moves the watchdog's limit to D + G - W",
			func() View { v := quiet(); v.Local.Deadline = sec(106); return v }(), "Arm 104"},
		{"a guest that ended is released, with a proof",
			func() View { v := quiet(); v.Local.Guest.State = cluster.GuestAbsent; return v }(), "Renew, Disarm, Write released released h1 1.1 proved"},
		{"an expelled host kills first and registers later",
			func() View {
				v := quiet()
				r := v.Hosts["h1"]
				r.Expelled, r.Mod = e2, 40
				v.Hosts["h1"] = r
				return v
			}(), "Kill"},
		{"an expelled host without the guest registers again",
			func() View {
				v := as("h2", quiet())
				r := v.Hosts["h2"]
				r.Expelled, r.Mod = e2, 40
				v.Hosts["h2"] = r
				return v
			}(), "Renew"},
		{"a guest on a host that does not own it is killed",
			func() View {
				v := as("h2", quiet())
				v.Local.Guest = cluster.Guest{State: cluster.GuestRunning, Epoch: e1}
				v.Local.Dog.Armed, v.Local.Dog.Limit = true, sec(103)
				return v
			}(), "Renew, Kill"},
		{"a guest newer than the record in the cache is left alone",
			func() View {
				v := as("h2", quiet())
				v.Local.Guest = cluster.Guest{State: cluster.GuestRunning, Epoch: e2}
				v.Local.Dog.Armed, v.Local.Dog.Limit = true, sec(103)
				return v
			}(), "Renew"},

		{"an assigned host arms before it starts",
			func() View {
				v := as("h2", quiet())
				v.Owner.State, v.Owner.Host, v.Owner.Epoch = cluster.Assigned, "h2", e2
				return v
			}(), "Arm 103"},
		{"an assigned and armed host claims the start",
			func() View {
				v := as("h2", quiet())
				v.Owner.State, v.Owner.Host, v.Owner.Epoch = cluster.Assigned, "h2", e2
				v.Local.Dog.Armed, v.Local.Dog.Limit = true, sec(103)
				return v
			}(), "Write  assigned h2 1.2"},
		{"no call is made while a write is on its way",
			func() View {
				v := as("h2", quiet())
				v.Owner.State, v.Owner.Host, v.Owner.Epoch, v.Owner.Claim = cluster.Assigned, "h2", e2, "now"
				v.Local.Dog.Armed, v.Local.Dog.Limit, v.Local.Busy[WorkWrite] = true, sec(103), true
				return v
			}(), ""},
		{"an agent does not repeat the start that its predecessor claimed",
			func() View {
				v := as("h2", quiet())
				v.Owner.State, v.Owner.Host, v.Owner.Epoch, v.Owner.Claim = cluster.Assigned, "h2", e2, "before"
				v.Local.Dog.Armed, v.Local.Dog.Limit = true, sec(103)
				return v
			}(), "Write released released h2 1.2 proved"},
		{"a guest under a watchdog that is not armed is no promise",
			func() View {
				v := quiet()
				v.Local.Dog.Armed = false
				return v
			}(), "Renew, Arm 103"},
		{"an assigned and armed host that has claimed starts",
			func() View {
				v := as("h2", quiet())
				v.Owner.State, v.Owner.Host, v.Owner.Epoch, v.Owner.Claim = cluster.Assigned, "h2", e2, "now"
				v.Local.Dog.Armed, v.Local.Dog.Limit = true, sec(103)
				return v
			}(), "Start"},
		{"a start needs an observation newer than the assignment",
			func() View {
				v := as("h2", quiet())
				v.Owner = OwnerRec{cluster.Owner{State: cluster.Assigned, Host: "h2", Epoch: e2}, 20, sec(99.95)}
				v.Local.Dog.Armed, v.Local.Dog.Limit = true, sec(103)
				return v
			}(), ""},
		{"a start is not begun near the deadline",
			func() View {
				v := as("h2", quiet())
				v.Owner.State, v.Owner.Host, v.Owner.Epoch = cluster.Assigned, "h2", e2
				v.Local.Dog.Armed, v.Local.Dog.Limit, v.Local.Deadline = true, sec(102), sec(100.9)
				return v
			}(), "Renew"},
		{"a start that failed is released and counted",
			func() View {
				v := as("h2", quiet())
				v.Owner.State, v.Owner.Host, v.Owner.Epoch = cluster.Assigned, "h2", e2
				v.Local.Started, v.Local.Dog.Armed, v.Local.Dog.Limit = e2, true, sec(103)
				return v
			}(), "Write released released h2 1.2 proved"},
		{"a host that is not able says so without calling the hypervisor",
			func() View {
				v := as("h2", quiet())
				v.Owner.State, v.Owner.Host, v.Owner.Epoch = cluster.Assigned, "h2", e2
				v.Local.Fit, v.Local.Dog.Armed, v.Local.Dog.Limit = false, true, sec(103)
				return v
			}(), "Renew, Write released released h2 1.2 proved"},

		{"the coordinator gives a released guest to the host that had it", func() View {
			v := released(as("h1", quiet()))
			r := v.Hosts["h1"]
			r.Guest = cluster.GuestAbsent
			v.Hosts["h1"] = r
			return v
		}(), "Write assigned assigned h1 1.2"},
		{"silence within T + G + margin takes nothing over", takeover(98.5), ""},
		{"silence beyond T + G + margin does", takeover(98.6), "Write takeover assigned h2 1.2"},
		{"a host without a watchdog is never taken over from", func() View {
			v := takeover(200)
			r := v.Hosts["h1"]
			r.Guard = 0
			v.Hosts["h1"] = r
			return v
		}(), ""},
		{"a host with its hands off is never taken over from", func() View {
			v := takeover(200)
			r := v.Hosts["h1"]
			r.HandsOff = true
			v.Hosts["h1"] = r
			return v
		}(), ""},
		{"a host that is not the coordinator takes nothing over", func() View {
			v := takeover(98.6)
			v.Coord.Host = "h3"
			return v
		}(), ""},
		{"a coordinator whose own lease is over decides nothing", func() View {
			v := takeover(98.6)
			v.Local.Deadline = sec(98.5)
			return v
		}(), ""},
		{"a silent coordinator is replaced", func() View {
			v := silence(as("h2", quiet()), "h1", 96)
			return v
		}(), "Elect"},

		{"one that was elected just now is not", func() View {
			v := silence(as("h2", quiet()), "h1", 96)
			v.Coord.SeenAt = sec(97)
			return v
		}(), ""},

		{"hands off is told before the watchdog is disarmed", func() View {
			v := quiet()
			v.Want.HandsOff = true
			return v
		}(), "Renew"},
		{"then it is disarmed and the deadline means nothing", func() View {
			v := quiet()
			v.Want.HandsOff = true
			r := v.Hosts["h1"]
			r.HandsOff = true
			v.Hosts["h1"] = r
			v.Local.Deadline = sec(99)
			return v
		}(), "Renew, Disarm"},
		{"hands on renews first when the lease has run out meanwhile", func() View {
			v := quiet()
			r := v.Hosts["h1"]
			r.HandsOff = true
			v.Hosts["h1"] = r
			v.Local.Dog.Armed, v.Local.Deadline, v.Local.RenewSent = false, sec(90), sec(98)
			return v
		}(), "Renew"},
		{"once hands on was sent, the deadline counts again", func() View {
			v := quiet()
			r := v.Hosts["h1"]
			r.HandsOff = true
			v.Hosts["h1"] = r
			v.Local.HandsOn, v.Local.Deadline = true, sec(99)
			return v
		}(), "Kill, Renew"},
		{"hands on arms first and tells after", func() View {
			v := quiet()
			r := v.Hosts["h1"]
			r.HandsOff = true
			v.Hosts["h1"] = r
			v.Local.Dog.Armed = false
			return v
		}(), "Renew, Arm 103"},

		{"an identity in use elsewhere ends this agent", func() View {
			v := quiet()
			r := v.Hosts["h1"]
			r.Identity, r.Mod = "other", 50
			v.Hosts["h1"] = r
			return v
		}(), "Conflict"},
		{"a rebooted host waits until it is sure to be the only one", func() View {
			v := as("h2", quiet())
			v.Local.Boot, v.Local.LeaseMod, v.Local.RenewSent = "b2", 0, 0
			return v
		}(), ""},
		{"and then registers", func() View {
			v := silence(as("h2", quiet()), "h2", 94)
			v.Local.Boot, v.Local.LeaseMod, v.Local.RenewSent = "b2", 0, 0
			return v
		}(), "Renew"},
		{"another machine of the holder's name waits for a proof about it", func() View {
			v := silence(as("h1", quiet()), "h1", 80)
			v.Local.Identity, v.Local.LeaseMod, v.Local.RenewSent = "new", 0, 0
			return v
		}(), ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			if got := said(c.view); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if got, again := said(c.view), said(c.view); got != again {
				t.Errorf("decided %q, then %q", got, again)
			}
		})
	}
}

func TestHandsOnIsToldOnlyUnderAnArmedWatchdog(t *testing.T) {
	for _, armed := range []bool{false, true} {
		v := quiet()
		r := v.Hosts["h1"]
		r.HandsOff = true
		v.Hosts["h1"] = r
		v.Local.Dog.Armed, v.Local.RenewSent = armed, sec(98)
		for _, a := range Decide(v) {
			if a, ok := a.(Renew); ok && (a.Record.HandsOff == armed || (a.Record.Guard > 0) != armed) {
				t.Errorf("armed %v: tells hands off %v, guard %s", armed, a.Record.HandsOff, a.Record.Guard)
			}
		}
	}
}

func TestTakeoverExpelsTheLostHostInTheSameTransaction(t *testing.T) {
	v := silence(as("h2", quiet()), "h1", 90)
	v.Coord.Host = "h2"
	v.Local.Told["h1"] = 30
	for _, a := range Decide(v) {
		w, ok := a.(Write)
		if !ok {
			continue
		}
		if w.Term != 5 || w.WantMod != 2 || w.OwnerMod != 20 || w.HostMods["h1"] != 30 {
			t.Errorf("compares term %d, want %d, owner %d, host %d", w.Term, w.WantMod, w.OwnerMod, w.HostMods["h1"])
		}
		if len(w.Expel) != 1 || w.Expel[0].Name != "h1" || w.Expel[0].Expelled != e2 {
			t.Errorf("expels %+v", w.Expel)
		}
		if p := w.Owner.Proof; p.Kind != cluster.ProofDeadline || p.Host != "h1" || p.Epoch != e1 || p.Wait != 10*time.Second {
			t.Errorf("proof %+v", p)
		}
		return
	}
	t.Fatal("no write was decided")
}

func TestMigrationWithOneSideLostAsksTheOther(t *testing.T) {
	base := func() View {
		v := as("h3", quiet())
		v.Coord.Host = "h3"
		v.Owner.State, v.Owner.To, v.Owner.Ready = cluster.Migrating, "h2", true
		v.Local.Told = map[cluster.HostID]int64{"h1": 30, "h2": 31}
		return v
	}
	for _, c := range []struct {
		lost []cluster.HostID
		want string
	}{
		{nil, ""},
		{[]cluster.HostID{"h1"}, "Write settling settling h2 1.1"},
		{[]cluster.HostID{"h2"}, "Write settling settling h1 1.1"},
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
	base := func(state cluster.OwnerState) View {
		v := as("h2", quiet())
		v.Owner.State, v.Owner.Host, v.Owner.To, v.Owner.Ready = state, "h1", "h2", true
		if state == cluster.Settling {
			v.Owner.Host, v.Owner.To = "h2", ""
		}
		v.Owner.SeenAt = v.Now.Add(-time.Second)
		v.Local.Guest, v.Local.GuestAt, v.Local.Touched = cluster.Guest{State: cluster.GuestArrived, Epoch: v.Owner.Epoch}, v.Now, 0
		v.Local.Dog.Armed, v.Local.Dog.Limit = true, v.Now.Add(time.Second)
		return v
	}
	for _, c := range []struct {
		name  string
		state cluster.OwnerState
		edit  func(*View)
		want  bool
	}{
		{"the source has not said anything", cluster.Migrating, func(*View) {}, false},
		{"the source has said that it is gone", cluster.Settling, func(*View) {}, true},
		{"seen before the source said so", cluster.Settling, func(v *View) { v.Local.GuestAt = v.Owner.SeenAt }, false},
		{"the watchdog is off", cluster.Settling, func(v *View) { v.Local.Dog.Armed = false }, false},
		{"the lease ends", cluster.Settling, func(v *View) { v.Local.Deadline = v.Now.Add(startMargin) }, false},
		{"hands off, and the store knows", cluster.Settling, func(v *View) {
			v.Want.HandsOff, v.Local.Dog.Armed = true, false
			r := v.Hosts["h2"]
			r.HandsOff, r.Guard = true, 0
			v.Hosts["h2"] = r
		}, true},
		{"hands off, and the store does not know", cluster.Settling, func(v *View) { v.Want.HandsOff, v.Local.Dog.Armed = true, false }, false},
	} {
		v := base(c.state)
		c.edit(&v)
		got := false
		for _, a := range Decide(v) {
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
		if h, _ := v.candidate(nil); h != want {
			t.Errorf("after %d failures: %s, want %s", f, h, want)
		}
	}
	for f, want := range map[int]time.Duration{1: 500 * time.Millisecond, 2: time.Second, 6: 16 * time.Second, 7: 30 * time.Second, 99: 30 * time.Second} {
		if b := backoff(f); b != want {
			t.Errorf("back-off after %d: %s, want %s", f, b, want)
		}
	}
}
