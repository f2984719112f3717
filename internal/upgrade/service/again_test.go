package service

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/lib/fail"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/request"
)

// stepOf is a step of a plan with the run that its arguments name.
func stepOf(t *testing.T, p *upgrade.Plan, id string) (s job.Step, run string) {
	t.Helper()
	i := slices.IndexFunc(p.Steps(), func(s job.Step) bool { return s.ID == id })
	if i < 0 {
		t.Fatalf("the plan has no step %s", id)
	}
	var args upgrade.ActionArgs
	s = p.Steps()[i]
	if err := json.Unmarshal(s.Args, &args); err != nil {
		t.Fatal(err)
	}
	return s, args.Run
}

// TestUpgradeGoesOnAfterAnAbort: by a second run of the same bundle, whose rollback and
// commit know what both have done. The journals of both are kept.
func TestUpgradeGoesOnAfterAnAbort(t *testing.T) {
	r, q := three(t)
	first := r.begin(q)
	r.record(first.Job.ID, "h1/install/db", job.Done)
	r.record(first.Job.ID, "h2/install/db", job.Failed)
	r.end(first.Job.ID, "aborted", func(s *upgrade.Status) {
		s.Cluster = upgrade.Rollup
		s.Hosts = map[cluster.HostID]upgrade.HostState{"h1": upgrade.HostRollupDone, "h2": upgrade.HostRollup}
	})
	dry, err := r.PlanUpgrade(limited(t), q)
	if err != nil || dry.Blocked() || len(dry.Earlier) != 1 {
		t.Errorf("planned: %v, findings %+v, earlier %v", err, dry.Findings, dry.Earlier)
	}
	second := r.begin(q)
	if s := r.state(); s.Run != second.Job.ID || s.Last != second.Job.ID ||
		!slices.Equal(s.Earlier, []string{first.Job.ID}) || s.version() != "1.0.0" {
		t.Errorf("state %+v", s)
	}
	if !strings.HasSuffix(second.Job.Title, ", goes on after "+first.Job.ID) {
		t.Errorf("title %q", second.Job.Title)
	}
	if slices.ContainsFunc(second.Plan.Steps(), func(s job.Step) bool { return s.ID == "h1/install/db" }) {
		t.Error("h1 is upgraded, and is changed again")
	}
	for host, want := range map[string]string{"h2": first.Job.ID, "h3": second.Job.ID} {
		if _, run := stepOf(t, &second.Plan, host+"/install/db"); run != want {
			t.Errorf("%s is installed with the backup of %s, want %s", host, run, want)
		}
	}
	if keep, err := r.Kept(limited(t)); err != nil || !slices.Contains(keep, first.Job.ID) || !slices.Contains(keep, second.Job.ID) {
		t.Errorf("kept %v, %v", keep, err)
	}
	u, err := r.Upgrade(limited(t))
	if err != nil || u.ClusterState != upgrade.Rollup || len(u.Hosts) != 3 || u.Hosts[0].State != upgrade.HostRollupDone {
		t.Errorf("%v, %+v", err, u)
	}
	r.record(second.Job.ID, "h2/install/db", job.Done)
	r.record(second.Job.ID, "h3/install/db", job.Done)
	r.end(second.Job.ID, "done", func(s *upgrade.Status) {
		s.Cluster = upgrade.Prepared
		for _, h := range []cluster.HostID{"h1", "h2", "h3"} {
			s.Hosts[h] = upgrade.HostRollupDone
		}
	})
	_, err = r.RunUpgrade(limited(t), "ann", q)
	wantKind(t, err, fail.Refused, "is not over", "prepared", "holdfast upgrade commit")
	p, err := r.PlanUpgrade(limited(t), request.Request{Purpose: upgrade.ForCommit})
	if err != nil || p.Blocked() {
		t.Fatalf("commit: %v, findings %+v", err, p.Findings)
	}
	if _, run := stepOf(t, &p, "h1/cleanup/"+first.Job.ID); run != first.Job.ID {
		t.Errorf("the backups of %s stay, those of %q go", first.Job.ID, run)
	}
	back, err := r.RunUpgrade(limited(t), "ann", request.Request{Purpose: upgrade.ForRollback})
	if err != nil || back.Job == nil || len(back.Plan.Hosts) != 3 {
		t.Fatalf("rollback: %v, hosts %+v, findings %+v", err, back.Plan.Hosts, back.Plan.Findings)
	}
	for host, want := range map[string]string{"h1": first.Job.ID, "h2": first.Job.ID, "h3": second.Job.ID} {
		if _, run := stepOf(t, &back.Plan, host+"/rollback/db"); run != want {
			t.Errorf("%s goes back with the backup of %s, want %s", host, run, want)
		}
	}
	// Part of it is back: no run goes on from there.
	r.end(back.Job.ID, "aborted", func(s *upgrade.Status) { s.Cluster = upgrade.Rolldown })
	_, err = r.RunUpgrade(limited(t), "ann", q)
	wantKind(t, err, fail.Refused, "is not over", "rolldown", "roll it back first: holdfast upgrade rollback") // a commit would be refused
	// When all is, an upgrade is a new one.
	again, err := r.RunUpgrade(limited(t), "ann", request.Request{Purpose: upgrade.ForRollback})
	if err != nil || again.Job == nil {
		t.Fatalf("rollback: %v, findings %+v", err, again.Plan.Findings)
	}
	r.end(again.Job.ID, "done", func(s *upgrade.Status) { s.Cluster, s.Hosts = upgrade.Normal, nil })
	if fresh := r.begin(q); len(r.state().Earlier) > 0 || len(fresh.Plan.Earlier) > 0 || len(fresh.Plan.Hosts) != 3 {
		t.Errorf("a new upgrade has the runs %v before", r.state().Earlier)
	}
}

