package ha

import (
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
)

// words makes every member but the silent ones report, now, that it heard each
// host just now, and h at sec(last).
func words(v Machine, h cluster.HostID, last float64) Machine {
	v.Words = map[cluster.HostID]cluster.HeartbeatReport{}
	for _, m := range v.Order {
		heard := map[cluster.HostID]cluster.Instant{}
		for _, x := range v.Order {
			heard[x] = v.Now
		}
		heard[h] = sec(last)
		v.Words[m] = cluster.HeartbeatReport{At: v.Now, Heard: heard}
	}
	delete(v.Words, h)
	return v
}

// unheard is the view of the coordinator h2, at 100 s, of a holder h1 that nobody
// has heard since 97.9 s, and that has a fence device.
func unheard() Machine {
	v := as("h2", quiet())
	v.Coord.Host, v.Devices, v.Memory.Fences = "h2", map[cluster.HostID]bool{"h1": true}, map[cluster.HostID]Fenced{}
	v.Lease.Deadline, v.Lease.Sent = sec(105), sec(99.9)
	v = silence(silence(silence(v, "h1", 97), "h2", 99.9), "h3", 99.9)
	return words(v, "h1", 97.9)
}

func TestSuspicion(t *testing.T) {
	with := func(f func(*Machine)) Machine { v := unheard(); f(&v); return v }
	heard := func(v *Machine, m cluster.HostID, at float64) { v.Words[m].Heard["h1"] = sec(at) }
	for _, c := range []struct {
		what string
		view Machine
		want bool
	}{
		{"a host that most members have not heard for the detection time is suspect", unheard(), true},
		{"one that another member hears is not", with(func(v *Machine) { heard(v, "h3", 99) }), false},
		{"one that this member hears is not", with(func(v *Machine) { heard(v, "h2", 99) }), false},
		{"an old word of another member does not count", with(func(v *Machine) {
			w := v.Words["h3"]
			w.At = sec(97.9)
			v.Words["h3"] = w
		}), false},
		{"a word says how long it had not heard it then, not now: a deaf member is no majority", with(func(v *Machine) {
			for _, m := range []cluster.HostID{"h2", "h3"} {
				v.Words[m] = cluster.HeartbeatReport{At: sec(98.5), Heard: map[cluster.HostID]cluster.Instant{"h1": sec(97.9)}}
			}
			v.Words["h2"] = cluster.HeartbeatReport{At: v.Now, Heard: map[cluster.HostID]cluster.Instant{"h1": sec(97.9)}}
		}), false},
		{"a member that has said nothing of it does not count", with(func(v *Machine) { delete(v.Words["h3"].Heard, "h1") }), false},
		{"a host that has renewed since its last heartbeat lives: its heartbeats alone are lost",
			with(func(v *Machine) { *v = silence(*v, "h1", 98.5) }), false},
		{"a renewal that came with the last heartbeat says nothing", with(func(v *Machine) {
			*v = silence(*v, "h1", 97.6)
			heard(v, "h2", 97.5)
			heard(v, "h3", 97.5)
		}), true},
		{"a host whose next renewal is not overdue is not suspect yet", with(func(v *Machine) { *v = silence(*v, "h1", 98) }), false},
		{"after a lease without renewal its heartbeats' loss counts whatever it renewed before", with(func(v *Machine) {
			*v = silence(*v, "h1", 94)
			heard(v, "h2", 90)
			heard(v, "h3", 90)
		}), true},
		{"a host that is heard and does not renew keeps its promise to reset itself", with(func(v *Machine) {
			*v = silence(*v, "h1", 90)
			heard(v, "h2", 99.9)
		}), false},
		{"a host without such a promise is suspect after its lease", with(func(v *Machine) {
			*v = silence(*v, "h1", 94)
			heard(v, "h2", 99.9)
			r := v.Hosts["h1"]
			r.Guard = 0
			v.Hosts["h1"] = r
		}), true},
		{"an expelled host is done with", with(func(v *Machine) {
			r := v.Hosts["h1"]
			r.Expelled = e2
			v.Hosts["h1"] = r
		}), false},
		{"without heartbeats nobody is suspect", with(func(v *Machine) { v.Words = nil }), false},
	} {
		if got := c.view.suspect("h1"); got != c.want {
			t.Errorf("%s: got %v", c.what, got)
		}
	}
	if v := words(quiet(), "h1", 90); v.suspect("h1") {
		t.Error("a host is not suspect to itself")
	}
}

