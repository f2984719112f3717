package upgrade

import (
	"fmt"
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

// hosts is a cluster of n hosts with one small guest each.
func hosts(n int) inventory.Inventory {
	inv := inventory.Inventory{Cluster: "c", Version: "1.0.0"}
	for i := range n {
		h := inventory.Host{Name: cluster.HostID(fmt.Sprintf("h%d", i)), MemoryMiB: 1 << 20, Install: fmt.Sprint("i", i)}
		inv.Hosts = append(inv.Hosts, h)
		inv.VMs = append(inv.VMs, inventory.VM{Name: fmt.Sprintf("v%d", i), Host: h.Name, MemoryMiB: 1024, Running: true})
	}
	return inv
}

// webBundle has one module on all hosts.
func webBundle() manifest.Manifest {
	m := smallBundle()
	m.Modules = m.Modules[1:]
	m.Modules[0].After = nil
	return m
}

// start makes a world that has run until the run pauses or nothing happens by
// itself.
func start(t *testing.T, m manifest.Manifest, inv inventory.Inventory, o Options, fails ...string) *world {
	t.Helper()
	p := mustBuild(t, m, inv, o)
	if p.Blocked() {
		t.Fatalf("blocked: %v", p.Findings)
	}
	w := newWorld(t, p, inv)
	w.outcome = func(s *Step, attempt int) job.StepState {
		if attempt == 1 && slices.Contains(fails, s.ID) {
			return job.Failed
		}
		return job.Done
	}
	w.oper = func(*world) {}
	w.run()
	return w
}

// wantPaused checks that the run waits for an operator, with that reason.
func wantPaused(t *testing.T, w *world, why string) {
	t.Helper()
	if w.job.State != job.Paused || !strings.Contains(reason.Text(w.job.Why...), why) {
		t.Fatalf("the run is %s: %q, want it paused with %q", w.job.State, reason.Text(w.job.Why...), why)
	}
}

func (w *world) begunHosts() (out []cluster.HostID) {
	for _, h := range w.plan.Hosts {
		if begun(w.recs[drainID(h.Name)]) {
			out = append(out, h.Name)
		}
	}
	return out
}

func (w *world) wantBegun(want ...cluster.HostID) {
	w.t.Helper()
	if got := w.begunHosts(); !slices.Equal(got, want) {
		w.t.Fatalf("begun: %v, want %v", got, want)
	}
}

// wantEnd resumes and checks how the run ends.
func (w *world) wantEnd(result, why string) {
	w.t.Helper()
	w.run()
	if w.job.State != job.Ended || w.job.Result != result || !strings.Contains(reason.Text(w.job.Why...), why) {
		w.t.Fatalf("the run is %s %s: %q, waits %v; want the end %s with %q", w.job.State, w.job.Result,
			reason.Text(w.job.Why...), w.waits, result, why)
	}
}

func TestFailurePausesTheRun(t *testing.T) {
	w := start(t, webBundle(), hosts(3), Options{Mode: manifest.Rolling}, "h1/install/web")
	wantPaused(t, w, "h1/install/web failed: it went wrong")
	w.wantBegun("h0", "h1")
	w.command(job.Resume)
	w.run()
	wantPaused(t, w, "h1/install/web failed") // nothing was done about it
	if st := w.status(); st.Cluster != Rollup || st.Hosts["h0"] != HostRollupDone || st.Hosts["h1"] != HostRollup || st.Hosts["h2"] != "" {
		t.Errorf("status %+v", st)
	}
	w.stepCommand("h1/install/web", job.Retry)
	w.command(job.Resume)
	w.wantEnd(resultDone, "")
	if w.grants["h1/install/web"] != 2 || w.status().Cluster != Prepared {
		t.Errorf("%d grants, cluster %s", w.grants["h1/install/web"], w.status().Cluster)
	}
}

func TestSkippedStepIsOver(t *testing.T) {
	w := start(t, webBundle(), hosts(3), Options{Mode: manifest.Rolling}, "h1/start/web")
	w.stepCommand("h1/start/web", job.Skip)
	w.command(job.Resume)
	w.wantEnd(resultDone, "")
}

func TestUnknownOutcomePausesTheRun(t *testing.T) {
	p := mustBuild(t, webBundle(), hosts(2), Options{Mode: manifest.Rolling})
	w := newWorld(t, p, hosts(2))
	w.outcome = func(s *Step, _ int) job.StepState {
		if s.ID == "h0/install/web" {
			return job.Unknown
		}
		return job.Done
	}
	w.oper = func(*world) {}
	w.run()
	wantPaused(t, w, "h0/install/web was begun and may have been done")
}

// With a budget the run goes on with other hosts, as long as so many may be out
// of service; it stops before the next stage.
func TestFailureBudget(t *testing.T) {
	o := Options{Mode: manifest.Rolling, FailureBudget: 1}
	w := start(t, webBundle(), hosts(4), o, "h1/install/web")
	wantPaused(t, w, "h1/install/web failed")
	w.wantBegun("h0", "h1") // the failed host is the one that may be out of service

	o.MaxUnavailable = Limit{Count: 2}
	w = start(t, webBundle(), hosts(6), o, "h1/install/web")
	wantPaused(t, w, "waits for h1/undrain") // all others are done, but for one whose guests go there
	if n := len(w.begunHosts()); n != 5 || begun(w.recs["cluster/post-check"]) {
		t.Errorf("%d hosts were begun, the check after: %v", n, begun(w.recs["cluster/post-check"]))
	}
	w = start(t, webBundle(), hosts(6), o, "h1/install/web", "h2/install/web")
	wantPaused(t, w, "h2/install/web failed")
	if n := len(w.begunHosts()); n > 4 {
		t.Errorf("%d hosts were begun after two failures", n)
	}
}

func TestNothingBeginsBeforeAllIsPrepared(t *testing.T) {
	w := start(t, webBundle(), hosts(3), Options{Mode: manifest.Rolling, FailureBudget: 2}, "h2/stage")
	wantPaused(t, w, "h2/stage failed")
	w.wantBegun()
	if w.status().Cluster != Normal {
		t.Errorf("cluster %s: nothing was changed", w.status().Cluster)
	}
}

func TestCanaryComesFirst(t *testing.T) {
	o := Options{Mode: manifest.Rolling, Canary: 1, MaxUnavailable: Limit{Count: 3}, FailureBudget: 2}
	w := start(t, webBundle(), hosts(6), o, "h0/check-after")
	wantPaused(t, w, "h0/check-after failed")
	w.wantBegun("h0")
	w.stepCommand("h0/check-after", job.Retry)
	w.command(job.Resume)
	w.wantEnd(resultDone, "")
}

func TestPauseAfterWave(t *testing.T) {
	w := start(t, webBundle(), hosts(5), Options{Mode: manifest.Rolling, PauseAfterWave: true, MaxUnavailable: Limit{Count: 2}})
	for i, want := range [][]cluster.HostID{{"h0", "h1"}, {"h0", "h1", "h2", "h3"}} {
		wantPaused(t, w, fmt.Sprintf("wave %d of 3 is done", i+1))
		w.wantBegun(want...)
		w.command(job.Resume)
		if i == 0 {
			w.run()
		}
	}
	w.wantEnd(resultDone, "")
}

func TestApproval(t *testing.T) {
	w := start(t, webBundle(), hosts(3), Options{Mode: manifest.Rolling, ApprovePerHost: true})
	if w.job.State != job.Active || len(w.waits) != 3 || w.waits[0] != "h0/drain: h0 is not approved" {
		t.Fatalf("%s, waits %v", w.job.State, w.waits)
	}
	for i, h := range []cluster.HostID{"h2", "h0", "h1"} {
		j, err := Approve(w.plan, w.job, h, "ann")
		if err != nil {
			t.Fatal(err)
		}
		w.job = j
		w.run()
		if n := len(w.begunHosts()); n > i+1 {
			t.Errorf("%d hosts begun after %d approvals", n, i+1)
		}
	}
	if w.job.State != job.Ended {
		t.Errorf("%s, waits %v", w.job.State, w.waits)
	}
	if _, err := Approve(w.plan, w.job, "h0", "ann"); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("approved after the end: %v", err)
	}
}

