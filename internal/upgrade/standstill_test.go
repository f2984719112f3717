package upgrade

import (
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
)

// until goes on until a step is under way.
func (w *world) until(id string) {
	w.t.Helper()
	for range 500 {
		w.decide()
		if begun(w.recs[id]) {
			return
		}
		w.tick()
	}
	w.t.Fatalf("%s is not begun: %s %s, waits %v", id, w.job.State, reason.Text(w.job.Why...), w.waits)
}

// A window that closes while an offline run stops guests, or when it has switched the
// platform's HA off, does not leave them so.
func TestWindowDoesNotHoldAnOfflineRunThatHasBegun(t *testing.T) {
	reboots := webBundle()
	reboots.RequiresReboot = true
	for slow, c := range map[string]struct {
		m   manifest.Manifest
		inv inventory.Inventory
	}{KindVMStop: {reboots, hosts(3)}, KindHAOff: {smallBundle(), smallCluster()}} {
		p := mustBuild(t, c.m, c.inv, Options{Mode: manifest.Offline, Window: Window{22 * 60, 22*60 + 15}})
		w := newWorld(t, p, c.inv)
		w.takes = func(s *Step) time.Duration {
			if s.Kind == slow {
				return 20 * time.Minute
			}
			return time.Minute
		}
		w.run()
		if first := w.now.Day() == 2; w.job.Result != resultDone || !first || w.now.Hour() < 22 {
			t.Errorf("%s: %s %s at %s, waits %v", slow, w.job.State, w.job.Result, w.now, w.waits)
		}
	}
}

// A way back waits neither for a window nor for approvals.
func TestRollbackDoesNotWaitForAWindow(t *testing.T) {
	m, inv, w := aborted(t, manifest.Rolling)
	up := *w.plan
	up.Options.Window, up.Options.ApprovePerHost = Window{22 * 60, 23 * 60}, true
	p, err := PlanRollback(m, up, w.recs, w.status(), inv, RollbackFacts{Receipts: receipts(w)})
	if err != nil || p.Blocked() {
		t.Fatalf("%v %v", err, p.Findings)
	}
	back := newWorld(t, &p, inv)
	noon := back.now
	back.takes = func(*Step) time.Duration { return time.Minute }
	back.wantEnd(resultDone, "")
	if back.now.Sub(noon) > 2*time.Hour {
		t.Errorf("ended at %s", back.now)
	}
}

// A manager that dies while it switches HA on does not stop the run: another one does
// it, at once when the dead one is dropped.
func TestHAIsSwitchedOnByAnother(t *testing.T) {
	for _, dropped := range []bool{true, false} {
		w := newWorld(t, mustBuild(t, smallBundle(), smallCluster(), Options{Mode: manifest.Offline}), smallCluster())
		w.takes = func(*Step) time.Duration { return time.Second }
		w.until("m1/ha-on")
		w.hosts["m1"] = job.HostState{}
		delete(w.ends, "m1/ha-on")
		w.decide()
		if begun(w.recs["m2/ha-on"]) {
			t.Fatal("m2 does not wait for m1")
		}
		if dropped {
			j, err := Drop(w.plan, w.job, "m1", 0, "ann")
			if err != nil {
				t.Fatal(err)
			}
			w.job = j
		} else {
			w.now = w.now.Add(timeSwitch + time.Minute)
		}
		w.wantEnd(resultDone, "")
		if w.recs["m2/ha-on"].State != job.Done {
			t.Errorf("dropped: %v: m2/ha-on is %q", dropped, w.recs["m2/ha-on"].State)
		}
	}
	// When the other one dies, too, an operator is needed.
	w := newWorld(t, mustBuild(t, smallBundle(), smallCluster(), Options{Mode: manifest.Offline}), smallCluster())
	for _, h := range []cluster.HostID{"m1", "m2"} {
		w.until(stepID(h, "ha-on"))
		w.hosts[h] = job.HostState{}
		delete(w.ends, stepID(h, "ha-on"))
		w.now = w.now.Add(timeSwitch + time.Minute)
	}
	w.decide()
	wantPaused(t, w, "has been away for longer than the step may take")
}

