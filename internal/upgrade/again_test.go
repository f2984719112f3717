package upgrade

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
)

// ended is what a run has left.
func (w *world) ended() Earlier { return Earlier{*w.plan, w.recs, w.status()} }

// then is what two runs have left.
func (e Earlier) then(next Earlier) Earlier {
	next.Plan, next.Records = Join(e.Plan, e.Records, next.Plan, next.Records)
	return next
}

// halfWay is what aborted has left: h0 and h1 are upgraded, h2 is empty and takes no
// guests, h3 was not touched.
func halfWay(t *testing.T, mode manifest.Mode) (manifest.Manifest, inventory.Inventory, Earlier) {
	t.Helper()
	m, inv, w := aborted(t, mode)
	if mode == manifest.Rolling {
		inv.Hosts[2].Maintenance, inv.VMs[2].Host = true, "h3"
	}
	return m, inv, w.ended()
}

func mustBuildAgain(t *testing.T, m manifest.Manifest, e Earlier, inv inventory.Inventory, o Options) *Plan {
	t.Helper()
	p, err := BuildAgain(m, e, inv, o)
	if err != nil || p.Blocked() {
		t.Fatalf("%v, blocked by %v", err, blocks(&p))
	}
	return &p
}

func (e Earlier) receipts() map[string]string {
	out := map[string]string{}
	for id, r := range e.Records {
		if r.State == job.Done {
			out[id] = ""
		}
	}
	return out
}

// TestSecondRunGoesOn: what is upgraded is looked at, what was left half-way is done
// again with the backup of before, the rest as usual; all of it goes back, and can be
// committed.
func TestSecondRunGoesOn(t *testing.T) {
	for mode, want := range map[manifest.Mode]string{
		manifest.Rolling: `
prepare: h0/stage h0/check-after | h1/stage h1/check-after | h2/stage h2/check | h3/stage h3/check
hosts: h2/drain h2/stop/web h2/install/web h2/start/web h2/check-after h2/undrain | h3/drain h3/stop/web h3/backup/web h3/install/web h3/start/web h3/check-after h3/undrain
check: cluster/post-check
`,
		// Node 0 is done; of the others, h3 was stopped only.
		manifest.Offline: `
prepare: h0/stage h0/check-after | h1/stage h1/check-after | h2/stage h2/check | h3/stage h3/check
stop web: h2/stop/web | h3/stop/web
hosts: h2/install/web h2/start/web h2/check-after | h3/backup/web h3/install/web h3/start/web h3/check-after
check: cluster/post-check
`,
	} {
		t.Run(string(mode), func(t *testing.T) {
			m, inv, e := halfWay(t, mode)
			p := mustBuildAgain(t, m, e, inv, Options{Mode: mode, Run: "j2", SHA256: "5ha"})
			sameText(t, outline(p), want)
			w := newWorld(t, p, inv)
			for h, run := range map[string]string{"h2": "j1", "h3": "j2"} {
				if got := args[ActionArgs](t, w.steps[h+"/install/web"]); got.Run != run || got.From != "1.0.0" || got.To != "2.0.0" {
					t.Errorf("install on %s: %+v", h, got)
				}
			}
			if got := args[BackupArgs](t, w.steps["h3/backup/web"]); got.Run != "j2" || got.Provider != "files" {
				t.Errorf("the backup of h3: %+v", got)
			}
			if s := w.steps["h2/undrain"]; s != nil && args[evacuate.UndrainArgs](t, s).Maintenance {
				t.Error("h2 took guests before the first run, and will take none after the second")
			}
			if !slices.Equal(p.Earlier, []string{"j1"}) || len(p.Hosts) != 4 || len(p.Left) > 0 || p.Begin.Cluster != Rollup {
				t.Errorf("earlier %v, hosts %v, left %v, begin %+v", p.Earlier, p.Hosts, p.Left, p.Begin)
			}
			w.run()
			if st := w.status(); w.job.Result != resultDone || st.Cluster != Prepared || len(st.Mixed) > 0 ||
				len(st.Hosts) != 4 || st.Hosts["h0"] != HostRollupDone || st.Hosts["h2"] != HostRollupDone {
				t.Fatalf("%s: %+v", w.job.Result, st)
			}
			wantBack(t, m, inv, e.then(w.ended()))
			wantCommit(t, m, inv, e.then(w.ended()))
		})
	}
}

