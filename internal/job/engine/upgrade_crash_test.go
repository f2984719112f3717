package engine

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
	"holdfast/internal/upgrade"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// all is that a test tries each point, and not a sample.
const all = true

// upMode is a way to upgrade, of which every so-manieth point is tried.
type upMode struct {
	upgrade.Options
	every int
}

// points are those that are tried of so many, other ones in each run. There are some of the beginning, and some of the end.
func (m upMode) points(passes int) (out []int) {
	every := max(1, min(m.every, passes/2))
	for at := 1 + rand.IntN(every); at <= passes; at += every {
		out = append(out, at)
	}
	return out
}

// upModes are the ways to upgrade. Of their points all are tried, or a sample.
func upModes(all bool) []upMode {
	mode := func(o upgrade.Options) upMode {
		every := 1
		switch {
		case !all && (try.Race || testing.Short()):
			every = 96 // the race detector makes all slow
		case !all:
			every = 24
		}
		o.Last, o.Run, o.SHA256, o.Backup = "h1", "u1", strings.Repeat("ab", 32), map[string]string{"base": "trees"}
		return upMode{o, every}
	}
	return []upMode{
		mode(upgrade.Options{Mode: manifest.Rolling, Canary: 1, MoveBack: true}),
		mode(upgrade.Options{Mode: manifest.Offline}),
		mode(upgrade.Options{Mode: manifest.Reboot, Canary: 1}),
	}
}

func planUpgrade(t *testing.T, p *plant, o upgrade.Options) *upgrade.Plan {
	t.Helper()
	plan, err := upgrade.Build(*p.manifest, p.inventory(), o)
	if err != nil {
		t.Fatal(err)
	}
	return &plan
}

// upgradeThrough upgrades and commits, with a crash anywhere in it.
func upgradeThrough(t *testing.T, dir string, o upgrade.Options, c *course) {
	w := newUpWorld(t, newPlant(), dir)
	c.attach(w)
	w.start()
	defer w.stop()
	plan := planUpgrade(t, w.plant, o)
	w.begin("u1", plan)
	j, unknown := w.watch("u1")
	stops := planned(t, plan)
	complain(t, w, "the upgrade", finished(w, j, unknown, upgrade.Prepared, upgrade.HostRollupDone),
		w.plant.look(plantNew, nil), w.plant.stops(stops))
	if t.Failed() {
		return
	}
	w.commit("c1", plan, w.status(j), nil)
	complain(t, w, "the commit", w.plant.stops(stops))
}

// commit commits an upgrade, or what an earlier commit has left of it.
func (w *upWorld) commit(id string, p *upgrade.Plan, st upgrade.Status, over map[string]bool) Journal {
	plan, err := upgrade.PlanCommit(*w.plant.manifest, *p, st, w.plant.inventory(), over, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.begin(id, &plan)
	j, unknown := w.watch(id)
	if j.Job.Result == "aborted" {
		complain(w.t, w, "the aborted commit", aborted(w, j), w.plant.look(plantNew, nil))
		return j
	}
	var raised []string
	if st := w.status(j); !st.Committed || w.plant.Version != plantNew || len(w.plant.Backups) > 1 { // that of schema is its own
		raised = append(raised, "the version of the cluster was not raised, or backups are left")
	}
	complain(w.t, w, "the commit", finished(w, j, unknown, upgrade.Normal, ""), w.plant.look(plantNew, nil), raised)
	return j
}

// less lets the collector run seldom: these tests make much garbage, and keep none.
func less(t *testing.T) {
	was := debug.SetGCPercent(2000)
	t.Cleanup(func() { debug.SetGCPercent(was) })
}

// TestUpgradeCrashAnywhere upgrades and commits a platform in each mode, and gives
// each transaction and each boundary of an Executor, of all agents, every fate.
func TestUpgradeCrashAnywhere(t *testing.T) { upgradeCrashes(t, !all) }

func TestUpgradeCrashAnywhereAtLength(t *testing.T) {
	need.Drill(t, "P3, P4: an upgrade and its commit come to their end when any agent ends at any point, or any answer is lost")
	upgradeCrashes(t, all)
}

func upgradeCrashes(t *testing.T, all bool) {
	less(t)
	for _, m := range upModes(all) {
		t.Run(string(m.Mode), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			everywhere(t, all, func(t *testing.T, c *course) { upgradeThrough(t, dir, m.Options, c) })
		})
	}
}

// broken is an upgrade that was aborted because its post-check failed on the third
// host.
type broken struct {
	plant  plantState
	plan   *upgrade.Plan
	recs   map[string]job.Record
	status upgrade.Status
	stops  func(*plantGuest) int
}

