package service

import (
	"context"
	"maps"
	"slices"

	"holdfast/internal/inventory"
	"holdfast/internal/job"
	"holdfast/internal/lib/fail"
	"holdfast/internal/upgrade"
)

// upgradeJournal loads the last upgrade. When it took several runs, they are one: what
// each has done counts, and the status is that of the last.
func (s *Service) upgradeJournal(ctx context.Context, st State) (journal, error) {
	var out journal
	for i, id := range append(slices.Clone(st.Earlier), st.Run) {
		next, err := readJournal(ctx, s.Store, id)
		if err != nil {
			return out, err
		}
		if i > 0 {
			next.plan, next.Records = upgrade.Join(out.plan, out.Records, next.plan, next.Records)
		}
		out = next
	}
	return out, nil
}

// wholeJournal loads the last upgrade with what came after it: the status goes on from job to
// job.
func (s *Service) wholeJournal(ctx context.Context, st State) (journal, error) {
	out, err := s.upgradeJournal(ctx, st)
	if err != nil || st.Last == st.Run {
		return out, err
	}
	last, err := readJournal(ctx, s.Store, st.Last)
	if err != nil {
		return out, err
	}
	out.status, out.last = last.status, last.Job
	out.over, out.cleaning, err = s.committed(ctx, st)
	return out, err
}

// goesOn finds out whether an upgrade to a bundle goes on with one that was aborted: of
// the same bundle, and before anything was rolled back.
func (s *Service) goesOn(ctx context.Context, p *planned, sha string) error {
	st := p.state
	if st.Run == "" || st.Committed || sha != st.Bundle.SHA256 {
		return nil
	}
	j, err := s.upgradeJournal(ctx, st)
	if err != nil {
		return err
	}
	if st.Last != st.Run {
		last, err := readJournal(ctx, s.Store, st.Last)
		if err != nil || !last.changedNothing() {
			return err
		}
		j.status.Active, j.status.Retained, j.status.GivenUp = last.status.Active, last.status.Retained, last.status.GivenUp
	}
	if p.again = j.Job.State == job.Ended && j.status.Cluster == upgrade.Rollup; p.again {
		p.journal = j
	}
	return nil
}

// changedNothing reports whether a job is a rollback that has ended and has left all as
// it was: the upgrade may go on as if it had not been.
func (j *journal) changedNothing() bool {
	return j.plan.Purpose == upgrade.ForRollback && j.Job.State == job.Ended && j.status.Cluster == upgrade.Rollup &&
		len(j.status.Undone) == 0 &&
		!slices.ContainsFunc(slices.Collect(maps.Values(j.status.Hosts)), func(h upgrade.HostState) bool {
			return h == upgrade.HostRolldown || h == upgrade.HostRolldownDone
		})
}

// remember adds to an inventory what the last job says: which hosts must keep the backups of
// earlier upgrades, which may have another version by now than the cluster's, and what steps of the last
// upgrade have taken.
func (s *Service) remember(ctx context.Context, st State, inv *inventory.Inventory) error {
	if st.Last == "" {
		return nil
	}
	last, err := readJournal(ctx, s.Store, st.Last)
	if err != nil {
		return err
	}
	inv.Kept = last.status.Retained
	last.unread(inv)
	run := last
	if st.Run != st.Last {
		if run, err = readJournal(ctx, s.Store, st.Run); err != nil {
			return err
		}
	}
	inv.Took = upgrade.Took(&run.plan, run.Records)
	return nil
}

// unread marks the hosts of which the version of the cluster says nothing, since the upgrade has
// begun to change them.
func (j *journal) unread(inv *inventory.Inventory) {
	if j.status.Cluster == upgrade.Normal {
		return
	}
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		if now := j.status.Hosts[h.Name]; now != "" && now != upgrade.HostRolldownDone {
			h.Unread = true
		}
	}
}

// notOver is the refusal to begin beside an upgrade that has ended half-way, or waits
// for its commit.
func notOver(st State, last *journal) error {
	cluster := last.status.Cluster
	err := fail.Errorf(fail.Refused, "the upgrade to %s %s (%s) is not over: the cluster is %s", st.Bundle.Name, st.To, st.Run, cluster)
	if cluster == upgrade.Rollup && (st.Last == st.Run || last.changedNothing()) {
		return err.With("no other bundle is taken until then, also not a corrected one of the same version. Mend by " +
			"hand what its programs could not do, and go on with the old bundle: holdfast upgrade run --bundle FILE, " +
			"then holdfast upgrade skip STEP --reason WHY for what was done by hand. Or roll it back first: holdfast upgrade rollback")
	}
	return err.With(endBy(cluster, ""))
}

// endBy names the commands, with a flag, that end an upgrade as the cluster is: others are refused then.
func endBy(c upgrade.ClusterState, flag string) string {
	switch c {
	case upgrade.Prepared:
		return "commit it or roll it back first: holdfast upgrade commit" + flag + ", holdfast upgrade rollback" + flag
	case upgrade.Committing:
		return "finish its commit first: holdfast upgrade commit" + flag
	}
	return "roll it back first: holdfast upgrade rollback" + flag
}

// switchesHA reports whether the upgrade has a step that switches the platform's HA off.
func (j *journal) switchesHA() bool {
	return slices.ContainsFunc(j.plan.Steps(), func(s job.Step) bool { return s.Kind == upgrade.KindHAOff })
}

// keepsHA reports whether the platform's HA is the upgrade's to switch. It is not when it
// was off before, unless the earlier run has switched it off.
func (p *planned) keepsHA(before *bool) bool {
	return before == nil || *before || p.again && p.journal.switchesHA()
}