// wantBack wants all hosts rolled back, each with the backup of before its change.
func wantBack(t *testing.T, m manifest.Manifest, inv inventory.Inventory, e Earlier) {
	t.Helper()
	p, err := PlanRollback(m, e.Plan, e.Records, e.Status, taking(inv), RollbackFacts{Receipts: e.receipts()})
	if err != nil || p.Blocked() || len(p.Hosts) != 4 {
		t.Fatalf("%v, blocked by %v, hosts %v", err, blocks(&p), p.Hosts)
	}
	w := newWorld(t, &p, taking(inv))
	for h, run := range map[string]string{"h0": "j1", "h1": "j1", "h2": "j1", "h3": "j2"} {
		restore, back := args[RestoreArgs](t, w.steps[h+"/restore/web"]), args[ActionArgs](t, w.steps[h+"/rollback/web"])
		if restore != (RestoreArgs{run, "web", "files"}) || back.Run != run || back.From != "1.0.0" || back.To != "2.0.0" {
			t.Errorf("%s: %+v, %+v", h, restore, back)
		}
		id := h + "/check"
		if run != "j2" {
			id += "/" + run
		}
		if got := args[CheckArgs](t, w.steps[id]); got.Run != run || got.When != BeforeRollback || !slices.Equal(got.Backups, []string{"web"}) {
			t.Errorf("%s: %+v", id, got)
		}
	}
	w.run()
	if st := w.status(); w.job.Result != resultDone || st.Cluster != Normal {
		t.Errorf("rolled back: %s %+v", w.job.Result, st)
	}
}

// taking is the inventory when all hosts take guests again.
func taking(inv inventory.Inventory) inventory.Inventory {
	inv.Hosts = slices.Clone(inv.Hosts)
	for i := range inv.Hosts {
		inv.Hosts[i].Maintenance = false
	}
	return inv
}

func wantCommit(t *testing.T, m manifest.Manifest, inv inventory.Inventory, e Earlier) {
	t.Helper()
	p, err := PlanCommit(m, e.Plan, e.Status, taking(inv), nil, nil)
	if err != nil || p.Blocked() || len(p.Left) > 0 {
		t.Fatalf("%v, blocked by %v, left %v", err, blocks(&p), p.Left)
	}
	w := newWorld(t, &p, inv)
	for id, want := range map[string]CleanupArgs{"h0/cleanup/j1": {"j1", ""}, "h0/cleanup": {"j2", "5ha"}, "h3/cleanup": {"j2", "5ha"}} {
		if got := args[CleanupArgs](t, w.steps[id]); got != want {
			t.Errorf("%s: %+v", id, got)
		}
	}
	w.run()
	if st := w.status(); w.job.Result != resultDone || st.Cluster != Normal || !st.Committed {
		t.Errorf("committed: %s %+v", w.job.Result, st)
	}
}

