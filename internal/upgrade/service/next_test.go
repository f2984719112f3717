package service

import (
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/fail"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/request"
)

// pause pauses a job as the coordinator does.
func (r *rig) pause(id string, whys ...reason.Reason) {
	r.t.Helper()
	_, err := engine.Amend(limited(r.t), r.client, id, time.Now().UTC(), func(j job.Job) (job.Job, error) {
		j.State = job.Paused
		j.Because(whys...)
		return j, nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// wantNext fails unless these commands are named, in short.
func (r *rig) wantNext(when string, want ...string) request.Standing {
	r.t.Helper()
	u, err := r.Upgrade(limited(r.t))
	var got []string
	for _, n := range u.Next {
		got = append(got, strings.TrimPrefix(n, "holdfast upgrade "))
	}
	if err != nil || !slices.Equal(got, want) {
		r.t.Errorf("%s: %v, next %q, want %q", when, err, got, want)
	}
	return u
}

// TestNextNamesWhatIsAccepted: a host that is back is not to be dropped, one that was dropped
// not again, and what its plan blocks is not named, but why it is blocked.
func TestNextNamesWhatIsAccepted(t *testing.T) {
	r, q := three(t)
	up := r.begin(q)
	id := up.Job.ID
	r.record(id, "h2/install/db", job.Running)
	r.record(id, "h3/install/db", job.Failed)
	r.pause(id, reason.HostGone.With("h2").At("h2/install/db"), reason.StepFailed.With("h3/install/db", "exit code 1"))
	stuck := []string{"retry h3/install/db", "skip h3/install/db --reason WHY"}
	always := []string{"resume", "abort"}
	r.wantNext("h2 is back", slices.Concat(stuck, always)...)
	wantKind(t, r.AdmitHost(limited(t), "ann", "h2", true), fail.Refused, "its agent answers")
	r.silence("h2")
	r.wantNext("h2 is away", slices.Concat(stuck, []string{"drop h2"}, always)...)
	if err := r.AdmitHost(limited(t), "ann", "h2", true); err != nil {
		t.Fatal(err)
	}
	r.wantNext("h2 is dropped", slices.Concat(stuck, always)...)

	const done = upgrade.HostRollupDone
	hosts := map[cluster.HostID]upgrade.HostState{"h1": done, "h2": upgrade.HostRollup, "h3": done}
	for _, h := range []string{"h1", "h2", "h3"} {
		r.record(id, h+"/install/db", job.Done)
	}
	r.end(id, "aborted", func(s *upgrade.Status) { s.Cluster, s.Hosts = upgrade.Rollup, hosts })
	u := r.wantNext("aborted, h2 is away", "run --bundle FILE --key KEY")
	if want := []string{"rollback: h2: The host is down."}; !slices.Equal(u.Blocked, want) {
		t.Errorf("blocked %q, want %q", u.Blocked, want)
	}
	r.report(bare("h2"))
	r.wantNext("aborted", "run --bundle FILE --key KEY", "rollback")
	r.end(id, "done", func(s *upgrade.Status) { s.Cluster, s.Hosts = upgrade.Prepared, hosts })
	r.wantNext("prepared", "commit", "rollback")
	r.silence("h1")
	r.silence("h3")
	r.wantNext("prepared, and this host reports nothing")
	r.report(bare("h1"), bare("h3"))

	// A rollback that has left something undone: no run goes on from there.
	back, err := r.RunUpgrade(limited(t), "ann", request.Request{Purpose: upgrade.ForRollback})
	if err != nil || back.Job == nil {
		t.Fatalf("%v, findings %+v", err, back.Plan.Findings)
	}
	r.end(back.Job.ID, "aborted", func(s *upgrade.Status) { s.Cluster, s.Undone = upgrade.Rollup, []string{"h1/undrain: away"} })
	r.wantNext("a rollback was aborted", "rollback")
	_, err = r.RunUpgrade(limited(t), "ann", q)
	wantKind(t, err, fail.Refused, "roll it back first")
}

// cutCluster is an agent whose store has no quorum.
type cutCluster struct{ fakeCluster }

func (cutCluster) Status() cluster.Status { return cluster.Status{} }

// TestNextWithoutAQuorum: nothing is named that would be refused, and why is told.
func TestNextWithoutAQuorum(t *testing.T) {
	r, q := three(t)
	r.Cluster = cutCluster{}
	if u := r.wantNext("none has run"); len(u.Blocked) != 1 || !strings.Contains(u.Blocked[0], "no quorum") {
		t.Errorf("blocked %q", u.Blocked)
	}
	r.Cluster = fakeCluster{}
	r.begin(q)
	r.Cluster = cutCluster{}
	if u := r.wantNext("one runs"); len(u.Blocked) != 1 || u.Job == nil {
		t.Errorf("blocked %q, job %v", u.Blocked, u.Job)
	}
}
