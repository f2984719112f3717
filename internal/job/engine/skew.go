package engine

import (
	"maps"
	"slices"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
)

// What agents of different versions may do together is job.Together's to say. This
// file has what the scheduler does about it; the worker asks it in mayBegin.

// own is this agent, as its host reports it.
func (c *Scheduler) own(hosts map[cluster.HostID]job.HostState) job.HostState {
	return job.HostState{Version: hosts[c.Host].Version, Generation: c.Generation}
}

// leadsNot says why nothing is decided about a foreign job. It is told as a wait
// and nothing else is written: the next coordinator may be near enough.
func (c *Scheduler) leadsNot(j job.Job, hosts map[cluster.HostID]job.HostState) reason.Reason {
	own := c.own(hosts)
	from, to := job.Fitting(j.Generation)
	return reason.LeadsNot.With(c.Host, own.VersionOr(), max(own.Generation, 1), max(j.Generation, 1), from, to)
}

// apart are the hosts whose agents are too far from this one, or from the one that
// has made the plan, and why they get no steps. A host that has not reported is not
// one of them.
func (c *Scheduler) apart(j job.Job, hosts map[cluster.HostID]job.HostState) map[cluster.HostID]reason.Reason {
	var out map[cluster.HostID]reason.Reason
	own := c.own(hosts)
	for h, s := range hosts {
		if job.Together(c.Generation, j.Generation, s.Generation) {
			continue
		}
		if out == nil {
			out = map[cluster.HostID]reason.Reason{}
		}
		from, to := job.Fitting(c.Generation, j.Generation)
		out[h] = reason.TooFarApart.With(h, s.VersionOr(), max(s.Generation, 1), max(j.Generation, 1), c.Host,
			own.VersionOr(), max(own.Generation, 1), from, to)
	}
	return out
}

// visible are the hosts as the planner is to see them. In an abort those that get no
// steps count as away, which an abort does not wait for without end.
func visible(j job.Job, hosts map[cluster.HostID]job.HostState, apart map[cluster.HostID]reason.Reason) map[cluster.HostID]job.HostState {
	if len(apart) == 0 || j.State != job.Aborting {
		return hosts
	}
	out := maps.Clone(hosts)
	for h := range apart {
		s := out[h]
		s.Up = false
		out[h] = s
	}
	return out
}

// hold takes what hosts that are apart would do out of a decision, and says why
// what is left for them does not begin.
func (v *jobView) hold(d job.Decision, apart map[cluster.HostID]reason.Reason) job.Decision {
	if len(apart) == 0 {
		return d
	}
	d.Grant = slices.DeleteFunc(slices.Clone(d.Grant), func(step string) bool { return !apart[v.steps[step].Host].IsZero() })
	waits := map[cluster.HostID]bool{}
	for id, s := range v.steps {
		if !apart[s.Host].IsZero() && !v.recs[id].State.Over() {
			waits[s.Host] = true
		}
	}
	var why []reason.Reason
	for _, h := range slices.Sorted(maps.Keys(waits)) {
		why = append(why, apart[h])
	}
	d.Waits = append(why, d.Waits...) // the cause comes first
	return d
}

// begins reports whether the agent that a step was granted to begins it. The
// coordinator that has granted it may have been another one, and the host's agent,
// too. Steps without a host are this agent's.
func (c *Scheduler) begins(j job.Job, r job.Record, hosts map[cluster.HostID]job.HostState) bool {
	s, known := hosts[r.Work.Host]
	if r.Work.Host == "" {
		s, known = c.own(hosts), true
	}
	return !known || job.Together(s.Generation, r.Generation, j.Generation)
}
