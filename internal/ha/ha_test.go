package ha

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
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
func quiet() Machine {
	v := Machine{
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
		v.Hosts[h] = HostRec{cluster.Host{Name: h, Identity: "id-" + string(h), Boot: "b", Machine: "m-" + string(h),
			Guard: 2 * time.Second, Fit: true, Addr: "a", Guest: g}, int64(30 + i), sec(99)}
	}
	v.ThisHost = ThisHost{Identity: "id-h1", Boot: "b", Machine: "m-h1", Instance: "now", Addr: "a", Fit: true}
	v.Lease = Lease{Mod: 30, Deadline: sec(105), Sent: sec(99)}
	v.Guest = Guest{Seen: cluster.Guest{State: cluster.GuestRunning, Epoch: e1, PID: 7}, SeenAt: sec(99.9), Touched: sec(50)}
	v.Watchdog = Watchdog{Working: true, Armed: true, Limit: sec(103), Timeout: 4 * time.Second}
	v.Memory = Memory{Fences: map[cluster.HostID]Fenced{}, Told: map[cluster.HostID]int64{}}
	return v
}

// as turns the quiet view into that of a host without the guest.
func as(h cluster.HostID, v Machine) Machine {
	v.Self = h
	v.ThisHost.Identity, v.ThisHost.Machine, v.Lease.Mod = "id-"+string(h), "m-"+string(h), v.Hosts[h].Mod
	v.Guest.Seen = cluster.Guest{State: cluster.GuestAbsent}
	v.Watchdog.Armed, v.Watchdog.Limit = false, 0
	return v
}

func silence(v Machine, h cluster.HostID, since float64) Machine {
	r := v.Hosts[h]
	r.SeenAt = sec(since)
	v.Hosts[h] = r
	return v
}

// ownerOf gives the owner record that a transaction writes; nil: none.
func ownerOf(t Txn) *cluster.Owner {
	for _, p := range t.Put {
		if p.Kind == KindOwner {
			return p.Owner
		}
	}
	return nil
}

