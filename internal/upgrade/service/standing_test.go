package service

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/store"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/request"
)

// jobView is a job with all of its steps.
func (r *rig) jobView(id string) job.View {
	r.t.Helper()
	jobs := engine.Jobs{Store: r.Store, Planners: map[job.Kind]func([]byte) (job.Planner, error){job.Upgrade: Planner}}
	v, err := jobs.Get(limited(r.t), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return v
}

// stateIn is the state of a step in a view.
func stateIn(v *job.View, id string) string {
	if i := slices.IndexFunc(v.Steps, func(s job.StepView) bool { return s.ID == id }); i >= 0 {
		return v.Steps[i].State
	}
	return ""
}

// TestNobodyIsToldThatADroppedStepRuns: nor that it is stuck, so that somebody retries it. What
// ran at the end of a job is unknown from then on.
func TestNobodyIsToldThatADroppedStepRuns(t *testing.T) {
	r, q := three(t)
	up := r.begin(q)
	r.record(up.Job.ID, "h2/install/db", job.Running)
	r.record(up.Job.ID, "h3/install/db", job.Running)
	u, err := r.Upgrade(limited(t))
	if err != nil || stateIn(u.Job, "h2/install/db") != "running" {
		t.Fatalf("%v, %+v", err, u.Job)
	}
	r.silence("h2")
	if _, err := engine.Amend(limited(t), r.Store, up.Job.ID, time.Now().UTC(), func(j job.Job) (job.Job, error) {
		j.State = job.Paused
		j.Because(reason.StepFailed.With("h2/install/db", "exit code 7"), reason.StepFailed.With("h3/install/db", "exit code 8"))
		return j, nil
	}); err != nil {
		t.Fatal(err)
	}
	if u, err = r.Upgrade(limited(t)); err != nil || !strings.HasPrefix(u.Hosts[0].Now, "silent for 1m") ||
		!strings.HasSuffix(u.Hosts[0].Now, "; running h2/install/db") {
		t.Errorf("%v, of a silent host: %+v", err, u.Hosts[0])
	}
	if err := r.AdmitHost(limited(t), "ann", "h2", true); err != nil {
		t.Fatal(err)
	}
	u, err = r.Upgrade(limited(t))
	h2 := u.Hosts[0]
	if err != nil || stateIn(u.Job, "h2/install/db") != "" || u.Steps.Dropped == 0 || u.Steps.Failed != 0 ||
		h2.Dropped != "ann" || h2.Now != "" {
		t.Errorf("%v, %+v, steps %+v, hosts %+v", err, u.Job.Steps, u.Steps, u.Hosts)
	}
	if got := u.Job.Because(); got != "h3/install/db failed: exit code 8" {
		t.Errorf("after the drop the run is paused, as %q", got)
	}
	v := r.jobView(up.Job.ID)
	if stateIn(&v, "h2/install/db") != "dropped" || stateIn(&v, "h2/stage") != "dropped" || stateIn(&v, "h3/install/db") != "running" {
		t.Errorf("%+v", v.Steps)
	}
	r.end(up.Job.ID, "aborted", func(s *upgrade.Status) {
		s.Cluster, s.Hosts = upgrade.Rollup, map[cluster.HostID]upgrade.HostState{"h2": upgrade.HostRollup, "h3": upgrade.HostRollup}
	})
	u, err = r.Upgrade(limited(t))
	if err != nil || stateIn(u.Job, "h3/install/db") != "unknown" || u.Steps.Failed != 1 {
		t.Errorf("%v, %+v, steps %+v", err, u.Job.Steps, u.Steps)
	}
	rep, err := r.ReportUpgrade(limited(t))
	if err != nil || rep.Steps.Running != 0 || rep.Steps.Unknown != 2 {
		t.Errorf("%v, %+v", err, rep.Steps)
	}
}

// TestStandingHasAllHosts: also after a job that was about one of them.
func TestStandingHasAllHosts(t *testing.T) {
	r, q := three(t)
	up := r.begin(q)
	done := map[cluster.HostID]upgrade.HostState{}
	for _, h := range []cluster.HostID{"h1", "h2", "h3"} {
		r.record(up.Job.ID, string(h)+"/install/db", job.Done)
		done[h] = upgrade.HostRollupDone
	}
	r.end(up.Job.ID, "done", func(s *upgrade.Status) { s.Cluster, s.Hosts = upgrade.Prepared, done })
	back, err := r.RunUpgrade(limited(t), "ann", request.Request{Purpose: upgrade.ForRollback, Hosts: []cluster.HostID{"h2"}})
	if err != nil || back.Job == nil {
		t.Fatalf("%v, findings %+v", err, back.Plan.Findings)
	}
	r.end(back.Job.ID, "done", func(s *upgrade.Status) {
		s.Cluster = upgrade.Rolldown
		s.Hosts["h2"] = upgrade.HostRolldownDone
	})
	u, err := r.Upgrade(limited(t))
	if err != nil {
		t.Fatal(err)
	}
	got := map[cluster.HostID]upgrade.HostState{}
	for _, h := range u.Hosts {
		got[h.Name] = h.State
	}
	want := map[cluster.HostID]upgrade.HostState{"h1": upgrade.HostRollupDone, "h2": upgrade.HostRolldownDone, "h3": upgrade.HostRollupDone}
	if !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestStandingTellsWhatProgramsHaveFound: also of steps that were done.
func TestStandingTellsWhatProgramsHaveFound(t *testing.T) {
	r, q := three(t)
	up := r.begin(q)
	value, err := json.Marshal(job.Record{Step: "h1/install/db", State: job.Done, Attempt: 1,
		Found: []job.Finding{{Fault: "single-path-pools", Level: "warn", Text: "The CVK(h2) have"}}})
	if err == nil {
		_, _, err = r.client.Txn(limited(t), nil, []store.Op{{Key: "job/step/" + up.Job.ID + "/h1/install/db", Value: value}})
	}
	if err != nil {
		t.Fatal(err)
	}
	u, err := r.Upgrade(limited(t))
	if err != nil || len(u.Found) != 1 || u.Found[0].Host != "h1" || !strings.Contains(u.Found[0].Remedy, "remove its shared pools") {
		t.Errorf("%v, %+v", err, u.Found)
	}
	rep, err := r.ReportUpgrade(limited(t))
	if err != nil || len(rep.Failures) != 1 || rep.Failures[0].Level != check.Warn || rep.Failures[0].Step != "h1/install/db" {
		t.Errorf("%v, %+v", err, rep.Failures)
	}
}
