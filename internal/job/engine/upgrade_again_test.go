package engine

import (
	"fmt"
	"testing"
	"testing/synctest"

	"holdfast/internal/upgrade"
)

// An upgrade that was aborted goes on by a second run.

// again begins a second run and waits for its end. It returns what both have left.
func (w *upWorld) again(id string, b broken, o upgrade.Options) (both broken, j Journal) {
	o.Run = id
	plan, err := upgrade.Build(*w.plant.manifest, w.plant.inventory(), o)
	if b.status.Cluster != upgrade.Normal { // else nothing was changed, and the upgrade begins anew
		plan, err = upgrade.BuildAgain(*w.plant.manifest, upgrade.Earlier{Plan: *b.plan, Records: b.recs, Status: b.status}, w.plant.inventory(), o)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.begin(id, &plan)
	j, unknown := w.watch(id)
	before, stops := b.stops, planned(w.t, &plan)
	both = broken{plan: &plan, recs: j.Records, status: w.status(j), stops: func(g *plantGuest) int { return before(g) + stops(g) }}
	if b.status.Cluster != upgrade.Normal {
		joined, recs := upgrade.Join(*b.plan, b.recs, plan, j.Records)
		both.plan, both.recs = &joined, recs
	}
	if j.Job.Result == "aborted" {
		both.stops = func(g *plantGuest) int { return before(g) + onceMore(stops)(g) }
		complain(w.t, w, "the aborted second run", aborted(w, j), w.plant.look("", both.status.Mixed), w.plant.stops(both.stops))
		return both, j
	}
	complain(w.t, w, "the second run", finished(w, j, unknown, upgrade.Prepared, upgrade.HostRollupDone), w.plant.look(plantNew, nil), w.plant.stops(both.stops))
	return both, j
}

// secondAt aborts an upgrade before its at-th point, and what follows is a second run.
// The second run is aborted, too, so many points after it was begun; 0: it is not. In
// the end all is committed, or rolled back.
func secondAt(t *testing.T, dir string, o upgrade.Options, at, second int, back bool) {
	w := newUpWorld(t, newPlant(), dir)
	w.at, w.then = at, func() { w.abort("u1") }
	w.start()
	defer w.stop()
	b := broken{plan: planUpgrade(t, w.plant, o)}
	w.begin("u1", b.plan)
	j, _ := w.watch("u1")
	b.recs, b.status, b.stops = j.Records, w.status(j), onceMore(planned(t, b.plan))
	if j.Job.Result == "done" {
		return // it was over before
	}
	complain(t, w, fmt.Sprintf("aborted at %d", at), aborted(w, j), w.plant.look("", b.status.Mixed))
	w.mu.Lock()
	w.at = 0
	if second > 0 {
		w.at, w.then = w.passes+second, func() { w.abort("u2") }
	}
	w.mu.Unlock()
	if t.Failed() {
		return
	}
	b, j = w.again("u2", b, o)
	switch {
	case t.Failed(), b.status.Cluster == upgrade.Normal:
	case back:
		w.rollback("r1", b)
	case j.Job.Result == "aborted":
		if b, _ = w.again("u3", b, o); !t.Failed() {
			w.commit("c1", b.plan, b.status, nil)
		}
	default:
		w.commit("c1", b.plan, b.status, nil)
	}
}

// TestUpgradeSecondRunAfterAbortAnywhere aborts an upgrade at each of its points. A
// second run ends it, or a third one when the second was aborted somewhere, too. Then it
// is committed, or all hosts go back to what they were before the first.
func TestUpgradeSecondRunAfterAbortAnywhere(t *testing.T) {
	less(t)
	for _, m := range upModes(12, 12, 12) {
		dir := t.TempDir()
		passes := 0
		synctest.Test(t, func(t *testing.T) { passes = abortAt(t, dir, m.Options, 0, 0, false) })
		for _, c := range []struct {
			what   string
			second func(at int) int
			back   bool
		}{
			{"and it is committed", func(int) int { return 0 }, false},
			{"and it is rolled back", func(int) int { return 0 }, true},
			{"which is aborted, and the third is committed", func(at int) int { return 1 + at*37%passes }, false},
			{"which is aborted, and it is rolled back", func(at int) int { return 1 + at*53%passes }, true},
		} {
			t.Run(fmt.Sprintf("%s/%s", m.Mode, c.what), func(t *testing.T) {
				t.Parallel()
				dir, done := t.TempDir(), 0
				for at := 1 + len(c.what)%m.every; at <= passes && !t.Failed(); at += m.every {
					synctest.Test(t, func(t *testing.T) { secondAt(t, dir, m.Options, at, c.second(at), c.back) })
					if done++; t.Failed() {
						t.Fatalf("after an abort at point %d, the second run's after %d", at, c.second(at))
					}
				}
				t.Logf("%d aborts at %d points, every %d.", done, passes, m.every)
			})
		}
	}
}