func TestFencing(t *testing.T) {
	with := func(f func(*Machine)) Machine { v := unheard(); f(&v); return v }
	fenced := func(f Fenced) Machine { return with(func(v *Machine) { v.Memory.Fences["h1"] = f }) }
	for _, c := range []struct {
		what string
		view Machine
		want string
	}{
		{"the device of a suspect holder is asked", unheard(), "Fence"},
		{"but not of one that holds nothing", with(func(v *Machine) { v.Owner.Host = "h3" }), ""},
		{"nor by a host that is not the coordinator, which stands for election when that one is suspect",
			with(func(v *Machine) { v.Coord.Host = "h1" }), "Elect"},
		{"nor by a coordinator whose lease is over", with(func(v *Machine) { v.Lease.Deadline = sec(99.95) }), ""},
		{"nor with hands off", with(func(v *Machine) { v.Want.HandsOff = true }), ""},
		{"nor when there is none", with(func(v *Machine) { v.Devices = nil }), ""},
		{"nor while an order is under way", with(func(v *Machine) { v.Doing.Fencing = []cluster.HostID{"h1"} }), ""},
		{"off, read back for this record, is a proof",
			fenced(Fenced{Mod: 30, At: sec(99.9), Off: true, Device: "ipmi"}), "Write takeover assigned h2 1.2"},
		{"for another record it is none", fenced(Fenced{Mod: 29, At: sec(99.9), Off: true}), "Fence"},
		{"a failure is told once", fenced(Fenced{Mod: 30, At: sec(99.9), Why: "no answer"}), "Report fence-failed"},
		{"and tried again after a second", fenced(Fenced{Mod: 30, At: sec(98.9), Why: "no answer", Told: true}), "Fence"},
		{"not before", fenced(Fenced{Mod: 30, At: sec(99.5), Why: "no answer", Told: true}), ""},
		{"of a migration only the source is fenced", with(func(v *Machine) {
			v.Order = append(v.Order, "h4", "h5")
			v.Owner.State, v.Owner.To = cluster.Migrating, "h4"
			v.Devices["h4"] = true
			v.Hosts["h4"] = v.Hosts["h1"]
			*v = words(*v, "h1", 97)
			for _, m := range []cluster.HostID{"h2", "h3", "h5"} {
				v.Words[m].Heard["h4"] = sec(97)
			}
		}), "Fence"},
	} {
		if got := said(c.view); got != c.want {
			t.Errorf("%s: got %q, want %q", c.what, got, c.want)
		}
	}
}

// written gives the transaction on the owner record that is decided.
func written(t *testing.T, v Machine) Txn {
	t.Helper()
	for _, a := range v.Decide(v.Now) {
		if w, ok := a.(Txn); ok && w.For == WorkWrite {
			return w
		}
	}
	t.Fatal("no write is decided")
	return Txn{}
}

func TestAFencedHostIsTrustedAgainOnlyAfterABoot(t *testing.T) {
	v := unheard()
	v.Memory.Fences["h1"] = Fenced{Mod: 30, At: sec(99.9), Off: true, Device: "ipmi x"}
	w := written(t, v)
	if p := ownerOf(w).Proof; len(w.Put) != 2 || w.Put[1].Host.Fenced != "b" || p.Kind != cluster.ProofFenced || p.Note != "ipmi x" {
		t.Fatalf("%+v", w)
	}
	back := as("h1", quiet())
	back.Owner.Host, back.Lease.Mod, back.Lease.Deadline = "h3", 0, 0
	r := back.Hosts["h1"]
	r.Expelled, r.Fenced, r.SeenAt = e2, "b", sec(50)
	back.Hosts["h1"] = r
	if got := said(back); got != "" {
		t.Errorf("under the same boot: %q, want nothing", got)
	}
	back.ThisHost.Boot = "next"
	if got := said(back); got != "Renew" {
		t.Errorf("after a boot: %q, want Renew", got)
	}
	if r := back.Decide(back.Now)[0].(Txn).Put[0].Host; r.Fenced != "" || !r.Expelled.IsZero() {
		t.Errorf("it registers as %+v", r)
	}
}