// TestThirdRunGoesOn: the second one was aborted before it had begun, or in the turn of
// the last host.
func TestThirdRunGoesOn(t *testing.T) {
	for name, fails := range map[string]string{"nothing was begun": "h1/check-after", "the last host is half-way": "h3/install/web"} {
		m, inv, e := halfWay(t, manifest.Rolling)
		w := newWorld(t, mustBuildAgain(t, m, e, inv, Options{Mode: manifest.Rolling, Run: "j2", SHA256: "5ha"}), inv)
		w.outcome = func(s *Step, _ int) job.StepState {
			if s.ID == fails {
				return job.Failed
			}
			return job.Done
		}
		w.oper = func(w *world) { w.command(job.Abort) }
		w.run()
		st := w.status()
		if w.job.Result != resultAborted || st.Cluster != Rollup || st.Hosts["h0"] != HostRollupDone || st.Hosts["h1"] != HostRollupDone {
			t.Fatalf("%s: %s %+v", name, w.job.Result, st)
		}
		half, run := cluster.HostID("h2"), "j1"
		if fails == "h3/install/web" {
			half, run = "h3", "j2"
			inv = taking(inv)
		}
		if !slices.Equal(st.Mixed, []cluster.HostID{half}) {
			t.Errorf("%s: mixed %v", name, st.Mixed)
		}
		third := mustBuildAgain(t, m, e.then(w.ended()), inv, Options{Mode: manifest.Rolling, Run: "j3", SHA256: "5ha"})
		w3 := newWorld(t, third, inv)
		if got := args[ActionArgs](t, w3.steps[string(half)+"/install/web"]); got.Run != run || w3.steps[string(half)+"/backup/web"] != nil {
			t.Errorf("%s: %+v, backed up again: %v", name, got, w3.steps[string(half)+"/backup/web"] != nil)
		}
		if !slices.Equal(third.Earlier, []string{"j1", "j2"}) {
			t.Errorf("earlier %v", third.Earlier)
		}
		w3.run()
		if st := w3.status(); w3.job.Result != resultDone || st.Cluster != Prepared || len(st.Mixed) > 0 {
			t.Errorf("%s: %s %+v", name, w3.job.Result, st)
		}
		wantRun(t, m, inv, e.then(w.ended()).then(w3.ended()), half, run)
	}
}

// wantRun wants a host rolled back with the backup of a run.
func wantRun(t *testing.T, m manifest.Manifest, inv inventory.Inventory, e Earlier, h cluster.HostID, run string) {
	t.Helper()
	p, err := PlanRollback(m, e.Plan, e.Records, e.Status, taking(inv), RollbackFacts{Receipts: e.receipts()})
	if err != nil || p.Blocked() {
		t.Fatalf("%v, blocked by %v", err, blocks(&p))
	}
	w := newWorld(t, &p, inv)
	if got := args[RestoreArgs](t, w.steps[string(h)+"/restore/web"]); got.Run != run {
		t.Errorf("%s goes back with %+v, want %s", h, got, run)
	}
}

// TestJoin: a host that was emptied again is empty, whatever the first run has done
// there, and what it was before is known to the run that has changed it first.
func TestJoin(t *testing.T) {
	m, inv := webBundle(), hosts(2)
	m.RequiresReboot = true
	run := func(kernel string, changed bool) Earlier {
		for i := range inv.Hosts {
			inv.Hosts[i].Kernel = kernel
		}
		done := map[string]job.Record{}
		if changed {
			for _, id := range []string{"h0/drain", "h0/reboot", "h0/undrain"} {
				done[id] = job.Record{Step: id, State: job.Done, Attempt: 1}
			}
		}
		return Earlier{Plan: *mustBuild(t, m, inv, Options{Mode: manifest.Rolling}), Records: done}
	}
	first, second := run("5.1", true), run("6.1", false)
	second.Records["h0/drain"] = job.Record{Step: "h0/drain", State: job.Running, Attempt: 1}
	both := first.then(second)
	if r := both.Records["h0/undrain"]; r.State != job.Pending || both.Records["h0/reboot"].State != job.Done ||
		both.Records["h0/drain"].State != job.Running {
		t.Errorf("records %+v", both.Records)
	}
	for _, h := range both.Plan.Hosts {
		if want := map[cluster.HostID]string{"h0": "5.1", "h1": "6.1"}[h.Name]; h.Kernel != want {
			t.Errorf("%s ran the kernel %s before, want %s", h.Name, h.Kernel, want)
		}
	}
	ids := map[string]bool{}
	for _, s := range both.Plan.Steps() {
		if ids[s.ID] {
			t.Errorf("%s is there twice", s.ID)
		}
		ids[s.ID] = true
	}
}

