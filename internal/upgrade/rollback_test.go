package upgrade

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
	"holdfast/testbed/need"
)

// aborted is a rolling run of four hosts that was aborted on the third, with
// backups by a provider.
func aborted(t *testing.T, mode manifest.Mode) (manifest.Manifest, inventory.Inventory, *world) {
	t.Helper()
	m, inv := webBundle(), hosts(4)
	inv.Backups = webFiles()
	w := start(t, m, inv, Options{Mode: mode, Backup: map[string]string{"web": "web-files"}, Run: "j1", SHA256: "5ha"}, "h2/install/web")
	wantPaused(t, w, "h2/install/web failed")
	w.command(job.Abort)
	w.run()
	if w.job.State != job.Ended || !slices.Equal(w.status().Mixed, []cluster.HostID{"h2"}) && mode == manifest.Rolling {
		t.Fatalf("%s: %+v", w.job.State, w.status())
	}
	return m, inv, w
}

// receipts are those of all backups, whole.
func receipts(w *world) map[string]string {
	out := map[string]string{}
	for id, r := range w.recs {
		if w.steps[id].Kind == KindBackup && r.State == job.Done {
			out[id] = ""
		}
	}
	return out
}

func TestRollback(t *testing.T) {
	for mode, want := range map[manifest.Mode]string{
		manifest.Rolling: `
prepare: h2/stage h2/check | h1/stage h1/check | h0/stage h0/check
hosts: h2/drain h2/stop/web h2/restore/web h2/rollback/web h2/start/web h2/check-after h2/undrain | h1/drain h1/stop/web h1/restore/web h1/rollback/web h1/start/web h1/check-after h1/undrain | h0/drain h0/stop/web h0/restore/web h0/rollback/web h0/start/web h0/check-after h0/undrain
check: cluster/post-check
tidy: h0/tidy | h1/tidy | h2/tidy | h3/tidy
`,
		// All hosts were stopped; the last one was not changed, and is started again.
		manifest.Offline: `
prepare: h0/stage h0/check | h1/stage h1/check | h2/stage h2/check | h3/stage h3/check
stop web: h0/stop/web | h1/stop/web | h2/stop/web | h3/stop/web
hosts: h0/restore/web h0/rollback/web h0/start/web h0/check-after | h1/restore/web h1/rollback/web h1/start/web h1/check-after | h2/restore/web h2/rollback/web h2/start/web h2/check-after | h3/start/web h3/check-after
check: cluster/post-check
tidy: h0/tidy | h1/tidy | h2/tidy | h3/tidy
`,
	} {
		m, inv, w := aborted(t, mode)
		p, err := PlanRollback(m, *w.plan, w.recs, w.status(), inv, RollbackFacts{Receipts: receipts(w)})
		if err != nil || p.Blocked() {
			t.Fatalf("%v %v", err, p.Findings)
		}
		sameText(t, outline(&p), want)
		back := newWorld(t, &p, inv)
		if got := args[CheckArgs](t, back.steps["h1/check"]); got.When != BeforeRollback || got.Run != "j1" ||
			got.SHA256 != "5ha" || got.Mode != mode || !slices.Equal(got.Backups, []string{"web"}) {
			t.Errorf("the check before: %+v", got)
		}
		if got := args[StageArgs](t, back.steps["h1/stage"]); got != (StageArgs{"app", "2.0.0", "5ha"}) {
			t.Errorf("the stage: %+v", got)
		}
		if got := args[RestoreArgs](t, back.steps["h1/restore/web"]); got != (RestoreArgs{"j1", "web", "files"}) {
			t.Errorf("the restore: %+v", got)
		}
		if got := args[ActionArgs](t, back.steps["h1/rollback/web"]); !reflect.DeepEqual(got,
			ActionArgs{Run: "j1", SHA256: "5ha", Module: "web", Phase: manifest.Rollback, Mode: got.Mode, From: "1.0.0", To: "2.0.0"}) {
			t.Errorf("the action: %+v", got)
		}
		back.run()
		st := back.status()
		if back.job.Result != resultDone || st.Cluster != Normal || st.Hosts["h0"] != HostRolldownDone {
			t.Errorf("%s %s: %+v", mode, back.job.Result, st)
		}
		if len(p.Left) != 1 && mode == manifest.Rolling || mode == manifest.Offline && len(p.Left) > 0 {
			t.Errorf("left: %v", p.Left)
		}
	}
}

