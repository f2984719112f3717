package service

import (
	"context"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory/report"
	"holdfast/internal/job"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/request"
)

// next says in a standing what may be asked now. What is asked is not decided here a second
// time: each command is put to the rule that would refuse it.
func (s *Service) next(ctx context.Context, st State, last *journal, u *request.Standing) error {
	if c := s.Cluster.Status(); !c.Connected {
		u.NoQuorum, u.AsOf = true, c.AsOf
		u.Blocked = append(u.Blocked, "the store has no quorum: nothing can be begun until it has one")
		return nil
	}
	var failed error
	var whole *journal
	seen, ok := s.Seen()
	agents := report.Hosts(seen, time.Now())
	ok = ok && agents[s.Host].Up
	u.Next = request.Next(u, func(v request.Verb, what string) bool {
		switch v {
		case request.Resume, request.Abort:
			_, err := job.Obey(last.Job, job.Command(v), "")
			return err == nil
		case request.Retry, request.Skip:
			rec := last.Records[what]
			rec.Step = what
			_, err := job.ObeyStep(last.Job, rec, job.Command(v), "", "why")
			return err == nil
		case request.Drop:
			h := cluster.HostID(what)
			_, err := upgrade.Drop(&last.plan, last.Job, h, seen[h].UpFor(time.Now()), "")
			return ok && err == nil && last.status.Dropped[h] == ""
		case request.Approve:
			h := cluster.HostID(what)
			_, err := upgrade.Approve(&last.plan, last.Job, h, "")
			return err == nil && last.status.Approved[h] == "" && last.status.Dropped[h] == ""
		case request.Commit, request.Rollback:
			if whole == nil {
				j, err := s.wholeJournal(ctx, st)
				if err != nil {
					failed = err
					return false
				}
				whole = &j
			}
			why := s.blocks(ctx, st, *whole, upgrade.Purpose(v), seen)
			u.Blocked = append(u.Blocked, why...)
			return len(why) == 0
		case request.Run:
			if u.Job == nil || u.ClusterState == upgrade.Normal {
				return true
			}
			p := &planned{state: st}
			if err := s.goesOn(ctx, p, st.Bundle.SHA256); err != nil {
				failed = err
			}
			return p.again
		}
		return true
	})
	return failed
}

// blocks says what stands in the way of a commit or a rollback of all hosts, by what is
// reported now: no host is asked. Where the plan rests on what hosts only tell when they are
// asked, or the bundle is on other hosts, nothing is known to.
func (s *Service) blocks(ctx context.Context, st State, j journal, purpose upgrade.Purpose, seen map[cluster.HostID]report.Seen) []string {
	p := &planned{state: st, journal: j, agents: report.Hosts(seen, time.Now())}
	var err error
	if p.manifest, err = s.cache.Manifest(ctx, st.Bundle.SHA256); err != nil || p.manifest.AllHosts() != nil {
		return nil
	}
	p.last = s.Cluster.Status().Coordinator
	if p.inv, p.told, err = s.inventoryOf(ctx, st, seen, nil, "", p.manifest.Name, st.version()); err != nil {
		return []string{string(purpose) + ": " + err.Error()}
	}
	p.inv = upgrade.Installed(p.manifest, p.inv)
	if err := p.build(request.Request{Purpose: purpose}, ""); err != nil {
		return []string{string(purpose) + ": " + err.Error()}
	}
	var out []string
	for _, f := range p.plan.Findings {
		if f.Level == upgrade.Block {
			text := string(purpose) + ": "
			if f.Host != "" {
				text += string(f.Host) + ": "
			}
			out = append(out, text+f.Text)
		}
	}
	return out
}
