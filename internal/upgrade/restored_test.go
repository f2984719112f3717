package upgrade

import (
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
)

// The services of the pair do not come back by themselves after a reboot, in no mode.
func TestOfflineStartsThePair(t *testing.T) {
	m, inv := smallBundle(), smallCluster()
	m.RequiresReboot = true
	p := mustBuild(t, m, inv, Options{Mode: manifest.Offline})
	steps := newWorld(t, p, inv).chainOf
	for _, h := range []string{"m1", "m2"} {
		c := steps[h+"/reboot"]
		if c == nil || steps[h+"/pair-start/upgrade"] != c || steps[h+"/pair-stop"] != c {
			t.Errorf("the pair is not started after the reboot of %s:\n%s", h, outline(p))
		}
	}
}

// A rollback of an offline run that has rebooted hosts stops their guests before it
// reboots them again.
func TestOfflineRollbackStopsGuests(t *testing.T) {
	m, inv := webBundle(), hosts(3)
	m.RequiresReboot = true
	w := start(t, m, inv, Options{Mode: manifest.Offline}, "h1/start/web")
	wantPaused(t, w, "h1/start/web failed")
	w.command(job.Abort)
	w.run()
	p, err := PlanRollback(m, *w.plan, w.recs, w.status(), inv, RollbackFacts{})
	if err != nil || p.Blocked() {
		t.Fatalf("%v %v", err, p.Findings)
	}
	sameText(t, outline(&p), `
prepare: h0/stage h0/check | h1/stage h1/check | h2/stage h2/check
stop guests: h0/vm-stop | h1/vm-stop
stop web: h0/stop/web | h1/stop/web | h2/stop/web
hosts: h0/rollback/web h0/reboot h0/verify h0/start/web h0/check-after | h1/rollback/web h1/reboot h1/verify h1/start/web h1/check-after | h2/start/web h2/check-after
start guests: h0/vm-start | h1/vm-start
check: cluster/post-check
tidy: h0/tidy | h1/tidy | h2/tidy
`)
}

// A host that an aborted run has left emptied takes guests again when it is rolled
// back, those of other hosts after that only. One that an operator has put into
// maintenance stays there.
func TestRollbackEndsWhatTheUpgradeHasEmptied(t *testing.T) {
	for mode, fails := range map[manifest.Mode]string{manifest.Rolling: "h1/install/web", manifest.Reboot: "h0/install/web"} {
		m, inv := webBundle(), hosts(4)
		m.RequiresReboot = mode == manifest.Reboot
		w := start(t, m, inv, Options{Mode: mode}, fails)
		wantPaused(t, w, fails+" failed")
		w.command(job.Abort)
		w.run()
		left := w.steps[fails].Host
		for i := range inv.Hosts {
			inv.Hosts[i].Maintenance = inv.Hosts[i].Name == left || inv.Hosts[i].Name == "h3"
		}
		p, err := PlanRollback(m, *w.plan, w.recs, w.status(), inv, RollbackFacts{})
		if err != nil {
			t.Fatal(err)
		}
		back := newWorld(t, &p, inv)
		if s := back.steps[readyID(left)]; s == nil || args[evacuate.UndrainArgs](t, s).Maintenance {
			t.Errorf("%s: %s takes no guests after the rollback:\n%s", mode, left, outline(&p))
		}
		for h, targets := range p.Targets() {
			for _, to := range targets {
				if to.Host == "h3" || to.Host == left && !strings.Contains(strings.Join(back.chainOf[drainID(h)].After, " "), string(readyID(left))) {
					t.Errorf("%s: guests of %s go to %s, which takes none", mode, h, to.Host)
				}
			}
		}
		if inv.Hosts[0].Maintenance != (left == "h0") {
			t.Errorf("%s: the inventory was changed", mode)
		}
	}
}

// An abort that comes before anything was changed leaves the cluster as it was, and
// another upgrade may begin. It is not said that a host that was only emptied is done.
func TestAbortBeforeAnyChange(t *testing.T) {
	w := start(t, webBundle(), hosts(3), Options{Mode: manifest.Rolling}, "h0/drain")
	w.offPlan = true
	w.command(job.Abort)
	w.wantEnd(resultAborted, "aborted by ann")
	if st := w.status(); st.Cluster != Normal || len(st.Hosts) > 0 || len(st.Mixed) > 0 {
		t.Errorf("status %+v", st)
	}
}

// A host whose reboot was not begun when the run was aborted is between two versions,
// although the last step of its chain, which restores, is done.
func TestAbortBeforeTheReboot(t *testing.T) {
	m := webBundle()
	m.RequiresReboot = true
	w := start(t, m, hosts(3), Options{Mode: manifest.Reboot}, "h1/drain")
	wantPaused(t, w, "h1/drain failed")
	w.offPlan = true
	w.command(job.Abort)
	w.wantEnd(resultAborted, "between two versions: h1, h2")
	if st := w.status(); !w.recs["h1/undrain"].State.Over() || st.Hosts["h1"] != HostRollup || st.Hosts["h0"] != HostRollupDone {
		t.Errorf("status %+v", st)
	}
}