func TestSecondRunOfChangedHosts(t *testing.T) {
	m, inv, e := halfWay(t, manifest.Rolling)
	o := Options{Mode: manifest.Rolling, Run: "j2", SHA256: "5ha"}

	other := o
	other.Mode = manifest.Offline
	p, err := BuildAgain(m, e, inv, other)
	if want := []string{"mode : choose --mode rolling, or roll back first"}; err != nil || !slices.Equal(blocks(&p), want) {
		t.Errorf("another mode: %v, %v", err, blocks(&p))
	}
	wrong := e
	wrong.Plan.To = "3.0.0"
	if _, err := BuildAgain(m, wrong, inv, o); err == nil {
		t.Error("an upgrade goes on with another one")
	}

	// Hosts that were installed anew since are as if never touched.
	anew := inv
	anew.Hosts = slices.Clone(inv.Hosts)
	anew.Hosts[1].Install, anew.Hosts[2].Install, anew.Hosts[2].Maintenance = "new1", "new2", false
	w := newWorld(t, mustBuildAgain(t, m, e, anew, o), anew)
	for _, h := range []string{"h1", "h2"} {
		if s := w.steps[h+"/backup/web"]; s == nil || args[ActionArgs](t, w.steps[h+"/install/web"]).Run != "j2" {
			t.Errorf("%s was installed anew, and its old backup counts", h)
		}
	}
	if st := w.plan.Begin; st.Hosts["h0"] != HostRollupDone || len(st.Hosts) != 1 {
		t.Errorf("it begins with %+v", st)
	}
	w.run()
	wantRun(t, m, anew, e.then(w.ended()), "h2", "j2")

	// One that is left out stays between two versions, also after the commit.
	o.Drop = []cluster.HostID{"h2"}
	w = newWorld(t, mustBuildAgain(t, m, e, inv, o), inv)
	w.run()
	if st := w.status(); st.Cluster != Prepared || !slices.Equal(st.Mixed, []cluster.HostID{"h2"}) || st.Hosts["h2"] != HostRollup {
		t.Errorf("%s: %+v", reason.Text(w.job.Why...), st)
	}
	both := e.then(w.ended())
	if p, err = PlanCommit(m, both.Plan, both.Status, inv, nil, nil); err != nil || p.Blocked() || strings.Contains(outline(&p), "h2/") {
		t.Errorf("%v, blocked by %v\n%s", err, blocks(&p), outline(&p))
	}
	wantRun(t, m, inv, both, "h2", "j1")
}

// TestSecondRunDoesOnceWhatIsDoneOnce: an installation that is done once in the cluster
// and is done, is not done again, whoever did it; one that was begun is for the host
// that has begun it.
func TestSecondRunDoesOnceWhatIsDoneOnce(t *testing.T) {
	for _, fails := range []string{"h1/install/web", "h0/install/db"} {
		m, inv := webBundle(), hosts(3)
		db := manifest.Module{Name: "db", CanRollback: true, Actions: manifest.Actions{Backup: act(), Install: act(), Rollback: act()}}
		db.Actions.Backup.Once, db.Actions.Install.Once, db.Actions.Rollback.Once = true, true, true
		m.Modules = append([]manifest.Module{db}, m.Modules...)
		w := start(t, m, inv, Options{Mode: manifest.Rolling, KeepGuests: true, Run: "j1"}, fails)
		wantPaused(t, w, fails+" failed")
		w.command(job.Abort)
		w.run()
		// The host that has begun it comes last now.
		p := mustBuildAgain(t, m, w.ended(), inv, Options{Mode: manifest.Rolling, KeepGuests: true, Run: "j2", Last: "h0"})
		var again []string
		for _, s := range p.Steps() {
			if strings.HasSuffix(s.ID, "/install/db") || strings.HasSuffix(s.ID, "/backup/db") {
				again = append(again, s.ID)
			}
		}
		want := []string{"h0/install/db"}
		if fails == "h1/install/web" {
			want = nil
		}
		if !slices.Equal(again, want) {
			t.Errorf("after %s failed: %v, want %v", fails, again, want)
		}
		second := newWorld(t, p, inv)
		second.run()
		both := w.ended().then(second.ended())
		back, err := PlanRollback(m, both.Plan, both.Records, both.Status, inv, RollbackFacts{})
		if err != nil || back.Blocked() {
			t.Fatalf("%v, blocked by %v", err, blocks(&back))
		}
		if text := outline(&back); strings.Count(text, "/rollback/db") != 1 ||
			args[ActionArgs](t, newWorld(t, &back, inv).steps["h0/rollback/db"]).Run != "j1" {
			t.Errorf("the way back:\n%s", text)
		}
	}
}