// A manager that dies while it switches HA off, before anything is changed, does not
// hold an abort.
func TestAbortWhileHAIsSwitchedOff(t *testing.T) {
	w := newWorld(t, mustBuild(t, smallBundle(), smallCluster(), Options{Mode: manifest.Offline}), smallCluster())
	w.until("m1/ha-off")
	w.hosts["m1"] = job.HostState{}
	delete(w.ends, "m1/ha-off")
	w.now = w.now.Add(timeSwitch + time.Minute)
	w.decide()
	wantPaused(t, w, "m1/ha-off: m1 has been away")
	w.command(job.Abort)
	w.wantEnd(resultAborted, "aborted by ann")
	if w.recs["m2/ha-on"].State != job.Done || w.status().Cluster != Normal {
		t.Errorf("m2/ha-on is %q, the cluster %s", w.recs["m2/ha-on"].State, w.status().Cluster)
	}
}

// After an upgrade that has switched over, the other manager is the active one.
func TestRollbackKnowsTheActiveManager(t *testing.T) {
	for mode, want := range map[manifest.Mode]string{
		manifest.Rolling: "managers: m1/pair-stop", manifest.Reboot: "ha off: m2/ha-off\n",
	} {
		m, inv := smallBundle(), smallCluster()
		m.RequiresReboot = mode == manifest.Reboot
		w := start(t, m, inv, Options{Mode: mode})
		p, err := PlanRollback(m, *w.plan, w.recs, w.status(), inv, RollbackFacts{})
		if err != nil || p.Blocked() {
			t.Fatalf("%v %v", err, p.Findings)
		}
		text := outline(&p)
		for _, part := range []string{want, "switch over: m1/pair-switch\n", "active manager: m2/pair-stop"} {
			if !strings.Contains(text, part) {
				t.Errorf("%s: no %q in\n%s", mode, part, text)
			}
		}
		if inv.Pair.Active != "m1" {
			t.Errorf("%s: the inventory was changed", mode)
		}
		// A rollback that has switched over and was aborted then knows better.
		back := newWorld(t, &p, inv)
		back.until("m2/pair-stop")
		back.offPlan = true
		back.command(job.Abort)
		back.wantEnd(resultAborted, "aborted by ann")
		again, err := PlanRollback(m, *w.plan, w.recs, back.status(), inv, RollbackFacts{})
		if text := outline(&again); err != nil || strings.Contains(text, "m1/pair-switch") || !strings.Contains(text, "managers: m2/pair-stop") {
			t.Errorf("%s: %v\n%s", mode, err, text)
		}
		// The journal of the upgrade is enough. A switch that was not done has changed nothing.
		st := w.status()
		st.Active = ""
		if p, err = PlanRollback(m, *w.plan, w.recs, st, inv, RollbackFacts{}); err != nil ||
			!strings.Contains(outline(&p), "switch over: m1/pair-switch\n") {
			t.Errorf("%s: %v\n%s", mode, err, outline(&p))
		}
		w.recs["m2/pair-switch"] = job.Record{State: job.Failed, Attempt: 1}
		if p, err = PlanRollback(m, *w.plan, w.recs, st, inv, RollbackFacts{}); err != nil ||
			!strings.Contains(outline(&p), "switch over: m2/pair-switch\n") {
			t.Errorf("%s: %v\n%s", mode, err, outline(&p))
		}
	}
}

// An abort writes the job again and again; a host that does not come back is not
// waited for any longer because of that.
func TestAbortDoesNotWaitForItself(t *testing.T) {
	m, inv := webBundle(), hosts(2)
	m.RequiresReboot = true
	w := start(t, m, inv, Options{Mode: manifest.Offline}, "h0/install/web")
	wantPaused(t, w, "h0/install/web failed")
	w.hosts["h0"] = job.HostState{}
	w.command(job.Abort)
	began := w.now
	w.meanwhile = func(w *world) { w.job.Changed = w.now }
	w.run()
	if waited := w.now.Sub(began); w.job.State != job.Ended || waited < awayFor || waited > 3*awayFor {
		t.Errorf("%s after %s, waits %v", w.job.State, waited, w.waits)
	}
}