// said gives the actions in short, in order.
func said(v Machine) string {
	var out []string
	for _, a := range v.Decide(v.Now) {
		s := strings.TrimPrefix(fmt.Sprintf("%T", a), "ha.")
		switch a := a.(type) {
		case Txn:
			s = strings.ToUpper(a.For.String()[:1]) + a.For.String()[1:]
			if a.For == WorkRenew || a.For == WorkElect {
				break
			}
			s += " " + string(a.Event.Kind)
			if o := ownerOf(a); o != nil {
				s += fmt.Sprintf(" %s %s %s", o.State, o.Host, o.Epoch)
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
	released := func(v Machine) Machine {
		v.Owner.State, v.Owner.Proof = cluster.Released, cluster.Proof{Kind: cluster.ProofReleased}
		return v
	}
	// h2 coordinates, and has seen nothing of h1 since 90 s.
	takeover := func(now float64) Machine {
		v := silence(as("h2", quiet()), "h1", 90)
		v.Now, v.Coord.Host = sec(now), "h2"
		v.Lease.Deadline, v.Lease.Sent, v.Memory.Told = sec(now+5), sec(now-0.1), map[cluster.HostID]int64{"h1": 30}
		v = silence(silence(v, "h2", now-0.1), "h3", now-0.1)
		return v
	}
	for _, c := range []struct {
		what string
		view Machine
		want string
	}{
		{"nothing is to be done when all is well", quiet(), ""},
		{"a renewal is due after a keepalive interval", func() Machine { v := quiet(); v.Lease.Sent = sec(98); return v }(), "Renew"},
		{"a host that is no member any more renews nothing",
			func() Machine { v := as("h2", quiet()); v.Lease.Sent = sec(98); v.Leave(true); return v }(), ""},
		{"nor does it register", func() Machine {
			v := as("h2", quiet())
			v.Lease = Lease{}
			delete(v.Hosts, "h2")
			v.Leave(true)
			return v
		}(), ""},
		{"what it still has ends with its lease", func() Machine { v := quiet(); v.Now = sec(106); v.Leave(true); return v }(), "Kill"},
		{"one that the watch tells of before its answer comes changes nothing", func() Machine {
			v := quiet()
			r := v.Hosts["h1"]
			r.Mod = 60
			v.Hosts["h1"] = r
			return v
		}(), ""},
		{"one that was not answered is repeated soon", func() Machine {
			v := quiet()
			v.Lease.Sent = sec(99.7)
			return v
		}(), "Renew"},
		{"the guest is killed at the deadline, before anything else",
			func() Machine { v := quiet(); v.Lease.Deadline = sec(100); v.Lease.Sent = sec(98); return v }(), "Kill, Renew"},
		{"the kill at the deadline needs no store",
			func() Machine { v := quiet(); v.Lease.Deadline, v.Synced = sec(100), false; return v }(), "Kill"},
		{"the watchdog stays armed while the guest's end is not proved",
			func() Machine {
				v := quiet()
				v.Lease.Deadline, v.Guest.Seen.State = sec(100), cluster.GuestUnknown
				return v
			}(), "Kill, Renew"},
		{"an absence observed before the last action ended proves nothing",
			func() Machine {
				v := quiet()
				v.Lease.Deadline, v.Guest.Seen.State, v.Guest.Touched = sec(100), cluster.GuestAbsent, sec(99.95)
				return v
			}(), "Renew"},
		{"the watchdog is disarmed after the proof",
			func() Machine {
				v := quiet()
				v.Lease.Deadline, v.Guest.Seen.State = sec(100), cluster.GuestAbsent
				return v
			}(), "Renew, Disarm, Write released released h1 1.1 proved"},
		{"a new deadline moves the watchdog's limit to D + G - W",
			func() Machine { v := quiet(); v.Lease.Deadline = sec(106); return v }(), "Arm 104"},
		{"a guest that ended is released, with a proof",
			func() Machine { v := quiet(); v.Guest.Seen.State = cluster.GuestAbsent; return v }(),
			"Renew, Disarm, Write released released h1 1.1 proved"},
		{"an expelled host kills first and registers later",
			func() Machine {
				v := quiet()
				r := v.Hosts["h1"]
				r.Expelled, r.Mod = e2, 40
				v.Hosts["h1"] = r
				return v
			}(), "Kill"},
		{"an expelled host without the guest registers again",
			func() Machine {
				v := as("h2", quiet())
				r := v.Hosts["h2"]
				r.Expelled, r.Mod = e2, 40
				v.Hosts["h2"] = r
				return v
			}(), "Renew"},
		{"a guest on a host that does not own it is killed",
			func() Machine {
				v := as("h2", quiet())
				v.Guest.Seen = cluster.Guest{State: cluster.GuestRunning, Epoch: e1}
				v.Watchdog.Armed, v.Watchdog.Limit = true, sec(103)
				return v
			}(), "Renew, Kill"},
		{"a guest newer than the record in the cache is left alone",
			func() Machine {
				v := as("h2", quiet())
				v.Guest.Seen = cluster.Guest{State: cluster.GuestRunning, Epoch: e2}
				v.Watchdog.Armed, v.Watchdog.Limit = true, sec(103)
				return v
			}(), "Renew"},

		{"an assigned host arms before it starts",
			func() Machine {
				v := as("h2", quiet())
				v.Owner.State, v.Owner.Host, v.Owner.Epoch = cluster.Assigned, "h2", e2
				return v
			}(), "Arm 103"},
		{"an assigned and armed host claims the start",
			func() Machine {
				v := as("h2", quiet())
				v.Owner.State, v.Owner.Host, v.Owner.Epoch = cluster.Assigned, "h2", e2
				v.Watchdog.Armed, v.Watchdog.Limit = true, sec(103)
				return v
			}(), "Write  assigned h2 1.2"},
		{"no call is made while a write is on its way",
			func() Machine {
				v := as("h2", quiet())
				v.Owner.State, v.Owner.Host, v.Owner.Epoch, v.Owner.Claim = cluster.Assigned, "h2", e2, "now"
				v.Watchdog.Armed, v.Watchdog.Limit, v.Doing.Works = true, sec(103), WorkWrite
				return v
			}(), ""},
		{"an agent does not repeat the start that its predecessor claimed",
			func() Machine {
				v := as("h2", quiet())
				v.Owner.State, v.Owner.Host, v.Owner.Epoch, v.Owner.Claim = cluster.Assigned, "h2", e2, "before"
				v.Watchdog.Armed, v.Watchdog.Limit = true, sec(103)
				return v
			}(), "Write released released h2 1.2 proved"},
		{"a guest under a watchdog that is not armed is no promise",
			func() Machine {
				v := quiet()
				v.Watchdog.Armed = false
				return v
			}(), "Renew, Arm 103"},
		{"an assigned and armed host that has claimed starts",
			func() Machine {
				v := as("h2", quiet())
				v.Owner.State, v.Owner.Host, v.Owner.Epoch, v.Owner.Claim = cluster.Assigned, "h2", e2, "now"
				v.Watchdog.Armed, v.Watchdog.Limit = true, sec(103)
				return v
			}(), "Start"},
		{"a guest that an I/O error has stopped before it was seen to run has been started",
			func() Machine {
				v := as("h2", quiet())
				v.Owner.State, v.Owner.Host, v.Owner.Epoch, v.Owner.Claim = cluster.Assigned, "h2", e2, "now"
				v.Guest.Seen = cluster.Guest{State: cluster.GuestPaused, IOError: true, Epoch: e2, PID: 7}
				v.Guest.Started, v.Watchdog.Armed, v.Watchdog.Limit = e2, true, sec(103)
				return v
			}(), "Renew, Write started running h2 1.2"},
		{"a guest that is paused while it starts has not",
			func() Machine {
				v := as("h2", quiet())
				v.Owner.State, v.Owner.Host, v.Owner.Epoch, v.Owner.Claim = cluster.Assigned, "h2", e2, "now"
				v.Guest.Seen = cluster.Guest{State: cluster.GuestPaused, Epoch: e2, PID: 7}
				v.Guest.Started, v.Watchdog.Armed, v.Watchdog.Limit = e2, true, sec(103)
				return v
			}(), "Renew"},
		{"a start needs an observation newer than the assignment",
			func() Machine {
				v := as("h2", quiet())
				v.Owner = OwnerRec{cluster.Owner{State: cluster.Assigned, Host: "h2", Epoch: e2}, 20, sec(99.95)}
				v.Watchdog.Armed, v.Watchdog.Limit = true, sec(103)
				return v
			}(), ""},
		{"a start is not begun near the deadline",
			func() Machine {
				v := as("h2", quiet())
				v.Owner.State, v.Owner.Host, v.Owner.Epoch = cluster.Assigned, "h2", e2
				v.Watchdog.Armed, v.Watchdog.Limit, v.Lease.Deadline = true, sec(102), sec(100.9)
				return v
			}(), "Renew"},
		{"a start that failed is released and counted",
			func() Machine {
				v := as("h2", quiet())
				v.Owner.State, v.Owner.Host, v.Owner.Epoch = cluster.Assigned, "h2", e2
				v.Guest.Started, v.Watchdog.Armed, v.Watchdog.Limit = e2, true, sec(103)
				return v
			}(), "Write released released h2 1.2 proved"},
		{"a host that is not able says so without calling the hypervisor",
			func() Machine {
				v := as("h2", quiet())
				v.Owner.State, v.Owner.Host, v.Owner.Epoch = cluster.Assigned, "h2", e2
				v.ThisHost.Fit, v.Watchdog.Armed, v.Watchdog.Limit = false, true, sec(103)
				return v
			}(), "Renew, Write released released h2 1.2 proved"},

		{"the coordinator gives a released guest to the host that had it", func() Machine {
			v := released(as("h1", quiet()))
			r := v.Hosts["h1"]
			r.Guest = cluster.GuestAbsent
			v.Hosts["h1"] = r
			return v
		}(), "Write assigned assigned h1 1.2"},
		{"silence within T + G + margin takes nothing over", takeover(98.6), ""},
		{"silence beyond T + G + margin does", takeover(98.7), "Write takeover assigned h2 1.2"},
		{"a host without a watchdog is never taken over from", func() Machine {
			v := takeover(200)
			r := v.Hosts["h1"]
			r.Guard = 0
			v.Hosts["h1"] = r
			return v
		}(), ""},
		{"a host with its hands off is never taken over from", func() Machine {
			v := takeover(200)
			r := v.Hosts["h1"]
			r.HandsOff = true
			v.Hosts["h1"] = r
			return v
		}(), ""},
		{"a host that is not the coordinator takes nothing over", func() Machine {
			v := takeover(98.6)
			v.Coord.Host = "h3"
			return v
		}(), ""},
		{"a coordinator whose own lease is over decides nothing", func() Machine {
			v := takeover(98.6)
			v.Lease.Deadline = sec(98.5)
			return v
		}(), ""},
		{"a silent coordinator is replaced", func() Machine {
			v := silence(as("h2", quiet()), "h1", 96)
			return v
		}(), "Elect"},

		{"one that was elected just now is not", func() Machine {
			v := silence(as("h2", quiet()), "h1", 96)
			v.Coord.SeenAt = sec(97)
			return v
		}(), ""},

		{"hands off is told before the watchdog is disarmed", func() Machine {
			v := quiet()
			v.Want.HandsOff = true
			return v
		}(), "Renew"},
		{"then it is disarmed and the deadline means nothing", func() Machine {
			v := quiet()
			v.Want.HandsOff = true
			r := v.Hosts["h1"]
			r.HandsOff = true
			v.Hosts["h1"] = r
			v.Lease.Deadline = sec(99)
			return v
		}(), "Renew, Disarm"},
		{"hands on renews first when the lease has run out meanwhile", func() Machine {
			v := quiet()
			r := v.Hosts["h1"]
			r.HandsOff = true
			v.Hosts["h1"] = r
			v.Watchdog.Armed, v.Lease.Deadline, v.Lease.Sent = false, sec(90), sec(98)
			return v
		}(), "Renew"},
		{"once hands on was sent, the deadline counts again", func() Machine {
			v := quiet()
			r := v.Hosts["h1"]
			r.HandsOff = true
			v.Hosts["h1"] = r
			v.Lease.HandsOn, v.Lease.Deadline = true, sec(99)
			return v
		}(), "Kill, Renew"},
		{"hands on arms first and tells after", func() Machine {
			v := quiet()
			r := v.Hosts["h1"]
			r.HandsOff = true
			v.Hosts["h1"] = r
			v.Watchdog.Armed = false
			return v
		}(), "Renew, Arm 103"},

		{"an identity in use elsewhere ends this agent", func() Machine {
			v := quiet()
			r := v.Hosts["h1"]
			r.Identity, r.Mod = "other", 50
			v.Hosts["h1"] = r
			return v
		}(), "Conflict"},
		{"a rebooted host waits until it is sure to be the only one", func() Machine {
			v := as("h2", quiet())
			v.ThisHost.Boot, v.Lease.Mod, v.Lease.Sent = "b2", 0, 0
			return v
		}(), ""},
		{"and then registers", func() Machine {
			v := silence(as("h2", quiet()), "h2", 94)
			v.ThisHost.Boot, v.Lease.Mod, v.Lease.Sent = "b2", 0, 0
			return v
		}(), "Renew"},
		{"another machine of the holder's name waits for a proof about it", func() Machine {
			v := silence(as("h1", quiet()), "h1", 80)
			v.ThisHost.Identity, v.Lease.Mod, v.Lease.Sent = "new", 0, 0
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
		v.Watchdog.Armed, v.Lease.Sent = armed, sec(98)
		for _, a := range v.Decide(v.Now) {
			if a, ok := a.(Txn); ok && a.For == WorkRenew {
				if r := a.Put[0].Host; r.HandsOff == armed || (r.Guard > 0) != armed {
					t.Errorf("armed %v: tells hands off %v, guard %s", armed, r.HandsOff, r.Guard)
				}
			}
		}
	}
}

// TestReasonsOfOwnersAreRendered: the code says what the sentence says, within the same
// bounds.
func TestReasonsOfOwnersAreRendered(t *testing.T) {
	for want, why := range map[string]reason.Reason{
		"":                                {},
		"takeover from h1":                reason.TakeoverFrom.With("h1"),
		"h2 is silent":                    reason.TargetNotAble.With("h2", "is silent"),
		"the start failed: no image":      reason.StartFailed.With("no image"),
		strings.Repeat("x", 508) + " ...": reason.MoveFailed.With(strings.Repeat("x", 600)),
	} {
		var o cluster.Owner
		because(&o, why)
		if got := reason.Said("not rendered", reason.Reason{Code: o.ReasonCode.Code,
			Args: o.ReasonCode.Args.Named()}); o.Reason != want || want != "" && got != want {
			t.Errorf("%q, rendered %q, want %q", o.Reason, got, want)
		}
	}
}
