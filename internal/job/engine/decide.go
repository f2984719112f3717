package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
)

// draft is what a decision makes of a job.
type draft struct {
	job   job.Job      // as it will be
	recs  []job.Record // as they will be; Mod is what is replaced
	waits []reason.Reason
	quiet bool // nothing is said about waits
}

// planner makes the Planner of a plan. A Planner that panics must not take the
// agent with it, which also guards the management VM.
func (c *Scheduler) planner(k job.Kind, plan []byte) (p job.Planner, err error) {
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, fmt.Errorf("its planner failed: %v", r)
		}
	}()
	newPlanner, ok := c.Planners[k]
	if !ok {
		return nil, fmt.Errorf("the coordinator's agent knows no jobs of kind %q", k)
	}
	if p, err = newPlanner(plan); err != nil {
		return nil, fmt.Errorf("its plan can not be read: %w", err)
	}
	if err := job.CheckSteps(p.Steps()); err != nil {
		return nil, fmt.Errorf("its plan can not be carried out: %w", err)
	}
	return p, nil
}

// ask asks the planner of a job.
func ask(v *jobView, hosts map[cluster.HostID]job.HostState, now time.Time) (d job.Decision, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("its planner failed: %v", r)
		}
	}()
	return v.planner.Next(v.job, v.recs, hosts, now), nil
}

// decide says what becomes of a job now. It does nothing itself.
func (c *Scheduler) decide(j *jobView, term int64, hosts map[cluster.HostID]job.HostState) draft {
	same := draft{job: j.job}
	if j.foreign {
		same.waits = []reason.Reason{c.leadsNot(j.job, hosts)}
		return same
	}
	if back := c.withdrawals(j, hosts); len(back) > 0 {
		same.recs, same.quiet = back, true // what the planner says to that comes next
		return same
	}
	if j.job.State == job.Ended {
		return same
	}
	now := c.Now()
	bad := j.bad
	if bad == nil {
		apart := c.apart(j.job, hosts)
		d, err := ask(j, visible(j.job, hosts, apart), now)
		if err == nil {
			var out draft
			if out, err = j.accept(j.hold(d, apart), term, c.Generation, now); err == nil {
				return out
			}
		}
		bad = err
	}
	same.job = j.giveUp(bad, now)
	if same.job.State != j.job.State {
		c.Log.Error("job can not go on", "job", j.job.ID, "err", bad)
	}
	return same
}

// withdrawals take back what was granted and not begun when the job does not go
// on, or when its host's agent, another one by now, does not begin it. What
// restores order after an abort stays.
func (c *Scheduler) withdrawals(v *jobView, hosts map[cluster.HostID]job.HostState) []job.Record {
	var out []job.Record
	for _, step := range slices.Sorted(maps.Keys(v.open)) {
		r := v.recs[step]
		goesOn := v.job.State == job.Active || v.job.State == job.Aborting && r.Undo
		if r.State == job.Granted && (!goesOn || !c.begins(v.job, r, hosts)) {
			back := job.Withdraw(r)
			back.Mod = r.Mod
			out = append(out, back)
		}
	}
	return out
}

// accept turns the planner's decision into a draft. An error says that the
// planner is wrong; then nothing of it is done.
func (v *jobView) accept(d job.Decision, term int64, generation int, now time.Time) (draft, error) {
	next, err := v.acceptJob(d.Job, now)
	if err != nil {
		return draft{}, err
	}
	out := draft{job: next, waits: d.Waits}
	seen := map[string]bool{}
	for _, step := range d.Grant {
		s, known := v.steps[step]
		r := v.recs[step]
		switch {
		case !known:
			return draft{}, fmt.Errorf("its planner grants step %q, which the plan does not have", step)
		case seen[step] || isOpen(r.State) || r.State.Over() || r.State == job.Unknown:
			return draft{}, fmt.Errorf("its planner grants step %q, which is %s", step, r.State)
		case next.State != job.Active && next.State != job.Aborting:
			return draft{}, fmt.Errorf("its planner grants step %q while the job is %s", step, next.State)
		}
		seen[step] = true
		g := job.Grant(r, step, term, generation)
		g.Undo, g.Work, g.Mod = next.State == job.Aborting, &s, r.Mod
		out.recs = append(out.recs, g)
	}
	return out, nil
}

// acceptJob is the job as the planner wants it.
func (v *jobView) acceptJob(want *job.Job, now time.Time) (job.Job, error) {
	if want == nil {
		return v.job, nil
	}
	next := *want
	next.Mod, next.Changed = v.job.Mod, v.job.Changed
	if next.ID != v.job.ID || next.Kind != v.job.Kind || next.Plan != v.job.Plan {
		return v.job, fmt.Errorf("its planner makes another job of it: %s %s", next.Kind, next.ID)
	}
	switch next.State {
	case job.Active, job.Paused, job.Aborting, job.Ended:
	default:
		return v.job, fmt.Errorf("its planner makes the job %q", next.State)
	}
	b, err := json.Marshal(next)
	if err != nil {
		return v.job, fmt.Errorf("its planner makes a job that can not be written: %w", err)
	}
	if !bytes.Equal(b, encode(v.job)) {
		next.Changed = now
	}
	return next, nil
}

// giveUp is what becomes of a job that no planner can move on: it is paused, and
// an abort ends it.
func (v *jobView) giveUp(bad error, now time.Time) job.Job {
	next, why := v.job, reason.Error.With(cut(bad.Error(), maxText))
	switch v.job.State {
	case job.Active:
		next.State = job.Paused
		next.Because(why)
	case job.Aborting:
		next.State, next.Result = job.Ended, "aborted"
		next.Because(append(slices.Clone(v.job.Why), why)...)
	default:
		return next
	}
	next.Changed = now
	return next
}