func breakUpgrade(t *testing.T, dir string, o upgrade.Options) (b broken) {
	w := newUpWorld(t, newPlant(), dir)
	w.start()
	defer w.stop()
	b.plan = planUpgrade(t, w.plant, o)
	var checks []string
	for _, s := range b.plan.Steps() {
		if strings.HasSuffix(s.ID, "/postCheck/base") {
			checks = append(checks, s.ID)
			if len(checks) == 3 {
				w.plant.FailsOn = s.Host
			}
		}
	}
	w.begin("u1", b.plan)
	j, _ := w.watch("u1")
	if j.Job.State != job.Paused || !strings.Contains(reason.Text(j.Job.Why...), checks[2]+" failed") {
		t.Errorf("the upgrade is %s: %s\n%s", j.Job.State, reason.Text(j.Job.Why...), j.text())
	}
	for i, id := range checks {
		if want := map[bool]job.StepState{true: job.Done, false: job.Pending}[i < 2]; i != 2 && j.Records[id].State != want {
			t.Errorf("%s is %s, want %s", id, j.Records[id].State, want)
		}
	}
	w.say(job.Abort, "u1")
	j, _ = w.watch("u1")
	complain(t, w, "the abort", aborted(w, j), w.plant.look("", w.status(j).Mixed))
	if st := w.status(j); !slices.Contains(st.Mixed, w.plant.FailsOn) {
		t.Errorf("%s is between two versions, and the abort says of %v that they are", w.plant.FailsOn, st.Mixed)
	}
	b.plant, b.recs, b.status, b.stops = w.plant.plantState, j.Records, w.status(j), planned(t, b.plan)
	return b
}

// back rolls back, with a crash anywhere in it.
func (b broken) back(t *testing.T, dir string, c *course) {
	w := newUpWorld(t, plantOf(b.plant), dir)
	c.attach(w)
	w.start()
	defer w.stop()
	w.rollback("r1", b)
}

// planBack plans the way back from what is left.
func (b broken) planBack(p *plant) (upgrade.Plan, error) {
	receipts := map[string]string{}
	for id, r := range b.recs {
		if r.State == job.Done {
			receipts[id] = ""
		}
	}
	return upgrade.PlanRollback(*p.manifest, *b.plan, b.recs, b.status, p.inventory(), upgrade.RollbackFacts{Receipts: receipts})
}

// rollback rolls back what an upgrade has left, and wants all to be as it was, or an
// abort. It returns what is left then.
func (w *upWorld) rollback(id string, b broken) broken {
	plan := w.plant.plan
	if w.plant.job != id {
		p, err := b.planBack(w.plant)
		if err != nil {
			w.t.Fatal(err)
		}
		plan = &p
		w.begin(id, plan)
	}
	j, unknown := w.watch(id)
	before, stops := b.stops, planned(w.t, plan)
	b.status = w.status(j)
	b.stops = func(g *plantGuest) int { return before(g) + stops(g) }
	if j.Job.Result == "aborted" {
		b.stops = func(g *plantGuest) int { return before(g) + onceMore(stops)(g) }
		complain(w.t, w, "the aborted rollback", aborted(w, j), w.plant.look("", between(b.status)), w.plant.stops(b.stops))
		return b
	}
	var left []string
	for key := range w.plant.Backups { // those of a host stay when a step of its way back was skipped; that of schema is its own
		if host, _, _ := strings.Cut(key, "/"); host != "" && b.status.Retained[cluster.HostID(host)] == "" {
			left = append(left, "the backup "+key+" is left")
		}
	}
	complain(w.t, w, "the rollback", finished(w, j, unknown, upgrade.Normal, upgrade.HostRolldownDone),
		w.plant.look(plantOld, nil), w.plant.stops(b.stops), left)
	return b
}

// between are the hosts that a rollback has not come to the end with.
func between(st upgrade.Status) (out []cluster.HostID) {
	for h, s := range st.Hosts {
		if s == upgrade.HostRollup || s == upgrade.HostRolldown {
			out = append(out, h)
		}
	}
	return out
}

// onceMore: a guest that moves while it is off may be stopped in the middle by an
// abort, and sent once more.
func onceMore(stops func(*plantGuest) int) func(*plantGuest) int {
	return func(g *plantGuest) int {
		n := stops(g)
		if g.VM.Policy == inventory.PolicyCold {
			n++
		}
		return n
	}
}

// TestUpgradeRollbackCrashAnywhere: a post-check fails on the third host, and the
// run pauses with two hosts upgraded; it is aborted and rolled back, with the end of
// an agent anywhere in the way back.
func TestUpgradeRollbackCrashAnywhere(t *testing.T) {
	need.Seconds(t)
	rollbackCrashes(t, !all)
}

