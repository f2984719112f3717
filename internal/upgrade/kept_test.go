package upgrade

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
)

// skips lets steps fail, and an operator skip them.
func (w *world) skips(ids ...string) {
	w.outcome = func(s *Step, _ int) job.StepState {
		if slices.Contains(ids, s.ID) {
			return job.Failed
		}
		return job.Done
	}
	w.oper = func(w *world) {
		for _, id := range w.stuck() {
			w.stepCommand(id, job.Skip)
		}
		w.command(job.Resume)
	}
}

// TestSkippedWayBackIsNotTidied: a backup that did not come back is all that is left of
// the version before. The next run leaves it, too.
func TestSkippedWayBackIsNotTidied(t *testing.T) {
	m, inv, w := aborted(t, manifest.Rolling)
	for skip, kept := range map[string][]string{
		"h1/restore/web":  {"h1"},
		"h1/rollback/web": {"h1"},
		"h1/check-after":  {"h1"},
		// The cluster as a whole is not well, and each host is.
		"cluster/post-check": {"h0", "h1", "h2", "h3"},
	} {
		p, err := PlanRollback(m, *w.plan, w.recs, w.status(), inv, RollbackFacts{Receipts: receipts(w)})
		if err != nil || p.Blocked() {
			t.Fatalf("%v %v", err, p.Findings)
		}
		back := newWorld(t, &p, inv)
		back.skips(skip)
		back.run()
		for _, h := range []string{"h0", "h1", "h2", "h3"} {
			if tidied := back.recs[h+"/tidy"].State == job.Done; tidied == slices.Contains(kept, h) {
				t.Errorf("%s skipped: %s is tidied: %v", skip, h, tidied)
			}
		}
		if want := "skipped: " + kept[0] + " (" + skip + ")"; back.job.Result != resultDone ||
			!strings.Contains(reason.Text(back.job.Why...), want) || strings.Contains(reason.Text(back.job.Why...), "nobody needs") {
			t.Errorf("%s %q, want %s", back.job.Result, reason.Text(back.job.Why...), want)
		}
		if st := back.status(); st.Cluster != Normal || (st.Retained["h1"] != "") != (len(kept) == 1) || len(st.Retained) > 1 {
			t.Errorf("%s skipped: %+v", skip, st)
		}
	}
}

// TestHostsBetweenTwoVersionsKeepTheirBackups: a cluster may be normal again without
// them. No later run tidies them, until one has upgraded them and was committed.
func TestHostsBetweenTwoVersionsKeepTheirBackups(t *testing.T) {
	m, inv, w := aborted(t, manifest.Rolling)
	down := inv
	down.Hosts = slices.Clone(inv.Hosts)
	down.Hosts[1].Down = true
	p, err := PlanRollback(m, *w.plan, w.recs, w.status(), down, RollbackFacts{Receipts: receipts(w), Lost: []cluster.HostID{"h1"}})
	if err != nil || p.Blocked() {
		t.Fatalf("%v %v", err, p.Findings)
	}
	back := newWorld(t, &p, down)
	back.offPlan = true
	back.wantEnd(resultDone, "")
	wantKept(t, back.status(), "h1")

	// It is given up before the others are back, and then they are: or it is, too.
	p, err = PlanRollback(m, *w.plan, w.recs, w.status(), down,
		RollbackFacts{Receipts: receipts(w), Lost: []cluster.HostID{"h1"}, Only: []cluster.HostID{"h2"}})
	if err != nil || p.Blocked() {
		t.Fatalf("%v %v", err, p.Findings)
	}
	part := newWorld(t, &p, down)
	part.offPlan = true
	part.wantEnd(resultDone, "")
	for _, only := range [][]cluster.HostID{{"h0"}, nil} {
		p, err = PlanRollback(m, *w.plan, w.recs, part.status(), inv, RollbackFacts{Receipts: receipts(w), Only: only})
		if err != nil || p.Blocked() || slices.Contains(tidies(&p), "h1/tidy") {
			t.Fatalf("%v %v, tidied: %v", err, blocks(&p), tidies(&p))
		}
		rest := newWorld(t, &p, inv)
		rest.wantEnd(resultDone, "")
		if only == nil {
			wantKept(t, rest.status())
		} else {
			wantKept(t, rest.status(), "h1")
		}
	}

	// A commit leaves h2 out, which is half-way.
	st := w.status()
	st.Cluster, st.Dropped, st.Retained = Prepared, map[cluster.HostID]string{"h2": "ann"}, map[cluster.HostID]string{"h0": "before"}
	if p, err = PlanCommit(m, *w.plan, st, inv, nil, nil); err != nil || p.Blocked() {
		t.Fatalf("%v %v", err, p.Findings)
	}
	c := newWorld(t, &p, inv)
	c.wantEnd(resultDone, "")
	wantKept(t, c.status(), "h2")

	next := inv
	next.Kept = c.status().Retained
	q := mustBuild(t, m, next, Options{Mode: manifest.Rolling, Backup: map[string]string{"web": "web-files"}, Run: "j5", SHA256: "5ha"})
	i := slices.IndexFunc(q.Findings, func(f Finding) bool { return f.Rule == "backups-kept" })
	if i < 0 || q.Findings[i].Level != Warn || q.Findings[i].Host != "h2" || !strings.Contains(q.Findings[i].Text, "upgrade/backups") {
		t.Errorf("findings %+v", q.Findings)
	}
	if got := tidies(q); !slices.Equal(got, []string{"h0/tidy", "h1/tidy", "h3/tidy"}) {
		t.Errorf("tidied: %v", got)
	}
	run := newWorld(t, q, next)
	run.wantEnd(resultDone, "")
	wantKept(t, run.status(), "h2") // it can still go back
	back2, err := PlanRollback(m, *run.plan, run.recs, run.status(), inv, RollbackFacts{Receipts: receipts(run)})
	if got := tidies(&back2); err != nil || back2.Blocked() || !slices.Equal(got, []string{"h0/tidy", "h1/tidy", "h3/tidy"}) {
		t.Errorf("%v %v, tidied: %v", err, blocks(&back2), got)
	}
	if p, err = PlanCommit(m, *run.plan, run.status(), inv, nil, nil); err != nil || p.Blocked() {
		t.Fatalf("%v %v", err, p.Findings)
	}
	c = newWorld(t, &p, inv)
	c.wantEnd(resultDone, "")
	wantKept(t, c.status())
}

func wantKept(t *testing.T, st Status, hosts ...cluster.HostID) {
	t.Helper()
	if got := slices.Sorted(maps.Keys(st.Retained)); st.Cluster != Normal && st.Cluster != Prepared || !slices.Equal(got, hosts) {
		t.Errorf("the cluster is %s, kept %v, want %v", st.Cluster, st.Retained, hosts)
	}
}
