package ha

import (
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
)

// change gives the quiet view with something altered.
func change(f func(v *Machine)) Machine {
	v := quiet()
	f(&v)
	return v
}

func host(v *Machine, h cluster.HostID, f func(r *HostRec)) {
	r := v.Hosts[h]
	f(&r)
	v.Hosts[h] = r
}

func TestTakeoverSaysWhatALossWouldMean(t *testing.T) {
	for _, c := range []struct {
		what     string
		view     Machine
		possible bool
		why      string
	}{
		{"all is well", quiet(), true, "lease 6s + reset 2s + drift and margin 660ms"},
		{"the holder has no watchdog", change(func(v *Machine) { host(v, "h1", func(r *HostRec) { r.Guard = 0 }) }),
			false, "host h1 has no working watchdog"},
		{"hands off", change(func(v *Machine) { v.Want.HandsOff = true }), false, "hands off"},
		{"not armed again", change(func(v *Machine) { host(v, "h1", func(r *HostRec) { r.HandsOff = true }) }), false, "has not armed"},
		{"nobody else is able", change(func(v *Machine) {
			host(v, "h2", func(r *HostRec) { r.Fit, r.Why = false, "no image" })
			host(v, "h3", func(r *HostRec) { r.SeenAt = sec(80) })
		}), false, "h2: no image; h3: is silent"},
		{"no other host has the memory that it wants", change(func(v *Machine) {
			for _, h := range v.Order[1:] {
				host(v, h, func(r *HostRec) {
					r.Fit, r.Why = false, "the guest wants 32768 MiB of memory, and this host has 16384: give the guest less, or the host more"
				})
			}
		}), false, "no other host is able to run it: h2: the guest wants 32768 MiB of memory, and this host has 16384"},
		{"one of two others has the memory", change(func(v *Machine) {
			host(v, "h2", func(r *HostRec) { r.Fit, r.Why = false, "the guest wants 32768 MiB of memory, and this host has 16384" })
		}), true, "lease 6s"},
		{"another host is silent: nobody could decide",
			change(func(v *Machine) { host(v, "h3", func(r *HostRec) { r.SeenAt = sec(80) }) }), false,
			"1 of its 3 members would vote, 2 must; h3 is silent"},
		{"another host's member is broken", change(func(v *Machine) {
			host(v, "h2", func(r *HostRec) { r.Vote = cluster.Votes })
			host(v, "h3", func(r *HostRec) { r.Vote = "its member of the store does not answer" })
		}), false, "1 of its 3 members would vote, 2 must; h3: its member of the store does not answer"},
		{"the holder's own member is broken", change(func(v *Machine) {
			host(v, "h1", func(r *HostRec) { r.Vote = "its member of the store has no vote yet" })
		}), true, "lease 6s"},
		{"the store is elsewhere", change(func(v *Machine) {
			host(v, "h2", func(r *HostRec) { r.Vote = cluster.NoMember })
			host(v, "h3", func(r *HostRec) { r.SeenAt = sec(80) })
		}), true, "lease 6s"},
		{"no host holds it", change(func(v *Machine) { v.Owner.State = cluster.Released }), true, "no host holds"},
		{"no host holds it and nobody is able", change(func(v *Machine) {
			v.Owner.State = cluster.Released
			for _, h := range v.Order {
				host(v, h, func(r *HostRec) { r.Fit, r.Why = false, "no image" })
			}
		}), false, "h1: no image; h2: no image; h3: no image"},
		{"no host holds it, and starts have failed on all", change(func(v *Machine) {
			v.Owner.State = cluster.Released
			for _, h := range v.Order {
				host(v, h, func(r *HostRec) { r.Retry, r.Why = true, "too large" })
			}
		}), false, "no host is able to run it: h1: too large; h2: too large; h3: too large"},
		{"starts have failed on all others", change(func(v *Machine) {
			for _, h := range v.Order[1:] {
				host(v, h, func(r *HostRec) { r.Retry, r.Why = true, "too large" })
			}
		}), false, "no other host is able to run it: h2: too large; h3: too large"},
		{"a start has failed on one of two others", change(func(v *Machine) {
			host(v, "h2", func(r *HostRec) { r.Retry, r.Why = true, "too large" })
		}), true, "lease 6s"},
	} {
		if got := c.view.Takeover(); got.Possible != c.possible || !strings.Contains(got.Why, c.why) {
			t.Errorf("%s: %+v, want possible %v and %q", c.what, got, c.possible, c.why)
		}
	}
	for _, c := range []struct {
		guard            time.Duration
		device, off      bool
		deadline, fenced bool
	}{{2 * time.Second, false, false, true, false}, {2 * time.Second, true, false, true, true}, {0, true, false, false, true},
		{2 * time.Second, true, true, false, true}, {0, false, false, false, false}} {
		v := change(func(v *Machine) {
			v.Devices = map[cluster.HostID]bool{"h1": c.device}
			host(v, "h1", func(r *HostRec) { r.Guard, r.HandsOff = c.guard, c.off })
		})
		if got := v.Takeover(); got.ByDeadline != c.deadline || got.ByFence != c.fenced || got.Possible != (c.deadline || c.fenced) {
			t.Errorf("%+v: %+v", c, got)
		}
	}
	v := quiet()
	if got := v.Takeover().Within.Round(10 * time.Millisecond); got != 8660*time.Millisecond {
		t.Errorf("within %s, want (T + G) (1 + rho) / (1 - rho) + epsilon", got)
	}
}

