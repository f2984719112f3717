package upgrade

import (
	"maps"
	"slices"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
)

// advance goes on with the first stage that is not over.
func (r *run) advance() {
	if whys := r.tooManyFailed(); len(whys) > 0 {
		r.pause(whys...)
		return
	}
	for i := range r.plan.Stages {
		s := &r.plan.Stages[i]
		looks := r.lookAll(i)
		if allOver(looks) {
			continue
		}
		r.st.Stage = s.Name
		r.stage(s, looks)
		return
	}
	r.done()
}

func allOver(looks []look) bool {
	for _, l := range looks {
		if !l.over {
			return false
		}
	}
	return true
}

// stage lets chains of a stage go on, and others begin.
func (r *run) stage(s *Stage, looks []look) {
	if why := r.waveIsOver(s, looks); !why.IsZero() {
		r.pause(why)
		return
	}
	var failed []reason.Reason
	begun := 0 // and not over
	for i := range s.Chains {
		l := looks[i]
		if why := r.failure(l); !why.IsZero() {
			failed = append(failed, why)
		}
		if !l.begun || l.over {
			continue
		}
		begun++
		r.goOn(l)
	}
	r.beginMore(s, looks, begun)
	if r.live == 0 && !r.soon {
		// What failed is within the budget, but nothing else of this stage can go on.
		r.pause(append(failed, r.waits...)...)
	}
}

// goOn grants the next step of a chain that was begun: no window, pause after a
// wave or failure elsewhere leaves a host half done.
func (r *run) goOn(l look) {
	switch {
	case l.live != nil && !l.dead:
		r.live++
		if !r.up(l.live.Host) {
			r.soon = true
			r.wait(reason.ComesBack.With(l.live.Host).At(l.live.ID))
		}
	case l.next == nil:
	case !r.up(l.next.Host):
		r.soon = true
		r.wait(reason.AgentSilent.With(l.next.Host).At(l.next.ID))
	default:
		if l.next.Kind == KindReboot { // another member may be lost since the host's turn began
			if why := r.memberAway(l.next.Host); !why.IsZero() {
				r.wait(why.At(l.next.ID))
				return
			}
		}
		r.begin(l.next)
	}
}

// beginMore begins chains in their order, as far as the rules allow.
func (r *run) beginMore(s *Stage, looks []look, begun int) {
	away, first := r.unavailable(s, looks), firstWave(s, looks)
	for i := range s.Chains {
		c, l := &s.Chains[i], looks[i]
		if l.begun || l.over || l.next == nil {
			continue
		}
		// These hold for all that come behind, too.
		if why := firstOf(r.stageIsFull(s, begun), r.outsideWindow(s), r.tooManyAway(s, c, away)); !why.IsZero() {
			r.wait(why.At(l.next.ID))
			return
		}
		if why := r.mayNotBegin(s, c, l, first); !why.IsZero() {
			r.wait(why.At(l.next.ID))
			continue
		}
		begun++
		if c.Host != "" {
			away[c.Host] = true
			r.leaves[c.Host] = s.Kind == Turn && len(r.reboots[c.Host]) > 0
		}
		r.begin(l.next)
	}
}

// mayNotBegin asks the rules about one chain.
func (r *run) mayNotBegin(s *Stage, c *Chain, l look, first int) reason.Reason {
	if why := firstOf(r.earlierWave(s, c, first), r.waitsFor(c)); !why.IsZero() {
		return why
	}
	if why := r.notApproved(s, c); !why.IsZero() {
		return why
	}
	if s.Kind == Turn {
		if why := r.memberAway(c.Host); !why.IsZero() {
			return why
		}
	}
	if !r.up(l.next.Host) {
		r.soon = true
		return reason.AgentSilent.With(l.next.Host)
	}
	return reason.Reason{}
}

// firstOf returns the first reason that is one.
func firstOf(whys ...reason.Reason) reason.Reason {
	for _, why := range whys {
		if !why.IsZero() {
			return why
		}
	}
	return reason.Reason{}
}

