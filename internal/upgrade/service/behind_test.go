package service

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/request"
)

// commit commits what is prepared, as the coordinator does.
func (r *rig) commit(lost ...cluster.HostID) {
	r.t.Helper()
	got, err := r.RunUpgrade(limited(r.t), "ann", request.Request{Purpose: upgrade.ForCommit, Lost: lost})
	if err != nil || got.Job == nil {
		r.t.Fatalf("%v, findings %+v", err, got.Plan.Findings)
	}
	i := slices.IndexFunc(got.Plan.Steps(), func(s job.Step) bool { return s.Kind == upgrade.KindCommit })
	task := engine.Task{Job: got.Job.ID, Step: got.Plan.Steps()[i], Log: &bytes.Buffer{}, Note: func(string, int) {}}
	if err := (&Commit{Store: r.client}).Do(limited(r.t), task); err != nil {
		r.t.Fatal(err)
	}
	r.end(got.Job.ID, "done", func(s *upgrade.Status) { *s = upgrade.Status{Cluster: upgrade.Normal, Committed: true} })
}

// prepare ends a run on some of its hosts; the others were dropped.
func (r *rig) prepare(id string, done ...cluster.HostID) {
	r.t.Helper()
	r.end(id, "done", func(s *upgrade.Status) {
		s.Cluster = upgrade.Prepared
		for _, h := range done {
			s.Hosts[h] = upgrade.HostRollupDone
		}
	})
}

// found reports whether a plan has a finding of a rule.
func found(p *upgrade.Plan, rule string) bool {
	return slices.ContainsFunc(p.Findings, func(f upgrade.Finding) bool { return f.Rule == rule })
}

// row is what a report says of a host: its version and the note.
func (r *rig) row(q request.Request, h cluster.HostID) string {
	r.t.Helper()
	rep, err := r.CheckUpgrade(limited(r.t), q)
	if err != nil {
		r.t.Fatal(err)
	}
	i := slices.IndexFunc(rep.Hosts, func(x check.HostRow) bool { return x.Name == h })
	return rep.Hosts[i].Version + "|" + rep.Hosts[i].Note
}

// behindNow are the hosts that a standing says are behind.
func (r *rig) behindNow() string {
	r.t.Helper()
	u, err := r.Upgrade(limited(r.t))
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, b := range u.Behind {
		out = append(out, string(b.Name)+" "+b.Version)
	}
	return strings.Join(out, ", ")
}

