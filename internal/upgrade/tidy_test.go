package upgrade

import (
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
)

func tidies(p *Plan) (out []string) {
	for _, s := range p.Steps() {
		if s.Kind == KindTidy {
			out = append(out, s.ID)
		}
	}
	return out
}

// What an upgrade has left goes when the last hosts are rolled back, on all hosts of the
// upgrade, and not before.
func TestTidyAfterTheLastRollback(t *testing.T) {
	m, inv, w := aborted(t, manifest.Rolling)
	f := RollbackFacts{Receipts: receipts(w), Only: []cluster.HostID{"h2"}}
	p, err := PlanRollback(m, *w.plan, w.recs, w.status(), inv, f)
	if err != nil || p.Blocked() || len(tidies(&p)) > 0 {
		t.Fatalf("%v %v %v", err, p.Findings, tidies(&p))
	}
	back := newWorld(t, &p, inv)
	back.run()
	f.Only = nil
	p, err = PlanRollback(m, *w.plan, w.recs, back.status(), inv, f)
	if err != nil || p.Blocked() || !slices.Equal(tidies(&p), []string{"h0/tidy", "h1/tidy", "h2/tidy", "h3/tidy"}) {
		t.Fatalf("%v %v %v", err, p.Findings, tidies(&p))
	}
	back = newWorld(t, &p, inv)
	if got := args[TidyArgs](t, back.steps["h2/tidy"]); got != (TidyArgs{"5ha", false}) {
		t.Errorf("the arguments: %+v", got)
	}
	back.wantEnd(resultDone, "")
	if st := back.status(); st.Cluster != Normal || len(back.job.Why) > 0 {
		t.Errorf("%q, status %+v", reason.Text(back.job.Why...), st)
	}
}

// A host that is away, one that goes away meanwhile and one that can not remove what is
// there do not hold a rollback. They are told.
func TestTidyIsAFavour(t *testing.T) {
	m, inv, w := aborted(t, manifest.Rolling)
	p, err := PlanRollback(m, *w.plan, w.recs, w.status(), inv, RollbackFacts{Receipts: receipts(w)})
	if err != nil || p.Blocked() {
		t.Fatalf("%v %v", err, p.Findings)
	}
	back := newWorld(t, &p, inv)
	back.hosts["h3"] = job.HostState{}
	back.outcome = func(s *Step, _ int) job.StepState {
		if s.ID == "h0/tidy" {
			back.hosts["h1"] = job.HostState{} // in the middle of its own
			return job.Failed
		}
		return job.Done
	}
	back.takes = func(s *Step) (d time.Duration) {
		if d = guess(s); s.ID == "h1/tidy" {
			d = 365 * 24 * time.Hour
		}
		return d
	}
	back.meanwhile = func(w *world) {
		if r := w.recs["h1/tidy"]; !w.hosts["h1"].Up && r.State == job.Running && len(w.ends) == 1 {
			w.now = r.Began.Add(timeTidy + time.Second)
		}
	}
	back.wantEnd(resultDone, "backups and files that are not needed any more stay until the next run: h0, h1, h3")
	if st := back.status(); st.Cluster != Normal || len(st.Mixed) > 0 {
		t.Errorf("status %+v", st)
	}
}

// A run removes nothing before the checks of all hosts are well.
func TestTidyComesAfterTheChecks(t *testing.T) {
	w := start(t, webBundle(), hosts(3), Options{Mode: manifest.Rolling, Run: "j1", SHA256: "5ha"}, "h2/check")
	wantPaused(t, w, "h2/check failed")
	if slices.ContainsFunc(w.order, func(id string) bool { return w.steps[id].Kind == KindTidy }) {
		t.Errorf("begun: %v", w.order)
	}
}

// A run goes on when a host can not remove what earlier runs have left there. A second
// run of an upgrade removes nothing: it goes on with what the first one has left.
func TestTidyBeforeARun(t *testing.T) {
	m, inv := webBundle(), hosts(3)
	w := start(t, m, inv, Options{Mode: manifest.Rolling, Run: "j1", SHA256: "5ha"}, "h1/tidy", "h2/install/web")
	wantPaused(t, w, "h2/install/web failed")
	if got := args[TidyArgs](t, w.steps["h1/tidy"]); got != (TidyArgs{"5ha", true}) ||
		slices.Index(w.order, "h0/tidy") < slices.Index(w.order, "h2/check") {
		t.Errorf("the arguments: %+v, begun: %v", got, w.order)
	}
	w.command(job.Abort)
	w.run()
	p, err := BuildAgain(m, Earlier{*w.plan, w.recs, w.status()}, inv, Options{Mode: manifest.Rolling, Run: "j2", SHA256: "5ha"})
	if err != nil || p.Blocked() || len(tidies(&p)) > 0 || !strings.Contains(outline(&p), "h2/stage h2/check") {
		t.Errorf("%v %v\n%s", err, p.Findings, outline(&p))
	}
	w = start(t, m, inv, Options{Mode: manifest.Rolling}, "h1/tidy")
	w.wantEnd(resultDone, "stay until the next run: h1")
}
