package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/fail"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/check/faults"
	"holdfast/internal/upgrade/probe"
	"holdfast/internal/upgrade/request"
	"holdfast/internal/upgrade/survey"
)

// maxShown bounds the steps that a standing lists.
const maxShown = 100

// Upgrade tells how the last upgrade stands.
func (s *Service) Upgrade(ctx context.Context) (request.Standing, error) {
	st, err := loadState(ctx, s.Store)
	if err != nil {
		return request.Standing{}, err
	}
	out := request.Standing{ClusterState: upgrade.Normal, Version: st.version(), Hosts: []request.HostStanding{}}
	if st.Last == "" {
		return out, s.next(ctx, st, nil, &out)
	}
	last, err := readJournal(ctx, s.Store, st.Last)
	if err != nil {
		return out, err
	}
	out.ClusterState, out.Committed = last.status.Cluster, st.Committed
	out.To, out.Run, out.Bundle = st.To, st.Run, &st.Bundle
	out.Purpose, out.Mode, out.Stage = last.plan.Purpose, last.plan.Options.Mode, last.status.Stage
	out.Undone, out.Left = last.status.Undone, last.plan.Left
	j := engine.Shown(last.Job)
	j.Wait(last.Waits)
	known, err := faults.Builtin()
	if err != nil {
		return out, err
	}
	seen, _ := s.Seen()
	now := map[cluster.HostID]string{}
	for _, step := range last.plan.Steps() {
		rec := last.Records[step.ID]
		left := last.status.Leaves(step)
		shown := engine.ShownStep(last.Job, step, rec, left)
		if !left {
			out.Found = append(out.Found, foundOf(known, step, rec)...)
		}
		out.Steps.Total++
		switch {
		case rec.State.Over():
			out.Steps.Over++
			continue
		case left:
			out.Steps.Dropped++
			continue
		case rec.State == job.Pending:
			continue
		case job.StepState(shown.State).Stuck():
			out.Steps.Failed++
		}
		now[step.Host] = cmp.Or(rec.Why, rec.Note, shown.State+" "+step.ID)
		if x, known := seen[step.Host]; known && !x.Up(time.Now()) {
			now[step.Host] = fmt.Sprintf("silent for %s; %s", time.Since(x.SeenAt).Round(time.Second), now[step.Host])
		}
		if len(j.Steps) < maxShown {
			j.Steps = append(j.Steps, shown)
		}
	}
	out.Job = &j
	out.Behind = s.behind(st, &last)
	hosts, err := s.hostsOf(ctx, st, &last)
	if err != nil {
		return out, err
	}
	for _, h := range hosts {
		out.Hosts = append(out.Hosts, request.HostStanding{
			Name: h.Name, State: last.status.Hosts[h.Name], Wave: h.Wave, Now: now[h.Name],
			Approved: last.status.Approved[h.Name], Dropped: last.status.Dropped[h.Name], Mixed: slices.Contains(last.status.Mixed, h.Name),
		})
	}
	return out, s.next(ctx, st, &last, &out)
}

// foundOf is what the program of a step has said of trouble.
func foundOf(known *faults.Catalogue, step job.Step, rec job.Record) (out []request.Found) {
	for _, f := range rec.Found {
		x := request.Found{Step: step.ID, Host: step.Host, Fault: f.Fault, Level: f.Level, File: f.File, Text: f.Text}
		if causes := known.Causes(f.Fault); len(causes) > 0 {
			x.Remedy = causes[0].Remedy
		}
		out = append(out, x)
	}
	return out
}

// behind are the hosts that report, or have reported, and have not the version of the cluster.
// One that the upgrade under way has upgraded is among them no more.
func (s *Service) behind(st State, last *journal) (out []request.Behind) {
	left := st.Behind[st.Bundle.Name]
	if len(left) == 0 {
		return nil
	}
	seen, _ := s.Seen()
	for _, h := range slices.Sorted(maps.Keys(left)) {
		x, known := seen[h]
		if !known || last.status.Hosts[h] == upgrade.HostRollupDone {
			continue
		}
		b := left[h]
		out = append(out, request.Behind{Name: h, Version: b.Version, Halfway: b.Halfway, At: b.At, Up: x.Up(time.Now())})
	}
	return out
}

// hostsOf are the hosts of the last job, then the others of the upgrade: a rollback may be one
// of some hosts only, and the others are not gone.
func (s *Service) hostsOf(ctx context.Context, st State, last *journal) ([]upgrade.PlannedHost, error) {
	hosts := slices.Clone(last.plan.Hosts)
	also := func(h cluster.HostID) {
		if !slices.ContainsFunc(hosts, func(x upgrade.PlannedHost) bool { return x.Name == h }) {
			hosts = append(hosts, upgrade.PlannedHost{Name: h})
		}
	}
	if st.Last != st.Run {
		run, err := readJournal(ctx, s.Store, st.Run)
		if err != nil {
			return nil, err
		}
		for _, h := range run.plan.Hosts {
			also(h.Name)
		}
	}
	for _, h := range slices.Sorted(maps.Keys(last.status.Hosts)) {
		also(h)
	}
	return hosts, nil
}

// ReportUpgrade makes the report of the last upgrade: how the hosts are now, what
// failed and why, what the guests have lost.
func (s *Service) ReportUpgrade(ctx context.Context) (check.Report, error) {
	st, err := loadState(ctx, s.Store)
	if err != nil {
		return check.Report{}, err
	}
	if st.Last == "" {
		return check.Report{}, fail.Errorf(fail.Refused,
			"there was no upgrade of this cluster").With("look at the hosts by: holdfast upgrade check")
	}
	last, err := readJournal(ctx, s.Store, st.Last)
	if err != nil {
		return check.Report{}, err
	}
	run, err := s.runWith(ctx, last, st)
	if err != nil {
		return check.Report{}, err
	}
	m, err := s.manifestOf(ctx, st)
	if err != nil {
		return check.Report{}, err
	}
	when := check.Between
	if last.Job.State == job.Ended && last.Job.Result == "done" {
		when = check.After
	}
	q, err := run.Question(when, m)
	if err != nil {
		return check.Report{}, err
	}
	inv, err := s.reported(ctx)
	if err != nil {
		return check.Report{}, err
	}
	last.unread(&inv)
	q.Inventory, q.Committed = &inv, st.Committed
	in, err := s.survey.Look(ctx, q)
	if err != nil {
		return check.Report{}, err
	}
	rep := survey.Report(in, s.Host)
	known, err := faults.Builtin()
	if err != nil {
		return rep, err
	}
	err = run.Fill(&rep, known, "")
	rep.Began = last.Job.Began
	return rep, err
}

// manifestOf is the manifest of the last upgrade. The bundle of one that was
// committed is gone from the hosts.
func (s *Service) manifestOf(ctx context.Context, st State) (*manifest.Manifest, error) {
	m, err := s.manifest(ctx, st.Bundle.SHA256)
	if err != nil && st.Committed {
		return nameOnly(st), nil
	}
	return m, err
}

// runWith is a job with what reports tell of it.
func (s *Service) runWith(ctx context.Context, j journal, st State) (survey.Run, error) {
	run := survey.Run{Plan: &j.plan, Job: j.Job, Records: j.Records, Unsigned: st.Bundle.Unsigned}
	sum, err := probe.Sum(ctx, s.Store, st.Run)
	switch {
	case err == nil:
		run.Losses = sum.Losses()
	case !errors.Is(err, probe.ErrNone):
		return run, err
	}
	return run, nil
}