// TestRandomSecondRuns: however a run is aborted, another one ends it, and whatever
// that leaves can go back. Guests and hosts are where the first run has left them.
func TestRandomSecondRuns(t *testing.T) {
	ran := 0
	for seed := range uint64(randomRuns) {
		m, inv, p, r, ok := randomCase(t, seed)
		if !ok {
			continue
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			for i := range m.Modules {
				m.Modules[i].Actions.Rollback, m.Modules[i].CanRollback = act(), true
			}
			w := newWorld(t, &p, inv)
			w.outcome = func(s *Step, _ int) job.StepState {
				if r.IntN(15) == 0 && s.Kind != KindBackup {
					return job.Failed
				}
				return job.Done
			}
			w.oper = func(w *world) { w.command(job.Abort) }
			approveAll(t, w)
			w.run()
			if w.job.Result != resultAborted || w.status().Cluster != Rollup {
				return
			}
			e := w.ended()
			now := w.left(inv)
			o := e.Plan.Options
			o.Run, o.Window, o.Confirmed = "j2", Window{}, append(o.Confirmed, "centos65-live-migration", ruleUndone)
			next, err := BuildAgain(m, e, now, o)
			if err != nil {
				t.Fatal(err)
			}
			if next.Blocked() {
				for _, f := range next.Findings {
					if f.Level == Block && f.Rule != "memory" && f.Rule != "policy" && f.Rule != "single-host" {
						t.Errorf("blocked by %+v", f)
					}
				}
				return
			}
			w2 := newWorld(t, &next, now)
			w2.offPlan, w2.oper = true, patient
			approveAll(t, w2)
			w2.run()
			st := w2.status()
			if w2.job.Result != resultDone || st.Cluster != Prepared || len(st.Mixed) > 0 {
				t.Fatalf("the second run is %s %s %q, waits %v, %+v", w2.job.State, w2.job.Result, reason.Text(w2.job.Why...), w2.waits, st)
			}
			checkKept(t, e, w2)
			both := e.then(w2.ended())
			back, err := PlanRollback(m, both.Plan, both.Records, st, w2.left(now), RollbackFacts{})
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range both.Plan.Hosts {
				if (st.Hosts[h.Name] != "") != slices.ContainsFunc(back.Hosts,
					func(x PlannedHost) bool { return x.Name == h.Name }) && !back.Blocked() {
					t.Errorf("%s is %q, and the way back has %v", h.Name, st.Hosts[h.Name], back.Hosts)
				}
			}
			ran++
		})
	}
	if ran < randomRuns/10 {
		t.Errorf("only %d second runs", ran)
	}
}

// left is the inventory when a run has ended: guests where they are, hosts that were
// emptied without guests.
func (w *world) left(inv inventory.Inventory) inventory.Inventory {
	inv.Hosts, inv.VMs = slices.Clone(inv.Hosts), slices.Clone(inv.VMs)
	for i := range inv.VMs {
		if v := &inv.VMs[i]; v.Running {
			if at, runs := w.at[guestID(v.UUID, v.Name)]; runs {
				v.Host = at
			} else {
				v.Running = false
			}
		}
	}
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		h.Maintenance = h.Maintenance || w.emptied(h.Name)
	}
	return inv
}

// checkKept: no backup is made where an installation was begun before.
func checkKept(t *testing.T, e Earlier, w *world) {
	t.Helper()
	for id := range w.steps {
		host, module, ok := strings.Cut(id, "/backup/")
		if ok && begun(e.Records[stepID(cluster.HostID(host), string(manifest.Install), module)]) {
			t.Errorf("%s is made over the one of the first run", id)
		}
	}
}
