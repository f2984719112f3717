package engine

import (
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/job"
	"holdfast/internal/upgrade"
)

// upCase is one way in which an agent ends.
type upCase struct {
	what  string
	host  cluster.HostID
	stays bool // the coordinator's host is elected again
	twice bool
}

func upCases() []upCase {
	return []upCase{
		{"the coordinator's, another host takes over", "h1", false, false},
		{"the coordinator's, which coordinates again", "h1", true, false},
		{"another host's", "m2", false, false},
		{"another host's, twice", "m1", false, true},
		{"the first host's, twice", "h2", false, true},
	}
}

// crash is the end of an agent at one of its points.
type crash struct {
	upCase
	at    int // 0: never
	after bool
}

// set is called before the agents begin.
func (c crash) set(w *upWorld) {
	b := w.machine[c.host].bomb
	b.at, b.after, w.stays = c.at, c.after, c.stays
	if c.twice {
		w.twice = 1 + c.at%7
	}
}

// passed are the points that an agent has passed, and whether it ended at one.
func passed(w *upWorld, h cluster.HostID) (names []string, gone bool) {
	b := w.machine[h].bomb
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.names), b.gone
}

// upMode is a way to upgrade, of which every so-manieth point is tried.
type upMode struct {
	upgrade.Options
	every int
}

// upModes are the ways to upgrade. With ENGINE_TEST_ALL every point is tried, and
// under the race detector, which makes all slow, few are.
func upModes(rolling, offline, reboot int) []upMode {
	mode := func(every int, o upgrade.Options) upMode {
		switch {
		case os.Getenv("ENGINE_TEST_ALL") != "":
			every = 1
		case raceEnabled:
			every = 16 * max(every, 2)
		}
		o.Last, o.Run, o.SHA256, o.Backup = "h1", "u1", strings.Repeat("ab", 32), map[string]string{"base": "trees"}
		return upMode{o, every}
	}
	return []upMode{
		mode(rolling, upgrade.Options{Mode: upgrade.Rolling, Canary: 1, MoveBack: true}),
		mode(offline, upgrade.Options{Mode: upgrade.Offline}),
		mode(reboot, upgrade.Options{Mode: upgrade.Reboot, Canary: 1}),
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
func upgradeThrough(t *testing.T, dir string, o upgrade.Options, c crash) (names []string, gone bool) {
	w := newUpWorld(t, newPlant(), dir)
	c.set(w)
	w.start()
	defer w.stop()
	plan := planUpgrade(t, w.plant, o)
	w.begin("u1", plan)
	j, unknown := w.watch("u1")
	stops := planned(t, plan)
	complain(t, w, "the upgrade", finished(w, j, unknown, upgrade.Prepared, upgrade.HostRollupDone), w.plant.look(plantNew, nil), w.plant.stops(stops))
	if t.Failed() {
		return passed(w, c.host)
	}
	w.commit("c1", plan, w.status(j), nil)
	complain(t, w, "the commit", w.plant.stops(stops))
	return passed(w, c.host)
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

// everywhere ends the agent at each point, or every so-manieth, before and after it.
func everywhere(t *testing.T, c upCase, every int, one func(t *testing.T, c crash) (names []string, gone bool)) {
	var names []string
	synctest.Test(t, func(t *testing.T) { names, _ = one(t, crash{upCase: c}) })
	killed, all := 0, 0
	for at := len(c.what) % every; at < len(names) && !t.Failed(); at += every {
		for _, after := range []bool{false, true} {
			all++
			// What happens at the same moment may come in another order, so that the last
			// points are not always there.
			for try, gone := 0, false; !gone && try < 5; try++ {
				synctest.Test(t, func(t *testing.T) { _, gone = one(t, crash{c, at + 1, after}) })
				if gone {
					killed++
				}
			}
			if t.Failed() {
				t.Fatalf("after a crash at point %d (%s), after it: %v", at+1, names[at], after)
			}
		}
	}
	if all == 0 || all-killed > 6 {
		t.Errorf("%d of %d crashes happened", killed, all)
	}
	t.Logf("%d of %d crashes, before and after each of %d points, every %d.", killed, all, len(names), every)
}

// less lets the collector run seldom: these tests make much garbage, and keep none.
func less(t *testing.T) {
	was := debug.SetGCPercent(800)
	t.Cleanup(func() { debug.SetGCPercent(was) })
}

// TestUpgradeUndisturbed: nothing is unknown when no agent ends.
func TestUpgradeUndisturbed(t *testing.T) {
	for _, m := range upModes(1, 1, 1) {
		t.Run(string(m.Mode), func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				names, _ := upgradeThrough(t, dir, m.Options, crash{upCase: upCases()[0]})
				t.Logf("%d points", len(names))
			})
		})
	}
}