// In an abort of an offline run guests are started when their storage is back, and
// not at all without it.
func TestAbortStartsGuestsAfterStorage(t *testing.T) {
	for attach, want := range map[job.StepState]string{
		job.Done:   "h0/storage-attach h0/vm-start",
		job.Failed: strings.TrimSpace(strings.Repeat("h0/storage-attach ", maxTries)),
	} {
		m, inv := webBundle(), hosts(1)
		m.RequiresReboot = true
		inv.Hosts[0].Pools = []inventory.Pool{{Name: "p", Shared: true, Active: true, Paths: 2}}
		w := start(t, m, inv, Options{Mode: manifest.Offline}, "h0/reboot")
		wantPaused(t, w, "h0/reboot failed")
		before := len(w.order)
		w.outcome = func(s *Step, _ int) job.StepState {
			if s.Kind == KindStorageAttach {
				return attach
			}
			return job.Done
		}
		w.command(job.Abort)
		w.wantEnd(resultAborted, "between two versions: h0")
		if got := strings.Join(w.order[before:], " "); got != want {
			t.Errorf("attach %s: restored: %s\nwant %s", attach, got, want)
		}
		if said := strings.Contains(reason.Text(w.job.Why...),
			"h0/vm-start: not tried, because it comes after h0/storage-attach"); said != (attach == job.Failed) {
			t.Errorf("attach %s: %s", attach, reason.Text(w.job.Why...))
		}
	}
}

// In an abort a host is waited for that was there not long ago: guests that were
// stopped must not stay off because an agent restarts.
func TestAbortWaitsForAgents(t *testing.T) {
	for _, comes := range []bool{true, false} {
		m, inv := webBundle(), hosts(2)
		m.RequiresReboot = true
		w := start(t, m, inv, Options{Mode: manifest.Offline}, "h0/install/web")
		wantPaused(t, w, "h0/install/web failed")
		w.hosts["h0"] = job.HostState{}
		w.command(job.Abort)
		began := w.now
		w.meanwhile = func(w *world) {
			if comes && w.now.After(began) {
				w.hosts["h0"] = job.HostState{Up: true}
			}
		}
		w.run()
		started := w.recs["h0/vm-start"].State == job.Done
		if w.job.State != job.Ended || started != comes || w.recs["h1/vm-start"].State != job.Done {
			t.Errorf("h0 comes back: %v, its guests are started: %v; %s %s", comes, started, w.job.State, reason.Text(w.job.Why...))
		}
		if waited := w.now.Sub(began); comes == (waited >= awayFor) || waited > 3*awayFor {
			t.Errorf("h0 comes back: %v, ended after %s", comes, waited.Round(time.Second))
		}
	}
	w := start(t, webBundle(), hosts(2), Options{Mode: manifest.Rolling}, "h0/drain")
	w.hosts["h0"] = job.HostState{}
	w.command(job.Abort)
	w.decide()
	if w.job.State != job.Aborting {
		t.Fatalf("it does not wait: %s", reason.Text(w.job.Why...))
	}
	j, err := Drop(w.plan, w.job, cluster.HostID("h0"), 0, "ann")
	if err != nil {
		t.Fatal(err)
	}
	w.job = j
	w.wantEnd(resultAborted, "h0/undrain: the host was dropped")
}

// A rollback that is aborted when all hosts are rolled back leaves nothing to do: the
// cluster is normal, or no other upgrade could ever begin.
func TestAbortAfterTheRollback(t *testing.T) {
	m, inv, w := aborted(t, manifest.Rolling)
	p, err := PlanRollback(m, *w.plan, w.recs, w.status(), inv, RollbackFacts{Receipts: receipts(w)})
	if err != nil || p.Blocked() {
		t.Fatalf("%v %v", err, p.Findings)
	}
	for fails, want := range map[string]ClusterState{"cluster/post-check": Normal, "h0/rollback/web": Rolldown} {
		back := newWorld(t, &p, inv)
		back.outcome = func(s *Step, _ int) job.StepState {
			if s.ID == fails {
				return job.Failed
			}
			return job.Done
		}
		back.oper = func(*world) {}
		back.run()
		wantPaused(t, back, fails+" failed")
		back.command(job.Abort)
		back.wantEnd(resultAborted, "aborted by ann")
		if st := back.status(); st.Cluster != want || st.Hosts["h1"] != HostRolldownDone {
			t.Errorf("%s failed: status %+v", fails, st)
		}
	}
}

// A step that was granted and taken back leaves no trace: the commit that has not
// begun can still become a rollback.
func TestAbortOfWhatWasTakenBack(t *testing.T) {
	m, inv, up := aborted(t, manifest.Rolling)
	commit, err := PlanCommit(m, *up.plan, Status{Cluster: Prepared}, inv, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for step, p := range map[string]*Plan{"cluster/commit": &commit,
		"h0/stop/web": mustBuild(t, webBundle(), hosts(1), Options{Mode: manifest.Rolling, KeepGuests: true})} {
		w := newWorld(t, p, inv)
		for w.recs[step].State == job.Pending {
			w.decide()
			if w.recs[step].State == job.Pending {
				w.tick()
			}
		}
		w.decide()
		if w.status().Cluster == p.Begin.Cluster {
			t.Fatalf("%s is granted, and the cluster is %s", step, w.status().Cluster)
		}
		w.recs[step] = job.Withdraw(w.recs[step])
		delete(w.ends, step)
		w.command(job.Abort)
		w.wantEnd(resultAborted, "aborted by ann")
		if st := w.status(); st.Cluster != p.Begin.Cluster || len(st.Hosts) > 0 {
			t.Errorf("%s was taken back: status %+v", step, st)
		}
	}
}