func TestAnOperatorsWord(t *testing.T) {
	said1 := func(o cluster.Off, silent float64, guard time.Duration) Machine {
		v := unheard()
		v.Devices, v.Words, v.Memory.Told["h1"] = nil, nil, 30
		v = silence(v, "h1", 100-silent)
		r := v.Hosts["h1"]
		r.Guard = guard
		v.Hosts["h1"], v.Want.Off = r, []cluster.Off{o}
		return v
	}
	for _, c := range []struct {
		what string
		view Machine
		want string
	}{
		{"counts for a host whose lease is over", said1(cluster.Off{Host: "h1", Mod: 30, User: "eva"}, 6.5, 0), "Write takeover assigned h2 1.2"},
		{"not for one that may renew", said1(cluster.Off{Host: "h1", Mod: 30}, 5, 0), ""},
		{"not for one that has renewed since", said1(cluster.Off{Host: "h1", Mod: 29}, 6.5, 0), ""},
		{"not for another host", said1(cluster.Off{Host: "h3", Mod: 30}, 6.5, 0), ""},
		{"and is not needed when the deadline proves it", said1(cluster.Off{Host: "h1", Mod: 30}, 9, 2*time.Second),
			"Write takeover assigned h2 1.2"},
	} {
		if got := said(c.view); got != c.want {
			t.Errorf("an operator's word %s: got %q, want %q", c.what, got, c.want)
		}
	}
	if p := ownerOf(written(t, said1(cluster.Off{Host: "h1", Mod: 30, User: "eva"}, 6.5,
		0))).Proof; p.Kind != cluster.ProofOperator || p.Note != "eva" {
		t.Errorf("%+v", p)
	}
}

func TestAfterARestore(t *testing.T) {
	v := quiet()
	v.Gen, v.Owner.Host = 2, "h3"
	if got := said(v); got != "Kill" {
		t.Errorf("a guest of the generation before: %q, want Kill", got)
	}
	v = as("h1", v)
	for h, r := range v.Hosts {
		r.Guest = cluster.GuestAbsent
		v.Hosts[h] = r
	}
	for _, c := range []struct {
		what string
		mend func(*Machine)
		want string
	}{
		{"everybody has said that it has nothing", func(*Machine) {}, "Write released released  2.1"},
		{"one has a guest", func(v *Machine) { r := v.Hosts["h2"]; r.Guest = cluster.GuestPaused; v.Hosts["h2"] = r }, ""},
		{"one has not registered", func(v *Machine) { delete(v.Hosts, "h2") }, ""},
		{"an operator has said it of the one that has not",
			func(v *Machine) { delete(v.Hosts, "h2"); v.Want.Off = []cluster.Off{{Host: "h2"}} }, "Write released released  2.1"},
	} {
		w := v
		w.Hosts = map[cluster.HostID]HostRec{}
		for h, r := range v.Hosts {
			w.Hosts[h] = r
		}
		c.mend(&w)
		if got := said(w); got != c.want {
			t.Errorf("%s: got %q, want %q", c.what, got, c.want)
		}
		if waits := strings.Contains(w.Waiting(), "confirm-off h2"); waits == (c.want != "") {
			t.Errorf("%s: waits for %q", c.what, w.Waiting())
		}
	}
}

func TestASickGuestIsRestartedAndAHostThatCanNotStopItSurrenders(t *testing.T) {
	v := quiet()
	v.Guest.Unhealthy = "the health check failed"
	if got := said(v); got != "Kill" {
		t.Errorf("sick: %q, want Kill", got)
	}
	v.Doing.Works = WorkMigrate
	v.Lease.Sent, v.Guest.UnhealthyAt = sec(90), sec(91)
	if got := said(v); !strings.Contains(got, "Renew") {
		t.Errorf("while the kill may still succeed: %q, want a renewal", got)
	}
	v.Guest.UnhealthyAt = sec(89)
	if got := said(v); strings.Contains(got, "Renew") {
		t.Errorf("a kill that takes too long: %q, want no renewal", got)
	}
}

func TestRestartsInARowMoveTheGuestAndMayEnd(t *testing.T) {
	ended := func(ran float64, restarts int) cluster.Owner {
		v := quiet()
		v.Guest.Seen = cluster.Guest{State: cluster.GuestAbsent}
		v.Owner.SeenAt, v.Owner.Restarts = sec(99.8-ran), restarts
		return *ownerOf(written(t, v))
	}
	if o := ended(60, 1); o.Restarts != 2 || o.Failures != 0 {
		t.Errorf("after a minute: %d restarts, %d failures", o.Restarts, o.Failures)
	}
	if o := ended(601, 5); o.Restarts != 1 {
		t.Errorf("after more than the window: %d restarts, want 1", o.Restarts)
	}
	v := quiet()
	v.Owner.State, v.Owner.Restarts, v.Guest.Seen = cluster.Released, 2, cluster.Guest{State: cluster.GuestAbsent}
	v.Watchdog.Armed = false
	if got := said(v); got != "Renew, Write assigned assigned h2 1.2" {
		t.Errorf("after two: %q, want another host", got)
	}
	v.Restart.Limit = 2
	if got := said(v); got != "Renew" || !strings.Contains(v.Waiting(), "holdfast start") {
		t.Errorf("at the limit: %q, waiting %q", got, v.Waiting())
	}
	v.Want.Mod = v.Owner.Mod + 1
	if got := said(v); got != "Renew, Write assigned assigned h2 1.2" {
		t.Errorf("asked again: %q", got)
	}
}