// Part of the hosts leaves the cluster on its way down.
func TestRollbackOfSomeHosts(t *testing.T) {
	m, inv, w := aborted(t, manifest.Rolling)
	p, err := PlanRollback(m, *w.plan, w.recs, w.status(), inv, RollbackFacts{Receipts: receipts(w), Only: []cluster.HostID{"h2"}})
	if err != nil || p.Blocked() {
		t.Fatalf("%v %v", err, p.Findings)
	}
	back := newWorld(t, &p, inv)
	back.run()
	if st := back.status(); st.Cluster != Rolldown || st.Hosts["h2"] != HostRolldownDone || st.Hosts["h0"] != HostRollupDone {
		t.Errorf("status %+v", st)
	}
}

// A reboot is undone by a reboot into the kernel of before, and only where there
// was one.
func TestRollbackOfReboots(t *testing.T) {
	m, inv := webBundle(), smallCluster()
	inv.Pair = nil
	m.RequiresReboot, m.Kernel = true, "6.1"
	w := start(t, m, inv, Options{Mode: manifest.Reboot}, "h2/drain")
	wantPaused(t, w, "h2/drain failed")
	w.command(job.Abort)
	w.run()
	p, err := PlanRollback(m, *w.plan, w.recs, w.status(), inv, RollbackFacts{})
	if err != nil || p.Blocked() {
		t.Fatalf("%v %v", err, p.Findings)
	}
	text := outline(&p)
	if !strings.Contains(text, "h1/drain h1/stop/web h1/rollback/web h1/reboot h1/verify") ||
		strings.Contains(text, "h2/reboot") || strings.Contains(text, "h2/drain") {
		t.Errorf("plan\n%s", text)
	}
	back := newWorld(t, &p, inv)
	if got := args[VerifyArgs](t, back.steps["h1/verify"]); got.Kernel != "5.1" {
		t.Errorf("verify %+v", got)
	}
	if !slices.ContainsFunc(p.Steps(), func(s job.Step) bool { return s.Kind == KindHAOff }) {
		t.Error("HA stays on while hosts are rolled back")
	}
}

func TestRollbackIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(m *manifest.Manifest, w *world, st *Status, inv *inventory.Inventory, f *RollbackFacts)
		want   string
	}{
		"after the commit": {func(_ *manifest.Manifest, _ *world, st *Status, _ *inventory.Inventory, _ *RollbackFacts) {
			st.Committed = true
		}, "committed : The upgrade was committed"},
		"while it is committed": {func(_ *manifest.Manifest, _ *world, st *Status, _ *inventory.Inventory, _ *RollbackFacts) {
			st.Cluster = Committing
		}, "committed : The upgrade was committed"},
		"reinstalled": {func(_ *manifest.Manifest, _ *world, _ *Status, inv *inventory.Inventory, _ *RollbackFacts) {
			inv.Hosts[1].Install = "new"
		}, "reinstalled h1: The host was reinstalled since"},
		"down": {func(_ *manifest.Manifest, _ *world, _ *Status, inv *inventory.Inventory, _ *RollbackFacts) {
			inv.Hosts[1].Down = true
		}, "host-down h1: The host is down."},
		"gone": {func(_ *manifest.Manifest, _ *world, _ *Status, inv *inventory.Inventory, _ *RollbackFacts) {
			inv.Hosts[1].Name, inv.VMs[1].Host = "x", "x"
		}, "host-gone h1: The host is not in the inventory"},
		"never upgraded": {func(_ *manifest.Manifest, _ *world, _ *Status, _ *inventory.Inventory, f *RollbackFacts) {
			f.Only = []cluster.HostID{"h3"}
		}, "never-upgraded h3: The host was never upgraded"},
		"no part of it": {func(_ *manifest.Manifest, _ *world, _ *Status, _ *inventory.Inventory, f *RollbackFacts) {
			f.Only = []cluster.HostID{"h1", "x"}
		}, "never-upgraded x: The host was not part"},
		"nothing was touched": {func(_ *manifest.Manifest, w *world, _ *Status, _ *inventory.Inventory, _ *RollbackFacts) {
			clear(w.recs)
		}, "never-upgraded : No host was changed"},
		"no backup": {func(_ *manifest.Manifest, w *world, _ *Status, _ *inventory.Inventory, _ *RollbackFacts) {
			w.recs["h1/backup/web"] = job.Record{State: job.Skipped}
		}, "backup h1: The backup of module web can not be used: the backup was not made."},
		"no receipt": {func(_ *manifest.Manifest, _ *world, _ *Status, _ *inventory.Inventory, f *RollbackFacts) {
			delete(f.Receipts, "h1/backup/web")
		}, "backup h1: The backup of module web can not be used: its receipt is missing."},
		"bad receipt": {func(_ *manifest.Manifest, _ *world, _ *Status, _ *inventory.Inventory, f *RollbackFacts) {
			f.Receipts["h1/backup/web"] = "a file differs"
		}, "backup h1: The backup of module web can not be used: a file differs."},
		"no way back": {func(m *manifest.Manifest, w *world, _ *Status, _ *inventory.Inventory, _ *RollbackFacts) {
			m.Modules[0].Actions.Rollback, m.Modules[0].CanRollback = nil, false
			w.recs["h1/backup/web"] = job.Record{State: job.Skipped}
		}, "no-rollback h1: Module web can not be rolled back."},
	} {
		t.Run(name, func(t *testing.T) {
			m, inv, w := aborted(t, manifest.Rolling)
			st, f := w.status(), RollbackFacts{Receipts: receipts(w)}
			m.Modules = slices.Clone(m.Modules)
			c.change(&m, w, &st, &inv, &f)
			p, err := PlanRollback(m, *w.plan, w.recs, st, inv, f)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, x := range p.Findings {
				if x.Level == Block {
					got = append(got, fmt.Sprintf("%s %s: %s", x.Rule, x.Host, x.Text))
				}
			}
			if !slices.ContainsFunc(got, func(g string) bool { return strings.HasPrefix(g, c.want) }) {
				t.Errorf("blocked by\n%s\nwant %s", strings.Join(got, "\n"), c.want)
			}
		})
	}
	m, inv, w := aborted(t, manifest.Rolling)
	m.Name = "other"
	if _, err := PlanRollback(m, *w.plan, w.recs, w.status(), inv, RollbackFacts{}); err == nil {
		t.Error("the plan of another bundle is rolled back")
	}
}

func TestCommit(t *testing.T) {
	m, inv := smallBundle(), smallCluster()
	inv.Backups = webFiles()
	w := start(t, m, inv, Options{Mode: manifest.Rolling, Backup: map[string]string{"web": "web-files"}, Run: "j1", SHA256: "5ha"})
	if w.status().Cluster != Prepared {
		t.Fatalf("cluster %s", w.status().Cluster)
	}
	st := w.status()
	for turn := range 2 { // it may be repeated
		p, err := PlanCommit(m, *w.plan, st, inv, nil, nil)
		if err != nil || p.Blocked() {
			t.Fatalf("turn %d: %v %v", turn, err, p.Findings)
		}
		sameText(t, outline(&p), `
commit: cluster/commit
modules: m2/commit/db | m1/commit/db
cleanup: h1/cleanup | h2/cleanup | h3/cleanup | m2/cleanup | m1/cleanup
`)
		c := newWorld(t, &p, inv)
		if got := args[CleanupArgs](t, c.steps["h1/cleanup"]); got != (CleanupArgs{"j1", "5ha"}) {
			t.Errorf("cleanup %+v", got)
		}
		c.decide()
		if c.status().Cluster != Prepared && turn == 0 {
			t.Errorf("cluster %s before anything was begun", c.status().Cluster)
		}
		c.decide()
		if c.status().Cluster != Committing {
			t.Errorf("cluster %s while it is committed", c.status().Cluster)
		}
		half := c.status()
		if back, err := PlanRollback(m, *w.plan, w.recs, half, inv, RollbackFacts{}); err != nil || !back.Blocked() {
			t.Errorf("a commit that has begun can be rolled back: %v", err)
		}
		c.run()
		if st = c.status(); st.Cluster != Normal || !st.Committed || c.job.Result != resultDone {
			t.Errorf("turn %d: %+v", turn, st)
		}
	}
	if back, err := PlanRollback(m, *w.plan, w.recs, st, inv, RollbackFacts{}); err != nil || !back.Blocked() {
		t.Errorf("a commit can be rolled back: %v", err)
	}
}

