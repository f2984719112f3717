package upgrade

import (
	"bytes"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
)

// decision puts together what was decided.
func (r *run) decision(before *job.Job) job.Decision {
	if r.more > 0 {
		r.waits = append(r.waits, reason.More.With(r.more))
	}
	d := job.Decision{Grant: r.grant, Waits: r.waits}
	after, err := r.st.with(r.job)
	if err != nil {
		return r.unreadable(*before, err)
	}
	if after.State != before.State || !reason.Equal(after.Why, before.Why) || after.Result != before.Result ||
		!bytes.Equal(after.Data, before.Data) {
		d.Job = &after
	}
	return d
}

// look is how far a chain has come.
type look struct {
	begun bool  // one of its steps was granted once
	over  bool  // nothing more is to be done
	live  *Step // granted or running
	stuck *Step // failed, and an operator is needed
	next  *Step // the first that is not over, when none is live or stuck
	dead  bool  // live, but its host has been away for longer than the step may take
}

// begun reports whether a step was begun, or may have been.
func begun(r job.Record) bool { return r.Attempt > 0 || r.State != job.Pending }

// look looks at a chain. A dropped host needs nothing more, and a soft step
// that failed neither.
func (r *run) look(c *Chain) look {
	if c.OneOf {
		return r.lookOneOf(c)
	}
	l := look{begun: begun(r.recs[c.Steps[0].ID])}
	// In an abort the last step may be one that restores, with others left before it.
	if r.dropped(c.Host) || r.job.State != job.Aborting && r.isOver(&c.Steps[len(c.Steps)-1]) {
		l.over = true
		return l
	}
	for i := range c.Steps {
		s := &c.Steps[i]
		rec := r.recs[s.ID]
		switch {
		case r.isOver(s):
			continue
		case rec.State == job.Granted || rec.State == job.Running:
			l.live = s
			l.dead = r.isDead(s, rec)
		case rec.State.Stuck():
			l.stuck = s
		default:
			l.next = s
		}
		return l
	}
	l.over = true
	return l
}

// lookOneOf looks at a chain whose steps are alternatives: one that is over is
// enough, and only when all have failed it is stuck. One that is under way on a host
// that was dropped, or that has been away for too long, does not hold the next: it may
// still be done there, and what has alternatives may be done twice.
func (r *run) lookOneOf(c *Chain) look {
	var l look
	var dead *Step
	for i := range c.Steps {
		s := &c.Steps[i]
		rec := r.recs[s.ID]
		l.begun = l.begun || begun(rec)
		switch {
		case rec.State.Over():
			l.over = true
		case r.dropped(s.Host):
		case r.isDead(s, rec):
			dead = s
		case rec.State == job.Granted || rec.State == job.Running:
			l.live = s
		case rec.State.Stuck():
			if l.stuck == nil {
				l.stuck = s
			}
		case l.next == nil || !r.up(l.next.Host) && r.up(s.Host):
			l.next = s
		}
	}
	if l.live == nil && l.next == nil && !l.over && dead != nil {
		l.live, l.dead = dead, true
	}
	switch {
	case l.next != nil || l.over:
		l.stuck = nil
	case l.live == nil && l.stuck == nil: // all of their hosts were dropped
		l.stuck = &c.Steps[0]
	}
	return l
}

// isOver reports whether the chain needs nothing more of a step. In an abort it
// needs nothing of a soft one. Nothing waits long for a host that is away only to tidy
// it: the next run does so.
func (r *run) isOver(s *Step) bool {
	rec := r.recs[s.ID]
	switch {
	case rec.State.Over():
		return true
	case !s.Soft:
		return false
	case rec.State.Stuck() || r.job.State == job.Aborting || s.Kind == KindTidy && r.notBack(s.Host) != "":
		return true
	}
	return s.Kind == KindTidy && !r.up(s.Host) && !r.comesBack(s.Host) && (rec.State != job.Running || r.isDead(s, rec))
}

// isDead reports whether a step will not end by itself: its host is away, and
// has been for longer than the step may take.
func (r *run) isDead(s *Step, rec job.Record) bool {
	return rec.State == job.Running && s.Host != "" && !r.up(s.Host) && r.now.Sub(rec.Began) > s.Timeout
}

func (r *run) dropped(h cluster.HostID) bool { return h != "" && r.st.Dropped[h] != "" }

// up reports whether the agent that does a step is there. The coordinator's is.
func (r *run) up(h cluster.HostID) bool { return h == "" || r.hosts[h].Up }

// at looks at the chain in that place.
func (r *run) at(i int) look {
	if !r.looked[i] {
		r.looks[i], r.looked[i] = r.look(r.all[i]), true
	}
	return r.looks[i]
}

// lookAll looks at the chains of a stage.
func (r *run) lookAll(stage int) []look {
	first, n := r.first[stage], len(r.plan.Stages[stage].Chains)
	for i := range n {
		r.at(first + i)
	}
	return r.looks[first : first+n]
}

// failure says why a chain can not go on; none when it can.
func (r *run) failure(l look) reason.Reason {
	switch {
	case l.stuck != nil:
		rec := r.recs[l.stuck.ID]
		if rec.State == job.Unknown {
			return reason.StepUnclear.With(l.stuck.ID, rec.Why)
		}
		return reason.StepFailed.With(l.stuck.ID, rec.Why)
	case l.dead:
		return reason.HostGone.With(l.live.Host).At(l.live.ID)
	}
	return reason.Reason{}
}

// mark brings the states of hosts and of the cluster up to what the records say.
func (r *run) mark() {
	doing, done := HostRollup, HostRollupDone
	cl := Rollup
	switch r.plan.Purpose {
	case ForRollback:
		doing, done, cl = HostRolldown, HostRolldownDone, Rolldown
	case ForCommit:
		doing, done, cl = "", "", Committing
	}
	for i := range r.steps {
		if s := &r.steps[i]; s.Kind == KindPairSwitch && r.recs[s.ID].State == job.Done {
			r.st.Active = s.Host
		}
	}
	for _, h := range r.plan.Hosts {
		touched, over := false, true
		for _, c := range r.chains[h.Name] {
			l := r.at(c)
			touched = touched || l.begun
			over = over && l.over && !r.dropped(h.Name)
		}
		if doing == "" || !touched {
			continue
		}
		r.st.Hosts[h.Name] = doing
		if over {
			r.st.Hosts[h.Name] = done
		}
	}
	if r.hasBegun() { // also what is no host's, such as applications that are stopped
		r.st.Cluster = cl
	}
}
