package service

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/drain"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/report"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/fail"
	"holdfast/internal/store"
	"holdfast/internal/upgrade"
)

// Hosts lists the hosts that report, in the order of their names.
func (s *Service) Hosts(context.Context) ([]inventory.Summary, error) {
	seen, ok := s.Seen()
	if !ok {
		return nil, fmt.Errorf("the hosts' reports are not read yet: %w", store.ErrRetry)
	}
	now := time.Now()
	var out []inventory.Summary
	for name, h := range seen {
		x := inventory.Summary{Name: name, Addr: h.Addr, Agent: h.Agent, Up: h.Up(now), Silent: now.Sub(h.SeenAt),
			Problem: h.Problem, Certificates: h.Certificates}
		for _, vm := range h.VMs {
			if vm.Running {
				x.Guests++
			}
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b inventory.Summary) int { return inventory.Compare(string(a.Name), string(b.Name)) })
	return out, nil
}

// IsHost tells whether a name is that of a host, and of one that never has the management
// VM; one that was forgotten stays one, as its certificate may be in anybody's hands. store.ErrRetry: it is not known yet.
func (s *Service) IsHost(name string) (host, guestsOnly bool, err error) {
	members := s.Cluster.Status().Members
	seen, ok := s.Seen()
	if !ok || len(members) == 0 {
		return false, false, fmt.Errorf("the hosts' reports are not read yet: %w", store.ErrRetry)
	}
	_, reports := seen[cluster.HostID(name)]
	reports = reports || s.Forgotten(cluster.HostID(name))
	member := slices.Contains(members, cluster.HostID(name))
	return reports || member, reports && !member, nil
}

// Forget removes what is known of a host that is gone for good. It refuses while
// the host reports, may have the management VM, is a part of something that is
// not over, or, without force, was moved a guest from or to of which nobody knows
// whether it runs.
func (s *Service) Forget(ctx context.Context, user string, host cluster.HostID, force bool) error {
	seen, ok := s.Seen()
	if !ok {
		return fmt.Errorf("the hosts' reports are not read yet: %w", store.ErrRetry)
	}
	h, known := seen[host]
	switch {
	case !known:
		return fail.Errorf(fail.Invalid, "host %q: no host of that name reports", host)
	case slices.Contains(s.Cluster.Status().Members, host):
		return fail.Errorf(fail.Refused, "host %s is in the cluster's configuration: only other hosts can be forgotten", host)
	case h.Up(time.Now()):
		return fail.Errorf(fail.Refused, "host %s reports: it was heard %s ago", host, time.Since(h.SeenAt).Round(time.Second)).
			With("stop its agent and switch the host off first")
	}
	if err := s.uninvolved(ctx, host); err != nil {
		return err
	}
	ops, err := drain.Forget(ctx, s.Store, host, force, s.Log)
	if err != nil {
		return err
	}
	gone, err := json.Marshal(report.Record{Host: inventory.Host{Name: host}, Forgotten: true, At: time.Now().UTC()})
	if err != nil {
		return fmt.Errorf("write that %s is forgotten: %w", host, err)
	}
	ops = append(ops, store.Op{Key: report.RecordKey(host), Value: gone})
	switch _, ok, err := s.Store.Txn(ctx, []store.Cmp{{Key: report.RecordKey(host), Rev: h.Mod}}, ops); {
	case err != nil:
		return fmt.Errorf("remove what is known of %s: %w", host, err)
	case !ok:
		return fail.Errorf(fail.Refused, "host %s has reported just now", host)
	}
	return s.Cluster.SetMaintenance(ctx, user, host, false)
}

// uninvolved refuses when hosts may be a part of something that is not over.
func (s *Service) uninvolved(ctx context.Context, host cluster.HostID) error {
	jobs, err := engine.List(ctx, s.Store)
	if err != nil {
		return err
	}
	for _, j := range jobs {
		if j.State != job.Ended {
			err := fail.Errorf(fail.Refused, "%s (%s) is %s", j.ID, j.Title, j.State)
			if j.Kind == job.Upgrade {
				return err.With("wait for its end, or leave the host out: holdfast upgrade drop " + string(host))
			}
			return err.With("wait for its end, or end it: holdfast jobs abort " + j.ID)
		}
	}
	st, err := loadState(ctx, s.Store)
	if err != nil || st.Last == "" {
		return err
	}
	last, err := readJournal(ctx, s.Store, st.Last)
	if err != nil {
		return err
	}
	if c := last.status.Cluster; c != upgrade.Normal {
		lost := " --lost " + string(host)
		return fail.Errorf(fail.Refused, "the upgrade to %s is not over: the cluster is %s", st.To, c).With(endBy(c, lost))
	}
	return nil
}

// awaitReports waits until no host that is up is late with its report, sightWithin at most, and
// gives what all hosts report then.
func (s *Service) awaitReports(ctx context.Context, late func(*cluster.Status, report.Record) bool) (map[cluster.HostID]report.Seen, bool) {
	for end := time.Now().Add(sightWithin); ; {
		seen, ok := s.Seen()
		st, waits := s.Cluster.Status(), false
		for _, h := range seen {
			waits = waits || h.Up(time.Now()) && late(&st, h.Record)
		}
		if !waits || time.Now().After(end) || !clock.Sleep(ctx, stateAgain) {
			return seen, ok
		}
	}
}

// freshen waits until no host tells something that is over. What comes after it says what is
// still wrong.
func (s *Service) freshen(ctx context.Context) { s.awaitReports(ctx, stale) }

// stale reports whether a host's report is older than the last move of what the cluster
// runs itself, on which the order of the hosts depends, or than the end of the host's maintenance.
func stale(st *cluster.Status, r report.Record) bool {
	runs := slices.ContainsFunc(r.VMs, func(v inventory.VM) bool { return v.Protected && v.Running })
	return st.Owner.State == cluster.Running && runs != (st.Owner.Host == r.Host.Name) ||
		r.Host.Maintenance && !slices.Contains(st.Want.Maintenance, r.Host.Name)
}