func TestWindowHoldsNewHosts(t *testing.T) {
	p := mustBuild(t, webBundle(), hosts(3), Options{Mode: manifest.Rolling, Window: Window{22 * 60, 23 * 60}})
	w := newWorld(t, p, hosts(3))
	w.takes = func(*Step) time.Duration { return 20 * time.Minute }
	w.run() // begins at noon; world checks each first grant against the window
	if w.job.Result != resultDone || w.now.Sub(time.Date(2026, 1, 2, 22, 0, 0, 0, time.UTC)) < 24*time.Hour {
		t.Errorf("%s at %s: three hosts of two hours do not fit into one night", w.job.State, w.now)
	}
}

// An offline run does not leave the service stopped because the window closes.
func TestWindowDoesNotHoldAServiceThatIsStopped(t *testing.T) {
	p := mustBuild(t, webBundle(), hosts(3), Options{Mode: manifest.Offline, Window: Window{22 * 60, 22*60 + 15}})
	w := newWorld(t, p, hosts(3))
	w.takes = func(*Step) time.Duration { return 10 * time.Minute }
	w.run()
	if w.job.Result != resultDone || w.now.Day() != 2 || w.now.Hour() != 23 { // begun at 22:00
		t.Errorf("%s %s at %s, waits %v", w.job.State, w.job.Result, w.now, w.waits)
	}
}

