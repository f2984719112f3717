package upgrade

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
	"holdfast/testbed/need"
)

// memberBundle reboots hosts.
func memberBundle() manifest.Manifest {
	m := webBundle()
	m.RequiresReboot = true
	return m
}

// withMembers makes the first n hosts members of the store.
func withMembers(inv inventory.Inventory, n int) inventory.Inventory {
	for i := range n {
		inv.Hosts[i].Member = true
	}
	return inv
}

// membersAway are members between the begin of their turn and its end, in
// chains with a reboot.
func (w *world) membersAway() (out []cluster.HostID) {
	for _, s := range w.plan.Stages {
		for i := range s.Chains {
			c := &s.Chains[i]
			if s.Kind == Turn && w.isMember(c.Host) && c.reboots() && begun(w.recs[c.Steps[0].ID]) && !w.chainOver(c) {
				out = append(out, c.Host)
			}
		}
	}
	return out
}

func (w *world) isMember(h cluster.HostID) bool {
	return slices.ContainsFunc(w.inv.Hosts, func(x inventory.Host) bool { return x.Name == h && x.Member })
}

// checkMembers: two members are never away at once, and none is taken away while
// another is missing, unless an operator dropped that.
func (w *world) checkMembers(granted string) {
	if away := w.membersAway(); len(away) > 1 {
		w.t.Fatalf("members %v are out of service at once", away)
	}
	s := w.steps[granted]
	if s == nil || s.Kind != KindReboot || !w.isMember(s.Host) {
		return
	}
	st := w.status()
	members, left := 0, 0
	for _, h := range w.inv.Hosts {
		if !h.Member {
			continue
		}
		members++
		switch {
		case h.Name == s.Host:
		case w.hosts[h.Name].Up:
			left++
		case st.Dropped[h.Name] == "" && slices.ContainsFunc(w.plan.Hosts, func(x PlannedHost) bool { return x.Name == h.Name }):
			w.t.Fatalf("%s while member %s is away", granted, h.Name)
		}
	}
	if lost := left < members-1; lost && left <= members/2 {
		w.t.Fatalf("%s leaves %d of %d members", granted, left, members)
	}
}

func TestMembersOneAfterTheOther(t *testing.T) {
	for _, mode := range []manifest.Mode{manifest.Rolling, manifest.Reboot, manifest.Offline} {
		inv := withMembers(hosts(20), 3)
		p := mustBuild(t, memberBundle(), inv, Options{Mode: mode, MaxUnavailable: Limit{Count: 4}})
		if p.Blocked() && mode != manifest.Offline {
			t.Fatalf("%s: %v", mode, p.Findings)
		}
		if want := []cluster.HostID{"h0", "h1", "h2"}; !slices.Equal(p.Members, want) {
			t.Errorf("%s: members %v", mode, p.Members)
		}
		for _, h := range p.Hosts {
			if h.Member != slices.Contains(p.Members, h.Name) {
				t.Errorf("%s: %s is a member: %v", mode, h.Name, h.Member)
			}
		}
		w := newWorld(t, p, inv)
		most, said := 0, false
		w.meanwhile = func(w *world) {
			n := 0
			for _, s := range p.Stages {
				for _, c := range s.Chains {
					if s.Kind == Turn && begun(w.recs[c.Steps[0].ID]) && !w.chainOver(&c) {
						n++
					}
				}
			}
			most = max(most, n)
			said = said || slices.ContainsFunc(w.waits, func(s string) bool {
				return strings.HasSuffix(s, ": two members of the store must not be away at once")
			})
		}
		w.run()
		if w.job.Result != resultDone || most < 2 || !said {
			t.Errorf("%s: %s %s; %d hosts at once, the wait is said: %v", mode, w.job.Result, reason.Text(w.job.Why...), most, said)
		}
	}
}

// Without a reboot members are as other hosts.
func TestMembersWithoutReboot(t *testing.T) {
	inv := withMembers(hosts(4), 3)
	w := newWorld(t, mustBuild(t, webBundle(), inv, Options{Mode: manifest.Rolling, KeepGuests: true, MaxUnavailable: Limit{Count: 3}}), inv)
	w.decide()
	w.run()
	atOnce := 0
	for _, id := range w.order {
		if !strings.HasSuffix(id, "/stop/web") {
			atOnce = 0
			continue
		}
		if atOnce++; atOnce == 3 {
			return
		}
	}
	t.Errorf("never three at once: %v", w.order)
}