func TestUpgradeRollbackCrashAnywhereAtLength(t *testing.T) {
	need.Drill(t, "P3, P4: a rollback comes to its end when any agent ends at any point of it, or any answer is lost")
	rollbackCrashes(t, all)
}

func rollbackCrashes(t *testing.T, all bool) {
	less(t)
	for _, m := range upModes(all) {
		t.Run(string(m.Mode), func(t *testing.T) {
			dir := t.TempDir()
			var b broken
			synctest.Test(t, func(t *testing.T) { b = breakUpgrade(t, dir, m.Options) })
			if t.Failed() {
				return
			}
			everywhere(t, all, func(t *testing.T, c *course) { b.back(t, dir, c) })
		})
	}
}

// TestUpgradeRollbackAbortAnywhere aborts a rollback at points anywhere in it, and rolls
// back once more.
func TestUpgradeRollbackAbortAnywhere(t *testing.T) { rollbackAborts(t, !all) }

func TestUpgradeRollbackAbortAnywhereAtLength(t *testing.T) {
	need.Drill(t, "P4: a rollback that is aborted at any of its points can be carried out once more")
	rollbackAborts(t, all)
}

func rollbackAborts(t *testing.T, all bool) {
	less(t)
	for _, m := range upModes(all) {
		t.Run(string(m.Mode), func(t *testing.T) {
			t.Parallel()
			e := newEnds(t, m.Options)
			var b broken
			synctest.Test(t, func(t *testing.T) { b = breakUpgrade(t, e.dir, m.Options) })
			abortAt := func(t *testing.T, at int) (passes int, left broken) {
				w := e.newWorld(t, plantOf(b.plant), at)
				w.at, w.then = at, func() { w.abort("r1") }
				w.start()
				defer w.stop()
				left = w.rollback("r1", b)
				w.mu.Lock()
				defer w.mu.Unlock()
				return w.passes, w.take(left)
			}
			passes, done := 0, 0
			synctest.Test(t, func(t *testing.T) { passes, _ = abortAt(t, 0) })
			for _, at := range m.points(passes) {
				if t.Failed() {
					break
				}
				var left broken
				e.when = fmt.Sprintf("after an abort at point %d", at)
				bubble(t, e.was, func(t *testing.T) { _, left = abortAt(t, at) })
				if left.status.Cluster != upgrade.Normal {
					e.rollback(left, "r2")
				}
				done++
			}
			if done == 0 {
				t.Errorf("there are no points")
			}
			t.Logf("%d aborts at %d points; what followed: %s", done, passes, e)
		})
	}
}

// TestUpgradeCommitAbortAnywhere aborts a commit at points anywhere in it, and commits
// once more.
func TestUpgradeCommitAbortAnywhere(t *testing.T) { commitAborts(t, !all) }

func TestUpgradeCommitAbortAnywhereAtLength(t *testing.T) {
	need.Drill(t, "P4: a commit that is aborted at any of its points can be carried out once more")
	commitAborts(t, all)
}

func commitAborts(t *testing.T, all bool) {
	for _, m := range upModes(all)[:1] {
		dir := t.TempDir()
		var b broken
		synctest.Test(t, func(t *testing.T) {
			w := newUpWorld(t, newPlant(), dir)
			w.start()
			defer w.stop()
			b.plan = planUpgrade(t, w.plant, m.Options)
			w.begin("u1", b.plan)
			j, _ := w.watch("u1")
			b.plant, b.status = w.plant.plantState, w.status(j)
		})
		abortAt := func(t *testing.T, at int) (passes int) {
			w := newUpWorld(t, plantOf(b.plant), dir)
			w.at, w.then = at, func() { w.abort("c1") }
			w.start()
			defer w.stop()
			j := w.commit("c1", b.plan, b.status, nil)
			w.mu.Lock()
			passes = w.passes
			w.mu.Unlock()
			if j.Job.Result != "aborted" || t.Failed() {
				return passes
			}
			over := map[string]bool{}
			for id, r := range j.Records {
				over[id] = r.State.Over()
			}
			w.commit("c2", b.plan, w.status(j), over)
			return passes
		}
		passes, done := 0, 0
		synctest.Test(t, func(t *testing.T) { passes = abortAt(t, 0) })
		for _, at := range m.points(passes) {
			if t.Failed() {
				break
			}
			bubble(t, func() string { return fmt.Sprintf("aborted at point %d", at) }, func(t *testing.T) { abortAt(t, at) })
			done++
		}
		if done == 0 {
			t.Errorf("there are no points")
		}
		t.Logf("%d aborts at %d points", done, passes)
	}
}