func TestDownHostCountsAndIsWaitedFor(t *testing.T) {
	p := mustBuild(t, webBundle(), hosts(4), Options{Mode: manifest.Rolling})
	w := newWorld(t, p, hosts(4))
	w.meanwhile = func(w *world) {
		if begun(w.recs["h0/drain"]) && w.hosts["h3"].Up {
			w.hosts["h3"] = job.HostState{}
		}
	}
	w.run()
	if w.job.State != job.Active || !slices.Contains(w.waits, "h1/drain: 1 hosts are unavailable, and 1 may be at once") {
		t.Fatalf("%s %s, waits %v", w.job.State, reason.Text(w.job.Why...), w.waits)
	}
	w.wantBegun("h0")
	if _, err := Drop(w.plan, w.job, "h1", 1500*time.Millisecond, "ann"); err == nil ||
		!strings.Contains(err.Error(), "counts as up for 2 s more") {
		t.Error("a host that is there was dropped")
	}
	if _, err := Drop(w.plan, w.job, "x", 0, "ann"); err == nil {
		t.Error("an unknown host was dropped")
	}
	j, err := Drop(w.plan, w.job, "h3", 0, "ann")
	if err != nil {
		t.Fatal(err)
	}
	w.job = j
	w.wantEnd(resultDone, "")
	if st := w.status(); st.Hosts["h3"] != "" || len(st.Mixed) > 0 {
		t.Errorf("h3 was not touched: %+v", st)
	}
}

// A host that dies in its turn is dropped, and the run goes on without it.
func TestDeadHostIsDropped(t *testing.T) {
	inv := hosts(4)
	m := webBundle()
	m.RequiresReboot = true
	p := mustBuild(t, m, inv, Options{Mode: manifest.Rolling})
	w := newWorld(t, p, inv)
	w.takes = func(s *Step) time.Duration {
		if s.ID == "h1/reboot" {
			return 1000 * time.Hour
		}
		return time.Minute
	}
	w.oper = func(*world) {}
	for range 200 {
		w.decide()
		if begun(w.recs["h1/reboot"]) {
			break
		}
		w.tick()
	}
	w.decide()
	if len(w.waits) == 0 || !strings.Contains(w.waits[0], "h1/reboot: waits for h1 to come back") {
		t.Fatalf("waits %v", w.waits)
	}
	w.now = w.now.Add(timeReboot + time.Minute)
	w.decide()
	wantPaused(t, w, "h1/reboot: h1 has been away for longer than the step may take")
	j, err := Drop(w.plan, w.job, "h1", 0, "ann")
	if err != nil {
		t.Fatal(err)
	}
	w.job, w.offPlan = j, true
	delete(w.ends, "h1/reboot")
	w.command(job.Resume)
	w.wantEnd(resultDone, "left as they were when they were dropped: h1")
	if st := w.status(); !slices.Equal(st.Mixed, []cluster.HostID{"h1"}) || st.Hosts["h1"] != HostRollup {
		t.Errorf("status %+v", st)
	}
}

// An abort cancels, restores storage, guests and HA in this order, and lists the
// hosts between two versions.
func TestAbortRestores(t *testing.T) {
	m, inv := smallBundle(), smallCluster()
	m.RequiresReboot = true
	for i := range inv.Hosts {
		inv.Hosts[i].Pools = []inventory.Pool{{Name: "p", Shared: true, Active: true, Paths: 2}}
	}
	inv.VMs[0].Fixed, inv.VMs[0].Policy = []string{"a device"}, inventory.PolicyStop
	w := start(t, m, inv, Options{Mode: manifest.Reboot, Order: []cluster.HostID{"h2", "h1"}}, "h1/reboot")
	wantPaused(t, w, "h1/reboot failed")
	before := len(w.order)
	w.command(job.Abort)
	w.wantEnd(resultAborted, "aborted by ann; between two versions: h1, h3, m2, m1; not restored: h1/undrain: the "+
		"host is between two versions")
	if got, want := strings.Join(w.order[before:], " "), "h1/storage-attach h1/vm-start m1/ha-on"; got != want {
		t.Errorf("restored: %s\nwant %s", got, want)
	}
	if st := w.status(); st.Cluster != Rollup || st.Hosts["h2"] != HostRollupDone {
		t.Errorf("status %+v", st)
	}
}

// A host that was only emptied takes guests again.
func TestAbortGivesGuestsBack(t *testing.T) {
	w := start(t, webBundle(), hosts(3), Options{Mode: manifest.Rolling, MoveBack: true}, "h0/stop/web")
	w.command(job.Abort)
	w.wantEnd(resultAborted, "not restored: h0/undrain: the host is between two versions")

	m := webBundle()
	w = start(t, m, hosts(3), Options{Mode: manifest.Rolling, MoveBack: true}, "h0/drain")
	w.offPlan = true
	w.command(job.Abort)
	w.wantEnd(resultAborted, "aborted by ann")
	if got := w.order[len(w.order)-1]; got != "h0/undrain" || len(w.status().Mixed) > 0 {
		t.Errorf("restored: %s, mixed %v", got, w.status().Mixed)
	}
}