// TestUpgradeCrashAnywhere upgrades and commits a platform in each mode, and ends
// an agent before and after each transaction and each boundary of a Doer.
func TestUpgradeCrashAnywhere(t *testing.T) {
	less(t)
	for _, m := range upModes(1, 4, 4) {
		for _, c := range upCases() {
			t.Run(fmt.Sprintf("%s/%s", m.Mode, c.what), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				everywhere(t, c, m.every, func(t *testing.T, c crash) ([]string, bool) { return upgradeThrough(t, dir, m.Options, c) })
			})
		}
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
	if j.Job.State != job.Paused || !strings.Contains(j.Job.Why, checks[2]+" failed") {
		t.Errorf("the upgrade is %s: %s\n%s", j.Job.State, j.Job.Why, j.text())
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
func (b broken) back(t *testing.T, dir string, c crash) (names []string, gone bool) {
	w := newUpWorld(t, plantOf(b.plant), dir)
	c.set(w)
	w.start()
	defer w.stop()
	w.rollback("r1", b)
	return passed(w, c.host)
}

// rollback rolls back what an upgrade has left, and wants all to be as it was, or an
// abort. It returns what is left then.
func (w *upWorld) rollback(id string, b broken) broken {
	receipts := map[string]string{}
	for id, r := range b.recs {
		if r.State == job.Done {
			receipts[id] = ""
		}
	}
	plan, err := upgrade.PlanRollback(*w.plant.manifest, *b.plan, b.recs, b.status, w.plant.inventory(), upgrade.RollbackFacts{Receipts: receipts})
	if err != nil {
		w.t.Fatal(err)
	}
	w.begin(id, &plan)
	j, unknown := w.watch(id)
	before, stops := b.stops, planned(w.t, &plan)
	b.status = w.status(j)
	b.stops = func(g *plantGuest) int { return before(g) + stops(g) }
	if j.Job.Result == "aborted" {
		b.stops = func(g *plantGuest) int { return before(g) + onceMore(stops)(g) }
		complain(w.t, w, "the aborted rollback", aborted(w, j), w.plant.look("", between(b.status)), w.plant.stops(b.stops))
		return b
	}
	var left []string
	for key := range w.plant.Backups { // those of a host stay when a step of its way back was skipped; that of schema is its own
		if host, _, _ := strings.Cut(key, "/"); host != "" && b.status.Kept[cluster.HostID(host)] == "" {
			left = append(left, "the backup "+key+" is left")
		}
	}
	complain(w.t, w, "the rollback", finished(w, j, unknown, upgrade.Normal, upgrade.HostRolldownDone), w.plant.look(plantOld, nil), w.plant.stops(b.stops), left)
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
	less(t)
	for _, m := range upModes(5, 5, 5) {
		t.Run(string(m.Mode), func(t *testing.T) {
			dir := t.TempDir()
			var b broken
			synctest.Test(t, func(t *testing.T) { b = breakUpgrade(t, dir, m.Options) })
			if t.Failed() {
				return
			}
			for _, c := range upCases() {
				t.Run(c.what, func(t *testing.T) {
					t.Parallel()
					dir := t.TempDir()
					everywhere(t, c, m.every, func(t *testing.T, c crash) ([]string, bool) { return b.back(t, dir, c) })
				})
			}
		})
	}
}

// abortAt aborts an upgrade before its at-th point, of all agents together; 0: not
// at all. soon: the coordinator's agent ends so many of its own points later; 0: it
// does not. With back it is rolled back then.
func abortAt(t *testing.T, dir string, o upgrade.Options, at, soon int, back bool) (passes int) {
	w := newUpWorld(t, newPlant(), dir)
	w.at, w.then = at, func() {
		if soon > 0 {
			b := w.machine["h1"].bomb
			b.mu.Lock()
			b.at = len(b.names) + soon
			b.mu.Unlock()
		}
		w.abort("u1")
	}
	w.start()
	defer w.stop()
	b := broken{plan: planUpgrade(t, w.plant, o)}
	b.stops = planned(t, b.plan)
	w.begin("u1", b.plan)
	j, _ := w.watch("u1")
	b.recs, b.status = j.Records, w.status(j)
	if j.Job.Result == "aborted" {
		b.stops = onceMore(b.stops)
	}
	if at == 0 || j.Job.Result == "done" {
		complain(t, w, "the upgrade", finished(w, j, nil, upgrade.Prepared, upgrade.HostRollupDone), w.plant.look(plantNew, nil), w.plant.stops(b.stops))
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.passes
	}
	complain(t, w, fmt.Sprintf("aborted at %d", at), aborted(w, j), w.plant.look("", b.status.Mixed), w.plant.stops(b.stops))
	if back && !t.Failed() && len(b.status.Hosts) > 0 {
		w.rollback("r1", b)
	}
	return at
}

// TestUpgradeAbortAnywhere aborts an upgrade at each of its points.
func TestUpgradeAbortAnywhere(t *testing.T) {
	less(t)
	for _, m := range upModes(6, 6, 6) {
		for _, c := range []struct {
			what string
			soon func(at int) int
			back bool
		}{
			{"and no more", func(int) int { return 0 }, false},
			{"and the coordinator's agent ends soon after", func(at int) int { return 1 + at%9 }, false},
			{"and it is rolled back", func(int) int { return 0 }, true},
		} {
			t.Run(fmt.Sprintf("%s/%s", m.Mode, c.what), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				passes, done := 0, 0
				synctest.Test(t, func(t *testing.T) { passes = abortAt(t, dir, m.Options, 0, 0, false) })
				for at := 1 + len(c.what)%m.every; at <= passes && !t.Failed(); at += m.every {
					synctest.Test(t, func(t *testing.T) { abortAt(t, dir, m.Options, at, c.soon(at), c.back) })
					done++
				}
				t.Logf("%d aborts at %d points, every %d.", done, passes, m.every)
			})
		}
	}
}

// TestUpgradeRollbackAbortAnywhere aborts a rollback at each of its points, and rolls
// back once more.
func TestUpgradeRollbackAbortAnywhere(t *testing.T) {
	less(t)
	for _, m := range upModes(6, 6, 6) {
		t.Run(string(m.Mode), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			var b broken
			synctest.Test(t, func(t *testing.T) { b = breakUpgrade(t, dir, m.Options) })
			abortAt := func(t *testing.T, at int) (passes int) {
				w := newUpWorld(t, plantOf(b.plant), dir)
				w.at, w.then = at, func() { w.abort("r1") }
				w.start()
				defer w.stop()
				left := w.rollback("r1", b)
				w.mu.Lock()
				passes = w.passes
				w.mu.Unlock()
				if left.status.Cluster != upgrade.Normal && !t.Failed() {
					w.rollback("r2", left)
				}
				return passes
			}
			passes, done := 0, 0
			synctest.Test(t, func(t *testing.T) { passes = abortAt(t, 0) })
			for at := 1; at <= passes && !t.Failed(); at += m.every {
				synctest.Test(t, func(t *testing.T) { abortAt(t, at) })
				done++
			}
			t.Logf("%d aborts at %d points, every %d.", done, passes, m.every)
		})
	}
}

// TestUpgradeCommitAbortAnywhere aborts a commit at each of its points, and commits
// once more.
func TestUpgradeCommitAbortAnywhere(t *testing.T) {
	for _, m := range upModes(1, 1, 1)[:1] {
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
		for at := 1; at <= passes && !t.Failed(); at += m.every {
			synctest.Test(t, func(t *testing.T) { abortAt(t, at) })
			done++
		}
		t.Logf("%d aborts at %d points, every %d.", done, passes, m.every)
	}
}