func TestCommitIsRefused(t *testing.T) {
	m, inv, w := aborted(t, manifest.Rolling)
	p, err := PlanCommit(m, *w.plan, w.status(), inv, nil, nil)
	if err != nil || !p.Blocked() || p.Findings[0].Rule != "not-prepared" {
		t.Errorf("%v %v", err, p.Findings)
	}
	st := w.status()
	st.Cluster, st.Dropped = Prepared, map[cluster.HostID]string{"h2": "ann"}
	inv.Hosts[0].Down = true
	if p, err = PlanCommit(m, *w.plan, st, inv, nil, nil); err != nil || len(p.Findings) != 3 ||
		p.Findings[0].Rule != "host-down" || p.Findings[1].Rule != "left" || p.Findings[2].Rule != "left" {
		t.Errorf("%v %v", err, p.Findings)
	}
	back, err := PlanRollback(m, *w.plan, w.recs, w.status(), inv, RollbackFacts{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := PlanCommit(m, back, st, inv, nil, nil); err == nil {
		t.Error("a rollback is committed")
	}
}

// However a run ends, its hosts can be rolled back, and all that were touched are.
func TestRandomRunsAreRolledBack(t *testing.T) {
	need.Seconds(t)
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
				if r.IntN(30) == 0 && s.Kind != KindBackup {
					return job.Failed
				}
				return job.Done
			}
			w.oper = func(w *world) {
				w.offPlan = true
				w.command(pick(r, job.Abort, job.Resume))
				for _, id := range w.stuck() {
					if w.job.State == job.Active {
						w.stepCommand(id, job.Retry)
					}
				}
			}
			approveAll(t, w)
			w.run()
			if w.job.State != job.Ended || w.job.Result == resultFailed {
				return // HA could not be switched on, or a window never opens
			}
			back, err := PlanRollback(m, p, w.recs, w.status(), inv, RollbackFacts{})
			if err != nil {
				t.Fatal(err)
			}
			touched := slices.Collect(maps.Keys(w.status().Hosts))
			if back.Blocked() {
				for _, f := range back.Findings {
					if f.Level == Block && (f.Rule != "never-upgraded" || len(back.Hosts) > 0) && f.Rule != "memory" &&
						f.Rule != "policy" && f.Rule != "single-host" {
						t.Errorf("blocked by %+v", f)
					}
				}
				return
			}
			b := newWorld(t, &back, inv)
			b.oper, b.offPlan = patient, true
			approveAll(t, b)
			b.run()
			if b.job.Result != resultDone {
				t.Fatalf("the rollback is %s %s %q, waits %v", b.job.State, b.job.Result, reason.Text(b.job.Why...), b.waits)
			}
			for _, h := range touched {
				if s := b.status().Hosts[h]; s != HostRolldownDone && slices.ContainsFunc(back.Hosts, func(x PlannedHost) bool { return x.Name == h }) {
					t.Errorf("%s is %q", h, s)
				}
			}
			ran++
		})
	}
	if ran < randomRuns/8 {
		t.Errorf("only %d rollbacks", ran)
	}
}