func TestAbortAtOnceEndsAtOnce(t *testing.T) {
	p := mustBuild(t, smallBundle(), smallCluster(), Options{Mode: manifest.Offline})
	w := newWorld(t, p, smallCluster())
	w.command(job.Abort)
	w.run()
	if w.job.Result != resultAborted || len(w.order) > 0 || w.status().Cluster != Normal {
		t.Errorf("%s after %v, cluster %s", w.job.Result, w.order, w.status().Cluster)
	}
}

// HA is switched on by the other manager when the first can not; when none can,
// the run ends as failed and says so; while all are away, it waits.
func TestHAIsSwitchedOnInAnAbort(t *testing.T) {
	for name, c := range map[string]struct {
		fails       int // attempts of m1
		other       bool
		down        bool
		result, why string
		tries       map[string]int
	}{
		"at the third attempt": {2, true, false, resultAborted, "aborted", map[string]int{"m1/ha-on": 3}},
		"by the other manager": {99, true, false, resultAborted, "aborted", map[string]int{"m1/ha-on": maxTries, "m2/ha-on": 1}},
		"by nobody": {99, false, false, resultFailed, "not restored: m1/ha-on: it failed",
			map[string]int{"m1/ha-on": maxTries, "m2/ha-on": maxTries}},
		"all are away": {0, true, true, "", "", map[string]int{}},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, smallBundle(), smallCluster(), Options{Mode: manifest.Offline}, "h1/install/web")
			w.takes = func(*Step) time.Duration { return time.Millisecond }
			w.outcome = func(s *Step, attempt int) job.StepState {
				if s.ID == "m1/ha-on" && attempt <= c.fails || s.ID == "m2/ha-on" && !c.other {
					return job.Failed
				}
				return job.Done
			}
			if c.down {
				w.hosts["m1"], w.hosts["m2"] = job.HostState{}, job.HostState{}
			}
			began := w.now
			w.command(job.Abort)
			w.run()
			if least := time.Duration(min(c.fails, maxTries-1)) * triesAfter; w.now.Sub(began) < least && !c.down {
				t.Errorf("tried again and again within %s, want at least %s", w.now.Sub(began), least)
			}
			if w.job.Result != c.result || !strings.Contains(reason.Text(w.job.Why...), c.why) {
				t.Errorf("%s %s: %q, waits %v", w.job.State, w.job.Result, reason.Text(w.job.Why...), w.waits)
			}
			for _, id := range []string{"m1/ha-on", "m2/ha-on"} {
				if w.grants[id] != c.tries[id] {
					t.Errorf("%s was tried %d times, want %d", id, w.grants[id], c.tries[id])
				}
			}
			if c.down && (w.job.State != job.Aborting || !slices.Contains(w.waits, "m1/ha-on: waits for one of m1, m2 to come back")) {
				t.Errorf("%s, waits %v", w.job.State, w.waits)
			}
		})
	}
}

// Moving guests back is a favour: its failure fails nothing.
func TestMoveBackMayFail(t *testing.T) {
	w := start(t, webBundle(), hosts(3), Options{Mode: manifest.Rolling, MoveBack: true}, "h1/back")
	w.offPlan = true
	w.wantEnd(resultDone, "")
}

func TestStatusThatCanNotBeReadStopsTheRun(t *testing.T) {
	p := mustBuild(t, webBundle(), hosts(2), Options{Mode: manifest.Rolling})
	j := job.Job{ID: "j", Kind: job.Upgrade, State: job.Active, Data: []byte(`{"cluster":5}`)}
	d := p.Planner().Next(j, nil, nil, time.Time{})
	if d.Job == nil || d.Job.State != job.Paused || len(d.Grant) > 0 || string(d.Job.Data) != string(j.Data) {
		t.Errorf("decision %+v", d)
	}
	j.State = job.Aborting
	if d := p.Planner().Next(j, nil, nil, time.Time{}); d.Job != nil || len(d.Waits) != 1 {
		t.Errorf("decision %+v", d)
	}
}

func TestNothingIsGrantedWhilePausedOrEnded(t *testing.T) {
	p := mustBuild(t, webBundle(), hosts(2), Options{Mode: manifest.Rolling})
	w := newWorld(t, p, hosts(2))
	for _, s := range []job.State{job.Paused, job.Ended} {
		w.job.State = s
		if d := w.planner.Next(w.job, w.recs, w.hosts, w.now); len(d.Grant) > 0 {
			t.Errorf("%s: grants %v", s, d.Grant)
		}
	}
}