func TestWaitingNamesWhatMustHappenNext(t *testing.T) {
	for _, c := range []struct {
		what string
		view Machine
		want string
	}{
		{"all is well", quiet(), ""},
		{"no store", change(func(v *Machine) { v.Synced = false }), "no quorum"},
		{"no coordinator", change(func(v *Machine) { v.Coord.Mod = 0 }), "election"},
		{"the holder is silent", change(func(v *Machine) {
			v.Coord.Host = "h2"
			host(v, "h1",
				func(r *HostRec) { r.SeenAt = sec(94) })
		}), "deadline of silent host h1, in 2.7s"},
		{"the silent holder promised nothing", change(func(v *Machine) {
			v.Coord.Host = "h2"
			host(v, "h1", func(r *HostRec) { r.SeenAt, r.Guard = sec(80), 0 })
		}), "has no working watchdog"},
		{"a start failed", change(func(v *Machine) {
			v.Owner.State, v.Owner.Failures, v.Owner.SeenAt, v.Owner.Reason = cluster.Released, 3, sec(99), "no image"
		}), "the next try, 2s after the last of 3 that failed: no image"},
		{"it is stopped", change(func(v *Machine) { v.Owner.State, v.Want.Run = cluster.Released, false }), ""},
		{"a guest without a record", change(func(v *Machine) { v.Owner = OwnerRec{} }), "host h1 runs something that no record explains"},
		{"a start", change(func(v *Machine) { v.Owner.State, v.Owner.Host = cluster.Assigned, "h2" }), "host h2 to start it"},
		{"a stop", change(func(v *Machine) { v.Owner.State = cluster.Stopping }), "the shutdown on h1"},
		{"a migration", change(func(v *Machine) { v.Owner.State, v.Owner.To = cluster.Migrating, "h2" }), "the move from h1 to h2"},
		{"maintenance, and a host is able", change(func(v *Machine) { v.Want.Maintenance = []cluster.HostID{"h1"} }), ""},
		{"maintenance, and no host is able", change(func(v *Machine) {
			v.Want.Maintenance = []cluster.HostID{"h1", "h3"}
			host(v, "h2", func(r *HostRec) { r.Fit, r.Why = false, "no image" })
		}), "a host to which it can move, as h1 is in maintenance: h2: no image; h3: is in maintenance"},
		{"one side of it lost", change(func(v *Machine) { v.Owner.State, v.Owner.Host = cluster.Settling, "h2" }),
			"h2 to report whether it has arrived there"},
	} {
		if got := c.view.Waiting(); got != c.want && (c.want == "" || !strings.Contains(got, c.want)) {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}