// start3 has three members and one other host, and goes on until a host's reboot
// could be granted.
func start3(t *testing.T, when func(w *world)) *world {
	t.Helper()
	inv := withMembers(hosts(4), 3)
	w := newWorld(t, mustBuild(t, memberBundle(), inv, Options{Mode: manifest.Rolling, MaxUnavailable: Limit{Count: 4}}), inv)
	w.oper = func(*world) {}
	w.meanwhile = when
	w.run()
	return w
}

// A member that is lost after the turn of another began holds its reboot up, until
// it is back.
func TestMemberIsLostMeanwhile(t *testing.T) {
	const why = "h0/reboot: waits for h1, which is away: two members of the store must not be away at once"
	w := start3(t, func(w *world) {
		if begun(w.recs["h0/drain"]) {
			w.hosts["h1"] = job.HostState{}
		}
	})
	if w.job.State != job.Active || !slices.Contains(w.waits, why) || begun(w.recs["h0/reboot"]) {
		t.Fatalf("%s %s, waits %v", w.job.State, reason.Text(w.job.Why...), w.waits)
	}
	w.meanwhile = nil
	w.hosts["h1"] = job.HostState{Up: true}
	w.wantEnd(resultDone, "")
}

// A lost member that an operator has dropped counts only for the majority.
func TestMemberIsDropped(t *testing.T) {
	w := start3(t, func(w *world) {
		if begun(w.recs["h0/drain"]) {
			w.hosts["h1"] = job.HostState{}
		}
	})
	j, err := Drop(w.plan, w.job, "h1", 0, "ann")
	if err != nil {
		t.Fatal(err)
	}
	w.job = j
	w.run()
	const why = "h0/reboot: waits for h1, which is away: without both the store has no majority"
	if w.job.State != job.Active || !slices.Contains(w.waits, why) {
		t.Fatalf("%s %s, waits %v", w.job.State, reason.Text(w.job.Why...), w.waits)
	}
	inv := withMembers(hosts(5), 5) // of five, three are enough
	w = newWorld(t, mustBuild(t, memberBundle(), inv, Options{Mode: manifest.Rolling}), inv)
	w.meanwhile = func(w *world) {
		if begun(w.recs["h0/drain"]) && w.hosts["h1"].Up {
			w.hosts["h1"] = job.HostState{}
			if w.job, err = Drop(w.plan, w.job, "h1", 0, "ann"); err != nil {
				t.Fatal(err)
			}
			w.offPlan = true
		}
	}
	w.wantEnd(resultDone, "")
}

// A member beside the plan that is down is warned of.
func TestMemberDownFinding(t *testing.T) {
	inv := withMembers(hosts(3), 3)
	inv.Hosts[1].Down = true
	inv.VMs = slices.Delete(inv.VMs, 1, 2)
	p := mustBuild(t, memberBundle(), inv, Options{Mode: manifest.Rolling, Drop: []cluster.HostID{"h1"}})
	if !slices.ContainsFunc(p.Findings, func(f Finding) bool {
		return f.Rule == "member-down" && f.Host == "h1" &&
			f.Level == Warn
	}) || p.Blocked() {
		t.Errorf("findings %v", p.Findings)
	}
	w := newWorld(t, p, inv)
	w.run()
	if w.job.State != job.Active || !slices.ContainsFunc(w.waits,
		func(s string) bool { return strings.Contains(s, "without both the store has no majority") }) {
		t.Errorf("%s %s, waits %v", w.job.State, reason.Text(w.job.Why...), w.waits)
	}
}