// TestUpgradeGoesOnAfterARollbackThatDidNothing: one that was aborted before it had
// changed a host. One that has left something undone is no nothing. What the last job
// says of backups that stay is known to the next.
func TestUpgradeGoesOnAfterARollbackThatDidNothing(t *testing.T) {
	r, q := three(t)
	first := r.begin(q)
	r.record(first.Job.ID, "h1/install/db", job.Done)
	hosts := map[cluster.HostID]upgrade.HostState{"h1": upgrade.HostRollupDone}
	r.end(first.Job.ID, "aborted", func(s *upgrade.Status) { s.Cluster, s.Hosts = upgrade.Rollup, hosts })
	back, err := r.RunUpgrade(limited(t), "ann", request.Request{Purpose: upgrade.ForRollback})
	if err != nil || back.Job == nil {
		t.Fatalf("rollback: %v, findings %+v", err, back.Plan.Findings)
	}
	r.end(back.Job.ID, "aborted", func(s *upgrade.Status) { s.Undone = []string{"h1/undrain: the host is away"} })
	_, err = r.RunUpgrade(limited(t), "ann", q)
	wantKind(t, err, fail.Refused, "is not over", "roll it back first")
	again, err := r.RunUpgrade(limited(t), "ann", request.Request{Purpose: upgrade.ForRollback})
	if err != nil || again.Job == nil {
		t.Fatalf("rollback: %v, findings %+v", err, again.Plan.Findings)
	}
	r.end(again.Job.ID, "aborted", func(s *upgrade.Status) {
		s.Undone, s.Retained = nil, map[cluster.HostID]string{"h3": "between"}
	})
	second := r.begin(q)
	if s := r.state(); s.Run != second.Job.ID || !slices.Equal(s.Earlier, []string{first.Job.ID}) ||
		second.Plan.Begin.Retained["h3"] != "between" {
		t.Errorf("state %+v, begin %+v", s, second.Plan.Begin)
	}
	// A new upgrade knows it, too.
	r.end(second.Job.ID, "aborted", func(s *upgrade.Status) { s.Cluster = upgrade.Normal })
	if fresh := r.begin(q); len(fresh.Plan.Earlier) > 0 || fresh.Plan.Begin.Retained["h3"] != "between" {
		t.Errorf("earlier %v, begin %+v", fresh.Plan.Earlier, fresh.Plan.Begin)
	}
}

// TestSecondRunSwitchesHAOnAgain: an abort that could not switch the platform's HA on
// again does not make the second run leave it off.
func TestSecondRunSwitchesHAOnAgain(t *testing.T) {
	steps := []upgrade.Step{{Step: job.Step{Kind: upgrade.KindHAOff}}}
	j := journal{plan: upgrade.Plan{Stages: []upgrade.Stage{{Chains: []upgrade.Chain{{Steps: steps}}}}}}
	if off := false; !(&planned{again: true, journal: j}).keepsHA(&off) || (&planned{journal: j}).keepsHA(&off) ||
		(&planned{again: true}).keepsHA(&off) {
		t.Error("HA that is off stays off, unless the first run has switched it off")
	}
	if on := true; !(&planned{}).keepsHA(&on) || !(&planned{}).keepsHA(nil) {
		t.Error("HA that is on, or of which nothing is known, is switched")
	}
}