// stageIsFull: so many hosts at once load the network and whoever watches.
func (r *run) stageIsFull(s *Stage, begun int) reason.Reason {
	limit := s.Limit
	if s.Kind == Change {
		limit = r.slower(limit)
	}
	if s.Limit > 0 && begun >= limit {
		return r.slowed(begun, limit == s.Limit, reason.StageFull.With(begun))
	}
	return reason.Reason{}
}

// outsideWindow: the operator wants changes at certain times only. What asks
// only, and what restores, may be done at any time. An offline run that has begun
// to stop guests or the service goes on until all is back.
func (r *run) outsideWindow(s *Stage) reason.Reason {
	if s.Kind == Quiet || s.Kind == Close || r.plan.Options.Window.Open(r.now) {
		return reason.Reason{}
	}
	if r.plan.Options.Mode == manifest.Offline && r.hasBegun() {
		return reason.Reason{}
	}
	r.soon = true
	return reason.OutsideWindow.With(r.plan.Options.Window)
}

// hasBegun reports whether the run has begun to change anything.
func (r *run) hasBegun() bool {
	for i := range r.plan.Stages {
		s := &r.plan.Stages[i]
		if s.Kind != Change && s.Kind != Turn {
			continue
		}
		for j := range s.Chains {
			if slices.ContainsFunc(s.Chains[j].Steps, func(x Step) bool { return begun(r.recs[x.ID]) }) {
				return true
			}
		}
	}
	return false
}

// tooManyAway: the cluster can do without so many hosts and no more. A host that
// failed or is down is as unavailable as one whose turn it is.
func (r *run) tooManyAway(s *Stage, c *Chain, away map[cluster.HostID]bool) reason.Reason {
	n, limit := len(away), r.slower(r.limit)
	if s.Kind != Turn || n < limit || away[c.Host] && n <= limit {
		return reason.Reason{}
	}
	for h := range away {
		r.soon = r.soon || !r.up(h)
	}
	return r.slowed(n, limit == r.limit, reason.TooManyAway.With(n, r.limit))
}

// unavailable returns the hosts that do not serve guests, or may not.
func (r *run) unavailable(s *Stage, looks []look) map[cluster.HostID]bool {
	away := map[cluster.HostID]bool{}
	if s.Kind != Turn {
		return away
	}
	for h := range r.known {
		if !r.up(h) && !r.dropped(h) {
			away[h] = true
		}
	}
	for i := range s.Chains {
		if l := looks[i]; l.begun && !l.over {
			away[s.Chains[i].Host] = true
		}
	}
	return away
}

// firstWave returns the first wave that has chains which are not over.
func firstWave(s *Stage, looks []look) int {
	first := 0
	for i, l := range looks {
		if w := s.Chains[i].Wave; !l.over && (first == 0 || w < first) {
			first = w
		}
	}
	return first
}

// earlierWave: canary hosts show whether the upgrade is any good before it comes
// to others, and who wants a pause after each wave wants waves that end.
func (r *run) earlierWave(s *Stage, c *Chain, first int) reason.Reason {
	switch {
	case c.Wave <= first:
	case first == 1 && r.plan.Options.Canary > 0:
		return reason.CanaryFirst.With()
	case s.Kind == Turn && r.plan.Options.PauseAfterWave:
		return reason.WaveFirst.With(first)
	}
	return reason.Reason{}
}

// waitsFor: its guests go to hosts that must be back before, or guests come from
// hosts that must be empty before.
func (r *run) waitsFor(c *Chain) reason.Reason {
	for _, id := range c.After {
		host, _, _ := strings.Cut(id, "/")
		if rec := r.recs[id]; !rec.State.Over() && !r.dropped(cluster.HostID(host)) && !(strings.HasSuffix(id, "/back") && rec.State.Stuck()) {
			return reason.StepFirst.With(id)
		}
	}
	return reason.Reason{}
}