// What an operator has retried in vain before the abort is tried in it, too.
func TestAbortCountsItsOwnAttempts(t *testing.T) {
	m, inv := webBundle(), hosts(1)
	m.RequiresReboot = true
	inv.Hosts[0].Pools = []inventory.Pool{{Name: "p", Shared: true, Active: true, Paths: 2}}
	w := start(t, m, inv, Options{Mode: manifest.Offline}, "h0/storage-attach")
	wantPaused(t, w, "h0/storage-attach failed")
	r := w.recs["h0/storage-attach"]
	r.Attempt = maxTries
	w.recs["h0/storage-attach"] = r
	before := len(w.order)
	w.command(job.Abort)
	w.wantEnd(resultAborted, "aborted by ann")
	if got := strings.Join(w.order[before:], " "); got != "h0/storage-attach h0/vm-start" {
		t.Errorf("restored: %s", got)
	}
}

// Guests that would return as a favour do not in an abort: HA does not wait for them,
// and their host is as complete as without.
func TestAbortMovesNoGuestsBack(t *testing.T) {
	for _, at := range []string{"undrain", "back"} {
		m, inv := smallBundle(), smallCluster()
		m.RequiresReboot = true
		w := newWorld(t, mustBuild(t, m, inv, Options{Mode: manifest.Reboot, MoveBack: true, Order: []cluster.HostID{"h1"}}), inv)
		w.until(stepID("h1", at))
		before := len(w.order)
		w.offPlan = true
		w.command(job.Abort)
		w.wantEnd(resultAborted, "aborted by ann")
		again := w.order[before:]
		if slices.Contains(again, "h1/back") || !slices.Contains(again, "m1/ha-on") {
			t.Errorf("aborted in %s: restored: %v", at, again)
		}
		if st := w.status(); st.Hosts["h1"] != HostRollupDone || slices.Contains(st.Mixed, "h1") ||
			strings.Contains(reason.Text(w.job.Why...), "h1/back") {
			t.Errorf("aborted in %s: %s: %+v", at, reason.Text(w.job.Why...), st)
		}
	}
}

// The spares of many groups are emptied together within the bound of all moves.
func TestSparesShareTheBoundOfMoves(t *testing.T) {
	m, inv := webBundle(), hosts(24)
	m.RequiresReboot = true
	for i := range inv.Hosts {
		inv.Hosts[i].Group = string(rune('a' + i/2))
	}
	for _, c := range []struct{ perHost, total, want int }{{0, 0, 4}, {4, 3, 1}, {1, 20, 20}} {
		p := mustBuild(t, m, inv, Options{Mode: manifest.Reboot, ParallelPerHost: c.perHost, ParallelTotal: c.total})
		i := slices.IndexFunc(p.Stages, func(s Stage) bool { return s.Name == "empty" })
		if i < 0 || len(p.Stages[i].Chains) != 12 || p.Stages[i].Limit != c.want {
			t.Errorf("%+v: stage %d: %s", c, i, outline(p))
		}
	}
}

// TestClusterIsNotNormalWhileItsServicesAreOff: also where no host was changed yet. An abort
// that switches them on again leaves it as it was.
func TestClusterIsNotNormalWhileItsServicesAreOff(t *testing.T) {
	inv := hosts(3)
	inv.Applications = &inventory.Switch{Off: []string{"/off"}, On: []string{"/on"}}
	off := stepID("cluster", KindAppsOff)
	w := start(t, webBundle(), inv, Options{Mode: manifest.Offline}, off)
	wantPaused(t, w, off+" failed")
	if st := w.status(); st.Cluster != Rollup || len(st.Hosts) > 0 {
		t.Errorf("applications may be stopped, and the cluster is %s with %v", st.Cluster, st.Hosts)
	}
	w.command(job.Abort)
	w.wantEnd(resultAborted, "")
	if st := w.status(); st.Cluster != Normal {
		t.Errorf("aborted, and the cluster is %s", st.Cluster)
	}
}