// Members are never away two at once, whatever the plan, and hosts that come and
// go do not stop the run for ever.
func TestRandomMembers(t *testing.T) {
	need.Seconds(t)
	ran := 0
	for seed := range uint64(randomRuns) {
		r := rand.New(rand.NewPCG(seed, 3))
		m, inv := randomManifest(r), randomInventory(r)
		m.RequiresReboot = seed%4 > 0
		for i := range inv.Hosts {
			inv.Hosts[i].Member = r.IntN(2) == 0
		}
		o := randomOptions(r, &inv)
		o.MaxUnavailable = Limit{Count: 1 + r.IntN(5)}
		p, err := Build(m, inv, o)
		if err != nil {
			t.Fatal(err)
		}
		if p.Blocked() {
			continue
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t, &p, inv)
			w.oper = moody(r)
			w.takes = func(*Step) time.Duration { return time.Duration(1+r.IntN(600)) * time.Second }
			w.outcome = func(*Step, int) job.StepState {
				if r.IntN(40) == 0 {
					return job.Failed
				}
				return job.Done
			}
			approveAll(t, w)
			gone := cluster.HostID("") // comes back later
			w.meanwhile = func(w *world) {
				h := w.inv.Hosts[r.IntN(len(w.inv.Hosts))].Name
				switch busy := w.busy(h); {
				case gone != "" && r.IntN(4) == 0:
					w.hosts[gone], gone = job.HostState{Up: true}, ""
				case gone == "" && !busy && r.IntN(8) == 0:
					w.hosts[h], gone = job.HostState{}, h
				}
			}
			w.run()
			for gone != "" && w.job.State != job.Ended { // nothing happens by itself while it is away
				w.hosts[gone], gone = job.HostState{Up: true}, ""
				w.run()
			}
			if w.job.State != job.Ended && len(w.waits) == 0 && len(w.job.Why) == 0 {
				t.Errorf("it is stuck without a reason: %s", w.job.State)
			}
		})
		ran++
	}
	if ran < randomRuns/4 {
		t.Errorf("only %d plans were not blocked", ran)
	}
}

// busy reports whether a step runs on a host.
func (w *world) busy(h cluster.HostID) bool {
	for id := range w.ends {
		if w.steps[id].Host == h {
			return true
		}
	}
	return false
}

// votes says which hosts are members of the store now.
func (w *world) votes(members ...cluster.HostID) {
	for h, s := range w.hosts {
		s.Member = slices.Contains(members, h)
		w.hosts[h] = s
	}
	for i := range w.inv.Hosts {
		w.inv.Hosts[i].Member = slices.Contains(members, w.inv.Hosts[i].Name)
	}
}

// A member that is dead for good and replaced by a host that the plan does not know as
// one does not hold the others up, and the new one counts.
func TestMemberIsReplaced(t *testing.T) {
	inv := withMembers(hosts(4), 3)
	w := newWorld(t, mustBuild(t, memberBundle(), inv, Options{Mode: manifest.Rolling, MaxUnavailable: Limit{Count: 4}}), inv)
	dead := func(w *world) {
		if begun(w.recs["h0/drain"]) {
			w.hosts["h1"] = job.HostState{}
		}
	}
	w.oper, w.meanwhile = func(*world) {}, dead
	w.run()
	if begun(w.recs["h0/reboot"]) {
		t.Fatal("h0 is rebooted while a member is away")
	}
	j, err := Drop(w.plan, w.job, "h1", 0, "ann")
	if err != nil {
		t.Fatal(err)
	}
	w.job, w.offPlan = j, true
	w.run()
	if !slices.ContainsFunc(w.waits, func(s string) bool { return strings.Contains(s, "without both the store has no majority") }) {
		t.Fatalf("%s, waits %v", w.job.State, w.waits)
	}
	// h3 takes its place, which the plan has as an ordinary host.
	together := false
	w.meanwhile = func(w *world) {
		w.votes("h0", "h2", "h3")
		n := 0
		for _, h := range []string{"h0", "h2", "h3"} {
			if begun(w.recs[h+"/drain"]) && !w.recs[h+"/undrain"].State.Over() {
				n++
			}
		}
		together = together || n > 1
	}
	w.wantEnd(resultDone, "")
	if together {
		t.Errorf("two members were away at once: %v", w.order)
	}
}

// A new member beside the plan that is away holds members up, as any other.
func TestNewMemberBesideThePlan(t *testing.T) {
	inv := withMembers(hosts(3), 3)
	w := newWorld(t, mustBuild(t, memberBundle(), inv, Options{Mode: manifest.Rolling}), inv)
	w.oper = func(*world) {}
	w.meanwhile = func(w *world) {
		w.hosts["h9"] = job.HostState{Member: true}
		w.votes("h0", "h1", "h9")
	}
	w.run()
	const why = "h0/drain: waits for h9, which is away: without both the store has no majority"
	if w.job.State != job.Active || !slices.Contains(w.waits, why) || begun(w.recs["h0/drain"]) {
		t.Fatalf("%s %s, waits %v", w.job.State, reason.Text(w.job.Why...), w.waits)
	}
	w.meanwhile = nil
	w.hosts["h9"] = job.HostState{Up: true, Member: true}
	w.wantEnd(resultDone, "")
}