// TestWhatIsGivenUpOnAHostGoesElsewhere: its driver has ended it, and says why; the other host comes first, also when it is the first end.
func TestWhatIsGivenUpOnAHostGoesElsewhere(t *testing.T) {
	const why = "the database has not answered for 10s"
	gone := cluster.Guest{State: cluster.GuestAbsent, GaveUp: why}
	ended := func(change func(*Machine)) cluster.Owner {
		v := quiet()
		v.Owner.SeenAt = sec(90)
		change(&v)
		v.Guest.Seen = gone
		return *ownerOf(written(t, v))
	}
	served := ended(func(*Machine) {})
	if served.Restarts != 1 || !strings.Contains(served.Reason, why) {
		t.Errorf("released with %d restarts: %q", served.Restarts, served.Reason)
	}
	began := ended(func(v *Machine) { v.Owner.State, v.Guest.Started = cluster.Assigned, v.Owner.Epoch })
	if began.Failures != 1 || !strings.Contains(began.Reason, why) {
		t.Errorf("released with %d failures: %q", began.Failures, began.Reason)
	}
	for what, c := range map[string]struct {
		fit  bool
		want string
	}{
		"the other is able": {true, "Renew, Write assigned assigned h2 1.2"},
		"none is":           {false, "Renew, Write assigned assigned h1 1.2"},
	} {
		v := quiet()
		v.Owner.Owner, v.Owner.SeenAt, v.Guest.Seen, v.Watchdog.Armed = served, sec(90), gone, false
		for _, h := range []cluster.HostID{"h2", "h3"} {
			r := v.Hosts[h]
			r.Fit = c.fit
			v.Hosts[h] = r
		}
		if got := said(v); got != c.want {
			t.Errorf("%s: %q, want %q", what, got, c.want)
		}
	}
}

// TestAnOldKillIsNoReason: what was killed here before something came by a move does not say why that ends.
func TestAnOldKillIsNoReason(t *testing.T) {
	v := quiet()
	v.Guest.Killed = "the owner record is running on h2, epoch 1.1"
	v.Observed(cluster.Guest{State: cluster.GuestRunning, Epoch: e1}, sec(99.9))
	v.Observed(cluster.Guest{State: cluster.GuestAbsent}, sec(99.95))
	v.Now = sec(100)
	if o := ownerOf(written(t, v)); o.Reason != "its process has ended" {
		t.Errorf("%q", o.Reason)
	}
}

func TestTheLivingSideOfAMigrationThatCanNotTellEndsIt(t *testing.T) {
	with := func(since float64, g cluster.GuestState, migrating bool) Machine {
		v := quiet()
		v.Owner.State, v.Owner.SeenAt, v.Guest.Seen.State, v.Guest.Seen.Migrating = cluster.Settling, sec(since), g, migrating
		r := v.Hosts["h1"]
		r.Guest, r.Fit = g, g != cluster.GuestUnknown
		v.Hosts["h1"] = r
		return v
	}
	for _, c := range []struct {
		what string
		view Machine
		want string
	}{
		{"it waits for its hypervisor at first", with(95, cluster.GuestUnknown, false), ""},
		{"then it ends the guest", with(89, cluster.GuestUnknown, false), "Kill"},
		{"a migration is called off at first", with(95, cluster.GuestPaused, true), "Abort"},
		{"then it is ended", with(89, cluster.GuestPaused, true), "Kill"},
		{"a guest that runs is kept", with(89, cluster.GuestRunning, false), "Write migrated running h1 1.1"},
	} {
		if got := said(c.view); got != c.want {
			t.Errorf("%s: got %q, want %q", c.what, got, c.want)
		}
	}
	v := with(95, cluster.GuestPaused, true)
	v.Guest.Touched = sec(99.95)
	if got := said(v); got != "" {
		t.Errorf("an abort that has just ended: %q, want a pause", got)
	}
}