// notApproved: the operator wants to say of each host that it may be begun.
func (r *run) notApproved(s *Stage, c *Chain) reason.Reason {
	if s.Kind == Turn && r.plan.Options.ApprovePerHost && r.st.Approved[c.Host] == "" {
		r.soon = true
		return reason.NotApproved.With(c.Host)
	}
	return reason.Reason{}
}

// waveIsOver: the operator wants to look at the cluster after each wave. It is
// said once for each.
func (r *run) waveIsOver(s *Stage, looks []look) reason.Reason {
	if s.Kind != Turn || !r.plan.Options.PauseAfterWave {
		return reason.Reason{}
	}
	first := firstWave(s, looks)
	for i := range s.Chains {
		if l := looks[i]; s.Chains[i].Wave == first && l.begun {
			return reason.Reason{}
		}
	}
	if done := first - 1; done > r.st.Wave {
		r.st.Wave = done
		return reason.WaveDone.With(done, r.waves)
	}
	return reason.Reason{}
}

// tooManyFailed: beyond the budget nothing new is begun, because what failed on
// these hosts will fail on others. What concerns no single host has no budget.
func (r *run) tooManyFailed() []reason.Reason {
	hosts := map[cluster.HostID]bool{}
	var whys []reason.Reason
	budget := r.plan.Options.FailureBudget
	for i := range r.plan.Stages {
		s := &r.plan.Stages[i]
		over := true
		for j, l := range r.lookAll(i) {
			c := &s.Chains[j]
			over = over && l.over
			if why := r.failure(l); !why.IsZero() {
				whys = append(whys, why)
				if c.Host == "" || s.Kind == Change && len(s.Chains) == 1 {
					budget = -1
				}
				hosts[c.Host] = true
			}
		}
		if !over {
			break // no later stage was begun
		}
	}
	if len(hosts) <= max(0, budget) && budget >= 0 {
		return nil
	}
	if more := len(whys) - maxWaits; more > 0 {
		whys = append(whys[:maxWaits], reason.More.With(more))
	}
	return whys
}

// done ends a run whose stages are all over.
func (r *run) done() {
	r.st.Stage = ""
	switch r.plan.Purpose {
	case ForUpgrade:
		r.st.Cluster = Prepared
	case ForCommit:
		r.st.Cluster, r.st.Committed = Normal, true
	case ForRollback:
		r.st.Cluster = r.rolledBack()
	}
	r.keep()
	if r.plan.Purpose == ForCommit {
		r.st.Hosts = nil
	}
	r.mixed()
	var whys []reason.Reason
	if len(r.st.Mixed) > 0 {
		whys = append(whys, reason.LeftDropped.With(joinHosts(r.st.Mixed)))
	}
	r.end(resultDone, append(whys, r.untidy()...)...)
}

// rolledBack is how the cluster stands after a rollback.
func (r *run) rolledBack() ClusterState {
	for _, s := range r.st.Hosts {
		if s != HostRolldownDone {
			return Rolldown // the others are rolled back in another run
		}
	}
	return Normal
}

// Results of jobs.
const (
	resultDone    = "done"
	resultFailed  = "failed"
	resultAborted = "aborted"
)

// mixed lists the hosts that are neither old nor new.
func (r *run) mixed() {
	r.st.Mixed = nil
	for _, h := range r.plan.Hosts {
		if s := r.st.Hosts[h.Name]; s == HostRollup || s == HostRolldown {
			r.st.Mixed = append(r.st.Mixed, h.Name)
		}
	}
	if r.plan.Purpose != ForUpgrade {
		return
	}
	for _, h := range slices.Sorted(maps.Keys(r.st.Hosts)) { // an earlier run has left it so, and this one left it out
		if r.st.Hosts[h] == HostRollup && !r.known[h] {
			r.st.Mixed = append(r.st.Mixed, h)
		}
	}
}

func joinHosts(hosts []cluster.HostID) string {
	out := make([]string, len(hosts))
	for i, h := range hosts {
		out[i] = string(h)
	}
	return strings.Join(out, ", ")
}

var _ job.Planner = (*Planner)(nil)