// TestHostThatWasDroppedIsNotUpgraded: not by a commit either. Its version is unknown until
// somebody reads it, and a run of the same bundle takes it in, alone, as soon as it is back.
func TestHostThatWasDroppedIsNotUpgraded(t *testing.T) {
	r, q := three(t)
	up := r.begin(q)
	if got := r.row(q, "h1"); got != "1.0.0|" {
		t.Errorf("not touched yet: %s", got)
	}
	r.silence("h2")
	if err := r.AdmitHost(limited(t), "ann", "h2", true); err != nil {
		t.Fatal(err)
	}
	r.prepare(up.Job.ID, "h1", "h3")
	if got := r.row(q, "h1"); got != "|version unknown, 1.0.0 before an upgrade" {
		t.Errorf("h1 is upgraded and not committed, and counts as %s", got)
	}
	r.commit()
	same := request.Request{Bundle: q.Bundle, Options: q.Options}
	if got := r.row(same, "h2"); got != "|version unknown, 1.0.0 before an upgrade, down" {
		t.Errorf("h2 was dropped, and counts as %s", got)
	}
	if got := r.row(same, "h1"); got != "2.0.0|" {
		t.Errorf("h1 was committed, and counts as %s", got)
	}
	if got := r.behindNow(); got != "h2 1.0.0" {
		t.Errorf("behind: %s", got)
	}
	away, err := r.RunUpgrade(limited(t), "ann", same)
	if err != nil || away.Job != nil || !found(&away.Plan, "host-down") {
		t.Errorf("h2 is away: %v, findings %+v", err, away.Plan.Findings)
	}
	r.report(bare("h2"))
	r.wantNext("h2 is back", "run --bundle FILE --key KEY", "report")
	rep, err := r.CheckUpgrade(limited(t), r.confirmed(same))
	i := slices.IndexFunc(rep.Findings, func(f check.Finding) bool { return f.Check == "same-version" && f.Host == "h2" })
	if err != nil || check.Worst(rep.Findings) == check.Fail || i < 0 || rep.Findings[i].Level != check.Warn {
		t.Errorf("%v, %+v", err, rep.Findings)
	}
	again := r.begin(same)
	p := again.Plan
	if len(p.Hosts) != 1 || p.Hosts[0].Name != "h2" || p.Hosts[0].Version != "1.0.0" || p.From != "1.0.0" ||
		p.To != "2.0.0" || len(p.Left) != 2 {
		t.Errorf("from %s, hosts %+v, left %+v", p.From, p.Hosts, p.Left)
	}
	if s := r.state(); s.version() != "2.0.0" {
		t.Errorf("the cluster has %s", s.version())
	}
	r.record(again.Job.ID, "h2/install/db", job.Done)
	r.prepare(again.Job.ID, "h2")
	back, err := r.PlanUpgrade(limited(t), request.Request{Purpose: upgrade.ForRollback})
	if err != nil || back.Blocked() || back.To != "1.0.0" || len(back.Hosts) != 1 || back.Hosts[0].Name != "h2" {
		t.Errorf("rolled back: %v, to %s, hosts %+v, findings %+v", err, back.To, back.Hosts, back.Findings)
	}
	r.commit()
	if got := r.behindNow() + r.row(same, "h2"); got != "2.0.0|" {
		t.Errorf("h2 is upgraded, and counts as %s", got)
	}
	none, err := r.RunUpgrade(limited(t), "ann", same)
	if err != nil || none.Job != nil || !found(&none.Plan, "nothing-to-do") {
		t.Errorf("all have it: %v, findings %+v", err, none.Plan.Findings)
	}
}

// TestOthersThatACommitLeavesOut: those that were left out from the begin, left half-way or lost,
// and one that came after the plan was made.
func TestOthersThatACommitLeavesOut(t *testing.T) {
	r, q := three(t)
	r.report(bare("h4"), bare("h5"))
	q.Options.Drop = []cluster.HostID{"h4"}
	up := r.begin(q)
	r.end(up.Job.ID, "done", func(s *upgrade.Status) {
		s.Cluster = upgrade.Prepared
		for _, h := range []cluster.HostID{"h1", "h3"} {
			s.Hosts[h] = upgrade.HostRollupDone
		}
		s.Hosts["h2"] = upgrade.HostRollup
		s.Dropped = map[cluster.HostID]string{"h2": "ann"}
	})
	r.report(bare("h6"))
	r.silence("h5")
	r.commit("h5")
	if got := r.behindNow(); got != "h2 1.0.0, h4 1.0.0, h5 1.0.0, h6 1.0.0" {
		t.Errorf("behind: %s", got)
	}
	u, err := r.Upgrade(limited(t))
	if err != nil || !u.Behind[0].Halfway || u.Behind[1].Halfway || u.Behind[2].Up || u.Behind[0].At.IsZero() {
		t.Errorf("%v, %+v", err, u.Behind)
	}
	// Somebody who has looked may say what a host has.
	said := request.Request{Bundle: q.Bundle, Options: upgrade.Options{Mode: q.Options.Mode}}
	said.Inventory = &inventory.Inventory{Hosts: []inventory.Host{{Name: "h6", Version: "2.0.0"}}}
	if got := r.row(said, "h6"); got != "2.0.0|" {
		t.Errorf("h6 counts as %s", got)
	}
}
